//! Which line an example comes from. A bit a line says it, for examples come in the order of lines.

use std::ops::Range;

/// Where each example comes from.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    files: Vec<File>,
    /// Of every line of every file, one bit, lowest first: whether it became an example.
    kept: Vec<u64>,
    lines: u64,
    examples: u32,
}

/// A file of a source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File {
    /// Number of its source.
    pub(crate) source: usize,
    /// Its number in the source.
    pub(crate) file: usize,
    /// Lines of the files before it.
    lines: u64,
    /// Examples of the files before it.
    examples: u32,
}

impl Origins {
    /// The lines that follow are those of another file.
    pub(crate) fn begin(&mut self, source: usize, file: usize) {
        self.files.push(File { source, file, lines: self.lines, examples: self.examples });
    }

    /// The next line of the file. Gives false where numbers of 32 bits do not suffice for another example.
    #[must_use]
    pub(crate) fn push(&mut self, kept: bool) -> bool {
        if self.lines.is_multiple_of(64) {
            self.kept.push(0);
        }
        if let Some(word) = self.kept.last_mut() {
            *word |= u64::from(kept) << (self.lines % 64);
        }
        self.lines += 1;
        let examples = self.examples.checked_add(u32::from(kept));
        self.examples = examples.unwrap_or(self.examples);
        examples.is_some()
    }

    fn is_kept(&self, line: u64) -> bool {
        let word = usize::try_from(line / 64).ok().and_then(|word| self.kept.get(word));
        word.is_some_and(|word| word >> (line % 64) & 1 == 1)
    }

    /// The files in order, each with the numbers of its examples.
    pub(crate) fn files(&self) -> impl Iterator<Item = (File, Range<u32>)> + '_ {
        let ends = self.files.iter().skip(1).map(|next| next.examples).chain([self.examples]);
        self.files.iter().zip(ends).map(|(file, end)| (*file, file.examples..end))
    }

    /// The examples of a source.
    pub(crate) fn examples(&self, source: usize) -> Range<u32> {
        let mut of_source = self.files().filter(|(file, _)| file.source == source).map(|(_, examples)| examples);
        let first = of_source.next().unwrap_or(0..0);
        let end = of_source.last().map_or(first.end, |last| last.end);
        first.start..end
    }

    /// The examples of a file, each with its line, from 1.
    pub(crate) fn lines(&self, (file, examples): (File, Range<u32>)) -> impl Iterator<Item = (u32, u64)> + '_ {
        let lines = (1_u64..).filter(move |line| self.is_kept(file.lines + line - 1));
        examples.zip(lines)
    }

    /// The file and line of an example.
    pub(crate) fn find(&self, example: u32) -> Option<(File, u64)> {
        let place = self.files().find(|(_, examples)| examples.contains(&example))?;
        let line = self.lines(place.clone()).find(|(i, _)| *i == example).map(|(_, line)| line)?;
        Some((place.0, line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_example_is_found_in_its_line(files in prop::collection::vec((0_usize..2, prop::collection::vec(any::<bool>(), 0..200)), 0..6)) {
            let (mut origins, mut expected, mut source) = (Origins::default(), Vec::new(), 0);
            for (number, (next, lines)) in files.iter().enumerate() {
                source += next;
                origins.begin(source, number);
                for (line, kept) in (1..).zip(lines) {
                    prop_assert!(origins.push(*kept));
                    expected.extend(kept.then_some((source, number, line)));
                }
            }
            prop_assert_eq!(origins.examples as usize, expected.len());
            for (i, place) in (0..).zip(&expected) {
                let (file, line) = origins.find(i).unwrap();
                prop_assert_eq!((file.source, file.file, line), *place);
                prop_assert!(origins.examples(file.source).contains(&i));
            }
            prop_assert!(origins.find(origins.examples).is_none());
            let all: usize = (0..=source).map(|source| origins.examples(source).len()).sum();
            prop_assert_eq!(all, expected.len());
        }
    }
}
