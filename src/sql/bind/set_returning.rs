//! Functions that give rows: in a SELECT list as `unnest(...)` of a list, in FROM as a subquery with such a list.
//!
//! Postgres' catalogs number the items of `indkey` and its like from 0, which generate_subscripts and `[...]` see; here they are lists
//! like all others, counted from 1, and the numbers are moved.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Select,
    SelectItem, Subscript, TableAlias, TableFactor, Value, VisitorMut,
};

use crate::catalog::system;
use crate::error::{Error, Result};
use crate::sql::bind::catalog_queries::call;
use crate::sql::bind::names::parts;
use crate::sql::parse::ast::Statement;
use crate::sql::parse::grammar::folded;
use crate::sql::parse::parse;
use crate::sql::walk;

/// Columns of the catalogs whose items Postgres counts from 0.
const VECTORS: [&str; 4] = ["indkey", "indclass", "indoption", "indcollation"];

/// Rewrites one SELECT: its list and its FROM, not what is inside subqueries.
pub fn expand(select: &mut Select) -> Result<()> {
    for table in &mut select.from {
        for factor in std::iter::once(&mut table.relation).chain(table.joins.iter_mut().map(|join| &mut join.relation))
        {
            expand_factor(factor)?;
        }
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            expand_item(expr);
        }
    }
    name_oids(select);
    Ok(())
}

/// `generate_series(...)` in FROM as a subquery; `pg_get_keywords()` as the relation that it is here.
fn expand_factor(factor: &mut TableFactor) -> Result<()> {
    let TableFactor::Table { name, alias, args: args @ Some(_), with_ordinality: false, .. } = factor else {
        return Ok(());
    };
    let path = parts(name);
    let function = match path.as_slice() {
        [function] => function.as_str(),
        [schema, function] if schema == system::PG_CATALOG => function.as_str(),
        _ => return Ok(()),
    };
    if function == "pg_get_keywords" {
        *args = None;
        return Ok(());
    }
    if function != "generate_series" {
        return Ok(());
    }
    let column = alias.as_ref().map_or_else(
        || Ident::new("generate_series"),
        |alias| alias.columns.first().map_or_else(|| alias.name.clone(), |column| column.name.clone()),
    );
    let arguments = args.iter().flat_map(|args| &args.args).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // The item becomes `unnest(...)` when the subquery's own SELECT is rewritten.
    let text = format!("SELECT generate_series({arguments}) AS {column}");
    let Some(Statement::Query(subquery)) = parse(&text)?.pop().map(|statement| statement.ast) else {
        return Err(Error::internal("a function in FROM is no query"));
    };
    let alias = alias.take().map(|alias| TableAlias { columns: Vec::new(), ..alias });
    let alias = alias.unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::new("generate_series"),
        columns: Vec::new(),
        at: None,
    });
    *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
    Ok(())
}

/// Rewrites an item of a SELECT list where it gives rows.
fn expand_item(expr: &mut Expr) {
    if let Some(new) = rows_of(expr) {
        *expr = new;
        return;
    }
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } | Expr::UnaryOp { expr: inner, .. } => expand_item(inner),
        Expr::BinaryOp { left, right, .. } => {
            expand_item(left);
            expand_item(right);
        }
        _ => {}
    }
}

fn rows_of(expr: &Expr) -> Option<Expr> {
    match expr {
        // `(f(x)).n`: one of the columns that a function gives.
        Expr::CompoundFieldAccess { root, access_chain } => {
            let ([AccessExpr::Dot(Expr::Identifier(field))], Expr::Nested(inner)) = (access_chain.as_slice(), &**root)
            else {
                return None;
            };
            let list = expanded_array(inner)?;
            match folded(field).as_str() {
                "n" => {
                    let one = Expr::value(Value::Number("1".to_string(), false));
                    Some(unnest(call(Ident::new("ms_subscripts"), vec![list, one])))
                }
                "x" => Some(unnest(list)),
                _ => None,
            }
        }
        Expr::Function(function) => {
            if let Some(list) = expanded_array(expr) {
                return Some(unnest(list));
            }
            let arguments = arguments(function)?;
            match (parts(&function.name).last()?.as_str(), arguments.as_slice()) {
                ("generate_series", [_, _] | [_, _, _]) => {
                    let whole = arguments.iter().all(small_integer);
                    let series = unnest(call(Ident::new("generate_series"), arguments));
                    Some(if whole { integer(series) } else { series })
                }
                ("generate_subscripts", [list, dimension, ..]) => {
                    let base = if is_vector(list) { "0" } else { "1" };
                    let base = Expr::value(Value::Number(base.to_string(), false));
                    let subscripts = Ident::new("ms_subscripts");
                    Some(unnest(call(subscripts, vec![list.clone(), base, dimension.clone()])))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The list of `information_schema._pg_expandarray(list)`, whose rows are the items `x` and their numbers `n`.
fn expanded_array(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    let is_it = parts(&function.name).last()? == "_pg_expandarray";
    arguments(function)?.into_iter().next().filter(|_| is_it)
}

fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

fn unnest(list: Expr) -> Expr {
    call(Ident::new("unnest"), vec![list])
}

fn integer(expr: Expr) -> Expr {
    let mut expr = expr;
    crate::sql::bind::rewrite::wrap_cast(&mut expr, sqlparser::ast::DataType::Integer(None));
    expr
}

/// Whether this is a literal that Postgres takes for an integer.
fn small_integer(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(&value.value, Value::Number(number, _) if number.parse::<i32>().is_ok()),
        Expr::UnaryOp { expr, .. } => small_integer(expr),
        _ => false,
    }
}

/// Whether this is a column whose items Postgres counts from 0.
fn is_vector(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(idents) => idents.last().map(folded).unwrap_or_default(),
        _ => return false,
    };
    VECTORS.iter().any(|vector| name.ends_with(vector))
}

/// What is left of the fields and items of lists outside SELECT lists: `(r.keys).x` where `keys` was expanded, and `indkey[0]`.
pub fn access(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return };
    match access_chain.as_mut_slice() {
        [AccessExpr::Dot(Expr::Identifier(field))] if folded(field) == "x" => {
            if let Expr::Nested(inner) = &**root
                && let Expr::Identifier(_) | Expr::CompoundIdentifier(_) = &**inner
            {
                *expr = (**inner).clone();
            }
        }
        [AccessExpr::Subscript(Subscript::Index { index })] if is_vector(root) => {
            let one = Box::new(Expr::value(Value::Number("1".to_string(), false)));
            let old = Box::new(std::mem::replace(index, Expr::value(Value::Null)));
            *index = Expr::BinaryOp { left: old, op: BinaryOperator::Plus, right: one };
        }
        _ => {}
    }
}

/// `r.tableoid` of a relation of the system as its number.
fn name_oids(select: &mut Select) {
    let factors =
        select.from.iter().flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)));
    let oids: Vec<(String, u32)> = factors
        .filter_map(|factor| {
            let TableFactor::Table { name, alias, args: None, .. } = factor else { return None };
            let path = parts(name);
            let relation = match path.as_slice() {
                [name] => system::find(system::PG_CATALOG, name),
                [schema, name] => system::find(schema, name),
                _ => None,
            }?;
            Some((alias.as_ref().map_or_else(|| relation.name.to_string(), |a| folded(&a.name)), relation.oid))
        })
        .collect();
    if oids.is_empty() {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && let Expr::CompoundIdentifier(idents) = &*expr
            && idents.last().is_some_and(|ident| folded(ident) == "tableoid")
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::new("tableoid") };
        }
    }
    // The visitor never breaks.
    let _ = walk::change(select, &mut TableOids { oids });
}

struct TableOids {
    oids: Vec<(String, u32)>,
}

impl VisitorMut for TableOids {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(idents) = &*expr
            && let [relation, column] = idents.as_slice()
            && folded(column) == "tableoid"
            && let Some((_, oid)) = self.oids.iter().find(|(name, _)| *name == folded(relation))
        {
            *expr = Expr::value(Value::Number(oid.to_string(), false));
        }
        ControlFlow::Continue(())
    }
}
