//! Scores before and after training, and the first answer that differs.

use tune_schema::chain::F32Bits;
use tune_train::evaluate::{Answer, Scores};

use super::report::{Bearing, Difference, Part, Values};
use super::side::Side;

/// What differs in the scores.
///
/// # Errors
/// Scores that cannot be read.
pub(super) fn compare([a, b]: [&Side; 2]) -> Result<Vec<Difference>, String> {
    let mut found = Vec::new();
    for when in ["before", "after"] {
        let file = format!("evaluation-{when}.json");
        let values = differences(when, &a.json(&file)?, &b.json(&file)?);
        found.extend(values.into_iter().map(|v| Difference::of_values(Part::Evaluation, Bearing::Recorded, v)));
    }
    Ok(found)
}

fn differences(when: &str, a: &Scores, b: &Scores) -> Vec<Values> {
    let bits = |loss: Option<F32Bits>| loss.map(|bits| format!("{bits:?}"));
    let values = [
        Values::differing(&format!("the held-out loss {when} training"), bits(a.loss), bits(b.loss)),
        Values::differing(
            &format!("the number of exact answers {when} training"),
            Some(format!("{} of {}", a.correct(), a.answers.len())),
            Some(format!("{} of {}", b.correct(), b.answers.len())),
        ),
        first_answer(when, a, b),
    ];
    values.into_iter().flatten().collect()
}

/// The first answer that differs, to the first question that is the same or not.
fn first_answer(when: &str, a: &Scores, b: &Scores) -> Option<Values> {
    let (number, (a, b)) = (1_usize..).zip(a.answers.iter().zip(&b.answers)).find(|(_, (a, b))| a != b)?;
    let members = |answer: &Answer| {
        let Answer { prompt, reference, answer, correct } = answer;
        let text = |text: &String| serde_json::Value::from(text.as_str()).to_string();
        [
            ("prompt", text(prompt)),
            ("reference", text(reference)),
            ("answer", text(answer)),
            ("score", correct.to_string()),
        ]
    };
    let both = members(a).into_iter().zip(members(b));
    let ((what, a), (_, b)) = both.into_iter().find(|((_, a), (_, b))| a != b)?;
    Some(Values { name: format!("the {what} of question {number} {when} training"), a: Some(a), b: Some(b) })
}
