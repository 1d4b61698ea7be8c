//! Hugging Face folders: safetensors that are right, and those that lie.

use super::testing::*;
use super::*;

const CONFIG: &[u8] = br#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,
  "intermediate_size":32,"num_attention_heads":2,"num_hidden_layers":1,"vocab_size":260}"#;

/// A folder with this `model.safetensors`.
fn folder(weights: &[u8]) -> Files {
    Files::of(&[("config.json", CONFIG), ("tokenizer.json", b"{}"), ("model.safetensors", weights)])
}

fn open(weights: &[u8]) -> Result<BaseModel, BaseError> {
    BaseModel::open(&folder(weights).names)
}

const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"half":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},"brain":{"dtype":"BF16","shape":[],"data_offsets":[12,14]},"ids":{"dtype":"I16","shape":[1],"data_offsets":[14,16]}}"#;
const DATA: [u8; 16] = [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0, 0, 0x3c, 1, 0, 0x80, 0xbf, 7, 0];

#[test]
fn each_type_is_read() {
    let model = open(&safetensors_bytes(HEADER, &DATA)).unwrap();
    assert!(model.has_weights);
    assert_eq!(model.tensor_names().collect::<Vec<_>>(), ["brain", "half", "ids", "w"]);
    assert_eq!(model.load_tensor("w", &[2, 1]).unwrap(), [1.0, -2.5]);
    assert_eq!(model.load_tensor("half", &[2]).unwrap(), [1.0, 5.960_464_5e-8]);
    assert_eq!(model.load_tensor("brain", &[]).unwrap(), [-1.0]);
    let message = |result: Result<Vec<f32>, BaseError>| result.unwrap_err().to_string();
    assert_eq!(
        message(model.load_tensor("ids", &[1])),
        "`model.safetensors`: tensor `ids` is stored as I16, which is not supported"
    );
    assert_eq!(
        message(model.load_tensor("w", &[1, 2])),
        "`model.safetensors`: tensor `w` has shape [2, 1], expected [1, 2]"
    );
    assert_eq!(message(model.load_tensor("v", &[1])), "no file of the model holds tensor `v`");
    let expected = tensor_root([
        ("w", "F32", &[2, 1][..], &DATA[..8]),
        ("half", "F16", &[2][..], &DATA[8..12]),
        ("brain", "BF16", &[][..], &DATA[12..14]),
        ("ids", "I16", &[1][..], &DATA[14..]),
    ]);
    assert_eq!(model.tensor_root().unwrap(), expected);
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    for bits in [0x7f80_0000_u32, 0xff80_0000, 0x7fc0_0000] {
        let mut data = DATA;
        data[4..8].copy_from_slice(&bits.to_le_bytes());
        let model = open(&safetensors_bytes(HEADER, &data)).unwrap();
        let found = model.load_tensor("w", &[2, 1]).unwrap_err().to_string();
        assert_eq!(found, "`model.safetensors`: value 1 of tensor `w` is not finite");
    }
}

#[test]
fn the_root_ignores_how_the_header_is_written() {
    let reordered = r#"  {"brain" :{"shape":[],"dtype":"BF16","data_offsets":[0,2]},
        "ids":{"dtype":"I16","shape":[1],"data_offsets":[2,4]},
        "half":{"dtype":"F16","shape":[2],"data_offsets":[4,8]},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}} "#;
    let data = [&DATA[12..], &DATA[8..12], &DATA[..8]].concat();
    let other = open(&safetensors_bytes(reordered, &data)).unwrap();
    let model = open(&safetensors_bytes(HEADER, &DATA)).unwrap();
    assert_eq!(other.tensor_root().unwrap(), model.tensor_root().unwrap());
}

#[test]
fn written_files_are_read_back() {
    let values = ramp(300_000);
    let tensors = BTreeMap::from([("w".to_owned(), (vec![300, 1000], values.as_slice()))]);
    let model = open(&write_safetensors(&tensors, &BTreeMap::new()).unwrap()).unwrap();
    assert_eq!(model.load_tensor("w", &[300, 1000]).unwrap(), values);
}

#[test]
fn a_file_by_itself() {
    let values = ramp(6);
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let tensors = BTreeMap::from([(name.to_owned(), (vec![2, 3], values.as_slice()))]);
    let bytes = write_safetensors(&tensors, &BTreeMap::new()).unwrap();
    let kept = Files::of(&[("adapter_model.safetensors", &bytes)]);
    let file = SafetensorsFile::open("adapter_model.safetensors", &kept.names["adapter_model.safetensors"]).unwrap();
    assert_eq!(file.tensor_names().collect::<Vec<_>>(), [name]);
    assert_eq!(file.tensor_shape(name), Some(&[2, 3][..]));
    assert_eq!(file.load_tensor(name, &[2, 3]).unwrap(), values);
    assert_eq!(file.tensor_root().unwrap(), tensor_root([(name, "F32", &[2, 3][..], f32_bytes(&values).as_slice())]));
}

#[test]
fn headers_that_lie_are_refused() {
    let message = |header: &str, data: &[u8]| open(&safetensors_bytes(header, data)).unwrap_err().to_string();
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let wrong_size = [
        one("F32", "[3]", "[0,8]"),
        one("F32", "[2]", "[8,0]"),
        one("F32", "[4611686018427387904,4]", "[0,0]"),
        one("F32", "[18446744073709551615,18446744073709551615]", "[0,8]"),
        one("F4", "[1]", "[0,0]"),
    ];
    for header in wrong_size {
        assert!(message(&header, &[0; 8]).contains("not what its shape needs"), "{header}");
    }
    assert_eq!(
        message(&one("F32", "[1000000]", "[0,4000000]"), &[0; 8]),
        "`model.safetensors`: tensor `w` ends at offset 4000074, the file at 82"
    );
    assert!(
        message(&one("F32", "[2]", "[18446744073709551608,18446744073709551616]"), &[0; 8]).contains("is not valid")
    );
    assert!(
        message(&one("F32", "[2]", "[18446744073709551607,18446744073709551615]"), &[0; 8]).contains("ends at offset")
    );
    assert!(message(&one("F32", "[2]", "[4,12]"), &[0; 12]).contains("belong to no tensor"));
    assert!(message(&one("F32", "[2]", "[0,8]"), &[0; 9]).contains("belong to no tensor"));
    assert!(message(&one("F128", "[2]", "[0,8]"), &[0; 8]).contains("is not valid"));
    let two = |first: &str, second: &str, at: &str| {
        format!(
            r#"{{"{first}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"{second}":{{"dtype":"F32","shape":[2],"data_offsets":{at}}}}}"#
        )
    };
    assert!(message(&two("a", "b", "[4,12]"), &[0; 12]).contains("tensors `a` and `b` overlap at offset"));
    assert!(message(&two("a", "b", "[0,8]"), &[0; 8]).contains("tensors `a` and `b` overlap at offset"));
    assert!(message(&two("a", "a", "[8,16]"), &[0; 16]).contains("is not valid"));
    assert!(message(&two("a", r"b\u0000c", "[8,16]"), &[0; 16]).contains("is not a usable tensor name"));
    for header in
        ["", "[]", "{", r#"{"w":1}"#, r#"{"__metadata__":{"a":1}}"#, r#"{"__metadata__":{},"__metadata__":{}}"#]
    {
        assert!(message(header, &[]).contains("is not valid"), "{header}");
    }
    let mut deep = "[".repeat(100_000);
    deep.insert_str(0, r#"{"w":"#);
    assert!(message(&deep, &[]).contains("is not valid"));

    let length = |length: u64| open(&[&length.to_le_bytes()[..], b"{}"].concat()).unwrap_err().to_string();
    assert_eq!(length(3), "`model.safetensors` is truncated: 3 bytes are announced at offset 8, the file has 10");
    assert_eq!(
        length(u64::MAX),
        "`model.safetensors`: the header's length is 18446744073709551615, the limit is 100000000"
    );
    assert!(open(&[0; 7]).unwrap_err().to_string().contains("is truncated"));
}

#[test]
fn truncated_and_changed_files_never_panic() {
    let original = safetensors_bytes(HEADER, &DATA);
    for length in 0..original.len() {
        assert!(open(&original[..length]).is_err(), "{length}");
    }
    let mut files = folder(&original);
    for at in 0..original.len() - DATA.len() {
        for change in [0x01, 0x10, 0xff] {
            let mut bytes = original.clone();
            bytes[at] ^= change;
            files.put("model.safetensors", &bytes);
            let Ok(model) = BaseModel::open(&files.names) else { continue };
            for name in model.tensor_names() {
                let _ = model.load_tensor(name, model.tensor_shape(name).unwrap());
            }
        }
    }
}

#[test]
fn shards() {
    let a = safetensors_bytes(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &DATA[..8]);
    let b = safetensors_bytes(r#"{"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#, &DATA[8..12]);
    let files = |index: &str| {
        Files::of(&[
            ("config.json", CONFIG),
            ("tokenizer.json", b"{}"),
            ("model.safetensors.index.json", index.as_bytes()),
            ("model-1.safetensors", &a),
            ("model-2.safetensors", &b),
        ])
    };
    let right = r#"{"metadata":{"total_size":12},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    let kept = files(right);
    let model = BaseModel::open(&kept.names).unwrap();
    assert_eq!(model.load_tensor("a", &[2]).unwrap(), [1.0, -2.5]);
    assert_eq!(model.load_tensor("b", &[2]).unwrap(), [1.0, 5.960_464_5e-8]);

    let message = |index: &str| BaseModel::open(&files(index).names).unwrap_err().to_string();
    assert_eq!(message(&right.replace("model-2", "model-3")), "the model has no file `model-3.safetensors`");
    assert!(message(&right.replace("model-2", "../model-2")).contains("has no file"));
    assert!(message(&right.replace(r#""b":"#, r#""c":"#)).contains("disagree about tensor `c`"));
    assert!(message(&right.replace("-2", "-1")).contains("disagree about tensor `b`"));
    assert!(
        message(&right.replace(r#""a":"model-1.safetensors","#, r#""b":"model-1.safetensors","#))
            .contains("is not valid")
    );
    // A tensor that is stored but not listed.
    let unlisted = safetensors_bytes(&format!("{}{}", &HEADER[..HEADER.len() - 1], "}"), &DATA);
    let mut more = files(right);
    more.put("model-2.safetensors", &unlisted);
    assert!(BaseModel::open(&more.names).unwrap_err().to_string().contains("disagree about tensor"));
    assert!(message("{}").contains("is not valid"));
    let mut twice = files(right);
    twice.put("model-2.safetensors", &a);
    let found = BaseModel::open(&twice.names).unwrap_err().to_string();
    assert_eq!(found, "`model-2.safetensors`: tensor `a` is stored twice");
}

#[test]
fn folders_without_weights_and_folders_of_nothing() {
    let kept = Files::of(&[("config.json", CONFIG), ("tokenizer.json", b"{}"), ("pytorch_model.bin", b"")]);
    let model = BaseModel::open(&kept.names).unwrap();
    assert!(!model.has_weights);
    assert!(matches!(model.tensor_root(), Err(BaseError::NoWeights)));
    assert!(matches!(model.load_tensor("w", &[1]), Err(BaseError::NoWeights)));
    assert!(matches!(BaseModel::open(&BTreeMap::new()), Err(BaseError::MissingFile { .. })));
    let kept = Files::of(&[("a.gguf", b""), ("b.gguf", b"")]);
    let found = BaseModel::open(&kept.names).unwrap_err();
    assert_eq!(found.to_string(), "the model has no file `config.json`");
    assert!(found.hint().unwrap().contains("GGUF"));
    let gone = BTreeMap::from([("config.json".to_owned(), PathBuf::from("/nonexistent/config.json"))]);
    assert!(matches!(BaseModel::open(&gone), Err(BaseError::Open { .. })));
    let folder = BTreeMap::from([("config.json".to_owned(), std::env::temp_dir())]);
    assert!(matches!(BaseModel::open(&folder), Err(BaseError::Io { .. })));
}
