//! Where `publish` sends: a repository on the hub, `hf://user/repo`.

use std::path::{Path, PathBuf};

use tune_publish::documents::provenance;
use tune_publish::signature;
use tune_schema::export::PUBLISHED_EXPORT;
use tune_schema::manifest::PUBLISHED_RUN;
use tune_source::hub::{Hub, HubTarget, Upload, Uploaded};
use tune_train::layout::RESULT_FILES;

use crate::printer::Printer;

/// What an earlier publication leaves that would be wrong beside a new one. The rest of a repository may be somebody's.
fn owned() -> Vec<&'static str> {
    let signed = [signature::FILE_NAME, provenance::SIGNED_FILE_NAME];
    let results = RESULT_FILES.iter().flat_map(|(_, names)| names.iter().copied());
    [PUBLISHED_RUN, PUBLISHED_EXPORT, "croissant"].into_iter().chain(signed).chain(results).collect()
}

/// Names of other files in a repository that are shown.
const SHOWN: usize = 5;

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
