//! Parser: tokens → Expr, by recursive descent over the grammar in `selector`.
//!
//! Only parentheses recurse, and they are counted: a selector from the network can not exhaust the stack.

use super::{
    SelectorError,
    expr::Expr,
    lexer::{Token, tokens},
};

/// Parentheses may nest this deep. No sensible selector comes near it; text of the API's 1,024 bytes could reach 512.
const DEPTH_MAX: usize = 200;

/// Reads a whole selector; blank text is `all()`.
pub(super) fn parse(text: &str) -> Result<Expr, SelectorError> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    if *parser.peek() == Token::End {
        return Ok(Expr::All);
    }
    let expr = parser.or()?;
    parser.expect(Token::End, "\"&&\", \"||\" or the end")?;
    Ok(expr)
}

/// Where the parser is. `tokens` ends with `End`, which is never stepped over.
struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn or(&mut self) -> Result<Expr, SelectorError> {
        let mut operands = vec![self.and()?];
        while self.take(&Token::Or) {
            operands.push(self.and()?);
        }
        Ok(group(operands, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, SelectorError> {
        let mut operands = vec![self.operation()?];
        while self.take(&Token::And) {
            operands.push(self.operation()?);
        }
        Ok(group(operands, Expr::And))
    }

    fn operation(&mut self) -> Result<Expr, SelectorError> {
        let mut negated = false;
        while self.take(&Token::Not) {
            negated = !negated;
        }
        let operand = self.primary()?;
        Ok(if negated { operand.negated() } else { operand })
    }

    fn primary(&mut self) -> Result<Expr, SelectorError> {
        match self.step() {
            (_, Token::Has(label)) => Ok(Expr::Has(label)),
            (_, Token::All) => Ok(Expr::All),
            (_, Token::Global) => Ok(Expr::Global),
            (_, Token::Label(label)) => self.comparison(label),
            (at, Token::OpenParenthesis) => self.parenthesis(at),
            (at, found) => Err(unexpected(at, &found, "a label, has(), all(), global() or \"(\"")),
        }
    }

    fn parenthesis(&mut self, at: usize) -> Result<Expr, SelectorError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SelectorError { at, reason: format!("parentheses nest deeper than {DEPTH_MAX}") });
        }
        let inside = self.or()?;
        self.expect(Token::CloseParenthesis, "\")\"")?;
        self.depth -= 1;
        Ok(inside)
    }

    fn comparison(&mut self, label: String) -> Result<Expr, SelectorError> {
        match self.step() {
            (_, Token::Equal) => Ok(Expr::Equal(label, self.string()?)),
            (_, Token::NotEqual) => Ok(Expr::NotEqual(label, self.string()?)),
            (_, Token::Contains) => Ok(Expr::Contains(label, self.string()?)),
            (_, Token::StartsWith) => Ok(Expr::StartsWith(label, self.string()?)),
            (_, Token::EndsWith) => Ok(Expr::EndsWith(label, self.string()?)),
            (_, Token::In) => Ok(Expr::In(label, self.set()?)),
            (_, Token::NotIn) => Ok(Expr::NotIn(label, self.set()?)),
            (at, found) => Err(unexpected(at, &found, "an operator after the label")),
        }
    }

    fn string(&mut self) -> Result<String, SelectorError> {
        match self.step() {
            (_, Token::String(value)) => Ok(value),
            (at, found) => Err(unexpected(at, &found, "a string in quotes")),
        }
    }

    /// Values in braces; one comma may follow the last.
    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        self.expect(Token::OpenBrace, "\"{\"")?;
        let mut values = Vec::new();
        while !self.take(&Token::CloseBrace) {
            values.push(self.string()?);
            if !self.take(&Token::Comma) {
                self.expect(Token::CloseBrace, "\",\" or \"}\"")?;
                break;
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn step(&mut self) -> (usize, Token) {
        let found = self.tokens[self.next].clone();
        if found.1 != Token::End {
            self.next += 1;
        }
        found
    }

    fn take(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == wanted;
        if found {
            self.next += 1;
        }
        found
    }

    fn expect(&mut self, wanted: Token, description: &str) -> Result<(), SelectorError> {
        match self.step() {
            (_, found) if found == wanted => Ok(()),
            (at, found) => Err(unexpected(at, &found, description)),
        }
    }
}

/// A group of one is not a group.
fn group(mut operands: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match operands.len() {
        1 => operands.remove(0),
        _ => many(operands),
    }
}

fn unexpected(at: usize, found: &Token, expected: &str) -> SelectorError {
    let found = match found {
        Token::End => "the end".to_owned(),
        Token::Label(name) => format!("the word {name:?}"),
        Token::String(value) => format!("the string {value:?}"),
        other => format!("{other:?}"),
    };
    SelectorError { at, reason: format!("expected {expected}, found {found}") }
}
