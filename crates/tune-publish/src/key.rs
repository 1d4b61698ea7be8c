//! ECDSA keys on the curve P-256: what model signatures and attestations are made with.

use std::path::Path;

use p256::SecretKey;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::elliptic_curve::rand_core::OsRng;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use tune_schema::Digest;

use crate::PublishError;

/// Largest file that is read as a key.
const KEY_LIMIT: u64 = 64 << 10;

/// A private key.
pub struct PrivateKey(SigningKey);

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey of {}", self.public().hint())
    }
}

impl PrivateKey {
    /// A new key from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(SecretKey::random(&mut OsRng).into())
    }

    /// Reads a private key in PEM, as PKCS #8 or as SEC 1 (`BEGIN EC PRIVATE KEY`).
    ///
    /// # Errors
    /// A file that cannot be read or holds no such key.
    pub fn read(path: &Path) -> Result<Self, PublishError> {
        let text = read_text(path)?;
        let key = SecretKey::from_pkcs8_pem(&text).map_err(|error| error.to_string());
        let key = key.or_else(|problem| SecretKey::from_sec1_pem(&text).map_err(|_| problem));
        key.map(|key| Self(key.into())).map_err(|problem| PublishError::Key { path: path.to_owned(), problem })
    }

    /// Writes the key as PKCS #8 in PEM to a new file that only its owner may read, and its public key beside it as
    /// `PATH.pub`.
    ///
    /// # Errors
    /// A file that is there already, or cannot be written.
    ///
    /// # Panics
    /// Never: a key has a PEM form.
    pub fn write_new(&self, path: &Path) -> Result<(), PublishError> {
        let public = public_path(path);
        if let Some(taken) = [path, &public].into_iter().find(|path| tune_fs::exists(path)) {
            return Err(PublishError::Exists(taken.to_owned()));
        }
        let text = self.0.to_pkcs8_pem(LineEnding::LF).expect("a P-256 key has a PEM form");
        tune_fs::write_secret(path, text.as_bytes())?;
        tune_fs::write_atomic(&public, self.public().to_pem().as_bytes())?;
        Ok(())
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// Signature over SHA-256 of the bytes, ASN.1 DER. The nonce follows from key and bytes (RFC 6979), so the same bytes
    /// have the same signature.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.0.sign(bytes);
        signature.as_bytes().to_vec()
    }
}

/// Where the public key of a private key's file lies.
#[must_use]
pub fn public_path(private: &Path) -> std::path::PathBuf {
    let mut name = private.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

impl PublicKey {
    /// Reads a public key in PEM (SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// A file that cannot be read or holds no such key.
    pub fn read(path: &Path) -> Result<Self, PublishError> {
        let key = VerifyingKey::from_public_key_pem(&read_text(path)?);
        key.map(Self).map_err(|error| PublishError::Key { path: path.to_owned(), problem: error.to_string() })
    }

    /// Reads a public key from the text of such a file.
    #[must_use]
    pub fn from_pem(text: &str) -> Option<Self> {
        VerifyingKey::from_public_key_pem(text).ok().map(Self)
    }

    /// The key in PEM: 64 columns, line feeds, one at the end.
    ///
    /// # Panics
    /// Never: a key has a PEM form.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("a P-256 key has a PEM form")
    }

    /// SHA-256 of [`Self::to_pem`] in hexadecimal digits: how signatures name the key.
    #[must_use]
    pub fn hint(&self) -> String {
        Digest::of(self.to_pem().as_bytes()).hex()
    }

    /// Whether `signature`, ASN.1 DER, is this key's over the bytes.
    #[must_use]
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        DerSignature::try_from(signature).is_ok_and(|signature| self.0.verify(bytes, &signature).is_ok())
    }
}

fn read_text(path: &Path) -> Result<String, PublishError> {
    let bytes = tune_fs::read_limited(path, KEY_LIMIT)?;
    String::from_utf8(bytes).map_err(|error| PublishError::Key { path: path.to_owned(), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_files_and_others_do_not_verify() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = PrivateKey::generate();
        key.write_new(&path).unwrap();
        assert!(matches!(key.write_new(&path), Err(PublishError::Exists(_))));
        let (read, public) = (PrivateKey::read(&path).unwrap(), PublicKey::read(&public_path(&path)).unwrap());
        let signature = read.sign(b"bytes");
        assert_eq!(signature, key.sign(b"bytes"));
        assert!(public.verifies(b"bytes", &signature));
        assert!(!public.verifies(b"other", &signature));
        assert!(!PrivateKey::generate().public().verifies(b"bytes", &signature));
        assert!(!public.verifies(b"bytes", &signature[1..]));
        assert!(matches!(PublicKey::read(&path), Err(PublishError::Key { .. })));
        assert!(!format!("{key:?}").contains("PRIVATE"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
