//! Targets on the hub, `hf://user/repo`: what `verify` fetches, and where `publish` sends.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tune_publish::documents::provenance;
use tune_publish::signature;
use tune_schema::manifest::PUBLISHED_RUN;
use tune_source::hub::{Hub, HubTarget, Limits, Upload, Uploaded};
use tune_train::layout::RESULT_FILES;

use crate::printer::Printer;

/// What an earlier publication leaves that would be wrong beside a new one. The rest of a repository may be somebody's.
fn owned() -> Vec<&'static str> {
    let signed = [signature::FILE_NAME, provenance::SIGNED_FILE_NAME];
    let results = RESULT_FILES.iter().flat_map(|(_, names)| names.iter().copied());
    [PUBLISHED_RUN, "croissant"].into_iter().chain(signed).chain(results).collect()
}

/// Names of other files in a repository that are shown.
const SHOWN: usize = 5;

/// The target on the hub that an argument names, where it names one.
pub(crate) fn named(argument: &Path) -> Option<&str> {
    argument.to_str().filter(|text| HubTarget::is_meant_by(text))
}

/// A repository in a folder that goes with this value.
pub(crate) struct Fetched {
    /// `hf://user/repo at commit …`
    pub(crate) origin: String,
    /// The repository.
    pub(crate) repository: String,
    /// The commit.
    pub(crate) commit: String,
    /// Where its files are.
    pub(crate) folder: PathBuf,
    _place: tempfile::TempDir,
}

/// Fetches a repository, after asking.
pub(crate) fn fetch(text: &str, yes: bool, offline: bool, printer: &mut Printer) -> anyhow::Result<Fetched> {
    let target = HubTarget::parse(text)?;
    if offline {
        bail!(
            "`{target}` would have to be fetched, and the network may not be used\nhint: leave `--offline` out, or fetch the repository and name its folder"
        );
    }
    let hub = Hub::from_environment()?;
    let listing = hub.look(&target, Limits::default(), &mut |event| printer.note(&event.to_string()))?;
    let origin = format!("{target} at commit {}", listing.commit);
    let what = format!("{origin}: {} files, {} bytes", listing.files.len(), listing.bytes());
    if yes {
        printer.note(&what);
    } else if !std::io::stdin().is_terminal() {
        bail!("{what} would be fetched, and there is nobody to ask\nhint: `--yes` fetches it without asking");
    } else if !printer.ask(&format!("{what}\nfetch it?")).context("cannot read the answer")? {
        bail!("nothing was fetched");
    }
    let place = temporary_folder()?;
    let folder = place.path().join(target.name());
    hub.download(&listing, &folder, &mut |event| printer.note(&event.to_string()))?;
    Ok(Fetched { origin, repository: listing.id, commit: listing.commit, folder, _place: place })
}

/// A repository to publish in, and a token that the hub knows.
pub(crate) struct Destination {
    target: HubTarget,
    hub: Hub,
}

impl Destination {
    /// Asks the hub whose the token is: before a large folder is made for nothing.
    pub(crate) fn open(target: HubTarget, printer: &mut Printer) -> anyhow::Result<Self> {
        let hub = Hub::from_environment()?;
        let user = hub.user(&mut |event| printer.note(&event.to_string()))?;
        printer.note(&format!("publishing as {user}"));
        Ok(Self { target, hub })
    }

    /// A folder with the repository's name, so that the same run gives the same bytes wherever it is made.
    pub(crate) fn folder(&self, place: &tempfile::TempDir) -> PathBuf {
        place.path().join(self.target.name())
    }

    /// Sends a folder.
    pub(crate) fn send(
        &self,
        folder: &Path,
        message: &str,
        private: bool,
        printer: &mut Printer,
    ) -> anyhow::Result<Uploaded> {
        let (owned, mark) = (owned(), format!("{PUBLISHED_RUN}/manifest.json"));
        let upload = Upload { message, private, owned: &owned, mark: &mark };
        Ok(self.hub.upload(folder, &self.target, &upload, &mut |event| printer.note(&event.to_string()))?)
    }

    /// Says what came of it.
    pub(crate) fn report(&self, count: usize, uploaded: &Uploaded, printer: &mut Printer) {
        let (target, commit) = (&self.target, &uploaded.commit);
        printer.result(&if uploaded.unchanged {
            format!("{target} holds these {count} files already, nothing was sent: commit {commit}")
        } else {
            format!("{count} files in {target}: commit {commit}")
        });
        printer.result(&uploaded.url);
        if !uploaded.others.is_empty() {
            let shown = uploaded.others.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("`, `");
            let more = uploaded.others.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            printer.note(&format!(
                "files there that are not of this run stay: `{shown}`{more}; to `--signed-by` they are differences"
            ));
        }
    }

    /// `hf://user/repo`
    pub(crate) fn target(&self) -> &HubTarget {
        &self.target
    }
}

/// A folder that goes with the value.
pub(crate) fn temporary_folder() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("tune-").tempdir();
    folder.with_context(|| format!("cannot make a folder in `{}`", std::env::temp_dir().display()))
}
