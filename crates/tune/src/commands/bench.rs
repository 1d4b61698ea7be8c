//! `tune bench`

use std::process::ExitCode;

use tune_train::bench::Measurement;

use super::device::on_device;
use super::{bench_gpu, open};
use crate::cli::{BenchOptions, RecipeOptions};
use crate::printer::Printer;

pub(crate) fn execute(options: &BenchOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let Some(recipe) = options.recipe.clone() else { return bench_gpu::execute(options, printer) };
    let recipe = RecipeOptions { recipe, overrides: options.overrides.clone(), source: options.source.clone() };
    let (job, opened) = open::job_on_device(&recipe, printer)?;
    let steps = options.steps;
    let measurement = on_device!(&opened, job.recipe.numerics, B, devices => tune_train::bench::bench::<B>(&job, devices, steps, printer))?;
    printer.clear();
    if options.json {
        printer.result(&serde_json::to_string_pretty(&measurement)?);
    } else {
        table(&measurement, printer);
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn table(measurement: &Measurement, printer: &mut Printer) {
    let mut row = |name: &str, value: String| printer.result(&format!("{name:<24}{value}"));
    let seconds: f64 = measurement.seconds_by_operation.values().sum();
    row("tokens/s", format!("{:.0}", measurement.tokens_per_second));
    row("supervised tokens/s", format!("{:.0}", measurement.supervised_tokens_per_second));
    row("steps measured", measurement.steps.len().to_string());
    row("seconds a step", format!("{seconds:.3}"));
    if let Some(bytes) = measurement.peak_rss_bytes {
        row("peak memory", format!("{:.2} GB", bytes as f64 / 1e9));
    }
    let (products, peak) = (measurement.weight_product_flops, measurement.peak_flops);
    row("multiply-add peak", format!("{:.0} GFLOP/s, measured on registers alone", peak / 1e9));
    row(
        "products with weights",
        format!("{:.0} GFLOP/s over the whole step, {:.0} % of the peak", products / 1e9, 100.0 * products / peak),
    );
    let mut operations: Vec<_> = measurement.seconds_by_operation.iter().collect();
    operations.sort_by(|a, b| b.1.total_cmp(a.1));
    for (operation, time) in operations {
        row(&format!("  {operation}"), format!("{time:>8.4} s {:>5.1} %", 100.0 * time / seconds));
    }
}
