//! Merged weights and merged models.

use super::*;

#[test]
fn merging_is_the_documented_chain() {
    let (files, tensors) = (folder(&config(), &tokenizer()), adapter(&config(), &MODULES));
    let base = files.open();
    let merged = Merged::new(&base, &FACTS, &tensors).unwrap().to_host().unwrap();
    assert_eq!(merged.len(), 2 * 9 + 2);
    for (name, (shape, values)) in &merged {
        let plain = base.load_tensor(name, shape).unwrap();
        let module = name.strip_suffix(".weight").unwrap();
        let Some((_, b)) = tensors.get(&format!("base_model.model.{module}.lora_B.weight")) else {
            assert_eq!(*values, plain, "{name}");
            continue;
        };
        let (_, a) = &tensors[&format!("base_model.model.{module}.lora_A.weight")];
        for (place, value) in values.iter().enumerate() {
            let (o, i) = (place / shape[1], place % shape[1]);
            let chain = (0..2).fold(0.0_f32, |c, k| b[o * 2 + k].mul_add(a[k * shape[1] + i], c));
            assert_eq!(value.to_bits(), 3.0_f32.mul_add(chain, plain[place]).to_bits(), "{name} {place}");
        }
        assert_ne!(*values, plain, "{name}");
    }
    let huge = AdapterFacts { alpha: 1e39, ..FACTS };
    let error = Merged::new(&base, &huge, &tensors).unwrap().to_host().unwrap_err().to_string();
    assert!(error.contains("q_proj.weight`: value 0 is not finite"), "{error}");
}

#[test]
fn the_bytes_of_a_merged_gguf_are_fixed() {
    let (files, tensors) = (folder(&config(), &tokenizer()), adapter(&config(), &MODULES));
    assert_eq!(
        Digest::of(&merged_gguf(&files.open(), &tensors, None)).to_string(),
        "sha256:a220633fcd25a007809fd544b4b7fbb34d9d8eec4c27db12109becb02ee52d81"
    );
    let base = files.open();
    let plain = Merged::without_adapter(&base).to_host().unwrap();
    for (name, (shape, values)) in &plain {
        assert_eq!(base.load_tensor(name, shape).unwrap(), *values, "{name}");
    }
}

#[test]
fn a_merged_gguf_reads_as_the_merged_model() {
    let settings = [
        config(),
        ModelConfig { tie_word_embeddings: false, attention_bias: true, mlp_bias: true, ..config() },
        ModelConfig { rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }), num_kv_heads: 4, ..config() },
    ];
    for config in settings {
        let (files, tensors) = (folder(&config, &tokenizer()), adapter(&config, &MODULES));
        let base = files.open();
        let merged = Merged::new(&base, &FACTS, &tensors).unwrap().to_host().unwrap();
        let bytes = merged_gguf(&base, &tensors, Some("merged"));
        assert_eq!(bytes, merged_gguf(&base, &tensors, Some("merged")));
        let read = open_gguf(&bytes);
        let epsilon = f64::from(config.rms_norm_eps as f32);
        assert_eq!(read.config, ModelConfig { rms_norm_eps: epsilon, ..config.clone() });
        assert_eq!(read.tensor_names().count(), merged.len());
        // Rows of query and key go there interleaved and come back in halves.
        for (name, (shape, values)) in &merged {
            assert_eq!(read.load_tensor(name, shape).unwrap(), *values, "{name}");
        }
        assert_eq!(read.tokenizer.bos.as_deref(), Some("<|endoftext|>"));
        assert_eq!(read.tokenizer.add_bos, Some(false));
        assert_eq!(read.tokenizer.chat_template.as_deref(), Some("{{ messages }}"));
        // The GGUF as a base: the same metadata, the same weights.
        let again = open_gguf(&merged_gguf(&read, &tensors, Some("again")));
        let (first, second) = (read.gguf.as_ref().unwrap(), again.gguf.as_ref().unwrap());
        for (key, value) in first.iter() {
            let expected = if key == "general.name" { GgufValue::String("again".to_owned()) } else { value.clone() };
            assert_eq!(second.get(key), Some(&expected), "{key}");
        }
        assert_eq!(first.iter().count(), second.iter().count());
        let twice = Merged::new(&read, &FACTS, &tensors).unwrap().to_host().unwrap();
        for (name, (shape, values)) in &twice {
            assert_eq!(again.load_tensor(name, shape).unwrap(), *values, "{name}");
        }
    }
}

#[test]
fn llama_3_scaling_becomes_a_tensor() {
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    let config = ModelConfig { rope_scaling: Some(scaling), ..config() };
    let base = folder(&config, &tokenizer()).open();
    let bytes = merged_gguf(&base, &adapter(&config, &[Q]), None);
    // Wavelengths 2π, 135 and 2916: kept, divided, divided. The tensor is the last by name, before 20 bytes of padding.
    assert_eq!(bytes[bytes.len() - 4 * (270 * 32 + 8)..][..12], f32_bytes(&[1.0, 8.0, 8.0]));
    let mut files = Files::default();
    files.put("m.gguf", &bytes);
    assert!(BaseModel::open(&files.names).unwrap_err().to_string().contains("rope_freqs.weight"));
}
