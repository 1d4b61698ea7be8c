//! What is written can be read back, and what cannot be written is refused by name.

mod adapter;
mod merged;
mod tokenizer;
mod writer;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value as Json, json};
use tempfile::NamedTempFile;
use tune_kernels::encoding::Encoding;
use tune_schema::Digest;

use super::gguf::f32_bytes;
use super::rows::interleave_halves;
use super::*;
use crate::base::gguf::{GgufArray, GgufValue};
use crate::base::{BaseModel, ModelConfig, RopeScaling, write_safetensors};
use crate::model::HostTensors;

/// A model's files, removed when dropped.
#[derive(Default)]
struct Files {
    names: BTreeMap<String, PathBuf>,
    kept: Vec<NamedTempFile>,
}

impl Files {
    fn put(&mut self, name: &str, bytes: &[u8]) {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        self.names.insert(name.to_owned(), file.path().to_owned());
        self.kept.push(file);
    }

    fn open(&self) -> BaseModel {
        BaseModel::open(&self.names).unwrap()
    }
}

/// Two blocks; heads and widths all different.
fn config() -> ModelConfig {
    ModelConfig {
        hidden_size: 32,
        intermediate_size: 64,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 6,
        vocab_size: 270,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        max_position_embeddings: 128,
        bos_token_id: Some(0),
        eos_token_ids: vec![0],
        initializer_range: 0.02,
    }
}

/// Numbers of no meaning in ±1, the same each time.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The GPT-2 character of each byte.
fn byte_characters() -> Vec<String> {
    let mut next = 0x100..;
    let plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut code = |byte: u32| if plain(byte) { byte } else { next.next().unwrap() };
    (0..256).map(|byte| char::from_u32(code(byte)).unwrap().to_string()).collect()
}

/// A `tokenizer.json` of 260 tokens that splits words, spaces and marks.
fn tokenizer() -> Json {
    let mut tokens = vec!["<|endoftext|>".to_owned()];
    tokens.extend(byte_characters());
    tokens.extend(["ab", "1a", "re"].map(str::to_owned));
    let vocab: BTreeMap<String, usize> = tokens.into_iter().enumerate().map(|(id, token)| (token, id)).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\w+|\\s|[^\\w\\s]"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [["a", "b"], ["1", "a"], ["r", "e"]]},
    })
}

fn folder(config: &ModelConfig, tokenizer: &Json) -> Files {
    let mut files = Files::default();
    files.put("config.json", &config.to_config_json());
    files.put("tokenizer.json", tokenizer.to_string().as_bytes());
    let settings =
        json!({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "chat_template": "{{ messages }}"});
    files.put("tokenizer_config.json", settings.to_string().as_bytes());
    let shapes = crate::shapes::decoder_shapes(config);
    let tensors: HostTensors = shapes
        .into_iter()
        .zip(1..)
        .map(|((name, shape), seed)| {
            let values = numbers(shape.iter().product(), seed);
            (name, (shape, values))
        })
        .collect();
    files.put("model.safetensors", &write_safetensors(&tensors, &BTreeMap::new()).unwrap());
    files
}

const FACTS: AdapterFacts = AdapterFacts { rank: 2, alpha: 6.0, rslora: false };

/// An adapter of these layers.
fn adapter(config: &ModelConfig, modules: &[&str]) -> HostTensors {
    let shapes = crate::shapes::decoder_shapes(config);
    let pair = |(module, seed): (&&str, u32)| {
        let shape = &shapes[&format!("{module}.weight")];
        let part = |which: &str, shape: [usize; 2], seed| {
            let values = numbers(shape[0] * shape[1], seed);
            (format!("base_model.model.{module}.lora_{which}.weight"), (shape.to_vec(), values))
        };
        [part("A", [2, shape[1]], seed), part("B", [shape[0], 2], seed + 1)]
    };
    modules.iter().zip((100..).step_by(2)).flat_map(pair).collect()
}

const Q: &str = "model.layers.0.self_attn.q_proj";
const MODULES: [&str; 4] =
    [Q, "model.layers.1.self_attn.k_proj", "model.layers.1.self_attn.v_proj", "model.layers.1.mlp.down_proj"];

fn merged_gguf(base: &BaseModel, tensors: &HostTensors, name: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_merged_gguf(&Merged::new(base, &FACTS, tensors).unwrap(), name, &mut bytes).unwrap();
    bytes
}

fn open_gguf(bytes: &[u8]) -> BaseModel {
    let mut files = Files::default();
    files.put("m.gguf", bytes);
    files.open()
}
