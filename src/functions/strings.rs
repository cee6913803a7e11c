//! String functions where DataFusion's take other types or count otherwise.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::AsArray;
use arrow::array::StringArray;
use arrow::array::StringBuilder;
use arrow::array::types::Int32Type;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;

use crate::error::Error;
use crate::error::Result;
use crate::functions::bounded;
use crate::functions::columns::arrays;
use crate::functions::columns::result;
use crate::functions::define::call;
use crate::functions::define::function;
use crate::types::SqlType;
use crate::types::cast::is_integer;
use crate::types::cast::is_text;

/// The functions of this file.
pub fn functions() -> Vec<ScalarUDF> {
    vec![
        function("concat", &[], all_text, concat),
        function("concat_ws", &[], all_text, concat_ws),
        substring_function(),
        function("length", &["char_length", "character_length"], length_types, |args| lengths(args, 1)),
        function("octet_length", &[], length_types, |args| lengths(args, 0)),
        function("bit_length", &[], length_types, |args| lengths(args, 8)),
        position_function(),
        function("left", &[], side_types, |args| side(args, true)),
        function("right", &[], side_types, |args| side(args, false)),
        function("chr", &[], chr_types, chr),
    ]
}

/// `SUBSTRING(text FROM start FOR length)`.
pub fn substring_call(args: Vec<Expr>) -> Expr {
    call(substring_function(), args)
}

/// `POSITION(part IN text)`; the text is the first argument.
pub fn position_call(args: Vec<Expr>) -> Expr {
    call(position_function(), args)
}

fn substring_function() -> ScalarUDF {
    function("substr", &["substring"], substring_types, substring)
}

fn position_function() -> ScalarUDF {
    function("strpos", &["position", "instr"], position_types, position)
}

fn all_text(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    (!types.is_empty()).then(|| (vec![SqlType::Text; types.len()], SqlType::Text))
}

fn concat(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    join(args, 0)
}

fn concat_ws(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    join(args, 1)
}

/// Joins what is not NULL; with `from` 1, the first argument stands between.
fn join(args: &ScalarFunctionArgs, from: usize) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let texts: Vec<&StringArray> = columns.iter().map(|column| column.as_string::<i32>()).collect();
    let rows = texts.first().map_or(0, |first| first.len());
    bounded::check_joined(texts.iter().copied())?;
    let mut builder = StringBuilder::new();
    let mut text = String::new();
    for row in 0..rows {
        if from == 1 && texts[0].is_null(row) {
            builder.append_null();
            continue;
        }
        text.clear();
        let present = texts[from..].iter().filter(|column| column.is_valid(row));
        for (at, column) in present.enumerate() {
            if at > 0 && from == 1 {
                text.push_str(texts[0].value(row));
            }
            text.push_str(column.value(row));
        }
        builder.append_value(&text);
    }
    result(Arc::new(builder.finish()), &args.args)
}

fn substring_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let text = types.first()?.as_ref().is_none_or(is_text);
    let numbers = types[1..].iter().flatten().all(is_integer) && (2..=3).contains(&types.len());
    let wanted = [SqlType::Text].into_iter().chain(std::iter::repeat_n(SqlType::Integer, types.len() - 1));
    (text && numbers).then(|| (wanted.collect(), SqlType::Text))
}

fn substring(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let texts = columns[0].as_string::<i32>();
    let starts = columns[1].as_primitive::<Int32Type>();
    let lengths = columns.get(2).map(|column| column.as_primitive::<Int32Type>());
    let cut = (0..texts.len()).map(|row| {
        if texts.is_null(row) || starts.is_null(row) || lengths.is_some_and(|lengths| lengths.is_null(row)) {
            return Ok(None);
        }
        let start = starts.value(row) as i64 - 1;
        let end = match lengths.map(|lengths| lengths.value(row) as i64) {
            Some(length) if length < 0 => {
                return Err(Error::invalid_substring("negative substring length not allowed"));
            }
            Some(length) => start + length,
            None => i64::MAX,
        };
        Ok(Some(characters(texts.value(row), start, end)))
    });
    result(Arc::new(cut.collect::<Result<StringArray>>()?), &args.args)
}

/// The characters from `start` to before `end`, counted from 0.
fn characters(text: &str, start: i64, end: i64) -> &str {
    let (start, end) = (start.max(0) as usize, end.max(0) as usize);
    let place = |count: usize| match text.is_ascii() {
        true => count.min(text.len()),
        false => text.char_indices().nth(count).map_or(text.len(), |(at, _)| at),
    };
    if end <= start { "" } else { &text[place(start)..place(end)] }
}

fn length_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let [ty] = types else { return None };
    let wanted = match ty {
        Some(SqlType::Bytea) => SqlType::Bytea,
        Some(ty) if !is_text(ty) => return None,
        _ => SqlType::Text,
    };
    Some((vec![wanted], SqlType::Integer))
}

/// Characters (`bits` 1), bytes (0) or bits (8).
fn lengths(args: &ScalarFunctionArgs, bits: usize) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let lengths: arrow::array::Int32Array = match columns[0].as_string_opt::<i32>() {
        Some(texts) => texts
            .iter()
            .map(|text| {
                text.map(|text| match bits {
                    0 => text.len() as i32,
                    1 if text.is_ascii() => text.len() as i32,
                    1 => text.chars().count() as i32,
                    bits => (text.len() * bits) as i32,
                })
            })
            .collect(),
        None => columns[0].as_binary::<i32>().iter().map(|b| b.map(|b| (b.len() * bits.max(1)) as i32)).collect(),
    };
    result(Arc::new(lengths), &args.args)
}

fn position_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let texts = types.len() == 2 && types.iter().flatten().all(is_text);
    texts.then(|| (vec![SqlType::Text; 2], SqlType::Integer))
}

fn position(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let pairs = columns[0].as_string::<i32>().iter().zip(columns[1].as_string::<i32>());
    let places = pairs.map(|(text, part)| {
        let (text, part) = (text?, part?);
        Some(text.find(part).map_or(0, |at| text[..at].chars().count() as i32 + 1))
    });
    result(Arc::new(places.collect::<arrow::array::Int32Array>()), &args.args)
}

fn side_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let [text, count] = types else { return None };
    let fits = text.as_ref().is_none_or(is_text) && count.as_ref().is_none_or(is_integer);
    fits.then(|| (vec![SqlType::Text, SqlType::Integer], SqlType::Text))
}

/// The first or last characters; with a count below 0, all but so many of the others.
fn side(args: &ScalarFunctionArgs, left: bool) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let pairs = columns[0].as_string::<i32>().iter().zip(columns[1].as_primitive::<Int32Type>());
    let sides = pairs.map(|(text, count)| {
        let (text, count) = (text?, count? as i64);
        let length = text.chars().count() as i64;
        let kept = if count < 0 { (length + count).max(0) } else { count.min(length) };
        Some(if left { characters(text, 0, kept) } else { characters(text, length - kept, length) })
    });
    result(Arc::new(sides.collect::<StringArray>()), &args.args)
}

fn chr_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let [code] = types else { return None };
    code.as_ref().is_none_or(is_integer).then(|| (vec![SqlType::Integer], SqlType::Text))
}

/// The character with a code point.
fn chr(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let characters =
        columns[0].as_primitive::<Int32Type>().iter().map(|code| {
            let Some(code) = code else { return Ok(None) };
            let character = u32::try_from(code).ok().and_then(char::from_u32);
            match character {
                Some('\0') => Err(Error::limit_exceeded("null character not permitted")
                    .hint("A text has no character 0; use a bytea.")),
                Some(character) => Ok(Some(character.to_string())),
                None => Err(Error::limit_exceeded("requested character too large for encoding")
                    .hint("Characters are those of Unicode, up to 1114111, without 55296 to 57343.")),
            }
        });
    result(Arc::new(characters.collect::<Result<StringArray>>()?), &args.args)
}
