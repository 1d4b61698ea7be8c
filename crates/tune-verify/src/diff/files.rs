//! All files under the claims, by their bytes, and the claims themselves.

use std::collections::{BTreeMap, BTreeSet};

use tune_schema::Digest;
use tune_train::layout::ENVIRONMENT;

use super::report::{Bearing, Difference, FilesDifference, Part, Values, What};
use super::side::Side;
use crate::full::differing_member;

/// Files with other bytes, and those that only one run has. What depends on machine and hour is left out.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn compare([a, b]: [&Side; 2]) -> Result<Vec<Difference>, String> {
    let (in_a, in_b) = (digests(a)?, digests(b)?);
    let mut found = FilesDifference::default();
    let paths: BTreeSet<&String> = in_a.keys().chain(in_b.keys()).collect();
    for path in paths {
        let list = match (in_a.get(path), in_b.get(path)) {
            (Some(a), Some(b)) if a == b => continue,
            (Some(_), Some(_)) => &mut found.other_bytes,
            (Some(_), None) => &mut found.only_in_a,
            _ => &mut found.only_in_b,
        };
        list.push(path.clone());
    }
    if found == FilesDifference::default() {
        return Ok(Vec::new());
    }
    Ok(vec![Difference { part: Part::Files, bearing: Bearing::Recorded, what: What::Files(found) }])
}

fn digests(side: &Side) -> Result<BTreeMap<String, Digest>, String> {
    if let Some(checked) = side.checked_digests() {
        return Ok(checked.clone());
    }
    let claimed = side.found().iter().filter(|path| *path != "manifest.json" && !ENVIRONMENT.contains(&path.as_str()));
    let digest = |path: &String| {
        let (digest, _) = tune_fs::digest_file(&side.path(path)?).map_err(|error| side.unreadable(path, &error))?;
        Ok((path.clone(), digest))
    };
    claimed.map(digest).collect()
}

/// The claims, where nothing else differs: one of the manifests then says what its files do not.
///
/// # Errors
/// A manifest that cannot be read.
pub(super) fn claims(sides: [&Side; 2]) -> Result<Vec<Difference>, String> {
    let [a, b] =
        sides.map(|side| side.manifest().ok_or_else(|| format!("{} has no manifest that can be read", side.run)));
    let (a, b) = (a?, b?);
    if a.claim == b.claim {
        return Ok(Vec::new());
    }
    let name = format!("the claim id, by its member `{}`,", differing_member(a, b));
    let values = Values { name, a: Some(a.claim_id.to_string()), b: Some(b.claim_id.to_string()) };
    Ok(vec![Difference::of_values(Part::Files, Bearing::Recorded, values)])
}
