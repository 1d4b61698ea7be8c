//! What the audit refuses, and what it says.

use crate::support::{Data, conversation, many, pairs, tokenizer};

const PAIR: &str = "type: prompt_completion";

#[test]
fn broken_lines_are_named() {
    let text = many(3016) + "{\"prompt\": \"a\", \"completion\" \"b\"}\n" + &many(3);
    let (error, hint) = Data::new(&[(PAIR, &text)]).refused(&[]);
    assert_eq!(error, "source `s0`, line 3017: column 30: expected `:`");
    assert!(hint.contains("one object a line"));
}

#[test]
fn the_file_is_named_where_there_are_several() {
    let (error, _) = Data::new(&[(PAIR, &many(3))]).file("\nx\n").refused(&[]);
    assert!(error.starts_with("source `s0/more.jsonl`, line 2: column 1: "), "{error}");
}

#[test]
fn missing_columns_are_named_with_those_that_are_there() {
    let (error, hint) = Data::new(&[(PAIR, "{\"question\": \"a\", \"answer\": 4}\n")]).refused(&[]);
    assert_eq!(
        error,
        "source `s0`, line 1: the row has no text column `prompt`; it has `answer` (a number), `question` (text)"
    );
    assert!(hint.contains("`field_…`"));
    let (error, _) =
        Data::new(&[("type: alpaca", "{\"instruction\": \"a\", \"input\": 1, \"output\": \"b\"}\n")]).refused(&[]);
    assert!(error.contains("no text column `input`"), "{error}");
}

#[test]
fn sources_without_rows() {
    assert_eq!(Data::new(&[(PAIR, "\n\n")]).refused(&[]).0, "source `s0` holds no rows");
}

#[test]
fn an_example_without_a_supervised_token() {
    let text = conversation(&["a", "b"]) + &conversation(&["a"]);
    let (error, hint) = Data::new(&[("type: chat_template", &text)]).refused(&[]);
    assert_eq!(error, "source `s0`, line 2: no token of the example is supervised");
    assert!(hint.contains("`roles_to_train`"));
    let text = pairs([("a", "b"), ("a prompt that is long", "b")]);
    let (error, hint) = Data::new(&[(PAIR, &text)]).refused(&["sequence_len=8", "excess_length_strategy=truncate"]);
    assert_eq!(error, "source `s0`, line 2: no token of the example is supervised after it was cut at `sequence_len`");
    assert!(hint.contains("`sequence_len`"));
}

#[test]
fn two_beginnings() {
    let data = Data::new(&[(PAIR, &pairs([("a", "b"), ("<s>a", "b")]))]);
    assert!(data.prepare_with(&tokenizer(false), &[]).is_ok());
    let error = data.prepare_with(&tokenizer(true), &[]).unwrap_err();
    assert_eq!(error.to_string(), "source `s0`, line 2: the example begins with `<s>` twice");
}

#[test]
fn turns_that_never_end() {
    let text = conversation(&["a", "a long answer"]).repeat(3);
    let data = Data::new(&[("type: chat_template", &text)]);
    // Cut off before its end, each of them.
    let (error, _) = data.refused(&["sequence_len=30", "excess_length_strategy=truncate"]);
    assert!(error.starts_with("source `s0`: no end-of-turn token is supervised"), "{error}");
}

#[test]
fn too_long() {
    let data = Data::new(&[(PAIR, &pairs([("a", "b"), ("a", "bcdefgh"), ("a", "b")]))]);
    let (error, hint) = data.refused(&["sequence_len=8"]);
    assert_eq!(error, "source `s0`, line 2: the example has 9 tokens, `sequence_len` is 8");
    assert_eq!(hint, "set `sequence_len` to at least 9, or `excess_length_strategy` to `drop` or `truncate`");
    let counts = |strategy: &str| {
        let facts = data.prepare(&["sequence_len=8", &format!("excess_length_strategy={strategy}")]).facts;
        (facts.train_examples, facts.dropped_examples, facts.truncated_examples, facts.tokens)
    };
    assert_eq!(counts("drop"), (2, 1, 0, 6));
    assert_eq!(counts("truncate"), (3, 0, 1, 14));
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model() {
    let data = Data::new(&[(PAIR, &pairs([("a", "b")]))]);
    let recipe = data.recipe(&[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    tune_fs::write_atomic(file.path(), pairs([("a", "b")]).as_bytes()).unwrap();
    let sources = vec![(recipe.datasets[0].clone(), vec![file.path().to_owned()])];
    let error = tune_data::prepare(&recipe, sources, &tokenizer(false), 259, None, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "source `s0`, line 1: the tokenizer does not fit the model: `</s>` has the id 259, the model knows 259 tokens"
    );
}

#[test]
fn nothing_left() {
    let (error, _) = Data::new(&[(PAIR, &many(3))]).refused(&["val_set_size=3"]);
    assert_eq!(error, "no examples are left to train on: 3 are held out, 0 were dropped");
    let (error, _) = Data::new(&[(PAIR, &many(3))]).refused(&["sequence_len=2", "excess_length_strategy=drop"]);
    assert_eq!(error, "no examples are left to train on: 0 are held out, 3 were dropped");
    let (error, _) = Data::new(&[("type: prompt_completion, weight: 0.1", &many(3))]).refused(&["max_steps=5"]);
    assert!(error.starts_with("an epoch takes no example"), "{error}");
}
