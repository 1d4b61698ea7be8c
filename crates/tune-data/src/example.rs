//! Rows as examples, and examples as token ids with a mask of what is supervised.
//!
//! Masks come from how the text was put together, never from searching it for marker strings.

use serde_json::Value;
use tune_schema::recipe::{Dataset, DatasetType, TrainOnEos};

use crate::error::{DataError, RowProblem, TemplateProblem};
use crate::rows::SourceRow;
use crate::template::{ASSISTANT, ChatTemplate, Message, Rendered};
use crate::tokenizer::{Encoded, Tokenizer};

/// An example in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether each token is supervised.
    pub supervised: Vec<bool>,
    /// The tokens that end a turn or the text and are supervised, ascending.
    pub ends: Vec<usize>,
    /// Whether a token begins in what the model is given and ends in what it answers: the token is not supervised, and
    /// generation starts from other tokens.
    pub straddles: bool,
}

/// A held-out example to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalExample {
    /// The name of its source.
    pub source: String,
    /// What the model is given.
    pub prompt_ids: Vec<u32>,
    /// The same as text.
    pub prompt_text: String,
    /// What it should answer: the answer's tokens without the one that ends the turn, decoded as an answer would be.
    pub reference_text: String,
}

/// Turns rows of one source into examples.
#[derive(Debug)]
pub struct ExampleBuilder<'a> {
    dataset: &'a Dataset,
    tokenizer: &'a Tokenizer,
    template: Result<ChatTemplate, TemplateProblem>,
    train_on_inputs: bool,
}

/// A row as text: what every type comes to.
enum Content {
    /// A prompt, which may be empty, and what follows it.
    Pair(String, String),
    /// A conversation.
    Chat(Vec<Message>),
}

impl<'a> ExampleBuilder<'a> {
    /// A builder for a source.
    #[must_use]
    pub fn new(dataset: &'a Dataset, tokenizer: &'a Tokenizer, train_on_inputs: bool) -> Self {
        Self { dataset, tokenizer, template: tokenizer.template(), train_on_inputs }
    }

    /// The example of a row.
    ///
    /// # Errors
    /// Missing columns, or a conversation that the template refuses.
    pub fn build(&self, row: &SourceRow) -> Result<Example, DataError> {
        match self.content(row)? {
            Content::Pair(prompt, completion) => self.pair(&prompt, &completion),
            Content::Chat(messages) => {
                let rendered = self.render(row, &messages)?;
                let encoded = self.tokenizer.encode(&rendered.text)?;
                Ok(self.mask(&rendered, encoded))
            }
        }
    }

    /// The same row as a question to the model, where it has one: a prompt, or what stands before the last trained answer.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn question(&self, row: &SourceRow) -> Result<Option<EvalExample>, DataError> {
        let (leading, prompt_text, answer) = match self.content(row)? {
            Content::Pair(prompt, _) if prompt.is_empty() => return Ok(None),
            Content::Pair(prompt, completion) => {
                (self.tokenizer.leading_id(), prompt, self.tokenizer.ids(&completion)?)
            }
            Content::Chat(messages) => {
                let Rendered { text, turns } = self.render(row, &messages)?;
                let last = turns.iter().rfind(|turn| turn.trained && messages[turn.message].role == ASSISTANT);
                let Some(last) = last else { return Ok(None) };
                let encoded = self.tokenizer.encode(&text)?;
                let tokens = encoded.within(&last.body);
                let end = self.tokenizer.turn_end(&text, &encoded, tokens.clone()).unwrap_or(tokens.end);
                (None, text[..last.body.start].to_owned(), encoded.ids[tokens.start..end].to_vec())
            }
        };
        let mut prompt_ids: Vec<u32> = leading.into_iter().collect();
        prompt_ids.extend(self.tokenizer.ids(&prompt_text)?);
        let (source, reference_text) = (self.dataset.name.clone(), self.tokenizer.decode(&answer)?);
        Ok(Some(EvalExample { source, prompt_ids, prompt_text, reference_text }))
    }

    fn content(&self, row: &SourceRow) -> Result<Content, DataError> {
        let dataset = self.dataset;
        let pair = |prompt: &str, completion: &str| Content::Pair(prompt.to_owned(), completion.to_owned());
        Ok(match dataset.kind {
            DatasetType::Completion => pair("", row.text(&dataset.field_text)?),
            DatasetType::PromptCompletion => {
                let (prompt, completion) = self.columns(row)?;
                pair(prompt, completion)
            }
            DatasetType::Alpaca => {
                let input = row.optional_text(&dataset.field_input)?.unwrap_or_default();
                pair(&alpaca(row.text(&dataset.field_instruction)?, input), row.text(&dataset.field_output)?)
            }
            DatasetType::ChatTemplate => Content::Chat(self.messages(row)?),
        })
    }

    fn columns<'r>(&self, row: &'r SourceRow) -> Result<(&'r str, &'r str), DataError> {
        let column = |name: &Option<String>| row.text(name.as_deref().unwrap_or_default());
        Ok((column(&self.dataset.field_prompt)?, column(&self.dataset.field_completion)?))
    }

    fn messages(&self, row: &SourceRow) -> Result<Vec<Message>, DataError> {
        let dataset = self.dataset;
        if dataset.field_prompt.is_some() {
            let (prompt, completion) = self.columns(row)?;
            let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
            return Ok(vec![message("user", prompt), message(ASSISTANT, completion)]);
        }
        let one = |(i, message): (usize, &Value)| {
            let wrong = |problem| DataError::Row { place: row.place.clone(), problem };
            // Left out in silence, the model would learn to answer where it should call.
            for field in ["tool_calls", "function_call"] {
                let given =
                    message.get(field).is_some_and(|value| !value.is_null() && *value != Value::Array(Vec::new()));
                if given {
                    return Err(wrong(RowProblem::MessagePart { message: i + 1, field }));
                }
            }
            let text = |field: &String| {
                let text = message.get(field).and_then(Value::as_str).map(str::to_owned);
                text.ok_or_else(|| wrong(RowProblem::Message { message: i + 1, field: field.clone() }))
            };
            Ok(Message { role: text(&dataset.field_role)?, content: text(&dataset.field_content)? })
        };
        row.list(&dataset.field_messages)?.iter().enumerate().map(one).collect()
    }

    /// Prompt and completion tokenised apart, so that the boundary is one between tokens and generation sees the very
    /// tokens that training saw; then end of sequence.
    fn pair(&self, prompt: &str, completion: &str) -> Result<Example, DataError> {
        let mut ids: Vec<u32> = self.tokenizer.leading_id().into_iter().collect();
        ids.extend(self.tokenizer.ids(prompt)?);
        let boundary = ids.len();
        ids.extend(self.tokenizer.ids(completion)?);
        ids.push(self.tokenizer.eos().1);
        let supervised = (0..ids.len()).map(|i| i >= boundary || self.train_on_inputs).collect();
        let ends = vec![ids.len() - 1];
        Ok(Example { ids, supervised, ends, straddles: false })
    }

    fn render(&self, row: &SourceRow, messages: &[Message]) -> Result<Rendered, DataError> {
        let wrong =
            |problem: &TemplateProblem| DataError::Template { place: row.place.clone(), problem: problem.clone() };
        let template = self.template.as_ref().map_err(wrong)?;
        let every = self.dataset.train_on_eos == TrainOnEos::All || self.train_on_inputs;
        let trained = |message: &Message| self.dataset.roles_to_train.contains(&message.role);
        template.render_turns(messages, trained, every).map_err(|problem| wrong(&problem))
    }

    /// The mask of a conversation. Of a trained turn the body is supervised, up to and with the token that ends the turn;
    /// what the template puts after that belongs to no one.
    fn mask(&self, rendered: &Rendered, encoded: Encoded) -> Example {
        let mut supervised = vec![false; encoded.ids.len()];
        let (mut ends, mut straddles) = (Vec::new(), false);
        let last_trained = rendered.turns.iter().rposition(|turn| turn.trained);
        for (i, turn) in rendered.turns.iter().enumerate() {
            let tokens = encoded.within(&turn.body);
            let end = self.tokenizer.turn_end(&rendered.text, &encoded, tokens.clone());
            if turn.trained {
                supervised[tokens.start..end.unwrap_or(tokens.end)].fill(true);
                straddles |= encoded.straddles(turn.body.start);
            }
            let learned = match self.dataset.train_on_eos {
                TrainOnEos::All => true,
                TrainOnEos::Turn => turn.trained,
                TrainOnEos::Last => last_trained == Some(i),
            };
            if let Some(end) = end.filter(|_| learned || self.train_on_inputs) {
                supervised[end] = true;
                ends.push(end);
            }
        }
        if self.train_on_inputs {
            let end = ends.last().map_or(supervised.len(), |end| end + 1);
            supervised[..end].fill(true);
        }
        Example { ids: encoded.ids, supervised, ends, straddles }
    }
}

/// The prompt of Stanford Alpaca (`PROMPT_DICT` in `train.py` of tatsu-lab/stanford_alpaca), which models of that family
/// were trained with. The answer follows the colon at once.
fn alpaca(instruction: &str, input: &str) -> String {
    let request = "Write a response that appropriately completes the request.\n\n### Instruction:\n";
    if input.is_empty() {
        return format!("Below is an instruction that describes a task. {request}{instruction}\n\n### Response:");
    }
    format!(
        "Below is an instruction that describes a task, paired with an input that provides further context. {request}{instruction}\n\n### Input:\n{input}\n\n### Response:"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_prompts_of_stanford_alpaca() {
        assert_eq!(
            alpaca("Add.", ""),
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Response:"
        );
        assert_eq!(
            alpaca("Add.", "1, 2"),
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:"
        );
    }
}
