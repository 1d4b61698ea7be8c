//! Logits with a cache are those of the full forward pass, those are what training computes, and answers do not depend
//! on their company.

use std::collections::BTreeSet;

use burn_flex::Flex;
use tune_kernels::elementary::{exp_one, ln};
use tune_kernels::reference::{Fused, lane_sum};
use tune_model::Model;

use super::support::*;

/// Longer than a block of keys in any register width.
const LENGTH: usize = 80;

/// Bare and with an adapter, whose dropout must not act here.
fn models() -> Vec<Model<Flex>> {
    vec![model(&wide(true)), model(&wide(false)), adapted(&wide(true), 0.5, SEED), adapted(&wide(false), 0.5, SEED)]
}

fn text() -> Vec<u32> {
    tokens(&wide(true), 40, LENGTH)
}

fn all_bits(logits: &[Vec<f32>]) -> Vec<Vec<u32>> {
    logits.iter().map(|logits| bits(logits)).collect()
}

#[test]
fn the_cache_gives_the_logits_of_the_full_pass() {
    for model in models() {
        let (full, cached) = (model.logits(&text()), model.logits_by_cache(&text()));
        assert_eq!((full.len(), full[0].len()), (LENGTH, 101));
        assert_eq!(cached.len(), LENGTH);
        for (place, (full, cached)) in full.iter().zip(&cached).enumerate() {
            assert_same_bits(&format!("place {place}"), cached, full);
        }
    }
}

/// A token changes every later place and no earlier one, in both ways.
#[test]
fn another_token_shows_from_its_place_on() {
    let (text, mut other) = (text(), text());
    other[30] = (other[30] + 1) % 101;
    for model in models() {
        for logits in [Model::logits, Model::logits_by_cache] {
            let (text, other) = (logits(&model, &text), logits(&model, &other));
            assert_eq!(all_bits(&text[..30]), all_bits(&other[..30]));
            assert!((30..LENGTH).all(|place| bits(&text[place]) != bits(&other[place])));
        }
    }
}

/// The loss of a token by the contract's formula.
fn loss(logits: &[f32], label: u32) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = lane_sum(logits.len(), |sum, i| sum + exp_one::<Fused>(logits[i] - max));
    ln::<Fused>(sum) - (logits[label as usize] - max)
}

/// Generation has its own way through the blocks; it computes what training computes.
#[test]
fn logits_are_those_of_training() {
    let text = text();
    let supervised = Row::pack(&[Example { ids: text.clone(), answer: 1 }]);
    for model in models() {
        let logits = model.logits(&text);
        let losses: Vec<f32> = logits.iter().zip(&text[1..]).map(|(logits, label)| loss(logits, *label)).collect();
        assert_same_bits("losses", &model.losses(&batch(std::slice::from_ref(&supervised), 0)), &losses);
        let shifted: Vec<f32> =
            logits[1..].iter().zip(&text[1..]).map(|(logits, label)| loss(logits, *label)).collect();
        assert_ne!(bits(&losses[..LENGTH - 2]), bits(&shifted[..LENGTH - 2]));
    }
}

fn largest(logits: &[f32]) -> u32 {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32
}

/// Greedy answer by the full forward pass for each token.
fn greedy(model: &Model<Flex>, prompt: &[u32], max_new: usize, stop: &[u32]) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    while ids.len() < prompt.len() + max_new {
        let token = largest(&model.logits(&ids)[ids.len() - 1]);
        if stop.contains(&token) {
            break;
        }
        ids.push(token);
    }
    ids.split_off(prompt.len())
}

/// Prompts of several lengths.
fn prompts() -> Vec<Vec<u32>> {
    [5, 1, 17, 2, 30, 9].iter().zip(50..).map(|(length, key)| tokens(&wide(true), key, *length)).collect()
}

#[test]
fn answers_do_not_depend_on_their_company() {
    let prompts = prompts();
    let slices: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    for model in models() {
        let want: Vec<Vec<u32>> = slices.iter().map(|prompt| greedy(&model, prompt, 12, &[])).collect();
        assert!(want.iter().enumerate().all(|(i, answer)| !want[..i].contains(answer)), "the answers are different");
        assert_eq!(model.generate_greedy_batch(&slices, 12, &[]), want);
        for (prompt, want) in slices.iter().zip(&want) {
            assert_eq!(model.generate_greedy_batch(&[prompt], 12, &[]), std::slice::from_ref(want));
        }
        // In another order, each prompt keeps its own answer.
        let reversed: Vec<&[u32]> = slices.iter().rev().copied().collect();
        let turned: Vec<Vec<u32>> = want.iter().rev().cloned().collect();
        assert_eq!(model.generate_greedy_batch(&reversed, 12, &[]), turned);
        assert_ne!(turned, want);
    }
}

/// Sequences end at different times, some at once; the others go on as if alone.
#[test]
fn stop_tokens_end_an_answer_and_no_other() {
    let prompts = prompts();
    let slices: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    for model in models() {
        let free: Vec<Vec<u32>> = slices.iter().map(|prompt| greedy(&model, prompt, 12, &[])).collect();
        let stop = [free[0][0], free[2][7]];
        let want: Vec<Vec<u32>> = slices.iter().map(|prompt| greedy(&model, prompt, 12, &stop)).collect();
        assert_eq!(model.generate_greedy_batch(&slices, 12, &stop), want);
        assert!(want[0].is_empty() && want[2].len() <= 7);
        let lengths: BTreeSet<usize> = want.iter().map(Vec::len).collect();
        assert!(lengths.len() >= 3, "answers end at different times: {lengths:?}");
        assert!(want.iter().zip(&free).all(|(want, free)| free.starts_with(want)));
    }
}

#[test]
fn nothing_is_generated_where_nothing_is_asked_for() {
    let model = model(&wide(true));
    assert_eq!(model.generate_greedy_batch(&[&[1, 2]], 0, &[]), [Vec::<u32>::new()]);
    assert!(model.generate_greedy_batch(&[], 5, &[]).is_empty());
}

/// With a head of zeros all logits are equal.
#[test]
fn the_lowest_id_among_equals_is_taken() {
    let config = wide(false);
    let mut tensors = weights(&config, 1);
    tensors.get_mut("lm_head.weight").expect("a head").1.fill(0.0);
    assert_eq!(load(&config, &tensors).generate_greedy_batch(&[&[7, 8]], 3, &[]), [vec![0; 3]]);
}
