//! Reads a GGUF header's primitive fields from a stream, never past the file's end and never trusting a length.
//!
//! Before anything is allocated, the bytes that it would be filled from must lie inside the file and inside
//! [`HEADER_LIMIT`].

use std::io::Read;

use super::super::error::{BaseError, GgufProblem};
use super::value::{GgufArray, GgufValue};

/// The longest header accepted: metadata and tensor infos. A vocabulary of 256 Ki tokens with its merges needs some
/// 20 MB.
pub(super) const HEADER_LIMIT: u64 = 1 << 28;

/// Arrays of arrays are legal, known keys do not use them. Recursion must end somewhere.
const NESTING_LIMIT: u32 = 4;

/// A position in the header.
pub(super) struct Cursor<'a> {
    file: &'a str,
    reader: &'a mut dyn Read,
    position: u64,
    length: u64,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of a file of `length` bytes.
    pub(super) fn new(file: &'a str, reader: &'a mut dyn Read, length: u64) -> Self {
        Self { file, reader, position: 0, length }
    }

    /// The offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The file's name in the model.
    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    /// The file's length.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// An error at `offset`.
    pub(super) fn problem(&self, offset: u64, problem: GgufProblem) -> BaseError {
        BaseError::GgufField { file: self.file.to_owned(), offset, problem }
    }

    /// Fails unless `needed` more bytes are there and inside the limit.
    fn require(&self, needed: u64) -> Result<(), BaseError> {
        let end = self.position.checked_add(needed);
        if end.is_none_or(|end| end > self.length) {
            return Err(BaseError::Truncated {
                file: self.file.to_owned(),
                offset: self.position,
                needed,
                length: self.length,
            });
        }
        match end {
            Some(found) if found > HEADER_LIMIT => Err(BaseError::TooLarge {
                file: self.file.to_owned(),
                what: "the header's length",
                found,
                limit: HEADER_LIMIT,
            }),
            _ => Ok(()),
        }
    }

    /// Checks a count of items that take at least `size` bytes each.
    pub(super) fn count(&mut self, size: u64) -> Result<usize, BaseError> {
        let count = self.u64()?;
        self.require(count.saturating_mul(size))?;
        // Below the header's limit, so it fits.
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], BaseError> {
        self.require(N as u64)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BaseError> {
        self.reader.read_exact(bytes).map_err(|source| BaseError::Io { file: self.file.to_owned(), source })?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn u32(&mut self) -> Result<u32, BaseError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, BaseError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    pub(super) fn string(&mut self) -> Result<String, BaseError> {
        let offset = self.position;
        let mut bytes = vec![0; self.count(1)?];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| BaseError::NotUtf8 { file: self.file.to_owned(), offset })
    }

    fn boolean(&mut self) -> Result<bool, BaseError> {
        let offset = self.position;
        match self.bytes()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.problem(offset, GgufProblem::Boolean(other))),
        }
    }

    /// A value preceded by its type.
    pub(super) fn value(&mut self) -> Result<GgufValue, BaseError> {
        let offset = self.position;
        Ok(match self.u32()? {
            0 => GgufValue::Unsigned(u8::from_le_bytes(self.bytes()?).into()),
            1 => GgufValue::Signed(i8::from_le_bytes(self.bytes()?).into()),
            2 => GgufValue::Unsigned(u16::from_le_bytes(self.bytes()?).into()),
            3 => GgufValue::Signed(i16::from_le_bytes(self.bytes()?).into()),
            4 => GgufValue::Unsigned(self.u32()?.into()),
            5 => GgufValue::Signed(i32::from_le_bytes(self.bytes()?).into()),
            6 => GgufValue::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => GgufValue::Bool(self.boolean()?),
            8 => GgufValue::String(self.string()?),
            9 => GgufValue::Array(self.array(1)?),
            10 => GgufValue::Unsigned(self.u64()?),
            11 => GgufValue::Signed(i64::from_le_bytes(self.bytes()?)),
            12 => GgufValue::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(self.problem(offset, GgufProblem::ValueType(other))),
        })
    }

    /// An array preceded by its items' type and their number.
    fn array(&mut self, depth: u32) -> Result<GgufArray, BaseError> {
        let offset = self.position;
        let item = self.u32()?;
        Ok(match item {
            0 => GgufArray::U8(self.items(1, |c| Ok(u8::from_le_bytes(c.bytes()?)))?),
            1 => GgufArray::I8(self.items(1, |c| Ok(i8::from_le_bytes(c.bytes()?)))?),
            2 => GgufArray::U16(self.items(2, |c| Ok(u16::from_le_bytes(c.bytes()?)))?),
            3 => GgufArray::I16(self.items(2, |c| Ok(i16::from_le_bytes(c.bytes()?)))?),
            4 => GgufArray::U32(self.items(4, Self::u32)?),
            5 => GgufArray::I32(self.items(4, |c| Ok(i32::from_le_bytes(c.bytes()?)))?),
            6 => GgufArray::F32(self.items(4, |c| Ok(f32::from_le_bytes(c.bytes()?)))?),
            7 => GgufArray::Bool(self.items(1, Self::boolean)?),
            8 => GgufArray::String(self.items(8, Self::string)?),
            9 if depth >= NESTING_LIMIT => return Err(self.problem(offset, GgufProblem::Nesting(NESTING_LIMIT))),
            9 => GgufArray::Array(self.items(12, |c| c.array(depth + 1))?),
            10 => GgufArray::U64(self.items(8, Self::u64)?),
            11 => GgufArray::I64(self.items(8, |c| Ok(i64::from_le_bytes(c.bytes()?)))?),
            12 => GgufArray::F64(self.items(8, |c| Ok(f64::from_le_bytes(c.bytes()?)))?),
            other => return Err(self.problem(offset, GgufProblem::ValueType(other))),
        })
    }

    /// A count, then that many items of at least `size` bytes.
    fn items<T>(
        &mut self,
        size: u64,
        mut item: impl FnMut(&mut Self) -> Result<T, BaseError>,
    ) -> Result<Vec<T>, BaseError> {
        let count = self.count(size)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}
