//! Tokenizers as metadata.

use super::*;

#[test]
fn a_tokenizer_written_as_gguf_gives_the_same_tokens() {
    let text = "ab1ab re'restaurant're  \t\n\"who\":(ab_1a|Ünï🦀.1a,ab)<|endoftext|>!?ab";
    let base = folder(&config(), &tokenizer()).open();
    let read = open_gguf(&merged_gguf(&base, &adapter(&config(), &[Q]), None));
    let ids = |base: &BaseModel| {
        let tokenizer = tokenizers::Tokenizer::from_bytes(&base.tokenizer.tokenizer_json).unwrap();
        tokenizer.encode(text, false).unwrap().get_ids().to_vec()
    };
    assert_eq!(ids(&base), ids(&read));
    let metadata = read.gguf.as_ref().unwrap();
    assert_eq!(metadata.text("tokenizer.ggml.pre").unwrap(), Some("poro-chat"));
    let tokens = metadata.texts("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!((tokens.len(), tokens[260].as_str()), (270, "[PAD260]"));
    let types = metadata.integers("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!((types[0], types[1], types[269]), (3, 1, 5));
}

#[test]
fn known_pre_tokenizers_keep_their_names() {
    let named = |change: &dyn Fn(&mut Json)| {
        let mut tokenizer = tokenizer();
        change(&mut tokenizer);
        let base = folder(&config(), &tokenizer).open();
        crate::export::tokenizer::metadata(&base.tokenizer, &base.config).map(|metadata| metadata[1].1.clone())
    };
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let name = |found: Result<Value, ExportError>| match found.unwrap() {
        Value::Text(name) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(name(named(&|file| file["pre_tokenizer"] = bytes(true))), "gpt-2");
    let digits = json!({"type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes(true)]});
    assert_eq!(name(named(&|file| file["pre_tokenizer"] = digits.clone())), "smollm");
    // Files of before 2024 have merges in one text.
    let merges = json!(["a b", "1 a", "r e"]);
    assert_eq!(name(named(&|file| file["model"]["merges"] = merges.clone())), "poro-chat");
    for (_, pre) in crate::base::tokenizer::Pre::NAMES {
        let llama = pre == crate::base::tokenizer::Pre::LlamaBpe;
        let found = named(&|file| {
            file["pre_tokenizer"] = pre.pre_tokenizer_json();
            file["model"]["ignore_merges"] = json!(llama);
        });
        assert!(crate::base::tokenizer::Pre::NAMES.contains(&(name(found).as_str(), pre)));
    }

    let refusal = |change: &dyn Fn(&mut Json)| named(change).unwrap_err().to_string();
    assert!(refusal(&|file| file["pre_tokenizer"] = bytes(false)).contains("no name for its pre-tokenizer"));
    assert!(refusal(&|file| file["pre_tokenizer"] = json!(null)).contains("no name for its pre-tokenizer"));
    // A merge that reaches beyond a word makes the splitting matter.
    assert!(refusal(&|file| file["model"]["merges"][0] = json!(["a", "!"])).contains("no name for its pre"));
    assert!(refusal(&|file| file["model"]["ignore_merges"] = json!(true)).contains("`ignore_merges`"));
    assert!(refusal(&|file| file["normalizer"] = json!({"type": "NFC"})).contains("changes the text"));
    assert!(refusal(&|file| file["model"]["byte_fallback"] = json!(true)).contains("not over bytes"));
    assert!(refusal(&|file| file["model"]["type"] = json!("WordPiece")).contains("WordPiece"));
    assert!(refusal(&|file| file["added_tokens"][0]["lstrip"] = json!(true)).contains("white space beside it"));
    assert!(refusal(&|file| file["model"]["vocab"]["x y"] = json!(7)).contains("the same id 7"));
    assert!(refusal(&|file| file["model"]["vocab"]["x y"] = json!(270)).contains("has id 270"));
    assert!(refusal(&|file| file["model"]["vocab"]["[PAD269]"] = json!(261)).contains("has two ids"));
    assert!(refusal(&|file| file["model"]["merges"][0] = json!(["a ", "b"])).contains("no name for its pre"));
}
