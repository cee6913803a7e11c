//! EXISTS and IN (SELECT ...) as values. In a condition DataFusion makes joins of them; in a SELECT list it knows none, so here
//! they say how many rows there are, which a scalar subquery can tell.
//!
//! ```text
//! EXISTS (q)   (SELECT count(*) FROM q) > 0
//! x IN (q)     CASE WHEN rows of q that equal x > 0 THEN true
//!                   WHEN rows of q = 0              THEN false
//!                   WHEN x IS NULL OR rows of q that are NULL > 0 THEN NULL ELSE false END
//! ```

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::DFSchema;
use datafusion::common::JoinType;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TransformedResult;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::Subquery;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::lit;
use datafusion::logical_expr::when;
use datafusion::optimizer::AnalyzerRule;

use crate::error::Error;
use crate::functions::raise::raise;

/// The rule that runs before types are resolved.
#[derive(Debug)]
pub struct Existence;

impl AnalyzerRule for Existence {
    fn name(&self) -> &str {
        "existence"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let in_node = |node: LogicalPlan| match node {
            LogicalPlan::Filter(_) => Ok(Transformed::no(node)),
            LogicalPlan::Projection(_) => in_values(node),
            _ => only_conditions(node),
        };
        plan.transform_up_with_subqueries(in_node).data()
    }
}

fn is_test(expr: &Expr) -> bool {
    matches!(expr, Expr::Exists(_) | Expr::InSubquery(_))
}

fn in_values(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let schema = match node.inputs().first() {
        Some(input) => input.schema().clone(),
        None => return Ok(Transformed::no(node)),
    };
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let replaced = expr.transform_up(|part| match part {
            Expr::Exists(test) => {
                if !test.subquery.outer_ref_columns.is_empty() {
                    must_be_plain(&test.subquery)?;
                }
                let found = rows(&test.subquery, None, Vec::new())?.gt(lit(0i64));
                Ok(Transformed::yes(if test.negated { !found } else { found }))
            }
            Expr::InSubquery(test) => is_among(test, &schema).map(Transformed::yes),
            part => Ok(Transformed::no(part)),
        })?;
        Ok(replaced.update_data(|expr| name.restore(expr)))
    })
}

/// Refuses a test where it is neither a condition of its own nor a value of a SELECT list.
fn only_conditions(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(is_test(part)))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        true => Err(raise(
            Error::unsupported("EXISTS and IN (subquery) are supported in WHERE, in HAVING and in a SELECT list only")
                .hint("Compute it in a subquery in FROM, and use its result."),
        )),
        false => Ok(Transformed::no(node)),
    }
}

fn is_among(test: InSubquery, outer: &DFSchema) -> DfResult<Expr> {
    let InSubquery { expr: operand, subquery, negated } = test;
    // The operand as the subquery sees it.
    let (inside, references) = match operand.as_ref() {
        Expr::Column(column) => {
            let field = Arc::clone(outer.qualified_field_from_column(column)?.1);
            let reference = Expr::OuterReferenceColumn(field, column.clone());
            (reference.clone(), vec![reference])
        }
        Expr::Literal(_, _) | Expr::Placeholder(_) => (operand.as_ref().clone(), Vec::new()),
        _ => {
            return Err(raise(
                Error::unsupported("an expression IN (subquery) is supported as a condition only")
                    .hint("Compute the expression in a subquery in FROM: a column can stand before IN."),
            ));
        }
    };
    if !references.is_empty() || !subquery.outer_ref_columns.is_empty() {
        must_be_plain(&subquery)?;
    }
    let value = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let equal = rows(&subquery, Some(value.clone().eq(inside)), references)?;
    let none = rows(&subquery, None, Vec::new())?.eq(lit(0i64));
    let nulls = rows(&subquery, Some(value.is_null()), Vec::new())?;
    let unknown = operand.is_null().or(nulls.gt(lit(0i64)));
    when(equal.gt(lit(0i64)), lit(!negated))
        .when(none, lit(negated))
        .when(unknown, lit(ScalarValue::Boolean(None)))
        .otherwise(lit(negated))
}

/// How many rows of a subquery fulfil a condition, which may have further references to what is outside.
fn rows(subquery: &Subquery, condition: Option<Expr>, references: Vec<Expr>) -> DfResult<Expr> {
    let mut plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
    if let Some(condition) = condition {
        plan = plan.filter(condition)?;
    }
    let plan = plan.aggregate(Vec::<Expr>::new(), vec![count(lit(1i64))])?.build()?;
    let outer_ref_columns = [subquery.outer_ref_columns.as_slice(), &references].concat();
    Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, ..subquery.clone() }))
}

/// A subquery whose rows are counted for each row outside must not look at several of its own: DataFusion makes a join of it, and
/// would apply a LIMIT, say, to the wrong rows.
fn must_be_plain(subquery: &Subquery) -> DfResult<()> {
    let is_plain = |node: &LogicalPlan| match node {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => true,
        LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Join(join) => join.join_type == JoinType::Inner,
        _ => false,
    };
    match subquery.subquery.exists(|node| Ok(!is_plain(node)))? {
        true => {
            Err(raise(Error::unsupported("EXISTS or IN over such a subquery is supported as a condition only").hint(
                "In a SELECT list it can have inner joins and conditions; use it in WHERE, or join with the subquery.",
            )))
        }
        false => Ok(()),
    }
}
