//! Sources that may not be shared: what stands for them in a claim, what a stranger can verify without them, and rows that
//! their owner reveals.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tune_schema::manifest::Manifest;
use tune_schema::merkle::leaf_hash;
use tune_schema::{Digest, to_canonical_json};

use crate::support::forgery::reseal;
use crate::support::{Outcome, World, claim_id, copy_folder, files};
use crate::tamper_table::forge::{change_checkpoint, change_source, nudge};
use crate::tamper_table::published::change_record;

const SETTINGS: [&str; 3] = ["val_set_size=8", "eval_exact_match=8", "eval_max_new_tokens=4"];

/// Half of the rows in `rows.jsonl`, which are open, the others in `private.jsonl`, which are of this class.
fn world_of(class: &str) -> World {
    let world = World::new();
    let rows = world.read("rows.jsonl");
    let (open, private) = rows.split_at(rows.match_indices('\n').nth(31).expect("64 rows").0 + 1);
    world.write("rows.jsonl", open);
    world.write("private.jsonl", private);
    let recipe = world.read("recipe.yaml").replace(
        "    type: prompt_completion\n",
        "    type: prompt_completion\n  - name: private\n    path: private.jsonl\n    type: prompt_completion\n",
    );
    let provenance = format!("  private:\n    class: {class}\n    licence: CC0-1.0\n");
    world.write("recipe.yaml", &format!("{recipe}provenance:\n{provenance}  base:\n    licence: Apache-2.0\n"));
    world
}

/// Such a world with a finished run in `run`.
pub(crate) fn finished() -> World {
    let world = world_of("unshareable");
    world.train("run", &SETTINGS);
    world
}

/// What a stranger has of it: what was published, the base model and the open rows.
fn stranger(world: &World) -> World {
    world.tune(&["publish", "run", "--to", "published"]).assert_code(0);
    let stranger = World::new();
    copy_folder(&world.path("published"), &stranger.path("published"));
    fs::copy(world.path("rows.jsonl"), stranger.path("rows.jsonl")).expect("the open rows");
    stranger
}

/// `tune verify` with these arguments, told where the open sources are.
fn verify(world: &World, arguments: &[&str]) -> Outcome {
    world.tune(&[&["verify"], arguments, &["--source", "rows=rows.jsonl", "--source", "base=base"]].concat())
}

#[track_caller]
fn assert_stdout(outcome: &Outcome, code: i32, texts: &[&str]) {
    outcome.assert_code(code);
    for text in texts {
        assert!(outcome.stdout.contains(text), "{text:?} is not in:\n{}", outcome.stdout);
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

fn root(world: &World) -> String {
    let inputs = json(&world.path("run/inputs.json"));
    inputs["sources"][0]["commitment"]["root"].as_str().expect("a commitment").to_owned()
}

#[test]
fn a_stranger_verifies_what_there_is_and_is_told_what_was_withheld() {
    let owner = finished();
    let stranger = stranger(&owner);
    let root = root(&owner);
    let withheld = format!("unshareable: the claim commits to its 32 rows by the root {root}");
    let verdict = verify(&stranger, &["published", "--level", "files"]);
    assert_stdout(&verdict, 0, &["source private", "withheld", &withheld, "texts of ", "verified at level `files`"]);

    let data = ["1 of 2 data sources, base model, tokenizer and template", "nothing of it was compared"];
    let stream = "it could not be rebuilt without the rows of `private`";
    let verdict = verify(&stranger, &["published", "--level", "data"]);
    assert_stdout(&verdict, 2, &[&withheld, data[0], data[1], stream, "adapter_config.json", "verified up to `files`"]);
    assert!(!verdict.stdout.contains("initial state"), "{}", verdict.stdout);
    for level in ["sample", "full"] {
        let verdict = verify(&stranger, &["published", "--level", level]);
        let steps = "no step can be computed again without the rows of `private`";
        assert_stdout(&verdict, 2, &[&withheld, data[0], stream, " from the seed", steps, "verified up to `files`"]);
        assert!(!verdict.stdout.contains("segments computed again"), "{}", verdict.stdout);
    }
    // What could not be reached is not signed.
    stranger.tune(&["key", "new", "key.pem"]).assert_code(0);
    verify(&stranger, &["published", "--attest", "key.pem"]).assert_code(2).assert_stderr(&["nothing was signed"]);
    // The rows alone, or another's secrets, are not enough to compare with.
    fs::copy(owner.path("private.jsonl"), stranger.path("private.jsonl")).expect("the rows");
    let place = ["published", "--level", "data", "--source", "private=private.jsonl"];
    assert_stdout(&verify(&stranger, &place), 2, &["its secret is not here: `--secrets FILE` names it"]);
    let other = finished();
    let secrets = other.path("datasets.secrets").to_string_lossy().into_owned();
    let verdict = verify(&stranger, &[&place[..], &["--secrets", &secrets]].concat());
    assert_stdout(&verdict, 2, &["has no secret of it"]);

    // The rest is held to the lock as ever.
    let rows = stranger.read("rows.jsonl");
    stranger.write("rows.jsonl", &rows.replacen("prompt", "Prompt", 1));
    assert_stdout(
        &verify(&stranger, &["published", "--level", "data"]),
        1,
        &["source `rows`", "is not what is locked"],
    );
    stranger.write("rows.jsonl", &rows);

    // An initial state that does not follow from the seed is seen without the rows.
    change_checkpoint(&owner.path("run"), 0, |state| nudge(&mut state.parameters));
    owner.tune(&["publish", "run", "--to", "forged"]).assert_code(0);
    copy_folder(&owner.path("forged"), &stranger.path("forged"));
    verify(&stranger, &["forged", "--level", "data"]).assert_code(2);
    assert_stdout(&verify(&stranger, &["forged"]), 1, &["step 0: the seed gives"]);
}

/// The adapter as GGUF follows from recipe, base model and tokenizer: it is made again without a row.
#[test]
fn an_adapter_as_gguf_is_made_again_without_the_rows() {
    let owner = finished();
    owner.tune(&["publish", "run", "--to", "published", "--gguf"]).assert_code(0);
    let stranger = World::new();
    copy_folder(&owner.path("published"), &stranger.path("published"));
    fs::copy(owner.path("rows.jsonl"), stranger.path("rows.jsonl")).expect("the open rows");
    let again = "adapter.gguf and Modelfile made again from the adapter";
    let verdict = verify(&stranger, &["published", "--level", "data"]);
    assert_stdout(&verdict, 2, &["nothing of it was compared", again]);
    // Another adapter under a record of its own.
    let path = stranger.path("published/gguf/adapter.gguf");
    let mut bytes = fs::read(&path).expect("the adapter");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).expect("the folder can be written");
    change_record(&stranger.path("published"), |_| {});
    verify(&stranger, &["published", "--level", "files"]).assert_code(0);
    let verdict = verify(&stranger, &["published", "--level", "data"]);
    assert_stdout(&verdict, 1, &["gguf/adapter.gguf is not what this run's adapter gives"]);
}

/// Class and licence in lock and claim that the recipe does not state: seen without the rows as with them.
#[test]
fn another_licence_of_withheld_rows_is_seen_without_them() {
    let owner = finished();
    change_source(&owner.path("run"), "private", |source| source.licence = Some("MIT".to_owned()));
    let stranger = World::new();
    copy_folder(&owner.path("run"), &stranger.path("run"));
    let verdict = verify(&stranger, &["run", "--level", "files"]);
    assert_stdout(&verdict, 1, &["class or licence of `private` is not what the recipe says"]);
}

#[test]
fn the_owner_and_an_auditor_with_rows_and_secret_verify_every_level() {
    let owner = finished();
    for level in ["files", "data", "sample", "full"] {
        let verdict = owner.tune(&["verify", "run", "--level", level]);
        assert_stdout(&verdict, 0, &[&format!("verified at level `{level}`")]);
    }
    // The same lock and secret give the same claim.
    owner.train("again", &SETTINGS);
    assert_eq!(claim_id(&owner.path("run")), claim_id(&owner.path("again")));
    assert_eq!(files(&owner.path("run"))["inputs.json"], files(&owner.path("again"))["inputs.json"]);

    let auditor = stranger(&owner);
    fs::copy(owner.path("private.jsonl"), auditor.path("handed-over.jsonl")).expect("the rows");
    fs::copy(owner.path("datasets.secrets"), auditor.path("secrets")).expect("the secrets");
    let given = ["--source", "private=handed-over.jsonl", "--secrets", "secrets"];
    for level in ["data", "sample", "full"] {
        let verdict = verify(&auditor, &[&["published", "--level", level], &given[..]].concat());
        assert_stdout(&verdict, 0, &[&format!("verified at level `{level}`")]);
    }
    // Other rows are found as other bytes of an open source are, even where they differ only in what cannot be read.
    let rows = auditor.read("handed-over.jsonl");
    let mut unreadable = rows.clone().into_bytes();
    unreadable[20] = 0xff;
    let swapped: Vec<&str> = rows.lines().rev().collect();
    for changed in [rows.replacen(' ', "  ", 1).into_bytes(), unreadable, swapped.join("\n").into_bytes()] {
        fs::write(auditor.path("handed-over.jsonl"), changed).expect("a file");
        let verdict = verify(&auditor, &[&["published", "--level", "data"], &given[..]].concat());
        assert_stdout(&verdict, 1, &["source `private`", "is not what is locked"]);
    }
    // Ends of lines and blank lines are no rows.
    fs::write(auditor.path("handed-over.jsonl"), format!("\n{}", rows.replace('\n', "\r\n"))).expect("a file");
    let verdict = verify(&auditor, &[&["published", "--level", "data"], &given[..]].concat());
    verdict.assert_code(0);
}

/// Every text of the private rows, as it is and as it stands in JSON.
fn texts(world: &World) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for line in world.read("private.jsonl").lines() {
        let row: Value = serde_json::from_str(line).expect("a row");
        texts.push(line.to_owned());
        for (_, text) in row.as_object().expect("columns") {
            let text = text.as_str().expect("text");
            let escaped = Value::from(text).to_string();
            texts.extend([text.to_owned(), escaped[1..escaped.len() - 1].to_owned()]);
        }
    }
    texts.into_iter().map(String::into_bytes).collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Neither texts, nor digests of what a stranger could write down and hash: rows, the file, the stream, questions and answers.
#[test]
fn nothing_of_the_rows_is_in_what_is_published() {
    let owner = finished();
    owner.tune(&["publish", "run", "--to", "published"]).assert_code(0);
    let open = world_of("open");
    open.train("run", &SETTINGS);
    // The search finds what it is to find.
    let texts = texts(&owner);
    let of_open = files(&open.path("run"));
    assert!(texts.iter().any(|text| holds(&of_open["evaluation-before.json"], text)));

    let private = fs::read(owner.path("private.jsonl")).expect("the rows");
    let mut digests = vec![Digest::of(&private).hex()];
    for line in private.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        digests.extend([Digest::of(line).hex(), leaf_hash(&[line]).hex()]);
    }
    let claim = &json(&open.path("run/manifest.json"))["claim"];
    let mut guessed = vec![claim["stream"]["digest"].clone(), claim["stream"]["eval_digest"].clone()];
    guessed.push(claim["evaluation"]["answers"].clone());
    guessed.extend(["before", "after"].map(|when| claim["files"][format!("evaluation-{when}.json")].clone()));
    let chain = String::from_utf8(of_open["chain.jsonl"].clone()).expect("text");
    guessed.extend(chain.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record")["stream"].clone()));
    for digest in &guessed {
        digests.push(digest.as_str().expect("a digest").trim_start_matches("sha256:").to_owned());
    }
    assert!(digests.len() > 70);
    let secrets = owner.read("datasets.secrets");
    let secret = secrets.lines().find_map(|line| line.trim().strip_prefix("secret: ")).expect("a secret");
    digests.push(secret.trim_matches('"').to_owned());
    for folder in ["run", "published"] {
        for (name, bytes) in files(&owner.path(folder)) {
            for text in &texts {
                let text_words = String::from_utf8_lossy(text);
                assert!(!holds(&bytes, text), "{folder}/{name} has {text_words}");
            }
            let content = String::from_utf8_lossy(&bytes);
            for digest in &digests {
                assert!(!content.contains(digest.as_str()), "{folder}/{name} has {digest}");
            }
        }
    }
    let size = format!("{}", private.len());
    for name in ["run/datasets.lock", "run/inputs.json", "model.spdx3.json", "croissant/private.json", "bom.cdx.json"] {
        let content = String::from_utf8(files(&owner.path("published"))[name].clone()).expect("text");
        assert!(!content.contains(&size), "{name} has the size of the file");
    }
    // Training is the same, bit for bit; what names the rows is not.
    let committed = json(&owner.path("run/manifest.json"));
    assert_eq!(committed["claim"]["final_root"], claim["final_root"]);
    assert_eq!(committed["claim"]["evaluation"]["loss_after"], claim["evaluation"]["loss_after"]);
    let answers = json(&owner.path("run/evaluation-after.json"));
    let kinds: BTreeSet<bool> =
        answers["answers"].as_array().expect("answers").iter().map(|answer| answer.get("prompt").is_some()).collect();
    assert_eq!(kinds.len(), 2, "answers to rows of both sources: {answers}");
}

#[test]
fn revealed_rows_are_shown_to_be_those_of_the_claim() {
    let owner = finished();
    let reveal =
        |rows: &str, to: &str| owner.tune(&["reveal", "run", "--source", "private", "--rows", rows, "--to", to]);
    reveal("3,17,30-32", "revealed.json").assert_code(0);
    let stranger = stranger(&owner);
    let text = owner.read("revealed.json");
    stranger.write("revealed.json", &text);
    let check = |name: &str| stranger.tune(&["verify", "published", "--level", "files", "--revealed", name]);
    assert_stdout(&check("revealed.json"), 0, &["revealed revealed.json", "5 rows of `private` are among those"]);
    let revealed: Value = serde_json::from_str(&text).expect("JSON");
    let private = owner.read("private.jsonl");
    let lines: Vec<&str> = private.lines().collect();
    for (row, number) in revealed["rows"].as_array().expect("rows").iter().zip([3, 17, 30, 31, 32]) {
        assert_eq!((row["row"].as_u64(), row["text"].as_str()), (Some(number), Some(lines[number as usize - 1])));
    }
    // It has no other row, nor what would help to guess one.
    for (number, line) in (1..).zip(&lines).filter(|(number, _)| ![3, 17, 30, 31, 32].contains(number)) {
        let prompt: Value = serde_json::from_str(line).expect("a row");
        assert!(!text.contains(prompt["prompt"].as_str().expect("text")), "row {number}");
    }
    let secrets = owner.read("datasets.secrets");
    let secret = secrets.lines().find_map(|line| line.trim().strip_prefix("secret: ")).expect("a secret");
    assert!(!text.contains(secret.trim_matches('"')));

    let forged = |change: &dyn Fn(&mut Value)| {
        let mut value = revealed.clone();
        change(&mut value);
        let bytes = to_canonical_json(&value).expect("JSON");
        fs::write(stranger.path("forged.json"), bytes).expect("a file");
        check("forged.json")
    };
    let other_claim = claim_id(&{
        owner.train("other", &["seed=8", "val_set_size=8"]);
        owner.path("other")
    });
    let salt = revealed["rows"][0]["salt"].clone();
    type Change<'a> = (&'a dyn Fn(&mut Value), &'a str);
    let changes: [Change<'_>; 8] = [
        (&|value| value["rows"][1]["text"] = "{}".into(), "row 17 is not what the claim committed to"),
        (&|value| value["rows"][0]["row"] = 4.into(), "row 4 is not what the claim committed to"),
        (&|value| value["rows"][1]["salt"] = salt.clone(), "row 17 is not what the claim committed to"),
        (&|value| value["rows"][2]["path"][0] = value["root"].clone(), "row 30 is not what the claim committed to"),
        (&|value| value["rows"][4]["row"] = 33.into(), "there is no row 33: `private` has the rows 1 to 32"),
        (&|value| value["claim_id"] = other_claim.clone().into(), "its rows are of the claim"),
        (&|value| value["source"] = "rows".into(), "the claim has no commitment to the rows of `rows`"),
        (&|value| value["more"] = 1.into(), "it is no file of revealed rows"),
    ];
    for (change, words) in changes {
        assert_stdout(&forged(change), 1, &["revealed forged.json", "DIFFERS", words]);
    }
    stranger.write("forged.json", &format!("{text}\n"));
    assert_stdout(&check("forged.json"), 1, &["it is not in canonical form"]);
    assert_stdout(&check("nothing.json"), 2, &["it is not a file"]);
    // A wrong file is no fault of the claim.
    stranger.tune(&["key", "new", "key.pem"]).assert_code(0);
    let signed =
        stranger.tune(&["verify", "published", "--level", "files", "--revealed", "forged.json", "--attest", "key.pem"]);
    signed.assert_code(1).assert_stderr(&["nothing was signed"]);
}

#[test]
fn what_cannot_be_revealed_is_refused_and_nothing_is_written() {
    let owner = finished();
    let reveal = |source: &str, rows: &str, to: &str| {
        owner.tune(&["reveal", "run", "--source", source, "--rows", rows, "--to", to])
    };
    reveal("private", "33", "x").assert_code(1).assert_stderr(&["no row 33", "the rows 1 to 32"]);
    reveal("private", "1-18446744073709551615", "x").assert_code(1).assert_stderr(&["no row 18446744073709551615"]);
    reveal("private", "0", "x").assert_code(2).assert_stderr(&["rows are numbered from 1"]);
    reveal("rows", "1", "x").assert_code(1).assert_stderr(&["stands in the claim by its digest", "hint"]);
    reveal("other", "1", "x").assert_code(1).assert_stderr(&["private, rows"]);
    reveal("private", "1", "run/x").assert_code(1).assert_stderr(&["lies in the run"]);
    reveal("private", "1", "recipe.yaml").assert_code(1).assert_stderr(&["is there already"]);
    let rows = owner.read("private.jsonl");
    owner.write("private.jsonl", &rows.replacen("prompt", "Prompt", 1));
    reveal("private", "1", "x").assert_code(1).assert_stderr(&["is not what is locked"]);
    fs::rename(owner.path("private.jsonl"), owner.path("moved")).expect("a file");
    reveal("private", "1", "x").assert_code(1).assert_stderr(&["does not exist"]);
    owner.write("moved", &rows);
    fs::rename(owner.path("datasets.secrets"), owner.path("secrets")).expect("a file");
    reveal("private=moved", "1", "x").assert_code(1).assert_stderr(&["the secret of its commitment", "--secrets FILE"]);
    assert!(!owner.path("x").exists());
    let arguments = ["reveal", "run", "--source", "private=moved", "--rows", "1", "--to", "x", "--secrets", "secrets"];
    owner.tune(&arguments).assert_code(0);
}

#[test]
fn the_lock_holds_rows_to_their_commitment_as_it_holds_files_to_their_digest() {
    let world = world_of("unshareable");
    let rows = world.read("private.jsonl");
    let plan = |arguments: &[&str]| world.tune(&[&["plan", "recipe.yaml"], arguments].concat());
    plan(&["--locked"]).assert_code(1).assert_stderr(&["is not in"]);
    assert!(!world.path("datasets.secrets").exists());
    world.tune(&["lock", "recipe.yaml"]).assert_code(0);
    let (lock, secrets) = (world.read("datasets.lock"), world.read("datasets.secrets"));
    assert!(lock.contains("scheme: \"tune-rows/1\"") && secrets.contains("Never publish"), "{lock}{secrets}");
    let mode = world.path("datasets.secrets").metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    // Locking again what is the same changes nothing.
    world.tune(&["lock", "recipe.yaml"]).assert_code(0);
    plan(&["--frozen"]).assert_code(0);
    assert_eq!((&world.read("datasets.lock"), &world.read("datasets.secrets")), (&lock, &secrets));

    world.train("run", &SETTINGS);
    world.write("private.jsonl", &rows.replacen("prompt\":\"", "prompt\":\"x", 1));
    for arguments in [&[][..], &["--locked"], &["--frozen"]] {
        plan(arguments).assert_code(1).assert_stderr(&[
            "source `private`",
            "is not what is locked",
            "tune lock RECIPE",
        ]);
    }
    assert_eq!(world.read("datasets.lock"), lock);
    world.tune(&["lock", "recipe.yaml"]).assert_code(0);
    assert_ne!(world.read("datasets.lock"), lock);
    plan(&["--locked"]).assert_code(0);
    // New rows have a new secret, and the old run keeps its own.
    assert_eq!(world.read("datasets.secrets").matches("secret: ").count(), 2);
    // Where only the folder says that they lie; and where the verifier does.
    world.tune(&["verify", "run", "--level", "data"]).assert_code(2);
    let named = ["--source", "private=private.jsonl", "--secrets", "datasets.secrets"];
    world.tune(&[&["verify", "run", "--level", "data"], &named[..]].concat()).assert_code(1);
    world.write("old.jsonl", &rows);
    world.tune(&["verify", "run", "--level", "data", "--source", "private=old.jsonl"]).assert_code(0);

    fs::rename(world.path("datasets.secrets"), world.path("kept")).expect("a file");
    plan(&[]).assert_code(1).assert_stderr(&["the secret of its commitment", "datasets.secrets"]);
    fs::rename(world.path("kept"), world.path("datasets.secrets")).expect("a file");
    world.write("datasets.secrets", "sources: secret\n");
    plan(&[]).assert_code(1).assert_stderr(&["no file of secrets"]);
}

#[test]
fn a_source_that_becomes_unshareable_loses_its_digest_and_gets_it_back() {
    let world = world_of("open");
    let plan = |class: &str, more: &[&str]| {
        let class = format!("provenance.private.class={class}");
        world.tune(&[&["plan", "recipe.yaml", &class], more].concat())
    };
    plan("open", &[]).assert_code(0);
    let open = world.read("datasets.lock");
    plan("unshareable", &["--locked"]).assert_code(1).assert_stderr(&["by the digest of its file", "tune lock RECIPE"]);
    plan("unshareable", &[]).assert_code(0);
    let committed = world.read("datasets.lock");
    assert_eq!(committed.matches("size:").count(), open.matches("size:").count() - 1);
    let digest = Digest::of(world.read("private.jsonl").as_bytes()).to_string();
    assert!(open.contains(&digest) && !committed.contains(&digest), "{committed}");
    plan("open", &["--locked"]).assert_code(1).assert_stderr(&["by a commitment to its rows"]);
    plan("open", &[]).assert_code(0);
    assert_eq!(world.read("datasets.lock"), open);
    // The bytes are held to what was locked on the way, either way.
    plan("unshareable", &[]).assert_code(0);
    let rows = world.read("private.jsonl");
    world.write("private.jsonl", &rows.replacen("prompt\":\"", "prompt\":\"x", 1));
    plan("open", &[]).assert_code(1).assert_stderr(&["is not what is locked"]);

    world.write("private.jsonl", &rows);
    let pin = format!("datasets.1.sha256={}", Digest::of(rows.as_bytes()));
    plan("open", &[&pin]).assert_code(0);
    plan("unshareable", &[&pin]).assert_code(1).assert_stderr(&["would publish the digest"]);
    let address = "datasets.1.path=https://example.org/private.jsonl";
    plan("unshareable", &[address, "--offline"]).assert_code(1).assert_stderr(&["is an address", "hint"]);
}

/// What a forger can change in a run on unshareable rows, and where its owner sees it. A stranger reaches `files` at most.
#[test]
fn forgeries_on_withheld_rows_are_seen_by_whoever_has_them() {
    let owner = finished();
    let change_answer = |run: &Path, member: &str, value: Value| {
        let path = run.join("evaluation-after.json");
        let mut scores = json(&path);
        let answers = scores["answers"].as_array_mut().expect("answers");
        let answer = answers.iter_mut().find(|answer| answer.get("question").is_some()).expect("a withheld answer");
        answer[member] = value;
        fs::write(&path, to_canonical_json(&scores).expect("JSON")).expect("the run");
        reseal_scores(run);
    };
    type Forgery<'a> = (&'a str, &'a dyn Fn(&Path));
    let forgeries: [Forgery<'_>; 4] = [
        ("files", &|run| change_answer(run, "source", "rows".into())),
        ("data", &|run| change_answer(run, "question", Digest::of(b"other").to_string().into())),
        ("full", &|run| change_answer(run, "answer", Digest::of(b"other").to_string().into())),
        ("full", &|run| change_answer(run, "correct", true.into())),
    ];
    for (number, (seen, forge)) in forgeries.into_iter().enumerate() {
        let name = format!("forged-{number}");
        copy_folder(&owner.path("run"), &owner.path(&name));
        forge(&owner.path(&name));
        for level in ["files", "data", "sample", "full"] {
            let verdict = owner.tune(&["verify", &name, "--level", level, "--segments", "9"]);
            assert_eq!(verdict.code, Some(i32::from(level == seen)), "{number}, {level}:\n{}", verdict.stdout);
            if level == seen {
                break;
            }
        }
    }
}

/// What the verifier was given does not open the commitment: that is said, and is nothing against the claim.
#[test]
fn a_wrong_secret_is_told_from_wrong_rows_and_neither_is_attested() {
    let owner = finished();
    let auditor = stranger(&owner);
    auditor.tune(&["key", "new", "key.pem"]).assert_code(0);
    fs::copy(owner.path("private.jsonl"), auditor.path("private.jsonl")).expect("the rows");
    let secrets = owner.read("datasets.secrets");
    let given = ["--source", "private=private.jsonl", "--secrets", "secrets", "--attest", "key.pem"];
    let verify = || verify(&auditor, &[&["published", "--level", "data"], &given[..]].concat());
    let secret = secrets.lines().find_map(|line| line.trim().strip_prefix("secret: ")).expect("a secret");
    auditor.write("secrets", &secrets.replace(secret, &format!("\"{}\"", "5a".repeat(32))));
    let verdict = verify();
    assert_stdout(&verdict, 2, &["the secret of `private` does not open the commitment", "nothing of it was compared"]);
    verdict.assert_stderr(&["nothing was signed"]);

    auditor.write("secrets", &secrets);
    let rows = auditor.read("private.jsonl");
    auditor.write("private.jsonl", &rows.replacen(' ', "  ", 1));
    let verdict = verify();
    assert_stdout(&verdict, 1, &["is not what is locked"]);
    verdict.assert_stderr(&["nothing was signed"]);
    auditor.write("private.jsonl", &rows);
    assert_stdout(&verify(), 0, &["verified at level `data`"]);
    let listed = auditor.tune(&["attest", "list", "published"]).stdout;
    assert!(listed.starts_with("PASSED") && listed.lines().count() == 1, "{listed}");
}

/// Seals a run again whose answers were changed.
fn reseal_scores(run: &Path) {
    let scores = ["before", "after"].map(|when| json(&run.join(format!("evaluation-{when}.json")))["answers"].clone());
    let answers = Digest::of(&to_canonical_json(&scores).expect("JSON"));
    let correct = scores[1].as_array().expect("answers").iter().filter(|answer| answer["correct"] == true).count();
    reseal(run, |manifest: &mut Manifest| {
        manifest.claim.evaluation.answers = Some(answers);
        manifest.claim.evaluation.exact_match_after = correct as u64;
    });
}

/// Two people with the same rows and secrets of their own computed the same.
#[test]
fn other_secrets_explain_other_digests_and_nothing_else() {
    let (a, b) = (finished(), finished());
    assert_ne!(claim_id(&a.path("run")), claim_id(&b.path("run")));
    copy_folder(&b.path("run"), &a.path("theirs/run"));
    let their_secrets = b.read("datasets.secrets");
    a.write("theirs/datasets.secrets", &their_secrets);
    for name in ["rows.jsonl", "private.jsonl"] {
        a.write(&format!("theirs/{name}"), &b.read(name));
    }
    copy_folder(&a.path("base"), &a.path("theirs/base"));
    let diff = a.tune(&["diff", "run", "theirs/run"]);
    let rows = "the source `private` is committed to otherwise; its rows are the same";
    assert_stdout(&diff, 1, &[rows, "salted with other secrets", "cause: what was computed is the same"]);
}

/// The same rows, open in one run and withheld in the other.
#[test]
fn the_same_rows_without_a_secret_explain_other_digests_and_nothing_else() {
    let (a, b) = (finished(), world_of("open"));
    b.train("run", &SETTINGS);
    copy_folder(&b.path("run"), &a.path("open/run"));
    for name in ["rows.jsonl", "private.jsonl"] {
        a.write(&format!("open/{name}"), &b.read(name));
    }
    copy_folder(&a.path("base"), &a.path("open/base"));
    for runs in [["run", "open/run"], ["open/run", "run"]] {
        let diff = a.tune(&[&["diff"][..], &runs].concat());
        let rows = "the source `private` is committed to otherwise; its rows are the same";
        assert_stdout(&diff, 1, &[rows, "cause: what was computed is the same"]);
        assert!(!diff.stdout.contains("of question"), "{}", diff.stdout);
    }
    // Another answer to an open question is still seen.
    let path = a.path("open/run/evaluation-after.json");
    let mut scores = json(&path);
    let answers = scores["answers"].as_array_mut().expect("answers");
    let open = answers.iter_mut().find(|answer| {
        let prompt = answer["prompt"].as_str().expect("open").to_owned();
        a.read("rows.jsonl").contains(&Value::from(prompt).to_string())
    });
    open.expect("an answer to an open row")["answer"] = "other".into();
    fs::write(&path, to_canonical_json(&scores).expect("JSON")).expect("the run");
    assert_stdout(&a.tune(&["diff", "run", "open/run"]), 1, &["the answer of question"]);
}
