//! `adapter_config.json` as PEFT 0.21 reads and writes it.

use serde_json::{Value, json};

/// Settings of a LoRA adapter in PEFT's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    base_model: String,
    revision: Option<String>,
    rank: u32,
    alpha: f64,
    dropout: f64,
    target_modules: Vec<String>,
    rslora: bool,
}

impl AdapterConfig {
    /// A plain LoRA on the modules whose names end in one of `target_modules`.
    #[must_use]
    pub fn new(
        base_model: &str,
        revision: Option<String>,
        rank: u32,
        alpha: f64,
        dropout: f64,
        mut target_modules: Vec<String>,
        rslora: bool,
    ) -> Self {
        target_modules.sort();
        target_modules.dedup();
        Self { base_model: base_model.to_owned(), revision, rank, alpha, dropout, target_modules, rslora }
    }

    /// The file's text: keys sorted, two spaces, every key that PEFT 0.21 writes for a plain LoRA.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "an integral alpha, as PEFT's own files have it")]
    pub fn to_json(&self) -> String {
        let alpha = if self.alpha.fract() == 0.0 && self.alpha.abs() < 1e15 {
            json!(self.alpha as i64)
        } else {
            json!(self.alpha)
        };
        let mut value = json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "ensure_weight_tying": false,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "loftq_config": {},
            "lora_alpha": alpha,
            "lora_bias": false,
            "lora_dropout": self.dropout,
            "megatron_core": "megatron.core",
            "peft_type": "LORA",
            "peft_version": "0.21.0",
            "qalora_group_size": 16,
            "r": self.rank,
            "rank_pattern": {},
            "revision": self.revision,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_qalora": false,
            "use_rslora": self.rslora,
        });
        let unused = [
            "alora_invocation_tokens",
            "arrow_config",
            "corda_config",
            "eva_config",
            "exclude_modules",
            "kasa_config",
            "layer_replication",
            "layers_pattern",
            "layers_to_transform",
            "lora_ga_config",
            "megatron_config",
            "modules_to_save",
            "monteclora_config",
            "target_parameters",
            "trainable_token_indices",
            "use_bdlora",
            "velora_config",
        ];
        for key in unused {
            value[key] = Value::Null;
        }
        // serde_json keeps members sorted.
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_text() {
        let config = AdapterConfig::new(
            "base",
            None,
            16,
            32.0,
            0.05,
            vec!["v_proj".into(), "q_proj".into(), "q_proj".into()],
            false,
        );
        let text = config.to_json();
        assert!(
            text.contains("\"lora_alpha\": 32,\n")
                && text.contains("\"target_modules\": [\n    \"q_proj\",\n    \"v_proj\"\n  ]"),
            "{text}"
        );
        assert_eq!(
            crate::Digest::of(text.as_bytes()).to_string(),
            "sha256:6b5b9fd5d7e33d66f7f7b898d029c2b09e8a53b1bf5b63ee516443d38ad3f548"
        );
    }
}
