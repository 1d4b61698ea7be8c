//! The checklist before publication: what is missing, and what to do about it.
//!
//! - [`openness`]: the Model Openness Framework
//! - [`personal_data`]: patterns of personal data in the training rows
//!
//! This module goes through the Open Source AI Definition 1.0 requirement by requirement, for what was trained and for the
//! base model; then licences, governance and considerations. It looks at what is on record and cannot know whether that is
//! true.

pub mod openness;
pub mod personal_data;

use serde::Serialize;
use tune_schema::recipe::DataClass;

use crate::facts::{Facts, Source};
use crate::licence::{Licence, Problem, Terms, problems};
use personal_data::{Scan, ScanOptions, scan};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Something that a reader of the model card will miss, or should look at.
    Warning,
    /// The result cannot be called open, or may not be passed on, as long as this stands.
    Problem,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// Which part of the checklist it belongs to.
    pub area: &'static str,
    /// What was found.
    pub finding: String,
    /// What to do about it.
    pub remedy: String,
}

/// A requirement of the Open Source AI Definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// What it is about.
    pub name: String,
    /// Whether what is on record meets it.
    pub met: bool,
    /// By what, or what is missing.
    pub detail: String,
}

/// The whole audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The claim that was audited.
    pub claim_id: tune_schema::Digest,
    /// OSAID 1.0, requirement by requirement.
    pub osaid: Vec<Requirement>,
    /// MOF class, and what the next one lacks.
    pub mof_class: Option<&'static str>,
    /// Components that the next class needs, or open licences of them.
    pub mof_missing: Vec<String>,
    /// Personal data in the rows; empty where the rows were not looked at.
    pub personal_data: Vec<Scan>,
    /// Everything that needs attention, the heaviest first.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Whether anything weighs more than a note.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity > Severity::Note)
    }
}

/// Findings under way.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, area: &'static str, finding: String, remedy: &str) {
        self.0.push(Finding { severity, area, finding, remedy: remedy.to_owned() });
    }
}

/// Audits a run. With `rows`, the training rows are read and searched for personal data.
#[must_use]
pub fn audit(facts: &Facts, rows: Option<&ScanOptions>) -> Audit {
    let mut findings = Findings::default();
    let mut osaid: Vec<Requirement> =
        facts.data.iter().map(|source| data_information(source, "data", &mut findings)).collect();
    osaid.push(data_information_of_base(&facts.base, &mut findings));
    osaid.push(Requirement {
        name: "code".to_owned(),
        met: true,
        detail: "data processing, training, evaluation and inference are tune's, MIT OR Apache-2.0; the recipe has every setting"
            .to_owned(),
    });
    osaid.push(parameters("parameters of the base model", facts.base.licence.as_ref(), &mut findings));
    osaid.push(parameters("parameters of the result", facts.terms().as_ref(), &mut findings));
    licences(facts, &mut findings);
    fields(facts, &mut findings);
    let scans = rows.map(|options| scan(facts, options)).unwrap_or_default();
    personal(&scans, facts.recipe.considerations.personal_data.as_deref(), &mut findings);
    let (class, missing) = openness::class(&openness::present(facts, &facts.checkpoints()));
    if !missing.is_empty() {
        let next = class.map_or("III", |class| if class == openness::Class::OpenModel { "II" } else { "I" });
        let finding = format!("class {next} of the Model Openness Framework lacks: {}", missing.join(", "));
        let remedy = "publish these beside the model, or state `class: open` and open licences of the sources under `provenance`";
        findings.add(Severity::Note, "MOF", finding, remedy);
    }
    let mut findings = findings.0;
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.area.cmp(b.area)));
    Audit {
        claim_id: *facts.claim_id(),
        osaid,
        mof_class: class.map(openness::Class::name),
        mof_missing: missing,
        personal_data: scans,
        findings,
    }
}

/// What a class asks for.
pub(crate) fn duty(source: &Source) -> Result<(), &'static str> {
    let known = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.trim().is_empty());
    let provenance = &source.provenance;
    match source.class() {
        None => Err("no class is on record, so that nobody can tell what a reader may expect"),
        Some(DataClass::Open) if source.address().is_none() && !known(&provenance.origin) => {
            Err("open data must be shared: no address and no origin is on record")
        }
        Some(DataClass::Public) if source.address().is_none() => Err("public data: no address says where it is"),
        Some(DataClass::Obtainable) if !known(&provenance.origin) || !known(&provenance.obtained) => {
            Err("obtainable data: where it can be had and on what terms is not on record (`origin`, `obtained`)")
        }
        Some(DataClass::Unshareable)
            if !known(&provenance.obtained) || !known(&provenance.selected) || !known(&provenance.filtered) =>
        {
            Err(
                "unshareable data must be described so that a set of the same structure can be built (`obtained`, `selected`, `filtered`)",
            )
        }
        Some(_) => Ok(()),
    }
}

fn data_information(source: &Source, kind: &str, findings: &mut Findings) -> Requirement {
    let name = format!("data information: {kind} `{}`", source.name);
    let remedy = format!("say it in the recipe under `provenance.{}`", source.name);
    let provenance = &source.provenance;
    let fields = [
        ("licence", &provenance.licence),
        ("origin", &provenance.origin),
        ("obtained", &provenance.obtained),
        ("selected", &provenance.selected),
        ("filtered", &provenance.filtered),
    ];
    let missing: Vec<&str> = fields.into_iter().filter(|(_, text)| text.is_none()).map(|(name, _)| name).collect();
    if !missing.is_empty() {
        let finding = format!("`{}`: not on record: {}", source.name, missing.join(", "));
        findings.add(Severity::Warning, "OSAID data information", finding, &remedy);
    }
    match duty(source) {
        Err(problem) => {
            findings.add(Severity::Problem, "OSAID data information", format!("`{}`: {problem}", source.name), &remedy);
            Requirement { name, met: false, detail: problem.to_owned() }
        }
        Ok(()) => {
            let class = source.class().map_or("", DataClass::name);
            Requirement { name, met: true, detail: format!("{class}; {}", source.address().unwrap_or("described")) }
        }
    }
}

/// Of a base model, what it was itself trained on must be on record somewhere: this tool can only see what the recipe says.
fn data_information_of_base(base: &Source, findings: &mut Findings) -> Requirement {
    let name = format!("data information: base model `{}`", base.name);
    let open = base.class() == Some(DataClass::Open) && base.provenance.origin.is_some();
    let detail = if open {
        format!("stated to be open; {}", base.provenance.origin.as_deref().unwrap_or_default())
    } else {
        let finding = format!("`{}`: that its training data is described is not on record", base.name);
        let remedy = format!(
            "if the base model has its data information, say `class: open` and where in `provenance.{}.origin`; if not, the result cannot be open source AI",
            base.name
        );
        findings.add(Severity::Problem, "OSAID base model", finding, &remedy);
        "not on record".to_owned()
    };
    Requirement { name, met: open, detail }
}

fn parameters(name: &str, licence: Option<&Licence>, findings: &mut Findings) -> Requirement {
    let (met, detail) = match licence {
        None => (false, "no licence is on record".to_owned()),
        Some(licence) if licence.is_osi_approved() => (true, licence.text().to_owned()),
        Some(licence) if licence.terms() == Terms::OpenData => {
            (true, format!("{}: open terms for data, not on the OSI's list of software licences", licence.text()))
        }
        Some(licence) => (false, format!("{}: not terms approved by the OSI", licence.text())),
    };
    if !met {
        let remedy = "state an OSI-approved SPDX expression under `provenance`, or choose another base model";
        findings.add(Severity::Problem, "OSAID parameters", format!("{name}: {detail}"), remedy);
    }
    Requirement { name: name.to_owned(), met, detail }
}

fn licences(facts: &Facts, findings: &mut Findings) {
    let sources = [&facts.base].into_iter().chain(&facts.data);
    let stated: Vec<(&str, &Licence)> =
        sources.filter_map(|source| Some((source.name.as_str(), source.licence.as_ref()?))).collect();
    for problem in problems(&stated) {
        let (severity, finding, remedy) = match problem {
            Problem::NotAnExpression { source, problem } => (
                Severity::Problem,
                format!("`{source}`: the licence is not an SPDX expression: {problem}"),
                "write an identifier of https://spdx.org/licenses, or `LicenseRef-…` for terms that have none",
            ),
            Problem::Unknown { source, licence } => (
                Severity::Warning,
                format!("`{source}`: `{licence}` is not a licence that this audit knows"),
                "read its terms: whether they allow use, change and passing on for every purpose",
            ),
            Problem::Restricted { source, licence } => (
                Severity::Problem,
                format!("`{source}`: `{licence}` restricts use or change"),
                "leave the source out, or do not call the result open",
            ),
            Problem::Conflict { sources: [(a, a_licence), (b, b_licence)] } => (
                Severity::Problem,
                format!("`{a}` ({a_licence}) and `{b}` ({b_licence}): no terms keep both"),
                "leave one of them out",
            ),
        };
        findings.add(severity, "licences", finding, remedy);
    }
}

/// Fields that readers of a model card look for.
fn fields(facts: &Facts, findings: &mut Findings) {
    let (governance, considerations) = (&facts.recipe.governance, &facts.recipe.considerations);
    let maintainers = (!governance.maintainers.is_empty()).then(String::new);
    let governance = [
        ("maintainers", &maintainers),
        ("contact", &governance.contact),
        ("contributing", &governance.contributing),
        ("versioning", &governance.versioning),
    ];
    let considerations = [
        ("intended_use", &considerations.intended_use),
        ("limits", &considerations.limits),
        ("known_biases", &considerations.known_biases),
        ("personal_data", &considerations.personal_data),
    ];
    for (area, fields) in [("governance", governance), ("considerations", considerations)] {
        let missing: Vec<&str> = fields.into_iter().filter(|(_, text)| text.is_none()).map(|(name, _)| name).collect();
        if !missing.is_empty() {
            let finding = format!("not on record: {}", missing.join(", "));
            findings.add(Severity::Warning, area, finding, &format!("say it in the recipe under `{area}`"));
        }
    }
    if facts.claim().stream.eval_examples == 0 {
        let finding = "nothing was held out: the card has no results".to_owned();
        findings.add(Severity::Warning, "evaluation", finding, "set `val_set_size` in the recipe and train again");
    }
}

/// Where the recipe says something of personal data, the model card does too: whether it is true is then for a person to see.
fn personal(scans: &[Scan], stated: Option<&str>, findings: &mut Findings) {
    let (severity, remedy) = match stated.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => (Severity::Note, format!("see that `considerations.personal_data` says it: {text}")),
        None => {
            let remedy =
                "look at these rows; remove them, or say in `considerations.personal_data` why they may be there";
            (Severity::Warning, remedy.to_owned())
        }
    };
    for scan in scans {
        if let Some(problem) = &scan.problem {
            let finding = format!("`{}` could not be searched: {problem}", scan.source);
            findings.add(Severity::Warning, "personal data", finding, "say where it is with `--source NAME=PATH`");
        }
        for (kind, found) in &scan.found {
            let first: Vec<String> = found.lines.iter().take(5).map(u64::to_string).collect();
            let finding = format!(
                "`{}`: what looks like {kind} in {} rows, {} times; first in line {}",
                scan.source,
                found.rows,
                found.count,
                first.join(", ")
            );
            findings.add(severity, "personal data", finding, &remedy);
        }
    }
}
