//! Defaults, and the checks that one key alone does not need.

use std::collections::BTreeMap;

use super::file::{Auto, ChatTemplateName, DatasetFile, MicroBatchSize, RecipeFile, SeedText};
use super::load::nearest;
use super::{
    Adapter, AllLinear, Dataset, DatasetType, ExcessLengthStrategy, LrScheduler, Numerics, Optimizer, Recipe,
    TargetModules, TrainOnEos, ValSetSize,
};
use crate::path;

/// The ChatML format: every turn between `<|im_start|>` and `<|im_end|>`.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A value that does not do.
#[derive(Debug)]
pub(super) struct Invalid {
    pub(super) path: String,
    pub(super) problem: String,
    pub(super) hint: Option<String>,
}

fn invalid<T>(path: &str, problem: impl Into<String>, hint: Option<&str>) -> Result<T, Invalid> {
    Err(Invalid { path: path.to_owned(), problem: problem.into(), hint: hint.map(str::to_owned) })
}

/// Fills in the defaults and checks the whole. `names` are the sources' default names by path, `stem` that of the recipe.
pub(super) fn resolve(file: RecipeFile, names: &BTreeMap<String, String>, stem: &str) -> Result<Recipe, Invalid> {
    let Some(base_model) = file.base_model.clone().filter(|text| !text.is_empty()) else {
        return invalid("base_model", "`base_model` is missing", Some("name the model to start from"));
    };
    let written = file.datasets.clone().unwrap_or_default();
    if written.is_empty() {
        return invalid("datasets", "`datasets` is missing", Some("list at least one `- path: …` with its `type`"));
    }
    let base_model_name =
        file.base_model_name.clone().or_else(|| names.get("base_model").cloned()).unwrap_or_else(|| base_model.clone());
    let mut datasets = Vec::new();
    for (i, dataset) in written.into_iter().enumerate() {
        let path = format!("datasets.{i}");
        datasets.push(resolve_dataset(dataset, &path, names.get(&path))?);
    }
    check_names(&file, &base_model_name, &datasets)?;
    if file.warmup_steps.is_some() && file.warmup_ratio.is_some() {
        return invalid(
            "warmup_ratio",
            "`warmup_steps` and `warmup_ratio` are both given",
            Some("keep one of the two"),
        );
    }
    let recipe = Recipe {
        chat_template: chat_template(&file)?,
        seed: seed(file.seed.as_ref())?,
        val_set_size: val_set_size(file.val_set_size)?,
        base_model,
        base_model_name,
        reinit_weights: file.reinit_weights.unwrap_or(false),
        adapter: file.adapter.unwrap_or(Adapter::Lora),
        lora_r: file.lora_r.unwrap_or(16),
        lora_alpha: file.lora_alpha.unwrap_or(32.0),
        lora_dropout: file.lora_dropout.unwrap_or(0.0),
        lora_target_modules: sorted(file.lora_target_modules.unwrap_or(TargetModules::Named(AllLinear::AllLinear))),
        use_rslora: file.use_rslora.unwrap_or(false),
        datasets,
        sequence_len: file.sequence_len.unwrap_or(2048),
        excess_length_strategy: file.excess_length_strategy.unwrap_or(ExcessLengthStrategy::Raise),
        sample_packing: file.sample_packing.unwrap_or(true),
        train_on_inputs: file.train_on_inputs.unwrap_or(false),
        micro_batch_size: match file.micro_batch_size {
            Some(MicroBatchSize::Rows(rows)) => rows,
            Some(MicroBatchSize::Named(Auto::Auto)) | None => 1,
        },
        micro_batch_size_auto: matches!(file.micro_batch_size, Some(MicroBatchSize::Named(_))),
        gradient_accumulation_steps: file.gradient_accumulation_steps.unwrap_or(1),
        gradient_checkpointing: file.gradient_checkpointing.unwrap_or(false),
        keep_quantized: file.keep_quantized.unwrap_or(false),
        num_epochs: file.num_epochs.unwrap_or(1.0),
        max_steps: file.max_steps,
        learning_rate: file.learning_rate.unwrap_or(2e-4),
        lr_scheduler: file.lr_scheduler.unwrap_or(LrScheduler::Cosine),
        warmup_steps: file.warmup_steps,
        warmup_ratio: file.warmup_ratio.unwrap_or(0.0),
        optimizer: file.optimizer.unwrap_or(Optimizer::Adamw),
        weight_decay: file.weight_decay.unwrap_or(0.0),
        adam_beta1: file.adam_beta1.unwrap_or(0.9),
        adam_beta2: file.adam_beta2.unwrap_or(0.999),
        adam_epsilon: file.adam_epsilon.unwrap_or(1e-8),
        max_grad_norm: file.max_grad_norm.unwrap_or(1.0),
        logging_steps: file.logging_steps.unwrap_or(1),
        eval_steps: file.eval_steps,
        eval_exact_match: file.eval_exact_match.unwrap_or(0),
        eval_max_new_tokens: file.eval_max_new_tokens.unwrap_or(64),
        eval_samples_shown: file.eval_samples_shown.unwrap_or(3),
        save_steps: file.save_steps.unwrap_or(50),
        device: file.device.unwrap_or_default(),
        output_dir: file.output_dir.unwrap_or_else(|| format!("runs/{stem}")),
        numerics: file.numerics.map_or(Numerics::ExactF32V1, Numerics::from),
        provenance: file.provenance.unwrap_or_default(),
        governance: file.governance.unwrap_or_default(),
        considerations: file.considerations.unwrap_or_default(),
    };
    check_ranges(&recipe)?;
    Ok(recipe)
}

fn sorted(targets: TargetModules) -> TargetModules {
    match targets {
        TargetModules::List(mut names) => {
            names.sort();
            names.dedup();
            TargetModules::List(names)
        }
        named @ TargetModules::Named(_) => named,
    }
}

fn resolve_dataset(file: DatasetFile, path: &str, default_name: Option<&String>) -> Result<Dataset, Invalid> {
    let Some(place) = file.path.filter(|text| !text.is_empty()) else {
        return invalid(path, "a data set needs a `path`", None);
    };
    let Some(kind) = file.kind else {
        let hint = "known are `alpaca`, `chat_template`, `prompt_completion` and `completion`";
        return invalid(path, "a data set needs a `type`", Some(hint));
    };
    let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
    let prompt = file.field_prompt.or_else(|| (kind == DatasetType::PromptCompletion).then(|| "prompt".to_owned()));
    let completion =
        file.field_completion.or_else(|| (kind == DatasetType::PromptCompletion).then(|| "completion".to_owned()));
    if prompt.is_some() != completion.is_some() {
        return invalid(path, "`field_prompt` and `field_completion` belong together", Some("give both or neither"));
    }
    let weight = file.weight.unwrap_or(1.0);
    if !(weight > 0.0 && weight <= 1000.0) {
        return invalid(
            &format!("{path}.weight"),
            format!("`weight` is {weight}"),
            Some("it is above 0 and at most 1000"),
        );
    }
    let roles_to_train = file.roles_to_train.unwrap_or_else(|| vec!["assistant".to_owned()]);
    if roles_to_train.is_empty() {
        return invalid(
            &format!("{path}.roles_to_train"),
            "`roles_to_train` is empty: nothing would be supervised",
            None,
        );
    }
    Ok(Dataset {
        name: file.name.or_else(|| default_name.cloned()).unwrap_or_else(|| place.clone()),
        path: place,
        kind,
        field_instruction: or(file.field_instruction, "instruction"),
        field_input: or(file.field_input, "input"),
        field_output: or(file.field_output, "output"),
        field_messages: or(file.field_messages, "messages"),
        field_role: or(file.field_role, "role"),
        field_content: or(file.field_content, "content"),
        field_prompt: prompt,
        field_completion: completion,
        field_text: or(file.field_text, "text"),
        roles_to_train,
        train_on_eos: file.train_on_eos.unwrap_or(TrainOnEos::Turn),
        weight,
        sha256: file.sha256,
    })
}

/// Names tell sources apart, and provenance speaks of sources that exist.
fn check_names(file: &RecipeFile, base: &String, datasets: &[Dataset]) -> Result<(), Invalid> {
    let mut names = vec![base.clone()];
    let no_name = |path: &str, name: &str, problem: &str| {
        let problem = format!("{name:?} is no name for a source: {problem}");
        invalid(path, problem, Some("a name like a file's: letters, digits, `-`, `_`, `.`"))
    };
    // A base model may be called as on the hub, with its owner. A document about a data source is called as that is.
    // The command line takes places as `--source NAME=PATH`.
    let on_command_line = |name: &str| match name {
        _ if name.starts_with('-') => Err("it begins with `-`, as an option does"),
        _ if name.contains('=') => Err("it holds a `=`"),
        _ => Ok(()),
    };
    if let Err(problem) = path::check(base).and_then(|()| on_command_line(base)) {
        return no_name("base_model_name", base, problem);
    }
    for (i, dataset) in datasets.iter().enumerate() {
        if let Err(problem) = path::check_name(&dataset.name).and_then(|()| on_command_line(&dataset.name)) {
            return no_name(&format!("datasets.{i}.name"), &dataset.name, problem);
        }
        let same = datasets[..i].iter().find(|other| other.name == dataset.name);
        if dataset.name == *base || same.is_some_and(|other| other.path != dataset.path) {
            let problem = format!("two sources have the name `{}`", dataset.name);
            return invalid(&format!("datasets.{i}"), problem, Some("give one of them another `name`"));
        }
        names.push(dataset.name.clone());
    }
    for key in file.provenance.iter().flat_map(BTreeMap::keys) {
        if !names.contains(key) {
            let hint = nearest(key, &names).map_or_else(
                || format!("the sources are {}", names.join(", ")),
                |name| format!("did you mean `{name}`?"),
            );
            return invalid(&format!("provenance.{key}"), format!("no source has the name `{key}`"), Some(&hint));
        }
    }
    Ok(())
}

fn chat_template(file: &RecipeFile) -> Result<Option<String>, Invalid> {
    match (&file.chat_template_jinja, file.chat_template) {
        (Some(_), Some(_)) => invalid(
            "chat_template_jinja",
            "`chat_template` and `chat_template_jinja` are both given",
            Some("keep one of the two"),
        ),
        (Some(text), None) => Ok(Some(text.clone())),
        (None, Some(ChatTemplateName::Chatml)) => Ok(Some(CHATML.to_owned())),
        (None, Some(ChatTemplateName::TokenizerDefault) | None) => Ok(None),
    }
}

fn seed(seed: Option<&SeedText>) -> Result<u64, Invalid> {
    match seed {
        None => Ok(42),
        Some(SeedText::Number(seed)) => Ok(*seed),
        Some(SeedText::Text(text)) => match text.parse() {
            Ok(seed) => Ok(seed),
            Err(_) => invalid("seed", format!("`{text}` is no seed"), Some("a whole number from 0 to 2^64 - 1")),
        },
    }
}

fn val_set_size(size: Option<ValSetSize>) -> Result<ValSetSize, Invalid> {
    match size {
        None => Ok(ValSetSize::Rows(0)),
        Some(ValSetSize::Share(share)) if share <= 0.0 || share >= 1.0 || share.is_nan() => invalid(
            "val_set_size",
            format!("`val_set_size` {share:?} is neither a number of examples nor a share"),
            Some("write a whole number (`1`) for examples, or a share above 0 and below 1"),
        ),
        Some(size) => Ok(size),
    }
}

fn check_ranges(recipe: &Recipe) -> Result<(), Invalid> {
    let unit = |x: f64| (0.0..1.0).contains(&x);
    let checks: [(&str, bool, &str); 19] = [
        ("lora_r", (1..=4096).contains(&recipe.lora_r), "a whole number from 1 to 4096"),
        ("lora_alpha", recipe.lora_alpha > 0.0 && recipe.lora_alpha.is_finite(), "above 0"),
        ("lora_dropout", unit(recipe.lora_dropout), "at least 0 and below 1"),
        ("sequence_len", (2..=1 << 24).contains(&recipe.sequence_len), "a whole number from 2 to 16777216"),
        ("micro_batch_size", (1..=1 << 20).contains(&recipe.micro_batch_size), "from 1 to 1048576"),
        (
            "gradient_accumulation_steps",
            recipe.gradient_accumulation_steps >= 1 && recipe.rows_per_step() <= 1 << 20,
            "at least 1, and a step has at most 1048576 rows",
        ),
        ("num_epochs", recipe.num_epochs > 0.0 && recipe.num_epochs <= 1e4, "above 0 and at most 10000"),
        ("max_steps", recipe.max_steps.is_none_or(|steps| (1..=10_000_000).contains(&steps)), "from 1 to 10000000"),
        ("learning_rate", recipe.learning_rate >= 0.0 && recipe.learning_rate.is_finite(), "at least 0"),
        ("warmup_ratio", (0.0..=1.0).contains(&recipe.warmup_ratio), "from 0 to 1"),
        ("weight_decay", recipe.weight_decay >= 0.0 && recipe.weight_decay.is_finite(), "at least 0"),
        ("adam_beta1", unit(recipe.adam_beta1), "at least 0 and below 1"),
        ("adam_beta2", unit(recipe.adam_beta2), "at least 0 and below 1"),
        ("adam_epsilon", recipe.adam_epsilon > 0.0 && recipe.adam_epsilon.is_finite(), "above 0"),
        ("max_grad_norm", recipe.max_grad_norm >= 0.0 && recipe.max_grad_norm.is_finite(), "at least 0"),
        ("eval_steps", recipe.eval_steps != Some(0), "at least 1"),
        ("save_steps", recipe.save_steps >= 1, "at least 1"),
        ("eval_max_new_tokens", (1..=1 << 16).contains(&recipe.eval_max_new_tokens), "from 1 to 65536"),
        (
            "lora_target_modules",
            recipe.lora_target_modules != TargetModules::List(Vec::new()),
            "`all-linear` or at least one name",
        ),
    ];
    for (path, fine, range) in checks {
        if !fine {
            return invalid(path, format!("`{path}` is out of range"), Some(&format!("it is {range}")));
        }
    }
    if recipe.adapter == Adapter::None && recipe.lora_dropout > 0.0 {
        return invalid("lora_dropout", "`lora_dropout` needs `adapter: lora`", None);
    }
    Ok(())
}
