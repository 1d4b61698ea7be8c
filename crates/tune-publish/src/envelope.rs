//! Signed statements: in-toto Statement v1 in a DSSE envelope (in-toto attestation framework; Dead Simple Signing Envelope 1.0).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::key::{PrivateKey, PublicKey};

/// Type of a statement's payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Type of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// A DSSE envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// The statement, base64.
    pub payload: String,
    /// [`PAYLOAD_TYPE`].
    pub payload_type: String,
    /// Signatures over the pre-authentication encoding of type and payload.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    /// ASN.1 DER, base64.
    pub sig: String,
    /// Which key: its [`PublicKey::hint`], or nothing.
    #[serde(default)]
    pub keyid: String,
}

/// Why an envelope is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Another kind of payload.
    #[error("the payload is of type `{0}`, not `{PAYLOAD_TYPE}`")]
    PayloadType(String),
    /// Not base64, or no JSON.
    #[error("the payload is no statement: {0}")]
    Payload(String),
    /// Not one signature.
    #[error("there are {0} signatures, and one is expected")]
    Signatures(usize),
    /// Not a signature of this key.
    #[error("the signature is not one of the key {hint}")]
    Signature {
        /// The key.
        hint: String,
    },
}

/// An in-toto statement.
#[must_use]
pub fn statement(subject: Value, predicate_type: &str, predicate: Value) -> Value {
    json!({"_type": STATEMENT_TYPE, "subject": subject, "predicateType": predicate_type, "predicate": predicate})
}

/// What is signed: `DSSEv1`, then length and bytes of type and payload.
fn authenticated(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs a statement's bytes. `keyid` names the key, or is empty.
    #[must_use]
    pub fn sign(payload: &[u8], key: &PrivateKey, keyid: String) -> Self {
        let signature = key.sign(&authenticated(PAYLOAD_TYPE, payload));
        Self {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![EnvelopeSignature { sig: STANDARD.encode(signature), keyid }],
        }
    }

    /// The statement, where the one signature is `key`'s.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn open(&self, key: &PublicKey) -> Result<Value, EnvelopeError> {
        let [signature] = self.signatures.as_slice() else {
            return Err(EnvelopeError::Signatures(self.signatures.len()));
        };
        let payload = self.payload_bytes()?;
        let bytes = STANDARD.decode(&signature.sig).unwrap_or_default();
        if !key.verifies(&authenticated(&self.payload_type, &payload), &bytes) {
            return Err(EnvelopeError::Signature { hint: key.hint() });
        }
        self.statement()
    }

    /// The statement, whoever signed it.
    ///
    /// # Errors
    /// A payload of another type, or none.
    pub fn statement(&self) -> Result<Value, EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType(self.payload_type.clone()));
        }
        let problem = |error: serde_json::Error| EnvelopeError::Payload(error.to_string());
        let statement: Value = serde_json::from_slice(&self.payload_bytes()?).map_err(problem)?;
        match statement["_type"].as_str() {
            Some(STATEMENT_TYPE) => Ok(statement),
            other => Err(EnvelopeError::Payload(format!("its type is {other:?}"))),
        }
    }

    fn payload_bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        STANDARD.decode(&self.payload).map_err(|error| EnvelopeError::Payload(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signed_bytes_under_the_signing_key_open() {
        let (key, other) = (PrivateKey::generate(), PrivateKey::generate());
        let statement = statement(json!([]), "https://example.org/x", json!({"a": 1}));
        let payload = serde_json::to_vec(&statement).unwrap();
        let envelope = Envelope::sign(&payload, &key, String::new());
        assert_eq!(envelope.open(&key.public()), Ok(statement));
        assert!(matches!(envelope.open(&other.public()), Err(EnvelopeError::Signature { .. })));
        let mut changed = envelope.clone();
        changed.payload = STANDARD.encode(b"{}");
        assert!(matches!(changed.open(&key.public()), Err(EnvelopeError::Signature { .. })));
        let mut retyped = envelope.clone();
        retyped.payload_type = "text/plain".to_owned();
        assert!(retyped.open(&key.public()).is_err());
        let mut twice = envelope.clone();
        twice.signatures.push(envelope.signatures[0].clone());
        assert_eq!(twice.open(&key.public()), Err(EnvelopeError::Signatures(2)));
    }

    #[test]
    fn the_encoding_is_that_of_the_dsse_specification() {
        // The example of its protocol page.
        assert_eq!(
            authenticated("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
