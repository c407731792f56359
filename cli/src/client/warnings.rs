//! What a node warns of in the headers of an answer (RFC 9111's predecessor, section 5.5, as Kubernetes uses it). Pure.

use http::HeaderMap;
use http::header::WARNING;

/// The texts of the `Warning` headers: `299 - "unknown field \"spec.x\""` says unknown field "spec.x".
pub(super) fn of(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    let texts = headers.get_all(WARNING).iter();
    texts.filter_map(|value| text(&String::from_utf8_lossy(value.as_bytes())))
}

fn text(value: &str) -> Option<String> {
    let quoted = value.splitn(3, ' ').nth(2)?.trim().strip_prefix('"')?;
    let (mut text, mut characters) = (String::new(), quoted.chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(text),
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quoted_text_is_what_is_said() {
        assert_eq!(
            text(r#"299 - "unknown field \"spec.\\x\"""#),
            Some(r#"unknown field "spec.\x""#.to_string())
        );
        assert_eq!(text(r#"299 - "a" "Wed, 21 Oct 2015 07:28:00 GMT""#), Some("a".to_string()));
        for wrong in ["", "299", "299 - x", r#"299 - "open"#, r#"299 - "open\"#] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
    }
}
