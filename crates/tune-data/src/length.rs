//! What happens to an example longer than `sequence_len`.

use tune_schema::recipe::ExcessLengthStrategy;

use crate::error::{DataError, Place};
use crate::example::Example;

/// What became of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It fits.
    Kept,
    /// It was cut off at the limit.
    Truncated,
    /// It is to be left out.
    Dropped,
}

/// Applies the rule to an example.
///
/// # Errors
/// An example that is too long, where the rule is to stop.
pub fn limit_length(
    rule: ExcessLengthStrategy,
    limit: usize,
    example: &mut Example,
    place: &Place,
) -> Result<Fate, DataError> {
    let length = example.ids.len();
    if length <= limit {
        return Ok(Fate::Kept);
    }
    match rule {
        ExcessLengthStrategy::Raise => Err(DataError::TooLong { place: place.clone(), length, limit }),
        ExcessLengthStrategy::Drop => Ok(Fate::Dropped),
        ExcessLengthStrategy::Truncate => {
            example.ids.truncate(limit);
            example.supervised.truncate(limit);
            example.ends.retain(|end| *end < limit);
            Ok(Fate::Truncated)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_rules() {
        let place = Place { source: "s".to_owned(), line: 7 };
        let full = Example { ids: vec![1, 2, 3], supervised: vec![true; 3], ends: vec![0, 2], straddles: false };
        let apply = |rule, limit| {
            let mut example = full.clone();
            limit_length(rule, limit, &mut example, &place).map(|fate| (fate, example))
        };
        assert_eq!(apply(ExcessLengthStrategy::Raise, 3).unwrap(), (Fate::Kept, full.clone()));
        assert_eq!(apply(ExcessLengthStrategy::Drop, 2).unwrap().0, Fate::Dropped);
        let cut = Example { ids: vec![1, 2], supervised: vec![true; 2], ends: vec![0], straddles: false };
        assert_eq!(apply(ExcessLengthStrategy::Truncate, 2).unwrap(), (Fate::Truncated, cut));
        let error = apply(ExcessLengthStrategy::Raise, 2).unwrap_err();
        assert_eq!(error.to_string(), "source `s`, line 7: the example has 3 tokens, `sequence_len` is 2");
        let hint = error.hint().unwrap();
        assert!(hint.contains("at least 3") && hint.contains("`drop`") && hint.contains("`truncate`"), "{hint}");
    }
}
