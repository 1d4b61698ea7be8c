//! Parts of the commands that documents tell their readers. What only a reader knows is left open as `PATH/TO/…`.

use tune_source::secrets;

use crate::facts::{Facts, Source};

/// The published folder.
pub(super) const FOLDER: &str = "PATH/TO/THIS/FOLDER";

/// Options that say where the sources lie that anyone can have and that have no address, each after a blank.
pub(super) fn open_sources(facts: &Facts) -> String {
    let open = [&facts.base].into_iter().chain(&facts.data).filter(|source| source.commitment().is_none());
    open.filter(|source| !source.locked.has_address()).map(place).collect()
}

/// Options that say where the sources lie of which the claim has a commitment only, and their secrets; each after a blank.
pub(super) fn withheld_sources(facts: &Facts) -> String {
    let withheld = facts.data.iter().filter(|source| source.commitment().is_some());
    let places: String = withheld.map(place).collect();
    if places.is_empty() { places } else { format!("{places} --secrets PATH/TO/{}", secrets::FILE_NAME) }
}

fn place(source: &Source) -> String {
    format!(" --source {}", argument(&format!("{0}=PATH/TO/{0}", source.name)))
}

/// An argument as a shell reads it.
fn argument(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@+,".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_argument_is_one_to_a_shell() {
        assert_eq!(super::argument("rows=PATH/TO/rows"), "rows=PATH/TO/rows");
        assert_eq!(super::argument("my rows; $(rm)"), "'my rows; $(rm)'");
        assert_eq!(super::argument("Ann's"), "'Ann'\\''s'");
    }
}
