//! What the catalog queries of psql and its kin need beyond DataFusion: casts to `regclass` and its like, and reads of
//! relations of the system that are always empty, in whose SELECT lists anything may stand.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CaseWhen, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor, Value,
    Visitor, VisitorMut,
};

use crate::catalog::system;
use crate::sql::bind::names::parts;
use crate::sql::parse::ast::Statement;
use crate::sql::parse::grammar::folded;
use crate::sql::parse::parse;
use crate::sql::walk;

/// A cast to one of the types that show an OID as a name. A literal becomes the OID, since it is compared with one;
/// anything else becomes the name, since it is shown.
pub fn name_cast(expr: &mut Expr) -> Option<Expr> {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return None };
    // A bare `char` is `char(1)`, for which text does here.
    if let (DataType::Char(None), Expr::Value(value)) = (&*data_type, &**inner)
        && let Value::SingleQuotedString(text) = &value.value
    {
        return Some(Expr::value(Value::SingleQuotedString(text.chars().take(1).collect())));
    }
    let name = match data_type {
        DataType::Regclass => vec!["regclass".to_string()],
        DataType::Custom(name, arguments) if arguments.is_empty() => parts(name),
        _ => return None,
    };
    let ty = match name.as_slice() {
        [ty] => ty.as_str(),
        [schema, ty] if schema == system::PG_CATALOG => ty.as_str(),
        _ => return None,
    };
    let is_literal = matches!(&**inner, Expr::Value(value)
        if matches!(value.value, Value::SingleQuotedString(_) | Value::Placeholder(_)));
    let function = match (ty, is_literal) {
        ("regclass", true) => "regclass_oid",
        ("regclass", false) => "regclass_name",
        ("regtype", true) => "regtype_oid",
        ("regproc", true) => "regproc_oid",
        ("regtype", false) => "regtype_name",
        ("regnamespace", false) => "regnamespace_name",
        _ => return None,
    };
    Some(call(Ident::new(function), vec![std::mem::replace(inner, Expr::value(Value::Null))]))
}

/// A call of a function.
pub fn call(name: Ident, arguments: Vec<Expr>) -> Expr {
    let plain = |argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument));
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(plain).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A SELECT from a relation that never has rows, without aggregates, has none whatever its list computes: the subqueries
/// there, which DataFusion may not be able to plan, are left out.
pub fn skip_unread(select: &mut Select) {
    let Some(first) = select.from.first() else { return };
    let TableFactor::Table { name, args: None, .. } = &first.relation else { return };
    if !is_unread(name) || calls_aggregate(&select.projection) {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            // The visitor never breaks.
            let _ = walk::change(expr, &mut WithoutSubqueries);
        }
    }
}

/// In a query of `pg_type`: what it asks of kinds of types that there are none of.
pub fn skip_missing_kinds(select: &mut Select) {
    let is_types = |factor: &TableFactor| match factor {
        TableFactor::Table { name, .. } => match parts(name).as_slice() {
            [name] => name == "pg_type",
            [schema, name] => schema == system::PG_CATALOG && name == "pg_type",
            _ => false,
        },
        _ => false,
    };
    if select.from.iter().any(|table| is_types(&table.relation)) {
        let _ = walk::change(&mut select.projection, &mut Kinds);
    }
}

struct Kinds;

impl VisitorMut for Kinds {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        skip_missing_kind(expr);
        ControlFlow::Continue(())
    }
}

/// `CASE WHEN t.typtype = 'c' THEN (SELECT ...) END` is NULL where no type is of such a kind: drivers ask so about domains, composite
/// types and ranges, in subqueries that DataFusion may not be able to plan.
fn skip_missing_kind(expr: &mut Expr) {
    let Expr::Case { operand: None, conditions, else_result, .. } = &*expr else { return };
    let [CaseWhen { condition, result: Expr::Subquery(query) }] = conditions.as_slice() else { return };
    let is_null = |other: &Expr| matches!(other, Expr::Value(value) if value.value == Value::Null);
    if !is_missing_kind(condition) || !else_result.as_deref().is_none_or(is_null) {
        return;
    }
    // Of the types that such subqueries have in the catalogs.
    let null = match array_aggregated(query) {
        Some(Expr::Cast { .. }) => "SELECT NULL::text[]",
        Some(_) => "SELECT NULL::oid[]",
        None => "SELECT NULL::oid",
    };
    let parsed = parse(null).ok().and_then(|mut statements| statements.pop());
    if let Some(Statement::Query(query)) = parsed.map(|parsed| parsed.ast)
        && let SetExpr::Select(select) = *query.body
        && let Some(SelectItem::UnnamedExpr(null)) = select.projection.into_iter().next()
    {
        *expr = null;
    }
}

/// `typtype = 'c'` and the like, of the kinds of types that there are none of here.
fn is_missing_kind(condition: &Expr) -> bool {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = condition else { return false };
    let column = match left.as_ref() {
        Expr::Identifier(column) => Some(column),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    let kind = match right.as_ref() {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    };
    column.is_some_and(|column| folded(column) == "typtype")
        && kind.is_some_and(|kind| ["c", "d", "e", "m", "r"].contains(&kind.as_str()))
}

/// The argument of `array_agg` where that is all that a query selects.
fn array_aggregated(query: &Query) -> Option<&Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [SelectItem::UnnamedExpr(Expr::Function(function))] = select.projection.as_slice() else { return None };
    match &function.args {
        FunctionArguments::List(list) if parts(&function.name) == ["array_agg"] => match list.args.first()? {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Some(argument),
            _ => None,
        },
        _ => None,
    }
}

/// Whether this is the name of a relation that never has rows.
pub fn is_unread(name: &ObjectName) -> bool {
    match parts(name).as_slice() {
        [name] => system::is_always_empty(system::PG_CATALOG, name),
        [schema, name] => system::is_always_empty(schema, name),
        _ => false,
    }
}

/// Whether a SELECT list could have aggregates.
pub fn calls_aggregate(items: &Vec<SelectItem>) -> bool {
    walk::read(items, &mut Aggregates { depth: 0 }).is_break()
}

/// Finds calls that could be aggregates, not looking into subqueries.
struct Aggregates {
    /// How many subqueries we are in.
    depth: usize,
}

impl Visitor for Aggregates {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        const AGGREGATES: [&str; 12] = [
            "count",
            "sum",
            "min",
            "max",
            "avg",
            "array_agg",
            "string_agg",
            "bool_and",
            "bool_or",
            "every",
            "json_agg",
            "bit_or",
        ];
        match expr {
            Expr::Function(function) if self.depth == 0 => {
                let name = parts(&function.name);
                let is_aggregate = name.last().is_some_and(|name| AGGREGATES.contains(&name.as_str()));
                if is_aggregate { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Puts NULL in place of subqueries.
struct WithoutSubqueries;

impl VisitorMut for WithoutSubqueries {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let is_array = |function: &Function| matches!(function.args, FunctionArguments::Subquery(_));
        let is_subquery = match expr {
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => true,
            Expr::Function(function) => is_array(function) || has_array(function),
            _ => false,
        };
        if is_subquery {
            *expr = Expr::value(Value::Null);
        }
        ControlFlow::Continue(())
    }
}

/// Whether an argument is `ARRAY(SELECT ...)`: then the whole call goes, whose type would not fit.
fn has_array(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    list.args.iter().any(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(inner))) => {
            matches!(inner.args, FunctionArguments::Subquery(_))
        }
        _ => false,
    })
}
