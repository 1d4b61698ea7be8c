//! Croissant 1.1 metadata of a data source (MLCommons).
//!
//! `mlcroissant validate` lets required properties be missing and any text be a digest, so that this writer holds itself
//! to the specification.

use serde_json::{Value, json};
use tune_schema::recipe::{DataClass, Dataset, DatasetType};

use super::{committed, or_unknown};
use crate::facts::{Facts, Source};
use crate::identifier::date;

/// Where the metadata of a source lies. A recipe may call a source as it likes, so that what is no plain name is replaced,
/// with a digest to tell such names apart.
#[must_use]
pub fn path(source: &Source) -> String {
    let plain: String = source
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(100)
        .collect();
    if plain == source.name && !plain.starts_with('.') && !plain.is_empty() {
        return format!("croissant/{plain}.json");
    }
    let digest = tune_schema::Digest::of(source.name.as_bytes()).hex();
    format!("croissant/{}-{}.json", plain.trim_start_matches('.'), &digest[..12])
}

/// The metadata.
#[must_use]
pub fn metadata(facts: &Facts, source: &Source) -> Value {
    let files = source.locked.files.iter().map(|file| {
        json!({
            "@type": "cr:FileObject",
            "@id": file_id(&file.path),
            "name": file.path,
            "contentSize": format!("{} B", file.size),
            "encodingFormat": "application/jsonlines",
            "contentUrl": source.address().unwrap_or(&file.path),
            "sha256": file.sha256.hex(),
        })
    });
    let provenance = &source.provenance;
    let mut value = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": source.name,
        "description": description(source),
        "license": licence(source),
        "url": source.address().map_or_else(|| format!("urn:uuid:{}", facts.uuid(&format!("data {}", source.name))), str::to_owned),
        "creator": {"@type": "sc:Organization", "name": or_unknown(provenance.origin.as_deref())},
        // The day on which the run that used it ended: it was there by then. No earlier day is on record.
        "datePublished": date(facts.environment.finished_unix_seconds),
        "distribution": files.collect::<Vec<_>>(),
        "recordSet": record_sets(source),
    });
    let stated = [
        ("rai:dataCollection", &provenance.obtained),
        ("rai:dataPreprocessingProtocol", &provenance.filtered),
        ("rai:dataManipulationProtocol", &provenance.selected),
        ("rai:personalSensitiveInformation", &facts.recipe.considerations.personal_data),
        ("rai:dataBiases", &facts.recipe.considerations.known_biases),
    ];
    for (key, text) in stated {
        if let Some(text) = text {
            value[key] = text.as_str().into();
        }
    }
    if let Some(commitment) = source.commitment() {
        // No file is to be had that a field could be read from.
        let columns: Vec<&str> = source.datasets.iter().flat_map(columns).collect();
        let description = description(source);
        value["description"] =
            format!("{description} It is not shared. {} Columns: {}.", committed(commitment), columns.join(", "))
                .into();
        value["recordSet"] = json!([]);
    }
    if let Some(revision) = &source.locked.revision {
        value["version"] = revision.as_str().into();
    }
    value
}

/// Ids are one space: a file may be called as a record set is.
fn file_id(path: &str) -> String {
    format!("file/{path}")
}

fn description(source: &Source) -> String {
    let class = source.class().map_or("of no stated class", DataClass::name);
    format!(
        "Training data ({class}). Origin: {}. Obtained: {}. Selected: {}. Filtered: {}.",
        or_unknown(source.provenance.origin.as_deref()),
        or_unknown(source.provenance.obtained.as_deref()),
        or_unknown(source.provenance.selected.as_deref()),
        or_unknown(source.provenance.filtered.as_deref())
    )
}

fn licence(source: &Source) -> String {
    match &source.licence {
        None => "not on record".to_owned(),
        Some(licence) => licence
            .single_id()
            .map_or_else(|| licence.text().to_owned(), |id| format!("https://spdx.org/licenses/{id}")),
    }
}

/// The columns that the recipe reads, once for each way in which it reads the source.
fn record_sets(source: &Source) -> Vec<Value> {
    let file = source.locked.files.first().map(|file| file.path.as_str()).unwrap_or_default();
    let set = |(number, dataset): (usize, &Dataset)| {
        let id = if number == 0 { "rows".to_owned() } else { format!("rows-{}", number + 1) };
        let fields = columns(dataset).into_iter().map(|column| {
            json!({
                "@type": "cr:Field",
                "@id": format!("{id}/{column}"),
                "name": column,
                "dataType": "sc:Text",
                "source": {"fileObject": {"@id": file_id(file)}, "extract": {"column": column}},
            })
        });
        json!({"@type": "cr:RecordSet", "@id": id, "name": id, "field": fields.collect::<Vec<_>>()})
    };
    source.datasets.iter().enumerate().map(set).collect()
}

fn columns(dataset: &Dataset) -> Vec<&str> {
    let pair = [dataset.field_prompt.as_deref(), dataset.field_completion.as_deref()];
    match (dataset.kind, pair) {
        (DatasetType::Alpaca, _) => vec![&dataset.field_instruction, &dataset.field_input, &dataset.field_output],
        (DatasetType::Completion, _) => vec![&dataset.field_text],
        (_, [Some(prompt), Some(completion)]) => vec![prompt, completion],
        (DatasetType::ChatTemplate | DatasetType::PromptCompletion, _) => vec![&dataset.field_messages],
    }
}

/// The context that the specification gives for version 1.1.
fn context() -> Value {
    let mut context = json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "description": {"@container": "@language"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "name": {"@container": "@language"},
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "dct": "http://purl.org/dc/terms/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "sc": "https://schema.org/",
    });
    // Terms of Croissant's own vocabulary. `sha256` is schema.org's and stays out.
    let own = [
        "arrayShape",
        "citeAs",
        "column",
        "containedIn",
        "equivalentProperty",
        "extract",
        "field",
        "fileObject",
        "fileProperty",
        "fileSet",
        "format",
        "includes",
        "isArray",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "recordSet",
        "references",
        "regex",
        "repeated",
        "replace",
        "samplingRate",
        "separator",
        "source",
        "subField",
        "transform",
    ];
    for term in own {
        context[term] = format!("cr:{term}").into();
    }
    context
}
