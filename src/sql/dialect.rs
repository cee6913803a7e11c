//! Where our SQL departs from Postgres', in the grammar and in the tokens before the parser sees them.
//!
//! The grammar is `sqlparser`'s for Postgres, less what makes it accept more than Postgres does or parse in exponential time.
//! It has no notion of Flink's `TUMBLE(TABLE t, DESCRIPTOR(ts), ...)`, nor of `EMIT CHANGES` after a query (it would take
//! `EMIT` for an alias), so both are taken away from the tokens. Those that stay keep their places.

use std::any::TypeId;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// The grammar that everything but our own statements is parsed by.
pub static DIALECT: Millstream = Millstream(PostgreSqlDialect {});

/// Postgres' grammar without
/// - arguments named by expressions (`f(a : b)`), for which each argument is parsed twice, so that nested calls take 2ⁿ,
/// - SELECT lists that are empty, or end with a comma,
/// - optimizer hints and XML,
/// - `a IS DISTINCT FROM b AND c` for `a IS DISTINCT FROM (b AND c)`.
#[derive(Debug)]
pub struct Millstream(PostgreSqlDialect);

/// What the parser asks about, and Postgres has.
macro_rules! has {
    ($($feature:ident)*) => {
        $(fn $feature(&self) -> bool { true })*
    };
}

impl Dialect for Millstream {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.0.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.0.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.0.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.0.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        self.0.is_reserved_for_identifier(kw)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        self.0.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        self.0.get_next_precedence(parser)
    }

    fn prec_value(&self, prec: Precedence) -> u8 {
        self.0.prec_value(prec)
    }

    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        let equal = parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]);
        if !equal && !parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
            return None;
        }
        let left = Box::new(expr.clone());
        Some(
            parser.parse_subexpr(self.prec_value(Precedence::Is)).map(Box::new).map(|right| {
                if equal { Expr::IsNotDistinctFrom(left, right) } else { Expr::IsDistinctFrom(left, right) }
            }),
        )
    }

    has! {
        supports_unicode_string_literal
        supports_filter_during_aggregation
        supports_group_by_expr
        allow_extract_custom
        allow_extract_single_quotes
        supports_explain_with_utility_options
        supports_factorial_operator
        supports_bitwise_shift_operators
        supports_nested_comments
        supports_string_escape_constant
        supports_numeric_literal_underscores
        supports_array_typedef_with_brackets
        supports_notnull_operator
        supports_interval_options
        supports_insert_table_alias
        supports_select_wildcard_with_alias
        supports_comma_separated_trim
    }
}

/// The window functions of FROM.
pub const WINDOWS: [&str; 4] = ["tumble", "hop", "session", "cumulate"];

/// Whether the token is this unquoted word, in any case.
pub fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// The keyword of an unquoted word.
pub fn keyword(token: &Token) -> Keyword {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

/// The FROM of `SELECT a, FROM t`, which the parser would take for a column.
pub fn after_dangling_comma(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    let pair = tokens.windows(2).find(|pair| pair[0].token == Token::Comma && keyword(&pair[1].token) == Keyword::FROM);
    pair.map(|pair| &pair[1])
}

/// `TUMBLE(TABLE t, DESCRIPTOR(ts), ...)` becomes `TUMBLE(t, ts, ...)`, and `TABLE(TUMBLE(...))` loses its wrapping.
/// Takes tokens without blanks.
/// `SESSION(t PARTITION BY k, ts, ...)` becomes `SESSION(t, k, ts, ...)`.
pub fn fold_windows(tokens: &mut Vec<TokenWithSpan>) {
    let mut removed = Vec::new();
    for at in 0..tokens.len().saturating_sub(1) {
        let is_window = WINDOWS.iter().any(|name| is_word(&tokens[at].token, name));
        if is_window && tokens[at + 1].token == Token::LParen {
            fold_window(tokens, at, &mut removed);
            separate_partition(tokens, at, &mut removed);
        }
    }
    removed.sort_unstable();
    let mut at = 0;
    tokens.retain(|_| {
        at += 1;
        removed.binary_search(&(at - 1)).is_err()
    });
}

fn fold_window(tokens: &[TokenWithSpan], at: usize, removed: &mut Vec<usize>) {
    let Some(close) = matching(tokens, at + 1) else { return };
    let wrapped = at >= 2 && tokens[at - 1].token == Token::LParen && is_word(&tokens[at - 2].token, "table");
    if wrapped && tokens.get(close + 1).is_some_and(|t| t.token == Token::RParen) {
        removed.extend([at - 2, at - 1, close + 1]);
    }
    if is_word(&tokens[at + 2].token, "table") && tokens[at + 3].token != Token::LParen {
        removed.push(at + 2);
    }
    for i in at + 2..close {
        if is_word(&tokens[i].token, "descriptor")
            && tokens[i + 1].token == Token::LParen
            && let Some(end) = matching(tokens, i + 1)
        {
            removed.extend([i, i + 1, end]);
        }
    }
}

/// A comma for `PARTITION BY` in the arguments of the window function at `at`.
fn separate_partition(tokens: &mut [TokenWithSpan], at: usize, removed: &mut Vec<usize>) {
    let Some(close) = matching(tokens, at + 1) else { return };
    let mut depth = 0;
    for i in at + 1..close {
        match tokens[i].token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ if depth == 1 && is_word(&tokens[i].token, "partition") && is_word(&tokens[i + 1].token, "by") => {
                tokens[i].token = Token::Comma;
                removed.push(i + 1);
            }
            _ => {}
        }
    }
}

/// The place of the parenthesis that closes the one at `open`.
fn matching(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// In `CREATE SINK s AS query WITH (...)` the options go before the name: behind a query the parser takes them for hints about its
/// last table.
pub fn options_first(tokens: &mut [TokenWithSpan]) {
    if tokens.len() < 2 || !is_word(&tokens[0].token, "create") || !is_word(&tokens[1].token, "sink") {
        return;
    }
    let is_with = |pair: &[TokenWithSpan]| is_word(&pair[0].token, "with") && pair[1].token == Token::LParen;
    let Some(from) = tokens.windows(2).rposition(is_with) else { return };
    if matching(tokens, from + 1) == Some(tokens.len() - 1) {
        tokens[2..].rotate_left(from - 2);
    }
}

/// Cuts `EMIT CHANGES | FINAL | ON WINDOW CLOSE` from the end.
pub fn cut_emit(tokens: &mut Vec<TokenWithSpan>) -> Option<Vec<TokenWithSpan>> {
    const FORMS: [&[&str]; 3] = [&["emit", "changes"], &["emit", "final"], &["emit", "on", "window", "close"]];
    for form in FORMS {
        let Some(from) = tokens.len().checked_sub(form.len()) else { continue };
        if tokens[from..].iter().zip(form).all(|(token, word)| is_word(&token.token, word)) {
            return Some(tokens.split_off(from));
        }
    }
    None
}
