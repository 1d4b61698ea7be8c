//! Configurations that are read, and those that are refused with their reason.

use super::*;

fn smollm2() -> ModelConfig {
    ModelConfig {
        hidden_size: 576,
        intermediate_size: 1536,
        num_layers: 30,
        num_heads: 9,
        num_kv_heads: 3,
        head_dim: 64,
        vocab_size: 49152,
        rms_norm_eps: 1e-5,
        rope_theta: 100_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        max_position_embeddings: 8192,
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
        initializer_range: 0.041,
    }
}

const TRANSFORMERS_4: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_act":"silu",
  "attention_bias":false,"bos_token_id":1,"eos_token_id":2,"hidden_size":576,"initializer_range":0.041,
  "intermediate_size":1536,"max_position_embeddings":8192,"mlp_bias":false,"num_attention_heads":9,
  "num_hidden_layers":30,"num_key_value_heads":3,"pretraining_tp":1,"rms_norm_eps":1e-05,"rope_scaling":null,
  "rope_theta":100000,"tie_word_embeddings":true,"torch_dtype":"bfloat16","use_cache":true,"vocab_size":49152}"#;

#[test]
fn transformers_4_and_5_say_the_same() {
    assert_eq!(ModelConfig::from_config_json(TRANSFORMERS_4.as_bytes()).unwrap(), smollm2());
    let text = TRANSFORMERS_4
        .replace(r#""rope_scaling":null,"#, r#""rope_parameters":{"rope_theta":100000.0,"rope_type":"default"},"#)
        .replace(r#""rope_theta":100000,"#, r#""head_dim":64,"#);
    assert_eq!(ModelConfig::from_config_json(text.as_bytes()).unwrap(), smollm2());
}

#[test]
fn written_configurations_are_read_back() {
    let mut config = smollm2();
    config.eos_token_ids = vec![2, 0];
    config.bos_token_id = None;
    for scaling in [
        None,
        Some(RopeScaling::Linear { factor: 2.5 }),
        Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        }),
    ] {
        config.rope_scaling = scaling;
        let bytes = config.to_config_json();
        assert_eq!(ModelConfig::from_config_json(&bytes).unwrap(), config);
        assert_eq!(config.to_config_json(), bytes);
    }
    config.eos_token_ids.clear();
    assert_eq!(ModelConfig::from_config_json(&config.to_config_json()).unwrap(), config);
}

#[test]
fn the_written_bytes_are_fixed() {
    let expected = r#"{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "attention_bias": false,
  "attention_dropout": 0.0,
  "bos_token_id": 1,
  "eos_token_id": 2,
  "head_dim": 64,
  "hidden_act": "silu",
  "hidden_size": 576,
  "initializer_range": 0.041,
  "intermediate_size": 1536,
  "max_position_embeddings": 8192,
  "mlp_bias": false,
  "model_type": "llama",
  "num_attention_heads": 9,
  "num_hidden_layers": 30,
  "num_key_value_heads": 3,
  "rms_norm_eps": 0.00001,
  "rope_scaling": null,
  "rope_theta": 100000.0,
  "tie_word_embeddings": true,
  "torch_dtype": "float32",
  "vocab_size": 49152
}
"#;
    assert_eq!(String::from_utf8(smollm2().to_config_json()).unwrap(), expected);
}

#[test]
fn mistral_without_a_window() {
    let text = TRANSFORMERS_4.replace("LlamaForCausalLM", "MistralForCausalLM").replace(r#":"llama""#, r#":"mistral""#);
    let refused = ModelConfig::from_config_json(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(refused, "`config.json`: `sliding_window` = 4096 is not supported (supported: null, written out)");
    let text = text.replace(r#""use_cache":true"#, r#""sliding_window":null"#);
    assert_eq!(ModelConfig::from_config_json(text.as_bytes()).unwrap(), smollm2());
}

#[test]
fn refusals_name_what_they_refuse() {
    let refusal = |from: &str, to: &str| {
        assert!(TRANSFORMERS_4.contains(from), "{from}");
        ModelConfig::from_config_json(TRANSFORMERS_4.replace(from, to).as_bytes()).unwrap_err().to_string()
    };
    let cases = [
        ("LlamaForCausalLM", "Qwen2ForCausalLM", "architecture `Qwen2ForCausalLM (model type llama)` is not supported"),
        (r#":"llama""#, r#":"gemma""#, "architecture `LlamaForCausalLM (model type gemma)` is not supported"),
        (r#"["LlamaForCausalLM"]"#, "null", "key `architectures` is missing"),
        (
            r#""hidden_act":"silu""#,
            r#""hidden_act":"gelu""#,
            "`hidden_act` = `gelu` is not supported (supported: `silu`)",
        ),
        (
            r#""rope_scaling":null"#,
            r#""rope_scaling":{"type":"yarn","factor":2}"#,
            "`rope_scaling.rope_type` = `yarn` is not supported (supported: `default`, `linear`, `llama3`)",
        ),
        (r#""rope_scaling":null"#, r#""rope_scaling":{"factor":2}"#, "key `rope_scaling.rope_type` is missing"),
        (r#""rope_scaling":null"#, r#""rope_scaling":{"type":"linear"}"#, "key `rope_scaling.factor` is missing"),
        (
            r#""rope_scaling":null"#,
            r#""rope_scaling":{"type":"linear","factor":0.5}"#,
            "`rope_scaling.factor` = 0.5, expected a number from 1 to 1e6",
        ),
        (
            r#""use_cache":true"#,
            r#""quantization_config":{"bits":4}"#,
            "`quantization_config` = set is not supported (supported: weights that are not quantised, or a GGUF file)",
        ),
        (
            r#""use_cache":true"#,
            r#""partial_rotary_factor":0.5"#,
            "`partial_rotary_factor` = 0.5 is not supported (supported: 1)",
        ),
        (r#""hidden_size":576"#, r#""hidden_size":0"#, "`hidden_size` = 0, expected 1 to 262144"),
        (r#""hidden_size":576"#, r#""hidden_size":577"#, "key `head_dim` is missing"),
        (
            r#""vocab_size":49152"#,
            r#""vocab_size":18446744073709551615"#,
            "`vocab_size` = 18446744073709551615, expected 1 to 4194304",
        ),
        (
            r#""num_key_value_heads":3"#,
            r#""num_key_value_heads":2"#,
            "`num_key_value_heads` = 2, expected a divisor of the 9 attention heads",
        ),
        (r#""use_cache":true"#, r#""head_dim":63"#, "`head_dim` = 63, expected an even number"),
        ("1e-05", "0", "`rms_norm_eps` = 0, expected a number between 0 and 1"),
        (r#""rope_theta":100000"#, r#""rope_theta":-1"#, "`rope_theta` = -1, expected a number between 1 and 1e12"),
        (
            r#""eos_token_id":2"#,
            r#""eos_token_id":49152"#,
            "`bos_token_id or eos_token_id` = 49152, expected below the vocabulary's size 49152",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(refusal(from, to), format!("`config.json`: {expected}"));
    }
    assert_eq!(refusal("576", "-576"), "`config.json` is not valid");
    assert_eq!(ModelConfig::from_config_json(b"[").unwrap_err().to_string(), "`config.json` is not valid");
    assert!(ModelConfig::from_config_json(b"{}").unwrap_err().to_string().contains("architectures"));
}
