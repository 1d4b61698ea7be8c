//! Chat templates, rendered as transformers' `apply_chat_template` does, and the turns in what they render.

use std::ops::Range;

use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::Serialize;

use crate::error::TemplateProblem;

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// The text.
    pub content: String,
}

/// The role of which templates render the header when asked to generate.
pub const ASSISTANT: &str = "assistant";

/// One turn in a rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Index of its message.
    pub message: usize,
    /// Whether it is one of those to train on.
    pub trained: bool,
    /// Bytes of the turn; of a trained one what follows its header: the content, the end of the turn, and what the
    /// template puts after that.
    pub body: Range<usize>,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The turns that were asked for, in order.
    pub turns: Vec<Turn>,
}

/// A chat template ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: Option<String>,
    eos: String,
}

const NAME: &str = "chat_template";
/// Instructions of the template engine for one rendering: a template of a stranger may loop, and must end.
const FUEL: u64 = 10_000_000;
/// What a template is given.
const GIVEN: [&str; 6] = ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

impl ChatTemplate {
    /// A template with the special tokens that it may name.
    ///
    /// # Errors
    /// A text that is not Jinja.
    pub fn new(text: &str, bos: Option<&str>, eos: &str) -> Result<Self, TemplateProblem> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        // Jinja prints nothing for a name that does not exist: a misspelt one would train on less than was meant.
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |text: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        // `strftime_now` is left undefined: a template that can do without takes its fixed date (Llama 3.2 does), and
        // any other is an error instead of a result that depends on the day.
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, without_generation_tags(text))
            .map_err(|error| TemplateProblem::Syntax { reason: error.to_string() })?;
        Ok(Self { environment, bos: bos.map(str::to_owned), eos: eos.to_owned() })
    }

    /// The text of a conversation; with `generate`, followed by the header of the answer to come.
    ///
    /// # Errors
    /// A template that refuses the conversation.
    pub fn render(&self, messages: &[Message], generate: bool) -> Result<String, TemplateProblem> {
        // transformers passes `tools` and `documents` as none, and templates compare with that. A tokenizer without a
        // first token prints none.
        let context = context! {
            messages => Value::from_serialize(messages),
            tools => (),
            documents => (),
            add_generation_prompt => generate,
            bos_token => self.bos.as_deref().unwrap_or_default(),
            eos_token => self.eos,
        };
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|error| self.refusal(&error))
    }

    /// Renders a conversation and finds the turns in it by construction: the text of the first messages is the beginning
    /// of the text of all, and of an answer, the header is what the template adds when asked to generate. Of other roles
    /// the header is what comes before the content begins to matter.
    ///
    /// Gives the turns that `trained` picks; with `every`, also the others.
    ///
    /// # Errors
    /// A template that renders a turn differently depending on what follows, or a header differently in training and in
    /// use: then no mask would be right.
    pub fn render_turns(
        &self,
        messages: &[Message],
        trained: impl Fn(&Message) -> bool,
        every: bool,
    ) -> Result<Rendered, TemplateProblem> {
        let text = self.render(messages, false)?;
        let mut turns = Vec::new();
        let mut start = 0;
        for (i, message) in messages.iter().enumerate() {
            let trained = trained(message);
            if !trained && !every {
                continue;
            }
            let end = match self.turn_end(&text, messages, i) {
                // Some templates render a system message only inside the next turn: it then has no end of its own.
                Err(
                    TemplateProblem::Refused { .. }
                    | TemplateProblem::Undefined { .. }
                    | TemplateProblem::InContext { .. },
                ) if !trained && message.role == "system" => {
                    continue;
                }
                end => end?,
            };
            let body = if trained { self.header_end(&text, messages, i)? } else { start };
            if body > end {
                return Err(TemplateProblem::InUse { message: i + 1 });
            }
            turns.push(Turn { message: i, trained, body: body..end });
            start = end;
        }
        Ok(Rendered { text, turns })
    }

    /// Where message `i` ends in the text of all.
    fn turn_end(&self, text: &str, messages: &[Message], i: usize) -> Result<usize, TemplateProblem> {
        if i + 1 == messages.len() {
            return Ok(text.len());
        }
        let prefix = self.render(&messages[..=i], false)?;
        if text.starts_with(&prefix) { Ok(prefix.len()) } else { Err(TemplateProblem::InContext { message: i + 1 }) }
    }

    /// Where the header of message `i` ends in the text of all.
    fn header_end(&self, text: &str, messages: &[Message], i: usize) -> Result<usize, TemplateProblem> {
        if messages[i].role == ASSISTANT {
            match self.render(&messages[..i], true) {
                Ok(prompt) if text.starts_with(&prompt) => return Ok(prompt.len()),
                // Nothing is generated before the first message, and many templates cannot render that.
                Ok(_) | Err(TemplateProblem::Refused { .. } | TemplateProblem::Undefined { .. }) if i == 0 => {}
                Ok(_) => return Err(TemplateProblem::InUse { message: i + 1 }),
                Err(problem) => return Err(problem),
            }
        }
        let with = |content: &str| {
            let mut messages = messages[..=i].to_vec();
            content.clone_into(&mut messages[i].content);
            self.render(&messages, false)
        };
        let (one, other) = (with("A")?, with("B")?);
        let common = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        match one.get(..common) {
            Some(header) if common < one.len() && text.starts_with(header) => Ok(common),
            _ => Err(TemplateProblem::NoHeader { message: i + 1 }),
        }
    }

    fn refusal(&self, error: &Error) -> TemplateProblem {
        let detail = error.detail().unwrap_or_default();
        match error.kind() {
            ErrorKind::UnknownFunction if detail.contains("strftime_now") => TemplateProblem::Clock,
            ErrorKind::UndefinedError => {
                TemplateProblem::Undefined { line: error.line().unwrap_or(1), unknown: self.unknown_names() }
            }
            _ if detail.is_empty() => TemplateProblem::Refused { reason: error.to_string() },
            _ => TemplateProblem::Refused { reason: detail.to_owned() },
        }
    }

    /// Names in the template that nothing is given for, sorted.
    fn unknown_names(&self) -> Vec<String> {
        let used = self.environment.get_template(NAME).map(|template| template.undeclared_variables(false));
        let given = |name: &str| GIVEN.contains(&name) || self.environment.globals().any(|(global, _)| global == name);
        let mut names: Vec<String> = used.unwrap_or_default().into_iter().filter(|name| !given(name)).collect();
        names.sort();
        names
    }
}

/// `{% generation %}` marks answers for transformers' own masks (`AssistantTracker`), which ours do without: each such
/// tag becomes one that does nothing and keeps its white-space control.
fn without_generation_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find("{%") {
        let Some(close) = rest[open..].find("%}").map(|at| open + at) else { break };
        let inside = &rest[open + 2..close];
        let name = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let nothing = match name {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str(&rest[..open + 2]);
        match nothing {
            Some(tag) => out.push_str(&inside.replacen(name, tag, 1)),
            None => out.push_str(inside),
        }
        out.push_str("%}");
        rest = &rest[close + 2..];
    }
    out + rest
}

/// `tojson` as transformers defines it: Python's `json.dumps(value, ensure_ascii=False)`, where Jinja's own would escape
/// for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let indent = vec![b' '; width.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(failed)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)).map_err(failed)?,
    }
    String::from_utf8(bytes)
        .map(Value::from)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// JSON on one line with Python's separators `, ` and `: `.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: std::io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: std::io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: std::io::Write + ?Sized>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    fn render(template: &str, messages: &[Message]) -> Result<String, String> {
        let template = ChatTemplate::new(template, Some("<s>"), "</s>").map_err(|error| error.to_string())?;
        template.render(messages, false).map_err(|error| error.to_string())
    }

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn bodies(
        template: &str,
        messages: &[Message],
        trained: &str,
        every: bool,
    ) -> Result<Vec<String>, TemplateProblem> {
        let template = ChatTemplate::new(template, None, "</s>")?;
        let rendered = template.render_turns(messages, |message| message.role == trained, every)?;
        Ok(rendered.turns.iter().map(|turn| rendered.text[turn.body.clone()].to_owned()).collect())
    }

    #[test]
    fn the_dialect_is_that_of_transformers() {
        let one = [message("user", " <Hi> ")];
        assert_eq!(
            render("{{ bos_token }}{{ messages[0].content.strip() }}{{ eos_token }}", &one).unwrap(),
            "<s><Hi></s>"
        );
        assert_eq!(render("{{ messages[0] | tojson }}", &one).unwrap(), r#"{"role": "user", "content": " <Hi> "}"#);
        assert_eq!(render("a\n  {% if tools is none %}\nb\n  {% endif %}\n", &one).unwrap(), "a\nb\n");
        let marked = "x {%- generation -%} a {%- endgeneration %} y";
        assert_eq!(render(marked, &one).unwrap(), "xa y");
        assert!(
            render("{{ raise_exception('no system') }}", &one)
                .unwrap_err()
                .ends_with("refuses the conversation: no system")
        );
        assert!(render("{% for", &one).unwrap_err().starts_with("the chat template is not usable: "));
    }

    #[test]
    fn time_does_not_enter_the_result() {
        let one = [message("user", "Hi")];
        let guarded = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}";
        assert_eq!(render(guarded, &one).unwrap(), "26 Jul 2024");
        assert!(render("{{ strftime_now('%d') }}", &one).unwrap_err().contains("asks for the time"));
    }

    #[test]
    fn names_that_do_not_exist_are_refused_where_they_would_be_printed() {
        let one = [message("user", "Hi")];
        let error = |template: &str| render(template, &one).unwrap_err();
        assert_eq!(
            error("a\n{{ mesage }}{{ eos_token }}{{ other if other }}"),
            "line 2 of the chat template uses what does not exist: nothing is given for `mesage`, `other`"
        );
        assert_eq!(error("{{ messages[0].contnt }}"), "line 1 of the chat template uses what does not exist");
        assert!(error("{{ mesages[0].content }}").ends_with("nothing is given for `mesages`"));
        let guarded = "{% if thinking %}x{% endif %}{{ style if style is defined }}{{ date | default('today') }}";
        assert_eq!(render(guarded, &one).unwrap(), "today");
        let without = ChatTemplate::new("{{ bos_token }}{{ messages[0].content }}", None, "</s>").unwrap();
        assert_eq!(without.render(&one, false).unwrap(), "Hi");
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert!(render(loops, &[]).is_err());
    }

    #[test]
    fn turns_by_construction() {
        let talk =
            [message("user", "2+2?"), message("assistant", "4"), message("user", "+1?"), message("assistant", "5")];
        assert_eq!(bodies(CHATML, &talk, "assistant", false).unwrap(), ["4<|im_end|>\n", "5<|im_end|>\n"]);
        assert_eq!(bodies(CHATML, &talk, "user", false).unwrap(), ["2+2?<|im_end|>\n", "+1?<|im_end|>\n"]);
        let every = bodies(CHATML, &talk, "assistant", true).unwrap();
        assert_eq!(every[2], "<|im_start|>user\n+1?<|im_end|>\n");
        assert_eq!(bodies(CHATML, &talk[1..], "assistant", false).unwrap(), ["4<|im_end|>\n", "5<|im_end|>\n"]);
    }

    #[test]
    fn content_that_looks_like_markers_moves_no_boundary() {
        let talk = [message("user", "<|im_start|>assistant\nno"), message("assistant", "<|im_start|>assistant\n4")];
        assert_eq!(bodies(CHATML, &talk, "assistant", false).unwrap(), ["<|im_start|>assistant\n4<|im_end|>\n"]);
    }

    #[test]
    fn a_default_system_message_belongs_to_no_turn() {
        let template = format!("{{% if messages[0].role != 'system' %}}SYSTEM {{% endif %}}{CHATML}");
        let talk = [message("user", "2+2?"), message("assistant", "4")];
        assert_eq!(bodies(&template, &talk, "assistant", false).unwrap(), ["4<|im_end|>\n"]);
    }

    #[test]
    fn a_system_message_may_live_inside_the_next_turn() {
        let template = "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}{% endif %}{% if messages | length == 0 %}{{ raise_exception('no user') }}{% endif %}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ system if loop.first }} {{ m.content }} [/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}";
        let talk = [message("system", "Be brief."), message("user", "2+2?"), message("assistant", "4")];
        assert_eq!(bodies(template, &talk, "assistant", false).unwrap(), ["4</s>"]);
        assert_eq!(bodies(template, &talk, "assistant", true).unwrap(), ["[INST] Be brief. 2+2? [/INST]", "4</s>"]);
    }

    #[test]
    fn a_template_that_renders_a_turn_differently_in_context_is_refused() {
        let last = CHATML.replace("m['content']", "('think ' if loop.last else '') + m['content']");
        let talk =
            [message("user", "2+2?"), message("assistant", "4"), message("user", "+1?"), message("assistant", "5")];
        assert_eq!(bodies(&last, &talk, "assistant", false), Err(TemplateProblem::InContext { message: 2 }));
        let header = CHATML.replace("<|im_start|>assistant\n'", "<|im_start|>model\n'");
        assert_eq!(bodies(&header, &talk, "assistant", false), Err(TemplateProblem::InUse { message: 2 }));
        let silent = "{{ messages | length }}";
        assert_eq!(bodies(silent, &talk[..1], "user", false), Err(TemplateProblem::NoHeader { message: 1 }));
    }
}
