//! The model card: front matter that the Hugging Face hub understands, then text for people.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::commands::{self, FOLDER};
use super::{PROJECT, Published, cell, code, eu_summary, or_unknown, report, spdx};
use tune_schema::export::{self, ExportRecord};
use tune_schema::recipe::{DataClass, Numerics};

use crate::error::listed;
use crate::facts::{Facts, Source};
use crate::identifier::HubKind;
use crate::interval::wilson;
use crate::signature;

/// The card's file.
pub const FILE_NAME: &str = "README.md";

/// The card; with a section on GGUF where an export is published too.
#[must_use]
pub fn card(facts: &Facts, published: &Published) -> String {
    let name = facts.name();
    let mut text =
        format!("---\n{}---\n\n# {}\n\n", tune_schema::recipe::yaml::emit(&front_matter(facts)), cell(&name));
    let kind = if facts.is_adapter() { "A LoRA adapter for" } else { "A fine-tune of" };
    let claim = facts.claim();
    text += &format!(
        "{kind} `{}`, trained by [tune]({PROJECT}) in {} steps over {} tokens. What went in and what came out is \
         recorded in hashes under the claim\n\n`{}`\n\n{}\n\n",
        code(&facts.base.name),
        claim.training.steps,
        claim.stream.tokens,
        facts.claim_id(),
        who_gets_the_same_bits(facts)
    );
    text += &usage(facts);
    text += &published.export.as_ref().map(|record| ollama(facts, record)).unwrap_or_default();
    text += &verification(facts, &published.checkpoints);
    text += &data_table(facts);
    text += &results(facts);
    text += &considerations(facts);
    text += &governance(facts);
    text += &format!(
        "## Documents\n\n`provenance.json` (SLSA), `bom.cdx.json` (CycloneDX), `{}` (SPDX), `croissant/` (Croissant), `MOF.yml` \
         (Model Openness Framework), `{}` (EU summary of training content), `{}` (technical report), `run/` (recipe, lock, \
         chain of steps, {}manifest).\n",
        spdx::FILE_NAME,
        eu_summary::FILE_NAME,
        report::FILE_NAME,
        if published.checkpoints.is_empty() { "" } else { "checkpoints, " }
    );
    text
}

/// Licences of the hub, which has its own names for some.
fn hub_licence(facts: &Facts) -> (String, Option<String>) {
    match facts.terms() {
        None => ("unknown".to_owned(), None),
        Some(terms) => match terms.single_id().map(str::to_lowercase) {
            Some(id) if HUB_LICENCES.contains(&id.as_str()) => (id, None),
            _ => ("other".to_owned(), Some(terms.text().to_owned())),
        },
    }
}

/// Licences that the hub knows under their SPDX identifier in small letters.
const HUB_LICENCES: [&str; 20] = [
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "unlicense",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "gpl-3.0",
    "lgpl-3.0",
    "agpl-3.0",
    "mpl-2.0",
    "epl-2.0",
    "cc-by-3.0",
    "cc-by-sa-3.0",
    "wtfpl",
];

fn front_matter(facts: &Facts) -> Value {
    let (licence, name) = hub_licence(facts);
    let mut value = json!({
        "license": licence,
        "pipeline_tag": "text-generation",
        "library_name": if facts.is_adapter() { "peft" } else { "transformers" },
        "tags": ["tune", "reproducible"],
        "base_model_relation": if facts.is_adapter() { "adapter" } else { "finetune" },
    });
    if let Some(name) = name {
        value["license_name"] = name.into();
        value["license_link"] = FILE_NAME.into();
    }
    if let Some(id) = facts.base.hub_id(HubKind::Model) {
        value["base_model"] = id.into();
    }
    let datasets: Vec<String> = facts.data.iter().filter_map(|source| source.hub_id(HubKind::Dataset)).collect();
    if !datasets.is_empty() {
        value["datasets"] = json!(datasets);
    }
    let metrics = metrics(facts);
    if !metrics.is_empty() {
        let dataset = json!({"type": "held-out", "name": "held-out part of the training sources"});
        let result = json!({"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics});
        value["model-index"] = json!([{"name": facts.name(), "results": [result]}]);
    }
    value
}

#[expect(clippy::cast_precision_loss, reason = "counts of examples, far below 2^53")]
fn metrics(facts: &Facts) -> Vec<Value> {
    let evaluation = &facts.claim().evaluation;
    let mut metrics = Vec::new();
    if evaluation.exact_match_examples > 0 {
        let share = evaluation.exact_match_after as f64 / evaluation.exact_match_examples as f64;
        metrics.push(json!({"type": "exact_match", "name": "exact match", "value": share}));
    }
    if let Some(loss) = evaluation.loss_after {
        metrics.push(json!({"type": "loss", "name": "held-out loss", "value": loss.value()}));
    }
    metrics
}

fn usage(facts: &Facts) -> String {
    let id = facts.base.hub_id(HubKind::Model);
    let mut text = "## Use\n\n".to_owned();
    if let Some(id) = id.as_ref().filter(|_| facts.base.is_hub_id_stated(HubKind::Model)) {
        text += &format!(
            "That the base model is `{id}` is the publisher's word. The bytes that were trained on are those whose digests \
             `run/datasets.lock` has under `{}`.\n\n",
            code(&facts.base.name)
        );
    }
    let base = id.unwrap_or_else(|| format!("PATH/TO/{}", facts.base.name));
    text += "```python\n";
    text += "from transformers import AutoModelForCausalLM, AutoTokenizer\n";
    if facts.is_adapter() {
        text += "from peft import PeftModel\n\n";
        text += &format!("base = \"{base}\"\ntokenizer = AutoTokenizer.from_pretrained(base)\n");
        text += "model = AutoModelForCausalLM.from_pretrained(base, dtype=\"float32\")\n";
        text += &format!("model = PeftModel.from_pretrained(model, \"{FOLDER}\")\n");
    } else {
        text += &format!("\nhere = \"{FOLDER}\"\ntokenizer = AutoTokenizer.from_pretrained(here)\n");
        text += "model = AutoModelForCausalLM.from_pretrained(here, dtype=\"float32\")\n";
    }
    text + "```\n\n"
}

/// How to use the files in `gguf/`, and how far they were measured to be from the run's model.
fn ollama(facts: &Facts, record: &ExportRecord) -> String {
    let folder = export::PUBLISHED_EXPORT;
    let (adapter, base, modelfile) = (export::ADAPTER_FILE, export::BASE_FILE, export::MODELFILE);
    let sources = commands::open_sources(facts) + &commands::withheld_sources(facts);
    let mut text = format!(
        "## Ollama and llama.cpp\n\n`{folder}/{adapter}` is the adapter for llama.cpp, `{folder}/{modelfile}` puts it on \
         `{base}` for Ollama. That is the base model, which is not here; `tune export` writes it beside the same two files.\n\n\
         ```sh\ntune export {FOLDER} --to {folder} --gguf{sources}\n\
         llama-cli --model {folder}/{base} --lora {folder}/{adapter}\n\
         ollama create NAME -f {folder}/{modelfile}\n```\n\n"
    );
    if let Some(fidelity) = record.fidelity.get(export::ADAPTED_BASE) {
        text += &format!(
            "Measured over {} tokens of {} prompts, beside the run's own model: the largest difference of a logit is {:e}; the \
             same next token is the most likely one after {} (`{folder}/{}`).\n\n",
            fidelity.tokens,
            fidelity.prompts,
            fidelity.largest_difference,
            fidelity.same_next_token,
            export::RECORD_FILE
        );
    }
    text
}

/// What the run's profile promises, and to whom.
fn who_gets_the_same_bits(facts: &Facts) -> String {
    let data = facts.withholds_rows();
    match facts.claim().inputs.numerics {
        Numerics::ExactF32V1 => {
            let who = if data { "Whoever has the data" } else { "Anyone" };
            format!("{who} can compute it again, on other hardware too, and get the same bits.")
        }
        Numerics::PinnedBf16V1 => format!(
            "Who has {}the same model of device ({}), its driver and the same binary can compute it again and get the same bits.",
            if data { "the data, " } else { "" },
            cell(&facts.environment.device)
        ),
    }
}

/// How far verification gets in a moment, and the options for it, with the checkpoints of these steps.
fn in_a_moment(facts: &Facts, checkpoints: &BTreeSet<u64>) -> (&'static str, &'static str) {
    let all = facts.checkpoints();
    // The result is that of the last checkpoint, and only the steps from the one before it tie it to the chain.
    let before_last = all.iter().nth_back(1);
    if *checkpoints == all {
        ("computes some stretches between checkpoints again", "")
    } else if before_last.is_some_and(|step| checkpoints.contains(step)) {
        ("computes the last stretch between checkpoints again, and one drawn by chance", " --segments 1")
    } else {
        ("rebuilds the rows that were trained on and compares them", " --level data")
    }
}

/// Which of the run's checkpoints are here, where it is not all of them.
fn left_out(facts: &Facts, checkpoints: &BTreeSet<u64>) -> String {
    let all = facts.checkpoints();
    if *checkpoints == all {
        String::new()
    } else if checkpoints.is_empty() {
        format!(
            "The {} checkpoints of the run are not here: stretches between them cannot be computed again by themselves, and \
             `--level full` computes the whole run without them.\n\n",
            all.len()
        )
    } else {
        format!(
            "Of the {} checkpoints of the run those of these steps are here: {}. Other stretches than those that begin at one of \
             them, or at the start, are computed again by `--level full` only.\n\n",
            all.len(),
            listed(checkpoints)
        )
    }
}

fn verification(facts: &Facts, checkpoints: &BTreeSet<u64>) -> String {
    let verify = format!("tune verify {FOLDER}{}", commands::open_sources(facts));
    let (what, options) = in_a_moment(facts, checkpoints);
    let text = format!(
        "## Verify\n\n```sh\n# {what}\n{verify}{options}\n# trains it again and compares every bit\n{verify} --level full\n\
         # where the folder is signed\nmodel_signing verify key --public_key PUBLISHER.pub --signature {} .\n```\n\n\
         {}A verdict is about the computation: that this recipe on these bytes gives these weights. It does not say that the data \
         is honest, nor that no other seed was tried before. Arithmetic: `{}`.\n\n",
        signature::FILE_NAME,
        left_out(facts, checkpoints),
        facts.numerics()
    );
    let withheld: Vec<String> =
        facts.data.iter().filter(|source| source.commitment().is_some()).map(|source| cell(&source.name)).collect();
    if withheld.is_empty() {
        return text;
    }
    format!(
        "{text}Rows that may not be shared are withheld: {}. The claim commits to them by a salted Merkle root. Without them a \
         verdict reaches the level `files`, the other sources and the initial state, and says so; who has rows and secret \
         reaches every level (`{}`). Single rows can be shown with a proof, which `tune verify --revealed FILE` checks.\n\n",
        withheld.join(", "),
        code(commands::withheld_sources(facts).trim_start())
    )
}

fn data_table(facts: &Facts) -> String {
    let mut text = "## Data\n\n| source | class | licence | origin | obtained | selected | filtered | sha256 |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for source in [&facts.base].into_iter().chain(&facts.data) {
        text += &row(source);
    }
    let stream = &facts.claim().stream;
    text += &format!(
        "\n{} examples were trained on, {} held out, {} left out for their length, {} cut. {} tokens, {} of them supervised.\n\n",
        stream.train_examples,
        stream.eval_examples,
        stream.dropped_examples,
        stream.truncated_examples,
        stream.tokens,
        stream.supervised_tokens
    );
    text
}

fn row(source: &Source) -> String {
    let provenance = &source.provenance;
    let told = |text: &Option<String>| cell(or_unknown(text.as_deref()));
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {}`{}` |\n",
        cell(&source.name),
        source.class().map_or("not on record", DataClass::name),
        told(&source.locked.licence),
        told(&provenance.origin),
        told(&provenance.obtained),
        told(&provenance.selected),
        told(&provenance.filtered),
        if source.commitment().is_some() { "root of rows " } else { "" },
        &source.digest().hex()[..16]
    )
}

/// The table of results, which the report has too.
pub(super) fn results(facts: &Facts) -> String {
    let evaluation = &facts.claim().evaluation;
    let mut text = "## Results\n\n".to_owned();
    if evaluation.loss_after.is_none() && evaluation.exact_match_examples == 0 {
        return text + "Nothing was held out, so nothing was measured.\n\n";
    }
    let asked = evaluation.exact_match_examples;
    text += "On held-out examples of the same sources, before and after training.";
    text += if asked > 0 { " Beside shares (exact match): intervals of 95 % (Wilson).\n\n" } else { "\n\n" };
    text += "| measure | before | after |\n|---|---|---|\n";
    if let (Some(before), Some(after)) = (evaluation.loss_before, evaluation.loss_after) {
        text += &format!("| loss per token | {:.4} | {:.4} |\n", before.value(), after.value());
    }
    let share = |matches: u64| {
        let interval = wilson(matches, asked).map(|(low, high)| format!(" ({:.1}–{:.1} %)", 100.0 * low, 100.0 * high));
        format!("{matches} of {asked}{}", interval.unwrap_or_default())
    };
    if asked > 0 {
        let (before, after) = (share(evaluation.exact_match_before), share(evaluation.exact_match_after));
        text += &format!("| exact match, greedy | {before} | {after} |\n");
    }
    text + "\n"
}

fn list(title: &str, fields: &[(&str, Option<&str>)]) -> String {
    let lines = fields.iter().map(|(name, text)| format!("- {name}: {}\n", cell(or_unknown(*text))));
    format!("## {title}\n\n{}\n", lines.collect::<String>())
}

fn considerations(facts: &Facts) -> String {
    let stated = &facts.recipe.considerations;
    list(
        "Considerations",
        &[
            ("intended use", stated.intended_use.as_deref()),
            ("limits", stated.limits.as_deref()),
            ("known biases", stated.known_biases.as_deref()),
            ("personal data", stated.personal_data.as_deref()),
        ],
    )
}

fn governance(facts: &Facts) -> String {
    let stated = &facts.recipe.governance;
    let maintainers = stated.maintainers.join(", ");
    list(
        "Governance",
        &[
            ("maintainers", Some(maintainers.as_str()).filter(|text| !text.is_empty())),
            ("contact", stated.contact.as_deref()),
            ("contributing", stated.contributing.as_deref()),
            ("versioning", stated.versioning.as_deref()),
        ],
    )
}
