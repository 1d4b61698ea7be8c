//! Fractions of a recipe as whole numbers. Decimals such as 0.1 have no exact float, so counts taken from them in floats
//! would be off by one now and then (1.1 epochs of 10 rows are 11, and 12 in floats). Six digits after the point count.

/// One, in millionths.
pub(crate) const ONE: u64 = 1_000_000;

/// A number above 0 in millionths, at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the recipe bounds it far below 2^64")]
pub(crate) fn millionths(value: f64) -> u64 {
    ((value * 1e6).round() as u64).max(1)
}

/// `part` millionths of `n`, to the nearest.
pub(crate) fn nearest(part: u64, n: u64) -> u64 {
    share(part, n, ONE / 2)
}

/// `part` millionths of `n`, rounded up.
pub(crate) fn rounded_up(part: u64, n: u64) -> u64 {
    share(part, n, ONE - 1)
}

#[expect(clippy::cast_possible_truncation, reason = "no more than `n` times the part")]
fn share(part: u64, n: u64, carry: u64) -> u64 {
    ((u128::from(part) * u128::from(n) + u128::from(carry)) / u128::from(ONE)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_what_they_say() {
        assert_eq!(rounded_up(millionths(1.1), 10), 11);
        assert_eq!(rounded_up(millionths(0.3), 10), 3);
        assert_eq!(rounded_up(millionths(1e-9), 10), 1);
        assert_eq!((nearest(millionths(0.25), 10), nearest(millionths(0.24), 10)), (3, 2));
    }
}
