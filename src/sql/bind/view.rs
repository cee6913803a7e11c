//! What the definition of a view must not hold.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Volatility};

use crate::error::{Error, Result};
use crate::sql::bind::error::convert;
use crate::sql::bind::query::{Purpose, relations};
use crate::sql::bound::{Query, RelationRef};

/// Functions that ask what time it is.
const CLOCKS: [&str; 11] = [
    "now",
    "today",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "transaction_timestamp",
    "statement_timestamp",
    "clock_timestamp",
    "timeofday",
];

/// Refuses parameters, and in a materialized view whatever changes by itself.
pub fn check(query: &Query, purpose: Purpose) -> Result<()> {
    if !query.parameters.is_empty() {
        return Err(Error::undefined_parameter("there is no parameter $1").hint("A view cannot have parameters."));
    }
    if purpose != Purpose::MaterializedView {
        return Ok(());
    }
    for relation in relations(&query.plan)? {
        if let RelationRef::System(schema, name) = relation {
            let message = format!("system relation \"{schema}.{name}\" cannot be read by a materialized view");
            return Err(Error::unsupported(message).hint("Use a plain view."));
        }
    }
    let mut refused = None;
    query
        .plan
        .apply_with_subqueries(|plan| {
            plan.apply_expressions(|expr| {
                expr.apply(|expr| {
                    refused = refused.take().or_else(|| refusal(expr));
                    Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                })
            })
        })
        .map_err(convert)?;
    refused.map_or(Ok(()), Err)
}

fn refusal(expr: &Expr) -> Option<Error> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let name = function.func.name();
    if CLOCKS.contains(&name) {
        let error = Error::unsupported(format!("function {name}() is not supported in a materialized view"));
        return Some(error.hint("Its rows would change without any input. Compare times when you read the view."));
    }
    if function.func.signature().volatility == Volatility::Volatile {
        let error = Error::unsupported(format!("function {name}() is not supported in a materialized view"));
        return Some(error.hint("Its value changes from call to call, so that a row could not be taken back."));
    }
    None
}
