//! Functions about objects: their names, definitions, visibility, sizes and privileges.

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use datafusion::common::Result;
use datafusion::common::ScalarValue;

use crate::error::Error;
use crate::functions::catalog::Body;
use crate::functions::catalog::CatalogContext;
use crate::functions::catalog::Definition;
use crate::functions::catalog::Value;
use crate::functions::catalog::boolean;
use crate::functions::catalog::int;
use crate::functions::catalog::oid;
use crate::functions::catalog::quote_identifier;
use crate::functions::catalog::text;
use crate::functions::catalog::type_oid;
use crate::functions::catalog::utf8;
use crate::functions::raise::raise;
use crate::types::known;

/// The OID of the role that owns everything.
const OWNER: u32 = 10;

/// The schemas with their OIDs, for `regnamespace`.
const SCHEMAS: [(u32, &str); 4] =
    [(11, "pg_catalog"), (2200, "public"), (13000, "information_schema"), (13500, "ms_catalog")];

/// The functions of this file.
pub(super) fn definitions() -> Vec<Definition> {
    let mut all = vec![
        define("pg_get_userbyid", 1..=1, DataType::Utf8, |context, a| {
            utf8(oid(a, 0).map(|role| if role == OWNER { context.owner } else { context.user.as_str() }))
        }),
        define("pg_table_is_visible", 1..=1, DataType::Boolean, |context, a| {
            let relation = oid(a, 0).and_then(|oid| context.names.relation(oid));
            boolean(relation.map(|(schema, name)| context.is_visible(&schema, &name)))
        }),
        define("format_type", 2..=2, DataType::Utf8, |_, a| {
            let modifier = int(a, 1).and_then(|m| i32::try_from(m).ok()).unwrap_or(-1);
            utf8(oid(a, 0).map(|ty| match ty {
                0 => "-".to_string(),
                ty => known::format(ty, modifier).unwrap_or_else(|| "???".to_string()),
            }))
        }),
        define("pg_get_expr", 2..=3, DataType::Utf8, |_, a| utf8(text(a, 0))),
        define("pg_get_indexdef", 1..=3, DataType::Utf8, index_definition),
        define("pg_get_constraintdef", 1..=2, DataType::Utf8, definition),
        define("pg_get_viewdef", 1..=2, DataType::Utf8, definition),
        define("to_regclass", 1..=1, DataType::Int64, |context, a| {
            Ok(ScalarValue::Int64(text(a, 0).and_then(|name| context.relation_oid(name)).map(i64::from)))
        }),
        define("to_regtype", 1..=1, DataType::Int64, |_, a| {
            Ok(ScalarValue::Int64(text(a, 0).and_then(type_oid).map(i64::from)))
        }),
        define("regclass_oid", 1..=1, DataType::Int64, regclass_oid),
        define("regtype_oid", 1..=1, DataType::Int64, regtype_oid),
        define("regproc_oid", 1..=1, DataType::Int64, regproc_oid),
        define("regclass_name", 1..=1, DataType::Utf8, |context, a| {
            utf8(oid(a, 0).map(|oid| context.relation_name(oid).unwrap_or_else(|| number(oid))))
        }),
        define("regtype_name", 1..=1, DataType::Utf8, |_, a| {
            utf8(oid(a, 0).map(|oid| known::format(oid, -1).unwrap_or_else(|| number(oid))))
        }),
        define("regnamespace_name", 1..=1, DataType::Utf8, |context, a| {
            let own = |oid| SCHEMAS.iter().find(|(number, _)| *number == oid).map(|(_, name)| name.to_string());
            let name = |oid| own(oid).or_else(|| context.names.schema(oid));
            utf8(oid(a, 0).map(|oid| name(oid).unwrap_or_else(|| number(oid))))
        }),
        define("pg_encoding_to_char", 1..=1, DataType::Utf8, |_, a| {
            utf8(int(a, 0).map(|code| match code {
                0 => "SQL_ASCII",
                6 => "UTF8",
                _ => "",
            }))
        }),
        define("pg_char_to_encoding", 1..=1, DataType::Int32, |_, a| {
            let code = |name: &str| match name.to_ascii_uppercase().replace('-', "").as_str() {
                "UTF8" | "UNICODE" => 6,
                "SQL_ASCII" => 0,
                _ => -1,
            };
            Ok(ScalarValue::Int32(text(a, 0).map(code)))
        }),
        define("quote_literal", 1..=1, DataType::Utf8, |_, a| Ok(quoted(a, None))),
        define("quote_nullable", 1..=1, DataType::Utf8, |_, a| Ok(quoted(a, Some("NULL")))),
        define("pg_relation_is_publishable", 1..=1, DataType::Boolean, |_, a| boolean(oid(a, 0).map(|_| false))),
        define("pg_is_other_temp_schema", 1..=1, DataType::Boolean, |_, a| boolean(oid(a, 0).map(|_| false))),
        define("pg_my_temp_schema", 0..=0, DataType::Int64, |_, _| Ok(ScalarValue::Int64(Some(0)))),
        define("quote_ident", 1..=1, DataType::Utf8, |_, a| utf8(text(a, 0).map(quote_identifier))),
        define("ms_subscripts", 2..=3, integer_list_type(), subscripts),
        define("format", 1..=32, DataType::Utf8, format),
        define("json_build_object", 0..=32, DataType::Utf8, json_object),
        define("array_lower", 2..=2, DataType::Int32, |_, a| Ok(ScalarValue::Int32(list_length(a).map(|_| 1)))),
        define("array_upper", 2..=2, DataType::Int32, |_, a| Ok(ScalarValue::Int32(list_length(a)))),
    ];
    all.extend(always_visible());
    all.extend(nothing_to_tell());
    all.extend(privileges());
    all
}

fn define(name: &'static str, arguments: std::ops::RangeInclusive<usize>, returns: DataType, body: Body) -> Definition {
    Definition { name, arguments, returns, body }
}

/// The OID of a function of `pg_proc`.
fn regproc_oid(_: &CatalogContext, a: &[Value]) -> Result<Value> {
    let Some(name) = text(a, 0) else { return Ok(ScalarValue::Null) };
    let bare = name.strip_prefix("pg_catalog.").unwrap_or(name);
    match known::functions().find(|(_, known)| *known == bare) {
        Some((oid, _)) => Ok(ScalarValue::Int64(Some(i64::from(oid)))),
        None => Err(raise(Error::undefined_function(format!("function \"{name}\" does not exist")))),
    }
}

fn integer_list_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)))
}

/// The numbers of a list's items, from the second argument; the third is the dimension, of which there is one.
fn subscripts(_: &CatalogContext, a: &[Value]) -> Result<Value> {
    let (ScalarValue::List(list), Some(base)) = (&a[0], int(a, 1)) else { return Ok(ScalarValue::Null) };
    if a[0].is_null() || (a.len() > 2 && int(a, 2) != Some(1)) {
        return Ok(ScalarValue::Null);
    }
    let numbers: Vec<ScalarValue> =
        (0..list.value_length(0)).map(|n| ScalarValue::Int32(Some(n + base as i32))).collect();
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Int32)))
}

/// `format(pattern, ...)`: `%s`, `%I` and `%L`, each also as `%1$s`, and `%%`.
fn format(_: &CatalogContext, a: &[Value]) -> Result<Value> {
    let Some(pattern) = text(a, 0) else { return Ok(ScalarValue::Null) };
    let mut out = String::new();
    let mut next = 1;
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut digits = String::new();
        while let Some(digit) = letters.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if !digits.is_empty() && letters.next_if_eq(&'$').is_some() {
            next = digits.parse().unwrap_or(usize::MAX);
        }
        let kind = letters.next();
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let Some(value) = a.get(next) else {
            return Err(raise(Error::invalid_parameter("too few arguments for format()")));
        };
        next += 1;
        let shown = if value.is_null() { None } else { Some(value.to_string()) };
        match (kind, shown) {
            (Some('s'), shown) => out.push_str(&shown.unwrap_or_default()),
            (Some('I'), Some(name)) => out.push_str(&quote_identifier(&name)),
            (Some('I'), None) => {
                return Err(raise(Error::invalid_parameter("null values cannot be formatted as an SQL identifier")));
            }
            (Some('L'), None) => out.push_str("NULL"),
            (Some('L'), Some(text)) => out.push_str(&literal(&text)),
            (kind, _) => {
                let message = match kind {
                    Some(kind) => format!("unrecognized format() type specifier \"{kind}\""),
                    None => "unterminated format() type specifier".to_string(),
                };
                return Err(raise(Error::invalid_parameter(message).hint("For a single \"%\" use \"%%\".")));
            }
        }
    }
    utf8(Some(out))
}

/// `json_build_object(key, value, ...)`, as text.
fn json_object(_: &CatalogContext, a: &[Value]) -> Result<Value> {
    let mut out = String::from("{");
    for (index, pair) in a.chunks(2).enumerate() {
        let [key, value] = pair else {
            let message = "argument list must have even number of elements";
            return Err(raise(Error::invalid_parameter(message)));
        };
        if key.is_null() {
            return Err(raise(Error::invalid_parameter("null value not allowed for object key")));
        }
        let value = match value {
            value if value.is_null() => "null".to_string(),
            ScalarValue::Boolean(_) => value.to_string(),
            value if value.data_type().is_numeric() => value.to_string(),
            value => json_text(&value.to_string()),
        };
        let comma = if index > 0 { ", " } else { "" };
        out.push_str(&format!("{comma}{} : {value}", json_text(&key.to_string())));
    }
    out.push('}');
    utf8(Some(out))
}

fn json_text(text: &str) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}

/// Everything of these kinds lives in `pg_catalog`, hence is visible.
fn always_visible() -> impl Iterator<Item = Definition> {
    let names = [
        "pg_type_is_visible",
        "pg_function_is_visible",
        "pg_operator_is_visible",
        "pg_opclass_is_visible",
        "pg_opfamily_is_visible",
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_statistics_obj_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
    ];
    names.into_iter().map(|name| define(name, 1..=1, DataType::Boolean, |_, a| boolean(oid(a, 0).map(|_| true))))
}

/// Comments, rules, triggers, partitions and sizes: what we have none of, or do not know, is NULL.
fn nothing_to_tell() -> impl Iterator<Item = Definition> {
    let texts = [
        ("obj_description", 1..=2),
        ("shobj_description", 2..=2),
        ("col_description", 2..=2),
        ("pg_get_ruledef", 1..=2),
        ("pg_get_triggerdef", 1..=2),
        ("pg_get_functiondef", 1..=1),
        ("pg_get_function_result", 1..=1),
        ("pg_get_function_arguments", 1..=1),
        ("pg_get_function_identity_arguments", 1..=1),
        ("pg_get_partkeydef", 1..=1),
        ("pg_get_statisticsobjdef", 1..=1),
        ("pg_get_statisticsobjdef_columns", 1..=1),
        ("pg_get_serial_sequence", 2..=2),
        ("pg_tablespace_location", 1..=1),
    ];
    let numbers = [
        ("pg_relation_size", 1..=2),
        ("pg_table_size", 1..=1),
        ("pg_indexes_size", 1..=1),
        ("pg_total_relation_size", 1..=1),
        ("pg_database_size", 1..=1),
        ("pg_stat_get_numscans", 1..=1),
        ("pg_partition_ancestors", 1..=1),
    ];
    let null: Body = |_, _| Ok(ScalarValue::Null);
    let texts = texts.into_iter().map(move |(name, count)| define(name, count, DataType::Utf8, null));
    texts.chain(numbers.into_iter().map(move |(name, count)| define(name, count, DataType::Int64, null)))
}

/// Everybody may do everything: there are no grants.
fn privileges() -> impl Iterator<Item = Definition> {
    let names = [
        ("has_table_privilege", 2..=3),
        ("has_any_column_privilege", 2..=3),
        ("has_column_privilege", 3..=4),
        ("has_schema_privilege", 2..=3),
        ("has_database_privilege", 2..=3),
        ("has_function_privilege", 2..=3),
        ("has_type_privilege", 2..=3),
        ("has_sequence_privilege", 2..=3),
        ("has_tablespace_privilege", 2..=3),
        ("has_language_privilege", 2..=3),
        ("pg_has_role", 2..=3),
    ];
    names.into_iter().map(|(name, count)| {
        define(name, count, DataType::Boolean, |_, a| boolean(a.iter().all(|value| !value.is_null()).then_some(true)))
    })
}

fn number(oid: u32) -> String {
    if oid == 0 { "-".to_string() } else { oid.to_string() }
}

/// The definition of what has this OID or, for a view, this name.
fn definition(context: &CatalogContext, a: &[Value]) -> Result<Value> {
    let by_name = || text(a, 0).and_then(|name| context.relation_oid(name));
    utf8(oid(a, 0).or_else(by_name).and_then(|oid| context.names.definition(oid)))
}

fn index_definition(context: &CatalogContext, a: &[Value]) -> Result<Value> {
    match int(a, 1).unwrap_or(0) {
        0 => definition(context, a),
        column => {
            let number = usize::try_from(column).ok();
            utf8(oid(a, 0).zip(number).and_then(|(oid, number)| context.names.column(oid, number)))
        }
    }
}

/// Text to `regclass`: a number, or a name that must exist.
fn regclass_oid(context: &CatalogContext, a: &[Value]) -> Result<Value> {
    if let Some(oid) = oid(a, 0) {
        return Ok(ScalarValue::Int64(Some(i64::from(oid))));
    }
    let Some(name) = text(a, 0) else { return Ok(ScalarValue::Int64(None)) };
    match context.relation_oid(name) {
        Some(oid) => Ok(ScalarValue::Int64(Some(i64::from(oid)))),
        None => Err(raise(Error::undefined_table(format!("relation \"{name}\" does not exist")))),
    }
}

/// Text to `regtype`.
fn regtype_oid(_context: &CatalogContext, a: &[Value]) -> Result<Value> {
    if let Some(oid) = oid(a, 0) {
        return Ok(ScalarValue::Int64(Some(i64::from(oid))));
    }
    let Some(name) = text(a, 0) else { return Ok(ScalarValue::Int64(None)) };
    match type_oid(name) {
        Some(oid) => Ok(ScalarValue::Int64(Some(i64::from(oid)))),
        None => Err(raise(Error::undefined_object(format!("type \"{name}\" does not exist")))),
    }
}

fn quoted(a: &[Value], null: Option<&str>) -> Value {
    let shown = match a.first() {
        Some(value) if !value.is_null() => Some(literal(&value.to_string())),
        _ => null.map(str::to_string),
    };
    ScalarValue::Utf8(shown)
}

/// A text as SQL writes it.
fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// How many items a list of one dimension has; `None` when it is empty, as in Postgres.
fn list_length(a: &[Value]) -> Option<i32> {
    match (a.first()?, int(a, 1)?) {
        (ScalarValue::List(list), 1) if !a[0].is_null() => Some(list.value_length(0)).filter(|length| *length > 0),
        _ => None,
    }
}
