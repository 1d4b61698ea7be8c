//! `tune bench --gpu`: one command for everything that only a machine with a GPU can show. It builds nothing, reads no
//! file and needs no network: the quickstart is part of the binary.

use std::process::ExitCode;

use anyhow::bail;
use burn_flex::{Flex, FlexDevice};
use serde::Serialize;
use tune_kernels::cube::device::{Found, Opened, find};
use tune_kernels::cube::{Cuda, CudaRuntime, PinnedCuda, PinnedWgpu, Runtime, Wgpu, WgpuRuntime};
use tune_schema::recipe::Numerics;
use tune_train::bench::device::{DeviceOptions, DeviceReport, measure, shapes};

use super::device::guarded;
use crate::cli::BenchOptions;
use crate::printer::Printer;

/// The quickstart's files.
const QUICKSTART: [(&str, &[u8]); 6] = [
    ("recipes/quickstart.yaml", include_bytes!("../../../../recipes/quickstart.yaml")),
    ("recipes/quickstart/records.jsonl", include_bytes!("../../../../recipes/quickstart/records.jsonl")),
    ("models/quickstart-base/config.json", include_bytes!("../../../../models/quickstart-base/config.json")),
    (
        "models/quickstart-base/model.safetensors",
        include_bytes!("../../../../models/quickstart-base/model.safetensors"),
    ),
    ("models/quickstart-base/tokenizer.json", include_bytes!("../../../../models/quickstart-base/tokenizer.json")),
    (
        "models/quickstart-base/tokenizer_config.json",
        include_bytes!("../../../../models/quickstart-base/tokenizer_config.json"),
    ),
];

/// Everything that was found.
#[derive(Serialize)]
struct Report {
    tune_version: &'static str,
    device: String,
    name: String,
    driver: String,
    /// Why the device may not compute `exact-f32/1`; empty where it may.
    reasons: Vec<String>,
    /// Why no recipe may ask for `pinned-bf16/1` here; what is said of it then comes from products without matrix
    /// instructions.
    pinned_reasons: Vec<String>,
    #[serde(flatten)]
    found: DeviceReport,
}

pub(crate) fn execute(options: &BenchOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let all = shapes();
    if let Some(unknown) = options.models.iter().find(|name| all.iter().all(|shape| shape.name != *name)) {
        let known: Vec<&str> = all.iter().map(|shape| shape.name).collect();
        bail!("`--model {unknown}` names no shape, expected one of: {}", known.join(", "));
    }
    let chosen = |name: &str| {
        if options.models.is_empty() { name != "tiny" } else { options.models.iter().any(|model| model == name) }
    };
    let device_options = DeviceOptions {
        comparisons: options.comparisons,
        fused: true,
        shapes: all.into_iter().filter(|shape| chosen(shape.name)).collect(),
        steps: usize::try_from(options.steps)?,
    };
    let place = tempfile::tempdir()?;
    for (name, bytes) in QUICKSTART {
        let path = place.path().join(name);
        tune_fs::create_dir_all(path.parent().unwrap_or(place.path()))?;
        tune_fs::write_atomic(&path, bytes)?;
    }
    let report = match find(&[options.device])? {
        Opened::Cpu => bail!("the CPU is no GPU"),
        Opened::Cuda(found) => report::<CudaRuntime, _>(&found[0], device_options, printer, |options, printer| {
            guarded(|| {
                Ok(measure::<Cuda, PinnedCuda, Flex>(&found[0].device, &FlexDevice, place.path(), options, printer)?)
            })
        }),
        Opened::Wgpu(found) => report::<WgpuRuntime, _>(&found[0], device_options, printer, |options, printer| {
            guarded(|| {
                Ok(measure::<Wgpu, PinnedWgpu, Flex>(&found[0].device, &FlexDevice, place.path(), options, printer)?)
            })
        }),
    }?;
    printer.clear();
    if options.json {
        printer.result(&serde_json::to_string_pretty(&report)?);
    } else {
        table(&report, printer);
    }
    Ok(if report.found.is_right() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Probes the device, then measures it.
fn report<R: Runtime, F>(
    found: &Found<R::Device>,
    mut options: DeviceOptions,
    printer: &mut Printer,
    measure: F,
) -> anyhow::Result<Report>
where
    F: FnOnce(&DeviceOptions, &mut Printer) -> anyhow::Result<DeviceReport>,
{
    let probe = found.probe::<R>()?;
    options.fused = probe.fma_not_fused == 0;
    Ok(Report {
        tune_version: env!("CARGO_PKG_VERSION"),
        device: found.choice.to_string(),
        name: found.name.clone(),
        driver: found.driver.clone(),
        reasons: probe.reasons(),
        pinned_reasons: found.reasons::<R>(Numerics::PinnedBf16V1),
        found: measure(&options, printer)?,
    })
}

fn table(report: &Report, printer: &mut Printer) {
    let mut row = |name: &str, value: String| printer.result(&format!("{name:<34}{value}"));
    row("device", format!("{}, {}, {}", report.device, report.name, report.driver));
    row("exact-f32/1", if report.reasons.is_empty() { "yes".to_owned() } else { report.reasons.join("; ") });
    for compared in &report.found.comparisons {
        let outcome = compared.difference.clone().unwrap_or_else(|| format!("{} values, all equal", compared.values));
        row(&format!("  {}", compared.operations), outcome);
    }
    row(
        "quickstart",
        match &report.found.quickstart {
            None => "not compared: the device's `fma` is not fused".to_owned(),
            Some(both) if both.claim == both.claim_on_the_cpu => format!("the CPU's claim, {}", both.claim),
            Some(both) => format!("DIFFERS: {} here, {} on the CPU", both.claim, both.claim_on_the_cpu),
        },
    );
    row("multiply-add peak", format!("{:.2} TFLOP/s on registers alone", report.found.peak_flops / 1e12));
    for product in &report.found.products {
        let [tokens, inputs, outputs] = product.shape;
        let name = format!("  {} {} {}", product.model, product.numerics, product.direction);
        let rate = format!("{:.2} TFLOP/s, {:.0} % of the peak", product.flops / 1e12, 100.0 * product.of_peak);
        row(&name, format!("{tokens} × {inputs} → {outputs}: {rate}"));
    }
    for training in &report.found.training {
        let [rows, tokens] = training.batch;
        let speed = match (training.tokens_per_second, training.weight_product_flops) {
            (Some(speed), Some(flops)) => format!("{speed:.0} tokens/s, {:.2} TFLOP/s in products", flops / 1e12),
            _ => training.problem.clone().unwrap_or_default(),
        };
        row(&format!("  {} {}", training.model, training.numerics), format!("{rows} × {tokens} tokens: {speed}"));
    }
    row(
        "pinned-bf16/1",
        if report.pinned_reasons.is_empty() { "yes".to_owned() } else { report.pinned_reasons.join("; ") },
    );
    if let Some(pinned) = &report.found.pinned {
        let (products, quickstart) = (&pinned.products, &pinned.quickstart);
        let outcome = products.difference.clone();
        row(
            &format!("  {}", products.operations),
            outcome.unwrap_or_else(|| format!("{} values, all near enough and the same twice", products.values)),
        );
        let twice =
            if quickstart.claim == quickstart.claim_again { "the same claim twice" } else { "DIFFERS when run twice" };
        let last = quickstart.divergence.steps.last().map_or(0, |step| step.step);
        let (loss, norm) = quickstart.divergence.largest(last);
        let tolerance = if quickstart.within_tolerance { "within" } else { "BEYOND" };
        row(
            "  quickstart",
            format!(
                "{twice}; losses within {:.2} % of exact-f32/1, norms within {:.2} %, {tolerance} the tolerance",
                100.0 * loss,
                100.0 * norm
            ),
        );
    }
}
