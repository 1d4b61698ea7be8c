//! Learning rates, with the formulas of Hugging Face `get_scheduler`, in f64 on the host.

use tune_schema::recipe::{LrScheduler, Recipe};

/// The learning rate of every step of a run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    kind: LrScheduler,
    peak: f64,
    warmup: u64,
    total: u64,
}

impl Schedule {
    /// The schedule of a run of `total` steps. `warmup_ratio` becomes a whole number of steps, rounded up.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "step counts"
    )]
    pub fn new(recipe: &Recipe, total: u64) -> Self {
        let warmup = recipe.warmup_steps.unwrap_or_else(|| (total as f64 * recipe.warmup_ratio).ceil() as u64);
        Self { kind: recipe.lr_scheduler, peak: recipe.learning_rate, warmup, total }
    }

    /// The rate of the step that follows `done` steps. As in Hugging Face, the first warm-up step has rate 0.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "step counts are far below 2^53")]
    pub fn rate(&self, done: u64) -> f64 {
        if done < self.warmup {
            return self.peak * (done as f64 / self.warmup as f64);
        }
        let rest = self.total.saturating_sub(self.warmup).max(1) as f64;
        let progress = (done - self.warmup) as f64 / rest;
        match self.kind {
            LrScheduler::Constant => self.peak,
            LrScheduler::Linear => self.peak * (1.0 - progress).max(0.0),
            LrScheduler::Cosine => self.peak * (0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress))).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: LrScheduler) -> Schedule {
        Schedule { kind, peak: 2.0, warmup: 4, total: 12 }
    }

    /// Values of `transformers` 4.57 `get_scheduler` for 4 warm-up steps of 12, times a peak of 2.
    #[test]
    fn equals_hugging_face() {
        let rates = |kind| (0..12).map(|step| schedule(kind).rate(step)).collect::<Vec<_>>();
        assert_eq!(rates(LrScheduler::Constant)[..6], [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]);
        assert_eq!(rates(LrScheduler::Linear)[3..7], [1.5, 2.0, 1.75, 1.5]);
        let cosine = rates(LrScheduler::Cosine);
        assert_eq!(cosine[4], 2.0);
        assert!((cosine[8] - 1.0).abs() < 1e-12 && (cosine[10] - 0.292_893_218_813_452_5).abs() < 1e-12);
    }
}
