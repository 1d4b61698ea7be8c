//! Built tokenizers split and merge as their models' own do.

use std::str::FromStr as _;

use tokenizers::Tokenizer;

use super::super::BaseModel;
use super::super::testing::*;
use super::*;

fn parts(gguf: &Gguf) -> Result<TokenizerParts, BaseError> {
    let bytes = gguf.to_bytes();
    let files = Files::of(&[("m.gguf", &bytes)]);
    BaseModel::open(&files.names).map(|model| model.tokenizer)
}

fn load(parts: &TokenizerParts) -> Tokenizer {
    Tokenizer::from_str(std::str::from_utf8(&parts.tokenizer_json).unwrap()).unwrap()
}

fn with_pre(pre: &str) -> Gguf {
    let mut gguf = tiny();
    gguf.put("tokenizer.ggml.pre", text_value(pre));
    gguf
}

/// The pieces into which `text` is encoded.
fn pieces(gguf: &Gguf, text: &str) -> Vec<String> {
    load(&parts(gguf).unwrap()).encode(text, false).unwrap().get_tokens().to_vec()
}

#[test]
fn the_parts_of_a_gguf_tokenizer() {
    let found = parts(&tiny()).unwrap();
    assert_eq!(found.bos.as_deref(), Some("<|im_start|>"));
    assert_eq!(found.eos.as_deref(), Some("<|endoftext|>"));
    assert_eq!(found.add_bos, Some(false));
    assert_eq!(found.chat_template.as_deref(), Some(TEMPLATE));
    assert_eq!(found.tokenizer_config, None);
    let tokenizer = load(&found);
    let text = "Ünï 🦀 <|im_start|>a a\n\t  x<|endoftext|>";
    let ids = tokenizer.encode(text, true).unwrap();
    assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), text);
    assert!(ids.get_ids().contains(&1) && ids.get_ids().contains(&0));
    assert_eq!(tokenizer.decode(ids.get_ids(), true).unwrap(), "Ünï 🦀 a a\n\t  x");
}

#[test]
fn the_bytes_are_fixed() {
    let found = parts(&tiny()).unwrap();
    let text = std::str::from_utf8(&found.tokenizer_json).unwrap();
    assert!(text.starts_with(concat!(
        r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":"<|endoftext|>","#,
        r#""single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},"#,
    )));
    assert_eq!(
        tune_schema::Digest::of(&found.tokenizer_json).to_string(),
        "sha256:e02daaecaf4699054eb5a731a089ab1eaa04821b4d7ad2ea3895a985eb7c79c7"
    );
}

#[test]
fn each_pre_tokenizer_splits_its_own_way() {
    // `12` is one token only where digits may stand together.
    assert_eq!(pieces(&with_pre("smollm"), " 12"), ["Ġ", "1", "2"]);
    assert_eq!(pieces(&with_pre("gpt-2"), " 12"), ["Ġ", "12"]);
    assert_eq!(pieces(&with_pre("llama-bpe"), " 12"), ["Ġ", "12"]);
    assert_eq!(pieces(&with_pre("qwen2"), " 12"), ["Ġ", "1", "2"]);
    assert_eq!(pieces(&with_pre("default"), " 12"), ["Ġ", "12"]);
    assert_eq!(pieces(&with_pre("poro-chat"), " 12( a"), ["Ġ", "12", "(", "Ġa"]);
    // Three digits at most stand together in Llama 3.
    assert_eq!(pieces(&with_pre("gpt-2"), "33312"), ["3", "3", "3", "12"]);
    assert_eq!(pieces(&with_pre("llama-bpe"), "33123"), ["3", "3", "1", "2", "3"]);
    assert_eq!(pieces(&with_pre("llama-bpe"), "33312"), ["3", "3", "3", "12"]);
    assert_eq!(pieces(&with_pre("default"), "x a"), ["x", "Ġa"]);
    assert_eq!(pieces(&with_pre("default"), "a$ a"), ["a", "$", "Ġa"]);
    // Qwen 2 composes first: e and a combining acute become é.
    assert_eq!(pieces(&with_pre("qwen2"), "e\u{301}"), ["Ã", "©"]);
    assert_eq!(pieces(&with_pre("gpt-2"), "e\u{301}"), ["e", "Ì", "ģ"]);
    let refused = parts(&with_pre("tekken")).unwrap_err().to_string();
    assert!(refused.contains("`tokenizer.ggml.pre` = `tekken` is not supported"), "{refused}");
}

#[test]
fn bos_and_eos_are_added_where_the_model_says_so() {
    let ids = |gguf: &Gguf, special| load(&parts(gguf).unwrap()).encode(" a", special).unwrap().get_ids().to_vec();
    assert_eq!(ids(&tiny(), true), [258]);
    let mut gguf = tiny();
    gguf.put("tokenizer.ggml.add_bos_token", bool_value(true));
    gguf.put("tokenizer.ggml.add_eos_token", bool_value(true));
    assert_eq!((ids(&gguf, true), ids(&gguf, false)), (vec![1, 258, 0], vec![258]));
    let mut gguf = with_pre("llama-bpe");
    assert_eq!(ids(&gguf, true), [258]);
    gguf.remove("tokenizer.ggml.add_bos_token");
    assert_eq!(ids(&gguf, true), [1, 258]);
    assert_eq!(parts(&gguf).unwrap().add_bos, Some(true));
}

#[test]
fn contradictions_are_refused() {
    let with = |key: &str, value: Vec<u8>| {
        let mut gguf = tiny();
        gguf.put(key, value);
        parts(&gguf).unwrap_err().to_string()
    };
    assert!(with("tokenizer.ggml.model", text_value("llama")).contains("tokenizer model `llama` is not supported"));
    assert!(with("tokenizer.ggml.bos_token_id", u32_value(260)).contains("`bos_token_id or eos_token_id` = 260"));
    assert!(with("tokenizer.ggml.token_type", array_value(5, 1, vec![0; 4])).contains("= 1, expected 260 types"));
    for merge in ["ab", " a", "a ", ""] {
        let found = with("tokenizer.ggml.merges", texts_value(&[merge.to_owned()]));
        assert!(found.contains(&format!("= {merge:?}, expected two texts")), "{found}");
    }
    let twice = vec!["x".to_owned(); 260];
    assert!(with("tokenizer.ggml.tokens", texts_value(&twice)).contains("= \"x\" twice, expected different texts"));
}

#[test]
fn the_parts_of_a_folder() {
    let open = |files: &[(&str, &[u8])]| TokenizerParts::from_files(&Files::of(files).names);
    let found = open(&[("tokenizer.json", b"{}")]).unwrap();
    assert_eq!((found.tokenizer_json.as_slice(), found.bos, found.chat_template), (&b"{}"[..], None, None));
    let config =
        br#"{"bos_token":{"content":"<s>","lstrip":false},"eos_token":"</s>","add_bos_token":true,"chat_template":
        [{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}"#;
    let found = open(&[("tokenizer.json", b"{}"), ("tokenizer_config.json", config)]).unwrap();
    assert_eq!((found.bos.as_deref(), found.eos.as_deref(), found.add_bos), (Some("<s>"), Some("</s>"), Some(true)));
    assert_eq!(found.chat_template.as_deref(), Some("d"));
    assert_eq!(found.tokenizer_config.as_deref(), Some(&config[..]));
    let all: [(&str, &[u8]); 3] =
        [("tokenizer.json", b"{}"), ("tokenizer_config.json", config), ("chat_template.jinja", b"j")];
    assert_eq!(open(&all).unwrap().chat_template.as_deref(), Some("j"));
    assert!(matches!(open(&[]), Err(BaseError::MissingFile { .. })));
    let broken: [(&str, &[u8]); 2] = [("tokenizer.json", b"{}"), ("tokenizer_config.json", b"[")];
    assert!(matches!(open(&broken), Err(BaseError::Json { .. })));
}
