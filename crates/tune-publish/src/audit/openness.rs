//! The Model Openness Framework 1.0: which of its components a published folder has, and which class that is.

use std::collections::BTreeMap;

use tune_schema::recipe::DataClass;

use crate::documents::{PROJECT, card, report};
use crate::facts::Facts;

/// A component of the framework. Research paper is left out: a tool cannot write one, and a technical report stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the framework's own names")]
pub enum Component {
    ModelArchitecture,
    FinalParameters,
    TechnicalReport,
    EvaluationResults,
    ModelCard,
    DataCard,
    SampleOutputs,
    TrainingCode,
    InferenceCode,
    EvaluationCode,
    EvaluationData,
    SupportingLibraries,
    Datasets,
    PreprocessingCode,
    IntermediateParameters,
    Metadata,
}

/// A class of the framework, from least to most open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// III, Open Model.
    OpenModel,
    /// II, Open Tooling.
    OpenTooling,
    /// I, Open Science.
    OpenScience,
}

impl Class {
    /// From least to most open.
    pub const ALL: [Self; 3] = [Self::OpenModel, Self::OpenTooling, Self::OpenScience];

    /// Number and name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenModel => "III (Open Model)",
            Self::OpenTooling => "II (Open Tooling)",
            Self::OpenScience => "I (Open Science)",
        }
    }

    /// What it needs beyond the class before it.
    fn needs(self) -> &'static [Component] {
        match self {
            Self::OpenModel => &[
                Component::ModelArchitecture,
                Component::FinalParameters,
                Component::TechnicalReport,
                Component::EvaluationResults,
                Component::ModelCard,
                Component::DataCard,
            ],
            Self::OpenTooling => &[
                Component::TrainingCode,
                Component::InferenceCode,
                Component::EvaluationCode,
                Component::EvaluationData,
            ],
            Self::OpenScience => {
                &[Component::Datasets, Component::PreprocessingCode, Component::IntermediateParameters]
            }
        }
    }
}

impl Component {
    /// The framework's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelArchitecture => "Model architecture",
            Self::FinalParameters => "Model parameters (Final)",
            Self::TechnicalReport => "Technical report",
            Self::EvaluationResults => "Evaluation results",
            Self::ModelCard => "Model card",
            Self::DataCard => "Data card",
            Self::SampleOutputs => "Sample model outputs",
            Self::TrainingCode => "Training code",
            Self::InferenceCode => "Inference code",
            Self::EvaluationCode => "Evaluation code",
            Self::EvaluationData => "Evaluation data",
            Self::SupportingLibraries => "Supporting libraries and tools",
            Self::Datasets => "Datasets",
            Self::PreprocessingCode => "Data preprocessing code",
            Self::IntermediateParameters => "Model parameters (Intermediate)",
            Self::Metadata => "Model metadata",
        }
    }

    /// What it is here.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::ModelArchitecture => "decoder and LoRA layers, in the source of tune",
            Self::FinalParameters => "weights in safetensors",
            Self::TechnicalReport => "what was trained from what, how, and with which results",
            Self::EvaluationResults => "held-out loss and answers before and after training",
            Self::ModelCard | Self::DataCard => "model card with a table of the data sources",
            Self::SampleOutputs => "answers to held-out examples",
            Self::TrainingCode | Self::InferenceCode | Self::EvaluationCode => "source of tune",
            Self::EvaluationData => "held-out part of the data sources, chosen by the recipe's seed",
            Self::SupportingLibraries => "arithmetic contract, kernels and verifier of tune",
            Self::Datasets => "addresses, digests and licences of all sources",
            Self::PreprocessingCode => "from rows to packed tokens, in the source of tune",
            Self::IntermediateParameters => "checkpoints with optimizer state",
            Self::Metadata => "manifest of claim and environment",
        }
    }

    /// Whether it is code.
    #[must_use]
    pub fn is_code(self) -> bool {
        matches!(
            self,
            Self::ModelArchitecture
                | Self::TrainingCode
                | Self::InferenceCode
                | Self::EvaluationCode
                | Self::PreprocessingCode
                | Self::SupportingLibraries
        )
    }
}

/// The components that are there, with their place in the published folder or on the web.
#[must_use]
pub fn present(facts: &Facts) -> BTreeMap<Component, String> {
    let mut components: BTreeMap<Component, String> = BTreeMap::new();
    let mut add = |component: Component, place: &str| {
        components.insert(component, place.to_owned());
    };
    for code in [
        Component::ModelArchitecture,
        Component::TrainingCode,
        Component::InferenceCode,
        Component::EvaluationCode,
        Component::PreprocessingCode,
        Component::SupportingLibraries,
    ] {
        add(code, PROJECT);
    }
    if let Some(weights) = facts.weights() {
        add(Component::FinalParameters, &weights.path);
    }
    add(Component::TechnicalReport, report::FILE_NAME);
    add(Component::ModelCard, card::FILE_NAME);
    add(Component::DataCard, card::FILE_NAME);
    add(Component::Metadata, "run/manifest.json");
    add(Component::IntermediateParameters, "run/checkpoints");
    let evaluation = &facts.claim().evaluation;
    if evaluation.loss_after.is_some() || evaluation.exact_match_examples > 0 {
        add(Component::EvaluationResults, "run/evaluation-after.json");
    }
    if evaluation.exact_match_examples > 0 && !facts.withholds_rows() {
        add(Component::SampleOutputs, "run/evaluation-after.json");
    }
    let available = facts.data.iter().all(|source| source.class() == Some(DataClass::Open));
    if available {
        add(Component::Datasets, "run/datasets.lock");
        if facts.claim().stream.eval_examples > 0 {
            add(Component::EvaluationData, "run/datasets.lock");
        }
    }
    components
}

/// The class that these components make, and what the next one lacks.
#[must_use]
pub fn class(present: &BTreeMap<Component, String>) -> (Option<Class>, Vec<Component>) {
    let mut reached = None;
    for class in Class::ALL {
        let missing: Vec<Component> = class.needs().iter().copied().filter(|one| !present.contains_key(one)).collect();
        if !missing.is_empty() {
            return (reached, missing);
        }
        reached = Some(class);
    }
    (reached, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_cumulative() {
        let all = || Class::ALL.iter().flat_map(|class| class.needs()).map(|one| (*one, String::new()));
        let full: BTreeMap<Component, String> = all().collect();
        assert_eq!(class(&full), (Some(Class::OpenScience), vec![]));
        let without = |left_out: Component| class(&all().filter(|(one, _)| *one != left_out).collect());
        assert_eq!(without(Component::Datasets), (Some(Class::OpenTooling), vec![Component::Datasets]));
        assert_eq!(without(Component::EvaluationData), (Some(Class::OpenModel), vec![Component::EvaluationData]));
        assert_eq!(without(Component::ModelCard), (None, vec![Component::ModelCard]));
    }
}
