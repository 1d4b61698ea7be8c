//! The one line that explains why two runs differ.
//!
//! The earliest part that differs explains the others, if it can: a licence explains no loss. Where nothing that went in
//! does, what came out first names the computation, or whoever changed a file.

use super::report::{Bearing, Difference, NotCompared, Part, Run, What};
use tune_schema::text::printable;

/// The end of a cause that lies in no input.
const COMPUTED: &str = "the computation differs (other binary, other device, or one run was changed)";

/// Names the cause. `problem` is what one folder does not verify for, where that makes the runs differ.
pub(super) fn of(differences: &[Difference], gaps: &[NotCompared], problem: Option<(Run, &str)>) -> String {
    let trained = differences.iter().any(|difference| difference.bearing == Bearing::Trained);
    let explains = |difference: &&Difference| match difference.bearing {
        Bearing::Training => true,
        // How often a run was measured decides what its records hold, not what it trained.
        Bearing::Records => !trained,
        _ => false,
    };
    let first_with = |wanted: &dyn Fn(&Difference) -> bool| differences.iter().find(|difference| wanted(difference));
    let came_out = first_with(&|difference| difference.bearing == Bearing::Trained)
        .or_else(|| first_with(&|found| found.bearing == Bearing::Recorded && found.part != Part::Files));
    let (text, part) = if let Some(first) = differences.iter().find(explains) {
        (all_of(first.part, differences.iter().filter(explains)), first.part)
    } else if let Some(first) = came_out {
        let label = differences.iter().any(|difference| difference.part.goes_in());
        let unknown = gaps.iter().any(|gap| gap.part.goes_in());
        let inputs = match (label, unknown) {
            (false, false) => "nothing that went in differs",
            (true, false) => "nothing that went in and decides this differs",
            (_, true) => "nothing that went in and could be compared explains it",
        };
        (format!("{inputs}, and {}", consequence(first)), first.part)
    } else if let Some(first) = first_with(&|difference| difference.bearing == Bearing::Label) {
        let labels = differences.iter().filter(|difference| difference.bearing == Bearing::Label);
        (format!("what was computed is the same; {}", all_of(first.part, labels)), first.part)
    } else if let Some(first) = differences.first() {
        (format!("all that was compared is the same, except for files: {first}; one run was changed"), first.part)
    } else if let Some((run, problem)) = problem {
        return format!(
            "nothing that was compared differs, and {run} does not verify at `files`: {}",
            printable(problem)
        );
    } else if let Some(gap) = gaps.first() {
        return format!(
            "nothing that was compared differs; the {} could not be compared: {}",
            gap.part.name(),
            gap.reason
        );
    } else {
        return "the two runs are the same claim".to_owned();
    };
    let earlier: Vec<&str> = gaps.iter().filter(|gap| gap.part < part).map(|gap| gap.part.name()).collect();
    let gap = if earlier.is_empty() { String::new() } else { format!(" (not compared: {})", earlier.join(", ")) };
    format!("{text}{gap}")
}

/// The differences of a part, the first few of them.
fn all_of<'a>(part: Part, differences: impl Iterator<Item = &'a Difference>) -> String {
    const MOST: usize = 3;
    let all: Vec<String> = differences.filter(|found| found.part == part).map(ToString::to_string).collect();
    let more = if all.len() > MOST { format!("; and {} more", all.len() - MOST) } else { String::new() };
    format!("{}{more}", all[..all.len().min(MOST)].join("; "))
}

/// What came out first, and what that means.
fn consequence(first: &Difference) -> String {
    match &first.what {
        What::Stream(stream) => {
            format!(
                "step {} has other rows: the data was prepared otherwise (other binary, or one run was changed)",
                stream.step
            )
        }
        What::Step(step) if first.bearing == Bearing::Recorded => {
            format!("step {} has its {} in one run only: one run was changed", step.step, step.first())
        }
        What::Step(step) => format!("step {} has another {}: {COMPUTED}", step.step, step.first()),
        What::Weights(weights) => format!(
            "every step is the same, but of the final weights {} of {} tensors differ, most of all `{}`: one run was changed",
            weights.differing,
            weights.tensors,
            printable(weights.first())
        ),
        What::Values(values) if first.part == Part::InitialState || first.part == Part::Steps => {
            format!("{values}: {COMPUTED}")
        }
        What::Values(values) => format!("{values}: it was evaluated otherwise, or one run was changed"),
        What::Source(_) | What::Files(_) => format!("{first}: one run was changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Values;
    use super::*;

    fn value(part: Part, bearing: Bearing, name: &str) -> Difference {
        let values = Values { name: name.to_owned(), a: Some("1".to_owned()), b: Some("2".to_owned()) };
        Difference::of_values(part, bearing, values)
    }

    #[test]
    fn the_earliest_that_can_explain_it_is_named() {
        let label = value(Part::Recipe, Bearing::Label, "governance.contact");
        let records = value(Part::Recipe, Bearing::Records, "save_steps");
        let seed = value(Part::Seeds, Bearing::Training, "the seed");
        let steps = value(Part::Steps, Bearing::Trained, "the number of steps");
        let named = |differences: &[&Difference]| {
            of(&differences.iter().map(|found| (*found).clone()).collect::<Vec<_>>(), &[], None)
        };
        assert_eq!(named(&[]), "the two runs are the same claim");
        assert_eq!(named(&[&label, &records]), "save_steps is 1 in A, 2 in B");
        assert_eq!(named(&[&label, &records, &seed, &steps]), "the seed is 1 in A, 2 in B");
        assert!(
            named(&[&label, &records, &steps]).starts_with("nothing that went in and decides this differs, and the")
        );
        assert!(named(&[&steps]).starts_with("nothing that went in differs, and the number of steps is 1 in A"));
        assert_eq!(named(&[&label]), "what was computed is the same; governance.contact is 1 in A, 2 in B");
    }

    #[test]
    fn what_was_not_compared_is_said() {
        let gap = NotCompared { part: Part::Recipe, reason: "it is gone".to_owned() };
        let gaps = std::slice::from_ref(&gap);
        assert!(of(&[], gaps, None).ends_with("the recipe could not be compared: it is gone"));
        let seed = value(Part::Seeds, Bearing::Training, "the seed");
        assert!(of(&[seed], gaps, None).ends_with("(not compared: recipe)"));
        let problem = of(&[], &[], Some((Run::B, "metrics.jsonl: step 1")));
        assert!(problem.ends_with("B does not verify at `files`: metrics.jsonl: step 1"), "{problem}");
    }
}
