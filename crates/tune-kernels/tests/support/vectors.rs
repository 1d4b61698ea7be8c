//! Reads `docs/numerics-vectors.json` and compares results with it. Included by the tests of more than one crate.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

const FILE: &str = include_str!("../../../../docs/numerics-vectors.json");

/// One operation with its inputs and the outputs it must have.
pub(crate) struct Case {
    /// Place in the file, from 0.
    number: usize,
    /// Which operation.
    pub(crate) operation: String,
    inputs: Value,
    /// Bit patterns by name, as hexadecimal digits.
    pub(crate) outputs: BTreeMap<String, Vec<String>>,
}

/// Computed outputs, in the form of [`Case::outputs`].
pub(crate) type Results = Vec<(&'static str, Vec<String>)>;

/// Every case of the file.
pub(crate) fn cases() -> Vec<Case> {
    let file: Value = serde_json::from_str(FILE).expect("the vectors are JSON");
    assert_eq!(file["profile"], "exact-f32/1");
    let cases = file["cases"].as_array().expect("a list of cases").iter().enumerate();
    cases
        .map(|(number, case)| Case {
            number,
            operation: case["operation"].as_str().expect("an operation").to_owned(),
            inputs: case["inputs"].clone(),
            outputs: serde_json::from_value(case["outputs"].clone()).expect("lists of bit patterns"),
        })
        .collect()
}

fn patterns(value: &Value) -> Vec<u64> {
    let texts = value.as_array().expect("a list of bit patterns").iter();
    texts.map(|text| u64::from_str_radix(text.as_str().expect("text"), 16).expect("hexadecimal digits")).collect()
}

/// The f32 of a list of bit patterns.
pub(crate) fn f32s(value: &Value) -> Vec<f32> {
    patterns(value).into_iter().map(|bits| f32::from_bits(bits as u32)).collect()
}

fn range(value: &Value) -> Range<usize> {
    let [start, end] = [0, 1].map(|i| value[i].as_u64().expect("a bound") as usize);
    start..end
}

impl Case {
    /// The input `name` as it is written.
    pub(crate) fn value(&self, name: &str) -> &Value {
        &self.inputs[name]
    }

    /// Whether the input `name` is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.inputs[name].is_null()
    }

    pub(crate) fn f32s(&self, name: &str) -> Vec<f32> {
        f32s(self.value(name))
    }

    pub(crate) fn f32(&self, name: &str) -> f32 {
        self.f32s(name)[0]
    }

    pub(crate) fn f64s(&self, name: &str) -> Vec<f64> {
        patterns(self.value(name)).into_iter().map(f64::from_bits).collect()
    }

    pub(crate) fn f64(&self, name: &str) -> f64 {
        self.f64s(name)[0]
    }

    /// Bit patterns as words.
    pub(crate) fn words<const N: usize>(&self, name: &str) -> [u32; N] {
        let words = patterns(self.value(name)).into_iter().map(|word| word as u32);
        words.collect::<Vec<_>>().try_into().expect("as many words as the operation takes")
    }

    pub(crate) fn integer(&self, name: &str) -> u64 {
        self.value(name).as_u64().expect("an integer")
    }

    pub(crate) fn size(&self, name: &str) -> usize {
        self.integer(name) as usize
    }

    pub(crate) fn integers(&self, name: &str) -> Vec<u32> {
        self.list(name).iter().map(|value| value.as_u64().expect("an integer") as u32).collect()
    }

    pub(crate) fn range(&self, name: &str) -> Range<usize> {
        range(self.value(name))
    }

    pub(crate) fn ranges(&self, name: &str) -> Vec<Range<usize>> {
        self.list(name).iter().map(range).collect()
    }

    pub(crate) fn list(&self, name: &str) -> &[Value] {
        self.value(name).as_array().expect("a list")
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.value(name).as_str().expect("text")
    }

    /// Compares results with the outputs of the same names, and says where they differ first.
    pub(crate) fn compare(&self, results: &Results) -> Result<(), String> {
        for (name, got) in results {
            let place = format!("case {} ({}), output `{name}`", self.number, self.operation);
            let want = self.outputs.get(*name).ok_or_else(|| format!("{place}: not in the file"))?;
            if got.len() != want.len() {
                return Err(format!("{place}: {} values, the file has {}", got.len(), want.len()));
            }
            if let Some(i) = (0..got.len()).find(|i| got[*i] != want[*i]) {
                return Err(format!("{place}: value {i} is {}, the file has {}", got[i], want[i]));
            }
        }
        Ok(())
    }

    /// [`Self::compare`], and every output of the file must be among the results.
    pub(crate) fn compare_all(&self, results: &Results) -> Result<(), String> {
        for name in self.outputs.keys() {
            if !results.iter().any(|(computed, _)| computed == name) {
                return Err(format!("case {} ({}): nothing computes `{name}`", self.number, self.operation));
            }
        }
        self.compare(results)
    }

    /// Flips the lowest bit of every output, one at a time; each must show in the comparison with right results.
    pub(crate) fn every_flipped_bit_is_seen(&mut self, results: &Results) {
        for name in self.outputs.keys().cloned().collect::<Vec<_>>() {
            for i in 0..self.outputs[&name].len() {
                let right = self.outputs[&name][i].clone();
                self.set(&name, i, flipped(&right));
                let message = self.compare_all(results).expect_err("a flipped bit");
                assert!(message.contains(&format!("output `{name}`: value {i} is")), "{message}");
                self.set(&name, i, right);
            }
        }
        self.compare_all(results).expect("the bits are as they were");
    }

    fn set(&mut self, name: &str, i: usize, pattern: String) {
        self.outputs.get_mut(name).expect("an output of the case")[i] = pattern;
    }
}

/// A bit pattern with its lowest bit flipped.
fn flipped(pattern: &str) -> String {
    let bits = u64::from_str_radix(pattern, 16).expect("hexadecimal digits") ^ 1;
    format!("{bits:0width$x}", width = pattern.len())
}

/// Bit patterns of f32; the payload of a NaN is not part of the contract.
pub(crate) fn hex(values: &[f32]) -> Vec<String> {
    let bits = |x: &f32| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
    values.iter().map(|x| format!("{:08x}", bits(x))).collect()
}

pub(crate) fn hex64(values: &[f64]) -> Vec<String> {
    values.iter().map(|x| format!("{:016x}", x.to_bits())).collect()
}

pub(crate) fn hex_words(values: &[u32]) -> Vec<String> {
    values.iter().map(|word| format!("{word:08x}")).collect()
}
