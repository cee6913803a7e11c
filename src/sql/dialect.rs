//! Where our SQL departs from Postgres' before the parser sees it: a token stream in, a token stream out.
//!
//! The grammar itself is `sqlparser`'s for Postgres. It has no notion of Flink's `TUMBLE(TABLE t, DESCRIPTOR(ts), ...)`,
//! nor of `EMIT CHANGES` after a query (it would take `EMIT` for an alias), so both are taken away here. The tokens that
//! stay keep their places.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// The grammar that everything but our own statements is parsed by.
pub static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

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

/// `TUMBLE(TABLE t, DESCRIPTOR(ts), ...)` becomes `TUMBLE(t, ts, ...)`, and `TABLE(TUMBLE(...))` loses its wrapping.
/// Takes tokens without blanks.
pub fn fold_windows(tokens: &mut Vec<TokenWithSpan>) {
    let mut removed = Vec::new();
    for at in 0..tokens.len().saturating_sub(1) {
        let is_window = WINDOWS.iter().any(|name| is_word(&tokens[at].token, name));
        if is_window && tokens[at + 1].token == Token::LParen {
            fold_window(tokens, at, &mut removed);
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
