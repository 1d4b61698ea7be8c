//! The device a computation runs on, as a recipe or an argument names it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where to compute. No bit of a result depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device that may compute the recipe's numerics, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
    /// The adapter of this number among those that wgpu drives.
    Wgpu(usize),
}

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no device, expected `auto`, `cpu`, `cuda`, `cuda:1`, `wgpu`, or several of a kind as in `cuda:0,cuda:1`"
)]
pub struct DeviceError(String);

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (kind, number) = text.split_once(':').unwrap_or((text, "0"));
        // Digits only: `parse` would also take a sign.
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse::<usize>().ok().filter(|_| digits);
        match (kind, number) {
            _ if text == "auto" => Ok(Self::Auto),
            _ if text == "cpu" => Ok(Self::Cpu),
            ("cuda", Some(number)) => Ok(Self::Cuda(number)),
            ("wgpu", Some(number)) => Ok(Self::Wgpu(number)),
            _ => Err(DeviceError(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Wgpu(number) => write!(f, "wgpu:{number}"),
        }
    }
}

/// The devices that share a computation: one, or several of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Devices(Vec<DeviceChoice>);

impl Devices {
    /// The devices, the first of which also does what is not shared.
    #[must_use]
    pub fn choices(&self) -> &[DeviceChoice] {
        &self.0
    }
}

impl Default for Devices {
    fn default() -> Self {
        Self(vec![DeviceChoice::Auto])
    }
}

impl FromStr for Devices {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let choices: Vec<DeviceChoice> = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
        let kind = std::mem::discriminant(&choices[0]);
        let several_of_a_kind = choices.iter().enumerate().all(|(i, choice)| {
            let numbered = matches!(choice, DeviceChoice::Cuda(_) | DeviceChoice::Wgpu(_));
            numbered && std::mem::discriminant(choice) == kind && !choices[..i].contains(choice)
        });
        if choices.len() == 1 || several_of_a_kind { Ok(Self(choices)) } else { Err(DeviceError(text.to_owned())) }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}

impl TryFrom<String> for Devices {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<Devices> for String {
    fn from(devices: Devices) -> Self {
        devices.to_string()
    }
}

impl schemars::JsonSchema for Devices {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Devices".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = "(cuda|wgpu)(:[0-9]+)?";
        schemars::json_schema!({"type": "string", "pattern": format!("^(auto|cpu|{one}(, *{one})*)$")})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
            ("wgpu:1", DeviceChoice::Wgpu(1)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for text in ["", "gpu", "cpu:0", "auto:1", "cuda:", "cuda:-1", "cuda:+1", "cuda:1:2", "CUDA"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn several_of_a_kind() {
        let two: Devices = "cuda:0, cuda:2".parse().unwrap();
        assert_eq!(two.choices(), [DeviceChoice::Cuda(0), DeviceChoice::Cuda(2)]);
        assert_eq!(two.to_string(), "cuda:0,cuda:2");
        for text in ["cuda:0,wgpu:0", "cuda,cuda:0", "cpu,cpu", "auto,cuda", "cuda:0,", ""] {
            assert!(text.parse::<Devices>().is_err(), "{text}");
        }
    }
}
