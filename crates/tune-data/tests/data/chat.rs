//! Masks of conversations.

use tune_data::{DataError, Prepared, TemplateProblem, Warning};

use crate::support::{CHATML, Data, EOS, IM_END, conversation, tokenizer};

/// The only row, supervised stretches between `[` and `]`.
fn marked(prepared: &Prepared) -> String {
    assert_eq!(prepared.train.len(), 1);
    let (tokenizer, row) = (tokenizer(false), prepared.train.row(0).expect("a row"));
    let (mut text, mut inside) = (String::new(), false);
    for token in row.tokens(&tokenizer) {
        if token.supervised != inside {
            text.push(if token.supervised { '[' } else { ']' });
            inside = token.supervised;
        }
        text.push_str(&token.text);
    }
    if inside { text + "]" } else { text }
}

fn chat(settings: &str, contents: &[&str]) -> Prepared {
    Data::new(&[(&format!("type: chat_template{settings}"), &conversation(contents))]).prepare(&[])
}

#[test]
fn answers_are_supervised_up_to_the_end_of_the_turn() {
    assert_eq!(
        marked(&chat("", &["2+2?", "4"])),
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n[4<|im_end|>]\n"
    );
}

#[test]
fn ends_of_turns_follow_train_on_eos() {
    let talk = ["a", "b", "c", "d"];
    let user = "<|im_start|>user\n";
    let assistant = "<|im_start|>assistant\n";
    assert_eq!(
        marked(&chat("", &talk)),
        format!("{user}a<|im_end|>\n{assistant}[b<|im_end|>]\n{user}c<|im_end|>\n{assistant}[d<|im_end|>]\n")
    );
    assert_eq!(
        marked(&chat(", train_on_eos: last", &talk)),
        format!("{user}a<|im_end|>\n{assistant}[b]<|im_end|>\n{user}c<|im_end|>\n{assistant}[d<|im_end|>]\n")
    );
    assert_eq!(
        marked(&chat(", train_on_eos: all", &talk)),
        format!("{user}a[<|im_end|>]\n{assistant}[b<|im_end|>]\n{user}c[<|im_end|>]\n{assistant}[d<|im_end|>]\n")
    );
}

#[test]
fn roles_and_inputs_can_be_trained_on() {
    assert_eq!(
        marked(&chat(", roles_to_train: [user]", &["2+2?", "4"])),
        "<|im_start|>user\n[2+2?<|im_end|>]\n<|im_start|>assistant\n4<|im_end|>\n"
    );
    let data = Data::new(&[("type: chat_template", &conversation(&["2+2?", "4"]))]);
    // The first token has nothing before it, and what comes after the last end of turn belongs to no one.
    assert_eq!(
        marked(&data.prepare(&["train_on_inputs=true"])),
        "<|im_start|>[user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>]\n"
    );
}

#[test]
fn columns_can_stand_for_a_conversation() {
    let row = "{\"question\": \"2+2?\", \"answer\": \"4\"}\n";
    let data = Data::new(&[("type: chat_template, field_prompt: question, field_completion: answer", row)]);
    assert_eq!(marked(&data.prepare(&[])), marked(&chat("", &["2+2?", "4"])));
    let row = "{\"talk\": [{\"from\": \"user\", \"value\": \"2+2?\"}, {\"from\": \"assistant\", \"value\": \"4\"}]}\n";
    let data = Data::new(&[("type: chat_template, field_messages: talk, field_role: from, field_content: value", row)]);
    assert_eq!(marked(&data.prepare(&[])), marked(&chat("", &["2+2?", "4"])));
}

/// Byte-level post-processors trim spaces off the offsets: a token that is only spaces then has none.
#[test]
fn tokens_of_spaces_are_supervised() {
    let answer = "if a:\n     b";
    assert!(marked(&chat("", &["code", answer])).contains(&format!("[{answer}<|im_end|>]")));
    let answer = "  b";
    assert!(marked(&chat("", &["code", answer])).contains(&format!("[{answer}<|im_end|>]")));
}

#[test]
fn letters_of_several_tokens_are_supervised_whole() {
    let prepared = chat("", &["grüß", "größer 🦀"]);
    assert_eq!(prepared.facts.supervised_tokens, "größer 🦀".len() as u64 + 1);
}

#[test]
fn the_report_says_what_was_learned() {
    let prepared = chat("", &["2+2?", "4", "+1?", "5"]);
    assert_eq!(prepared.report.special.get("<|im_end|>"), Some(&2));
    assert_eq!(
        prepared.report.lines(),
        [
            "source s0: 1 examples",
            "tokens: 51, supervised: 4 (7.8 %)",
            "too long: 0 dropped, 0 truncated",
            "special token <|im_end|>: supervised 2 times"
        ]
    );
    assert_eq!(tokenizer(false).stop_ids(), [EOS, IM_END]);
}

#[test]
fn a_token_that_reaches_from_the_prompt_into_the_answer_is_shown() {
    let mut tokenizer = tokenizer(false);
    tokenizer.set_chat_template(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    );
    let text = conversation(&["a", "b"]) + &conversation(&["a", "hi"]);
    let prepared = Data::new(&[("type: chat_template", &text)]).prepare_with(&tokenizer, &[]).unwrap();
    let [Warning::Straddles { count: 1, first }] = prepared.report.warnings.as_slice() else {
        panic!("{:?}", prepared.report.warnings)
    };
    assert_eq!(first.line, 2);
}

#[test]
fn a_template_that_renders_differently_is_refused_with_its_row() {
    let mut tokenizer = tokenizer(false);
    tokenizer.set_chat_template(&CHATML.replace("m['content']", "('think ' if loop.last else '') + m['content']"));
    let text = conversation(&["a", "b"]) + &conversation(&["a", "b", "c", "d"]);
    let error = Data::new(&[("type: chat_template", &text)]).prepare_with(&tokenizer, &[]).unwrap_err();
    let DataError::Template { place, problem: TemplateProblem::InUse { message: 2 } } = &error else {
        panic!("{error}")
    };
    assert_eq!((place.source.as_str(), place.line), ("s0", 1));
    assert!(error.hint().unwrap().contains("`chat_template`"));
}

#[test]
fn a_template_without_an_end_of_turn_is_refused() {
    let mut tokenizer = tokenizer(false);
    tokenizer.set_chat_template(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
    );
    let data = Data::new(&[("type: chat_template", &conversation(&["a", "b"]))]);
    let error = data.prepare_with(&tokenizer, &[]).unwrap_err();
    assert!(matches!(&error, DataError::NeverStops { source_name } if source_name == "s0"), "{error}");
}

#[test]
fn conversations_with_tools_are_refused() {
    let text = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{}]}]}\n";
    let (error, hint) = Data::new(&[("type: chat_template", text)]).refused(&[]);
    assert_eq!(error, "source `s0`, line 1: message 2 has `tool_calls`, which is not supported");
    assert!(!hint.is_empty());
    let text = "{\"messages\": [{\"role\": \"user\", \"content\": [\"a\"]}]}\n";
    assert_eq!(
        Data::new(&[("type: chat_template", text)]).refused(&[]).0,
        "source `s0`, line 1: message 1 has no text `content`"
    );
}

#[test]
fn the_question_is_what_stands_before_the_last_answer() {
    let text = conversation(&["a", "b", "c", "d e"]).repeat(2);
    let prepared = Data::new(&[("type: chat_template", &text)]).prepare(&["val_set_size=1"]);
    let [question] = prepared.eval_examples.as_slice() else { panic!("{:?}", prepared.eval_examples) };
    assert!(question.prompt_text.ends_with("<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"));
    assert_eq!(question.reference_text, "d e");
    assert_eq!(prepared.eval_rows.row(0).unwrap().input_ids[..question.prompt_ids.len()], question.prompt_ids);
}
