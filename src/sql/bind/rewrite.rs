//! Rewrites of the syntax tree before DataFusion plans it: what it does not know in words that it does, and refusals of
//! what it would answer wrongly.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArguments, Ident, LimitClause, ObjectName,
    ObjectNamePart, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, Table, Value, Visitor, VisitorMut,
};

use crate::error::{Error, Result};
use crate::sql::BindContext;
use crate::sql::bind::catalog_queries;
use crate::sql::bind::catalog_subqueries;
use crate::sql::bind::names::{DATABASE, parts};
use crate::sql::bind::output::name_items;
use crate::sql::bind::quantified;
use crate::sql::bind::set_returning;
use crate::sql::bind::types::sql_type;
use crate::sql::parse::ast::Statement;
use crate::sql::parse::parse;
use crate::sql::semantics::prepare::prepare;
use crate::sql::walk;
use crate::types::SqlType;

/// Rewrites a query in place.
pub fn rewrite(query: &mut Query, context: &BindContext, around_wildcards: bool) -> Result<()> {
    prepare(query)?;
    let mut rewriter = Rewriter { context, around_wildcards, failed: None };
    let _ = walk::change(query, &mut rewriter);
    rewriter.failed.map_or(Ok(()), Err)
}

/// Rewrites an expression in place.
pub fn rewrite_expression(expr: &mut Expr, context: &BindContext) -> Result<()> {
    prepare(expr)?;
    let mut rewriter = Rewriter { context, around_wildcards: false, failed: None };
    let _ = walk::change(expr, &mut rewriter);
    rewriter.failed.map_or(Ok(()), Err)
}

struct Rewriter<'a> {
    /// For what a session knows of itself.
    context: &'a BindContext,
    /// See [`name_items`].
    around_wildcards: bool,
    /// Why it broke off.
    failed: Option<Error>,
}

impl Rewriter<'_> {
    fn told(&mut self, outcome: Result<()>) -> ControlFlow<()> {
        self.failed = outcome.err();
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl VisitorMut for Rewriter<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_items(&mut select.projection, self.around_wildcards);
        catalog_queries::skip_unread(select);
        catalog_queries::skip_missing_kinds(select);
        self.told(set_returning::expand(select))
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        order_by_positions(query);
        let SetExpr::Table(table) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let selected = select_all(table).map(|select| *query.body = select);
        self.told(selected)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let new = rewritten(expr, self.context);
        self.told(new.map(|new| new.into_iter().for_each(|new| *expr = new)))
    }
}

fn rewritten(expr: &mut Expr, context: &BindContext) -> Result<Option<Expr>> {
    match expr {
        Expr::Collate { expr: inner, collation } => {
            let collation = parts(collation);
            let name = collation.last().map(String::as_str).unwrap_or_default();
            if !["default", "C", "POSIX", "ucs_basic", "c", "posix"].contains(&name) {
                return Err(Error::unsupported(format!("collation \"{}\" is not supported", collation.join(".")))
                    .hint("Text is compared by its bytes: collation \"C\"."));
            }
            Ok(Some(std::mem::replace(inner, Expr::value(Value::Null))))
        }
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } if catalog_subqueries::is_no_array(right) => {
            Ok(Some(std::mem::replace(left, Expr::value(Value::Null))))
        }
        Expr::BinaryOp { op: op @ BinaryOperator::PGCustomBinaryOperator(_), .. } => {
            let BinaryOperator::PGCustomBinaryOperator(name) = &*op else { return Ok(None) };
            let symbol = name.last().map(String::as_str).unwrap_or_default();
            *op = operator(symbol)
                .ok_or_else(|| Error::undefined_function(format!("operator does not exist: {}", name.join("."))))?;
            Ok(None)
        }
        Expr::AnyOp { left, compare_op, right, .. } => quantified::compared(left, compare_op, right, false),
        Expr::AllOp { left, compare_op, right } => quantified::compared(left, compare_op, right, true),
        Expr::CompoundFieldAccess { .. } => {
            set_returning::access(expr);
            Ok(None)
        }
        Expr::Subquery(query) => {
            Ok(catalog_subqueries::no_row(query).or_else(|| catalog_subqueries::single_row(query)))
        }
        Expr::Function(Function { args: FunctionArguments::Subquery(query), .. }) => {
            Ok(catalog_subqueries::empty_array(query))
        }
        Expr::Cast { .. } => Ok(catalog_queries::name_cast(expr)),
        Expr::Function(function) => {
            if let Some(joined) = catalog_subqueries::joined_array(function) {
                return Ok(Some(joined));
            }
            if let [ObjectNamePart::Identifier(schema), rest] = function.name.0.as_slice()
                && schema.value.eq_ignore_ascii_case("pg_catalog")
            {
                function.name = ObjectName(vec![rest.clone()]);
            }
            let name = parts(&function.name);
            let [name] = name.as_slice() else { return Ok(None) };
            let bare = matches!(function.args, FunctionArguments::None);
            Ok(session_value(name, bare, context).map(Expr::value))
        }
        Expr::Identifier(Ident { value, quote_style: None, .. }) => {
            let name = value.to_lowercase();
            Ok((name == "user").then(|| Expr::value(text(&context.user))))
        }
        _ => Ok(None),
    }
}

/// An ORDER BY expression that is an item of the select list is named by its number: the item is about to get an alias, and
/// DataFusion would not know the two for the same.
fn order_by_positions(query: &mut Query) {
    let (SetExpr::Select(select), Some(OrderBy { kind: OrderByKind::Expressions(orders), .. })) =
        (query.body.as_ref(), &mut query.order_by)
    else {
        return;
    };
    let items: Option<Vec<&Expr>> = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => None,
        })
        .collect();
    let Some(items) = items else { return };
    for order in orders {
        if matches!(order.expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_)) {
            continue;
        }
        if let Some(place) = items.iter().position(|item| **item == order.expr) {
            order.expr = Expr::value(Value::Number((place + 1).to_string(), false));
        }
    }
}

/// `TABLE t` as `SELECT * FROM t`.
fn select_all(table: &Table) -> Result<SetExpr> {
    let name = [&table.schema_name, &table.table_name].into_iter().flatten();
    let name: Vec<String> = name.map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    match parse(&format!("SELECT * FROM {}", name.join(".")))?.pop().map(|statement| statement.ast) {
        Some(Statement::Query(query)) => Ok(*query.body),
        _ => Err(Error::internal("TABLE is no query")),
    }
}

/// The parameters that count rows, in LIMIT and OFFSET.
pub fn counting_parameters(query: &Query) -> BTreeSet<String> {
    struct Counts(BTreeSet<String>);
    impl Visitor for Counts {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
                for count in limit.iter().chain(offset.as_ref().map(|offset| &offset.value)) {
                    if is_placeholder(count) {
                        self.0.insert(count.to_string());
                    }
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut counts = Counts(BTreeSet::new());
    let _ = walk::read(query, &mut counts);
    counts.0
}

/// The parameters that a query names, with the types that casts right around them give.
pub fn cast_parameters(query: &Query) -> BTreeMap<String, Option<SqlType>> {
    struct Casts(BTreeMap<String, Option<SqlType>>);
    impl Visitor for Casts {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Cast { expr: inner, data_type, .. } if is_placeholder(inner) => {
                    self.0.insert(inner.to_string(), sql_type(data_type).ok());
                }
                _ if is_placeholder(expr) => {
                    self.0.entry(expr.to_string()).or_default();
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut casts = Casts(BTreeMap::new());
    let _ = walk::read(query, &mut casts);
    casts.0
}

/// What a session knows of itself, where Postgres writes it without parentheses.
fn session_value(name: &str, bare: bool, context: &BindContext) -> Option<Value> {
    match name {
        "current_user" | "session_user" | "current_role" | "user" if bare => Some(text(&context.user)),
        "current_catalog" if bare => Some(text(DATABASE)),
        "current_schema" if bare => context.search_path.first().map(|schema| text(schema)),
        _ => None,
    }
}

fn text(value: &str) -> Value {
    Value::SingleQuotedString(value.to_string())
}

/// The operator that `OPERATOR(pg_catalog.~)` names.
fn operator(symbol: &str) -> Option<BinaryOperator> {
    Some(match symbol {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

/// Whether an expression is a bare `$n`.
pub fn is_placeholder(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

/// Puts a cast around an expression.
pub fn wrap_cast(expr: &mut Expr, data_type: DataType) {
    let inner = Box::new(std::mem::replace(expr, Expr::value(Value::Null)));
    *expr = Expr::Cast { kind: CastKind::DoubleColon, expr: inner, data_type, array: false, format: None };
}
