//! Tokenizers with their special tokens.

use serde_json::{Value, json};
use tune_data::{DataError, Tokenizer, TokenizerProblem};

use crate::support::{BOS, CHATML, EOS, IM_END, SPACE_H, VOCABULARY, definition, tokenizer};

fn with_config(adds_bos: bool, config: &Value) -> Result<Tokenizer, DataError> {
    let (definition, config) = (definition(adds_bos).to_string(), config.to_string());
    Tokenizer::new(definition.as_bytes(), Some(config.as_bytes()), None, None, None, None)
}

#[test]
fn the_configuration_names_special_tokens() {
    let config = json!({
        "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "<|im_end|>",
        "chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": CHATML}],
    });
    let found = with_config(false, &config).unwrap();
    assert_eq!((found.bos(), found.eos()), (Some(("<s>", BOS)), ("<|im_end|>", IM_END)));
    assert_eq!(found.chat_template(), Some(CHATML));
    assert_eq!(found.stop_ids(), [IM_END]);
    assert_eq!(found.vocab_size(), VOCABULARY);
}

#[test]
fn a_text_begins_as_the_tokenizer_says() {
    let leading = |adds: bool, stated: Value| {
        let config = json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": stated});
        with_config(adds, &config).unwrap().leading_id()
    };
    assert_eq!((leading(true, Value::Null), leading(false, Value::Null)), (Some(BOS), None));
    assert_eq!((leading(true, json!(false)), leading(false, json!(true))), (None, Some(BOS)));
    assert_eq!(with_config(true, &json!({"eos_token": "</s>"})).unwrap().leading_id(), None);
}

#[test]
fn texts_are_encoded_whole_and_with_nothing_added() {
    let tokenizer = tokenizer(true);
    let encoded = tokenizer.encode("a  hä</s>").unwrap();
    assert_eq!(tokenizer.ids("a  hä</s>").unwrap(), encoded.ids);
    assert_eq!(encoded.ids, [97, 32, SPACE_H, 195, 164, EOS]);
    assert_eq!((encoded.starts, encoded.ends), (vec![0, 1, 2, 4, 4, 6], vec![1, 2, 4, 6, 6, 10]));
    assert_eq!(tokenizer.decode(&encoded.ids).unwrap(), "a  hä");
    assert_eq!((tokenizer.token_text(SPACE_H), tokenizer.token_text(EOS)), (" h".to_owned(), "</s>".to_owned()));
}

#[test]
fn the_digest_covers_all_that_decides_tokens() {
    let digest = |definition: &Value, eos: &str, add_bos: bool| {
        Tokenizer::new(definition.to_string().as_bytes(), None, Some("<s>"), Some(eos), Some(add_bos), None)
            .unwrap()
            .digest()
    };
    let base = definition(false);
    let spaced = serde_json::to_string_pretty(&base).unwrap();
    let reference = digest(&base, "</s>", false);
    let same = Tokenizer::new(spaced.as_bytes(), None, Some("<s>"), Some("</s>"), Some(false), Some(CHATML)).unwrap();
    assert_eq!(same.digest(), reference, "white space and template are no part of it");
    assert_ne!(digest(&base, "<|im_end|>", false), reference);
    assert_ne!(digest(&base, "</s>", true), reference);
    let mut other = base;
    other["model"]["merges"] = json!([["Ġ", "h"], ["Ġ", "Ġ"]]);
    assert_ne!(digest(&other, "</s>", false), reference);
}

#[test]
fn what_cannot_be_used_says_why() {
    let problem = |definition: &Value, eos: Option<&str>| match Tokenizer::new(
        definition.to_string().as_bytes(),
        None,
        None,
        eos,
        None,
        None,
    ) {
        Err(DataError::Tokenizer { problem }) => problem,
        other => panic!("{other:?}"),
    };
    let base = definition(false);
    assert_eq!(problem(&base, None), TokenizerProblem::NoEos);
    assert_eq!(problem(&base, Some("<eos>")), TokenizerProblem::NoToken { token: "<eos>".to_owned() });
    assert!(matches!(problem(&json!({}), Some("</s>")), TokenizerProblem::File { file: "tokenizer.json", .. }));
    let mut moved = base.clone();
    moved["added_tokens"][0]["id"] = json!(300);
    let reason = "`<s>` would get the id 258, its entry says 300".to_owned();
    assert_eq!(problem(&moved, Some("</s>")), TokenizerProblem::File { file: "tokenizer.json", reason });
    let mut random = base;
    random["model"]["dropout"] = json!(0.1);
    assert_eq!(problem(&random, Some("</s>")), TokenizerProblem::Dropout);
}

#[test]
fn a_debug_view_is_short() {
    assert!(format!("{:?}", tokenizer(false)).len() < 300);
}
