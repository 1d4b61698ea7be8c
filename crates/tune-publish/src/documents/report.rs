//! The technical report: what was trained from what, how, and what came of it, in enough detail to do it again.

use std::collections::BTreeMap;

use super::{PROJECT, card, cell, code, commands};
use tune_schema::recipe::Numerics;

use crate::facts::Facts;

/// The report's file.
pub const FILE_NAME: &str = "REPORT.md";

/// The report.
#[must_use]
pub fn report(facts: &Facts) -> String {
    let (claim, environment) = (facts.claim(), &facts.environment);
    let mut text = format!("# How {} was made\n\nClaim `{}`.\n\n", cell(&facts.name()), facts.claim_id());
    text += "## Method\n\n";
    let trained = if facts.is_adapter() {
        format!(
            "Low-rank matrices (LoRA, Hu et al. 2021) were trained beside the frozen weights of `{}`: rank {}, on {} linear layers.",
            code(&facts.base.name),
            facts.recipe.lora_r,
            claim.inputs.adapted_modules.len()
        )
    } else {
        format!("All weights of `{}` were trained.", code(&facts.base.name))
    };
    let training = &claim.training;
    text += &format!(
        "{trained} {} optimizer steps of AdamW (Loshchilov and Hutter 2019), {} packed rows a step, examples in a row isolated \
         from one another; the loss is averaged over the supervised tokens of a step. Gradients are clipped to a global norm of {}.\n\n",
        training.steps, training.rows_per_step, training.max_grad_norm
    );
    text += "## Settings\n\nEvery setting of the resolved recipe; defaults are written out.\n\n| setting | value |\n|---|---|\n";
    for (key, value) in facts.settings() {
        text += &format!("| {} | {} |\n", cell(&key), cell(&value));
    }
    text += "\n## Random streams\n\n| stream | seed |\n|---|---|\n";
    for (name, seed) in &claim.inputs.seeds {
        text += &format!("| {} | {} |\n", cell(name), cell(seed));
    }
    text += "\n## Data\n\n";
    let stream = &claim.stream;
    let counts: BTreeMap<&str, u64> = BTreeMap::from([
        ("rows of tokens", stream.rows),
        ("tokens", stream.tokens),
        ("supervised tokens", stream.supervised_tokens),
        ("examples trained on", stream.train_examples),
        ("examples held out", stream.eval_examples),
        ("examples left out for their length", stream.dropped_examples),
        ("examples cut", stream.truncated_examples),
    ]);
    text += "| count | |\n|---|---|\n";
    for (name, count) in counts {
        text += &format!("| {name} | {count} |\n");
    }
    text += &format!("\nDigest of the stream of rows: `{}`. Sources: see `README.md`.\n\n", stream.digest);
    text += &card::results(facts);
    text += &format!(
        "## Machine\n\n{} ({}), {} threads, {}; {:.0} s of training at {:.0} tokens/s. {}: the arithmetic is \
         `{}`, see {PROJECT}/blob/main/docs/numerics.md.\n\n",
        cell(&environment.device),
        cell(&environment.backend),
        environment.threads,
        cell(&environment.platform),
        environment.train_seconds,
        environment.tokens_per_second,
        match facts.claim().inputs.numerics {
            Numerics::ExactF32V1 => "None of this decides a bit",
            Numerics::PinnedBf16V1 => "Device, driver and binary decide the bits",
        },
        facts.numerics()
    );
    text += &format!(
        "## To do it again\n\nWith `tune` {}: `tune run run/recipe.yaml` after putting the sources where the recipe names them (digests \
         in `run/datasets.lock`), or `tune verify . --level full{}`. The claim must be the same.\n",
        cell(&environment.tune_version),
        code(&(commands::open_sources(facts) + &commands::withheld_sources(facts)))
    );
    text
}
