//! Names: of resources, labels, ports and interfaces. Each rule takes a text and says why it is wrong.

/// A name of a resource has no more bytes.
const NAME_BYTES_MAX: usize = 253;
/// A DNS label, and the name part of a label key, have no more bytes.
const LABEL_BYTES_MAX: usize = 63;
/// The kernel's limit on interface names.
const INTERFACE_BYTES_MAX: usize = 15;
/// Kubernetes' limit on port names.
const PORT_NAME_BYTES_MAX: usize = 15;

const LABEL_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

/// Dot-separated DNS labels: sets, nodes, configurations.
pub fn subdomain(text: &str) -> Result<(), String> {
    within("name", text, NAME_BYTES_MAX)?;
    if !text.split('.').all(is_dns_label) {
        return Err(format!(
            "name must consist of lower case alphanumeric characters, '-' or '.' (regex: {LABEL_REGEX}(\\.{LABEL_REGEX})*)"
        ));
    }
    Ok(())
}

/// A DNS label: tiers and namespaces.
pub fn dns_label(text: &str) -> Result<(), String> {
    within("name", text, LABEL_BYTES_MAX)?;
    if !is_dns_label(text) {
        return Err(format!(
            "name must consist of lower case alphanumeric characters or '-' (regex: {LABEL_REGEX})"
        ));
    }
    Ok(())
}

/// One DNS label, or two with a dot between, of which the first may be the tier: policies.
pub fn policy(text: &str) -> Result<(), String> {
    within("name", text, NAME_BYTES_MAX)?;
    if text.split('.').count() > 2 || !text.split('.').all(is_dns_label) {
        return Err(format!(
            "name must consist of lower case alphanumeric characters or '-', with at most one '.' (regex: \
             {LABEL_REGEX}(\\.{LABEL_REGEX})?)"
        ));
    }
    Ok(())
}

/// Letters of either case, digits, `.`, `_` and `-`, the first a letter or digit: endpoints and profiles. Wider than
/// today's Calico, as its older documents promised: `PROF` and `my_host-eth0` are names.
pub fn endpoint(text: &str) -> Result<(), String> {
    within("name", text, NAME_BYTES_MAX)?;
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if !begins || !text.bytes().all(is_qualified_byte) {
        return Err(
            "name must consist of alphanumeric characters, '-', '_' or '.', and begin with an alphanumeric \
                    character (regex: [a-zA-Z0-9][a-zA-Z0-9_.-]*)"
                .to_owned(),
        );
    }
    Ok(())
}

/// `[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?`: containers.
pub fn container(text: &str) -> Result<(), String> {
    let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    let inside = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !inside || !edge(text.chars().next()) || !edge(text.chars().next_back()) {
        return Err(
            "must consist of alphanumeric characters or '-', with an alphanumeric character at each end"
                .to_owned(),
        );
    }
    within("container id", text, NAME_BYTES_MAX)
}

/// A name the kernel can give an interface.
pub fn interface(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > INTERFACE_BYTES_MAX || !text.bytes().all(is_qualified_byte) {
        return Err(format!(
            "must be an interface name: 1 to {INTERFACE_BYTES_MAX} letters, digits, '_', '.' or '-'"
        ));
    }
    Ok(())
}

/// A port's name as Kubernetes has it.
pub fn port(text: &str) -> Result<(), String> {
    let legal = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let letter = text.bytes().any(|byte| byte.is_ascii_lowercase());
    let dashes = text.starts_with('-') || text.ends_with('-') || text.contains("--");
    if text.len() > PORT_NAME_BYTES_MAX || !legal || !letter || dashes {
        return Err(format!(
            "must be a port name: 1 to {PORT_NAME_BYTES_MAX} lower case letters, digits or '-', at least one letter, no \
             '-' at an end or next to another"
        ));
    }
    Ok(())
}

/// A label's key: an optional prefix, which is a subdomain, and a name.
pub fn label_key(text: &str) -> Result<(), String> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            subdomain(prefix).map_err(|reason| format!("prefix of the key: {reason}"))?;
            name
        }
        None => text,
    };
    if name.is_empty() {
        return Err("a label key needs a name".to_owned());
    }
    qualified("name part of the key", name)
}

/// A label's value.
pub fn label_value(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { qualified("value", text) }
}

/// Up to 63 letters, digits, `_`, `.` and `-`, with a letter or digit at each end.
fn qualified(what: &str, text: &str) -> Result<(), String> {
    within(what, text, LABEL_BYTES_MAX)?;
    let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    if !text.bytes().all(is_qualified_byte) || !edge(text.chars().next()) || !edge(text.chars().next_back()) {
        return Err(format!(
            "{what} must consist of alphanumeric characters, '-', '_' or '.', with an alphanumeric character at each end"
        ));
    }
    Ok(())
}

fn within(what: &str, text: &str, limit: usize) -> Result<(), String> {
    match text.len().checked_sub(limit) {
        Some(excess @ 1..) => Err(format!("{what} is too long by {excess} bytes, the limit is {limit}")),
        _ => Ok(()),
    }
}

fn is_dns_label(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(legal) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_qualified_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule, what it takes, and what it does not.
    type Row<'a> = (fn(&str) -> Result<(), String>, &'a [&'a str], &'a [&'a str]);

    #[test]
    fn rules_take_what_they_say() {
        let long = "a".repeat(64);
        let rows: &[Row<'_>] = &[
            (subdomain, &["a", "a.b.c", "0-9"], &["", "A", "a_b", "-a", "a-", "a..b", ".a", "a."]),
            (dns_label, &["a", "a-b", &long[..63]], &["", "a.b", "A", &long]),
            (
                policy,
                &["a", "a.b", "allow-ssh", "default.web"],
                &["", "a.b.c", "A", "a_b", "-a", "a-", "a..b"],
            ),
            (
                endpoint,
                &["PROF", "WEB", "my_host-eth0", "some.name", "a-", "9"],
                &["", "-a", ".", "..", "a/b", "a b", "é"],
            ),
            (container, &["0d01b3", "A-b"], &["", "-a", "a_", "a.b"]),
            (interface, &["eth0", "br-lan.10", "wg_0"], &["", "eth*", "eth 0", "a/b", "abcdefghijklmnop"]),
            (
                port,
                &["http", "http-2", "0a"],
                &["", "!", "80", "-a", "a-", "a--b", "HTTP", "abcdefghijklmnop"],
            ),
            (
                label_key,
                &["a", "A.b_c", "x.y/Z", &long[..63]],
                &["", "/a", "X/a", "a/", "a/b/c", "-a", "a b", &long],
            ),
            (label_value, &["", "a", "A.b_c", &long[..63]], &["-a", "a-", "a b", &long]),
        ];
        for (rule, good, bad) in rows {
            for text in *good {
                assert_eq!(rule(text), Ok(()), "{text:?}");
            }
            for text in *bad {
                assert!(rule(text).is_err(), "{text:?}");
            }
        }
    }

    #[test]
    fn length_is_told_by_its_excess() {
        assert_eq!(
            subdomain(&"a".repeat(256)),
            Err("name is too long by 3 bytes, the limit is 253".to_owned())
        );
    }
}
