//! Texts of strangers in lines for people.

/// Whether a terminal or a reader of mixed directions would obey the character instead of showing it: controls, ends of
/// lines, marks that turn the direction.
#[must_use]
pub fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text in one line, with what would be obeyed written out.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(printable("a\n\u{1b}[2Jb\u{202e}c é"), "a\\n\\u{1b}[2Jb\\u{202e}c é");
    }
}
