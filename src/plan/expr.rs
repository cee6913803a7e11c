//! DataFusion's logical expressions to our stored [`Scalar`]s. The way back, to something that evaluates, is
//! [`super::bind`]. Aliases and metadata go; every scalar has a SQL type; what has no stored form is refused.

use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use datafusion::common::DFSchema;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::BinaryExpr;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::expr::Between;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::expr::ScalarFunction;

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::functions::cast::CastTo;
use crate::functions::from_datafusion;
use crate::plan::bind;
use crate::plan::ir::Scalar;
use crate::plan::literal;
use crate::types::SqlType;
use crate::types::cast::Mode;

/// An expression over a plan's schema as a scalar; column `i` of the schema is `Scalar::Column(i)`.
pub fn lower_expr(expr: &Expr, schema: &DFSchema) -> Result<Scalar> {
    let one = |e: &Expr| lower_expr(e, schema);
    let predicate = |name: &str, e: &Expr| Ok(Scalar::predicate(name, vec![one(e)?]));
    match expr {
        Expr::Alias(alias) => one(&alias.expr),
        Expr::Column(column) => Ok(Scalar::Column(schema.index_of_column(column).map_err(planning)?)),
        Expr::Literal(value, _) => Ok(Scalar::Literal(literal::from_value(value, type_of(expr, schema)?)?)),
        Expr::BinaryExpr(binary) => lower_binary(expr, binary, schema),
        Expr::Like(like) => lower_like(like, schema),
        Expr::Between(between) => lower_between(between, schema),
        Expr::Case(case) => lower_case(expr, case, schema),
        Expr::Cast(cast) => Ok(Scalar::Cast { input: Box::new(one(&cast.expr)?), ty: sql_type(&cast.field)? }),
        Expr::ScalarFunction(function) => lower_function(expr, function, schema),
        Expr::InList(list) => {
            let arguments = std::iter::once(list.expr.as_ref()).chain(&list.list).map(one);
            let name = if list.negated { "not_in" } else { "in" };
            Ok(Scalar::predicate(name, arguments.collect::<Result<_>>()?))
        }
        Expr::Not(inner) => predicate("not", inner),
        Expr::IsNull(inner) => predicate("is_null", inner),
        Expr::IsNotNull(inner) => predicate("is_not_null", inner),
        Expr::IsTrue(inner) => predicate("is_true", inner),
        Expr::IsNotTrue(inner) => predicate("is_not_true", inner),
        Expr::IsFalse(inner) => predicate("is_false", inner),
        Expr::IsNotFalse(inner) => predicate("is_not_false", inner),
        Expr::IsUnknown(inner) => predicate("is_unknown", inner),
        Expr::IsNotUnknown(inner) => predicate("is_not_unknown", inner),
        other => Err(refusal(other)),
    }
}

/// The name in stored plans of an operator that is DataFusion's own. Arithmetic and its like are functions of ours by now.
fn operator_name(operator: &Operator) -> Option<&'static str> {
    Some(match operator {
        Operator::Eq => "=",
        Operator::NotEq => "<>",
        Operator::Lt => "<",
        Operator::LtEq => "<=",
        Operator::Gt => ">",
        Operator::GtEq => ">=",
        Operator::And => "and",
        Operator::Or => "or",
        Operator::IsDistinctFrom => "is_distinct_from",
        Operator::IsNotDistinctFrom => "is_not_distinct_from",
        Operator::LikeMatch => "like",
        Operator::ILikeMatch => "ilike",
        Operator::NotLikeMatch => "not_like",
        Operator::NotILikeMatch => "not_ilike",
        Operator::AtArrow => "@>",
        Operator::ArrowAt => "<@",
        _ => return None,
    })
}

fn lower_binary(expr: &Expr, binary: &BinaryExpr, schema: &DFSchema) -> Result<Scalar> {
    let Some(name) = operator_name(&binary.op) else {
        return Err(Error::unsupported(format!("operator {} is not supported in a materialized view", binary.op)));
    };
    let arguments = vec![lower_expr(&binary.left, schema)?, lower_expr(&binary.right, schema)?];
    Ok(Scalar::Call { function: name.into(), arguments, ty: type_of(expr, schema)? })
}

fn lower_like(like: &Like, schema: &DFSchema) -> Result<Scalar> {
    if like.escape_char.is_some_and(|c| c != '\\') {
        return Err(Error::unsupported(
            "LIKE with another escape character than \\ is not supported in a materialized view",
        ));
    }
    let name = match (like.negated, like.case_insensitive) {
        (false, false) => "like",
        (false, true) => "ilike",
        (true, false) => "not_like",
        (true, true) => "not_ilike",
    };
    Ok(Scalar::predicate(name, vec![lower_expr(&like.expr, schema)?, lower_expr(&like.pattern, schema)?]))
}

fn lower_between(between: &Between, schema: &DFSchema) -> Result<Scalar> {
    let value = lower_expr(&between.expr, schema)?;
    let low = lower_expr(&between.low, schema)?;
    let high = lower_expr(&between.high, schema)?;
    let (below, above, both) = if between.negated { ("<", ">", "or") } else { (">=", "<=", "and") };
    let sides = [Scalar::predicate(below, vec![value.clone(), low]), Scalar::predicate(above, vec![value, high])];
    Ok(Scalar::predicate(both, sides.into()))
}

/// `CASE x WHEN a` is stored as `CASE WHEN x = a`.
fn lower_case(expr: &Expr, case: &Case, schema: &DFSchema) -> Result<Scalar> {
    let operand = case.expr.as_ref().map(|e| lower_expr(e, schema)).transpose()?;
    let mut branches = Vec::with_capacity(case.when_then_expr.len());
    for (when, then) in &case.when_then_expr {
        let when = lower_expr(when, schema)?;
        let when = match &operand {
            Some(operand) => Scalar::predicate("=", vec![operand.clone(), when]),
            None => when,
        };
        branches.push((when, lower_expr(then, schema)?));
    }
    let otherwise = case.else_expr.as_ref().map(|e| lower_expr(e, schema).map(Box::new)).transpose()?;
    Ok(Scalar::Case { branches, otherwise, ty: type_of(expr, schema)? })
}

fn lower_function(expr: &Expr, function: &ScalarFunction, schema: &DFSchema) -> Result<Scalar> {
    check_volatility(function)?;
    let mut arguments = function.args.iter().map(|e| lower_expr(e, schema)).collect::<Result<Vec<_>>>()?;
    let ty = type_of(expr, schema)?;
    if let (Some(CastTo { mode: Mode::Explicit, .. }), [_]) = (CastTo::of(&function.func), arguments.as_slice()) {
        return Ok(Scalar::Cast { input: Box::new(arguments.remove(0)), ty });
    }
    if !bind::is_function(&function.func, &ty) {
        let message = format!("function {}() is not supported in a materialized view", function.name());
        return Err(Error::unsupported(message).hint("Apply it in the query that reads the view."));
    }
    Ok(Scalar::Call { function: function.name().to_string(), arguments, ty })
}

/// Refuses functions whose answer is not decided by their arguments.
pub(super) fn check_volatility(function: &ScalarFunction) -> Result<()> {
    match function.func.signature().volatility {
        Volatility::Immutable => Ok(()),
        Volatility::Stable => {
            let message = format!("function {}() is not supported in a materialized view", function.name());
            Err(Error::unsupported(message)
                .hint("Its answer changes without any input: apply it in the query that reads the view."))
        }
        Volatility::Volatile => {
            let message = format!("volatile function {}() is not supported in a materialized view", function.name());
            Err(Error::unsupported(message)
                .hint("Its answer differs from call to call, so that no view could be kept equal to its query."))
        }
    }
}

/// The SQL type of an expression.
fn type_of(expr: &Expr, schema: &DFSchema) -> Result<SqlType> {
    let (_, field) = expr.to_field(schema).map_err(planning)?;
    sql_type(&field)
}

/// The SQL type of a field of DataFusion's. Arrow types that no SQL type has are widened to one that has all their values.
pub(super) fn sql_type(field: &Field) -> Result<SqlType> {
    if let Some(ty) = SqlType::of_field(field) {
        return Ok(ty);
    }
    Ok(match field.data_type() {
        DataType::Null | DataType::Utf8View | DataType::LargeUtf8 => SqlType::Text,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => SqlType::Bytea,
        DataType::Int8 | DataType::UInt8 => SqlType::SmallInt,
        DataType::UInt16 => SqlType::Integer,
        DataType::UInt32 | DataType::UInt64 => SqlType::BigInt,
        DataType::Float16 => SqlType::Real,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            SqlType::Numeric { precision: *precision, scale: *scale }
        }
        DataType::Decimal256(_, scale) => SqlType::Numeric { precision: 38, scale: *scale },
        DataType::Date64 | DataType::Timestamp(_, None) => SqlType::Timestamp,
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
        DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
        DataType::Dictionary(_, values) => sql_type(&Field::new("", values.as_ref().clone(), true))?,
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::List(item) => {
            SqlType::Array(Box::new(sql_type(item)?))
        }
        other => {
            return Err(Error::unsupported(format!("values of type {other} are not supported in a materialized view")));
        }
    })
}

/// Why an expression without a stored form is refused.
fn refusal(expr: &Expr) -> Error {
    let what = match expr {
        Expr::Placeholder(placeholder) => {
            return Error::undefined_parameter(format!("there is no parameter {}", placeholder.id));
        }
        Expr::WindowFunction(_) => "a window function",
        Expr::AggregateFunction(_) => "an aggregate in this place",
        Expr::GroupingSet(_) => "GROUPING SETS",
        Expr::ScalarSubquery(_) | Expr::SetComparison(_) => "a subquery of this form",
        Expr::InSubquery(_) => "IN (SELECT ...) in this place",
        Expr::Exists(_) => "EXISTS (SELECT ...) in this place",
        Expr::OuterReferenceColumn(..) => "a subquery correlated in this way",
        Expr::Unnest(_) => "unnest",
        Expr::SimilarTo(_) => "SIMILAR TO",
        Expr::TryCast(_) => "TRY_CAST",
        other => return Error::unsupported(format!("expression {other} is not supported in a materialized view")),
    };
    Error::unsupported(format!("{what} is not supported in a materialized view"))
        .hint("Use it in the query that reads the view.")
}

/// An error of DataFusion while a view is planned. The query was bound before, so it has a meaning: it is the rules that
/// cannot take it apart.
pub(super) fn planning(error: DataFusionError) -> Error {
    let error = from_datafusion(error);
    match error.kind {
        Kind::Syntax | Kind::Unsupported => Error {
            kind: Kind::Unsupported,
            message: format!("this query cannot be maintained: {}", error.message),
            ..error
        },
        _ => error,
    }
}
