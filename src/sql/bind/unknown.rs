//! Literals and parameters of unknown type take the type of what they stand beside, as in Postgres: in `n = '5'` the text is
//! read as a number.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, IntervalUnit};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, Case, Cast, InList, Placeholder, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use sqlparser::ast::BinaryOperator;

use crate::types::SqlType;

/// Resolves the unknown side of operators while they are planned.
#[derive(Debug)]
pub struct Unknowns;

impl ExprPlanner for Unknowns {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        let left_type = beside(&op, &left, &right, schema);
        let right_type = beside(&op, &right, &left, schema);
        let left = resolve(left, left_type);
        let right = resolve(right, right_type);
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// The type that `unknown` takes under an operator, if it is unknown and the other side says.
fn beside(op: &BinaryOperator, unknown: &Expr, other: &Expr, schema: &DFSchema) -> Option<FieldRef> {
    if !is_unknown(unknown) {
        return None;
    }
    let known = known_type(other, schema)?;
    match op {
        BinaryOperator::Eq
        | BinaryOperator::NotEq
        | BinaryOperator::Lt
        | BinaryOperator::LtEq
        | BinaryOperator::Gt
        | BinaryOperator::GtEq
        | BinaryOperator::Minus
        | BinaryOperator::Multiply
        | BinaryOperator::Divide
        | BinaryOperator::Modulo => Some(known),
        BinaryOperator::Plus => match known.data_type() {
            DataType::Timestamp(..) => Some(SqlType::Interval.field("", true).into()),
            _ => Some(known),
        },
        BinaryOperator::And | BinaryOperator::Or => Some(SqlType::Boolean.field("", true).into()),
        _ => None,
    }
}

/// Whether an expression is a text literal, or a parameter, that nothing gives a type yet.
pub fn is_unknown(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(_)), metadata) => metadata.is_none(),
        Expr::Placeholder(placeholder) => placeholder.field.is_none(),
        _ => false,
    }
}

/// The type of an expression that has one.
fn known_type(expr: &Expr, schema: &DFSchema) -> Option<FieldRef> {
    if is_unknown(expr) {
        return None;
    }
    let (_, field) = expr.to_field(schema).ok()?;
    match field.data_type() {
        DataType::Null => None,
        DataType::Interval(IntervalUnit::MonthDayNano) => Some(SqlType::Interval.field("", true).into()),
        _ => Some(Arc::new(field.as_ref().clone().with_name("").with_nullable(true))),
    }
}

/// An unknown expression with its type; others stay.
fn resolve(expr: Expr, ty: Option<FieldRef>) -> Expr {
    let Some(field) = ty else { return expr };
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Expr::Placeholder(Placeholder { id, field: Some(field) })
        }
        expr if is_text(field.data_type()) => expr,
        Expr::Literal(value @ ScalarValue::Utf8(Some(_)), None) => {
            let plain = Arc::new(field.as_ref().clone().with_metadata(Default::default()));
            Expr::Cast(Cast::new_from_field(Box::new(Expr::Literal(value, None)), plain))
        }
        expr => expr,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

/// Resolves what [`Unknowns`] is not asked about: BETWEEN, IN lists, CASE, COALESCE and their kin.
pub fn resolve_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        let preserver = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = preserver.save(&expr);
            let resolved = expr.transform_up(|expr| resolve_among(expr, &schema))?;
            Ok(resolved.update_data(|expr| name.restore(expr)))
        })
    })
    .data()
}

fn resolve_among(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Between(Between { expr, negated, low, high }) => {
            let ty = known_type(&expr, schema).or_else(|| known_type(&low, schema)).or_else(|| known_type(&high, schema));
            let [expr, low, high] = [expr, low, high].map(|e| Box::new(resolve(*e, ty.clone())));
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let ty = known_type(&expr, schema).or_else(|| list.iter().find_map(|e| known_type(e, schema)));
            let list = list.into_iter().map(|e| resolve(e, ty.clone())).collect();
            let expr = Box::new(resolve(*expr, ty));
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let results = when_then_expr.iter().map(|(_, then)| then).chain(&else_expr);
            let ty = results.into_iter().find_map(|e| known_type(e, schema));
            let tested = expr.as_ref().and_then(|e| known_type(e, schema));
            let when_then_expr = when_then_expr
                .into_iter()
                .map(|(w, t)| (Box::new(resolve(*w, tested.clone())), Box::new(resolve(*t, ty.clone()))))
                .collect();
            let else_expr = else_expr.map(|e| Box::new(resolve(*e, ty)));
            Ok(Transformed::yes(Expr::Case(Case { expr, when_then_expr, else_expr })))
        }
        Expr::ScalarFunction(ScalarFunction { func, args })
            if ["coalesce", "nullif", "greatest", "least"].contains(&func.name()) =>
        {
            let ty = args.iter().find_map(|e| known_type(e, schema));
            let args = args.into_iter().map(|e| resolve(e, ty.clone())).collect();
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
        }
        Expr::Cast(cast) if matches!(cast.expr.as_ref(), Expr::Placeholder(p) if p.field.is_none()) => {
            Ok(Transformed::yes(resolve(*cast.expr, Some(cast.field))))
        }
        expr => Ok(Transformed::no(expr)),
    }
}
