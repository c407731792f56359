//! Lexer: selector text → tokens, each with its place in the text.
//!
//! The language has no reserved words: `in`, `has` or `contains` are labels wherever a label may stand. So the lexer
//! looks back one token: a word operator is one only right after a label, a function is one only where a label could
//! begin and only when its parenthesis touches the word.

use super::SelectorError;

/// A longer label name is refused, as Calico refuses it.
const LABEL_MAX: usize = 512;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Label(String),
    String(String),
    Has(String),
    All,
    Global,
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
    In,
    NotIn,
    Not,
    And,
    Or,
    OpenParenthesis,
    CloseParenthesis,
    OpenBrace,
    CloseBrace,
    Comma,
    End,
}

/// The word operators, as the words they are made of.
const WORD_OPERATORS: &[(&str, &str, Token)] = &[
    ("contains", "", Token::Contains),
    ("starts", "with", Token::StartsWith),
    ("ends", "with", Token::EndsWith),
    ("not", "in", Token::NotIn),
    ("in", "", Token::In),
];

/// Cuts the text into tokens; the last one is always `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SelectorError> {
    let mut tokens = Vec::new();
    let mut rest = skip_blanks(text);
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let after_label = matches!(tokens.last(), Some((_, Token::Label(_))));
        let (token, length) = next(rest, after_label).map_err(|reason| SelectorError { at, reason })?;
        tokens.push((at, token));
        rest = skip_blanks(&rest[length..]);
    }
    tokens.push((text.len(), Token::End));
    Ok(tokens)
}

/// The token that `rest` begins with, and its length.
fn next(rest: &str, after_label: bool) -> Result<(Token, usize), String> {
    let symbols: &[(&str, Token)] = &[
        ("==", Token::Equal),
        ("!=", Token::NotEqual),
        ("!", Token::Not),
        ("&&", Token::And),
        ("||", Token::Or),
        ("(", Token::OpenParenthesis),
        (")", Token::CloseParenthesis),
        ("{", Token::OpenBrace),
        ("}", Token::CloseBrace),
        (",", Token::Comma),
    ];
    if let Some((symbol, token)) = symbols.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
        return Ok((token.clone(), symbol.len()));
    }
    match rest.as_bytes()[0] {
        quote @ (b'"' | b'\'') => string(rest, char::from(quote)),
        byte if is_label_byte(byte) && after_label => word_operator(rest).map_or_else(|| label(rest), Ok),
        byte if is_label_byte(byte) => function(rest).unwrap_or_else(|| label(rest)),
        _ => Err(format!("unexpected character {:?}", rest.chars().next().unwrap_or_default())),
    }
}

/// Everything up to the next quote of the same kind; there is no escape.
fn string(rest: &str, quote: char) -> Result<(Token, usize), String> {
    match rest[1..].find(quote) {
        Some(length) => Ok((Token::String(rest[1..=length].to_owned()), length + 2)),
        None => Err("unterminated string".to_owned()),
    }
}

fn label(rest: &str) -> Result<(Token, usize), String> {
    let length = label_length(rest);
    Ok((Token::Label(checked_label(&rest[..length])?), length))
}

fn checked_label(label: &str) -> Result<String, String> {
    if label.len() > LABEL_MAX {
        return Err(format!("label name is {} bytes long, the limit is {LABEL_MAX}", label.len()));
    }
    Ok(label.to_owned())
}

/// An operator spelled as one or two words, ending at a word's end.
fn word_operator(rest: &str) -> Option<(Token, usize)> {
    WORD_OPERATORS.iter().find_map(|(first, second, token)| {
        let after = skip_blanks_if(rest.strip_prefix(first)?, !second.is_empty()).strip_prefix(second)?;
        let ends = !after.bytes().next().is_some_and(is_label_byte);
        ends.then(|| (token.clone(), rest.len() - after.len()))
    })
}

/// `has(label)`, `all()` or `global()`; `None` when the word is not followed by its parenthesis.
fn function(rest: &str) -> Option<Result<(Token, usize), String>> {
    let close = |after: &str, token: Token, what: &str| match skip_blanks(after).strip_prefix(')') {
        Some(after) => Ok((token, rest.len() - after.len())),
        None => Err(format!("{what}() is not closed, or has something in it that does not belong there")),
    };
    if let Some(inside) = rest.strip_prefix("all(") {
        return Some(close(inside, Token::All, "all"));
    }
    if let Some(inside) = rest.strip_prefix("global(") {
        return Some(close(inside, Token::Global, "global"));
    }
    let inside = skip_blanks(rest.strip_prefix("has(")?);
    let (name, after) = inside.split_at(label_length(inside));
    if name.is_empty() {
        return Some(Err("has() needs a label name without quotes".to_owned()));
    }
    Some(checked_label(name).and_then(|name| close(after, Token::Has(name), "has")))
}

fn label_length(text: &str) -> usize {
    text.bytes().take_while(|byte| is_label_byte(*byte)).count()
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}

/// Only space and tab separate tokens; a line break is a mistake.
fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

fn skip_blanks_if(text: &str, skip: bool) -> &str {
    if skip { skip_blanks(text) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Token]) {
        let found: Vec<Token> = tokens(text).unwrap().into_iter().map(|(_, token)| token).collect();
        assert_eq!(found, expected, "{text}");
    }

    fn label(name: &str) -> Token {
        Token::Label(name.to_owned())
    }

    #[test]
    fn words_are_operators_only_after_a_label() {
        check("in in {", &[label("in"), Token::In, Token::OpenBrace, Token::End]);
        check("notin", &[label("notin"), Token::End]);
        check("a notin {", &[label("a"), Token::NotIn, Token::OpenBrace, Token::End]);
        check("a startswith", &[label("a"), Token::StartsWith, Token::End]);
        check("a inx", &[label("a"), label("inx"), Token::End]);
    }

    #[test]
    fn functions_touch_their_parenthesis() {
        check("all( )", &[Token::All, Token::End]);
        check("all ()", &[label("all"), Token::OpenParenthesis, Token::CloseParenthesis, Token::End]);
        check("has(\ta )", &[Token::Has("a".to_owned()), Token::End]);
    }

    #[test]
    fn mistakes_know_their_place() {
        assert_eq!(tokens("a == 'b' && %").unwrap_err().at, 12);
        assert_eq!(tokens("a = 'b'").unwrap_err().at, 2);
        assert_eq!(tokens("\"FOO'").unwrap_err().at, 0);
    }

    #[test]
    fn a_label_has_512_bytes_at_most() {
        for form in ["{}", "has({})"] {
            let text = |length| form.replace("{}", &"a".repeat(length));
            assert!(tokens(&text(512)).is_ok());
            assert!(tokens(&text(513)).is_err());
        }
    }
}
