//! Check digits, which tell a number of a kind from any other of the same form.

/// The decimal digits of a text, without whatever separates them.
pub(super) fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// The Luhn check of payment cards (ISO/IEC 7812-1, annex B).
pub(super) fn luhn(digits: &[u32]) -> bool {
    let doubled = |(i, digit): (usize, &u32)| match (i % 2, 2 * digit) {
        (0, _) => *digit,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// The check of ISO 13616: the text turned by four places, letters as numbers from 10, is 1 modulo 97.
pub(super) fn iban(text: &str) -> bool {
    let compact: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.len() < 5 {
        return false;
    }
    let turned = compact[4..].iter().chain(&compact[..4]);
    let remainder = turned.fold(0_u32, |remainder, c| match c.to_digit(36) {
        Some(value) if value > 9 => (remainder * 100 + value) % 97,
        Some(value) => (remainder * 10 + value) % 97,
        None => remainder,
    });
    remainder == 1
}

/// Sum of digits times weights.
fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum()
}

/// Month and day within a calendar's bounds.
fn is_day(month: u32, day: u32) -> bool {
    (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// Spain's DNI and NIE: eight digits (X, Y and Z stand for 0, 1 and 2) and the letter of their remainder by 23.
pub(super) fn spain(text: &str) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let text = text.replace(['-', ' '], "").to_ascii_uppercase();
    let Some((number, letter)) = text.split_at_checked(text.len().saturating_sub(1)) else { return false };
    let number = number.replacen('X', "0", 1).replacen('Y', "1", 1).replacen('Z', "2", 1);
    let Ok(number) = number.parse::<usize>() else { return false };
    letter.as_bytes() == [LETTERS[number % 23]]
}

/// France's NIR: thirteen digits and 97 less their remainder by 97; Corsica's departments 2A and 2B count as 19 and 18.
pub(super) fn france(text: &str) -> bool {
    let text = text.replace(' ', "").to_ascii_uppercase().replace("2A", "19").replace("2B", "18");
    let (Some(number), Some(key)) = (text.get(..13), text.get(13..15)) else { return false };
    let (Ok(number), Ok(key)) = (number.parse::<u64>(), key.parse::<u64>()) else { return false };
    97 - number % 97 == key
}

/// Italy's codice fiscale: sixteen characters, the last of which checks the others by two tables (decree of 23 December
/// 1976).
pub(super) fn italy(text: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let values: Vec<(bool, u32)> = text.chars().filter_map(|c| c.to_digit(36).map(|v| (v < 10, v))).collect();
    let [body @ .., (false, check)] = values.as_slice() else { return false };
    let place = |value: u32| if value > 9 { value - 10 } else { value };
    let one = |(i, (_, value)): (usize, &(bool, u32))| {
        let place = place(*value);
        if i % 2 == 0 { ODD.get(place as usize).copied().unwrap_or(0) } else { place }
    };
    body.len() == 15 && body.iter().enumerate().map(one).sum::<u32>() % 26 == place(*check)
}

/// Poland's PESEL: a date whose month tells the century, and a weighted sum.
pub(super) fn poland(digits: &[u32]) -> bool {
    let day = |d: &[u32]| is_day((d[2] * 10 + d[3]) % 20, d[4] * 10 + d[5]);
    digits.len() == 11 && day(digits) && weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
}

/// Germany's tax identification number: eleven digits, of the first ten just one occurs twice or thrice; checked by
/// ISO 7064, MOD 11,10.
pub(super) fn germany(digits: &[u32]) -> bool {
    let [body @ .., check] = digits else { return false };
    let count = |digit: u32| body.iter().filter(|other| **other == digit).count();
    let repeated: Vec<usize> = (0..10).map(count).filter(|count| *count > 1).collect();
    let product = body.iter().fold(10, |product, digit| {
        let sum = (digit + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    body.len() == 10 && body[0] != 0 && matches!(repeated[..], [2 | 3]) && (11 - product) % 10 == *check
}

/// Brazil's CPF: nine digits and two weighted sums modulo 11.
pub(super) fn brazil(digits: &[u32]) -> bool {
    let check = |n: usize| {
        let weights: Vec<u32> = (2..=n as u32 + 1).rev().collect();
        let rest = weighted(&digits[..n], &weights) * 10 % 11;
        rest % 10 == digits[n]
    };
    digits.len() == 11 && digits.iter().any(|digit| *digit != digits[0]) && check(9) && check(10)
}

/// China's resident identity number: eighteen characters with a date; checked by ISO 7064, MOD 11-2 (GB 11643-1999).
pub(super) fn china(text: &str) -> bool {
    let values: Vec<u32> =
        text.chars().filter_map(|c| if c.eq_ignore_ascii_case(&'x') { Some(10) } else { c.to_digit(10) }).collect();
    let day = |v: &[u32]| is_day(v[10] * 10 + v[11], v[12] * 10 + v[13]);
    values.len() == 18
        && day(&values)
        && weighted(&values, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2, 1]) % 11 == 1
}

/// The United States' social security number has no check digit, but groups that are never given out.
pub(super) fn united_states(text: &str) -> bool {
    let groups: Vec<u32> = text.split('-').filter_map(|group| group.parse().ok()).collect();
    matches!(groups[..], [area, group, serial]
        if area != 0 && area != 666 && area < 900 && group != 0 && serial != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a check holds for a text, and for no other with one of its digits one higher.
    #[track_caller]
    fn detects(text: &str, check: impl Fn(&str) -> bool) {
        assert!(check(text), "{text}");
        for (at, c) in text.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
            let higher = char::from(b'0' + (c as u8 - b'0' + 1) % 10);
            let changed = format!("{}{higher}{}", &text[..at], &text[at + 1..]);
            assert!(!check(&changed), "{changed}");
        }
    }

    #[test]
    fn every_changed_digit_is_noticed() {
        detects("4111111111111111", |text| luhn(&digits(text)));
        detects("DE89370400440532013000", iban);
        detects("GB29 NWBK 6016 1331 9268 19", iban);
        detects("12345678Z", spain);
        detects("X1234567L", spain);
        detects("255081416802538", france);
        detects("44051401359", |text| poland(&digits(text)));
        detects("86095742719", |text| germany(&digits(text)));
        detects("52998224725", |text| brazil(&digits(text)));
        detects("11010519491231002X", china);
    }

    #[test]
    fn letters_check_too() {
        assert!(italy("RSSMRA85T10A562S"));
        assert!(!italy("RSSMRA85T10A562T"));
        assert!(!italy("RSSMRA85T10A563S"));
        assert!(!spain("12345678A"));
        assert!(!iban("DE8"));
    }

    #[test]
    fn groups_that_are_never_given_out() {
        assert!(united_states("219-09-9999"));
        for never in ["000-12-3456", "666-12-3456", "900-12-3456", "219-00-9999", "219-09-0000"] {
            assert!(!united_states(never), "{never}");
        }
    }
}
