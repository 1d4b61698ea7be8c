//! Base models.

use std::fs;

use serde_json::{Value, json};

use super::{edit, forget_sources, run_refused, world};
use crate::support::World;

const WEIGHTS: &str = "base/model.safetensors";
/// A tensor that every model has.
const EMBEDDING: &str = "model.embed_tokens.weight";

/// The header of the base model's weights, and what comes after it.
fn parts(world: &World) -> (Value, Vec<u8>) {
    let bytes = fs::read(world.path(WEIGHTS)).expect("the weights");
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
    let (header, data) = rest.split_at(usize::try_from(length).expect("a short header"));
    (serde_json::from_slice(header).expect("the header is JSON"), data.to_vec())
}

/// Writes weights whose header is announced to be `more` bytes longer than it is.
fn write_parts(world: &World, header: &Value, more: u64, data: &[u8]) {
    let header = header.to_string();
    let length = (header.len() as u64).wrapping_add(more);
    fs::write(world.path(WEIGHTS), [&length.to_le_bytes(), header.as_bytes(), data].concat()).expect("the weights");
}

/// Changes the header of the weights.
fn with_header(change: impl FnOnce(&mut Value)) -> World {
    let world = world();
    let (mut header, data) = parts(&world);
    change(&mut header);
    write_parts(&world, &header, 0, &data);
    world
}

/// Puts a value in place of the third of the last norm's weights.
fn with_weight(value: f32) -> World {
    let world = world();
    let (header, mut data) = parts(&world);
    let begin = header["model.norm.weight"]["data_offsets"][0].as_u64().expect("an offset");
    let begin = usize::try_from(begin).expect("a short file") + 2 * size_of::<f32>();
    data[begin..begin + 4].copy_from_slice(&value.to_le_bytes());
    write_parts(&world, &header, 0, &data);
    world
}

const AGAIN: &str = "hint: fetch the file again and compare its sha256";

#[test]
fn a_model_that_is_not_there() {
    let world = world();
    edit(&world, "recipe.yaml", "base_model: base", "base_model: elsewhere");
    run_refused(
        &world,
        &[],
        1,
        &["source `elsewhere`", "elsewhere` does not exist", "relative to the recipe's folder"],
    );
}

#[test]
fn a_folder_without_configuration() {
    let world = world();
    fs::remove_file(world.path("base/config.json")).expect("it was there");
    run_refused(&world, &[], 1, &["source `base`", "it has no `config.json`", "hint: a model folder holds"]);
}

#[test]
fn a_model_of_another_architecture() {
    let world = world();
    edit(&world, "base/config.json", "\"llama\"", "\"mamba\"");
    run_refused(&world, &[], 1, &["`config.json`", "mamba", "not supported", "supported are `LlamaForCausalLM`"]);
}

#[test]
fn truncated_weights() {
    let world = world();
    let bytes = fs::read(world.path(WEIGHTS)).expect("the weights");
    for (length, texts) in [
        (bytes.len() - 100, ["`model.safetensors`: tensor `", &format!("the file at {}", bytes.len() - 100)]),
        (100, ["`model.safetensors` is truncated", "the file has 100"]),
        (0, ["`model.safetensors` is truncated", "the file has 0"]),
    ] {
        fs::write(world.path(WEIGHTS), &bytes[..length]).expect("the weights");
        forget_sources(&world);
        run_refused(&world, &[], 1, &[&texts[..], &[AGAIN]].concat());
    }
}

#[test]
fn a_header_of_another_length() {
    let world = world();
    let (header, data) = parts(&world);
    for (more, text) in [(50_000_000, "is truncated"), (1 << 62, "the header's length"), (u64::MAX, "is not valid")] {
        write_parts(&world, &header, more, &data);
        forget_sources(&world);
        run_refused(&world, &[], 1, &["`model.safetensors`", text, AGAIN]);
    }
}

#[test]
fn a_header_with_another_shape() {
    let world = with_header(|header| header[EMBEDDING]["shape"] = json!([1_u64 << 40, 1_u64 << 40]));
    run_refused(&world, &[], 1, &["`model.safetensors`: tensor `model.embed_tokens.weight`", "1099511627776", AGAIN]);
}

#[test]
fn a_header_with_a_place_beyond_the_file() {
    let world = with_header(|header| {
        header[EMBEDDING]["shape"] = json!([1_u64 << 40, 1]);
        header[EMBEDDING]["data_offsets"] = json!([0, 4_u64 << 40]);
    });
    let texts = ["`model.safetensors`: tensor `model.embed_tokens.weight`", "ends at offset", "the file at", AGAIN];
    run_refused(&world, &[], 1, &texts);
}

#[test]
fn weights_of_another_model() {
    let world = world();
    let config: Value = serde_json::from_str(&world.read("base/config.json")).expect("the configuration is JSON");
    let layers = config["num_hidden_layers"].as_u64().expect("a number");
    let (old, new) = (format!("\"num_hidden_layers\": {layers}"), format!("\"num_hidden_layers\": {}", layers + 1));
    edit(&world, "base/config.json", &old, &new);
    run_refused(&world, &[], 1, &[&format!("tensor `model.layers.{layers}."), "hint: "]);
}

#[test]
fn a_weight_that_is_no_number() {
    let texts = ["`model.safetensors`: value 2 of tensor `model.norm.weight` is not finite", AGAIN];
    run_refused(&with_weight(f32::NAN), &[], 1, &texts);
    run_refused(&with_weight(f32::INFINITY), &[], 1, &texts);
}

#[test]
fn a_tokenizer_with_ids_that_the_model_does_not_know() {
    let world = world();
    let mut tokenizer: Value = serde_json::from_str(&world.read("base/tokenizer.json")).expect("it is JSON");
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().expect("a vocabulary");
    for id in vocabulary.values_mut().filter(|id| **id != json!(0)) {
        *id = json!(id.as_u64().expect("an id") + 1_000_000);
    }
    world.write("base/tokenizer.json", &tokenizer.to_string());
    let texts = [
        "source `rows`, line 1",
        "the tokenizer does not fit the model",
        "has the id 1000",
        "hint: use the `tokenizer.json` that belongs to the model",
    ];
    run_refused(&world, &[], 1, &texts);
}

#[test]
fn a_tokenizer_that_breaks_off() {
    let world = world();
    world.write("base/tokenizer.json", "{\"version\": \"1.0\",");
    run_refused(&world, &[], 1, &["`tokenizer.json`", "line 1 column", "hint: "]);
}

/// The beginning of a GGUF file.
fn gguf(tensors: u64, entries: u64) -> Vec<u8> {
    [b"GGUF".as_slice(), &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &entries.to_le_bytes()].concat()
}

/// Length and bytes of a text, as GGUF has them.
fn gguf_text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A world whose base model is a GGUF file of these bytes.
fn with_gguf(bytes: &[u8]) -> World {
    let world = world();
    fs::write(world.path("lying.gguf"), bytes).expect("the temporary folder is writable");
    edit(&world, "recipe.yaml", "base_model: base", "base_model: lying.gguf");
    world
}

#[test]
fn a_gguf_file_with_too_many_tensors() {
    for tensors in [u64::MAX, 1 << 60, 1 << 30] {
        let world = with_gguf(&gguf(tensors, 0));
        run_refused(&world, &[], 1, &["`lying.gguf` is truncated", "at offset 16", AGAIN]);
    }
}

#[test]
fn a_gguf_file_with_a_text_that_is_too_long() {
    for length in [u64::MAX, 1 << 60, 1 << 30] {
        let world = with_gguf(&[gguf(0, 1), length.to_le_bytes().to_vec(), vec![b'a'; 64]].concat());
        let texts = ["`lying.gguf` is truncated", &format!("{length} bytes are announced at offset 32"), AGAIN];
        run_refused(&world, &[], 1, &texts);
    }
}

#[test]
fn a_gguf_file_with_a_tensor_beyond_its_end() {
    for offset in [1_u64 << 40, u64::MAX - 31] {
        let (dimensions, kind) = (1_u32.to_le_bytes(), 0_u32.to_le_bytes());
        let info = [&dimensions[..], &8_u64.to_le_bytes(), &kind, &offset.to_le_bytes()].concat();
        let world = with_gguf(&[gguf(1, 0), gguf_text("token_embd.weight"), info, vec![0; 64]].concat());
        run_refused(&world, &[], 1, &["`lying.gguf`: tensor `token_embd.weight` ends at offset", "the file at", AGAIN]);
    }
}

#[test]
fn a_pointer_in_place_of_a_gguf_file() {
    let world = with_gguf(b"version https://git-lfs.github.com/spec/v1\n");
    run_refused(&world, &[], 1, &["`lying.gguf`", "does not begin with the letters `GGUF`", "hint: "]);
}

#[test]
fn a_file_that_is_no_model() {
    let world = world();
    edit(&world, "recipe.yaml", "base_model: base", "base_model: recipe.yaml");
    run_refused(
        &world,
        &[],
        1,
        &["`recipe.yaml` does not begin with the letters `GGUF`", "hint: a text of some hundred bytes"],
    );
}
