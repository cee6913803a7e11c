//! The parser's complaints as Postgres words them: which token, and where.

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Location, TokenWithSpan, TokenizerError};

use crate::error::Error;
use crate::sql::parse::escapes;
use crate::sql::parse::text::Text;

/// `statement is too complex`, for text nested or chained beyond what is accepted.
pub fn too_complex() -> Error {
    Error::too_complex("statement is too complex").hint("Split it into smaller statements, or flatten its expressions.")
}

/// A syntax error at a token of the text, or at its end.
pub fn syntax(text: &Text, token: Option<&TokenWithSpan>) -> Error {
    match token.map(|t| (text.slice(t.span.start, t.span.end), t.span.start)) {
        Some((near, start)) if !near.is_empty() => {
            Error::syntax(format!("syntax error at or near \"{near}\"")).at(text.chars(start) + 1)
        }
        _ => Error::syntax("syntax error at end of input"),
    }
}

/// What the parser could not make sense of. `next` is the token it stood at, for messages that tell no place.
pub fn parser_error(error: ParserError, text: &Text, tokens: &[TokenWithSpan], next: Option<&TokenWithSpan>) -> Error {
    match error {
        ParserError::RecursionLimitExceeded => too_complex(),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            if message.contains("found: EOF") {
                return syntax(text, None);
            }
            let token = match location(&message) {
                Some(place) => tokens.iter().find(|t| t.span.start == place),
                None => next,
            };
            let error = syntax(text, token);
            match reason(&message) {
                Some(reason) => error.detail(reason),
                None => error,
            }
        }
    }
}

/// Text that cannot even be cut into tokens: the position is that of the token that never ends.
pub fn tokenizer_error(error: TokenizerError, text: &Text) -> Error {
    let position = text.chars(error.location) + 1;
    let message = match error.message.as_str() {
        m if m.contains("encoded string literal") => {
            return escapes::fault(text.slice(error.location, text.end())).at(position);
        }
        m if m.contains("escaped unicode string") => {
            return Error::syntax("invalid Unicode escape")
                .hint("Unicode escapes must be \\XXXX or \\+XXXXXX.")
                .at(position);
        }
        m if m.contains("string literal") => "unterminated quoted string".to_string(),
        m if m.contains("close delimiter") => "unterminated quoted identifier".to_string(),
        m if m.contains("multi-line comment") => "unterminated /* comment".to_string(),
        m if m.contains("dollar-quoted") => "unterminated dollar-quoted string".to_string(),
        m => format!("syntax error: {}", m.to_lowercase()),
    };
    Error::syntax(message).at(position)
}

/// The place that ends a parser's message: `... at Line: 1, Column: 8`.
fn location(message: &str) -> Option<Location> {
    let (_, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location::new(line.parse().ok()?, column.trim().parse().ok()?))
}

/// What a message says beyond "expected this, found that".
fn reason(message: &str) -> Option<String> {
    let text = message.rsplit_once(" at Line: ").map_or(message, |(text, _)| text);
    if let Some((_, expected)) = text.split_once("Expected: ") {
        let what = expected.split(", found").next()?;
        return Some(format!("Expected {what}."));
    }
    None
}
