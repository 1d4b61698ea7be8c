//! Chat templates, rendered as transformers' `apply_chat_template` does, and the spans of the turns in what they render.

use std::ops::Range;

use minijinja::{Environment, ErrorKind, Value, context};

use crate::Tokenizer;

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// The text.
    pub content: String,
}

/// One turn in a rendered conversation, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The whole turn, header included.
    pub whole: Range<usize>,
    /// What follows the header: the content, the end of the turn, and what the template puts after it.
    pub body: Range<usize>,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// One a message.
    pub turns: Vec<Turn>,
}

/// A chat template ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// The tokenizer's template.
    ///
    /// # Errors
    /// No template, or one that is not Jinja.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let text = tokenizer.chat_template().ok_or("the tokenizer has no chat template")?;
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(10_000_000));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |text: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_function("strftime_now", |_: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "the template asks for the time, which would enter the result"))
        });
        environment.add_template_owned(NAME, text.to_owned()).map_err(|error| format!("the chat template is not usable: {error}"))?;
        let bos = tokenizer.bos().map_or(String::new(), |(text, _)| text.to_owned());
        Ok(Self { environment, bos, eos: tokenizer.eos().0.to_owned() })
    }

    /// The text of a conversation; with `generate`, followed by the header of the answer to come.
    ///
    /// # Errors
    /// A template that refuses the conversation.
    pub fn render(&self, messages: &[Message], generate: bool) -> Result<String, String> {
        let template = self.environment.get_template(NAME).map_err(|error| error.to_string())?;
        let messages = Value::from_serialize(messages);
        let context = context! { messages, add_generation_prompt => generate, bos_token => self.bos, eos_token => self.eos };
        template.render(context).map_err(|error| format!("the chat template refuses the conversation: {}", error.detail().unwrap_or("no reason given")))
    }

    /// Renders a conversation and finds its turns by construction: the text of the first `i` messages is the beginning of
    /// the text of all, and what message `i` adds is its turn. Of a turn that the model answers, the header is what the
    /// template adds when asked to generate.
    ///
    /// # Errors
    /// A template that renders a turn differently depending on what follows, or a header differently in training and in
    /// use: then no mask would be right.
    pub fn render_turns(&self, messages: &[Message], answered: impl Fn(&Message) -> bool) -> Result<Rendered, String> {
        let text = self.render(messages, false)?;
        let mut turns = Vec::with_capacity(messages.len());
        let mut start = 0;
        for (i, message) in messages.iter().enumerate() {
            let end = if i + 1 == messages.len() { text.len() } else { self.prefix(&text, &messages[..=i])? };
            let mut body = start;
            if answered(message) {
                // A conversation that begins with an answer has no text before it.
                let before = if i == 0 { String::new() } else { self.render(&messages[..i], true)? };
                if i > 0 && !text.starts_with(&before) {
                    return Err(format!("the chat template renders the header of message {} differently in training and in use", i + 1));
                }
                body = if i == 0 { start } else { before.len() };
                if body > end {
                    return Err(format!("the chat template renders message {} shorter than its header", i + 1));
                }
            }
            turns.push(Turn { whole: start..end, body: body..end });
            start = end;
        }
        Ok(Rendered { text, turns })
    }

    /// Where the text of the first messages ends in the text of all.
    fn prefix(&self, text: &str, messages: &[Message]) -> Result<usize, String> {
        let prefix = self.render(messages, false)?;
        if text.starts_with(&prefix) {
            return Ok(prefix.len());
        }
        Err(format!("the chat template renders message {} differently when more messages follow", messages.len()))
    }
}
