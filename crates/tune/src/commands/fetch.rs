//! What is fetched after asking: targets, `hf://user/repo` and `https://host/path/`, and the sources of runs.

use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use tune_schema::lock::LockedSource;
use tune_source::hub::{Event, Hub, HubTarget, Limits};
use tune_source::site::Site;
use tune_train::JobOptions;
use tune_verify::{network, remote};

use crate::printer::Printer;

/// Where a folder was fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Origin {
    /// A repository on the hub.
    Hub {
        /// As asked for, `hf://user/repo[@revision]`.
        #[serde(skip)]
        target: HubTarget,
        /// `user/repo`
        repository: String,
        /// The commit that was fetched.
        commit: String,
    },
    /// A folder on a web server.
    Site {
        /// Its address, ending in `/`.
        address: String,
    },
}

impl Origin {
    /// What a verdict is to know of it.
    pub(crate) fn kind(&self) -> tune_verify::Origin {
        match self {
            Self::Hub { .. } => tune_verify::Origin::Fetched,
            Self::Site { .. } => tune_verify::Origin::FetchedByName,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { target, commit, .. } => write!(f, "{target} at commit {commit}"),
            Self::Site { address } => write!(f, "{address}"),
        }
    }
}

/// A fetched folder, which goes with this value.
pub(crate) struct Fetched {
    /// Where it came from.
    pub(crate) origin: Origin,
    /// Where its files are.
    pub(crate) folder: PathBuf,
    _place: tempfile::TempDir,
}

/// The text of an argument that names something to fetch.
pub(crate) fn named(argument: &Path) -> Option<&str> {
    argument.to_str().filter(|text| HubTarget::is_meant_by(text) || Site::is_meant_by(text))
}

/// That an argument names a folder of this machine, of a command that fetches none.
pub(crate) fn on_this_machine(argument: &Path) -> anyhow::Result<()> {
    let Some(text) = named(argument) else { return Ok(()) };
    let how = match HubTarget::parse(text) {
        Ok(target) => {
            let revision = target.revision().map(|revision| format!(" --revision {revision}")).unwrap_or_default();
            format!("`hf download {}{revision} --local-dir FOLDER` fetches it", target.id())
        }
        Err(_) => "fetch the folder".to_owned(),
    };
    bail!(
        "`{text}` is not on this machine, and this command takes a folder that is\nhint: {how}, and name the copy; `tune verify {text}` reads it from there"
    )
}

/// Fetches what a text names, after asking.
pub(crate) fn fetch(text: &str, yes: bool, offline: bool, printer: &mut Printer) -> anyhow::Result<Fetched> {
    if Site::is_meant_by(text) { of_site(text, yes, offline, printer) } else { of_hub(text, yes, offline, printer) }
}

fn of_hub(text: &str, yes: bool, offline: bool, printer: &mut Printer) -> anyhow::Result<Fetched> {
    let target = HubTarget::parse(text)?;
    online(&target, "the repository", offline)?;
    let hub = Hub::from_environment()?;
    let listing = hub.look(&target, Limits::default(), &mut told(printer))?;
    let (repository, commit) = (listing.id.clone(), listing.commit.clone());
    let (place, folder) = place(target.name())?;
    let origin = Origin::Hub { target, repository, commit };
    agree(&format!("{origin}: {} files, {} bytes", listing.files.len(), listing.bytes()), yes, printer)?;
    hub.download(&listing, &folder, &mut told(printer))?;
    Ok(Fetched { origin, folder, _place: place })
}

fn of_site(text: &str, yes: bool, offline: bool, printer: &mut Printer) -> anyhow::Result<Fetched> {
    let (site, _) = Site::parse(text)?;
    online(&site.address(), "the folder", offline)?;
    let remote = remote::look(text, Limits::default(), &mut told(printer))?;
    let origin = Origin::Site { address: remote.address().to_owned() };
    let missing = match remote.missing() {
        0 => String::new(),
        count => format!("; {count} more that the manifest lists are not there"),
    };
    agree(&format!("{origin}: {} files, {} bytes{missing}", remote.files(), remote.bytes()), yes, printer)?;
    let (place, folder) = place("fetched")?;
    remote.download(&folder, &mut told(printer))?;
    Ok(Fetched { origin, folder, _place: place })
}

/// Allows the network for what the locks of the runs at `targets` would have fetched, after asking: their addresses were
/// chosen by whoever made the runs. Where nothing has to be fetched, the network is not used.
pub(crate) fn sources(
    targets: &[&Path],
    job: &JobOptions,
    yes: bool,
    printer: &mut Printer,
) -> anyhow::Result<tune_source::Options> {
    let mut options = job.source.clone();
    if !options.offline {
        let mut wanted: Vec<LockedSource> = Vec::new();
        for source in targets.iter().flat_map(|run| network::unfetched(run, job)) {
            if !wanted.contains(&source) {
                wanted.push(source);
            }
        }
        options.offline = wanted.is_empty();
        if !wanted.is_empty() {
            agree(&network::in_words(&wanted), yes, printer)?;
        }
    }
    Ok(options)
}

/// Prints what a transfer does.
fn told(printer: &mut Printer) -> impl FnMut(Event) {
    |event| printer.note(&event.to_string())
}

/// That the network may be used.
fn online(target: &dyn fmt::Display, what: &str, offline: bool) -> anyhow::Result<()> {
    if offline {
        bail!(
            "`{target}` would have to be fetched, and the network may not be used\nhint: leave `--offline` out, or fetch {what} and name the copy"
        );
    }
    Ok(())
}

/// Asks whether to fetch something, unless that was said beforehand.
fn agree(what: &str, yes: bool, printer: &mut Printer) -> anyhow::Result<()> {
    if yes {
        printer.note(what);
    } else if !std::io::stdin().is_terminal() {
        bail!("{what} would be fetched, and there is nobody to ask\nhint: `--yes` fetches it without asking");
    } else if !printer.ask(&format!("{what}\nfetch it?")).context("cannot read the answer")? {
        bail!("nothing was fetched");
    }
    Ok(())
}

/// A temporary folder, and one of this name in it that is not there yet.
fn place(name: &str) -> anyhow::Result<(tempfile::TempDir, PathBuf)> {
    let place = temporary_folder()?;
    let folder = place.path().join(name);
    Ok((place, folder))
}

/// A folder that goes with the value.
pub(crate) fn temporary_folder() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("tune-").tempdir();
    folder.with_context(|| format!("cannot make a folder in `{}`", std::env::temp_dir().display()))
}
