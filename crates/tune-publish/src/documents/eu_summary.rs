//! The public summary of training content of Article 53(1)(d) of Regulation (EU) 2024/1689, by the numbers of the AI Office's
//! template, for what this run added to its base model.
//!
//! A run knows its sources and their classes. What it cannot know (representatives, markets, opt-outs) is left to the
//! provider and says so.

use tune_schema::recipe::DataClass;

use super::{cell, or_unknown};
use crate::facts::Facts;
use crate::identifier::date;

/// The summary's file.
pub const FILE_NAME: &str = "training-content.md";

/// Left to the provider.
const TO_FILL: &str = "to be filled in by the provider";

/// The summary.
#[must_use]
pub fn summary(facts: &Facts) -> String {
    let stream = &facts.claim().stream;
    let governance = &facts.recipe.governance;
    let maintainers = governance.maintainers.join(", ");
    let provider = if maintainers.is_empty() { or_unknown(None) } else { &maintainers };
    let day = date(facts.environment.finished_unix_seconds);
    let size = if stream.tokens < 1_000_000_000 {
        "less than 1 billion tokens"
    } else if stream.tokens <= 10_000_000_000_000 {
        "1 billion to 10 trillion tokens"
    } else {
        "more than 10 trillion tokens"
    };
    let of_class = |wanted: &[DataClass]| {
        let named = facts.data.iter().filter(|source| source.class().is_some_and(|class| wanted.contains(&class)));
        let told = named.map(|source| {
            let (class, origin) =
                (source.class().map_or("", DataClass::name), or_unknown(source.provenance.origin.as_deref()));
            format!("{} ({class}; {})", cell(&source.name), cell(source.address().unwrap_or(origin)))
        });
        told.collect::<Vec<_>>().join("; ")
    };
    let (public, private) =
        (of_class(&[DataClass::Open, DataClass::Public]), of_class(&[DataClass::Obtainable, DataClass::Unshareable]));
    let unclassed: Vec<String> =
        facts.data.iter().filter(|source| source.class().is_none()).map(|source| cell(&source.name)).collect();
    let yes_or_no = |list: &str| if list.is_empty() { "no".to_owned() } else { format!("yes, text: {list}") };
    let personal = facts.recipe.considerations.personal_data.as_deref();
    let mut text = format!(
        "# Public summary of training content\n\nOf the modification only: what the base model was trained on is for its own provider to \
         say. Version {}, last update {day}.\n\n",
        facts.version()
    );
    let sections: [(&str, &str, String); 17] = [
        (
            "1.1",
            "provider and contact",
            format!("{}; {}", cell(provider), cell(or_unknown(governance.contact.as_deref()))),
        ),
        ("1.1", "authorised representative", TO_FILL.to_owned()),
        ("1.2", "model", format!("{} {}", cell(&facts.name()), facts.version())),
        (
            "1.2",
            "depends on",
            format!("{} ({})", cell(&facts.base.name), cell(or_unknown(facts.base.provenance.origin.as_deref()))),
        ),
        ("1.2", "placed on the Union market", TO_FILL.to_owned()),
        ("1.3", "text", format!("{size} ({} tokens, {} supervised)", stream.tokens, stream.supervised_tokens)),
        ("1.3", "image, audio, video, other", "none".to_owned()),
        ("1.3", "latest acquisition", format!("not after {day}")),
        ("2.1", "public datasets", yes_or_no(&public)),
        ("2.2.1", "commercially licensed data", TO_FILL.to_owned()),
        ("2.2.2", "other private third-party data", yes_or_no(&private)),
        (
            "2.3",
            "crawled by the provider",
            "no crawler is part of this tool; how sources were obtained is in README.md".to_owned(),
        ),
        ("2.4", "user data", TO_FILL.to_owned()),
        ("2.5", "synthetic data", "as the origins in README.md say".to_owned()),
        (
            "2.6",
            "other sources",
            if unclassed.is_empty() {
                "no".to_owned()
            } else {
                format!("of no stated class: {}", unclassed.join(", "))
            },
        ),
        ("3.1", "text-and-data-mining opt-outs", TO_FILL.to_owned()),
        ("3.2", "removal of illegal content; personal data", cell(or_unknown(personal))),
    ];
    text += "| section | item | content |\n|---|---|---|\n";
    for (number, item, content) in sections {
        text += &format!("| {number} | {item} | {content} |\n");
    }
    text
}
