//! The arguments of every command.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Makes fine-tunes that others can check: a recipe in, an adapter and a manifest of hashes out, the same bits on any
/// machine.
#[derive(Debug, Parser)]
#[command(name = "tune", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Print results only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train: lock, prepare, train, evaluate, write the run folder
    ///
    /// An interrupted run goes on where its last checkpoint was; the finished run is the same, byte for byte.
    #[command(
        after_help = "Examples:\n  tune run recipes/quickstart.yaml\n  tune run recipes/quickstart.yaml learning_rate=1e-3 output_dir=runs/second\n  tune run recipes/smollm2-135m-gsm8k.yaml datasets.0.path=data/train.jsonl max_steps=20"
    )]
    Run(RecipeOptions),
    /// Show what a recipe comes to, without training: tokens, steps, supervised share, memory
    #[command(after_help = "Example:\n  tune plan recipes/quickstart.yaml")]
    Plan(RecipeOptions),
    /// Measure a recipe's training steps on this machine: tokens a second, memory, where the time goes
    #[command(
        after_help = "Examples:\n  tune bench recipes/quickstart.yaml\n  tune bench recipes/smollm2-135m-gsm8k.yaml datasets.0.path=data/train.jsonl --steps 2 --json\n  tune bench --gpu"
    )]
    Bench(BenchOptions),
    /// Fetch the sources of recipes and write their digests to `datasets.lock`
    #[command(after_help = "Example:\n  tune lock recipes/quickstart.yaml recipes/quickstart-base.yaml")]
    Lock(LockOptions),
    /// Look at the training data as the model gets it
    #[command(
        after_help = "Examples:\n  tune data show recipes/quickstart.yaml\n  tune data export recipes/quickstart.yaml --out stream.jsonl\n  tune data audit recipes/quickstart.yaml"
    )]
    Data(DataOptions),
    /// Verify a run: exit code 0 verified, 1 differs, 2 could not be checked
    #[command(
        after_help = "Levels, each including the ones before:\n  files   every hash in the folder, and that they fit together\n  data    the stream of rows, rebuilt from the sources\n  sample  some segments between checkpoints, computed again\n  full    the whole run, computed again\n\nExamples:\n  tune verify runs/quickstart\n  tune verify runs/quickstart --level full\n  tune verify runs/quickstart --level data --source quickstart-records=elsewhere/records.jsonl\n  tune verify hf://user/repo --yes\n  tune verify https://example.org/model/"
    )]
    Verify(VerifyOptions),
    /// Show chosen rows of an unshareable source, each with the proof that the claim committed to it
    ///
    /// What is written has the rows' texts and salts, and nothing that helps to guess others.
    #[command(
        after_help = "Examples:\n  tune reveal runs/private --source records --rows 3,17,100-110 --to revealed.json\n  tune verify runs/private --revealed revealed.json"
    )]
    Reveal(RevealOptions),
    /// Compare two runs: exit code 0 the same claim, 1 they differ, 2 could not be compared
    #[command(
        after_help = "In the order of causes: recipe, base model, sources, seeds, the stream of rows, the initial state,\nsteps, weights, evaluation, files. The last line names what explains the rest.\n\nExamples:\n  tune diff runs/quickstart runs/second\n  tune diff runs/quickstart runs/second --json\n  tune diff ours theirs --source rows=ours.jsonl --source rows=theirs.jsonl --offline"
    )]
    Diff(DiffOptions),
    /// Statements of verifiers about a run
    #[command(after_help = "Example:\n  tune attest list runs/quickstart")]
    Attest(AttestOptions),
    /// Check a run against the Open Source AI Definition, the Model Openness Framework, licences, personal data
    #[command(after_help = "Examples:\n  tune audit runs/quickstart\n  tune audit runs/quickstart --strict --json")]
    Audit(AuditOptions),
    /// Make the folder to publish: result, model card, provenance documents, the run, a signature
    #[command(
        after_help = "Examples:\n  tune publish runs/quickstart --to published/quickstart\n  tune publish runs/quickstart --to published/signed --key publisher.pem\n  HF_TOKEN=… tune publish runs/quickstart --to hf://user/repo"
    )]
    Publish(PublishOptions),
    /// Write a run's result for other tools: GGUF adapter and base for llama.cpp, Modelfile for Ollama, merged weights
    ///
    /// Each form is read back, and how far its logits are from the run's own stands in `export.json`.
    #[command(
        after_help = "Examples:\n  tune export runs/quickstart --to exports/gguf --gguf\n  tune export runs/quickstart --to exports/all --gguf --merged"
    )]
    Export(ExportArguments),
    /// Keys for signatures and attestations: ECDSA on the curve P-256
    #[command(after_help = "Example:\n  tune key new publisher.pem")]
    Key(KeyOptions),
    /// List this machine's devices and what each may compute, with reasons
    #[command(after_help = "Example:\n  tune doctor")]
    Doctor(DoctorOptions),
    /// Print the JSON Schema of recipes, for editors
    #[command(after_help = "Example:\n  tune schema > recipe.schema.json")]
    Schema,
}

/// How the lock is treated.
#[derive(Debug, Clone, Args)]
pub(crate) struct SourceOptions {
    /// Fail where `datasets.lock` does not hold every source already
    #[arg(long)]
    pub(crate) locked: bool,
    /// Neither change `datasets.lock` nor use the network
    #[arg(long)]
    pub(crate) frozen: bool,
    /// Do not use the network
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecipeOptions {
    /// The recipe
    pub(crate) recipe: PathBuf,
    /// Settings in place of the recipe's: `key=value`, list entries by number (`datasets.0.path=…`)
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    #[command(flatten)]
    pub(crate) source: SourceOptions,
}

#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// The recipe
    #[arg(required_unless_present = "gpu", conflicts_with = "gpu")]
    pub(crate) recipe: Option<PathBuf>,
    /// Settings in place of the recipe's: `key=value`, list entries by number (`datasets.0.path=…`)
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    #[command(flatten)]
    pub(crate) source: SourceOptions,
    /// Steps to measure, after one that warms up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    /// Measure a GPU instead of a recipe: its bits against the reference and the CPU, its speed with models of usual shapes
    #[arg(long)]
    pub(crate) gpu: bool,
    /// Which GPU: `auto`, `cuda:1`, `wgpu`…
    #[arg(long, default_value_t, requires = "gpu")]
    pub(crate) device: tune_schema::DeviceChoice,
    /// Only models of these shapes: `tiny`, `SmolLM2-135M`, `Llama-3.2-1B`, `Llama-3-8B` [default: all but the first]
    #[arg(long = "model", value_name = "NAME", requires = "gpu")]
    pub(crate) models: Vec<String>,
    /// Random shapes on which each group of operations is compared with the reference
    #[arg(long, default_value_t = 40, requires = "gpu")]
    pub(crate) comparisons: u32,
    /// Print the figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Print the devices as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LockOptions {
    /// The recipes
    #[arg(required = true)]
    pub(crate) recipes: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) source: SourceOptions,
}

#[derive(Debug, Args)]
pub(crate) struct DataOptions {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Print rows with the supervised tokens marked
    Show {
        #[command(flatten)]
        recipe: RecipeOptions,
        /// How many rows
        #[arg(long, default_value_t = 3)]
        rows: u64,
    },
    /// Write the exact stream of token rows, one JSON object a line
    Export {
        #[command(flatten)]
        recipe: RecipeOptions,
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Check the data and print what was found
    Audit {
        #[command(flatten)]
        recipe: RecipeOptions,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelName {
    Files,
    Data,
    Sample,
    Full,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    /// A run folder or published folder, or its `manifest.json`; also `https://…` and `hf://user/repo[@revision]`, fetched after
    /// asking
    pub(crate) target: PathBuf,
    /// How far to go
    #[arg(long, value_enum, default_value = "sample")]
    pub(crate) level: LevelName,
    /// Segments that level `sample` computes again [default: as many as are 5 % of the steps, at least one]
    #[arg(long, conflicts_with_all = ["confidence", "tampered"])]
    pub(crate) segments: Option<usize>,
    /// Instead as many segments as find a forgery with this probability
    #[arg(long, value_parser = share, requires = "tampered")]
    pub(crate) confidence: Option<f64>,
    /// If so large a share of the segments is forged
    #[arg(long, value_parser = share, requires = "confidence")]
    pub(crate) tampered: Option<f64>,
    /// Choose the segments by this number instead of at random
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where a source is: `NAME=PATH`
    #[arg(long = "source", value_name = "NAME=PATH")]
    pub(crate) sources: Vec<String>,
    /// The secrets of unshareable sources [default: where the run found them]
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets: Option<PathBuf>,
    /// Rows of unshareable sources that somebody revealed, to be checked against the claim
    #[arg(long, value_name = "FILE")]
    pub(crate) revealed: Vec<PathBuf>,
    /// The publisher's public key: the folder must have its signature
    #[arg(long, value_name = "FILE")]
    pub(crate) signed_by: Option<PathBuf>,
    /// Sign the verdict with this private key and add it to the folder's attestations
    #[arg(long, value_name = "FILE")]
    pub(crate) attest: Option<PathBuf>,
    /// Where to compute: `auto`, `cpu`, `cuda`, `cuda:0,cuda:1`, `wgpu`…
    #[arg(long, default_value_t)]
    pub(crate) device: tune_schema::Devices,
    /// Do not use the network
    #[arg(long)]
    pub(crate) offline: bool,
    /// Fetch `hf://…`, `https://…` and sources that the run names without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Print the verdict as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffOptions {
    /// A run folder, or its `manifest.json`
    pub(crate) run_a: PathBuf,
    /// Another one
    pub(crate) run_b: PathBuf,
    /// Where a source is: `NAME=PATH`; twice where each run had its own
    #[arg(long = "source", value_name = "NAME=PATH")]
    pub(crate) sources: Vec<String>,
    /// The secrets of unshareable sources [default: where each run found them]
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets: Option<PathBuf>,
    /// Do not use the network
    #[arg(long)]
    pub(crate) offline: bool,
    /// Fetch sources that the runs name without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RevealOptions {
    /// A run folder or published folder
    pub(crate) run: PathBuf,
    /// The source; `NAME=PATH` where its rows are no longer where the run found them
    #[arg(long, value_name = "NAME")]
    pub(crate) source: String,
    /// Numbers of rows from 1, and ranges of them: `3,17,100-110`
    #[arg(long, value_name = "NUMBERS")]
    pub(crate) rows: RowNumbers,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// The secrets of unshareable sources [default: where the run found them]
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets: Option<PathBuf>,
}

/// Numbers and ranges of rows, as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowNumbers(pub(crate) Vec<RangeInclusive<u64>>);

impl FromStr for RowNumbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.parse() {
            Ok(0) => Err("rows are numbered from 1".to_owned()),
            Ok(number) => Ok(number),
            Err(_) => Err(format!("`{text}` is no number of a row")),
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (number(first)?, number(last)?);
            if first > last { Err(format!("`{text}` ends before it begins")) } else { Ok(first..=last) }
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self)
    }
}

/// A number between 0 and 1.
fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if value > 0.0 && value <= 1.0 { Ok(value) } else { Err("it must be above 0 and at most 1".to_owned()) }
}

#[derive(Debug, Args)]
pub(crate) struct AttestOptions {
    #[command(subcommand)]
    pub(crate) command: AttestCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AttestCommand {
    /// Who computed it again, to which level, on what
    List {
        /// A run folder or published folder
        target: PathBuf,
        /// Print the statements as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the sources of a run are.
#[derive(Debug, Args)]
pub(crate) struct LocatedSources {
    /// Where a source is: `NAME=PATH`
    #[arg(long = "source", value_name = "NAME=PATH")]
    pub(crate) sources: Vec<String>,
    /// The secrets of unshareable sources [default: where the run found them]
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets: Option<PathBuf>,
    /// Do not use the network
    #[arg(long)]
    pub(crate) offline: bool,
    /// Fetch sources that the run names without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditOptions {
    /// A run folder
    pub(crate) run: PathBuf,
    /// Exit with 1 where anything weighs more than a note
    #[arg(long)]
    pub(crate) strict: bool,
    /// Do not search the training rows for personal data
    #[arg(long)]
    pub(crate) no_rows: bool,
    #[command(flatten)]
    pub(crate) located: LocatedSources,
    /// Print the audit as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PublishOptions {
    /// A run folder
    pub(crate) run: PathBuf,
    /// The folder to make, or a repository on the hub, `hf://user/repo`, with the token in `HF_TOKEN`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: PathBuf,
    /// On the hub: make a repository that only its owner can read
    #[arg(long)]
    pub(crate) private: bool,
    /// Sign with this private key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Publish only the checkpoints of these steps: `0,50,100`
    #[arg(long, value_name = "STEPS", value_delimiter = ',', conflicts_with = "without_checkpoints")]
    pub(crate) checkpoints: Vec<u64>,
    /// Leave the checkpoints out: verifiers can then only compute the whole run again, or its first steps
    #[arg(long)]
    pub(crate) without_checkpoints: bool,
    /// The adapter as GGUF too, with a Modelfile for Ollama: needs the base model
    #[arg(long)]
    pub(crate) gguf: bool,
    /// List the files that would be written or sent
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) located: LocatedSources,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("form").required(true).multiple(true).args(["gguf", "merged"]))]
pub(crate) struct ExportArguments {
    /// A run folder or published folder
    pub(crate) run: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: PathBuf,
    /// The adapter and its base as GGUF, with a Modelfile; with `--merged` also the merged model as GGUF
    #[arg(long)]
    pub(crate) gguf: bool,
    /// The base with the adapter added to its weights, in Hugging Face layout
    #[arg(long)]
    pub(crate) merged: bool,
    #[command(flatten)]
    pub(crate) located: LocatedSources,
}

#[derive(Debug, Args)]
pub(crate) struct KeyOptions {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a private key, and its public key beside it as `FILE.pub`
    New {
        /// The file to write
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_rows() {
        let parse = |text: &str| text.parse::<RowNumbers>().map(|rows| rows.0);
        assert_eq!(parse("3,17,100-110").unwrap(), [3..=3, 17..=17, 100..=110]);
        for text in ["", "0", "3,", "5-4", "a", "1-2-3", "-3", "3-"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
