//! Writes safetensors files whose bytes depend on their content alone.
//!
//! The `safetensors` crate writes its metadata in the order of a hash map, so equal content gives different files.
//! Here: `__metadata__` first, its keys sorted, then the tensors sorted by name, their data in the same order without
//! gaps; no white space in the header but the spaces that pad it to a multiple of 8 bytes. An empty metadata map is
//! left out. All tensors are f32, little-endian.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::error::BaseError;
use super::store::usable_name;

/// The bytes of a safetensors file with `tensors` (shape, outermost dimension first, and values).
///
/// # Errors
/// If a tensor's values are not as many as its shape says, or its name cannot be used.
pub fn write_safetensors<V: AsRef<[f32]>>(
    tensors: &BTreeMap<String, (Vec<usize>, V)>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, BaseError> {
    for (name, (shape, values)) in tensors {
        let values = values.as_ref().len();
        if count(shape) != Some(values) {
            return Err(BaseError::ValueCount { tensor: name.clone(), shape: shape.clone(), values });
        }
    }
    let shapes = tensors.iter().map(|(name, (shape, _))| (name.as_str(), shape.as_slice())).collect();
    let mut bytes = safetensors_header(&shapes, metadata)?;
    let size: usize = tensors.values().map(|(_, values)| 4 * values.as_ref().len()).sum();
    bytes.reserve_exact(size);
    for (_, values) in tensors.values() {
        bytes.extend(values.as_ref().iter().flat_map(|value| value.to_le_bytes()));
    }
    Ok(bytes)
}

/// What precedes the data in the file that [`write_safetensors`] gives: the header's length and the header. After it
/// come the tensors' values in the order of their names, for callers that do not hold all of them at once.
///
/// # Errors
/// If a shape's product overflows or a name cannot be used.
pub fn safetensors_header(
    shapes: &BTreeMap<&str, &[usize]>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, BaseError> {
    let mut entries = Vec::with_capacity(shapes.len());
    let mut begin = 0_usize;
    for (&name, &shape) in shapes {
        if !usable_name(name) || name == METADATA {
            return Err(BaseError::TensorName { file: "the file to be written".to_owned(), tensor: name.to_owned() });
        }
        let end = count(shape).and_then(|count| count.checked_mul(4)).and_then(|size| begin.checked_add(size));
        let end =
            end.ok_or_else(|| BaseError::ValueCount { tensor: name.to_owned(), shape: shape.to_vec(), values: 0 })?;
        entries.push((name, Entry { dtype: "F32", shape, data_offsets: [begin, end] }));
        begin = end;
    }
    let header = serde_json::to_string(&Header { metadata, entries }).expect("texts and numbers are always JSON");
    let padded = header.len().next_multiple_of(8);
    let mut bytes = Vec::with_capacity(8 + padded);
    bytes.extend((padded as u64).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.resize(8 + padded, b' ');
    Ok(bytes)
}

const METADATA: &str = "__metadata__";

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    entries: Vec<(&'a str, Entry<'a>)>,
}

#[derive(serde::Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (name, entry) in &self.entries {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn metadata() -> BTreeMap<String, String> {
        BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("a".to_owned(), "\"ü\n".to_owned())])
    }

    #[test]
    fn golden_bytes() {
        let tensors = BTreeMap::from([
            ("b.weight".to_owned(), (vec![2, 1], vec![1.0, -0.5])),
            ("a".to_owned(), (vec![], vec![2.0])),
        ]);
        let bytes = write_safetensors(&tensors, &metadata()).unwrap();
        let header = concat!(
            r#"{"__metadata__":{"a":"\"ü\n","format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"#,
            r#""b.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]}}"#,
        );
        let padded = header.len().next_multiple_of(8);
        let mut expected = (padded as u64).to_le_bytes().to_vec();
        expected
            .extend(format!("{header:padded$}", padded = header.chars().count() + padded - header.len()).as_bytes());
        expected.extend([2.0_f32, 1.0, -0.5].iter().flat_map(|v| v.to_le_bytes()));
        assert_eq!(bytes, expected);
        assert_eq!(
            tune_schema::Digest::of(&bytes).to_string(),
            "sha256:af2fc606196af7a41a052608e582884b2a25bd781a8beb8bee3a3776bc82daca"
        );
    }

    #[test]
    fn the_safetensors_crate_reads_it() {
        let values: Vec<f32> = (0..12_u8).map(f32::from).collect();
        let tensors = BTreeMap::from([
            ("x".to_owned(), (vec![3, 4], values.as_slice())),
            ("empty".to_owned(), (vec![0, 4], &[])),
            ("name with \"quotes\" and ü".to_owned(), (vec![2], &values[..2])),
        ]);
        let bytes = write_safetensors(&tensors, &metadata()).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.len(), 3);
        for (name, (shape, values)) in &tensors {
            let view = read.tensor(name).unwrap();
            assert_eq!(view.shape(), shape);
            assert_eq!(view.data(), values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        }
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let found: BTreeMap<String, String> = header.metadata().clone().unwrap().into_iter().collect();
        assert_eq!(found, metadata());
    }

    #[test]
    fn nothing_gives_an_empty_header() {
        let none: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
        assert_eq!(write_safetensors(&none, &BTreeMap::new()).unwrap(), b"\x08\0\0\0\0\0\0\0{}      ");
    }

    #[test]
    fn contradictions_are_refused() {
        let one = |name: &str, shape: Vec<usize>| {
            write_safetensors(&BTreeMap::from([(name.to_owned(), (shape, [1.0_f32]))]), &BTreeMap::new())
        };
        assert!(one("a", vec![1]).is_ok());
        for (name, shape) in
            [("a", vec![2]), ("a", vec![0]), ("a", vec![usize::MAX, 3]), ("", vec![]), (METADATA, vec![])]
        {
            assert!(one(name, shape).is_err(), "{name}");
        }
    }
}
