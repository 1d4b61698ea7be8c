//! SPDX licence expressions: what they allow, and whether sources under them can go into one result.
//!
//! This is a check of what is on record, not legal advice: it finds what is missing, what is plainly not open, and pairs
//! of terms that are known to exclude each other.

use std::collections::BTreeSet;

use spdx::{Expression, LicenseItem, LicenseReq, Licensee, ParseMode};

/// A licence as a recipe states it.
#[derive(Debug, Clone)]
pub struct Licence {
    text: String,
    expression: Result<Expression, String>,
}

/// What a licence asks of somebody who passes on what was made with it, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Terms {
    /// A notice at most.
    Permissive,
    /// Terms for data that ask for a notice at most; the Open Source Initiative approves software licences only.
    OpenData,
    /// The same terms for the licensed files themselves.
    WeakCopyleft,
    /// The same terms for what is made with it.
    Copyleft,
    /// Not a licence that this program knows: a person must read it.
    Unknown,
    /// Not for every purpose, or not to be changed.
    Restricted,
}

/// Why sources do not go together, or nobody can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Not an expression of SPDX.
    NotAnExpression {
        /// The source.
        source: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A licence that this program does not know.
    Unknown {
        /// The source.
        source: String,
        /// Its licence.
        licence: String,
    },
    /// Use or change is restricted.
    Restricted {
        /// The source.
        source: String,
        /// Its licence.
        licence: String,
    },
    /// Two sources whose terms cannot be kept together.
    Conflict {
        /// The sources and their licences.
        sources: [(String, String); 2],
    },
}

impl Licence {
    /// Reads an expression; a text that is none is kept, and said to be none.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let expression = Expression::parse_mode(text, ParseMode::STRICT).map_err(|error| error.reason.to_string());
        Self { text: text.to_owned(), expression }
    }

    /// The text as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is an SPDX expression.
    #[must_use]
    pub fn is_expression(&self) -> bool {
        self.expression.is_ok()
    }

    /// The identifier, where the expression is a single one.
    #[must_use]
    pub fn single_id(&self) -> Option<&str> {
        let expression = self.expression.as_ref().ok()?;
        let mut requirements = expression.requirements();
        let first = requirements.next()?;
        let alone = requirements.next().is_none() && first.req.addition.is_none();
        first.req.license.id().filter(|_| alone && !self.text.contains('+')).map(|id| id.name)
    }

    /// Whether one can choose licences that the Open Source Initiative approves.
    #[must_use]
    pub fn is_osi_approved(&self) -> bool {
        self.holds(is_osi_approved)
    }

    /// Whether one can choose open terms throughout: approved by the Open Source Initiative, or open terms for data, of which
    /// it approves none; with or without the same terms for what is made with it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.holds(|requirement| {
            is_osi_approved(requirement) || terms(requirement) == Terms::OpenData || is_share_alike_data(requirement)
        })
    }

    /// The least that one must accept.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let ordered = [Terms::Permissive, Terms::OpenData, Terms::WeakCopyleft, Terms::Copyleft, Terms::Unknown];
        ordered
            .into_iter()
            .find(|most| self.holds(|requirement| terms(requirement) <= *most))
            .unwrap_or(if self.is_expression() { Terms::Restricted } else { Terms::Unknown })
    }

    fn holds(&self, mut allow: impl FnMut(&LicenseReq) -> bool) -> bool {
        self.expression.as_ref().is_ok_and(|expression| expression.evaluate(&mut allow))
    }

    /// What is in it, by which one could license a result.
    fn choices(&self) -> Vec<LicenseReq> {
        self.expression.iter().flat_map(Expression::requirements).map(|one| one.req.clone()).collect()
    }

    /// Whether a result under `chosen` keeps these terms.
    fn kept_by(&self, chosen: &LicenseReq) -> bool {
        let licensee = Licensee::new(chosen.license.clone(), chosen.addition.clone());
        self.holds(|requirement| {
            terms(requirement) < Terms::Copyleft
                || licensee.satisfies(requirement)
                || is_later_version(chosen, requirement)
        })
    }
}

/// Whether `chosen` is a version of a GNU licence that `X-or-later` allows. SPDX has an identifier for each, and nothing that
/// relates them.
fn is_later_version(chosen: &LicenseReq, requirement: &LicenseReq) -> bool {
    let (Some(chosen), Some(required)) = (chosen.license.id(), requirement.license.id()) else { return false };
    let Some((family, version)) = required.name.strip_suffix("-or-later").and_then(|name| name.rsplit_once('-')) else {
        return false;
    };
    let base = chosen.name.trim_end_matches("-or-later").trim_end_matches("-only");
    let number = |text: &str| text.parse::<f32>().unwrap_or(0.0);
    base.rsplit_once('-').is_some_and(|(other, found)| other == family && number(found) >= number(version))
}

fn is_osi_approved(requirement: &LicenseReq) -> bool {
    requirement.license.id().is_some_and(|id| id.is_osi_approved())
}

/// Whether its SPDX identifier begins with one of these.
fn begins(requirement: &LicenseReq, starts: &[&str]) -> bool {
    requirement.license.id().is_some_and(|id| starts.iter().any(|start| id.name.starts_with(start)))
}

/// Whether these are open terms for data that ask for the same terms for what is made with it.
fn is_share_alike_data(requirement: &LicenseReq) -> bool {
    begins(requirement, &["CC-BY-SA-", "ODbL-", "CDLA-Sharing-"])
}

fn terms(requirement: &LicenseReq) -> Terms {
    let LicenseItem::Spdx { id, .. } = &requirement.license else { return Terms::Unknown };
    let begins = |starts: &[&str]| begins(requirement, starts);
    if id.name.contains("-NC") || id.name.contains("-ND") {
        Terms::Restricted
    } else if is_share_alike_data(requirement) {
        Terms::Copyleft
    } else if begins(&["CC-BY-", "CC0-", "CDLA-Permissive-", "ODC-By-", "PDDL-", "CC-PDDC", "O-UDA-"]) {
        Terms::OpenData
    } else if begins(&["LGPL-", "MPL-", "EPL-", "CDDL-"]) {
        Terms::WeakCopyleft
    } else if id.is_copyleft() {
        Terms::Copyleft
    } else if id.is_osi_approved() {
        Terms::Permissive
    } else {
        Terms::Unknown
    }
}

/// Whether sources under these licences can go into one result.
#[must_use]
pub fn problems(sources: &[(&str, &Licence)]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (source, licence) in sources {
        let (source, text) = ((*source).to_owned(), licence.text.clone());
        match (&licence.expression, licence.terms()) {
            (Err(problem), _) => found.push(Problem::NotAnExpression { source, problem: problem.clone() }),
            (_, Terms::Unknown) => found.push(Problem::Unknown { source, licence: text }),
            (_, Terms::Restricted) => found.push(Problem::Restricted { source, licence: text }),
            _ => {}
        }
    }
    let copyleft: Vec<_> = sources.iter().filter(|(_, licence)| licence.terms() == Terms::Copyleft).collect();
    for (i, (name, licence)) in copyleft.iter().enumerate() {
        for (other_name, other) in &copyleft[i + 1..] {
            let chosen: Vec<LicenseReq> = licence.choices().into_iter().chain(other.choices()).collect();
            if !chosen.iter().any(|one| licence.kept_by(one) && other.kept_by(one)) {
                let sources = [(name, licence), (other_name, other)]
                    .map(|(name, licence)| ((*name).to_owned(), licence.text.clone()));
                found.push(Problem::Conflict { sources });
            }
        }
    }
    found
}

/// The terms under which a result of these sources can be passed on, as an expression: those of the base model, and those
/// of data that ask for more than a notice. None where something has no expression on record.
///
/// Whether terms of data bind weights trained on it is disputed; the strict reading is taken.
#[must_use]
pub fn terms_of_result(base: Option<&Licence>, data: &[Option<&Licence>]) -> Option<String> {
    let mut binding: Vec<&Licence> = Vec::new();
    for licence in [base].into_iter().chain(data.iter().copied()) {
        let licence = licence.filter(|licence| licence.is_expression())?;
        if binding.is_empty() || licence.terms() > Terms::OpenData {
            binding.push(licence);
        }
    }
    Some(all_at_once(&binding))
}

/// The terms of these sources themselves, as an expression. None where there is no source, or one has no expression on record.
#[must_use]
pub fn terms_of_all(sources: &[Option<&Licence>]) -> Option<String> {
    let known = sources.iter().map(|licence| licence.filter(|licence| licence.is_expression()));
    let known: Vec<&Licence> = known.collect::<Option<_>>()?;
    (!known.is_empty()).then(|| all_at_once(&known))
}

/// One expression of all these, each once.
fn all_at_once(licences: &[&Licence]) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for licence in licences {
        if !parts.contains(&licence.text()) {
            parts.push(licence.text());
        }
    }
    let alone = parts.len() == 1;
    let bracketed = |text: &&str| if alone || !text.contains(' ') { (*text).to_owned() } else { format!("({text})") };
    parts.iter().map(bracketed).collect::<Vec<_>>().join(" AND ")
}

/// Every SPDX identifier in these licences, sorted.
#[must_use]
pub fn identifiers<'a>(licences: impl IntoIterator<Item = &'a Licence>) -> BTreeSet<&'static str> {
    let expressions = licences.into_iter().flat_map(|licence| licence.expression.iter());
    expressions.flat_map(Expression::requirements).filter_map(|one| one.req.license.id()).map(|id| id.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expressions_ask_for() {
        for (text, terms, osi, open) in [
            ("MIT OR Apache-2.0", Terms::Permissive, true, true),
            ("CC-BY-4.0", Terms::OpenData, false, true),
            ("CC0-1.0", Terms::OpenData, false, true),
            ("MPL-2.0", Terms::WeakCopyleft, true, true),
            ("GPL-3.0-only", Terms::Copyleft, true, true),
            ("CC-BY-SA-4.0", Terms::Copyleft, false, true),
            ("MPL-2.0 AND CC-BY-4.0", Terms::WeakCopyleft, false, true),
            ("MIT AND CC-BY-NC-4.0", Terms::Restricted, false, false),
            ("MIT OR CC-BY-NC-4.0", Terms::Permissive, true, true),
            ("CC-BY-NC-SA-4.0", Terms::Restricted, false, false),
            ("LicenseRef-llama3", Terms::Unknown, false, false),
            ("Apache 2", Terms::Unknown, false, false),
        ] {
            let licence = Licence::new(text);
            let found = (licence.terms(), licence.is_osi_approved(), licence.is_open());
            assert_eq!(found, (terms, osi, open), "{text}");
        }
        assert_eq!(Licence::new("Apache-2.0").single_id(), Some("Apache-2.0"));
        assert_eq!(Licence::new("MIT OR Apache-2.0").single_id(), None);
        assert!(!Licence::new("Apache 2").is_expression());
    }

    fn found(licences: &[&str]) -> Vec<Problem> {
        let parsed: Vec<Licence> = licences.iter().map(|text| Licence::new(text)).collect();
        let named: Vec<(&str, &Licence)> = licences.iter().copied().zip(&parsed).collect();
        problems(&named)
    }

    #[test]
    fn what_goes_together() {
        assert_eq!(found(&["Apache-2.0", "MIT", "CC-BY-4.0", "GPL-3.0-or-later"]), []);
        assert_eq!(found(&["GPL-2.0-or-later", "GPL-3.0-only"]), []);
        assert!(matches!(found(&["GPL-3.0-or-later", "GPL-2.0-only"])[..], [Problem::Conflict { .. }]));
        assert_eq!(found(&["CC-BY-SA-4.0 OR MIT", "GPL-3.0-only"]), []);
        assert!(matches!(found(&["GPL-2.0-only", "GPL-3.0-only"])[..], [Problem::Conflict { .. }]));
        assert!(matches!(found(&["CC-BY-SA-4.0", "GPL-2.0-only"])[..], [Problem::Conflict { .. }]));
        assert!(matches!(found(&["CC-BY-NC-4.0"])[..], [Problem::Restricted { .. }]));
        assert!(matches!(found(&["LicenseRef-x"])[..], [Problem::Unknown { .. }]));
        assert!(matches!(found(&["free for all"])[..], [Problem::NotAnExpression { .. }, ..]));
    }

    #[test]
    fn the_terms_of_a_result() {
        let terms = |base: &str, data: &[&str]| {
            let data: Vec<Licence> = data.iter().map(|text| Licence::new(text)).collect();
            terms_of_result(Some(&Licence::new(base)), &data.iter().map(Some).collect::<Vec<_>>())
        };
        assert_eq!(terms("Apache-2.0", &["MIT", "CC-BY-4.0"]).as_deref(), Some("Apache-2.0"));
        assert_eq!(
            terms("MIT OR Apache-2.0", &["CC-BY-SA-4.0", "CC-BY-SA-4.0"]).as_deref(),
            Some("(MIT OR Apache-2.0) AND CC-BY-SA-4.0")
        );
        assert_eq!(terms("Apache-2.0", &["whatever"]), None);
        assert_eq!(terms_of_result(None, &[]), None);
    }

    #[test]
    fn the_terms_of_all_sources() {
        let (choice, notice) = (Licence::new("MIT OR Apache-2.0"), Licence::new("CC-BY-4.0"));
        let all = terms_of_all(&[Some(&choice), Some(&notice), Some(&notice)]);
        assert_eq!(all.as_deref(), Some("(MIT OR Apache-2.0) AND CC-BY-4.0"));
        assert_eq!(terms_of_all(&[Some(&choice)]).as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(terms_of_all(&[Some(&choice), None]), None);
        assert_eq!(terms_of_all(&[]), None);
    }
}
