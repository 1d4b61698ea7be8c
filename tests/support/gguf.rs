//! A small model in GGUF whose matrices are quantised: one block, byte-level tokens, weights of no meaning.

/// Width of the model; a head has half of it.
const WIDTH: u64 = 64;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A metadata value: its type, then its bytes.
fn value(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), bytes].concat()
}

fn text(text: &str) -> Vec<u8> {
    value(8, &string(text))
}

fn number(number: u32) -> Vec<u8> {
    value(4, &number.to_le_bytes())
}

fn array(kind: u32, items: &[Vec<u8>]) -> Vec<u8> {
    value(9, &[&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes(), &items.concat()].concat())
}

/// The special token, then the GPT-2 character of each byte.
fn tokens() -> Vec<String> {
    let plain = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let moved = (0x100..).zip((0..256).filter(|byte| !plain(byte)));
    let moved: std::collections::BTreeMap<u32, u32> = moved.map(|(to, byte)| (byte, to)).collect();
    let character = |byte: u32| char::from_u32(*moved.get(&byte).unwrap_or(&byte)).expect("a character").to_string();
    std::iter::once("<|endoftext|>".to_owned()).chain((0..256).map(character)).collect()
}

/// Numbers of no meaning, the same each time.
struct Bytes(u32);

impl Bytes {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }

    /// Blocks of 32 values as ggml's `Q8_0`: `d · q` with d = 2^-10.
    fn q8_0(&mut self, values: u64) -> Vec<u8> {
        (0..values / 32)
            .flat_map(|_| [0x00, 0x14].into_iter().chain((0..32).map(|_| self.next())).collect::<Vec<u8>>())
            .collect()
    }

    /// Blocks of 32 values as ggml's `Q4_1`: `d · q + m` with d = 2^-6, m = -2^-3.
    fn q4_1(&mut self, values: u64) -> Vec<u8> {
        let block = |bytes: &mut Self| {
            [0x00, 0x24, 0x00, 0xb0].into_iter().chain((0..16).map(|_| bytes.next())).collect::<Vec<u8>>()
        };
        (0..values / 32).flat_map(|_| block(self)).collect()
    }
}

/// The bytes of the file.
pub(crate) fn quantised_model() -> Vec<u8> {
    let tokens = tokens();
    let types = tokens.iter().enumerate().map(|(id, _)| if id == 0 { 3_i32 } else { 1 }.to_le_bytes().to_vec());
    let metadata = [
        ("general.architecture", text("llama")),
        ("llama.block_count", number(1)),
        ("llama.context_length", number(512)),
        ("llama.embedding_length", number(WIDTH as u32)),
        ("llama.feed_forward_length", number(2 * WIDTH as u32)),
        ("llama.attention.head_count", number(2)),
        ("llama.attention.head_count_kv", number(1)),
        ("llama.attention.layer_norm_rms_epsilon", value(6, &1e-5_f32.to_le_bytes())),
        ("llama.rope.freq_base", value(6, &1e4_f32.to_le_bytes())),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", array(8, &tokens.iter().map(|token| string(token)).collect::<Vec<_>>())),
        ("tokenizer.ggml.token_type", array(5, &types.collect::<Vec<_>>())),
        ("tokenizer.ggml.merges", array(8, &[])),
        ("tokenizer.ggml.eos_token_id", number(0)),
        ("tokenizer.ggml.add_bos_token", value(7, &[0])),
    ];
    let mut random = Bytes(1);
    let ones = |count: u64| (0..count).flat_map(|_| 1.0_f32.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors = vec![
        ("output_norm.weight", vec![WIDTH], 0, ones(WIDTH)),
        ("blk.0.attn_norm.weight", vec![WIDTH], 0, ones(WIDTH)),
        ("blk.0.ffn_norm.weight", vec![WIDTH], 0, ones(WIDTH)),
    ];
    for (name, inputs, outputs, eight) in [
        ("token_embd.weight", WIDTH, tokens.len() as u64, true),
        ("blk.0.attn_q.weight", WIDTH, WIDTH, false),
        ("blk.0.attn_k.weight", WIDTH, WIDTH / 2, true),
        ("blk.0.attn_v.weight", WIDTH, WIDTH / 2, false),
        ("blk.0.attn_output.weight", WIDTH, WIDTH, true),
        ("blk.0.ffn_gate.weight", WIDTH, 2 * WIDTH, false),
        ("blk.0.ffn_up.weight", WIDTH, 2 * WIDTH, true),
        ("blk.0.ffn_down.weight", 2 * WIDTH, WIDTH, false),
    ] {
        let values = inputs * outputs;
        let (kind, bytes) = if eight { (8, random.q8_0(values)) } else { (3, random.q4_1(values)) };
        tensors.push((name, vec![inputs, outputs], kind, bytes));
    }
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    metadata.iter().for_each(|(key, value)| file.extend([string(key), value.clone()].concat()));
    let mut data: Vec<u8> = Vec::new();
    for (name, dimensions, kind, bytes) in &tensors {
        file.extend(string(name));
        file.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|size| file.extend(size.to_le_bytes()));
        file.extend((*kind as u32).to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file
}
