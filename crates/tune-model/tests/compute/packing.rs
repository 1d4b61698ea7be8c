//! Packed equals unpacked.
//!
//! What the contract gives: every operation of the forward pass and the gradient of every activation belong to a token
//! or to a segment, so *losses* have the same bits however examples are packed. The gradient of a *weight* is one chain
//! of `fma` over the tokens of a row. A row's gradient is therefore not the rounded sum of its examples' gradients, and
//! the two are compared within a tolerance; but tokens whose own gradient is 0 leave a chain as it is, so a row in which
//! one example alone is supervised has the gradient of that example, bit for bit.
//!
//! Dropout is keyed by the place in the row, so all this holds without dropout, and for the first example of a row.

use burn_flex::Flex;
use tune_kernels::layout::Repeat;
use tune_model::{Batch, Mode, Model, ModelError, RowView};

use super::support::*;

const TRAIN: Mode = Mode::Train { step: 0 };

/// Examples of all lengths, and single tokens.
fn examples() -> Vec<Example> {
    step_of_eight(&wide(true)).concat()
}

/// The batch of one example by itself.
fn alone(example: &Example) -> Batch {
    batch(&[Row::pack(std::slice::from_ref(example))], 0)
}

fn losses_alone(model: &Model<Flex>, examples: &[Example]) -> Vec<f32> {
    examples.iter().flat_map(|example| model.losses(&alone(example))).collect()
}

#[test]
fn losses_do_not_depend_on_packing() {
    let packed = step_of_eight(&wide(true));
    let rows: Vec<Row> = packed.iter().map(|examples| Row::pack(examples)).collect();
    let unpacked: Vec<Row> = examples().iter().map(|example| Row::pack(std::slice::from_ref(example))).collect();
    let ways = [
        ("packed rows together", batch(&rows, 0)),
        ("one row for all", batch(&[Row::pack(&examples())], 0)),
        ("one row for each", batch(&unpacked, 0)),
    ];
    for model in models() {
        let want = losses_alone(&model, &examples());
        assert!(want.len() > 60 && want.iter().all(|loss| loss.is_finite() && *loss > 0.0));
        for (way, batch) in &ways {
            assert_same_bits(way, &model.losses(batch), &want);
            assert_same_bits(way, &Step::of(&model, batch, TRAIN).losses, &want);
            assert_same_bits(way, &Step::of(&model, batch, Mode::Evaluate).losses, &want);
        }
    }
}

#[test]
fn a_row_with_one_supervised_example_has_its_gradient() {
    let all = &step_of_eight(&wide(true))[1];
    for model in models() {
        for chosen in 0..all.len() {
            let only = |(i, example): (usize, &Example)| {
                if i == chosen { example.clone() } else { example.unsupervised() }
            };
            let examples: Vec<Example> = all.iter().enumerate().map(only).collect();
            let packed = Step::of(&model, &batch(&[Row::pack(&examples)], 0), TRAIN);
            assert_same_step("in a row", &packed, &Step::of(&model, &alone(&all[chosen]), TRAIN));
        }
    }
}

#[test]
fn the_gradient_of_a_row_is_that_of_its_examples() {
    let all = &step_of_eight(&wide(true))[1];
    for model in models() {
        let packed = Step::of(&model, &batch(&[Row::pack(all)], 0), TRAIN);
        let steps: Vec<Step> = all.iter().map(|example| Step::of(&model, &alone(example), TRAIN)).collect();
        for (name, rows) in &packed.gradients {
            let sum = |steps: &[Step]| -> Vec<f64> {
                let element = |i| steps.iter().map(|step| f64::from(step.gradients[name][0][i])).sum();
                (0..rows[0].len()).map(element).collect()
            };
            // Both are chains of at most 22 terms of about the same size; seen: at most 1.7e-6.
            let off = distance(&rows[0], &sum(&steps));
            assert!(off <= 1e-5, "{name}: {off:e}");
            assert!(distance(&rows[0], &sum(&steps[1..])) > 0.01, "{name}: the first example does not show");
        }
    }
}

/// Each mistake in joining examples changes a bit of the later examples, and none of the first one.
#[test]
fn a_wrong_segment_or_position_shows() {
    let all = step_of_eight(&wide(true))[1].clone();
    let right = Row::pack(&all);
    let one_segment = Row { segments: vec![1; right.ids.len()], ..right.clone() };
    let running = Row { positions: (0..right.ids.len() as u32).collect(), ..right.clone() };
    let mut late = right.clone();
    late.segments[all[0].ids.len()] = 1;
    let first = all[0].ids.len() - all[0].answer;
    for model in models() {
        let want = losses_alone(&model, &all);
        for (mistake, row) in [("one segment", &one_segment), ("running positions", &running), ("a late end", &late)] {
            let got = model.losses(&batch(std::slice::from_ref(row), 0));
            assert_same_bits(mistake, &got[..first], &want[..first]);
            assert_ne!(bits(&got[first..]), bits(&want[first..]), "{mistake} does not show");
        }
        // Rotation depends on distances only: running positions change the last bits and nothing else.
        let got = model.losses(&batch(std::slice::from_ref(&running), 0));
        assert!(distance(&got, &want.iter().map(|loss| f64::from(*loss)).collect::<Vec<_>>()) < 1e-5);
    }
}

/// With dropout, an example's mask is that of its place in the row.
#[test]
fn dropout_belongs_to_the_place_in_the_row() {
    let model = adapted(&wide(true), 0.3, SEED);
    let all = &step_of_eight(&wide(true))[1];
    let packed = Step::of(&model, &batch(&[Row::pack(all)], 0), TRAIN).losses;
    let alone: Vec<f32> = all.iter().flat_map(|example| Step::of(&model, &alone(example), TRAIN).losses).collect();
    let first = all[0].ids.len() - all[0].answer;
    assert_same_bits("the first example", &packed[..first], &alone[..first]);
    assert_ne!(bits(&packed[first..]), bits(&alone[first..]));
}

/// Examples with a common beginning, as chat templates make them: the third one has more in common with the second than
/// with the first, the last one is the first again, and one of another place in its segment is like none.
fn with_a_common_beginning() -> (Vec<Row>, Vec<Repeat>) {
    let config = wide(true);
    let system = tokens(&config, 40, 9);
    let example = |parts: &[&[u32]], answer| Example { ids: parts.concat(), answer };
    let [first, second, third] = [(41, 6), (42, 8), (43, 5)].map(|(key, count)| tokens(&config, key, count));
    let examples = [
        example(&[&system, &first], 11),
        example(&[&system, &second], 12),
        example(&[&system, &second[..4], &third], 14),
        example(&[&first], 2),
        example(&[&system, &first], 10),
    ];
    let repeats = vec![
        Repeat { of: 0, at: 14..23 },
        Repeat { of: 0, at: 30..39 },
        Repeat { of: 23, at: 39..43 },
        Repeat { of: 0, at: 52..66 },
    ];
    (vec![Row::pack(&examples[..2]), Row::pack(&examples[2..])], repeats)
}

#[test]
fn what_examples_have_in_common_is_found() {
    let (rows, repeats) = with_a_common_beginning();
    assert_eq!(batch(&rows, 0).repeats, repeats);
    // Not in a row whose positions run on, where the same tokens are at other places.
    let running = rows.iter().map(|row| Row { positions: (0..row.ids.len() as u32).collect(), ..row.clone() });
    assert_eq!(batch(&running.collect::<Vec<_>>(), 0).repeats, [Repeat { of: 0, at: 30..30 + 9 }]);
}

#[test]
fn what_examples_have_in_common_changes_no_bit() {
    let (rows, _) = with_a_common_beginning();
    let shared = batch(&rows, 0);
    let apart = Batch { repeats: Vec::new(), ..shared.clone() };
    // No repeat at all: the answer of one example in place of another one's.
    let wrong = Batch { repeats: vec![Repeat { of: 9, at: 23..29 }], ..shared.clone() };
    for mut model in models() {
        for checkpointing in [false, true] {
            model.set_gradient_checkpointing(checkpointing);
            let want = Step::of(&model, &apart, TRAIN);
            assert_same_step("shared", &Step::of(&model, &shared, TRAIN), &want);
            assert_same_bits("in evaluation", &model.losses(&shared), &model.losses(&apart));
            assert_ne!(bits(&Step::of(&model, &wrong, TRAIN).losses), bits(&want.losses), "nothing was shared");
        }
    }
}

/// With dropout no two tokens are the same, in training.
#[test]
fn with_dropout_nothing_is_shared() {
    let model = adapted(&wide(true), 0.3, SEED);
    let (rows, _) = with_a_common_beginning();
    let shared = batch(&rows, 0);
    let apart = Batch { repeats: Vec::new(), ..shared.clone() };
    assert_same_step("in training", &Step::of(&model, &shared, TRAIN), &Step::of(&model, &apart, TRAIN));
    assert_same_bits("in evaluation", &model.losses(&shared), &model.losses(&apart));
    // In evaluation there is no dropout, and what repeats is used.
    let wrong = Batch { repeats: vec![Repeat { of: 9, at: 23..29 }], ..shared.clone() };
    assert_ne!(bits(&model.losses(&wrong)), bits(&model.losses(&apart)), "nothing was shared");
}

#[test]
fn a_label_at_the_start_of_a_segment_is_refused() {
    let mut row = Row::pack(&step_of_eight(&wide(true))[1]);
    let start = row.segments.iter().position(|segment| *segment == 2).expect("a second segment");
    row.labels[start] = row.ids[start] as i32;
    let Row { ids, labels, positions, segments } = &row;
    let view = RowView { ids, labels, positions, segments };
    let error = Batch::from_rows(&[view], 0).expect_err("nothing predicts that token");
    assert!(matches!(error, ModelError::LabelAtStart { row: 0, place } if place == start), "{error}");
}
