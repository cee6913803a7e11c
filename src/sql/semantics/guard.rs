//! A row's outcome is its own: `false AND error` is false, `true OR error` is true.
//!
//! DataFusion evaluates both sides of AND and OR for every row of a batch. Where one side can fail, it goes under a CASE, whose
//! branches are evaluated for chosen rows only. A test with IN (subquery) becomes a join, which evaluates its operand for every
//! row wherever the test stands, so the CASE goes around the operand.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TransformedResult;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::BinaryExpr;
use datafusion::logical_expr::Case;
use datafusion::logical_expr::Cast;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Operator as DfOperator;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::lit;
use datafusion::optimizer::AnalyzerRule;

use crate::functions::cast::CastTo;
use crate::functions::operator::Operator;
use crate::functions::operator::Symbol;
use crate::functions::quantified::ALL;
use crate::functions::quantified::ANY;
use crate::sql::semantics::resolve::input_schema;

/// The last rule of the analyzer.
#[derive(Debug)]
pub struct Guard;

impl AnalyzerRule for Guard {
    fn name(&self) -> &str {
        "guard"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let guard_node = |plan: LogicalPlan| {
            let names = NamePreserver::new(&plan);
            let schema = input_schema(&plan)?;
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let guarded = guard(expr, &schema)?;
                Ok(guarded.update_data(|expr| name.restore(expr)))
            })
        };
        plan.transform_up_with_subqueries(guard_node).data()
    }
}

/// Guards every AND, OR and boolean CASE of an expression. The outermost chain of an operator is taken at once.
fn guard(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    expr.transform_down(|expr| match &expr {
        Expr::Case(case) if can_fail(&expr)? && expr.get_type(schema)? == DataType::Boolean => {
            let branches =
                case.when_then_expr.iter().map(|(when, then)| (when.as_ref().clone(), then.as_ref().clone()));
            let branches = branches.map(|(when, then)| {
                let when = guard(when, schema).data()?;
                let then = tested_where(guard(then, schema).data()?, &when)?;
                Ok((when, then))
            });
            let otherwise = case.else_expr.as_ref().map(|otherwise| guard(otherwise.as_ref().clone(), schema).data());
            let sealed = sealed_case(branches.collect::<DfResult<_>>()?, otherwise.transpose()?);
            Ok(Transformed::new(sealed, true, TreeNodeRecursion::Jump))
        }
        Expr::BinaryExpr(BinaryExpr { op: op @ (DfOperator::And | DfOperator::Or), .. }) => {
            let op = *op;
            let mut safe = Vec::new();
            let mut fallible = Vec::new();
            for operand in operands(expr.clone(), op) {
                if can_fail(&operand)? { fallible.push(operand) } else { safe.push(operand) }
            }
            if fallible.is_empty() || safe.is_empty() && fallible.len() == 1 {
                return Ok(Transformed::no(expr));
            }
            let fallible =
                fallible.into_iter().map(|operand| guard(operand, schema).data()).collect::<DfResult<Vec<_>>>()?;
            let guarded = chain(safe, fallible, op)?;
            Ok(Transformed::new(guarded, true, TreeNodeRecursion::Jump))
        }
        _ => Ok(Transformed::no(expr)),
    })
}

/// `a`, `b`, `c` of `a AND (b AND c)`.
fn operands(expr: Expr, op: DfOperator) -> Vec<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: inner, right }) if inner == op => {
            let mut all = operands(*left, op);
            all.extend(operands(*right, op));
            all
        }
        other => vec![other],
    }
}

/// The safe operands stay as they are, so that the optimizer can still move each to where it belongs; the others follow in
/// order, each only where those before it leave the answer open, and at last the tests that become joins.
fn chain(safe: Vec<Expr>, fallible: Vec<Expr>, op: DfOperator) -> DfResult<Expr> {
    let join = |left: Expr, right: Expr| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    let (tests, fallible): (Vec<_>, Vec<_>) = fallible.into_iter().partition(is_test);
    let mut rest = fallible.into_iter().rev();
    let mut tail = rest.next();
    for operand in rest {
        tail = tail.map(|tail| only_if_open(operand.clone(), join(operand, tail), op)).transpose()?;
    }
    let head = safe.into_iter().reduce(join);
    let all = match (head, tail) {
        (Some(head), Some(tail)) => {
            let open = only_if_open(head.clone(), tail, op)?;
            Some(join(head, open))
        }
        (head, tail) => head.or(tail),
    };
    let Some(all) = all else { return Ok(tests.into_iter().reduce(join).unwrap_or(lit(op == DfOperator::And))) };
    let open = is_open(all.clone(), op);
    tests.into_iter().try_fold(all, |all, test| Ok(join(all, tested_where(test, &open)?)))
}

/// `x IN (subquery)`, or its opposite.
fn is_test(expr: &Expr) -> bool {
    match expr {
        Expr::Not(inner) => is_test(inner),
        expr => matches!(expr, Expr::InSubquery(_)),
    }
}

/// `then` where `condition` does not decide the answer by itself.
fn only_if_open(condition: Expr, then: Expr, op: DfOperator) -> DfResult<Expr> {
    let open = is_open(condition, op);
    let then = tested_where(then, &open)?;
    Ok(sealed_case(vec![(open, then)], Some(lit(op == DfOperator::Or))))
}

/// Whether an operand leaves the answer open.
fn is_open(operand: Expr, op: DfOperator) -> Expr {
    match op {
        DfOperator::And => Expr::IsNotFalse(Box::new(operand)),
        _ => Expr::IsNotTrue(Box::new(operand)),
    }
}

/// The expression, whose IN subqueries look for operands that can fail only where this condition holds, and else for NULL.
fn tested_where(expr: Expr, condition: &Expr) -> DfResult<Expr> {
    expr.transform_up(|part| match part {
        Expr::InSubquery(mut test) if can_fail(&test.expr)? => {
            let branch = (Box::new(condition.clone()), test.expr);
            test.expr = Box::new(Expr::Case(Case::new(None, vec![branch], None)));
            Ok(Transformed::yes(Expr::InSubquery(test)))
        }
        part => Ok(Transformed::no(part)),
    })
    .data()
}

/// A boolean CASE in numbers, `CASE ... THEN then::int ... END = 1`: out of a boolean one DataFusion's simplifier makes ANDs and ORs,
/// which evaluate every branch for every row.
fn sealed_case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    let number = |value: Expr| match value {
        Expr::Literal(ScalarValue::Boolean(value), _) => Box::new(lit(ScalarValue::Int32(value.map(i32::from)))),
        value => Box::new(Expr::Cast(Cast::new(Box::new(value), DataType::Int32))),
    };
    let branches = branches.into_iter().map(|(when, then)| (Box::new(when), number(then))).collect();
    Expr::Case(Case::new(None, branches, otherwise.map(number))).eq(lit(1))
}

/// Functions of DataFusion's and ours that give an answer for any arguments.
const SAFE: [&str; 32] = [
    ANY,
    ALL,
    "upper",
    "lower",
    "btrim",
    "trim",
    "ltrim",
    "rtrim",
    "length",
    "char_length",
    "octet_length",
    "bit_length",
    "strpos",
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "concat",
    "concat_ws",
    "replace",
    "starts_with",
    "ends_with",
    "left",
    "right",
    "reverse",
    "initcap",
    "md5",
    "interval_span",
    "op_concat",
    "is_null",
    "split_part",
    "ascii",
];

/// Whether some row can make the expression fail.
fn can_fail(expr: &Expr) -> DfResult<bool> {
    expr.exists(|part| {
        Ok(match part {
            Expr::ScalarFunction(function) => {
                let harmless = Operator::of(&function.func).is_some_and(|operator| operator.symbol == Symbol::Concat)
                    || CastTo::of(&function.func).is_none() && SAFE.contains(&function.func.name())
                    || is_text_cast(function);
                !harmless
            }
            Expr::Negative(_) | Expr::ScalarSubquery(_) => true,
            _ => false,
        })
    })
}

/// Conversions to `text` do not fail.
fn is_text_cast(function: &datafusion::logical_expr::expr::ScalarFunction) -> bool {
    CastTo::of(&function.func).is_some_and(|cast| cast.ty == crate::types::SqlType::Text)
}
