//! A plan as text: what EXPLAIN MATERIALIZED VIEW shows. One line a node, its inputs below it; a node that several read is
//! shown once with a number, and by that number elsewhere.

use std::collections::BTreeSet;

use crate::catalog::Catalog;
use crate::functions::operator::Symbol;
use crate::functions::window::Windows;
use crate::ids::NodeId;
use crate::ids::TableId;
use crate::plan::ir::AggregateCall;
use crate::plan::ir::AggregateFunction;
use crate::plan::ir::Literal;
use crate::plan::ir::Multiset;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::plan::ir::Scalar;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::interval::Interval;

/// The lines of a plan; the catalog is asked for the names of objects.
pub fn explain(plan: &Plan, catalog: &Catalog) -> Vec<String> {
    annotated(plan, catalog, &|_| String::new())
}

/// The same, with something said of each node at the end of its line.
pub fn annotated(plan: &Plan, catalog: &Catalog, note: &dyn Fn(&Node) -> String) -> Vec<String> {
    let mut explainer = Explainer { plan, catalog, note, shown: BTreeSet::new(), lines: vec![] };
    if let Some(last) = plan.nodes.last() {
        explainer.show(last, 0);
    }
    explainer.lines
}

/// What one node of a plan does.
pub fn operator(plan: &Plan, node: &Node, catalog: &Catalog) -> String {
    let explainer = Explainer { plan, catalog, note: &|_| String::new(), shown: BTreeSet::new(), lines: vec![] };
    format!("{}{}", explainer.operation(node), explainer.released(node))
}

/// A plan being shown.
struct Explainer<'a> {
    plan: &'a Plan,
    catalog: &'a Catalog,
    /// What is said of each node besides.
    note: &'a dyn Fn(&Node) -> String,
    /// The shared nodes that have a line already.
    shown: BTreeSet<NodeId>,
    lines: Vec<String>,
}

impl Explainer<'_> {
    fn show(&mut self, node: &Node, depth: usize) {
        let indent = "  ".repeat(depth);
        let readers = self.plan.nodes.iter().flat_map(|n| &n.inputs).filter(|&&input| input == node.id).count();
        let number = if readers > 1 { format!("#{} ", node.id) } else { String::new() };
        if readers > 1 && !self.shown.insert(node.id) {
            self.lines.push(format!("{indent}{number}(above)"));
            return;
        }
        let (operation, released) = (self.operation(node), self.released(node));
        self.lines.push(format!("{indent}{number}{operation}{released}{}{}", properties(node), (self.note)(node)));
        for input in &node.inputs {
            self.show(&self.plan.nodes[input.0 as usize], depth + 1);
        }
    }

    /// What a node does, in a line.
    fn operation(&self, node: &Node) -> String {
        let input = node.inputs.first().map(|id| self.plan.nodes[id.0 as usize].columns.as_slice()).unwrap_or_default();
        let names = |columns: &[usize]| list(columns.iter().map(|&c| name(input, c)));
        match &node.op {
            Op::Input { object, .. } => {
                format!("input {} ({})", self.object(*object), list(node.columns.iter().map(|c| c.name.clone())))
            }
            Op::Errors { view } => format!("errors of {}", self.object(*view)),
            Op::Values { rows } => {
                format!("values {}", list(rows.iter().map(|row| format!("({})", list(row.iter().map(constant))))))
            }
            Op::Project { expressions } => {
                let shown =
                    expressions.iter().zip(&node.columns).map(|(e, column)| named(scalar(e, input), &column.name));
                format!("project {}", list(shown))
            }
            Op::Filter { predicate } => format!("filter {}", scalar(predicate, input)),
            Op::Union => String::from("union"),
            Op::Window { time, windows } => format!("window by {} {}", name(input, *time), shape(windows)),
            Op::Changes => String::from("changes"),
            Op::Session { time, partition, gap_us, rows, ends } => {
                let by = if partition.is_empty() { String::new() } else { format!(" of ({})", names(partition)) };
                format!("session{by} by {} gap {} state={rows}+{ends}", name(input, *time), length(*gap_us))
            }
            Op::Final { table, .. } => format!("final state={table}"),
            Op::Negate => String::from("negate"),
            Op::Repeat { times } => format!("repeat {} times", name(input, *times)),
            Op::Arrange { key, null_safe, table } => {
                let nulls = if *null_safe { ", NULL equals NULL" } else { "" };
                format!("arrange by ({}){nulls} state={table}", names(key))
            }
            Op::Join => String::from("join"),
            Op::Anti => String::from("anti join"),
            Op::Aggregate { group, calls, table, multisets } => {
                let by = if group.is_empty() { String::new() } else { format!(" by ({})", names(group)) };
                let shown = calls
                    .iter()
                    .zip(&node.columns[group.len()..])
                    .map(|(c, column)| named(call(c, input), &column.name));
                let shown = list(shown);
                let kind = if calls.is_empty() { "distinct" } else { "aggregate" };
                let gap = if shown.is_empty() { "" } else { " " };
                format!("{kind}{by}{gap}{shown} state={}", tables(*table, multisets))
            }
            Op::Materialize { object } => {
                let columns = list(node.columns.iter().map(|c| format!("{} {}", c.name, c.ty)));
                format!("materialize {} ({columns})", self.object(*object))
            }
            Op::Sink { object } => {
                let columns = list(node.columns.iter().map(|c| format!("{} {}", c.name, c.ty)));
                format!("sink {} ({columns})", self.object(*object))
            }
        }
    }

    /// When what a node keeps under a key goes.
    fn released(&self, node: &Node) -> String {
        let input = node.inputs.first().map(|id| self.plan.nodes[id.0 as usize].columns.as_slice()).unwrap_or_default();
        let first = match &node.op {
            Op::Arrange { key, .. } => key.first(),
            Op::Aggregate { group, .. } => group.first(),
            Op::Final { column, .. } => Some(column),
            Op::Input { .. } | Op::Values { .. } | Op::Project { .. } | Op::Filter { .. } | Op::Union => None,
            Op::Negate | Op::Join | Op::Window { .. } | Op::Changes | Op::Materialize { .. } => None,
            Op::Session { .. } | Op::Errors { .. } | Op::Repeat { .. } | Op::Sink { .. } | Op::Anti => None,
        };
        match (first, node.closes_after_us) {
            (Some(&column), Some(0)) => format!(" until {}", name(input, column)),
            (Some(&column), Some(after_us)) => format!(" until {} + {}", name(input, column), length(after_us)),
            (None, _) | (_, None) => String::new(),
        }
    }

    /// An object's name; one that the catalog does not have is the view itself before it exists.
    fn object(&self, id: crate::ids::ObjectId) -> String {
        self.catalog.get(id).map_or_else(|| format!("object {id}"), |o| format!("{}.{}", o.schema, o.name))
    }
}

/// What is proved of a node's output.
fn properties(node: &Node) -> String {
    let names = |columns: &[usize]| list(columns.iter().map(|&c| name(&node.columns, c)));
    let key = match &node.key {
        None => String::new(),
        Some(key) if key.is_empty() => String::from(" [one row]"),
        Some(key) => format!(" [key {}]", names(key)),
    };
    let append_only = if node.append_only { " [append-only]" } else { "" };
    let watermarks = match node.watermarks.as_slice() {
        [] => String::new(),
        columns => format!(" [watermark {}]", names(columns)),
    };
    format!("{key}{append_only}{watermarks}")
}

/// The windows of a node.
fn shape(windows: &Windows) -> String {
    let (kind, lengths, offset_us) = match windows {
        Windows::Tumble { size_us, offset_us } => ("tumble", vec![*size_us], *offset_us),
        Windows::Hop { slide_us, size_us, offset_us } => ("hop", vec![*slide_us, *size_us], *offset_us),
        Windows::Cumulate { step_us, size_us, offset_us } => ("cumulate", vec![*step_us, *size_us], *offset_us),
    };
    let offset = Some(offset_us).filter(|offset| *offset != 0);
    format!("{kind}({})", list(lengths.into_iter().chain(offset).map(length)))
}

/// A length of time.
fn length(micros: i64) -> String {
    let mut text = String::new();
    Interval { months: 0, days: 0, micros }.write(&mut text);
    text
}

/// The state tables of an aggregate: its own, then those of its multisets.
fn tables(table: TableId, multisets: &[Multiset]) -> String {
    std::iter::once(table).chain(multisets.iter().map(|m| m.table)).map(|t| t.to_string()).collect::<Vec<_>>().join("+")
}

/// An expression with the name given to it, unless it shows it.
fn named(text: String, name: &str) -> String {
    if text == name { text } else { format!("{text} as {name}") }
}

/// An aggregate call over these columns.
pub fn call(call: &AggregateCall, input: &[Column]) -> String {
    let function = match call.function {
        AggregateFunction::Count => "count",
        AggregateFunction::Sum => "sum",
        AggregateFunction::Avg => "avg",
        AggregateFunction::Min => "min",
        AggregateFunction::Max => "max",
        AggregateFunction::BoolAnd => "bool_and",
        AggregateFunction::BoolOr => "bool_or",
    };
    let distinct = if call.distinct { "distinct " } else { "" };
    let argument = call.argument.map_or_else(|| String::from("*"), |c| name(input, c));
    let filter = call.filter.map_or_else(String::new, |c| format!(" filter (where {})", name(input, c)));
    format!("{function}({distinct}{argument}){filter}")
}

/// An expression in the manner of SQL.
pub fn scalar(expression: &Scalar, input: &[Column]) -> String {
    let show = |e: &Scalar| scalar(e, input);
    match expression {
        Scalar::Column(c) => name(input, *c),
        Scalar::Literal(literal) => constant(literal),
        Scalar::Cast { input: inner, ty } => format!("{}::{ty}", show(inner)),
        Scalar::Case { branches, otherwise, .. } => {
            let branches = branches.iter().map(|(when, then)| format!("when {} then {} ", show(when), show(then)));
            let otherwise = otherwise.as_ref().map_or_else(String::new, |e| format!("else {} ", show(e)));
            format!("case {}{otherwise}end", branches.collect::<String>())
        }
        Scalar::Call { function, arguments, .. } => {
            let shown = arguments.iter().map(show).collect::<Vec<_>>();
            let symbol = Symbol::ALL.iter().find(|s| s.function() == function);
            let words = symbol.map_or_else(|| function.replace('_', " "), |s| s.text().to_string());
            let word = words.starts_with(|c: char| c.is_ascii_alphabetic());
            match (function.as_str(), shown.as_slice()) {
                ("not", [a]) => format!("(not {a})"),
                ("negate", [a]) => format!("(- {a})"),
                ("in" | "not_in", [a, rest @ ..]) => format!("({a} {words} ({}))", rest.join(", ")),
                ("and" | "or" | "like" | "ilike" | "not_like" | "not_ilike", [a, b]) => format!("({a} {words} {b})"),
                (name, [a]) if name.starts_with("is_") => format!("({a} {words})"),
                (name, [a, b]) if name.starts_with("is_") || !word => format!("({a} {words} {b})"),
                (name, all) => format!("{name}({})", all.join(", ")),
            }
        }
    }
}

/// A constant.
fn constant(literal: &Literal) -> String {
    match (&literal.text, &literal.ty) {
        (None, _) => String::from("NULL"),
        (Some(text), SqlType::Boolean) => String::from(if text == "t" { "true" } else { "false" }),
        (Some(text), SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Numeric { .. }) => text.clone(),
        (Some(text), SqlType::Text | SqlType::Varchar(_)) => format!("'{}'", text.replace('\'', "''")),
        (Some(text), ty) => format!("{ty} '{text}'"),
    }
}

/// A column's name, with its number where another has the same.
fn name(columns: &[Column], column: usize) -> String {
    let Some(Column { name, .. }) = columns.get(column) else { return format!("#{column}") };
    match columns.iter().filter(|c| c.name == *name).count() {
        1 => name.clone(),
        _ => format!("{name}#{column}"),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
