//! The split of a step into micro-batches does not show: losses and the gradient of each row have the same bits.

use burn_flex::Flex;
use tune_model::{Mode, Model};
use tune_schema::seed::Seed;

use super::support::*;

const TRAIN: Mode = Mode::Train { step: 3 };

fn rows() -> Vec<Row> {
    step_of_eight(&wide(true)).iter().map(|examples| Row::pack(examples)).collect()
}

/// The step in micro-batches of `size` rows, of which `first(n)` is the number of the first of micro-batch `n`.
fn split(model: &Model<Flex>, size: usize, mode: Mode, first: impl Fn(usize) -> usize) -> Step {
    let mut step = Step::default();
    for (n, rows) in rows().chunks(size).enumerate() {
        step.add(model, &batch(rows, first(n) as u32), mode);
    }
    step
}

/// 8 × 1, 4 × 2, 2 × 4, 1 × 8, and sizes that leave a rest.
fn check(model: &Model<Flex>) {
    let want = split(model, 8, TRAIN, |_| 0);
    assert!(want.gradients.values().all(|rows| rows.len() == 8));
    for size in [1, 2, 3, 4, 5] {
        assert_same_step(&format!("{size} rows at a time"), &split(model, size, TRAIN, |n| n * size), &want);
    }
}

#[test]
fn lora_with_dropout() {
    check(&adapted(&wide(true), 0.25, SEED));
    check(&adapted(&wide(false), 0.25, SEED));
}

#[test]
fn full_training() {
    for tied in [true, false] {
        let mut model = model(&wide(tied));
        model.train_all();
        check(&model);
    }
}

/// What keys dropout shows: the step, the seed, the number of a row, and whether it is training at all.
#[test]
fn another_dropout_shows() {
    let model = adapted(&wide(true), 0.25, SEED);
    let want = split(&model, 4, TRAIN, |n| n * 4);
    let others = [
        ("another step", split(&model, 4, Mode::Train { step: 4 }, |n| n * 4)),
        ("another seed", split(&adapted(&wide(true), 0.25, Seed(8)), 4, TRAIN, |n| n * 4)),
        ("another probability", split(&adapted(&wide(true), 0.5, SEED), 4, TRAIN, |n| n * 4)),
        ("other numbers", split(&model, 4, TRAIN, |n| n * 4 + 1)),
        ("evaluation", split(&model, 4, Mode::Evaluate, |n| n * 4)),
    ];
    for (other, step) in &others {
        assert_ne!(bits(&step.losses), bits(&want.losses), "{other} does not show");
        for (name, gradients) in &step.gradients {
            // Row 6 has no supervised token, and row 2 one that is predicted from a token alone, whose query and key
            // have no gradient.
            for row in [0, 1, 3, 4, 5, 7] {
                assert_ne!(bits(&gradients[row]), bits(&want.gradients[name][row]), "{other}: {name}, row {row}");
            }
        }
    }
}

/// The mistake that this guards against: counting rows from 0 in every micro-batch.
#[test]
fn rows_counted_from_0_in_each_micro_batch_show() {
    let model = adapted(&wide(true), 0.25, SEED);
    let (want, got) = (split(&model, 8, TRAIN, |_| 0), split(&model, 4, TRAIN, |_| 0));
    for (name, rows) in &got.gradients {
        for (row, (got, want)) in rows.iter().zip(&want.gradients[name]).enumerate() {
            let same = bits(got) == bits(want);
            assert_eq!(same, row < 4 || row == 6, "{name}, row {row}");
        }
    }
}

/// A row has its own gradient: in another order, the same gradients come in that order.
#[test]
fn gradients_come_in_the_order_of_rows() {
    let mut model = model(&wide(false));
    model.train_all();
    let want = Step::of(&model, &batch(&rows(), 0), TRAIN);
    let reversed: Vec<Row> = rows().into_iter().rev().collect();
    let got = Step::of(&model, &batch(&reversed, 0), TRAIN);
    for (name, gradients) in &got.gradients {
        for (row, (got, want)) in gradients.iter().rev().zip(&want.gradients[name]).enumerate() {
            assert_same_bits(&format!("{name}, row {row}"), got, want);
        }
        assert_ne!(bits(&gradients[0]), bits(&want.gradients[name][0]), "{name}: rows 0 and 7");
    }
}
