//! A strict reading of YAML: one document of mappings, lists and scalars, each key once, every place remembered.
//!
//! Recipes are inert and come from strangers: anchors, aliases, tags and merge keys are refused, so no text can grow
//! while it is read, and nothing in it can mean more than it shows.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

/// Largest text that is read.
pub const SIZE_LIMIT: usize = 1 << 20;
/// Deepest nesting that is read.
const DEPTH_LIMIT: usize = 32;
/// Longest key that is read, in characters: YAML 1.2.2 (section 7.4) ends a key in front of a `:` at 1024, and written again a
/// character can take six.
const KEY_LIMIT: usize = 160;

/// A place in a text, both from 1; `width` characters are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// Characters.
    pub width: usize,
}

/// A document with the place of every entry.
#[derive(Debug, Clone, Default)]
pub struct Document {
    /// The content.
    pub value: Value,
    /// Places of keys (or of list entries) by dotted path.
    pub keys: BTreeMap<String, Place>,
    /// Places of values by dotted path.
    pub values: BTreeMap<String, Place>,
}

/// What is wrong, where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// The place.
    pub place: Place,
    /// The problem.
    pub problem: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl YamlError {
    fn new(place: Place, problem: impl Into<String>) -> Self {
        Self { place, problem: problem.into(), hint: None }
    }

    fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }
}

/// A dotted path with one more part.
#[must_use]
pub fn join(path: &str, part: &str) -> String {
    if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") }
}

/// Reads a document.
///
/// # Errors
/// Text that is not YAML, or more than the plain part of it that recipes need.
pub fn parse(text: &str) -> Result<Document, YamlError> {
    if text.len() > SIZE_LIMIT {
        return Err(YamlError::new(
            Place { line: 1, column: 1, width: 1 },
            format!("the text is larger than {SIZE_LIMIT} bytes"),
        ));
    }
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        return Err(YamlError::new(Place { line, column: 1, width: 1 }, "the text holds a zero byte"));
    }
    let mut reader =
        Reader { events: Parser::new_from_str(text), document: Document::default(), last: Place::default() };
    reader.document()?;
    Ok(reader.document)
}

struct Reader<'a, I: Iterator<Item = Result<(Event<'a>, Span), saphyr_parser::ScanError>>> {
    events: I,
    document: Document,
    last: Place,
}

fn place(span: &Span) -> Place {
    let width = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Place { line: span.start.line(), column: span.start.col() + 1, width: width.max(1) }
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), saphyr_parser::ScanError>>> Reader<'a, I> {
    fn next(&mut self) -> Result<(Event<'a>, Place), YamlError> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                self.last = place(&span);
                Ok((event, self.last))
            }
            Some(Err(error)) => {
                let mark = error.marker();
                let place = Place { line: mark.line(), column: mark.col() + 1, width: 1 };
                Err(YamlError::new(place, format!("this is not YAML: {}", error.info())))
            }
            None => Err(YamlError::new(self.last, "the text ends too early")),
        }
    }

    fn document(&mut self) -> Result<(), YamlError> {
        let mut seen = false;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if seen => {
                    return Err(YamlError::new(at, "a second document begins here").hint("keep one document in a file"));
                }
                Event::DocumentStart(_) => {
                    seen = true;
                    let (event, at) = self.next()?;
                    self.document.value = self.node(event, at, "", 0)?;
                }
                Event::StreamEnd => return Ok(()),
                _ => return Err(YamlError::new(at, "content outside a document")),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Place, path: &str, depth: usize) -> Result<Value, YamlError> {
        if depth > DEPTH_LIMIT {
            return Err(YamlError::new(at, format!("nested deeper than {DEPTH_LIMIT} levels")));
        }
        self.document.values.insert(path.to_owned(), at);
        match event {
            Event::Alias(_) => {
                Err(YamlError::new(at, "aliases (`*name`) are not used in recipes").hint("write the value out"))
            }
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor > 0 =>
            {
                Err(YamlError::new(at, "anchors (`&name`) are not used in recipes").hint("write the value out"))
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                Err(YamlError::new(at, "tags (`!name`) are not used in recipes"))
            }
            Event::Scalar(text, style, ..) => scalar(&text, style, at),
            Event::SequenceStart(..) => self.sequence(path, depth),
            Event::MappingStart(..) => self.mapping(path, depth),
            _ => Err(YamlError::new(at, "a value is missing here")),
        }
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Result<Value, YamlError> {
        let mut entries = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(entries));
            }
            let path = join(path, &entries.len().to_string());
            self.document.keys.insert(path.clone(), at);
            let entry = self.node(event, at, &path, depth + 1)?;
            entries.push(entry);
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<Value, YamlError> {
        let mut members = Map::new();
        loop {
            let (event, at) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Object(members)),
                Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<" => {
                    return Err(
                        YamlError::new(at, "merge keys (`<<`) are not used in recipes").hint("write the keys out")
                    );
                }
                Event::Scalar(text, _, 0, None) => text.into_owned(),
                _ => return Err(YamlError::new(at, "a key must be plain text")),
            };
            if key.chars().count() > KEY_LIMIT {
                return Err(YamlError::new(at, format!("a key of more than {KEY_LIMIT} characters")));
            }
            let path = join(path, &key);
            // By the mapping's own keys: `a.0` and the first entry of `a` have the same path.
            if let Some(first) = self.document.keys.get(&path).filter(|_| members.contains_key(&key)) {
                let problem = format!("the key `{key}` was given already, in line {}", first.line);
                return Err(YamlError::new(at, problem).hint("keep one of the two"));
            }
            self.document.keys.insert(path.clone(), at);
            let (event, at) = self.next()?;
            let value = self.node(event, at, &path, depth + 1)?;
            members.insert(key, value);
        }
    }
}

/// A scalar by YAML 1.2's core schema, decimal numbers only; `1e-5` is a number.
fn scalar(text: &str, style: ScalarStyle, at: Place) -> Result<Value, YamlError> {
    if style != ScalarStyle::Plain {
        return Ok(Value::String(text.to_owned()));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | "-.inf" | "-.Inf" | "+.inf" => {
            return Err(YamlError::new(at, format!("`{text}` is not a usable number")));
        }
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c));
    if number {
        let plain = text.strip_prefix('+').unwrap_or(text);
        if let Ok(integer) = plain.parse::<u64>() {
            return Ok(Value::Number(integer.into()));
        }
        if let Ok(integer) = plain.parse::<i64>() {
            return Ok(Value::Number(integer.into()));
        }
        if let Ok(float) = plain.parse::<f64>() {
            // `+ 0.0` makes -0 the 0 that it equals: canonical JSON has only one of them.
            let number = Number::from_f64(float + 0.0)
                .ok_or_else(|| YamlError::new(at, format!("`{text}` is beyond the range of numbers")))?;
            return Ok(Value::Number(number));
        }
    }
    Ok(Value::String(text.to_owned()))
}

/// Writes a value as block YAML that [`parse`] reads back as the same value: members sorted, strings quoted as JSON.
#[must_use]
pub fn emit(value: &Value) -> String {
    let mut text = String::new();
    emit_into(value, 0, &mut text);
    text
}

fn emit_into(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(members) if !members.is_empty() => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            for (key, value) in sorted {
                text.push_str(&format!("{pad}{}:", emit_key(key)));
                emit_nested(value, indent, text);
            }
        }
        Value::Array(entries) if !entries.is_empty() => {
            for entry in entries {
                text.push_str(&format!("{pad}-"));
                emit_nested(entry, indent, text);
            }
        }
        scalar => text.push_str(&format!("{pad}{scalar}\n")),
    }
}

fn emit_nested(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push('\n');
            emit_into(value, indent + 2, text);
        }
        Value::Array(entries) if !entries.is_empty() => {
            text.push('\n');
            emit_into(value, indent + 2, text);
        }
        scalar => text.push_str(&format!(" {scalar}\n")),
    }
}

/// A key as it is where it is a plain word, otherwise quoted.
fn emit_key(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !["null", "true", "false"].contains(&key);
    if plain { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_strings_and_places() {
        let document = parse("a: 1e-5\nb:\n  - x\n  - 18446744073709551615\nc: \"7\"\nd: v1.2\n").unwrap();
        assert_eq!(document.value, serde_json::json!({"a": 1e-5, "b": ["x", u64::MAX], "c": "7", "d": "v1.2"}));
        assert_eq!(document.values["b.1"], Place { line: 4, column: 5, width: 20 });
        assert_eq!(document.keys["c"].line, 5);
    }

    #[test]
    fn what_is_not_inert_is_refused() {
        for text in [
            "a: &x 1\n",
            "a: *x\n",
            "a: !tag 1\n",
            "<<: 1\n",
            "a: 1\n---\nb: 2\n",
            "a: 1\na: 2\n",
            "a: .inf\n",
            "? [x]\n: 1\n",
            "a: 1e999\n",
            "{a: 1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("{}: 1\n", "k".repeat(161))).is_err());
        let longest = serde_json::json!({"\u{1}".repeat(160): 1});
        assert_eq!(parse(&emit(&longest)).unwrap().value, longest, "every character is written as six");
        // The same path, and not the same key.
        let dotted = serde_json::json!({"a": [1], "a.0": 2});
        assert_eq!(parse(&emit(&dotted)).unwrap().value, dotted);
        let deep = "[".repeat(100);
        assert!(parse(&deep).is_err());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z_]{1,6}|\\PC{1,4}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(value in values()) {
            prop_assert_eq!(parse(&emit(&value)).map(|d| d.value), Ok(value));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[-:\\[\\]{}&*!|>'\" \n#a1]{0,30}") {
            let _ = parse(&text);
        }
    }
}
