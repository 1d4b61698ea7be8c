//! Everything the tool prints: results to standard output, the rest to standard error.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use tune_schema::text::printable;
use tune_train::Observer;
use tune_train::evaluate::Scores;
use tune_train::trainer::StepResult;

/// Where output goes, and how much of it.
#[derive(Debug)]
pub(crate) struct Printer {
    quiet: bool,
    terminal: bool,
    bar: Option<ProgressBar>,
    total: u64,
    logging_steps: u64,
    seconds: f64,
    steps: u64,
    output_error: Option<std::io::Error>,
}

impl Printer {
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { quiet, terminal, bar: None, total: 0, logging_steps: 1, seconds: 0.0, steps: 0, output_error: None }
    }

    /// Prints a line every `steps` steps where there is no terminal to draw a bar on.
    pub(crate) fn log_every(&mut self, steps: u64) {
        self.logging_steps = steps.max(1);
    }

    /// A line of the result. A closed pipe is no error: the reader had enough. Any other is kept for [`Self::finish`].
    pub(crate) fn result(&mut self, line: &str) {
        if let Err(error) = writeln!(std::io::stdout(), "{line}")
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            self.output_error.get_or_insert(error);
        }
    }

    /// A line of the result with a stranger's words in it: they stay one line, and no terminal obeys them.
    pub(crate) fn line(&mut self, text: &str) {
        self.result(&printable(text));
    }

    /// Says whether all results arrived.
    ///
    /// # Errors
    /// The first that did not.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        let flushed = std::io::stdout().flush().err().filter(|error| error.kind() != std::io::ErrorKind::BrokenPipe);
        match self.output_error.take().or(flushed) {
            Some(error) => Err(anyhow::Error::from(error).context("cannot write to standard output")),
            None => Ok(()),
        }
    }

    /// A line about what is going on.
    pub(crate) fn note(&mut self, line: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.println(printable_lines(line)),
            None => self.error(line),
        }
    }

    /// Lines that even `--quiet` shows. An error repeats what a stranger wrote: no terminal obeys it.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn error(&mut self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{}", printable_lines(text));
    }

    /// Asks at the terminal; anything but a yes is a no.
    ///
    /// # Errors
    /// A terminal that cannot be written or read.
    pub(crate) fn ask(&mut self, question: &str) -> std::io::Result<bool> {
        self.clear();
        let mut terminal = std::io::stderr();
        write!(terminal, "{} [y/N] ", printable_lines(question))?;
        terminal.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
    }

    /// Takes the progress bar away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A text of several lines of which no terminal obeys anything but their ends.
fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Seconds as `1:23` or `4:05:06`.
fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a duration for people")]
    let whole = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

impl Observer for Printer {
    fn phase(&mut self, text: &str) {
        self.note(text);
    }

    fn training(&mut self, done: u64, total: u64) {
        self.total = total;
        (self.seconds, self.steps) = (0.0, 0);
        if done > 0 && done < total {
            self.note(&format!("going on after step {done} of {total}"));
        }
        if self.terminal && !self.quiet {
            let bar = ProgressBar::new(total).with_position(done);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style);
            self.bar = Some(bar);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn step(&mut self, step: u64, result: &StepResult, seconds: f64) {
        self.seconds += seconds;
        self.steps += 1;
        let speed = result.tokens as f64 / seconds.max(1e-9);
        let left = duration(self.seconds / self.steps as f64 * self.total.saturating_sub(step) as f64);
        let text = format!("loss {:.4}  {speed:.0} tokens/s  {left} left", result.loss);
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                bar.set_message(text);
            }
            None if step.is_multiple_of(self.logging_steps) || step == self.total => {
                self.note(&format!("step {step}/{}  {text}", self.total));
            }
            None => {}
        }
        if step == self.total {
            self.clear();
        }
    }

    fn evaluation(&mut self, step: u64, loss: f32) {
        self.note(&format!("step {step}: held-out loss {loss:.4}"));
    }

    fn scores(&mut self, after: bool, scores: &Scores) {
        let when = if after { "after" } else { "before" };
        if let Some(loss) = scores.loss {
            self.note(&format!("held-out loss {when} training: {:.4}", loss.value()));
        }
        if !scores.answers.is_empty() {
            self.note(&format!(
                "held-out exact match {when} training: {} of {}",
                scores.correct(),
                scores.answers.len()
            ));
        }
    }
}
