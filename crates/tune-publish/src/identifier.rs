//! Identifiers and dates of documents: all derived from the run, so that the same run gives the same bytes.

use tune_schema::Digest;

/// A UUID for `purpose` within a claim: version 8 of RFC 9562, the first 122 free bits of a SHA-256 (its appendix B.2).
/// Version 5 would do the same over SHA-1.
#[must_use]
pub fn uuid(claim: &Digest, purpose: &str) -> String {
    let digest = Digest::of(format!("{claim} {purpose}").as_bytes());
    let mut bytes: [u8; 16] = std::array::from_fn(|i| digest.as_bytes()[i]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Seconds since 1970 as `2026-11-22T00:00:00Z` (RFC 3339). The calendar is that of Howard Hinnant's
/// `civil_from_days`: years that begin in March, in eras of 400.
#[must_use]
pub fn date_time(unix_seconds: u64) -> String {
    let (days, rest) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Days since 0000-03-01.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The day of [`date_time`].
#[must_use]
pub fn date(unix_seconds: u64) -> String {
    date_time(unix_seconds).split('T').next().unwrap_or_default().to_owned()
}

/// The id on the Hugging Face hub that a text's address names, as `org/name`.
#[must_use]
pub fn hub_id(text: &str, kind: HubKind) -> Option<String> {
    let start = match kind {
        HubKind::Model => "https://huggingface.co/",
        HubKind::Dataset => "https://huggingface.co/datasets/",
    };
    let rest = &text[text.find(start)? + start.len()..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c))).unwrap_or(rest.len());
    let mut parts = rest[..end].trim_end_matches(['.', '/']).split('/');
    let (owner, name) = (parts.next()?, parts.next()?);
    let fine = !owner.is_empty() && !name.is_empty() && !["datasets", "spaces"].contains(&owner);
    fine.then(|| format!("{owner}/{name}"))
}

/// What a hub id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubKind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

/// The first `https://` address in a text.
#[must_use]
pub fn first_url(text: &str) -> Option<&str> {
    let rest = &text[text.find("https://")?..];
    let end = rest.find(|c: char| c.is_whitespace() || "<>\"'()[]{}|\\^`,;".contains(c)).unwrap_or(rest.len());
    let url = rest[..end].trim_end_matches(['.', ':', '!', '?']);
    (url.len() > "https://".len()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_known_seconds() {
        // As `date -u -d @N` has them.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_602_736, "2026-11-25T10:32:16Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date_time(seconds), text);
        }
        assert_eq!(date(1_795_602_736), "2026-11-25");
    }

    #[test]
    fn a_uuid_follows_from_claim_and_purpose() {
        let claim = Digest::of(b"claim");
        let one = uuid(&claim, "bom");
        assert_eq!(one, uuid(&claim, "bom"));
        assert_ne!(one, uuid(&claim, "spdx"));
        assert_ne!(one, uuid(&Digest::of(b"other"), "bom"));
        assert_eq!((one.len(), &one[14..15]), (36, "8"));
        assert!("89ab".contains(&one[19..20]), "{one}");
    }

    #[test]
    fn hub_ids_and_addresses_in_texts() {
        let text = "https://huggingface.co/datasets/openai/gsm8k, config main";
        assert_eq!(hub_id(text, HubKind::Dataset).as_deref(), Some("openai/gsm8k"));
        assert_eq!(hub_id(text, HubKind::Model), None);
        let model = "from https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/tree/main.";
        assert_eq!(hub_id(model, HubKind::Model).as_deref(), Some("HuggingFaceTB/SmolLM2-135M-Instruct"));
        assert_eq!(hub_id("https://huggingface.co/only", HubKind::Model), None);
        assert_eq!(first_url("see (https://example.org/a), and"), Some("https://example.org/a"));
        assert_eq!(first_url("none; https:// is no address"), None);
    }
}
