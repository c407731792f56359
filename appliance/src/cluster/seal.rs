//! Seal: the one key that opens what the cluster keeps closed in its store.
//!
//! The authority's private key is replicated, written to snapshots and sent over the network; sealed, it is worth
//! nothing to whoever reads any of those. The sealing key is 32 random bytes that lie on every member's own disk
//! (`pki/seal.key`, 0600) and travel once, to a joiner, over a connection the joiner has pinned. It refuses to print
//! itself, and to open what was sealed for another purpose. [`super::keys`] loads it; [`super::ca`] and
//! [`super::issuer`] use it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// As ChaCha20-Poly1305 has it.
const KEY_BYTES: usize = 32;

/// Opens and closes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealKey([u8; KEY_BYTES]);

/// Keys are never printed.
impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// The host gave no random bytes.
    #[error("the host gives no randomness")]
    NoRandomness,
    /// Not what this key sealed for this purpose, or changed since.
    #[error("was sealed with another key, for another purpose, or has been changed")]
    NotOurs,
    /// The text is no sealing key.
    #[error("is no sealing key: {KEY_BYTES} bytes in base64 are")]
    NoKey,
}

impl SealKey {
    /// A new one.
    pub(crate) fn generate() -> Result<SealKey, SealError> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| SealError::NoRandomness)?;
        Ok(SealKey(bytes))
    }

    /// The key as its file and the answer to a join carry it.
    pub(crate) fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The key of such a text.
    pub(crate) fn from_base64(text: &str) -> Result<SealKey, SealError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SealError::NoKey)?;
        Ok(SealKey(bytes.try_into().map_err(|_| SealError::NoKey)?))
    }

    /// Closes `plain`; `purpose` must be the same to open it, and is not hidden. The nonce is random and goes first:
    /// a cluster seals a handful of times in its life, so 96 bits never meet again.
    pub(crate) fn seal(&self, purpose: &[u8], plain: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut closed = plain.to_vec();
        self.key()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose), &mut closed)
            .map_err(|_| SealError::NotOurs)?;
        Ok(STANDARD.encode([&nonce[..], &closed].concat()))
    }

    /// What was closed for this purpose.
    pub(crate) fn open(&self, purpose: &[u8], sealed: &str) -> Result<Vec<u8>, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::NotOurs)?;
        let (nonce, closed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(SealError::NotOurs)?;
        let mut closed = closed.to_vec();
        let plain = self
            .key()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose), &mut closed)
            .map_err(|_| SealError::NotOurs)?;
        Ok(plain.to_vec())
    }

    fn key(&self) -> Result<LessSafeKey, SealError> {
        Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &self.0).map_err(|_| SealError::NoKey)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SealKey {
        SealKey::generate().expect("randomness")
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_purpose_only() {
        let (one, other) = (key(), key());
        let sealed = one.seal(b"ca", b"the private key").expect("sealed");

        assert!(!sealed.contains("private"));
        assert_eq!(one.open(b"ca", &sealed).as_deref(), Ok(&b"the private key"[..]));
        assert_eq!(other.open(b"ca", &sealed), Err(SealError::NotOurs));
        assert_eq!(one.open(b"cb", &sealed), Err(SealError::NotOurs));
        assert_ne!(one.seal(b"ca", b"the private key").expect("sealed"), sealed, "never the same twice");
    }

    #[test]
    fn whatever_was_changed_or_cut_does_not_open() {
        let key = key();
        let sealed = STANDARD.decode(key.seal(b"p", b"text").expect("sealed")).expect("base64");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(b"p", &STANDARD.encode(&changed)), Err(SealError::NotOurs), "byte {at}");
            assert_eq!(key.open(b"p", &STANDARD.encode(&sealed[..at])), Err(SealError::NotOurs));
        }
        assert_eq!(key.open(b"p", "no base64!"), Err(SealError::NotOurs));
    }

    #[test]
    fn a_key_survives_its_file_and_is_never_printed() {
        let key = key();
        assert_eq!(SealKey::from_base64(&format!("{}\n", key.to_base64())).as_ref(), Ok(&key));
        assert_eq!(format!("{key:?}"), "SealKey(…)");
        for odd in ["", "c2hvcnQ=", "!"] {
            assert_eq!(SealKey::from_base64(odd), Err(SealError::NoKey), "{odd}");
        }
    }
}
