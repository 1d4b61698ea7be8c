//! Rows as examples, and examples as token ids with a mask of what is supervised.
//!
//! Masks come from how the text was put together, never from searching it for marker strings.

use serde_json::Value;
use tune_schema::recipe::{Dataset, DatasetType, TrainOnEos};

use crate::rows::SourceRow;
use crate::template::{ChatTemplate, Message};
use crate::{DataError, Tokenizer};

/// An example in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether each token is supervised.
    pub supervised: Vec<bool>,
    /// Tokens of the prompt of the last answer: what generation is given.
    pub prompt: usize,
    /// The answer as text.
    pub reference: String,
    /// The prompt as text.
    pub prompt_text: String,
    /// Whether an end-of-turn token exists that could be supervised, and whether one is.
    pub end_of_turn: (bool, bool),
}

/// Turns rows of one source into examples.
#[derive(Debug)]
pub struct ExampleBuilder<'a> {
    dataset: &'a Dataset,
    tokenizer: &'a Tokenizer,
    template: Option<ChatTemplate>,
    train_on_inputs: bool,
}

impl<'a> ExampleBuilder<'a> {
    /// A builder for a source.
    ///
    /// # Errors
    /// A chat source without a usable template.
    pub fn new(dataset: &'a Dataset, tokenizer: &'a Tokenizer, train_on_inputs: bool) -> Result<Self, DataError> {
        let template = match dataset.kind {
            DatasetType::ChatTemplate => {
                let wrong = |problem| DataError::Template { source_name: dataset.name.clone(), line: 1, problem };
                Some(ChatTemplate::new(tokenizer).map_err(wrong)?)
            }
            _ => None,
        };
        Ok(Self { dataset, tokenizer, template, train_on_inputs })
    }

    /// The example of a row.
    ///
    /// # Errors
    /// Missing columns, or a conversation that the template refuses.
    pub fn build(&self, row: &SourceRow) -> Result<Example, DataError> {
        let (source, dataset) = (self.dataset.name.as_str(), self.dataset);
        match dataset.kind {
            DatasetType::Completion => self.prompt_completion("", row.text(source, &dataset.field_text)?),
            DatasetType::PromptCompletion => {
                let (prompt, completion) = self.pair(row)?;
                self.prompt_completion(prompt, completion)
            }
            DatasetType::Alpaca => {
                let instruction = row.text(source, &dataset.field_instruction)?;
                let input = row.columns.get(&dataset.field_input).and_then(Value::as_str).unwrap_or_default();
                self.prompt_completion(&alpaca(instruction, input), row.text(source, &dataset.field_output)?)
            }
            DatasetType::ChatTemplate => self.chat(row),
        }
    }

    fn pair<'r>(&self, row: &'r SourceRow) -> Result<(&'r str, &'r str), DataError> {
        let column = |name: &Option<String>| row.text(&self.dataset.name, name.as_deref().unwrap_or_default());
        Ok((column(&self.dataset.field_prompt)?, column(&self.dataset.field_completion)?))
    }

    /// Prompt and completion tokenised apart, so that the boundary is one between tokens and generation sees the very
    /// tokens that training saw; then end of sequence.
    fn prompt_completion(&self, prompt: &str, completion: &str) -> Result<Example, DataError> {
        let mut ids: Vec<u32> = self.tokenizer.leading_id().into_iter().collect();
        ids.extend(self.tokenizer.encode(prompt)?.ids);
        let boundary = ids.len();
        ids.extend(self.tokenizer.encode(completion)?.ids);
        ids.push(self.tokenizer.eos().1);
        let supervised = (0..ids.len()).map(|i| i >= boundary || self.train_on_inputs).collect();
        Ok(Example {
            ids,
            supervised,
            prompt: boundary,
            reference: completion.to_owned(),
            prompt_text: prompt.to_owned(),
            end_of_turn: (true, true),
        })
    }

    fn messages(&self, row: &SourceRow) -> Result<Vec<Message>, DataError> {
        let dataset = self.dataset;
        if dataset.field_prompt.is_some() {
            let (prompt, completion) = self.pair(row)?;
            let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
            return Ok(vec![message("user", prompt), message("assistant", completion)]);
        }
        let missing = || row.missing(&dataset.name, &dataset.field_messages);
        let list = row.columns.get(&dataset.field_messages).and_then(Value::as_array).filter(|list| !list.is_empty()).ok_or_else(missing)?;
        let wrong = |problem: String| DataError::Row { source_name: dataset.name.clone(), line: row.line, problem };
        let one = |(i, message): (usize, &Value)| {
            let text = |field: &String| {
                let text = message.get(field).and_then(Value::as_str);
                text.map(str::to_owned).ok_or_else(|| wrong(format!("message {} has no text `{field}`", i + 1)))
            };
            Ok(Message { role: text(&dataset.field_role)?, content: text(&dataset.field_content)? })
        };
        list.iter().enumerate().map(one).collect()
    }

    fn chat(&self, row: &SourceRow) -> Result<Example, DataError> {
        let messages = self.messages(row)?;
        let wrong = |problem: String| DataError::Template { source_name: self.dataset.name.clone(), line: row.line, problem };
        let template = self.template.as_ref().ok_or_else(|| wrong("the source has no chat template".to_owned()))?;
        let trained = |message: &Message| self.dataset.roles_to_train.contains(&message.role);
        let rendered = template.render_turns(&messages, |message| message.role == "assistant").map_err(wrong)?;
        let encoded = self.tokenizer.encode(&rendered.text)?;
        let mut supervised = vec![self.train_on_inputs; encoded.ids.len()];
        let (mut exists, mut learned) = (false, false);
        let last_trained = messages.iter().rposition(trained);
        for (i, (message, turn)) in messages.iter().zip(&rendered.turns).enumerate() {
            let inside = |k: usize| turn.body.contains(&encoded.starts[k]) && encoded.ends[k] > encoded.starts[k];
            let tokens: Vec<usize> = (0..encoded.ids.len()).filter(|k| inside(*k)).collect();
            // The turn ends with its last special token; what the template puts after that belongs to no one.
            let end = tokens.iter().rev().copied().find(|k| self.tokenizer.is_special(encoded.ids[*k]));
            let train_end = match self.dataset.train_on_eos {
                TrainOnEos::All => true,
                TrainOnEos::Turn => trained(message),
                TrainOnEos::Last => last_trained == Some(i),
            };
            for k in tokens {
                if trained(message) && end.is_none_or(|end| k < end) {
                    supervised[k] = true;
                }
            }
            if let Some(end) = end {
                supervised[end] = train_end || self.train_on_inputs;
                exists |= trained(message);
                learned |= train_end;
            }
        }
        let answer = messages.iter().rposition(|message| message.role == "assistant");
        let boundary = answer.map_or(rendered.text.len(), |i| rendered.turns[i].body.start);
        let prompt_text = rendered.text[..boundary].to_owned();
        let prompt = encoded.starts.iter().take_while(|start| **start < boundary).count();
        let reference = answer.map_or(String::new(), |i| messages[i].content.clone());
        Ok(Example { ids: encoded.ids, supervised, prompt, reference, prompt_text, end_of_turn: (exists, learned) })
    }
}

/// The prompt of Stanford Alpaca, which models of that family were trained with.
fn alpaca(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
        )
    }
}
