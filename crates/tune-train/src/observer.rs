//! How a run tells what it is doing, without deciding how that is shown.

use crate::evaluate::Scores;
use crate::trainer::StepResult;

/// Hears of a run's progress. Every method has an empty default.
pub trait Observer {
    /// A phase begins: a few words for a person.
    fn phase(&mut self, text: &str) {
        let _ = text;
    }

    /// Training begins, or goes on, after `done` of `total` steps.
    fn training(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// A step is done.
    fn step(&mut self, step: u64, result: &StepResult, seconds: f64) {
        let _ = (step, result, seconds);
    }

    /// The held-out loss was measured.
    fn evaluation(&mut self, step: u64, loss: f32) {
        let _ = (step, loss);
    }

    /// Scores before (`after` false) or after training.
    fn scores(&mut self, after: bool, scores: &Scores) {
        let _ = (after, scores);
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
