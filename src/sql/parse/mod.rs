//! Text to syntax trees: a text is cut into tokens once, split at its semicolons, and each part parsed by itself.
//!
//! Positions are those of the part's own text; [`Parsed::offset`] says where it lies in the whole.
//!
//! A statement may be nested [`DEPTH_MAX`] deep and no deeper, since trees are walked, cloned and dropped recursively by
//! everything behind. Chains of AND and OR, which programs generate by the thousand, are balanced instead (see [`depth`]).

use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use crate::error::Result;
use crate::sql::Parsed;
use crate::sql::dialect;
use crate::sql::dialect::DIALECT;
use crate::sql::parse::ast::Statement;
use crate::sql::parse::error::{parser_error, syntax, tokenizer_error, too_complex};
use crate::sql::parse::grammar::{Fault, Grammar};
use crate::sql::parse::text::Text;
use crate::sql::stack::{is_deep, on_large_stack};

pub mod ast;
pub mod text;
mod copy;
mod create;
mod cursor;
mod depth;
mod error;
mod escapes;
pub mod grammar;
mod settings;
mod show;
mod statement;
mod subscribe;
mod subscription;
#[cfg(test)]
mod tests;

/// How deep a statement may be nested.
const DEPTH_MAX: usize = 128;

/// How long a text may be, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Texts with fewer tokens than this cannot overflow a stack of ordinary size, whatever they say.
const TOKENS_SMALL: usize = 1000;

/// Splits a text into statements and parses each. A text of nothing gives one [`Statement::Empty`].
pub fn parse(text: &str) -> Result<Vec<Parsed>> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(too_complex());
    }
    let whole = Text::new(text);
    let tokens = tokenize(text, &whole)?;
    depth::check_tokens(&tokens)?;
    if tokens.len() < TOKENS_SMALL && !is_deep(text) {
        statements(&whole, tokens)
    } else {
        on_large_stack(|| statements(&whole, tokens))
    }
}

/// Parses one scalar expression.
pub fn parse_expression(text: &str) -> Result<sqlparser::ast::Expr> {
    let whole = Text::new(text);
    let tokens = tokenize(text, &whole)?;
    depth::check_tokens(&tokens)?;
    with_grammar(&whole, tokens, |grammar| Ok(grammar.parser.parse_expr()?))
}

fn tokenize(text: &str, whole: &Text) -> Result<Vec<TokenWithSpan>> {
    let mut tokens =
        Tokenizer::new(&DIALECT, text).tokenize_with_location().map_err(|error| tokenizer_error(error, whole))?;
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    if let Some(from) = dialect::after_dangling_comma(&tokens) {
        return Err(syntax(whole, Some(from)));
    }
    dialect::fold_windows(&mut tokens);
    Ok(tokens)
}

fn statements(whole: &Text, tokens: Vec<TokenWithSpan>) -> Result<Vec<Parsed>> {
    let mut parsed = Vec::new();
    for part in tokens.split(|t| t.token == Token::SemiColon) {
        if let (Some(first), Some(last)) = (part.first(), part.last()) {
            let offset = whole.chars(first.span.start);
            let text = whole.slice(first.span.start, last.span.end).to_string();
            let ast = statement(&text, relative(part, first.span.start)).map_err(|error| shift(error, offset))?;
            parsed.push(Parsed { ast, text, offset });
        }
    }
    if parsed.is_empty() {
        parsed.push(Parsed { ast: Statement::Empty, text: String::new(), offset: 0 });
    }
    Ok(parsed)
}

fn statement(text: &str, tokens: Vec<TokenWithSpan>) -> Result<Statement> {
    let mut statement = with_grammar(&Text::new(text), tokens, |grammar| grammar.statement())?;
    depth::balance(&mut statement)?;
    Ok(statement)
}

/// Runs a rule of the grammar over all of the tokens.
fn with_grammar<T>(
    text: &Text,
    mut tokens: Vec<TokenWithSpan>,
    rule: impl FnOnce(&mut Grammar) -> Result<T, Fault>,
) -> Result<T> {
    let emit = dialect::cut_emit(&mut tokens);
    dialect::options_first(&mut tokens);
    let emit = emit.or_else(|| dialect::cut_emit(&mut tokens));
    let end = match &emit {
        Some(emit) => emit[0].span.start,
        None => text.end(),
    };
    let parser = Parser::new(&DIALECT).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(tokens.clone());
    let mut grammar = Grammar { parser, text, end, emit };
    let result = rule(&mut grammar);
    let next = grammar.parser.peek_token();
    let next = if next.token == Token::EOF { grammar.emit.take().map(|emit| emit[0].clone()) } else { Some(next) };
    match result {
        Ok(_) if next.is_some() => Err(syntax(text, next.as_ref())),
        Ok(value) => Ok(value),
        Err(Fault::Parser(error)) => Err(parser_error(error, text, &tokens, next.as_ref())),
        Err(Fault::Error(error)) => Err(*error),
    }
}

/// The tokens with their places counted from `start`.
fn relative(tokens: &[TokenWithSpan], start: Location) -> Vec<TokenWithSpan> {
    let shift = |at: Location| {
        if at.line == start.line {
            Location::new(1, at.column + 1 - start.column)
        } else {
            Location::new(at.line + 1 - start.line, at.column)
        }
    };
    let span = |span: Span| Span::new(shift(span.start), shift(span.end));
    tokens.iter().map(|t| TokenWithSpan::new(t.token.clone(), span(t.span))).collect()
}

/// Parsing fails for the whole text, so that its errors are placed in the whole text.
fn shift(mut error: crate::error::Error, offset: usize) -> crate::error::Error {
    error.position = error.position.map(|position| position + offset);
    error
}
