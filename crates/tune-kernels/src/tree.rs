//! The order in which the gradients of a step's rows are added: a balanced pairwise tree over the row index.
//!
//! A binary counter of partial sums builds it as rows arrive, in `log₂ rows` buffers. The sum depends on the rows'
//! order only, not on how they were split into micro-batches or over devices.

/// Partial sums of items that arrive in order.
#[derive(Debug, Clone)]
pub struct PairwiseSum<T> {
    /// `levels[l]` holds the sum of `2^l` neighbouring items, or nothing.
    levels: Vec<Option<T>>,
}

impl<T> Default for PairwiseSum<T> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<T> PairwiseSum<T> {
    /// Adds the next item. `add(earlier, later)` gives their sum.
    pub fn push(&mut self, item: T, mut add: impl FnMut(T, T) -> T) {
        let mut item = item;
        for level in &mut self.levels {
            match level.take() {
                None => {
                    *level = Some(item);
                    return;
                }
                Some(earlier) => item = add(earlier, item),
            }
        }
        self.levels.push(Some(item));
    }

    /// The sum of all items, or nothing where there were none. Partial sums left over are joined from the most recent
    /// (smallest) to the earliest.
    pub fn finish(self, mut add: impl FnMut(T, T) -> T) -> Option<T> {
        self.levels.into_iter().flatten().reduce(|later, earlier| add(earlier, later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(n: usize) -> String {
        let mut sum = PairwiseSum::default();
        let add = |a: String, b: String| format!("({a}{b})");
        for i in 0..n {
            sum.push(i.to_string(), add);
        }
        sum.finish(add).unwrap_or_default()
    }

    #[test]
    fn shapes_of_the_tree() {
        assert_eq!(shape(0), "");
        assert_eq!(shape(1), "0");
        assert_eq!(shape(2), "(01)");
        assert_eq!(shape(3), "((01)2)");
        assert_eq!(shape(4), "((01)(23))");
        assert_eq!(shape(7), "(((01)(23))((45)6))");
        assert_eq!(shape(8), "(((01)(23))((45)(67)))");
    }
}
