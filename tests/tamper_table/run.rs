//! Forgeries of a run folder, with every hash made anew.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tune_model::base::write_safetensors;
use tune_schema::chain::F32Bits;
use tune_schema::recipe::DataClass;
use tune_schema::{Digest, canonical_digest, to_canonical_json};
use tune_train::RunFolder;
use tune_train::checkpoint::read_tensors;

use super::forge::{
    WEIGHTS, add_tokens, append, better_loss, change_checkpoint, change_inputs, change_lock, change_metrics,
    change_scores, change_setting, change_source, change_state_file, change_step, drop_steps, merge_steps, nudge,
    open_answers, replace, rewrite_result, shift_stream, state_provenance, swap_steps,
};
use super::{Row, Seen};
use crate::support::forgery::{manifest, reseal, rewrite_chain, seal};

/// The files, and how they fit together.
pub(super) const FILES: &[Row] = &[
    ("a file that the manifest does not list", Seen::At("files"), |_, run| {
        fs::write(run.join("extra.txt"), "x").expect("the run");
    }),
    ("a file that is gone", Seen::Unchecked, |_, run| {
        fs::remove_file(run.join("evaluation-after.json")).expect("the run");
    }),
    ("a passenger among the claimed files", Seen::At("files"), |_, run| {
        fs::write(run.join("adapter/model.bin"), "x").expect("the run");
        reseal(run, |manifest| {
            manifest.claim.files.insert("adapter/model.bin".to_owned(), Digest::of(b""));
        });
    }),
    ("a file named by a path outside of the folder", Seen::At("files"), |_, run| {
        let folder = RunFolder::new(run);
        let mut manifest = manifest(&folder);
        manifest.claim.files.insert("../other/chain.jsonl".to_owned(), Digest::of(b""));
        seal(&folder, manifest);
    }),
    ("another run's adapter", Seen::At("files"), |world, run| {
        fs::copy(world.path("other/adapter").join(WEIGHTS), run.join("adapter").join(WEIGHTS)).expect("the run");
        reseal(run, |_| {});
    }),
    ("another run's manifest", Seen::At("files"), |world, run| {
        fs::copy(world.path("other/manifest.json"), run.join("manifest.json")).expect("the run");
    }),
    ("checkpoints in each other's place", Seen::At("files"), |_, run| {
        let (a, b, kept) =
            (run.join("checkpoints/step-000002"), run.join("checkpoints/step-000004"), run.join("checkpoints/kept"));
        fs::rename(&a, &kept).and_then(|()| fs::rename(&b, &a)).and_then(|()| fs::rename(&kept, &b)).expect("moves");
        reseal(run, |_| {});
    }),
    ("another run's checkpoint", Seen::At("files"), |world, run| {
        let name = "checkpoints/step-000002/optimizer.safetensors";
        fs::copy(world.path("other").join(name), run.join(name)).expect("the run");
        reseal(run, |_| {});
    }),
    ("a step's record, not linked anew", Seen::At("files"), |_, run| {
        let text = fs::read_to_string(run.join("chain.jsonl")).expect("the chain");
        let record = text.lines().nth(2).expect("a record");
        let mut forged: Value = serde_json::from_str(record).expect("JSON");
        forged["loss"] = Value::from("3f000000");
        let forged = String::from_utf8(to_canonical_json(&forged).expect("JSON")).expect("text");
        fs::write(run.join("chain.jsonl"), text.replace(record, &forged)).expect("the run");
        reseal(run, |_| {});
    }),
    ("a chain that begins with other inputs", Seen::At("files"), |_, run| {
        let head = rewrite_chain(run, |records| records[0].previous = Digest::of(b"other"));
        reseal(run, |manifest| manifest.claim.chain_head = head);
    }),
    ("the chain's head in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.chain_head = Digest::of(b"other"));
    }),
    ("the stream's digest in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.stream.digest = Digest::of(b"other"));
    }),
    ("the number of steps in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.training.steps = 400);
    }),
    ("the training settings in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.training.weight_decay = 0.5);
    }),
    ("the scale in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.training.effective_scale = Some(F32Bits::new(4.0)));
    }),
    ("the initial root in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.initial_root = Digest::of(b"other"));
    }),
    ("the final root in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.final_root = Digest::of(b"other"));
    }),
    ("a checkpoint's root in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| {
            manifest.claim.checkpoints.insert("2".to_owned(), Digest::of(b"other"));
        });
    }),
    ("fewer checkpoints in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| {
            manifest.claim.checkpoints.remove("2");
        });
    }),
    ("a checkpoint that says another step", Seen::At("files"), |_, run| {
        change_state_file(run, 2, |state| state["step"] = Value::from(3));
        reseal(run, |_| {});
    }),
    ("another recipe as it was written", Seen::At("files"), |_, run| {
        replace(run, "recipe.yaml", "learning_rate: 1e-3", "learning_rate: 1e-4");
    }),
    ("another recipe as it was resolved", Seen::At("files"), |_, run| {
        change_setting(run, ("learning_rate: 0.001", "learning_rate: 0.002"), None);
    }),
    ("an override that nobody gave", Seen::At("files"), |_, run| {
        change_inputs(run, |inputs| {
            inputs.overrides.insert("learning_rate".to_owned(), "1".to_owned());
        });
    }),
    ("a numerics profile that is not known", Seen::At("files"), |_, run| {
        // No type of this version holds it, so it is sealed as text.
        let text = fs::read_to_string(run.join("manifest.json")).expect("the manifest");
        let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
        manifest["claim"]["inputs"]["numerics"] = Value::from("exact-f32/2");
        manifest["claim_id"] = Value::from(canonical_digest(&manifest["claim"]).expect("a digest").to_string());
        manifest.as_object_mut().expect("members").remove("seal");
        let sealed = canonical_digest(&manifest).expect("a digest").to_string();
        manifest["seal"] = Value::from(sealed);
        fs::write(run.join("manifest.json"), to_canonical_json(&manifest).expect("JSON")).expect("the run");
    }),
    ("metrics that say something else", Seen::At("files"), |_, run| {
        change_metrics(run, |lines| lines[1]["loss"] = Value::from(0.5));
        reseal(run, |_| {});
    }),
    ("an answer scored better than it is", Seen::At("files"), |_, run| {
        change_scores(run, "after", |scores| {
            let answer = open_answers(scores).next().expect("an answer");
            answer.correct = !answer.correct;
        });
    }),
    ("the scores in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.evaluation.exact_match_after = 2);
    }),
    ("another lock than the claim's", Seen::At("files"), |_, run| {
        replace(run, "datasets.lock", "size: ", "size: 1");
    }),
];

/// What went in.
pub(super) const INPUTS: &[Row] = &[
    ("a seed that was not used", Seen::At("data"), |_, run| {
        change_inputs(run, |inputs| {
            inputs.seeds.insert("adapter-init".to_owned(), "8".to_owned());
        });
    }),
    ("another seed in recipe and claim", Seen::At("data"), |_, run| {
        change_setting(run, ("seed: \"7\"", "seed: \"8\""), Some(("seed: 7", "seed: 8")));
    }),
    ("a base model of other weights", Seen::At("data"), |_, run| {
        change_inputs(run, |inputs| inputs.base_model.tensor_root = Some(Digest::of(b"other")));
    }),
    ("a base model of other files", Seen::At("data"), |_, run| {
        change_source(run, "base", |source| source.files[0].sha256 = Digest::of(b"other"));
    }),
    ("another tokenizer", Seen::At("data"), |_, run| {
        change_inputs(run, |inputs| inputs.tokenizer = Digest::of(b"other"));
    }),
    ("modules that were not adapted", Seen::At("data"), |_, run| {
        change_inputs(run, |inputs| inputs.adapted_modules.truncate(3));
    }),
    ("data of other bytes", Seen::At("data"), |_, run| {
        change_source(run, "rows", |source| source.files[0].sha256 = Digest::of(b"other"));
    }),
    ("rows prepared otherwise", Seen::At("data"), |_, run| {
        let written = ("sequence_len: 128", "sequence_len: 160");
        change_setting(run, written, Some(written));
    }),
    ("another learning rate in recipe and claim", Seen::At("sample"), |_, run| {
        let written = ("learning_rate: 1e-3", "learning_rate: 2e-3");
        change_setting(run, ("learning_rate: 0.001", "learning_rate: 0.002"), Some(written));
    }),
    ("a path of one machine as the address of a source", Seen::At("files"), |_, run| {
        change_source(run, "rows", |source| source.uri = "/proc/version".to_owned());
    }),
    ("the licence of a source, in lock and claim", Seen::At("files"), |_, run| {
        change_source(run, "rows", |source| source.licence = Some("CC0-1.0".to_owned()));
    }),
    ("the class of a source, in lock and claim", Seen::At("files"), |_, run| {
        change_source(run, "rows", |source| source.class = Some(DataClass::Open));
    }),
    ("the licence of the base model, in the lock", Seen::At("files"), |_, run| {
        change_source(run, "base", |source| source.licence = Some("CC0-1.0".to_owned()));
    }),
    ("a source in the lock that the run does not have", Seen::At("files"), |_, run| {
        change_lock(run, |lock| {
            let mut more = lock.sources.iter().find(|source| source.name == "rows").expect("the rows").clone();
            (more.name, more.uri) = ("more".to_owned(), "https://localhost/more".to_owned());
            lock.sources.push(more);
        });
        reseal(run, |_| {});
    }),
    ("a second entry of a source in the lock", Seen::At("files"), |_, run| {
        change_lock(run, |lock| {
            let mut second = lock.sources.iter().find(|source| source.name == "rows").expect("the rows").clone();
            second.files[0].sha256 = Digest::of(b"other rows");
            lock.sources.push(second);
        });
        reseal(run, |_| {});
    }),
    ("a remark in the recipe as it was resolved", Seen::At("files"), |_, run| append(run, "resolved.yaml", "# MIT\n")),
    ("a remark in the lock", Seen::At("files"), |_, run| append(run, "datasets.lock", "# MIT\n")),
    ("the address of one file for a base model of several", Seen::At("files"), |_, run| {
        change_source(run, "base", |source| source.uri = "https://localhost/model.safetensors".to_owned());
    }),
    ("the licence of a source, in recipe, lock and claim", Seen::Never, |_, run| {
        state_provenance(run, "licence: CC0-1.0");
        change_source(run, "rows", |source| source.licence = Some("CC0-1.0".to_owned()));
    }),
    ("the class of a source, in recipe, lock and claim", Seen::Never, |_, run| {
        state_provenance(run, "class: open");
        change_source(run, "rows", |source| source.class = Some(DataClass::Open));
    }),
    ("another place of a source in the recipe as it was written", Seen::Never, |_, run| {
        replace(run, "recipe.yaml", "path: rows.jsonl", "path: https://localhost/rows.jsonl");
    }),
    ("a remark in the recipe as it was written", Seen::Never, |_, run| {
        replace(run, "recipe.yaml", "adapter: lora", "# no remark\nadapter: lora");
    }),
];

/// The stream, the steps and their states.
pub(super) const STEPS: &[Row] = &[
    ("more rows than the steps have", Seen::At("files"), |_, run| {
        change_state_file(run, 4, |state| state["rows"] = Value::from(1_000_000));
        let head = rewrite_chain(run, |records| records[4].rows = 1_000_000);
        reseal(run, |manifest| {
            manifest.claim.stream.rows = 1_000_000;
            manifest.claim.chain_head = head;
        });
    }),
    ("white space in a checkpoint's state", Seen::At("files"), |_, run| {
        append(run, "checkpoints/step-000002/state.json", " ");
    }),
    ("a figure more in the metrics", Seen::At("files"), |_, run| {
        change_metrics(run, |lines| lines[1]["benchmark"] = Value::from(0.99));
        reseal(run, |_| {});
    }),
    ("a tensor more in the optimizer's file", Seen::At("files"), |_, run| {
        let path = run.join("checkpoints/step-000002/optimizer.safetensors");
        let mut tensors = read_tensors(&path).expect("moments");
        tensors.insert("first_moment.more".to_owned(), (vec![1], vec![0.0]));
        fs::write(&path, write_safetensors(&tensors, &BTreeMap::new()).expect("tensors")).expect("the run");
        reseal(run, |_| {});
    }),
    ("a tensor of another shape, in result and checkpoints", Seen::At("data"), |_, run| {
        for step in [0, 2, 4] {
            change_checkpoint(run, step, |state| {
                for tensors in [&mut state.parameters, &mut state.first_moments, &mut state.second_moments] {
                    tensors.values_mut().next().expect("a tensor").0.reverse();
                }
            });
        }
    }),
    ("rows that other steps had", Seen::At("data"), |_, run| {
        let other = Digest::of(b"other rows");
        change_state_file(run, 2, |state| state["stream"] = Value::from(other.to_string()));
        let head = rewrite_chain(run, |records| records[2].stream = other);
        reseal(run, |manifest| manifest.claim.chain_head = head);
    }),
    ("the stream's digests moved by one step", Seen::At("data"), |_, run| shift_stream(run)),
    ("the tokens of a step", Seen::At("data"), |_, run| add_tokens(run, "tokens")),
    ("the supervised tokens of a step", Seen::At("data"), |_, run| add_tokens(run, "supervised_tokens")),
    ("the number of training examples", Seen::At("data"), |_, run| {
        reseal(run, |manifest| manifest.claim.stream.train_examples += 1);
    }),
    ("the held-out rows", Seen::At("data"), |_, run| {
        reseal(run, |manifest| manifest.claim.stream.eval_digest = Digest::of(b"other"));
    }),
    ("steps in another order", Seen::At("data"), |_, run| swap_steps(run)),
    ("steps left out at the end", Seen::At("data"), |_, run| drop_steps(run)),
    ("two steps told as one", Seen::At("files"), |_, run| merge_steps(run)),
    ("the loss of a step", Seen::At("sample"), |_, run| {
        change_step(run, "loss", 0.5, |record| record.loss = Some(F32Bits::new(0.5)));
    }),
    ("the gradient norm of a step", Seen::At("sample"), |_, run| {
        change_step(run, "grad_norm", 0.5, |record| record.grad_norm = Some(F32Bits::new(0.5)));
    }),
    ("the learning rate of a step", Seen::At("sample"), |_, run| {
        change_step(run, "learning_rate", 0.5, |record| record.learning_rate = Some(F32Bits::new(0.5)));
    }),
    ("a held-out loss that was not measured", Seen::At("sample"), |_, run| {
        change_step(run, "eval_loss", 0.5, |record| record.eval_loss = Some(F32Bits::new(0.5)));
    }),
    ("an initial state of one's own", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 0, |state| nudge(&mut state.parameters));
    }),
    ("optimizer moments before the first step", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 0, |state| nudge(&mut state.first_moments));
    }),
    ("a checkpoint in the middle", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 2, |state| nudge(&mut state.parameters));
    }),
    ("the optimizer's first moments in the middle", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 2, |state| nudge(&mut state.first_moments));
    }),
    ("the optimizer's second moments in the middle", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 2, |state| nudge(&mut state.second_moments));
    }),
    ("the optimizer's moments at the end", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 4, |state| nudge(&mut state.second_moments));
    }),
];

/// The result, its configuration, and what was measured of it.
pub(super) const RESULT: &[Row] = &[
    ("final weights after honest checkpoints", Seen::At("files"), |_, run| {
        rewrite_result(run, |tensors| tensors[0].bytes[3] ^= 1);
    }),
    ("final weights in result and last checkpoint", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 4, |state| nudge(&mut state.parameters));
    }),
    ("white space in the answers", Seen::At("files"), |_, run| append(run, "evaluation-after.json", " ")),
    ("another format named in the result's header", Seen::At("full"), |_, run| {
        let path = run.join("adapter").join(WEIGHTS);
        let mut bytes = fs::read(&path).expect("weights");
        let named = b"\"format\":\"pt\"";
        let at = bytes.windows(named.len()).position(|part| part == named).expect("a format");
        bytes[at + named.len() - 3] = b'x';
        fs::write(&path, bytes).expect("the run");
        reseal(run, |_| {});
    }),
    ("a tensor of another shape, with the same values", Seen::At("files"), |_, run| {
        rewrite_result(run, |tensors| tensors[0].shape.reverse());
    }),
    ("a tensor of another type, with the same bytes", Seen::At("files"), |_, run| {
        rewrite_result(run, |tensors| tensors[0].dtype = "I32".to_owned());
    }),
    ("a tensor of another name", Seen::At("files"), |_, run| {
        rewrite_result(run, |tensors| tensors[0].name += "x");
    }),
    ("a tensor more", Seen::At("files"), |_, run| {
        rewrite_result(run, |tensors| {
            let mut more = tensors[0].clone();
            more.name += "x";
            tensors.push(more);
        });
    }),
    ("a tensor less", Seen::At("files"), |_, run| {
        rewrite_result(run, |tensors| drop(tensors.pop()));
    }),
    ("a tensor more in result and last checkpoint", Seen::At("files"), |_, run| {
        change_checkpoint(run, 4, |state| {
            let (name, tensor) = state.parameters.iter().next().expect("a tensor");
            let (name, tensor) = (format!("{name}x"), tensor.clone());
            state.parameters.insert(name, tensor);
        });
    }),
    ("the same tensors in another order in the file", Seen::At("full"), |_, run| {
        rewrite_result(run, |tensors| tensors.reverse());
    }),
    ("the scale in the adapter's configuration", Seen::At("data"), |_, run| {
        replace(run, "adapter/adapter_config.json", "\"lora_alpha\": 8", "\"lora_alpha\": 16");
    }),
    ("the rank in the adapter's configuration", Seen::At("data"), |_, run| {
        replace(run, "adapter/adapter_config.json", "\"r\": 4", "\"r\": 8");
    }),
    ("the modules in the adapter's configuration", Seen::At("data"), |_, run| {
        replace(run, "adapter/adapter_config.json", "\"q_proj\"", "\"x_proj\"");
    }),
    ("the base model in the adapter's configuration", Seen::At("data"), |_, run| {
        replace(
            run,
            "adapter/adapter_config.json",
            "\"base_model_name_or_path\": \"base\"",
            "\"base_model_name_or_path\": \"other\"",
        );
    }),
    ("the configuration beside a checkpoint", Seen::At("data"), |_, run| {
        replace(run, "checkpoints/step-000002/adapter_config.json", "\"lora_alpha\": 8", "\"lora_alpha\": 16");
    }),
    ("questions that were not asked", Seen::At("data"), |_, run| {
        change_scores(run, "after", |scores| {
            open_answers(scores).next().expect("an answer").prompt += " please";
        });
    }),
    ("answers that were not given", Seen::At("full"), |_, run| {
        change_scores(run, "after", |scores| {
            for answer in open_answers(scores) {
                answer.answer.clone_from(&answer.reference);
                answer.correct = true;
            }
        });
    }),
    ("the held-out loss before training", Seen::At("full"), |_, run| change_scores(run, "before", better_loss)),
    ("the held-out loss after training", Seen::At("full"), |_, run| change_scores(run, "after", better_loss)),
    ("what the machine is said to have been", Seen::Never, |_, run| {
        replace(run, "environment.json", "\"backend\": \"cpu\"", "\"backend\": \"abacus\"");
    }),
    ("the time that steps are said to have taken", Seen::Never, |_, run| {
        replace(run, "metrics.jsonl", "\"seconds\":", "\"seconds\":9");
    }),
];
