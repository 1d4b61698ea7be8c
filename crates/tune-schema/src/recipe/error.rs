//! What is wrong with a recipe, shown at its place.

use std::fmt;

use super::yaml::{Place, YamlError};

/// A recipe that cannot be used: where, what, and what to do next. Displays as several lines, the last a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RecipeError {
    /// The recipe's file, or the override.
    pub source_name: String,
    /// The place in the file, and its line; none for an override or a missing key.
    pub place: Option<(Place, String)>,
    /// The problem.
    pub problem: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl RecipeError {
    pub(super) fn at(file: &str, text: &str, place: Place, problem: impl Into<String>) -> Self {
        let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
        Self {
            source_name: file.to_owned(),
            place: Some((place, line.to_owned())),
            problem: problem.into(),
            hint: None,
        }
    }

    pub(super) fn without_place(source: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { source_name: source.into(), place: None, problem: problem.into(), hint: None }
    }

    pub(super) fn from_yaml(file: &str, text: &str, error: YamlError) -> Self {
        Self { hint: error.hint, ..Self::at(file, text, error.place, error.problem) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((place, line)) => {
                // Of a long line, what is around the place.
                let skipped = (place.column - 1).saturating_sub(60);
                let column = place.column - 1 - skipped;
                let shown: String = line.chars().skip(skipped).take(100).collect();
                writeln!(f, "{}:{}:{}: {}", self.source_name, place.line, place.column, self.problem)?;
                let number = place.line.to_string();
                writeln!(f, "  {number} | {shown}")?;
                let width = place.width.min(shown.chars().count().saturating_sub(column).max(1));
                write!(f, "  {} | {}{}", " ".repeat(number.len()), " ".repeat(column), "^".repeat(width))?;
            }
            None => write!(f, "{}: {}", self.source_name, self.problem)?,
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}
