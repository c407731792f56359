//! The little protobuf there is: kubectl from 1.32 on sends its questions about itself in it and takes JSON back. Pure.
//!
//! It reads the Kubernetes envelope and the fields of a self subject review, and skips the rest. Nothing else is ever
//! read from protobuf, and nothing is written in it.

use serde_json::{Map, Value, json};

/// What every Kubernetes message in protobuf begins with.
const MAGIC: &[u8] = b"k8s\0";

/// The bytes are not such a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a Kubernetes protobuf message")]
pub(crate) struct Malformed;

/// One field of a message that has a length; numbers are skipped, for no field we read is one.
struct Field<'b> {
    number: u64,
    bytes: &'b [u8],
}

/// A self subject access or rules review, as its JSON form.
pub(crate) fn review(body: &[u8]) -> Result<Value, Malformed> {
    let envelope = fields(body.strip_prefix(MAGIC).ok_or(Malformed)?)?;
    let raw = last(&envelope, 2).unwrap_or(&[]);
    let spec = fields(last(&fields(raw)?, 2).unwrap_or(&[]))?;
    let mut out = Map::new();
    // A rules review's spec has a string where an access review's has a message; each reader takes its own.
    if let Some(bytes) = last(&spec, 1) {
        if let Ok(attributes) =
            strings(bytes, &["namespace", "verb", "group", "version", "resource", "subresource", "name"])
        {
            out.insert("resourceAttributes".to_owned(), attributes);
        }
        if let Ok(namespace) = std::str::from_utf8(bytes) {
            out.insert("namespace".to_owned(), namespace.into());
        }
    }
    if let Some(bytes) = last(&spec, 2) {
        out.insert("nonResourceAttributes".to_owned(), strings(bytes, &["path", "verb"])?);
    }
    Ok(json!({ "spec": out }))
}

/// A message whose fields, counted from one, are strings of these names.
fn strings(bytes: &[u8], names: &[&str]) -> Result<Value, Malformed> {
    let mut out = Map::new();
    for field in fields(bytes)? {
        let name = usize::try_from(field.number).ok().and_then(|number| names.get(number.checked_sub(1)?));
        if let Some(name) = name {
            let text = std::str::from_utf8(field.bytes).map_err(|_| Malformed)?;
            out.insert((*name).to_owned(), text.into());
        }
    }
    Ok(Value::Object(out))
}

fn last<'b>(fields: &[Field<'b>], number: u64) -> Option<&'b [u8]> {
    fields.iter().rev().find(|field| field.number == number).map(|field| field.bytes)
}

fn fields(mut bytes: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let skip = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).map_err(|_| Malformed)?,
            5 => 4,
            _ => return Err(Malformed),
        };
        let (value, rest) = bytes.split_at_checked(skip).ok_or(Malformed)?;
        if tag & 7 == 2 {
            fields.push(Field { number: tag >> 3, bytes: value });
        }
        bytes = rest;
    }
    Ok(fields)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    fn message(spec: &[u8]) -> Vec<u8> {
        let raw = [field(1, b""), field(2, spec)].concat();
        let types = [field(1, b"authorization.k8s.io/v1"), field(2, b"SelfSubjectAccessReview")].concat();
        [MAGIC.to_vec(), field(1, &types), field(2, &raw)].concat()
    }

    #[test]
    fn an_access_review_is_read() {
        let attributes = [field(2, b"list"), field(3, b"projectcalico.org"), field(5, b"tiers")].concat();
        let review = review(&message(&field(1, &attributes))).unwrap();
        assert_eq!(
            review["spec"]["resourceAttributes"],
            json!({"verb": "list", "group": "projectcalico.org", "resource": "tiers"})
        );
        let path = [field(1, b"/metrics"), field(2, b"get")].concat();
        let review = self::review(&message(&field(2, &path))).unwrap();
        assert_eq!(review["spec"]["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
    }

    #[test]
    fn what_is_cut_short_is_malformed() {
        let whole = message(&field(1, &field(2, b"list")));
        assert!(review(&whole).is_ok());
        for end in 0..whole.len() {
            // A cut between two fields leaves a shorter message, which is one too; no cut may panic.
            let _ = review(&whole[..end]);
        }
        assert_eq!(review(b"{}"), Err(Malformed));
        assert_eq!(review(&[MAGIC, &[0xff; 12]].concat()), Err(Malformed));
        assert_eq!(review(&[MAGIC, &[0x12, 0x7f, 0]].concat()), Err(Malformed));
    }
}
