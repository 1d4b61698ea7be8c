//! Scores before and after training, and the first answer that differs.

use std::collections::BTreeMap;

use tune_schema::chain::F32Bits;
use tune_train::evaluate::{Answer, OpenAnswer, Scores, WithheldAnswer};

use super::report::{Bearing, Difference, Part, Values};
use super::side::Side;

/// What differs in the scores.
///
/// # Errors
/// Scores that cannot be read.
pub(super) fn compare([a, b]: [&Side; 2]) -> Result<Vec<Difference>, String> {
    let root = |side: &Side, name: &str| {
        let sources = side.manifest().map(|manifest| manifest.claim.inputs.sources.as_slice()).unwrap_or_default();
        let source = sources.iter().find(|source| source.name == name);
        source.and_then(|source| source.commitment.as_ref()).map(|commitment| commitment.root)
    };
    // Under other secrets the same texts have other digests.
    let comparable = |name: &str| root(a, name) == root(b, name);
    let mut found = Vec::new();
    for when in ["before", "after"] {
        let file = format!("evaluation-{when}.json");
        let values = differences(when, &a.json(&file)?, &b.json(&file)?, &comparable);
        found.extend(values.into_iter().map(|v| Difference::of_values(Part::Evaluation, Bearing::Recorded, v)));
    }
    Ok(found)
}

fn differences(when: &str, a: &Scores, b: &Scores, comparable: &dyn Fn(&str) -> bool) -> Vec<Values> {
    let bits = |loss: Option<F32Bits>| loss.map(|bits| format!("{bits:?}"));
    let values = [
        Values::differing(&format!("the held-out loss {when} training"), bits(a.loss), bits(b.loss)),
        Values::differing(
            &format!("the number of exact answers {when} training"),
            Some(format!("{} of {}", a.correct(), a.answers.len())),
            Some(format!("{} of {}", b.correct(), b.answers.len())),
        ),
        first_answer(when, a, b, comparable),
    ];
    values.into_iter().flatten().collect()
}

/// The first answer that differs, to the first question that is the same or not.
fn first_answer(when: &str, a: &Scores, b: &Scores, comparable: &dyn Fn(&str) -> bool) -> Option<Values> {
    let pairs = a.answers.iter().zip(&b.answers).map(|(a, b)| (members(a, comparable), members(b, comparable)));
    // An answer without texts has other members than one with them, and only what both have can differ.
    let differing = |a: &BTreeMap<&str, String>, b: &BTreeMap<&str, String>| {
        let names = ["source", "prompt", "reference", "question", "answer", "score"];
        names.into_iter().find(|name| a.get(name).zip(b.get(name)).is_some_and(|(a, b)| a != b))
    };
    (1_usize..).zip(pairs).find_map(|(number, (a, b))| {
        let what = differing(&a, &b)?;
        Values::differing(&format!("the {what} of question {number} {when} training"), a.get(what), b.get(what))
    })
}

/// What there is of an answer, in words; its digests where those of the source are `comparable`.
fn members(answer: &Answer, comparable: &dyn Fn(&str) -> bool) -> BTreeMap<&'static str, String> {
    let text = |text: &String| serde_json::Value::from(text.as_str()).to_string();
    match answer {
        Answer::Open(OpenAnswer { prompt, reference, answer, correct }) => BTreeMap::from([
            ("prompt", text(prompt)),
            ("reference", text(reference)),
            ("answer", text(answer)),
            ("score", correct.to_string()),
        ]),
        Answer::Withheld(WithheldAnswer { source, question, answer, correct }) => {
            let mut members = BTreeMap::from([("source", text(source)), ("score", correct.to_string())]);
            if comparable(source) {
                members.extend([("question", question.to_string()), ("answer", answer.to_string())]);
            }
            members
        }
    }
}
