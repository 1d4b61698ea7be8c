//! Small models made in memory, for the tests of this module.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use tempfile::NamedTempFile;

/// Files on disk under the names that a model gives them, removed when dropped.
#[derive(Default)]
pub(super) struct Files {
    pub(super) names: BTreeMap<String, PathBuf>,
    kept: Vec<NamedTempFile>,
}

impl Files {
    pub(super) fn of(files: &[(&str, &[u8])]) -> Self {
        let mut result = Self::default();
        for (name, bytes) in files {
            result.put(name, bytes);
        }
        result
    }

    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        self.names.insert(name.to_owned(), file.path().to_owned());
        self.kept.push(file);
    }
}

/// Writes GGUF, right or wrong.
pub(super) struct Gguf {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) entries: Vec<(String, Vec<u8>)>,
    pub(super) tensors: Vec<GgufTensor>,
}

/// A tensor to be written; `offset` overrides the right one.
pub(super) struct GgufTensor {
    pub(super) name: String,
    /// Innermost first, as stored.
    pub(super) dimensions: Vec<u64>,
    pub(super) kind: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) offset: Option<u64>,
}

pub(super) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

pub(super) fn text_value(text: &str) -> Vec<u8> {
    [8_u32.to_le_bytes().to_vec(), string(text)].concat()
}

pub(super) fn u32_value(number: u32) -> Vec<u8> {
    [4_u32.to_le_bytes(), number.to_le_bytes()].concat()
}

pub(super) fn f32_value(number: f32) -> Vec<u8> {
    [6_u32.to_le_bytes(), number.to_le_bytes()].concat()
}

pub(super) fn bool_value(flag: bool) -> Vec<u8> {
    [&7_u32.to_le_bytes()[..], &[u8::from(flag)]].concat()
}

/// An array value of `count` items of type `item`, already encoded.
pub(super) fn array_value(item: u32, count: usize, items: Vec<u8>) -> Vec<u8> {
    [&9_u32.to_le_bytes()[..], &item.to_le_bytes(), &(count as u64).to_le_bytes(), &items].concat()
}

pub(super) fn texts_value(texts: &[String]) -> Vec<u8> {
    array_value(8, texts.len(), texts.iter().flat_map(|text| string(text)).collect())
}

impl Gguf {
    pub(super) fn put(&mut self, key: &str, value: Vec<u8>) {
        self.remove(key);
        self.entries.push((key.to_owned(), value));
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.entries.retain(|(name, _)| name != key);
    }

    pub(super) fn tensor(&mut self, name: &str, dimensions: &[u64], kind: u32, bytes: Vec<u8>) {
        let dimensions = dimensions.to_vec();
        self.tensors.push(GgufTensor { name: name.to_owned(), dimensions, kind, bytes, offset: None });
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            bytes.extend(string(key));
            bytes.extend(value);
        }
        let mut data: Vec<u8> = Vec::new();
        for tensor in &self.tensors {
            bytes.extend(string(&tensor.name));
            bytes.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.bytes);
            data.resize(data.len().next_multiple_of(self.alignment as usize), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(self.alignment as usize), 0);
        bytes.extend(data);
        bytes
    }
}

/// The GPT-2 character of each byte.
fn byte_characters() -> Vec<String> {
    let plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    (0..256_u32)
        .map(|byte| {
            let code = if plain(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap().to_string()
        })
        .collect()
}

/// The values of a stored f32 tensor: different everywhere, exact in all types.
pub(super) fn ramp(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 509) as f32 / 8.0 - 16.0).collect()
}

pub(super) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) const TEMPLATE: &str = "{% for m in messages %}{{ m.content }}{% endfor %}";

/// A decoder of one block: width 64, two query heads and one key head of width 32, feed-forward width 32, 260 tokens.
pub(super) fn tiny() -> Gguf {
    let mut tokens = vec!["<|endoftext|>".to_owned(), "<|im_start|>".to_owned()];
    tokens.extend(byte_characters());
    tokens.extend(["Ġa".to_owned(), "12".to_owned()]);
    let count = tokens.len();
    let types: Vec<u8> = (0..count).flat_map(|id| if id < 2 { 3_i32 } else { 1 }.to_le_bytes()).collect();
    let mut gguf = Gguf { version: 3, alignment: 32, entries: Vec::new(), tensors: Vec::new() };
    gguf.put("general.architecture", text_value("llama"));
    gguf.put("llama.block_count", u32_value(1));
    gguf.put("llama.context_length", u32_value(128));
    gguf.put("llama.embedding_length", u32_value(64));
    gguf.put("llama.feed_forward_length", u32_value(32));
    gguf.put("llama.attention.head_count", u32_value(2));
    gguf.put("llama.attention.head_count_kv", u32_value(1));
    gguf.put("llama.attention.layer_norm_rms_epsilon", f32_value(1e-5));
    gguf.put("llama.rope.freq_base", f32_value(10_000.0));
    gguf.put("tokenizer.ggml.model", text_value("gpt2"));
    gguf.put("tokenizer.ggml.pre", text_value("smollm"));
    gguf.put("tokenizer.ggml.tokens", texts_value(&tokens));
    gguf.put("tokenizer.ggml.token_type", array_value(5, count, types));
    gguf.put("tokenizer.ggml.merges", texts_value(&["Ġ a".to_owned(), "1 2".to_owned()]));
    gguf.put("tokenizer.ggml.bos_token_id", u32_value(1));
    gguf.put("tokenizer.ggml.eos_token_id", u32_value(0));
    gguf.put("tokenizer.ggml.add_bos_token", bool_value(false));
    gguf.put("tokenizer.chat_template", text_value(TEMPLATE));
    let f32s = |count| f32_bytes(&ramp(count));
    gguf.tensor("token_embd.weight", &[64, count as u64], 0, f32s(64 * count));
    gguf.tensor("output_norm.weight", &[64], 0, f32s(64));
    gguf.tensor("blk.0.attn_norm.weight", &[64], 0, f32s(64));
    gguf.tensor("blk.0.attn_q.weight", &[64, 64], 0, f32s(64 * 64));
    gguf.tensor("blk.0.attn_k.weight", &[64, 32], 0, f32s(64 * 32));
    gguf.tensor("blk.0.attn_v.weight", &[64, 32], 8, (0..64 * 34).map(|i| (i % 34) as u8).collect());
    gguf.tensor("blk.0.attn_output.weight", &[64, 64], 3, (0..128 * 20).map(|i| (i % 20) as u8).collect());
    gguf.tensor("blk.0.ffn_norm.weight", &[64], 0, f32s(64));
    gguf.tensor("blk.0.ffn_gate.weight", &[64, 32], 1, (0..64 * 32 * 2).map(|i| (i % 60) as u8).collect());
    gguf.tensor("blk.0.ffn_up.weight", &[64, 32], 30, (0..64 * 32 * 2).map(|i| (i % 60) as u8).collect());
    gguf.tensor("blk.0.ffn_down.weight", &[32, 64], 2, (0..64 * 18).map(|i| (i % 18) as u8).collect());
    gguf
}

/// A safetensors file with this header text and data.
pub(super) fn safetensors_bytes(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}
