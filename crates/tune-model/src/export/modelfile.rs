//! A Modelfile for Ollama (`ollama create NAME -f Modelfile`), as Ollama's `docs/modelfile.md` describes it.

use super::ExportError;

/// How the prompts were formed that a model was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptForm {
    /// The prompt as it is, then the answer: `prompt_completion` and `completion`.
    Plain,
    /// Messages between `<|im_start|>role` and `<|im_end|>`, without a system message of the template's own.
    ChatMl,
    /// Anything else.
    Other,
}

impl PromptForm {
    /// The form of a Jinja chat template: [`Self::ChatMl`] if it is, up to the name of its loop variable and its quotes,
    /// the template that `chat_template: chatml` stands for. A template that does more than that is [`Self::Other`]:
    /// Ollama has another template language, and a translation that is nearly right gives answers that are nearly right.
    #[must_use]
    pub fn of_template(jinja: &str) -> Self {
        const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
        // The recipe's template has the line feeds themselves inside its literals.
        let plain =
            jinja.replace('"', "'").replace('\n', "\\n").replace("message in", "m in").replace("message[", "m[");
        if plain == CHATML { Self::ChatMl } else { Self::Other }
    }
}

/// ChatML in Go's template language; Ollama's own `chatml.gotmpl` says the same.
const CHATML_GO: &str =
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n";

/// What a Modelfile says.
#[derive(Debug, Clone, Copy)]
pub struct Modelfile<'a> {
    /// The base, or a merged model: a path relative to the Modelfile that begins with `./`, or a model of Ollama's library.
    pub from: &'a str,
    /// The GGUF adapter, a path relative to the Modelfile that begins with `./`.
    pub adapter: Option<&'a str>,
    /// How prompts were formed.
    pub prompt: PromptForm,
    /// Texts of the tokens that end an answer.
    pub stop: &'a [&'a str],
    /// The licence: its identifier or its text.
    pub licence: Option<&'a str>,
}

/// The text of a Modelfile. Where the prompts' form has no template in Ollama's language there is none, and a comment
/// says so: Ollama then takes the template of the base model.
///
/// # Errors
/// A text that cannot be written in a Modelfile: a path with a line feed, a text with three quotes in a row.
pub fn modelfile(file: &Modelfile<'_>) -> Result<String, ExportError> {
    let mut text = format!("FROM {}\n", line("the base's name", file.from)?);
    if let Some(adapter) = file.adapter {
        text += &format!("ADAPTER {}\n", line("the adapter's name", adapter)?);
    }
    match file.prompt {
        PromptForm::Plain => text += "TEMPLATE \"\"\"{{ .Prompt }}\"\"\"\n",
        PromptForm::ChatMl => text += &format!("TEMPLATE \"\"\"{CHATML_GO}\"\"\"\n"),
        PromptForm::Other => {
            text += "# The prompts of the training have no template here: check that the base's own is the one trained with.\n";
        }
    }
    for stop in file.stop {
        text += &format!("PARAMETER stop {}\n", quoted("a stop text", stop)?);
    }
    if let Some(licence) = file.licence {
        text += &format!("LICENSE {}\n", quoted("the licence", licence)?);
    }
    Ok(text)
}

/// A text that ends with its line.
fn line<'a>(what: &'static str, text: &'a str) -> Result<&'a str, ExportError> {
    let problem = if text.is_empty() || text.trim() != text {
        "it is empty or begins or ends with white space"
    } else if text.chars().any(char::is_control) {
        "it has control characters"
    } else if text.starts_with('"') {
        "it begins with a quote"
    } else {
        return Ok(text);
    };
    Err(ExportError::Modelfile { what, problem })
}

/// A text between three quotes, which it must neither contain nor touch.
fn quoted(what: &'static str, text: &str) -> Result<String, ExportError> {
    if text.contains("\"\"\"") || text.ends_with('"') || text.starts_with('"') {
        return Err(ExportError::Modelfile { what, problem: "it has three quotes in a row, or one at its end" });
    }
    Ok(format!("\"\"\"{text}\"\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Modelfile<'_> = Modelfile {
        from: "./base.gguf",
        adapter: Some("./adapter.gguf"),
        prompt: PromptForm::Plain,
        stop: &["<|endoftext|>"],
        licence: Some("Apache-2.0"),
    };

    #[test]
    fn golden_text() {
        let expected = "FROM ./base.gguf\nADAPTER ./adapter.gguf\nTEMPLATE \"\"\"{{ .Prompt }}\"\"\"\n\
            PARAMETER stop \"\"\"<|endoftext|>\"\"\"\nLICENSE \"\"\"Apache-2.0\"\"\"\n";
        assert_eq!(modelfile(&FILE).unwrap(), expected);
        let merged = Modelfile { from: "./merged.gguf", adapter: None, stop: &[], licence: None, ..FILE };
        let chat = modelfile(&Modelfile { prompt: PromptForm::ChatMl, ..merged }).unwrap();
        assert_eq!(chat, format!("FROM ./merged.gguf\nTEMPLATE \"\"\"{CHATML_GO}\"\"\"\n"));
        let other = modelfile(&Modelfile { prompt: PromptForm::Other, ..merged }).unwrap();
        assert!(other.starts_with("FROM ./merged.gguf\n# ") && other.lines().count() == 2, "{other}");
    }

    #[test]
    fn texts_that_would_end_early_are_refused() {
        for file in [
            Modelfile { from: "a\nSYSTEM b", ..FILE },
            Modelfile { from: "", ..FILE },
            Modelfile { adapter: Some(" a"), ..FILE },
            Modelfile { stop: &["\""], ..FILE },
            Modelfile { licence: Some("a\"\"\"\nSYSTEM b"), ..FILE },
        ] {
            assert!(modelfile(&file).is_err(), "{file:?}");
        }
    }

    #[test]
    fn only_plain_chatml_is_translated() {
        let text = tune_schema_chatml("\n");
        assert_eq!(PromptForm::of_template(&text), PromptForm::ChatMl);
        assert_eq!(PromptForm::of_template(&tune_schema_chatml("\\n")), PromptForm::ChatMl);
        assert_eq!(PromptForm::of_template(&text.replace('\'', "\"")), PromptForm::ChatMl);
        assert_eq!(PromptForm::of_template(&format!("{{{{ 'system' }}}}{text}")), PromptForm::Other);
        assert_eq!(PromptForm::of_template(&format!("{text}\n")), PromptForm::Other);
    }

    /// What a recipe's `chat_template: chatml` resolves to.
    fn tune_schema_chatml(feed: &str) -> String {
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + 'FEED' + message['content'] + '<|im_end|>' + 'FEED' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistantFEED' }}{% endif %}".replace("FEED", feed)
    }
}
