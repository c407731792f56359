//! How a string is written: plain, in single quotes, in double quotes, or as a block.
//!
//! The choice is that of the tools people compare our output with (Go's YAML package): double quotes where the word
//! would be read as something else than a string, single quotes where a character would mislead the parser, plain
//! otherwise. Readers of YAML 1.1 and of 1.2 must both get the string back, so whatever either takes for something
//! else is quoted.

/// How a string is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    /// A literal block; for text of several lines.
    Block,
}

pub(super) fn style(text: &str) -> Style {
    if text.chars().any(needs_escape) {
        return Style::Double;
    }
    if text.contains('\n') {
        return if is_clean_block(text) { Style::Block } else { Style::Double };
    }
    if reads_as_something_else(text) {
        return Style::Double;
    }
    if misleads(text) { Style::Single } else { Style::Plain }
}

/// Characters that only double quotes can carry.
fn needs_escape(letter: char) -> bool {
    let line_break = matches!(letter, '\u{85}' | '\u{2028}' | '\u{2029}');
    (letter.is_control() && letter != '\n') || line_break || letter == '\u{feff}'
}

/// A block keeps its text only when no line could be taken for indentation or lose blanks at its end.
fn is_clean_block(text: &str) -> bool {
    !text.starts_with([' ', '\n']) && !text.ends_with("\n\n") && !text.lines().any(|line| line.ends_with(' '))
}

fn reads_as_something_else(text: &str) -> bool {
    const WORDS: &[&str] =
        &["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", "=", ".inf", ".nan"];
    let bare = text.trim_start_matches(['+', '-']);
    WORDS.contains(&text.to_ascii_lowercase().as_str())
        || bare.eq_ignore_ascii_case(".inf")
        || is_number(bare)
        || is_timestamp(text)
}

/// Every spelling of a number in either YAML: decimal, hexadecimal, octal, binary, with underscores, base sixty.
fn is_number(text: &str) -> bool {
    let digits = text.replace('_', "");
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)] {
        if let Some(rest) = digits.strip_prefix(prefix) {
            return !rest.is_empty() && rest.chars().all(|digit| digit.is_digit(radix));
        }
    }
    let begins = digits.trim_start_matches('.').starts_with(|first: char| first.is_ascii_digit());
    let sixty = digits.contains(':')
        && digits.chars().all(|letter| letter.is_ascii_digit() || matches!(letter, ':' | '.'));
    begins && (sixty || digits.parse::<f64>().is_ok())
}

/// `2026-01-02`, with or without a time.
fn is_timestamp(text: &str) -> bool {
    let date: Vec<&str> = text.splitn(3, '-').collect();
    let [year, month, rest] = date.as_slice() else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let day = rest.split(['T', 't', ' ']).next().unwrap_or_default();
    year.len() == 4 && digits(year) && digits(month) && month.len() <= 2 && digits(day) && day.len() <= 2
}

/// Whether plain text would be taken for YAML's own signs.
fn misleads(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters.next().unwrap_or_default();
    let second = letters.next();
    let indicator = match first {
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
            true
        }
        '-' | '?' | ':' => second.is_none_or(|second| second == ' '),
        _ => false,
    };
    indicator
        || text.starts_with([' '])
        || text.ends_with([' ', ':'])
        || text.starts_with("---")
        || text.starts_with("...")
        || text.contains(": ")
        || text.contains(" #")
}

/// The text in double quotes, with escapes that JSON has too.
pub(super) fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            letter if needs_escape(letter) => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_written_as_people_expect() {
        for (text, expected) in [
            ("role == 'web'", Style::Plain),
            ("all()", Style::Plain),
            ("10.0.0.1", Style::Plain),
            ("10.0.0.0/8", Style::Plain),
            ("fd00::1", Style::Plain),
            ("::1", Style::Plain),
            ("80:90", Style::Double),
            ("a:b", Style::Plain),
            ("*", Style::Single),
            ("fd00::", Style::Single),
            ("a: b", Style::Single),
            ("a #b", Style::Single),
            ("- a", Style::Single),
            ("!has(a)", Style::Single),
            ("'x'", Style::Single),
            ("42", Style::Double),
            ("-1.5", Style::Double),
            ("1e3", Style::Double),
            ("1_000", Style::Double),
            ("0x1f", Style::Double),
            ("", Style::Double),
            ("yes", Style::Double),
            ("Null", Style::Double),
            ("2026-01-01T00:00:00Z", Style::Double),
            ("2026-01-01", Style::Double),
            ("a\tb", Style::Double),
            ("a\nb\n", Style::Block),
            ("a \nb", Style::Double),
            ("5f0c7f7e-1111-4222-8333-444455556666", Style::Plain),
        ] {
            assert_eq!(style(text), expected, "{text:?}");
        }
    }
}
