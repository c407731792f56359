//! Token: the words that let a node join or a client in, and the check of them against their records. Pure.
//!
//! Both kinds are a public id that finds the record and a secret that proves the right. Only the SHA-256 of a secret
//! is stored: it is 128 random bits, not a password, so there is no dictionary to slow anybody down for, and a salt
//! would guard nothing. A join token also pins the authority's key, so that a joiner knows whom it talks to before it
//! shows the secret. Nothing here prints a secret except [`fmt::Display`], which is what an operator is handed.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::records::{CredentialRecord, TokenRecord};
use crate::api::caller::Role;

/// What a join token begins with: its kind and version.
const JOIN_PREFIX: &str = "at1";

/// What a bearer token begins with.
const BEARER_PREFIX: &str = "ab1";

/// Bytes of an id: enough that two never meet among the thousand a cluster keeps.
const ID_BYTES: usize = 5;

/// Bytes of a secret: 128 bits can not be guessed.
const SECRET_BYTES: usize = 16;

/// Bytes of a SHA-256.
const PIN_BYTES: usize = 32;

/// What only the holder knows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret([u8; SECRET_BYTES]);

/// Secrets are never printed by accident.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// SHA-256 in hexadecimal, as records keep it.
    pub(crate) fn hash(&self) -> String {
        hex(&Sha256::digest(self.0))
    }

    /// Whether this is the secret of that hash; takes as long whatever is wrong.
    fn fits(&self, hash: &str) -> bool {
        let ours = self.hash();
        let differs = ours.bytes().zip(hash.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        std::hint::black_box(differs) == 0 && ours.len() == hash.len()
    }
}

/// The host gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the host gives no randomness")]
pub(crate) struct NoRandomness;

/// Text that is no token. Does not repeat the text: most of it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no {0}")]
pub(crate) struct NotAToken(&'static str);

/// Lets a node into a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinToken {
    /// Finds the record.
    pub(crate) id: String,
    /// Proves the right.
    pub(crate) secret: Secret,
    /// SHA-256 of the authority's SubjectPublicKeyInfo, in hexadecimal.
    pub(crate) pin: String,
}

impl JoinToken {
    /// A new one, for a cluster whose authority has this pin.
    pub(crate) fn generate(pin: String) -> Result<JoinToken, NoRandomness> {
        let (id, secret) = generate()?;
        Ok(JoinToken { id, secret, pin })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{JOIN_PREFIX}.{}.{}.{}", self.id, hex(&self.secret.0), self.pin)
    }
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<JoinToken, NotAToken> {
        let read = || {
            let mut parts = text.split('.');
            (parts.next()? == JOIN_PREFIX).then_some(())?;
            let id = unhex::<ID_BYTES>(parts.next()?)?;
            let secret = Secret(unhex(parts.next()?)?);
            let pin = hex(&unhex::<PIN_BYTES>(parts.next()?)?);
            parts.next().is_none().then(|| JoinToken { id: hex(&id), secret, pin })
        };
        read().ok_or(NotAToken("join token: \"appliance ctl token create\" prints one"))
    }
}

/// Lets a client in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BearerToken {
    /// Finds the record.
    pub(crate) id: String,
    /// Proves the right.
    pub(crate) secret: Secret,
}

impl BearerToken {
    /// A new one.
    pub(crate) fn generate() -> Result<BearerToken, NoRandomness> {
        let (id, secret) = generate()?;
        Ok(BearerToken { id, secret })
    }
}

impl fmt::Display for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEARER_PREFIX}.{}.{}", self.id, hex(&self.secret.0))
    }
}

impl FromStr for BearerToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<BearerToken, NotAToken> {
        let read = || {
            let mut parts = text.split('.');
            (parts.next()? == BEARER_PREFIX).then_some(())?;
            let id = unhex::<ID_BYTES>(parts.next()?)?;
            let secret = Secret(unhex(parts.next()?)?);
            parts.next().is_none().then(|| BearerToken { id: hex(&id), secret })
        };
        read().ok_or(NotAToken("bearer token of this cluster"))
    }
}

/// Why a token lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    /// No such token, revoked or never made, or its secret is another. Which of them is nobody's business.
    #[error("the token is not valid: it is mistyped, was revoked, or is of another cluster")]
    Wrong,
    /// It was good once.
    #[error("the token expired at {at}; make another with \"appliance ctl token create\"")]
    Expired {
        /// When.
        at: OffsetDateTime,
    },
    /// As many nodes joined with it as were meant to.
    #[error(
        "the token is used up, by {}; make another with \"appliance ctl token create\"",
        by.join(", ")
    )]
    UsedUp {
        /// Who used it.
        by: Vec<String>,
    },
}

impl TokenRecord {
    /// Whether a node that shows `secret` may join now. The join counts the use in the transaction that adds the
    /// member, comparing this record, so two can not take the last use.
    pub(crate) fn check(&self, now: OffsetDateTime, secret: &Secret) -> Result<(), TokenRefusal> {
        check_secret(secret, &self.hash, self.expires, now)?;
        match self.uses_left {
            Some(0) => Err(TokenRefusal::UsedUp { by: self.used_by.clone() }),
            _ => Ok(()),
        }
    }
}

impl CredentialRecord {
    /// What the client that shows `secret` is allowed to be.
    pub(crate) fn check(&self, now: OffsetDateTime, secret: &Secret) -> Result<Role, TokenRefusal> {
        check_secret(secret, &self.hash, self.expires, now)?;
        // A role of a newer version is none here.
        client_role(&self.role).ok_or(TokenRefusal::Wrong)
    }
}

/// The secret first: whoever does not know it learns nothing.
fn check_secret(
    secret: &Secret,
    hash: &str,
    expires: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<(), TokenRefusal> {
    match (secret.fits(hash), now < expires) {
        (false, _) => Err(TokenRefusal::Wrong),
        (true, false) => Err(TokenRefusal::Expired { at: expires }),
        (true, true) => Ok(()),
    }
}

/// The role of a client, by the name that requests and records use. Nodes get theirs by joining.
pub(crate) fn client_role(name: &str) -> Option<Role> {
    match name {
        "admin" => Some(Role::Admin),
        "operator" => Some(Role::Operator),
        "viewer" => Some(Role::Viewer),
        _ => None,
    }
}

fn generate() -> Result<(String, Secret), NoRandomness> {
    let mut bytes = [0; ID_BYTES + SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    let mut secret = [0; SECRET_BYTES];
    secret.copy_from_slice(&bytes[ID_BYTES..]);
    Ok((hex(&bytes[..ID_BYTES]), Secret(secret)))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of exactly so many hexadecimal digits.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::cluster::records::Other;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

    fn join_token() -> JoinToken {
        JoinToken::generate("ab".repeat(32)).expect("randomness")
    }

    fn record(token: &JoinToken, uses_left: Option<u32>) -> TokenRecord {
        TokenRecord {
            id: token.id.clone(),
            hash: token.secret.hash(),
            role: "node".to_owned(),
            created: NOW,
            expires: NOW + Duration::hours(1),
            uses_left,
            used_by: vec!["n2".to_owned()],
            created_by: "admin".to_owned(),
            description: String::new(),
            other: Other::new(),
        }
    }

    #[test]
    fn tokens_are_read_as_they_are_printed() {
        let join = join_token();
        let text = join.to_string();
        assert_eq!((text.len(), text.split('.').count()), (3 + 1 + 10 + 1 + 32 + 1 + 64, 4));
        assert_eq!(text.parse(), Ok(join));
        let bearer = BearerToken::generate().expect("randomness");
        assert_eq!(bearer.to_string().parse(), Ok(bearer));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        let good = join_token().to_string();
        let mixed = good.replace("at1.", "ab1.");
        let long = format!("{good}.x");
        for odd in ["", "at1", &good[..good.len() - 1], &mixed, &long, "at1.é.é.é", "at1....."] {
            let said = odd.parse::<JoinToken>().expect_err(odd).to_string();
            assert!(said.contains("is no join token") && !said.contains(&good[4..14]), "{said}");
        }
        BearerToken::from_str(&good).expect_err("a join token opens no door of the API");
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        let token = join_token();
        let secret = hex(&token.secret.0);
        assert!(token.to_string().contains(&secret));
        assert!(!format!("{token:?}").contains(&secret));
    }

    #[test]
    fn a_join_token_counts_until_its_end_and_its_last_use() {
        let token = join_token();
        let (ok, wrong) = (record(&token, None), join_token().secret);
        assert_eq!(ok.check(NOW, &token.secret), Ok(()));
        assert_eq!(record(&token, Some(1)).check(NOW, &token.secret), Ok(()));
        assert_eq!(ok.check(NOW, &wrong), Err(TokenRefusal::Wrong));
        let end = NOW + Duration::hours(1);
        assert_eq!(ok.check(end, &token.secret), Err(TokenRefusal::Expired { at: end }));
        assert_eq!(ok.check(end, &wrong), Err(TokenRefusal::Wrong), "whoever guesses learns nothing");
        let used = record(&token, Some(0)).check(NOW, &token.secret);
        assert_eq!(used, Err(TokenRefusal::UsedUp { by: vec!["n2".to_owned()] }));
        let damaged = TokenRecord { hash: String::new(), ..ok };
        assert_eq!(damaged.check(NOW, &token.secret), Err(TokenRefusal::Wrong));
    }

    #[test]
    fn a_credential_is_what_its_record_says_and_an_unknown_role_is_nothing() {
        let token = BearerToken::generate().expect("randomness");
        let record = |role: &str| CredentialRecord {
            id: token.id.clone(),
            hash: token.secret.hash(),
            user: "olga".to_owned(),
            role: role.to_owned(),
            created: NOW,
            expires: NOW + Duration::hours(1),
            created_by: "admin".to_owned(),
            other: Other::new(),
        };
        assert_eq!(record("operator").check(NOW, &token.secret), Ok(Role::Operator));
        assert_eq!(record("emperor").check(NOW, &token.secret), Err(TokenRefusal::Wrong));
        assert_eq!(record("node").check(NOW, &token.secret), Err(TokenRefusal::Wrong));
        let late = record("viewer").check(NOW + Duration::hours(1), &token.secret);
        assert!(matches!(late, Err(TokenRefusal::Expired { .. })));
    }
}
