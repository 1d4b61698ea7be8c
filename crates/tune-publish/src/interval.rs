//! Confidence intervals of scores.

/// The 0.975 quantile of the normal distribution: two-sided intervals of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % interval of a share from `successes` of `n` independent trials (Wilson 1927): unlike the usual formula it
/// stays between 0 and 1 and says something at 0 and at `n`. None without a trial.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of examples, far below 2^53")]
pub fn wilson(successes: u64, n: u64) -> Option<(f64, f64)> {
    if n == 0 || successes > n {
        return None;
    }
    let (n, share) = (n as f64, successes as f64 / n as f64);
    let shrink = 1.0 / (1.0 + Z * Z / n);
    let centre = shrink * (share + Z * Z / (2.0 * n));
    let half = shrink * Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(((centre - half).max(0.0), (centre + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // `statsmodels.stats.proportion.proportion_confint(…, method="wilson")`, and at the ends z²/(n + z²).
        for (successes, n, low, high) in
            [(0, 100, 0.0, 0.036_993_5), (100, 100, 0.963_006_5, 1.0), (8, 10, 0.490_162_5, 0.943_317_8)]
        {
            let (found_low, found_high) = wilson(successes, n).unwrap();
            assert!((found_low - low).abs() < 1e-6 && (found_high - high).abs() < 1e-6, "{found_low} {found_high}");
        }
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(2, 1), None);
    }
}
