//! `tune run`

use std::process::ExitCode;

use tune_train::evaluate::{Answer, Scores};
use tune_train::{RunFolder, RunOutcome};

use super::device::on_device;
use super::open;
use crate::cli::RecipeOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &RecipeOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let (job, opened) = open::job_on_device(options, printer)?;
    let folder = RunFolder::new(open::output_dir(&job));
    let outcome =
        on_device!(&opened, job.recipe.numerics, B, devices => tune_train::run::<B>(&job, &folder, devices, printer))?;
    printer.clear();
    summary(&job.recipe, &folder, &outcome, printer);
    Ok(ExitCode::SUCCESS)
}

/// What the run came to, and what to do with it.
fn summary(recipe: &tune_schema::recipe::Recipe, folder: &RunFolder, outcome: &RunOutcome, printer: &mut Printer) {
    if outcome.already_complete {
        printer.note("this run is complete already; nothing was computed");
    }
    let shown = recipe.eval_samples_shown as usize;
    let texts = |scores: &'_ Scores| scores.answers.iter().filter_map(Answer::texts).cloned().collect::<Vec<_>>();
    for (before, after) in texts(&outcome.before).iter().zip(&texts(&outcome.after)).take(shown) {
        printer.result(&format!("prompt:  {}", before.prompt.trim()));
        printer.result(&format!("before:  {}", one_line(&before.answer)));
        printer.result(&format!("after:   {}", one_line(&after.answer)));
        printer.result(&format!("correct: {}\n", if after.correct { "yes" } else { "no" }));
    }
    let withheld = outcome.after.answers.iter().filter(|answer| answer.texts().is_none()).count();
    if withheld > 0 {
        printer.result(&format!("{withheld} answers are to rows of unshareable sources: their texts are kept nowhere"));
    }
    let claim = &outcome.manifest.claim;
    let evaluation = &claim.evaluation;
    if evaluation.exact_match_examples > 0 {
        printer.result(&format!(
            "held-out exact match: {} of {n} before, {} of {n} after",
            evaluation.exact_match_before,
            evaluation.exact_match_after,
            n = evaluation.exact_match_examples
        ));
    }
    if let (Some(before), Some(after)) = (evaluation.loss_before, evaluation.loss_after) {
        printer.result(&format!("held-out loss: {:.4} before, {:.4} after", before.value(), after.value()));
    }
    let stream = &claim.stream;
    printer.result(&format!(
        "{} steps over {} tokens ({} supervised) in {:.1} s, {:.0} tokens/s on {}",
        claim.training.steps,
        stream.tokens,
        stream.supervised_tokens,
        outcome.environment.train_seconds,
        outcome.environment.tokens_per_second,
        outcome.environment.backend
    ));
    let place = folder.path().display();
    printer.result(&format!("claim: {}", outcome.manifest.claim_id));
    printer.result(&format!("run folder: {place}"));
    printer.result(&format!("next: `tune verify {place} --level full` computes it again and compares every bit"));
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', " ⏎ ").chars().take(160).collect()
}
