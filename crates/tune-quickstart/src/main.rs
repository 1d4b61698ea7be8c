//! Writes the quickstart's data: `cargo run --release -p tune-quickstart -- corpus --out data/quickstart-corpus.jsonl`.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use tune_quickstart::{RECORDS, STORIES, corpus, records, train_tokenizer};

/// Writes the quickstart's data, the same bytes on every machine.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stories for the base model
    Corpus {
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Sentences with their records, for the fine-tune
    Records {
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
    /// The tokenizer of both
    Tokenizer {
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let (out, text) = match Arguments::parse().command {
        Command::Corpus { out } => (out, corpus(STORIES)),
        Command::Records { out } => (out, records(RECORDS)),
        Command::Tokenizer { out } => (out, train_tokenizer()?),
    };
    if let Some(folder) = out.parent().filter(|folder| *folder != Path::new("")) {
        tune_fs::create_dir_all(folder)?;
    }
    Ok(tune_fs::write_atomic(&out, text.as_bytes())?)
}
