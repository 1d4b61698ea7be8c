//! GGUF tensor names of architecture `llama` as Hugging Face names.

/// Which heads' rows the converter interleaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interleaved {
    /// None: rows are as in Hugging Face.
    No,
    /// The query heads'.
    Query,
    /// The key heads'.
    Key,
}

/// Parts of a block: GGUF name, Hugging Face name, rows.
const BLOCK: [(&str, &str, Interleaved); 9] = [
    ("attn_norm", "input_layernorm", Interleaved::No),
    ("attn_q", "self_attn.q_proj", Interleaved::Query),
    ("attn_k", "self_attn.k_proj", Interleaved::Key),
    ("attn_v", "self_attn.v_proj", Interleaved::No),
    ("attn_output", "self_attn.o_proj", Interleaved::No),
    ("ffn_norm", "post_attention_layernorm", Interleaved::No),
    ("ffn_gate", "mlp.gate_proj", Interleaved::No),
    ("ffn_up", "mlp.up_proj", Interleaved::No),
    ("ffn_down", "mlp.down_proj", Interleaved::No),
];

/// The GGUF name of a Llama decoder's tensor `name`: the inverse of [`hugging_face_name`].
pub(crate) fn gguf_name(name: &str) -> Option<(String, Interleaved)> {
    let gguf = match name {
        "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
        "model.norm.weight" => "output_norm.weight".to_owned(),
        "lm_head.weight" => "output.weight".to_owned(),
        _ => {
            let (number, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
            let (target, kind) = rest.rsplit_once('.')?;
            let (part, ..) = BLOCK.iter().find(|(_, known, _)| *known == target)?;
            format!("blk.{number}.{part}.{kind}")
        }
    };
    // Which numbers and kinds there are is said once, below.
    let (back, interleaved) = hugging_face_name(&gguf)?;
    (back == name).then_some((gguf, interleaved))
}

/// The Hugging Face name of GGUF tensor `name`, if a Llama decoder has it.
pub(super) fn hugging_face_name(name: &str) -> Option<(String, Interleaved)> {
    match name {
        "token_embd.weight" => return Some(("model.embed_tokens.weight".to_owned(), Interleaved::No)),
        "output_norm.weight" => return Some(("model.norm.weight".to_owned(), Interleaved::No)),
        "output.weight" => return Some(("lm_head.weight".to_owned(), Interleaved::No)),
        _ => {}
    }
    let (number, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let block: u32 = number.parse().ok()?;
    // One spelling only: `blk.007` and `blk.+7` would be second names for block 7.
    if block.to_string() != number {
        return None;
    }
    let (part, kind) = part.rsplit_once('.')?;
    let &(_, target, interleaved) = BLOCK.iter().find(|(source, ..)| *source == part)?;
    let norm = part.ends_with("norm");
    (kind == "weight" || kind == "bias" && !norm)
        .then(|| (format!("model.layers.{block}.{target}.{kind}"), interleaved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_there_and_back() {
        for name in
            ["token_embd.weight", "output.weight", "output_norm.weight", "blk.12.attn_q.bias", "blk.0.ffn_down.weight"]
        {
            let (there, interleaved) = hugging_face_name(name).unwrap();
            assert_eq!(gguf_name(&there), Some((name.to_owned(), interleaved)));
        }
        for name in ["model.layers.01.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj", "model.norm.bias", "x"]
        {
            assert_eq!(gguf_name(name), None, "{name}");
        }
    }

    #[test]
    fn names() {
        let map = |name| hugging_face_name(name).map(|(name, _)| name);
        assert_eq!(map("blk.12.attn_q.weight").as_deref(), Some("model.layers.12.self_attn.q_proj.weight"));
        assert_eq!(map("blk.0.ffn_norm.weight").as_deref(), Some("model.layers.0.post_attention_layernorm.weight"));
        assert_eq!(map("blk.0.attn_k.bias").as_deref(), Some("model.layers.0.self_attn.k_proj.bias"));
        assert_eq!(hugging_face_name("blk.1.attn_k.weight").map(|(_, rows)| rows), Some(Interleaved::Key));
        assert_eq!(map("output.weight").as_deref(), Some("lm_head.weight"));
        for name in [
            "rope_freqs.weight",
            "blk.01.attn_q.weight",
            "blk.+1.attn_q.weight",
            "blk.1.attn_q",
            "blk.1.attn_q.scale",
            "blk.1.attn_norm.bias",
            "blk.1.ffn_gate_exps.weight",
            "blk.99999999999.attn_q.weight",
            "",
            "blk.",
        ] {
            assert_eq!(map(name), None, "{name}");
        }
    }
}
