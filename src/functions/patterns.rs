//! Pattern matching: `~` and its kin, `LIKE ... ESCAPE`, `SIMILAR TO`.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::AsArray;
use arrow::array::BooleanArray;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::lit;
use regex::Regex;
use regex::RegexBuilder;

use crate::error::Error;
use crate::error::Result;
use crate::functions::columns::arrays;
use crate::functions::columns::result;
use crate::functions::define::call;
use crate::functions::define::function;
use crate::functions::operator::Symbol;
use crate::types::SqlType;

/// The functions of this file: what `LIKE ... ESCAPE` and `SIMILAR TO` become.
pub fn functions() -> Vec<ScalarUDF> {
    vec![like_function(false), like_function(true), similar_function()]
}

/// `text LIKE pattern ESCAPE escape`.
pub fn like(text: Expr, pattern: Expr, escape: Option<char>, any_case: bool) -> Expr {
    call(like_function(any_case), vec![text, pattern, escape_argument(escape)])
}

/// `text SIMILAR TO pattern ESCAPE escape`.
pub fn similar(text: Expr, pattern: Expr, escape: Option<char>) -> Expr {
    call(similar_function(), vec![text, pattern, escape_argument(escape)])
}

fn escape_argument(escape: Option<char>) -> Expr {
    lit(escape.unwrap_or('\\').to_string())
}

fn like_function(any_case: bool) -> ScalarUDF {
    match any_case {
        false => function("like_escape", &[], three_texts, |args| escaped(args, |p, e| compile_like(p, e, false))),
        true => function("ilike_escape", &[], three_texts, |args| escaped(args, |p, e| compile_like(p, e, true))),
    }
}

fn similar_function() -> ScalarUDF {
    function("similar_to", &[], three_texts, |args| escaped(args, compile_similar))
}

fn three_texts(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    (types.len() == 3).then(|| (vec![SqlType::Text; 3], SqlType::Boolean))
}

/// Matches by text and pattern; the escape character is a constant.
fn escaped(args: &ScalarFunctionArgs, compile: fn(&str, Option<char>) -> Result<Regex>) -> Result<ColumnarValue> {
    let escape = match args.args.get(2) {
        Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(escape)))) => escape.chars().next(),
        _ => return Err(Error::internal("an escape character must be constant")),
    };
    rows(args, |pattern| compile(pattern, escape), |found| found)
}

/// `text ~ pattern` and its kin.
pub fn matches(symbol: Symbol, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let any_case = matches!(symbol, Symbol::MatchesAnyCase | Symbol::MatchesNotAnyCase);
    let negated = matches!(symbol, Symbol::MatchesNot | Symbol::MatchesNotAnyCase);
    rows(args, |pattern| compile(pattern, any_case), |found| found != negated)
}

/// Matches each row; a pattern that stays the same is compiled once.
pub fn rows(
    args: &ScalarFunctionArgs,
    compile: impl Fn(&str) -> Result<Regex>,
    answer: impl Fn(bool) -> bool,
) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let (texts, patterns) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
    let mut last: Option<(&str, Regex)> = None;
    let mut answers = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        if texts.is_null(row) || patterns.is_null(row) {
            answers.push(None);
            continue;
        }
        let pattern = patterns.value(row);
        if last.as_ref().is_none_or(|(known, _)| *known != pattern) {
            last = Some((pattern, compile(pattern)?));
        }
        let found = last.as_ref().is_some_and(|(_, regex)| regex.is_match(texts.value(row)));
        answers.push(Some(answer(found)));
    }
    result(Arc::new(BooleanArray::from(answers)), &args.args)
}

/// A regular expression of Postgres as one of the `regex` crate: there `.` matches a newline, and back references do not exist.
pub fn compile(pattern: &str, any_case: bool) -> Result<Regex> {
    let (pattern, any_case) = match pattern.strip_prefix("(?i)") {
        Some(rest) => (rest, true),
        None => (pattern.strip_prefix("***:").unwrap_or(pattern), any_case),
    };
    let pattern = pattern.replace("\\m", "\\b{start}").replace("\\M", "\\b{end}").replace("\\Z", "\\z");
    let built = RegexBuilder::new(&pattern).case_insensitive(any_case).dot_matches_new_line(true).build();
    built.map_err(|error| invalid(&error.to_string()))
}

/// The error for a pattern about which the `regex` crate says this: in lines, the reason in the last.
pub fn invalid(message: &str) -> Error {
    let reason = match message.lines().last().unwrap_or_default().trim().trim_start_matches("error: ") {
        limit if limit.contains("exceeds size limit") => "regular expression is too complex",
        reason => reason.trim_end_matches('.'),
    };
    Error::invalid_regex(format!("invalid regular expression: {reason}"))
}

/// `LIKE` as a regular expression.
pub fn compile_like(pattern: &str, escape: Option<char>, any_case: bool) -> Result<Regex> {
    let mut regex = String::from("^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => {
                let literal = chars
                    .next()
                    .ok_or_else(|| Error::invalid_escape("LIKE pattern must not end with escape character"))?;
                regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    compile(&regex, any_case)
}

/// `SIMILAR TO` as a regular expression.
pub fn compile_similar(pattern: &str, escape: Option<char>) -> Result<Regex> {
    let mut regex = String::from("^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => {
                if let Some(literal) = chars.next() {
                    regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
                }
            }
            ']' if in_class => {
                in_class = false;
                regex.push(']');
            }
            c if in_class => {
                if matches!(c, '\\' | '[') {
                    regex.push('\\');
                }
                regex.push(c);
            }
            '[' => {
                in_class = true;
                regex.push('[');
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '(' => regex.push_str("(?:"),
            '\\' | '.' | '^' | '$' => {
                regex.push('\\');
                regex.push(c);
            }
            c => regex.push(c),
        }
    }
    regex.push_str(")$");
    compile(&regex, false)
}
