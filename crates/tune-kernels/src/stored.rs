//! Frozen weights that stay in memory as they are stored in a file.

use std::ops::Range;

use crate::encoding::Encoding;

/// A matrix `[rows, columns]` in its stored type. Every use turns the values it needs into f32 by the type's formula
/// ([`crate::encoding`]), so results have the same bits as with the whole matrix turned into f32 beforehand.
#[derive(Debug, Clone)]
pub struct StoredMatrix {
    encoding: Encoding,
    rows: usize,
    columns: usize,
    bytes: Vec<u8>,
}

impl StoredMatrix {
    /// A matrix whose rows are whole blocks; none where they are not, or where there are more or fewer bytes than that.
    #[must_use]
    pub fn new(encoding: Encoding, [rows, columns]: [usize; 2], bytes: Vec<u8>) -> Option<Self> {
        let row = encoding.stored_bytes(columns as u64)?;
        let all = row.checked_mul(rows as u64)?;
        (columns > 0 && all == bytes.len() as u64).then_some(Self { encoding, rows, columns, bytes })
    }

    /// A matrix of f32.
    ///
    /// # Panics
    /// If the values are not as many as rows and columns say, or there are none.
    #[must_use]
    pub fn of_values(shape: [usize; 2], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(Encoding::F32, shape, bytes).expect("four bytes a value")
    }

    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// How the values are stored.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The bytes of all rows, as in the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends the values of `columns` of a row, and before and after them what else their blocks hold.
    ///
    /// # Panics
    /// If the row or the columns lie beyond the matrix.
    pub fn decode(&self, row: usize, columns: &Range<usize>, values: &mut Vec<f32>) {
        assert!(row < self.rows && columns.end <= self.columns, "within the matrix");
        let blocks = self.blocks(columns);
        let (bytes, block) = (self.encoding.block_bytes(), self.encoding.block_values());
        let start = row * (self.columns / block);
        self.encoding.decode(&self.bytes[(start + blocks.start) * bytes..(start + blocks.end) * bytes], values);
    }

    /// The columns of the whole blocks that hold `columns`.
    #[must_use]
    pub fn whole(&self, columns: &Range<usize>) -> Range<usize> {
        let (blocks, block) = (self.blocks(columns), self.encoding.block_values());
        blocks.start * block..blocks.end * block
    }

    fn blocks(&self, columns: &Range<usize>) -> Range<usize> {
        let block = self.encoding.block_values();
        columns.start / block..columns.end.div_ceil(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_rows_make_a_matrix() {
        let matrix = |encoding, shape, bytes: usize| StoredMatrix::new(encoding, shape, vec![0; bytes]).is_some();
        assert!(matrix(Encoding::Q4_1, [3, 64], 3 * 2 * 20));
        assert!(!matrix(Encoding::Q4_1, [3, 64], 3 * 2 * 20 - 1));
        assert!(!matrix(Encoding::Q4_1, [2, 48], 3 * 20), "a block must not span two rows");
        assert!(matrix(Encoding::Bf16, [2, 5], 20));
        assert!(!matrix(Encoding::Bf16, [2, 0], 0));
    }

    #[test]
    fn a_part_of_a_row_comes_with_its_blocks() {
        let bytes: Vec<u8> = (0..2 * 3 * 34_u32).map(|i| if i % 34 == 1 { 0x3c } else { i as u8 }).collect();
        let matrix = StoredMatrix::new(Encoding::Q8_0, [2, 96], bytes.clone()).unwrap();
        let (mut all, mut part) = (Vec::new(), Vec::new());
        Encoding::Q8_0.decode(&bytes, &mut all);
        matrix.decode(1, &(40..65), &mut part);
        assert_eq!(matrix.whole(&(40..65)), 32..96);
        assert_eq!(part, all[96 + 32..96 + 96]);
    }
}
