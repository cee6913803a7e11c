//! The text form of small plans: one node a line, `name: operator inputs arguments`.
//!
//! ```text
//! i: input k bigint, v text
//! c: values a bigint, b text = 1 x; 2 null
//! f: filter i (> #0 10)
//! p: project i k bigint = #0, twice bigint = (+:bigint #0 #0)
//! u: union f i
//! n: negate u
//! a: arrange [null_safe] i [0]
//! j: join a a
//! x: anti a a
//! g: aggregate i [1] count(*) n bigint, sum(#0) s numeric, min(#0) m bigint multiset 0 | #0
//! ```
//!
//! In expressions `#0` is a column, `1` a bigint, `'x'` a text, `1:integer` and `null:text` constants of other types, and
//! `(f:type x y)` a call; without a type it is boolean. `(cast:type x)` converts. Aggregates take `distinct`, `filter #2` and
//! `multiset 0` behind the name and type of their column; multisets stand behind `|`, each a column and perhaps
//! `filter all #2`.

use std::iter::Peekable;
use std::str::Chars;

use crate::ids::{NodeId, ObjectId, TableId};
use crate::plan::ir::AggregateCall;
use crate::plan::ir::AggregateFunction;
use crate::plan::ir::Literal;
use crate::plan::ir::Multiset;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Scalar;
use crate::types::{Column, SqlType};

/// The nodes with their names. The last one's output is what is looked at.
pub(super) fn parse(text: &str) -> Vec<(String, Node)> {
    let mut nodes = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, rest) = line.split_once(": ").expect("name: operator");
        let node = node(rest, &nodes);
        nodes.push((name.to_string(), node));
    }
    nodes
}

fn node(text: &str, nodes: &[(String, Node)]) -> Node {
    let (operator, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut inputs = Vec::new();
    let null_safe = rest.strip_prefix("null_safe ").is_some_and(|after| {
        rest = after;
        true
    });
    while let Some(at) = nodes.iter().position(|(name, _)| rest.split(' ').next() == Some(name)) {
        inputs.push(NodeId(at as u32));
        rest = rest[nodes[at].0.len()..].trim_start();
    }
    let of_input = || nodes[inputs[0].0 as usize].1.columns.clone();
    // Room for the multisets of the node.
    let table = TableId(nodes.len() as u32 * 10);
    let (op, columns) = match operator {
        "input" => (Op::Input { object: ObjectId(0), columns: Vec::new() }, columns(rest)),
        "values" => values(rest),
        "filter" => (Op::Filter { predicate: scalar(&mut rest.chars().peekable()) }, of_input()),
        "project" => project(rest),
        "union" => (Op::Union, of_input()),
        "negate" => (Op::Negate, of_input()),
        "arrange" => (Op::Arrange { key: numbers(rest), null_safe, table }, of_input()),
        "join" => {
            let of = |port: usize| nodes[inputs[port].0 as usize].1.columns.clone();
            (Op::Join, [of(0), of(1)].concat())
        }
        "anti" => (Op::Anti, of_input()),
        "aggregate" => aggregate(rest, of_input(), table),
        other => panic!("no operator: {other}"),
    };
    let id = NodeId(nodes.len() as u32);
    let (watermarks, closing) = (Vec::new(), Vec::new());
    Node { id, op, inputs, columns, key: None, append_only: false, watermarks, closing, closes_after_us: None }
}

fn values(text: &str) -> (Op, Vec<Column>) {
    let (head, rows) = text.split_once(" = ").expect("values ... = ...");
    let columns = columns(head);
    let literal = |(column, value): (&Column, &str)| Literal {
        ty: column.ty.clone(),
        text: Some(value.to_string()).filter(|v| v != "null"),
    };
    let row = |row: &str| columns.iter().zip(row.split_whitespace()).map(literal).collect();
    (Op::Values { rows: rows.split(';').map(row).collect() }, columns)
}

fn project(text: &str) -> (Op, Vec<Column>) {
    let mut expressions = Vec::new();
    let mut outputs = Vec::new();
    for part in text.split(", ") {
        let (head, expression) = part.split_once(" = ").expect("name type = expression");
        outputs.extend(columns(head));
        expressions.push(scalar(&mut expression.chars().peekable()));
    }
    (Op::Project { expressions }, outputs)
}

fn aggregate(text: &str, input: Vec<Column>, table: TableId) -> (Op, Vec<Column>) {
    let (calls_text, multisets_text) = text.split_once(" | ").unwrap_or((text, ""));
    let (group_text, calls_text) = calls_text.split_once(']').expect("a group in brackets");
    let group = numbers(group_text);
    let mut outputs = group.iter().map(|&g| input[g].clone()).collect::<Vec<_>>();
    let mut calls = Vec::new();
    for call in calls_text.split(", ").filter(|call| !call.trim().is_empty()) {
        let words = call.split_whitespace().collect::<Vec<_>>();
        let (function, argument) = words[0].trim_end_matches(')').split_once('(').expect("function(argument)");
        let after = |word: &str| words.iter().position(|w| *w == word).map(|at| number(words[at + 1]));
        let ty = type_of(words[2]);
        outputs.push(Column::new(words[1], ty.clone()));
        calls.push(AggregateCall {
            function: function_of(function),
            argument: Some(argument).filter(|a| *a != "*").map(number),
            filter: after("filter"),
            ty,
            multiset: after("multiset"),
            distinct: words.contains(&"distinct"),
        });
    }
    let multiset = |(at, text): (usize, &str)| {
        let words = text.split_whitespace().collect::<Vec<_>>();
        let filters = words.get(2..).unwrap_or(&["all"]);
        let filters = filters.iter().map(|word| (*word != "all").then(|| number(word))).collect();
        Multiset { column: number(words[0]), filters, table: TableId(table.0 + 1 + at as u32) }
    };
    let multisets = multisets_text.split(", ").filter(|m| !m.is_empty()).enumerate().map(multiset).collect();
    (Op::Aggregate { group, calls, table, multisets }, outputs)
}

fn function_of(name: &str) -> AggregateFunction {
    serde_json::from_value(name.into()).expect("an aggregate function")
}

/// `name type, name type`.
fn columns(text: &str) -> Vec<Column> {
    let column = |part: &str| {
        let (name, ty) = part.trim().split_once(' ').expect("name type");
        Column::new(name, type_of(ty))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(column).collect()
}

fn type_of(name: &str) -> SqlType {
    match name {
        "boolean" => SqlType::Boolean,
        "smallint" => SqlType::SmallInt,
        "integer" => SqlType::Integer,
        "bigint" => SqlType::BigInt,
        "real" => SqlType::Real,
        "double" => SqlType::Double,
        "numeric" => SqlType::Numeric { precision: 38, scale: 9 },
        "text" => SqlType::Text,
        "date" => SqlType::Date,
        "timestamp" => SqlType::Timestamp,
        "timestamptz" => SqlType::Timestamptz,
        other => numeric_of(other).unwrap_or_else(|| panic!("no type: {other}")),
    }
}

/// `numeric(38;2)`.
fn numeric_of(name: &str) -> Option<SqlType> {
    let (precision, scale) = name.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(';')?;
    Some(SqlType::Numeric { precision: precision.parse().ok()?, scale: scale.parse().ok()? })
}

/// `[0,1]`.
fn numbers(text: &str) -> Vec<usize> {
    let text = text.trim().trim_matches(['[', ']']);
    text.split(',').filter(|n| !n.is_empty()).map(number).collect()
}

fn number(text: &str) -> usize {
    text.trim_matches(['#', ' ']).parse().expect("a number")
}

fn scalar(text: &mut Peekable<Chars<'_>>) -> Scalar {
    while text.next_if(|c| c.is_whitespace()).is_some() {}
    if text.next_if_eq(&'(').is_some() {
        return call(text);
    }
    if text.next_if_eq(&'\'').is_some() {
        let value = text.by_ref().take_while(|c| *c != '\'').collect();
        return Scalar::Literal(Literal { ty: SqlType::Text, text: Some(value) });
    }
    let word = word(text);
    if let Some(column) = word.strip_prefix('#') {
        return Scalar::Column(column.parse().expect("a column's number"));
    }
    let (value, ty) = word.split_once(':').unwrap_or((&word, "bigint"));
    Scalar::Literal(Literal { ty: type_of(ty), text: Some(value.to_string()).filter(|v| v != "null") })
}

fn call(text: &mut Peekable<Chars<'_>>) -> Scalar {
    let head = word(text);
    let (function, ty) = head.split_once(':').unwrap_or((&head, "boolean"));
    let (function, ty) = (function.to_string(), type_of(ty));
    let mut arguments = Vec::new();
    while text.next_if_eq(&')').is_none() {
        arguments.push(scalar(text));
    }
    match function.as_str() {
        "cast" => Scalar::Cast { input: Box::new(arguments.remove(0)), ty },
        _ => Scalar::Call { function, arguments, ty },
    }
}

fn word(text: &mut Peekable<Chars<'_>>) -> String {
    std::iter::from_fn(|| text.next_if(|c| !c.is_whitespace() && *c != ')')).collect()
}
