//! A verdict: what was compared, how far it got, and the first thing that differs.

use serde::Serialize;
use tune_schema::Digest;

/// How far a verification goes. Each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every hash in the folder, and that they fit together.
    Files,
    /// The stream of rows, rebuilt from the sources.
    Data,
    /// Some segments between checkpoints, computed again.
    Sample,
    /// The whole run, computed again.
    Full,
}

impl Level {
    /// All levels, in order.
    pub const ALL: [Self; 4] = [Self::Files, Self::Data, Self::Sample, Self::Full];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Data => "data",
            Self::Sample => "sample",
            Self::Full => "full",
        }
    }
}

/// How one comparison ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result", content = "detail")]
pub enum Outcome {
    /// Equal; what was compared.
    Verified(String),
    /// Different; the first difference.
    Differs(String),
    /// Not compared; why.
    NotChecked(String),
    /// Left out by whoever published it, or not shown by where it lies; what that leaves unseen. It does not keep a level from
    /// being reached.
    Withheld(String),
}

impl Outcome {
    /// What was found, in words.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Verified(detail) | Self::Differs(detail) | Self::NotChecked(detail) | Self::Withheld(detail) => {
                detail
            }
        }
    }
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The level it belongs to.
    pub level: Level,
    /// What it is about.
    pub name: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The sum of all comparisons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Everything asked for was compared and is equal.
    Verified,
    /// Something differs.
    Differs,
    /// Nothing differs, but something asked for could not be compared.
    CouldNotBeChecked,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The claim that was verified, as the manifest states it.
    pub claim_id: Option<Digest>,
    /// How it ended.
    pub conclusion: Conclusion,
    /// The level asked for.
    pub requested: Level,
    /// The highest level at which everything was compared and is equal.
    pub reached: Option<Level>,
    /// What a sample can show, in words; absent at other levels.
    pub confidence: Option<String>,
    /// Every comparison, in order.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// A verdict without comparisons yet.
    #[must_use]
    pub fn new(claim_id: Option<Digest>) -> Self {
        let requested = Level::Files;
        Self {
            claim_id,
            conclusion: Conclusion::CouldNotBeChecked,
            requested,
            reached: None,
            confidence: None,
            checks: Vec::new(),
        }
    }

    /// Records a comparison.
    pub fn record(&mut self, level: Level, name: impl Into<String>, outcome: Outcome) {
        self.checks.push(Check { level, name: name.into(), outcome });
    }

    /// Records whether two digests or other values are equal.
    pub fn compare<T: PartialEq + std::fmt::Display>(&mut self, level: Level, name: &str, stated: &T, found: &T) {
        let outcome = if stated == found {
            Outcome::Verified(found.to_string())
        } else {
            Outcome::Differs(format!("the manifest says {stated}, found {found}"))
        };
        self.record(level, name, outcome);
    }

    /// Whether anything differs so far.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.first_difference().is_some()
    }

    /// The first comparison that differs.
    #[must_use]
    pub fn first_difference(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.outcome, Outcome::Differs(_)))
    }

    /// Names of what was withheld, each once, in order.
    #[must_use]
    pub fn withheld(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for check in self.checks.iter().filter(|check| matches!(check.outcome, Outcome::Withheld(_))) {
            if !names.contains(&check.name.as_str()) {
                names.push(&check.name);
            }
        }
        names
    }

    /// The first comparison that differs, or else that could not be made, in words.
    #[must_use]
    pub fn first_problem(&self) -> Option<String> {
        let failed = || self.checks.iter().find(|check| matches!(check.outcome, Outcome::NotChecked(_)));
        self.first_difference().or_else(failed).map(|check| format!("{}: {}", check.name, check.outcome.detail()))
    }

    /// Draws the conclusion.
    #[must_use]
    pub fn finish(mut self, requested: Level) -> Self {
        self.requested = requested;
        let complete = |level: Level| {
            let mut checks = self.checks.iter().filter(|check| check.level == level).peekable();
            checks.peek().is_some()
                && checks.all(|check| matches!(check.outcome, Outcome::Verified(_) | Outcome::Withheld(_)))
        };
        self.reached = Level::ALL.into_iter().take_while(|level| complete(*level)).last();
        self.conclusion = if self.differs() {
            Conclusion::Differs
        } else if self.reached >= Some(requested) {
            Conclusion::Verified
        } else {
            Conclusion::CouldNotBeChecked
        };
        self
    }

    /// 0 verified, 1 differs, 2 could not be checked.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.conclusion {
            Conclusion::Verified => 0,
            Conclusion::Differs => 1,
            Conclusion::CouldNotBeChecked => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcomes: &[(Level, Outcome)], requested: Level) -> Verdict {
        let mut verdict = Verdict::new(None);
        for (level, outcome) in outcomes {
            verdict.record(*level, "x", outcome.clone());
        }
        verdict.finish(requested)
    }

    #[test]
    fn conclusions() {
        let ok = || Outcome::Verified(String::new());
        let no = || Outcome::Differs(String::new());
        let not = || Outcome::NotChecked(String::new());
        assert_eq!(verdict(&[(Level::Files, ok())], Level::Files).exit_code(), 0);
        assert_eq!(verdict(&[(Level::Files, ok()), (Level::Files, no())], Level::Files).exit_code(), 1);
        assert_eq!(verdict(&[(Level::Files, ok())], Level::Data).exit_code(), 2);
        let partial = verdict(&[(Level::Files, ok()), (Level::Data, not())], Level::Data);
        assert_eq!((partial.exit_code(), partial.reached), (2, Some(Level::Files)));
        assert_eq!(verdict(&[(Level::Files, not()), (Level::Data, no())], Level::Data).exit_code(), 1);
        assert_eq!(verdict(&[], Level::Files).exit_code(), 2);
        let withheld = Outcome::Withheld(String::new());
        assert_eq!(verdict(&[(Level::Files, ok()), (Level::Files, withheld)], Level::Files).exit_code(), 0);
    }
}
