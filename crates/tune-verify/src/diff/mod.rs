//! Where two finished runs part, and what explains it.
//!
//! Everything is read from the files of the two folders, whatever their manifests say; whether a folder agrees with its
//! own manifest is looked at first, and told as a remark. Parts are compared in the order of causes: what went in, the
//! stream of rows made of it, the state that training began with, its steps, what came out.
//!
//! - [`report`]: what was found; `cause`: the one line that explains it
//! - `side`: one of the two folders
//! - `recipe`, `inputs`, `rows`: what went in: settings, base model, sources with their first differing row, seeds
//! - `stream`: the first step with other rows, and the first token that differs
//! - `steps`, `weights`, `evaluation`, `files`: what came out
//! - `machine`: other tools and machines, as remarks
//! - `text`: texts of strangers in lines for people

mod cause;
mod evaluation;
mod files;
mod inputs;
mod machine;
mod recipe;
pub mod report;
mod rows;
mod side;
mod steps;
mod stream;
mod text;
mod weights;

use std::path::{Path, PathBuf};

use tune_train::Observer;

pub use report::{Bearing, Conclusion, Difference, Part, Report, Run};

use crate::VerifyError;
use report::Findings;
use side::Side;

/// What whoever compares chooses.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// How sources are looked up, and whether the network may be used.
    pub source: tune_source::Options,
    /// Places of sources by name. A place is taken for each run whose bytes are there, so a name may have several.
    pub places: Vec<(String, PathBuf)>,
}

/// Compares the runs that the two targets name, as [`crate::verify`] takes them: A, then B.
///
/// # Errors
/// A target that is no finished run, or a place for a source that neither run has.
pub fn diff([a, b]: [&Path; 2], options: &DiffOptions, observer: &mut dyn Observer) -> Result<Report, VerifyError> {
    observer.phase("checking the files of A");
    let a = Side::open(Run::A, a)?;
    observer.phase("checking the files of B");
    let b = Side::open(Run::B, b)?;
    let sides = [&a, &b];
    let mut remarks = side::remarks(sides, &options.places)?;
    remarks.extend(machine::remarks(sides));

    let mut findings = Findings::default();
    findings.add(&[Part::Recipe], recipe::compare(sides));
    findings.add(
        &[Part::BaseModel, Part::Sources, Part::Seeds],
        inputs::read(sides).map(|[a, b]| {
            let base = inputs::base_model(&a, &b);
            let sources = inputs::sources(sides, [&a, &b], options);
            [base, sources, inputs::seeds(&a, &b)].concat()
        }),
    );
    match side::chains(sides) {
        Err(problem) => findings.add(&[Part::Stream, Part::Steps], Err(problem)),
        Ok([chain_a, chain_b]) => {
            let chains = [chain_a.as_slice(), chain_b.as_slice()];
            findings.add(&[Part::Stream], Ok(stream::compare(sides, chains, options, observer)));
            findings.add(&[Part::Steps], Ok(steps::compare(chains)));
        }
    }
    observer.phase("comparing weights");
    findings.add(&[Part::InitialState], weights::initial(sides));
    findings.add(&[Part::Weights], weights::last(sides));
    findings.add(&[Part::Evaluation], evaluation::compare(sides));
    findings.add(&[Part::Files], files::compare(sides));
    findings.differences.sort_by_key(|difference| difference.part);
    findings.not_compared.sort_by_key(|gap| gap.part);
    match files::claims(sides) {
        // Whatever else differs decides what the claims say.
        Ok(_) if !findings.differences.is_empty() => {}
        claims => findings.add(&[Part::Files], claims),
    }
    Ok(Report::new([a.facts(), b.facts()], remarks, findings))
}
