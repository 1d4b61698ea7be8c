//! The inputs kept from fuzzing (`CONTRIBUTING.md` says how) through the functions that the fuzz targets call: what was
//! found once stays found, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{files, repository};

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library for the fuzz targets, a module here")]
mod inputs;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 9] = [
    ("chain", inputs::chain),
    ("gguf", inputs::gguf),
    ("lock", inputs::lock),
    ("manifest", inputs::manifest),
    ("recipe", inputs::recipe),
    ("reveal", inputs::reveal),
    ("rows", inputs::rows),
    ("safetensors", inputs::safetensors),
    ("secrets", inputs::secrets),
];

/// Names of the inputs in a target's corpus for which its function panics.
fn failing(name: &str, target: Target) -> Vec<String> {
    let corpus = files(&repository().join("fuzz/corpus").join(name));
    let fails = |bytes: &[u8]| std::panic::catch_unwind(|| target(bytes)).is_err();
    corpus.into_iter().filter(|(_, bytes)| fails(bytes)).map(|(file, _)| file).collect()
}

#[test]
fn every_input_holds() {
    for (name, target) in TARGETS {
        assert_eq!(failing(name, target), [""; 0], "inputs of `{name}`");
    }
}

#[test]
fn an_input_that_does_not_hold_is_named() {
    let small = |data: &[u8]| assert!(data.len() > 100, "a small one");
    let corpus = files(&repository().join("fuzz/corpus/chain"));
    let expected: Vec<String> =
        corpus.into_iter().filter(|(_, data)| data.len() <= 100).map(|(name, _)| name).collect();
    assert!(!expected.is_empty());
    assert_eq!(failing("chain", small), expected);
}

#[test]
fn every_target_has_a_small_corpus() {
    let root = repository().join("fuzz");
    let expected: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let entries =
            fs::read_dir(root.join(folder)).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        entries.map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned()).collect()
    };
    assert_eq!(names("corpus"), expected);
    assert_eq!(names("fuzz_targets"), expected);
    let mut size = 0;
    for name in &expected {
        let corpus = files(&root.join("corpus").join(name));
        assert!((4..=40).contains(&corpus.len()), "{name}: {} inputs", corpus.len());
        assert!(corpus.values().all(|bytes| bytes.len() <= 4096), "{name}: a large input");
        size += corpus.values().map(Vec::len).sum::<usize>();
    }
    assert!(size < 300 << 10, "{size} bytes");
}
