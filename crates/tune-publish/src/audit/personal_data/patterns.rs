//! The kinds of personal data that are looked for, each by a pattern and what confirms it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regex::Regex;

use super::checksum::{brazil, china, digits, france, germany, iban, italy, luhn, poland, spain, united_states};

/// A kind of personal data.
pub(super) struct Pattern {
    /// Its name.
    pub(super) kind: &'static str,
    expression: Regex,
    confirm: fn(&str) -> bool,
}

impl Pattern {
    /// How often it occurs in a text.
    pub(super) fn count(&self, text: &str) -> u64 {
        let bounded = self.expression.find_iter(text).filter(|found| {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            // Part of a longer word or number is something else.
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        });
        bounded.filter(|found| (self.confirm)(found.as_str())).count() as u64
    }
}

/// Kind, expression, and what confirms a match.
type Description = (&'static str, &'static str, fn(&str) -> bool);

/// Every pattern.
///
/// # Panics
/// Never: the expressions are those below.
pub(super) fn patterns() -> Vec<Pattern> {
    let all: [Description; 17] = [
        ("e-mail address", r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}", email),
        ("phone number", r"\+[1-9][0-9]{0,2}(?:[ .()/-]{0,2}[0-9]){6,13}", phone),
        ("phone number", r"(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}", |_| true),
        ("IP address", r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", address),
        ("IP address", r"(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}", address),
        // In one piece, or in groups as they are printed: any other spacing of thirteen digits is mostly something else, and
        // one in ten has the right check digit.
        ("card number", r"[2-6][0-9]{12,18}", card),
        ("card number", r"(?:4[0-9]|5[1-5]|2[2-7]|6[0-9])[0-9]{2}(?:[ -][0-9]{4}){3}", card),
        ("card number", r"3[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5}", card),
        ("IBAN", r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}", account),
        ("national id (ES)", r"(?:[0-9]{8}|[XYZ][0-9]{7})-?[A-Z]", spain),
        ("national id (FR)", r"[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", france),
        ("national id (IT)", r"[A-Z]{6}[0-9]{2}[ABCDEHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]", italy),
        ("national id (PL)", r"[0-9]{11}", |text| poland(&digits(text))),
        ("national id (DE)", r"[1-9][0-9]{10}|[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}", |text| germany(&digits(text))),
        ("national id (BR)", r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", |text| brazil(&digits(text))),
        ("national id (CN)", r"[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx]", china),
        ("national id (US)", r"[0-9]{3}-[0-9]{2}-[0-9]{4}", united_states),
    ];
    let one = |(kind, expression, confirm)| Pattern {
        kind,
        expression: Regex::new(expression).expect("the expression is one of those above"),
        confirm,
    };
    all.into_iter().map(one).collect()
}

/// Not an address of the names that RFC 2606 keeps for examples.
fn email(text: &str) -> bool {
    let domain = text.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let reserved = ["example.com", "example.net", "example.org"];
    let ends = [".example", ".invalid", ".localhost", ".test"];
    !reserved.iter().any(|name| domain == *name || domain.ends_with(&format!(".{name}")))
        && !ends.iter().any(|end| domain.ends_with(end))
}

/// Eight to fifteen digits (E.164).
fn phone(text: &str) -> bool {
    (8..=15).contains(&digits(text).len())
}

/// An address that can be somebody's: not of this machine, a private network or documents (RFC 1918, 5737, 3849, 4193).
fn address(text: &str) -> bool {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => is_somebodys_v4(v4),
        Ok(IpAddr::V6(v6)) => is_somebodys_v6(v6),
        Err(_) => false,
    }
}

fn is_somebodys_v4(address: Ipv4Addr) -> bool {
    let never = address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_broadcast()
        || address.is_multicast();
    // Four numbers that begin with 0 to 3, and small ones throughout, are versions of software and numbers of sections.
    !never && address.octets().iter().any(|octet| *octet > 31)
}

fn is_somebodys_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // 2000::/3 is all that is given out.
    first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0x0db8)
}

/// The right check digit and not all digits equal.
fn card(text: &str) -> bool {
    let digits = digits(text);
    (13..=19).contains(&digits.len()) && digits.iter().any(|digit| *digit != digits[0]) && luhn(&digits)
}

/// An IBAN at the start of the text. Words in capitals may follow it, so that its length must come from its country.
fn account(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let length = IBAN_LENGTHS.iter().find(|(country, _)| compact.starts_with(country)).map(|(_, length)| *length);
    length.and_then(|length| compact.get(..length)).is_some_and(iban)
}

/// Length by country, from the IBAN registry of ISO 13616 (those of the single euro payments area and some more).
const IBAN_LENGTHS: [(&str, usize); 50] = [
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BR", 29),
    ("CH", 21),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GR", 27),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IS", 26),
    ("IT", 27),
    ("KZ", 20),
    ("LB", 28),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MT", 31),
    ("NL", 18),
    ("NO", 15),
    ("PL", 28),
    ("PT", 25),
    ("RO", 24),
    ("RS", 22),
    ("SA", 24),
    ("SE", 24),
    ("TR", 26),
    ("UA", 29),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a text: kind by kind.
    fn found(text: &str) -> Vec<(&'static str, u64)> {
        patterns().iter().map(|p| (p.kind, p.count(text))).filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn each_kind_is_found() {
        for (text, kind) in [
            ("write to jane.doe@mail.co.uk.", "e-mail address"),
            ("call +49 (30) 901820-15 today", "phone number"),
            ("call (212) 555-0187", "phone number"),
            ("from 93.184.216.34:", "IP address"),
            ("from 2606:2800:220:1:248:1893:25c8:1946", "IP address"),
            ("card 4111 1111 1111 1111, exp", "card number"),
            ("card 3782-822463-10005", "card number"),
            ("to DE89 3704 0044 0532 0130 00 PLEASE", "IBAN"),
            ("to FR1420041010050500013M02606", "IBAN"),
            ("DNI 12345678Z", "national id (ES)"),
            ("NIR 2 55 08 14 168 025 38", "national id (FR)"),
            ("CF RSSMRA85T10A562S", "national id (IT)"),
            ("PESEL 44051401359", "national id (PL)"),
            ("IdNr 86 095 742 719", "national id (DE)"),
            ("CPF 529.982.247-25", "national id (BR)"),
            ("id 11010519491231002X", "national id (CN)"),
            ("ssn 219-09-9999", "national id (US)"),
        ] {
            assert_eq!(found(text), [(kind, 1)], "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for text in [
            "mail me at me@example.com or a@b.test",
            "version 1.2.3.4, host 127.0.0.1, net 192.168.1.1, doc 203.0.113.7",
            "time 12:30:45, ratio 1::2, ::1, 2001:db8::1",
            "card 4111 1111 1111 1112",
            "0000 0000 0000 0000",
            "to DE89 3704 0044 0532 0130 01",
            "12345678A 44051401358 86095742718 529.982.247-24 110105194912310021 666-12-3456",
            "the sum of 12345 and 67890 is 80235; x1+1=2",
            "abc4111111111111111def",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
