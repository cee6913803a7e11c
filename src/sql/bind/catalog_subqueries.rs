//! Correlated scalar subqueries over relations of the system, as psql's `\d` has them, in a form that DataFusion plans.
//!
//! DataFusion joins a correlated scalar subquery only when it is an aggregate and its correlation is by equality. Hence
//! `(SELECT e FROM r WHERE r.k = o.k AND o.p AND o.x <> r.y)` becomes
//!
//! ```text
//! CASE WHEN o.p AND o.x <> (SELECT only(r.y) FROM r WHERE r.k = o.k)
//!      THEN (SELECT only(e) FROM r WHERE r.k = o.k) END
//! ```
//!
//! where `only` is the value of the one row there may be ([`crate::functions::only`]). A second row is an error, also one
//! that the condition would have excluded: the keys of system relations exclude that.

use std::ops::ControlFlow;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor, Value, Visitor,
};

use crate::catalog::system;
use crate::functions::only::ONLY;
use crate::sql::bind::catalog_queries::{call, calls_aggregate, is_unread};
use crate::sql::bind::names::parts;
use crate::sql::parse::grammar::folded;
use crate::sql::walk;

/// The expression for a scalar subquery that DataFusion could not plan; `None` where it is left as it is.
pub fn single_row(query: &Query) -> Option<Expr> {
    let select = plain_select(query)?;
    let inner = relations(select)?;
    if calls_aggregate(&select.projection) {
        return None;
    }
    let mut kept = Vec::new();
    let mut deferred = Vec::new();
    let mut conditions = Vec::new();
    let mut correlated = false;
    for conjunct in conjuncts(select.selection.as_ref()?) {
        match (side(&conjunct, &inner), conjunct) {
            (Side::Outer, conjunct) => conditions.push(conjunct),
            (Side::Both, Expr::BinaryOp { left, op, right }) if op != BinaryOperator::Eq => {
                match (side(&left, &inner), side(&right, &inner)) {
                    (Side::Outer, Side::Inner) | (Side::Inner, Side::Outer) => deferred.push((*left, op, *right)),
                    _ => return None,
                }
            }
            (Side::Both, conjunct) => {
                correlated = true;
                kept.push(conjunct);
            }
            (Side::Inner, conjunct) => kept.push(conjunct),
        }
    }
    if !correlated {
        return None;
    }
    let base = |value: Expr| subquery(query, select, &kept, value);
    for (left, op, right) in deferred {
        let (left, right) = match side(&left, &inner) {
            Side::Inner => (base(left), right),
            Side::Outer | Side::Both => (left, base(right)),
        };
        conditions.push(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) });
    }
    let value = base(item(select)?.clone());
    Some(match all(conditions) {
        None => value,
        Some(condition) => Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition, result: value }],
            else_result: None,
        },
    })
}

/// The SELECT of a query that is nothing but SELECT, FROM and WHERE with one item.
fn plain_select(query: &Query) -> Option<&Select> {
    let bare =
        query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let SetExpr::Select(select) = &*query.body else { return None };
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    let plain = ungrouped && select.having.is_none() && select.distinct.is_none() && select.projection.len() == 1;
    (bare && plain).then_some(&**select)
}

fn item(select: &Select) -> Option<&Expr> {
    match select.projection.first()? {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => None,
    }
}

/// What the relations of FROM are called, if all of them are the system's.
fn relations(select: &Select) -> Option<Vec<String>> {
    let tables =
        select.from.iter().flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)));
    tables
        .map(|table| {
            let TableFactor::Table { name, alias, args: None, .. } = table else { return None };
            let name = parts(name);
            let found = match name.as_slice() {
                [name] => system::find(system::PG_CATALOG, name),
                [schema, name] => system::find(schema, name),
                _ => None,
            };
            let relation = found?;
            Some(alias.as_ref().map_or_else(|| relation.name.to_string(), |alias| folded(&alias.name)))
        })
        .collect()
}

fn conjuncts(expr: &Expr) -> Vec<Expr> {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            let mut all = conjuncts(left);
            all.extend(conjuncts(right));
            all
        }
        Expr::Nested(inner) => conjuncts(inner),
        other => vec![other.clone()],
    }
}

fn all(conditions: Vec<Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    })
}

/// Which columns an expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// None, or of the subquery's own relations, as far as can be told.
    Inner,
    /// Of the query around it only.
    Outer,
    Both,
}

fn side(expr: &Expr, inner: &[String]) -> Side {
    let mut found = Found { inner, has_inner: false, has_outer: false };
    // The visitor never breaks.
    let _ = walk::read(expr, &mut found);
    match (found.has_inner, found.has_outer) {
        (false, true) => Side::Outer,
        (true, true) => Side::Both,
        (_, false) => Side::Inner,
    }
}

struct Found<'a> {
    inner: &'a [String],
    has_inner: bool,
    has_outer: bool,
}

impl Visitor for Found<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            // The relation's name comes last but one: its schema may stand before it.
            Expr::CompoundIdentifier(idents) => match self.inner.contains(&folded(&idents[idents.len() - 2])) {
                true => self.has_inner = true,
                false => self.has_outer = true,
            },
            Expr::Identifier(_) => self.has_inner = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `(SELECT only(value) FROM ... WHERE kept)`
fn subquery(query: &Query, select: &Select, kept: &[Expr], value: Expr) -> Expr {
    let mut inner = select.clone();
    inner.selection = all(kept.to_vec());
    inner.projection = vec![SelectItem::ExprWithAlias {
        expr: call(Ident::with_quote('"', ONLY), vec![value]),
        alias: Ident::with_quote('"', ONLY),
    }];
    let mut query = query.clone();
    query.body = Box::new(SetExpr::Select(Box::new(inner)));
    Expr::Subquery(Box::new(query))
}

/// Whether a SELECT reads what never has rows: a relation that is always empty, or the options of relations, of which there
/// are none.
fn reads_nothing(select: &Select) -> bool {
    match select.from.first().map(|table| &table.relation) {
        Some(TableFactor::Table { name, args: None, .. }) => is_unread(name),
        Some(TableFactor::Table { name, args: Some(args), .. }) => {
            let is_unnest = parts(name).last().is_some_and(|name| name == "unnest");
            is_unnest && args.args.iter().any(|argument| argument.to_string().to_lowercase().ends_with("reloptions"))
        }
        _ => false,
    }
}

/// A scalar subquery over what never has rows: NULL.
pub fn no_row(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = &*query.body else { return None };
    (reads_nothing(select) && !calls_aggregate(&select.projection)).then(|| Expr::value(Value::Null))
}

/// `array_to_string(ARRAY(SELECT e FROM ... ORDER BY o), s)`: `coalesce((SELECT string_agg(e, s ORDER BY o) FROM ...), '')`,
/// which can be correlated.
pub fn joined_array(function: &Function) -> Option<Expr> {
    if parts(&function.name).last()? != "array_to_string" {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(array)), FunctionArg::Unnamed(FunctionArgExpr::Expr(separator))] =
        list.args.as_slice()
    else {
        return None;
    };
    let Expr::Function(Function { args: FunctionArguments::Subquery(query), .. }) = array else { return None };
    let SetExpr::Select(select) = &*query.body else { return None };
    let mut joined = call(Ident::new("string_agg"), vec![item(select)?.clone(), separator.clone()]);
    let mut query = query.clone();
    if let (Some(order), Expr::Function(function)) = (query.order_by.take(), &mut joined)
        && let (OrderByKind::Expressions(orders), FunctionArguments::List(list)) = (order.kind, &mut function.args)
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(orders));
    }
    let mut inner = (**select).clone();
    inner.projection = vec![SelectItem::UnnamedExpr(joined)];
    query.body = Box::new(SetExpr::Select(Box::new(inner)));
    let empty = Expr::value(Value::SingleQuotedString(String::new()));
    Some(call(Ident::new("coalesce"), vec![Expr::Subquery(query), empty]))
}

/// `ARRAY(SELECT ...)` over what never has rows: the empty array.
pub fn empty_array(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = &*query.body else { return None };
    reads_nothing(select).then(no_array)
}

/// Whether this is what [`empty_array`] gave: an array that it is joined to stays as it is.
pub fn is_no_array(expr: &Expr) -> bool {
    *expr == no_array()
}

fn no_array() -> Expr {
    Expr::Cast {
        kind: sqlparser::ast::CastKind::Cast,
        expr: Box::new(Expr::value(Value::SingleQuotedString("{}".to_string()))),
        data_type: sqlparser::ast::DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(
            Box::new(sqlparser::ast::DataType::Text),
            None,
        )),
        array: false,
        format: None,
    }
}
