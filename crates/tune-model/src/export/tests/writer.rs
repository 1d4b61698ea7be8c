//! The GGUF writer by itself.

use super::*;

/// A base whose weights are stored in another type: what is merged is what its formula gives.
#[test]
fn every_stored_type_is_written_and_merged() {
    let (files, tensors) = (folder(&config(), &tokenizer()), adapter(&config(), &MODULES));
    let plain = open_gguf(&merged_gguf(&files.open(), &tensors, None));
    for encoding in Encoding::ALL.into_iter().filter(|encoding| encoding.block_values() <= 32) {
        let mut file = GgufWriter::new();
        for (key, value) in plain.gguf.as_ref().unwrap().iter() {
            file.put(key, Value::from_read(value)).unwrap();
        }
        file.put("split.count", Value::U32(1)).unwrap();
        file.put("quantize.imatrix.file", "/somewhere/else").unwrap();
        let mut sizes = BTreeMap::new();
        for name in plain.tensor_names() {
            let (shape, target) =
                (plain.tensor_shape(name).unwrap(), crate::export::adapter::place(name, &plain.config).unwrap().0);
            let kind = if shape.len() == 1 || !shape[1].is_multiple_of(32) { Encoding::F32 } else { encoding };
            file.tensor(&target, shape, kind).unwrap();
            let values: usize = shape.iter().product();
            sizes.insert(target, kind.stored_bytes(values as u64).unwrap() as usize);
        }
        let mut bytes = Vec::new();
        // Bytes below 60 are finite numbers in every type.
        file.write(&mut bytes, |name| Ok((0..sizes[name]).map(|i| (i * 7 % 60) as u8).collect())).unwrap();
        let base = open_gguf(&bytes);
        let merged = Merged::new(&base, &FACTS, &tensors).unwrap();
        let host = merged.to_host().unwrap();
        let mut bytes = Vec::new();
        write_merged_gguf(&merged, None, &mut bytes).unwrap();
        let read = open_gguf(&bytes);
        assert_eq!(read.gguf.as_ref().unwrap().get("general.file_type"), Some(&GgufValue::Unsigned(0)));
        assert_eq!(read.gguf.as_ref().unwrap().get("quantize.imatrix.file"), None);
        for (name, (shape, values)) in &host {
            assert_eq!(read.tensor_dtype(name), Some("F32"));
            assert_eq!(read.load_tensor(name, shape).unwrap(), *values, "{encoding:?} {name}");
        }
    }
}

#[test]
fn every_metadata_value_is_read_back() {
    let values = [
        Value::U32(u32::MAX),
        Value::U64(u64::MAX),
        Value::I32(-1),
        Value::I64(i64::MIN),
        Value::F32(0.1),
        Value::F64(0.1),
        Value::Bool(true),
        Value::from("Ünï"),
        Value::texts(vec![String::new(), "a".to_owned()]),
        Value::Array(GgufArray::U8(vec![1, 255])),
        Value::Array(GgufArray::I8(vec![-1])),
        Value::Array(GgufArray::U16(vec![513])),
        Value::Array(GgufArray::I16(vec![-2])),
        Value::Array(GgufArray::U32(vec![7])),
        Value::Array(GgufArray::U64(vec![8])),
        Value::Array(GgufArray::I64(vec![-8])),
        Value::Array(GgufArray::F32(vec![0.5])),
        Value::Array(GgufArray::F64(vec![0.25])),
        Value::Array(GgufArray::Bool(vec![true, false])),
        Value::Array(GgufArray::Array(vec![GgufArray::I32(vec![3]), GgufArray::I32(vec![])])),
    ];
    let plain = open_gguf(&merged_gguf(&folder(&config(), &tokenizer()).open(), &adapter(&config(), &[Q]), None));
    let mut file = GgufWriter::new();
    for (key, value) in plain.gguf.as_ref().unwrap().iter() {
        file.put(key, Value::from_read(value)).unwrap();
    }
    for (number, value) in values.iter().enumerate() {
        file.put(&format!("x.{number}"), value.clone()).unwrap();
    }
    let mut bytes = Vec::new();
    file.write(&mut bytes, |_| unreachable!("no tensors")).unwrap();
    let read = open_gguf(&bytes);
    for (number, value) in values.iter().enumerate() {
        let found = Value::from_read(read.gguf.as_ref().unwrap().get(&format!("x.{number}")).unwrap());
        assert_eq!(found, *value);
    }
}

#[test]
fn what_a_gguf_file_cannot_hold_is_refused() {
    let mut file = GgufWriter::new();
    file.put("a", "b").unwrap();
    assert_eq!(file.put("a", "c").unwrap_err().to_string(), "metadata key `a` is there twice");
    file.tensor("t", &[2, 32], Encoding::Q8_0).unwrap();
    for (name, shape) in [
        ("t", &[1][..]),
        ("", &[1]),
        ("a\0", &[1]),
        ("x".repeat(64).as_str(), &[1]),
        ("u", &[]),
        ("u", &[1; 5]),
        ("u", &[0]),
        ("u", &[usize::MAX, 2]),
    ] {
        assert!(matches!(file.tensor(name, shape, Encoding::F32), Err(ExportError::Unwritable { .. })), "{name}");
    }
    assert!(file.tensor("u", &[31, 33], Encoding::Q8_0).is_err());
    let mut file = GgufWriter::new();
    file.tensor("t", &[3], Encoding::F16).unwrap();
    let error = file.write(&mut Vec::new(), |_| Ok(vec![0; 4])).unwrap_err().to_string();
    assert!(error.contains("its data have another length"), "{error}");
    let mut bytes = Vec::new();
    file.write(&mut bytes, |_| Ok(vec![1; 6])).unwrap();
    assert_eq!((bytes.len(), &bytes[64..]), (96, &[[1; 6].as_slice(), &[0; 26]].concat()[..]));
}
