//! Texts of strangers in lines for people: one line each, nothing in them that a terminal obeys, cut to where they part.

use tune_schema::text::printable;

/// Characters that are shown of a long text, and how many of them stand before the place where two texts part.
const SHOWN: usize = 80;
const BEFORE: usize = 30;

/// A text in quotation marks, in one line.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text))
}

/// Two texts, cut to the place where they part if they are long.
pub(super) fn around(a: &str, b: &str) -> [String; 2] {
    let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let long = [a, b].iter().any(|text| text.chars().nth(SHOWN).is_some());
    let start = if long { common.saturating_sub(BEFORE) } else { 0 };
    [a, b].map(|text| cut(text, start))
}

fn cut(text: &str, start: usize) -> String {
    let mut rest = text.chars().skip(start);
    let shown: String = rest.by_ref().take(SHOWN).collect();
    let [before, after] = [start > 0, rest.next().is_some()].map(|cut| if cut { "…" } else { "" });
    format!("{before}{shown}{after}")
}

/// Two values as a line shows them; digests by their first digits.
pub(super) fn side_by_side(a: Option<&str>, b: Option<&str>) -> [String; 2] {
    let is_digest = |text: &str| text.parse::<tune_schema::Digest>().is_ok();
    let texts = match (a, b) {
        (Some(a), Some(b)) if !is_digest(a) && !is_digest(b) => around(a, b).map(Some),
        _ => {
            [a, b].map(|text| text.map(|text| if is_digest(text) { format!("{}…", &text[..19]) } else { cut(text, 0) }))
        }
    };
    texts.map(|text| text.map_or_else(|| "absent".to_owned(), |text| printable(&text)))
}

/// The first few of some names.
pub(super) fn list(names: &[String], most: usize) -> String {
    let mut shown: Vec<String> = names.iter().take(most).map(|name| printable(name)).collect();
    if names.len() > most {
        shown.push(format!("and {} more", names.len() - most));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_to_where_they_part() {
        assert_eq!(around("one", "two"), ["one", "two"]);
        let long = |end: &str| format!("{}{end}{}", "x".repeat(500), "y".repeat(500));
        let [a, b] = around(&long("cat"), &long("dog"));
        assert!(a.starts_with("…x") && a.contains("xcaty") && a.ends_with("y…"), "{a}");
        assert!(b.contains("xdogy"), "{b}");
        assert_eq!(a.chars().count(), SHOWN + 2);
        let [a, b] = around(&"ä".repeat(500), "");
        assert_eq!((a.chars().count(), b.as_str()), (SHOWN + 1, ""));
    }

    #[test]
    fn digests_are_shortened_and_what_is_not_there_is_said() {
        let digest = tune_schema::Digest::of(b"abc").to_string();
        assert_eq!(side_by_side(Some(&digest), None), ["sha256:ba7816bf8f01…", "absent"]);
        assert_eq!(list(&["a".to_owned(), "b".to_owned(), "c".to_owned()], 2), "a, b, and 1 more");
    }
}
