//! DataFusion's simplification, without what it does to two lists of one value: of `a IN (b, c) AND a IN (d, e)` it keeps what stands in
//! both lists, whatever `b` to `e` are, NULL in a list counts as a value, and an empty list is FALSE where `a` is NULL.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::LazyLock;

use arrow::datatypes::DataType;
use arrow::datatypes::FieldRef;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::ReturnFieldArgs;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::ScalarUDFImpl;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::lit;
use datafusion::optimizer::ApplyOrder;
use datafusion::optimizer::OptimizerConfig;
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;

/// The rule. While it works, no two lists of an operator are of one value.
#[derive(Debug, Default)]
pub struct Simplify(SimplifyExpressions);

impl OptimizerRule for Simplify {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let mut lists = 0;
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                lists += usize::from(matches!(expr, Expr::InList(_)));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if lists < 2 {
            return self.0.rewrite(plan, config);
        }
        let simplified = self.0.rewrite(told_apart(plan)?, config)?;
        simplified.map_data(as_before)
    }
}

/// Gives the value of each list a number.
fn told_apart(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let (names, number) = (NamePreserver::new(&plan), Cell::new(0));
    let numbered = |expr: Expr| {
        let Expr::InList(mut list) = expr else { return Ok(Transformed::no(expr)) };
        number.set(number.get() + 1);
        let args = vec![*list.expr, lit(number.get())];
        list.expr = Box::new(Expr::ScalarFunction(ScalarFunction::new_udf(NUMBERED.clone(), args)));
        Ok(Transformed::yes(Expr::InList(list)))
    };
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let numbered = expr.transform_up(numbered)?;
        Ok(numbered.update_data(|expr| name.restore(expr)))
    });
    Ok(plan?.data)
}

fn as_before(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let names = NamePreserver::new(&plan);
    let bare = |expr: Expr| match expr {
        Expr::ScalarFunction(mut call) if call.func == *NUMBERED => Ok(Transformed::yes(call.args.swap_remove(0))),
        other => Ok(Transformed::no(other)),
    };
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let bare = expr.transform_up(bare)?;
        Ok(bare.update_data(|expr| name.restore(expr)))
    });
    Ok(plan?.data)
}

static NUMBERED: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(Numbered(Signature::any(2, Volatility::Immutable)))));

/// Its first argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Numbered(Signature);

impl ScalarUDFImpl for Numbered {
    fn name(&self) -> &str {
        "numbered"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, args: &[DataType]) -> DfResult<DataType> {
        Ok(args[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(args.arg_fields[0].clone())
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Ok(args.args.swap_remove(0))
    }
}
