//! GGUF files that are right, and those that lie.

use super::super::testing::*;
use super::super::{BaseModel, Keep, LoadedMatrix, TokenizerParts};
use super::*;

fn parse_bytes(bytes: &[u8]) -> Result<Parsed, BaseError> {
    parse("m.gguf", &mut &bytes[..], bytes.len() as u64)
}

fn refusal(gguf: &Gguf) -> String {
    parse_bytes(&gguf.to_bytes()).unwrap_err().to_string()
}

#[test]
fn a_small_model_is_read() {
    let bytes = tiny().to_bytes();
    let files = Files::of(&[("any name", &bytes)]);
    let model = BaseModel::open(&files.names).unwrap();
    assert!(model.has_weights);
    let config = &model.config;
    assert_eq!((config.hidden_size, config.intermediate_size, config.num_layers), (64, 32, 1));
    assert_eq!((config.num_heads, config.num_kv_heads, config.head_dim), (2, 1, 32));
    assert_eq!((config.vocab_size, config.max_position_embeddings), (260, 128));
    assert_eq!((config.rms_norm_eps, config.rope_theta), (f64::from(1e-5_f32), 10_000.0));
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(1), &[0][..]));
    assert!(config.tie_word_embeddings && !config.attention_bias && !config.mlp_bias);
    assert_eq!(model.tensor_names().count(), 11);
    assert_eq!(model.tensor_names().next(), Some("model.embed_tokens.weight"));
    assert_eq!(model.tensor_shape("model.layers.0.mlp.down_proj.weight"), Some(&[64, 32][..]));
    assert_eq!(model.tensor_dtype("model.layers.0.mlp.down_proj.weight"), Some("Q4_0"));
    assert_eq!(model.tensor_shape("lm_head.weight"), None);

    assert_eq!(model.load_tensor("model.norm.weight", &[64]).unwrap(), ramp(64));
    let stored = ramp(64 * 64);
    let query = model.load_tensor("model.layers.0.self_attn.q_proj.weight", &[64, 64]).unwrap();
    // Head 1, second half, component 3 comes from row 32 + 2 * 3 + 1.
    assert_eq!(query[(32 + 16 + 3) * 64..][..64], stored[(32 + 7) * 64..][..64]);
    let value = model.load_tensor("model.layers.0.self_attn.v_proj.weight", &[32, 64]).unwrap();
    // The block's bytes are 0, 1, 2, …: d = 2^-16, the first value 2.
    assert_eq!((value[0], value[31], value.len()), (2.0 / 65536.0, 33.0 / 65536.0, 64 * 32));
    for name in model.tensor_names() {
        let shape = model.tensor_shape(name).unwrap();
        assert_eq!(model.load_tensor(name, shape).unwrap().len(), shape.iter().product::<usize>());
    }
}

/// What stays as it is stored decodes to what would have been loaded, rows put back in order included.
#[test]
fn matrices_stay_as_they_are_stored() {
    let mut gguf = tiny();
    gguf.tensors.retain(|tensor| tensor.name != "blk.0.attn_q.weight");
    gguf.tensor("blk.0.attn_q.weight", &[64, 64], 8, (0..128 * 34_u32).map(|i| (i * 7 % 60) as u8).collect());
    let bytes = gguf.to_bytes();
    let files = Files::of(&[("m.gguf", &bytes)]);
    let model = BaseModel::open(&files.names).unwrap();
    let mut kept = Vec::new();
    for name in model.tensor_names() {
        let shape = model.tensor_shape(name).unwrap();
        let values = model.load_tensor(name, shape).unwrap();
        for keep in [Keep::Values, Keep::SixteenBit, Keep::Stored] {
            let loaded = model.load_matrix(name, shape, keep).unwrap();
            if let LoadedMatrix::Stored(matrix) = &loaded {
                kept.push((keep, matrix.encoding().name()));
            }
            assert!(loaded.into_values() == values, "{name} {keep:?}");
        }
    }
    kept.sort_by_key(|(keep, name)| (*keep == Keep::Stored, *name));
    let (half, all) = kept.split_at(2);
    assert_eq!(half, [(Keep::SixteenBit, "BF16"), (Keep::SixteenBit, "F16")]);
    assert_eq!(all.iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["BF16", "F16", "Q4_0", "Q4_1", "Q8_0", "Q8_0"]);
}

#[test]
fn other_versions_and_alignments() {
    for (version, alignment) in [(2, 32), (3, 64), (3, 8), (3, 4096)] {
        let mut gguf = tiny();
        (gguf.version, gguf.alignment) = (version, alignment);
        gguf.put("general.alignment", u32_value(alignment as u32));
        let bytes = gguf.to_bytes();
        let files = Files::of(&[("m.gguf", &bytes)]);
        let model = BaseModel::open(&files.names).unwrap();
        assert_eq!(model.load_tensor("model.norm.weight", &[64]).unwrap(), ramp(64));
    }
    let mut gguf = tiny();
    gguf.version = 1;
    assert_eq!(refusal(&gguf), "`m.gguf` is GGUF version 1");
    gguf.version = 3_u32.swap_bytes();
    assert_eq!(refusal(&gguf), "`m.gguf` is GGUF version 3 in big-endian byte order");
    assert!(parse_bytes(b"GGU").unwrap_err().to_string().contains("does not begin"));
    assert!(parse_bytes(b"version https://git-lfs").unwrap_err().hint().unwrap().contains("LFS"));
}

#[test]
fn every_value_type_is_read() {
    let numbers: [(u32, Vec<u8>, GgufValue); 11] = [
        (0, vec![200], GgufValue::Unsigned(200)),
        (1, vec![200], GgufValue::Signed(-56)),
        (2, vec![1, 2], GgufValue::Unsigned(513)),
        (3, vec![0, 0x80], GgufValue::Signed(-32768)),
        (4, vec![1, 0, 0, 0x80], GgufValue::Unsigned(0x8000_0001)),
        (5, vec![0xff; 4], GgufValue::Signed(-1)),
        (6, 0.1_f32.to_le_bytes().to_vec(), GgufValue::Float(f64::from(0.1_f32))),
        (7, vec![1], GgufValue::Bool(true)),
        (10, vec![0xff; 8], GgufValue::Unsigned(u64::MAX)),
        (11, vec![0xff; 8], GgufValue::Signed(-1)),
        (12, 0.1_f64.to_le_bytes().to_vec(), GgufValue::Float(0.1)),
    ];
    let mut gguf = tiny();
    for (kind, bytes, _) in &numbers {
        gguf.put(&format!("x.{kind}"), [&kind.to_le_bytes()[..], bytes].concat());
        gguf.put(&format!("x.array.{kind}"), array_value(*kind, 2, [bytes.as_slice(), bytes].concat()));
    }
    let inner = array_value(0, 3, vec![1, 2, 3])[4..].to_vec();
    gguf.put("x.nested", array_value(9, 2, [inner.as_slice(), &inner].concat()));
    let (metadata, ..) = parse_bytes(&gguf.to_bytes()).unwrap();
    for (kind, _, value) in &numbers {
        assert_eq!(metadata.get(&format!("x.{kind}")), Some(value));
        assert!(matches!(metadata.get(&format!("x.array.{kind}")), Some(GgufValue::Array(_))));
    }
    let inner = GgufArray::U8(vec![1, 2, 3]);
    assert_eq!(metadata.get("x.nested"), Some(&GgufValue::Array(GgufArray::Array(vec![inner.clone(), inner]))));
    assert_eq!(metadata.get("x.array.5"), Some(&GgufValue::Array(GgufArray::I32(vec![-1, -1]))));
    assert_eq!(
        metadata.unsigned("x.1").unwrap_err().to_string(),
        "`m.gguf`: `x.1` = -56, expected a non-negative integer"
    );
    assert_eq!(metadata.unsigned("absent").unwrap(), None);
}

#[test]
fn metadata_that_lie_are_refused() {
    let with = |value: Vec<u8>| {
        let mut gguf = tiny();
        gguf.entries.insert(0, ("x".to_owned(), value));
        refusal(&gguf)
    };
    // The key's length, the key and the type precede the value: it begins at 24 + 8 + 1.
    assert_eq!(with(13_u32.to_le_bytes().to_vec()), "`m.gguf` at offset 33: value type 13 is not defined");
    assert_eq!(with([7_u32.to_le_bytes().to_vec(), vec![2]].concat()), "`m.gguf` at offset 37: 2 is not a boolean");
    for count in [u64::MAX, 1 << 62, 1 << 40, 1 << 20] {
        let lying = [&9_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), &count.to_le_bytes()].concat();
        assert!(with(lying).contains("is truncated"));
        let lying = [&8_u32.to_le_bytes()[..], &count.to_le_bytes()].concat();
        assert!(with(lying).contains("is truncated"));
    }
    let mut nested = array_value(0, 0, Vec::new())[4..].to_vec();
    for _ in 0..1000 {
        nested = array_value(9, 1, nested)[4..].to_vec();
    }
    assert!(with([9_u32.to_le_bytes().to_vec(), nested].concat()).ends_with("arrays are nested more than 4 deep"));
    assert!(
        with([8_u32.to_le_bytes().to_vec(), 1_u64.to_le_bytes().to_vec(), vec![0xff]].concat()).contains("not UTF-8")
    );
    let mut gguf = tiny();
    gguf.entries.push(("general.architecture".to_owned(), text_value("llama")));
    assert!(refusal(&gguf).ends_with("key `general.architecture` appears twice"));
    let mut gguf = tiny();
    gguf.put("general.alignment", u32_value(48));
    assert_eq!(refusal(&gguf), "`m.gguf`: `general.alignment` = 48, expected a power of two, at most 1048576");
}

#[test]
fn a_header_beyond_the_limit_is_refused_before_it_is_read() {
    // The length is a claim here, the bytes are not there: what is refused is refused by arithmetic.
    let lying = [&8_u32.to_le_bytes()[..], &(1_u64 << 30).to_le_bytes()].concat();
    let mut gguf = tiny();
    gguf.entries.insert(0, ("x".to_owned(), lying));
    let bytes = gguf.to_bytes();
    let error = parse("m.gguf", &mut &bytes[..], 1 << 40).unwrap_err().to_string();
    assert!(error.starts_with("`m.gguf`: the header's length is 1073"), "{error}");
}

#[test]
fn tensor_infos_that_lie_are_refused() {
    let with = |change: &dyn Fn(&mut GgufTensor)| {
        let mut gguf = tiny();
        change(&mut gguf.tensors[1]);
        refusal(&gguf)
    };
    let ends = |text: String, end: &str| assert!(text.ends_with(end), "{text}");
    ends(with(&|t| t.dimensions = vec![]), "tensor `output_norm.weight` has 0 dimensions, 1 to 4 are possible");
    ends(with(&|t| t.dimensions = vec![1; 5]), "has 5 dimensions, 1 to 4 are possible");
    ends(with(&|t| t.dimensions = vec![0]), "tensor `output_norm.weight` of type F32 cannot have shape [0]");
    ends(with(&|t| t.dimensions = vec![1 << 32, 1 << 32]), "cannot have shape [4294967296, 4294967296]");
    ends(with(&|t| t.dimensions = vec![u64::MAX]), "cannot have shape [18446744073709551615]");
    ends(with(&|t| (t.dimensions, t.kind) = (vec![33], 8)), "of type Q8_0 cannot have shape [33]");
    ends(with(&|t| (t.dimensions, t.kind) = (vec![16, 2], 2)), "of type Q4_0 cannot have shape [2, 16]");
    ends(with(&|t| t.kind = 10), "tensor `output_norm.weight` has type Q2_K (10), which is not supported");
    ends(with(&|t| t.kind = 4), "has type unknown (4), which is not supported");
    ends(with(&|t| t.offset = Some(33)), "begins at 33, not a multiple of the alignment 32");
    assert!(with(&|t| t.offset = Some(1 << 40)).contains("tensor `output_norm.weight` ends at offset 10995"));
    ends(
        with(&|t| t.offset = Some(u64::MAX - 31)),
        "`output_norm.weight` ends at offset 18446744073709551615, the file at 111072",
    );
    assert!(with(&|t| t.offset = Some(0)).contains("tensors `output_norm.weight` and `token_embd.weight` overlap"));
    ends(with(&|t| t.name = "blk.0.attn_norm.weight".to_owned()), "tensor `blk.0.attn_norm.weight` is stored twice");
    ends(with(&|t| t.name = "a\0b".to_owned()), "\"a\\0b\" is not a usable tensor name");
    ends(
        with(&|t| t.name = "rope_freqs.weight".to_owned()),
        "tensor `rope_freqs.weight` has no place in a Llama decoder",
    );
    // Rows that cannot be put back into halves.
    let mut gguf = tiny();
    gguf.tensors[3].dimensions = vec![4096 / 2, 2];
    assert!(refusal(&gguf).contains("tensor `blk.0.attn_q.weight` (F32 [2, 2048])"));
}

#[test]
fn configurations_that_are_not_llama_are_refused() {
    let with = |key: &str, value: Vec<u8>| {
        let mut gguf = tiny();
        gguf.put(key, value);
        refusal(&gguf)
    };
    assert_eq!(
        with("general.architecture", text_value("qwen2")),
        "`m.gguf`: architecture `qwen2 (GGUF)` is not supported"
    );
    assert!(with("general.type", text_value("adapter")).contains("`general.type` = `adapter` is not supported"));
    assert!(with("llama.expert_count", u32_value(8)).contains("`llama.expert_count` = set is not supported"));
    assert!(with("llama.rope.scaling.type", text_value("yarn")).contains("= `yarn` is not supported"));
    assert!(with("llama.rope.dimension_count", u32_value(16)).contains("(supported: the width of a head)"));
    assert!(
        with("llama.block_count", u32_value(u32::MAX)).contains("`num_hidden_layers` = 4294967295, expected 1 to 1024")
    );
    assert!(with("llama.embedding_length", text_value("64")).contains("= a string, expected a non-negative integer"));
    assert!(with("llama.attention.head_count", u32_value(0)).contains("expected a divisor of the width"));
    assert!(with("split.count", u32_value(2)).contains("a model in one GGUF file"));
    assert!(with("llama.vocab_size", u32_value(259)).contains("= 259, expected at least the number of tokens"));
    let mut gguf = tiny();
    gguf.remove("llama.block_count");
    assert_eq!(refusal(&gguf), "`m.gguf`: key `llama.block_count` is missing");
    gguf = tiny();
    gguf.put("llama.rope.scaling.type", text_value("linear"));
    gguf.put("llama.rope.scaling.factor", f32_value(4.0));
    gguf.tensor("output.weight", &[64, 260], 1, vec![0; 260 * 64 * 2]);
    let (_, config, _) = parse_bytes(&gguf.to_bytes()).unwrap();
    assert_eq!(config.rope_scaling, Some(super::super::RopeScaling::Linear { factor: 4.0 }));
    assert!(!config.tie_word_embeddings);
}

/// Everything that can be done with bytes of a stranger without writing them to disk first.
fn exercise(bytes: &[u8]) -> bool {
    parse_bytes(bytes).is_ok_and(|(metadata, ..)| TokenizerParts::from_gguf(&metadata).is_ok())
}

#[test]
fn truncation_anywhere_is_an_error() {
    let bytes = tiny().to_bytes();
    let header = bytes.len() - tiny().tensors.iter().map(|t| t.bytes.len().next_multiple_of(32)).sum::<usize>();
    for length in (0..header).chain((header..bytes.len()).step_by(997)) {
        // The last tensor's padding may be missing, nothing else.
        assert!(parse_bytes(&bytes[..length]).is_err(), "{length}");
    }
    assert!(exercise(&bytes));
}

#[test]
fn changed_header_bytes_never_panic() {
    let original = tiny().to_bytes();
    let header = original.len() - tiny().tensors.iter().map(|t| t.bytes.len().next_multiple_of(32)).sum::<usize>();
    let mut bytes = original.clone();
    let mut refused = 0;
    for at in 0..header {
        for change in [0x01, 0x80, 0xff] {
            bytes[at] = original[at] ^ change;
            refused += usize::from(!exercise(&bytes));
        }
        bytes[at] = original[at];
    }
    // Most changes fall into token texts or change nothing that is checked; the others must be found.
    assert!(refused > header / 2, "{refused} of {}", 3 * header);
}

#[test]
fn random_changes_of_the_whole_file_never_panic() {
    let original = tiny().to_bytes();
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..300 {
        let mut bytes = original.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % 5000;
            bytes[at] = next() as u8;
        }
        bytes.truncate(5000 + next() % (original.len() - 4999));
        let files = Files::of(&[("m.gguf", &bytes)]);
        let Ok(model) = BaseModel::open(&files.names) else { continue };
        for name in model.tensor_names() {
            let shape = model.tensor_shape(name).unwrap();
            match model.load_tensor(name, shape) {
                Ok(_) | Err(BaseError::NotFinite { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        model.tensor_root().unwrap();
    }
}
