//! The Model Openness Framework 1.0: which of its components a published folder has under which terms, and which class that is.

use std::collections::{BTreeMap, BTreeSet};

use tune_schema::recipe::DataClass;

use super::duty;
use crate::documents::{CODE_LICENCE, PROJECT, card, report};
use crate::facts::Facts;
use crate::licence::Licence;

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

    /// Whether it is the data sources' own rows.
    #[must_use]
    pub fn is_data(self) -> bool {
        matches!(self, Self::Datasets | Self::EvaluationData)
    }
}

/// A component that is there.
#[derive(Debug, Clone)]
pub struct Present {
    /// Its place in the published folder or on the web.
    pub place: String,
    /// Its terms, where they are on record.
    pub licence: Option<Licence>,
}

impl Present {
    /// Whether it counts: what is there under other terms than open ones makes no class.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.licence.as_ref().is_some_and(Licence::is_open)
    }
}

/// The components that are there, where the checkpoints of these steps are.
#[must_use]
pub fn present(facts: &Facts, checkpoints: &BTreeSet<u64>) -> BTreeMap<Component, Present> {
    let (code, data, result) = (Some(Licence::new(CODE_LICENCE)), facts.terms_of_data(), facts.terms());
    let mut components: BTreeMap<Component, Present> = BTreeMap::new();
    let mut add = |component: Component, place: &str| {
        let licence = if component.is_code() {
            &code
        } else if component.is_data() {
            &data
        } else {
            &result
        };
        components.insert(component, Present { place: place.to_owned(), licence: licence.clone() });
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
    if !checkpoints.is_empty() {
        add(Component::IntermediateParameters, "run/checkpoints");
    }
    let evaluation = &facts.claim().evaluation;
    if evaluation.loss_after.is_some() || evaluation.exact_match_examples > 0 {
        add(Component::EvaluationResults, "run/evaluation-after.json");
    }
    if evaluation.exact_match_examples > 0 && !facts.withholds_rows() {
        add(Component::SampleOutputs, "run/evaluation-after.json");
    }
    // Data that is said to be open, and that nobody can find, is not there.
    let available = facts.data.iter().all(|source| source.class() == Some(DataClass::Open) && duty(source).is_ok());
    if available {
        add(Component::Datasets, "run/datasets.lock");
        if facts.claim().stream.eval_examples > 0 {
            add(Component::EvaluationData, "run/datasets.lock");
        }
    }
    components
}

/// The class that these components make, and what the next one lacks: a component, or an open licence of it.
#[must_use]
pub fn class(present: &BTreeMap<Component, Present>) -> (Option<Class>, Vec<String>) {
    let lacking = |component: &Component| match present.get(component) {
        Some(found) if found.is_open() => None,
        Some(_) => Some(format!("an open licence of {}", component.name())),
        None => Some(component.name().to_owned()),
    };
    let mut reached = None;
    for class in Class::ALL {
        let missing: Vec<String> = class.needs().iter().filter_map(lacking).collect();
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

    fn all() -> BTreeMap<Component, Present> {
        let open = Present { place: String::new(), licence: Some(Licence::new("MIT")) };
        Class::ALL.iter().flat_map(|class| class.needs()).map(|one| (*one, open.clone())).collect()
    }

    #[test]
    fn classes_are_cumulative() {
        assert_eq!(class(&all()), (Some(Class::OpenScience), vec![]));
        let without = |left_out: Component| {
            let mut rest = all();
            rest.remove(&left_out);
            class(&rest)
        };
        let lacking = |component: Component| vec![component.name().to_owned()];
        assert_eq!(without(Component::Datasets), (Some(Class::OpenTooling), lacking(Component::Datasets)));
        assert_eq!(without(Component::EvaluationData), (Some(Class::OpenModel), lacking(Component::EvaluationData)));
        assert_eq!(without(Component::ModelCard), (None, lacking(Component::ModelCard)));
    }

    #[test]
    fn what_is_there_under_other_terms_does_not_count() {
        for licence in [None, Some("CC-BY-NC-4.0"), Some("LicenseRef-terms")] {
            let mut components = all();
            let closed = Present { place: String::new(), licence: licence.map(Licence::new) };
            components.insert(Component::Datasets, closed);
            let lacking = vec!["an open licence of Datasets".to_owned()];
            assert_eq!(class(&components), (Some(Class::OpenTooling), lacking), "{licence:?}");
        }
    }
}
