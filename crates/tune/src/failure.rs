//! How a failure is told: what happened, one line a cause, then what to do next.

use std::process::ExitCode;

use tune_data::DataError;
use tune_fs::FsError;
use tune_kernels::cube::DeviceFailure;
use tune_kernels::cube::device::OpenError;
use tune_publish::PublishError;
use tune_source::hub::HubError;
use tune_source::site::SiteError;
use tune_train::TrainError;

use crate::printer::Printer;

/// Prints an error and gives the exit code: 1 where the input is at fault, 2 where something outside it is.
pub(crate) fn report(error: &anyhow::Error, printer: &mut Printer) -> ExitCode {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // A transparent error repeats its source.
        if lines.last() != Some(&text) {
            lines.push(text);
        }
    }
    for (i, line) in lines.iter().enumerate() {
        printer.error(&if i == 0 { format!("error: {line}") } else { format!("  caused by: {line}") });
    }
    if let Some(hint) = hint(error) {
        printer.error(&format!("hint: {hint}"));
    }
    ExitCode::from(if is_outside(error) { 2 } else { 1 })
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let hints: [Option<String>; 9] = [
            cause.downcast_ref::<TrainError>().and_then(TrainError::hint),
            cause.downcast_ref::<DataError>().and_then(DataError::hint),
            cause.downcast_ref::<FsError>().and_then(FsError::hint),
            cause.downcast_ref::<OpenError>().map(OpenError::hint),
            cause.downcast_ref::<DeviceFailure>().map(DeviceFailure::hint),
            cause.downcast_ref::<PublishError>().and_then(PublishError::hint),
            cause.downcast_ref::<HubError>().and_then(HubError::hint),
            cause.downcast_ref::<SiteError>().and_then(SiteError::hint),
            cause.downcast_ref::<tune_verify::VerifyError>().and_then(tune_verify::VerifyError::hint),
        ];
        hints.into_iter().flatten().next()
    })
}

/// Whether the file system, the network or a device is at fault, not what the user wrote.
fn is_outside(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let train = cause.downcast_ref::<TrainError>().is_some_and(TrainError::is_outside);
        let data = cause.downcast_ref::<DataError>().is_some_and(DataError::is_outside);
        let files = cause.downcast_ref::<FsError>().is_some_and(FsError::is_outside);
        let publish = cause.downcast_ref::<PublishError>().is_some_and(PublishError::is_outside);
        let hub = cause.downcast_ref::<HubError>().is_some_and(HubError::is_outside);
        let site = cause.downcast_ref::<SiteError>().is_some_and(SiteError::is_outside);
        let device = cause.is::<OpenError>() || cause.is::<DeviceFailure>();
        train || data || files || publish || hub || site || device || cause.is::<std::io::Error>()
    })
}
