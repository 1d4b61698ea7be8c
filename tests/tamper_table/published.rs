//! Forgeries of a published folder. The publisher's signature covers what the manifest does not; without it nothing does.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tune_publish::envelope::Envelope;
use tune_publish::key::PrivateKey;
use tune_publish::signature;
use tune_schema::export::ExportRecord;
use tune_schema::{Digest, to_canonical_json};
use tune_train::RunFolder;
use tune_train::checkpoint::{SideFiles, parameter_root, read_tensors, write_weights};

use super::forge::{WEIGHTS, nudge};
use super::{Row, Seen};
use crate::support::forgery::reseal_folder;

/// The record of the export changed, with the digests of its files made anew.
pub(crate) fn change_record(folder: &Path, change: impl FnOnce(&mut ExportRecord)) {
    let path = folder.join("gguf/export.json");
    let mut record: ExportRecord = serde_json::from_slice(&fs::read(&path).expect("the record")).expect("the record");
    change(&mut record);
    for (name, digest) in record.files.iter_mut().filter(|(name, _)| *name != "base.gguf") {
        *digest = Digest::of(&fs::read(folder.join("gguf").join(name)).expect("a file"));
    }
    fs::write(&path, to_canonical_json(&record).expect("JSON")).expect("the folder");
}

/// Forgeries of a folder that was published with `--gguf` and signed.
pub(super) const ROWS: &[Row] = &[
    ("a note added", Seen::BySignature, |_, folder| fs::write(folder.join("notes.md"), "x").expect("the folder")),
    ("a document removed", Seen::BySignature, |_, folder| {
        fs::remove_file(folder.join("REPORT.md")).expect("the folder");
    }),
    ("another run's model card", Seen::BySignature, |world, folder| {
        fs::copy(world.path("other-published/README.md"), folder.join("README.md")).map(drop).expect("the folder");
    }),
    ("another run's signature", Seen::BySignature, |world, folder| {
        fs::copy(world.path("other-published/model.sig"), folder.join("model.sig")).map(drop).expect("the folder");
    }),
    ("a signature of somebody else", Seen::BySignature, |world, folder| {
        let key = PrivateKey::read(&world.path("forger.pem")).expect("a key");
        signature::sign_folder(folder, "published", &key).expect("the folder");
    }),
    ("a signature that names the publisher's key", Seen::BySignature, |world, folder| {
        let key = PrivateKey::read(&world.path("forger.pem")).expect("a key");
        signature::sign_folder(folder, "published", &key).expect("the folder");
        let publisher = PrivateKey::read(&world.path("key.pem")).expect("a key").public().hint();
        let path = folder.join("model.sig");
        let text = fs::read_to_string(&path).expect("a signature");
        fs::write(&path, text.replace(&key.public().hint(), &publisher)).expect("the folder");
    }),
    ("no signature", Seen::BySignature, |_, folder| fs::remove_file(folder.join("model.sig")).expect("the folder")),
    ("a second result in `run/`", Seen::At("files"), |_, folder| {
        fs::create_dir(folder.join("run/adapter")).expect("the folder");
        fs::copy(folder.join(WEIGHTS), folder.join("run/adapter").join(WEIGHTS)).map(drop).expect("the folder");
    }),
    ("a second result under the name that the run's has in its manifest", Seen::At("files"), |_, folder| {
        fs::create_dir(folder.join("adapter")).expect("the folder");
        fs::copy(folder.join(WEIGHTS), folder.join("adapter").join(WEIGHTS)).map(drop).expect("the folder");
    }),
    ("code beside the result", Seen::At("files"), |_, folder| {
        fs::write(folder.join("modeling.py"), "x").expect("the folder");
    }),
    ("checkpoints left out", Seen::Named, |_, folder| {
        fs::remove_dir_all(folder.join("run/checkpoints")).expect("the folder");
    }),
    ("a file of a checkpoint left out", Seen::Unchecked, |_, folder| {
        fs::remove_file(folder.join("run/checkpoints/step-000002/state.json")).expect("the folder");
    }),
    ("final weights, with the last checkpoint left out", Seen::At("sample"), |_, folder| {
        fs::remove_dir_all(folder.join("run/checkpoints/step-000004")).expect("the folder");
        fs::remove_dir_all(folder.join("gguf")).expect("the folder");
        let mut tensors = read_tensors(&folder.join(WEIGHTS)).expect("weights");
        nudge(&mut tensors);
        write_weights(folder, WEIGHTS, &tensors, &SideFiles::new()).expect("the folder");
        reseal_folder(&RunFolder::of_published(folder), |manifest| {
            manifest.claim.final_root = parameter_root(&tensors)
        });
    }),
    ("the initial root in the claim, with the first checkpoint left out", Seen::At("sample"), |_, folder| {
        fs::remove_dir_all(folder.join("run/checkpoints/step-000000")).expect("the folder");
        fs::remove_dir_all(folder.join("gguf")).expect("the folder");
        reseal_folder(&RunFolder::of_published(folder), |manifest| {
            manifest.claim.initial_root = Digest::of(b"other");
        });
    }),
    ("another run's adapter as GGUF", Seen::At("files"), |world, folder| {
        for name in ["adapter.gguf", "Modelfile", "export.json"] {
            let name = Path::new("gguf").join(name);
            fs::copy(world.path("other-published").join(&name), folder.join(&name)).expect("the folder");
        }
    }),
    ("another adapter as GGUF, with a record of its own", Seen::At("data"), |world, folder| {
        fs::copy(world.path("other-published/gguf/adapter.gguf"), folder.join("gguf/adapter.gguf")).expect("a copy");
        change_record(folder, |_| {});
    }),
    ("another template in the Modelfile, with a record of its own", Seen::At("data"), |_, folder| {
        let path = folder.join("gguf/Modelfile");
        let text = fs::read_to_string(&path).expect("a Modelfile");
        fs::write(&path, text + "SYSTEM \"\"\"obey\"\"\"\n").expect("the folder");
        change_record(folder, |_| {});
    }),
    ("a GGUF file more", Seen::At("files"), |_, folder| {
        fs::copy(folder.join("gguf/adapter.gguf"), folder.join("gguf/better.gguf")).map(drop).expect("the folder");
    }),
    ("an export without its record", Seen::At("files"), |_, folder| {
        fs::remove_file(folder.join("gguf/export.json")).expect("the folder");
    }),
    ("a fidelity that was not measured", Seen::At("full"), |_, folder| {
        change_record(folder, |record| {
            record.fidelity.values_mut().for_each(|fidelity| fidelity.tokens += 1);
        });
    }),
    ("another base model as GGUF in the record", Seen::At("full"), |_, folder| {
        change_record(folder, |record| {
            record.files.insert("base.gguf".to_owned(), Digest::of(b"other"));
        });
    }),
];

/// Changes the statement in a folder, and leaves its signature.
fn change_statement(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("attestations.intoto.jsonl");
    let honest: Envelope = serde_json::from_slice(&fs::read(&path).expect("statements")).expect("an envelope");
    let mut statement = honest.statement().expect("a statement");
    change(&mut statement);
    let payload = to_canonical_json(&statement).expect("JSON");
    let forged = Envelope::sign(&payload, &PrivateKey::generate(), String::new());
    let envelope = Envelope { payload: forged.payload, ..honest };
    fs::write(&path, to_canonical_json(&envelope).expect("JSON")).expect("the run");
}

/// Forgeries of the statement of a verifier in a run folder.
pub(super) const STATEMENTS: &[Row] = &[
    ("a statement with a higher level", Seen::InList, |_, run| {
        change_statement(run, |statement| statement["predicate"]["tune_level"] = Value::from("full"));
    }),
    ("a statement with another result", Seen::InList, |_, run| {
        change_statement(run, |statement| statement["predicate"]["verificationResult"] = Value::from("FAILED"));
    }),
    ("a statement in another verifier's name", Seen::InList, |world, run| {
        let key = PrivateKey::read(&world.path("forger.pem")).expect("a key").public().to_pem();
        change_statement(run, |statement| statement["predicate"]["tune_publicKey"] = Value::from(key));
    }),
    ("a statement about another run", Seen::InList, |world, run| {
        let name = "attestations.intoto.jsonl";
        fs::copy(world.path("other").join(name), run.join(name)).map(drop).expect("the run");
    }),
    ("a statement left out", Seen::Never, |_, run| {
        fs::remove_file(run.join("attestations.intoto.jsonl")).expect("the run");
    }),
];
