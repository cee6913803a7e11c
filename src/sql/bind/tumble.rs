//! `TUMBLE(t, ts, size [, offset])` in FROM: the rows of `t`, each with the window it lies in.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder, Operator, binary_expr};
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, ObjectName, TableFactor};

use crate::error::Error;
use crate::functions::window::{micros, tumble_start};
use crate::sql::bind::names::parts;
use crate::sql::dialect::WINDOWS;
use crate::types::interval::Interval;

/// The columns that a window adds.
const COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// Plans the window functions of FROM.
#[derive(Debug)]
pub struct Tumble;

impl RelationPlanner for Tumble {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, args: Some(args), .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let name = parts(name).pop().unwrap_or_default();
        if !WINDOWS.contains(&name.as_str()) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        if name != "tumble" {
            let error = Error::unsupported(format!("{}() is not supported", name.to_uppercase()));
            return Err(external(error.hint("TUMBLE(t, ts, INTERVAL '1 minute') is.")));
        }
        let plan = plan_tumble(&args.args, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

fn plan_tumble(
    arguments: &[FunctionArg],
    context: &mut dyn RelationPlannerContext,
) -> Result<datafusion::logical_expr::LogicalPlan> {
    let arguments: Vec<&ast::Expr> = arguments.iter().filter_map(plain).collect();
    let (table, ts, size, offset) = match arguments.as_slice() {
        [table, ts, size] => (*table, *ts, *size, None),
        [table, ts, size, offset] => (*table, *ts, *size, Some(*offset)),
        _ => {
            let error = Error::undefined_function("TUMBLE takes a table, a timestamp column, a size and an offset")
                .hint("Write TUMBLE(t, ts, INTERVAL '1 minute').");
            return Err(external(error));
        }
    };
    let input = context.plan(table_factor(table)?)?;
    let schema = input.schema().clone();
    let ts = context.sql_to_expr(ts.clone(), &schema)?;
    check_column(&ts, &schema)?;
    let size = interval(context.sql_to_expr(size.clone(), &DFSchema::empty())?)?;
    let offset = match offset {
        Some(offset) => interval(context.sql_to_expr(offset.clone(), &DFSchema::empty())?)?,
        None => IntervalMonthDayNano::new(0, 0, 0),
    };
    if micros(&size).map_err(external)? <= 0 {
        return Err(external(Error::invalid_parameter("the size of a window must be greater than zero")));
    }
    micros(&offset).map_err(external)?;
    let literal = |interval| Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), None);
    let start = tumble_start().call(vec![ts, literal(size), literal(offset)]);
    let end = binary_expr(start.clone(), Operator::Plus, literal(size));
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    for (name, expr) in COLUMNS.into_iter().zip([start, end]) {
        if schema.has_column_with_unqualified_name(name) {
            return Err(external(Error::duplicate_column(format!("the windowed relation has a column \"{name}\""))));
        }
        columns.push(expr.alias(name));
    }
    LogicalPlanBuilder::from(input).project(columns)?.build()
}

fn plain(argument: &FunctionArg) -> Option<&ast::Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// The relation that the first argument is.
fn table_factor(argument: &ast::Expr) -> Result<TableFactor> {
    let name = match argument {
        ast::Expr::Identifier(ident) => ObjectName::from(vec![ident.clone()]),
        ast::Expr::CompoundIdentifier(idents) => ObjectName::from(idents.clone()),
        ast::Expr::Nested(inner) => return table_factor(inner),
        ast::Expr::Subquery(query) => {
            return Ok(TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None });
        }
        other => {
            let error = Error::syntax(format!("TUMBLE takes a table or a query in parentheses, not {other}"));
            return Err(external(error));
        }
    };
    Ok(TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    })
}

fn check_column(ts: &Expr, schema: &DFSchema) -> Result<()> {
    let Expr::Column(column) = ts else {
        return Err(external(Error::syntax("the second argument of TUMBLE is a column of the first")));
    };
    match ts.get_type(schema)? {
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(()),
        _ => {
            let message = format!("column \"{}\" of TUMBLE must be a timestamp", column.name);
            Err(external(Error::type_mismatch(message)))
        }
    }
}

/// A constant interval, also as plain text.
fn interval(expr: Expr) -> Result<IntervalMonthDayNano> {
    let value = match expr {
        Expr::Literal(value, _) => Some(value),
        Expr::Cast(cast) => match *cast.expr {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        },
        _ => None,
    };
    match value {
        Some(ScalarValue::IntervalMonthDayNano(Some(interval))) => Ok(interval),
        Some(ScalarValue::Utf8(Some(text))) => {
            Interval::parse(&text).and_then(|interval| interval.arrow()).map_err(external)
        }
        _ => Err(external(Error::type_mismatch("the size and the offset of a window must be constant intervals"))),
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
