//! GGUF adapters.

use super::*;

#[test]
fn the_bytes_of_an_adapter_are_fixed() {
    let bytes = adapter_gguf(&FACTS, &adapter(&config(), &MODULES), &config(), Some("tiny")).unwrap();
    assert_eq!(
        Digest::of(&bytes).to_string(),
        "sha256:4ede91ec269affc0a8004d61cd8d8d19491d22fd07a078d7369a88ed8462c642"
    );
    assert_eq!(&bytes[..24], b"GGUF\x03\0\0\0\x08\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0");
    // Read as a model it is refused for what it is.
    let mut files = Files::default();
    files.put("m.gguf", &bytes);
    let refusal = BaseModel::open(&files.names).unwrap_err().to_string();
    assert!(refusal.contains("`general.type` = `adapter` is not supported"), "{refusal}");
}

#[test]
fn an_adapter_holds_the_numbers_of_the_trained_one() {
    let tensors = adapter(&config(), &[Q]);
    let bytes = adapter_gguf(&FACTS, &tensors, &config(), None).unwrap();
    // A: 2 × 32 values, B: 24 × 2 values, neither needs padding.
    let b = bytes.len() - 4 * 48;
    let values = |which: &str| &tensors[&format!("base_model.model.{Q}.lora_{which}.weight")].1;
    assert_eq!(bytes[b - 4 * 64..b], f32_bytes(values("A")));
    assert_eq!(bytes[b..], f32_bytes(&interleave_halves(values("B"), 24, 4)));
    // The second row is that of component 3, its head's other half.
    assert_eq!(bytes[b + 8..][..8], f32_bytes(&values("B")[6..8]));
}

#[test]
fn the_scale_is_what_llama_cpp_will_compute() {
    let alpha = |alpha, rank, rslora| {
        let facts = AdapterFacts { rank, alpha, rslora };
        let mut tensors = adapter(&config(), &[Q]);
        for (shape, values) in tensors.values_mut() {
            shape.iter_mut().filter(|size| **size == 2).for_each(|size| *size = rank);
            *values = numbers(shape.iter().product(), 1);
        }
        let bytes = adapter_gguf(&facts, &tensors, &config(), None)?;
        let key = b"adapter.lora.alpha";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        assert_eq!(bytes[at..at + 4], 6_u32.to_le_bytes());
        Ok::<_, ExportError>(f32::from_le_bytes(bytes[at + 4..][..4].try_into().unwrap()))
    };
    assert_eq!(alpha(6.0, 2, false).unwrap(), 6.0);
    assert_eq!(alpha(6.0, 4, true).unwrap(), 12.0);
    for (a, rslora) in [(0.0, false), (f64::NAN, false), (1e39, false), (3e38, true), (1e-60, false)] {
        assert!(matches!(alpha(a, 4, rslora), Err(ExportError::Scale { .. })), "{a}");
    }
    assert_eq!(AdapterFacts { rank: 4, alpha: 6.0, rslora: true }.scale(), 3.0);
    assert_eq!(FACTS.scale(), 3.0);
}

#[test]
fn adapters_without_a_place_are_refused() {
    let refusal = |change: &dyn Fn(&mut HostTensors)| {
        let mut tensors = adapter(&config(), &[Q]);
        change(&mut tensors);
        adapter_gguf(&FACTS, &tensors, &config(), None).unwrap_err().to_string()
    };
    let rename = |to: &'static str| {
        refusal(&|tensors| {
            let (_, tensor) = tensors.pop_first().unwrap();
            tensors.insert(to.to_owned(), tensor);
        })
    };
    let (a, b) = (format!("base_model.model.{Q}.lora_A.weight"), format!("base_model.model.{Q}.lora_B.weight"));
    for (name, reason) in [
        ("model.norm.weight", "does not begin with"),
        ("base_model.model.model.norm.weight", "neither `lora_A.weight` nor"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "no DoRA"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "embeddings"),
        ("base_model.model.model.embed_tokens.lora_A.weight", "no linear layer of this name"),
        ("base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight", "no linear layer"),
        ("base_model.model.model.layers.00.self_attn.q_proj.lora_A.weight", "no linear layer"),
        ("base_model.model.model.layers.0.input_layernorm.lora_A.weight", "no linear layer"),
        ("base_model.model.lm_head.lora_A.weight", "the base's head is its embedding"),
    ] {
        let found = rename(name);
        assert!(
            found.starts_with(&format!("tensor `{name}` cannot be exported: ")) && found.contains(reason),
            "{found}"
        );
    }
    let half = |gone: &str| refusal(&|tensors| drop(tensors.remove(gone)));
    assert_eq!(half(&b), format!("tensor `{a}` is there, but not its other half `{b}`"));
    assert_eq!(half(&a), format!("tensor `{b}` is there, but not its other half `{a}`"));
    let shape = |shape: &[usize]| refusal(&|tensors| tensors.get_mut(&b).unwrap().0 = shape.to_vec());
    assert_eq!(shape(&[24, 3]), format!("tensor `{b}` has shape [24, 3], expected [24, 2]"));
    assert_eq!(shape(&[48]), format!("tensor `{b}` has shape [48], expected [24, 2]"));
    let short = refusal(&|tensors| tensors.get_mut(&a).unwrap().1.truncate(63));
    assert_eq!(short, format!("tensor `{a}` of shape [2, 32] has 63 values"));
    assert_eq!(refusal(&|tensors| tensors.clear()), "the adapter has no tensors");
    // With a head of its own the head may have an adapter.
    let untied = ModelConfig { tie_word_embeddings: false, ..config() };
    assert!(adapter_gguf(&FACTS, &adapter(&untied, &["lm_head"]), &untied, None).is_ok());
}
