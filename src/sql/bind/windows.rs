//! `TUMBLE`, `HOP`, `CUMULATE` and `SESSION` in FROM: the rows of a relation, each with the windows it lies in.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, ObjectName, TableFactor};

use crate::error::Error;
use crate::functions::window::{WINDOW_COLUMNS, WINDOWS_MAX, Windows, micros};
use crate::sql::bind::names::parts;
use crate::sql::dialect::WINDOWS;
use crate::sql::window::{WindowTable, Windowing};
use crate::types::interval::Interval;

/// Plans the window functions of FROM.
#[derive(Debug)]
pub struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
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
        let call = Call { name: &name, arguments: args.args.iter().filter_map(plain).collect() };
        let plan = call.plan(context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// A window function in FROM with its arguments.
struct Call<'a> {
    name: &'a str,
    arguments: Vec<&'a ast::Expr>,
}

impl Call<'_> {
    fn plan(&self, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
        let (partition, lengths) = match (self.name, self.arguments.as_slice()) {
            ("tumble", [_, _, lengths @ ..]) if (1..=2).contains(&lengths.len()) => (&[][..], lengths),
            ("hop" | "cumulate", [_, _, lengths @ ..]) if (2..=3).contains(&lengths.len()) => (&[][..], lengths),
            ("session", [_, partition @ .., _, gap]) => (partition, std::slice::from_ref(gap)),
            _ => return Err(self.usage()),
        };
        let input = context.plan(self.table_factor(self.arguments[0])?)?;
        let schema = input.schema().clone();
        let time = context.sql_to_expr(self.arguments[1 + partition.len()].clone(), &schema)?;
        self.check_column(&time, &schema)?;
        let mut micros_of = |length: &ast::Expr| {
            let length = interval(context.sql_to_expr(length.clone(), &DFSchema::empty())?)?;
            micros(&length).map_err(external)
        };
        let lengths = lengths.iter().map(|length| micros_of(length)).collect::<Result<Vec<_>>>()?;
        let windowing = match (self.name, lengths.as_slice()) {
            ("session", [gap_us]) => {
                let partition = partition.iter().flat_map(|expr| keys(expr));
                let partition = partition.map(|expr| context.sql_to_expr(expr.clone(), &schema));
                Windowing::Session { partition: partition.collect::<Result<_>>()?, gap_us: *gap_us }
            }
            (_, lengths) => Windowing::Fixed(self.windows(lengths)),
        };
        check_lengths(&windowing)?;
        if let Windowing::Session { partition, .. } = &windowing
            && let Some(other) = partition.iter().find(|expr| !matches!(expr, Expr::Column(_)))
        {
            let error = Error::unsupported(format!("PARTITION BY of SESSION takes columns, not {other}"));
            return Err(external(error.hint("Compute it in a query: SESSION((SELECT ...) PARTITION BY k, ts, gap).")));
        }
        if let Some(name) = WINDOW_COLUMNS.into_iter().find(|name| schema.has_column_with_unqualified_name(name)) {
            return Err(external(Error::duplicate_column(format!("the windowed relation has a column \"{name}\""))));
        }
        Ok(WindowTable::new(Arc::new(input), time, windowing)?.plan())
    }

    /// The windows of these lengths, whose number was checked.
    fn windows(&self, lengths: &[i64]) -> Windows {
        let length = |at: usize| lengths.get(at).copied().unwrap_or(0);
        match self.name {
            "hop" => Windows::Hop { slide_us: length(0), size_us: length(1), offset_us: length(2) },
            "cumulate" => Windows::Cumulate { step_us: length(0), size_us: length(1), offset_us: length(2) },
            _ => Windows::Tumble { size_us: length(0), offset_us: length(1) },
        }
    }

    fn usage(&self) -> DataFusionError {
        let (takes, example) = match self.name {
            "hop" => ("a slide, a size and an offset", "HOP(t, ts, INTERVAL '10 seconds', INTERVAL '1 minute')"),
            "cumulate" => ("a step, a size and an offset", "CUMULATE(t, ts, INTERVAL '1 hour', INTERVAL '1 day')"),
            "session" => ("a gap", "SESSION(t PARTITION BY k, ts, INTERVAL '5 minutes')"),
            _ => ("a size and an offset", "TUMBLE(t, ts, INTERVAL '1 minute')"),
        };
        let name = self.name.to_uppercase();
        let error = Error::undefined_function(format!("{name} takes a table, a timestamp column, {takes}"));
        external(error.hint(format!("Write {example}.")))
    }

    /// The relation that the first argument is.
    fn table_factor(&self, argument: &ast::Expr) -> Result<TableFactor> {
        let name = match argument {
            ast::Expr::Identifier(ident) => ObjectName::from(vec![ident.clone()]),
            ast::Expr::CompoundIdentifier(idents) => ObjectName::from(idents.clone()),
            ast::Expr::Nested(inner) => return self.table_factor(inner),
            ast::Expr::Subquery(query) => {
                return Ok(TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None });
            }
            other => {
                let name = self.name.to_uppercase();
                let error = Error::syntax(format!("{name} takes a table or a query in parentheses, not {other}"));
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

    fn check_column(&self, time: &Expr, schema: &DFSchema) -> Result<()> {
        let name = self.name.to_uppercase();
        let Expr::Column(column) = time else {
            return Err(external(Error::syntax(format!(
                "{name} takes a column of its table for the time, not {time}"
            ))));
        };
        match time.get_type(schema)? {
            DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(()),
            _ => {
                let message = format!("column \"{}\" of {name} must be a timestamp", column.name);
                Err(external(Error::type_mismatch(message)))
            }
        }
    }
}

/// Lengths are greater than zero, steps divide sizes, and a row lies in a bounded number of windows.
fn check_lengths(windowing: &Windowing) -> Result<()> {
    let (positive, count) = match windowing {
        Windowing::Fixed(Windows::Tumble { size_us, .. }) => (vec![("size", *size_us)], 1),
        Windowing::Fixed(Windows::Hop { slide_us, size_us, .. }) => {
            (vec![("slide", *slide_us), ("size", *size_us)], size_us / (*slide_us).max(1))
        }
        Windowing::Fixed(Windows::Cumulate { step_us, size_us, .. }) => {
            if *step_us > 0 && size_us % step_us != 0 {
                let error = Error::invalid_parameter("the size of cumulating windows must be a multiple of their step");
                return Err(external(error));
            }
            (vec![("step", *step_us), ("size", *size_us)], size_us / (*step_us).max(1))
        }
        Windowing::Session { gap_us, .. } => (vec![("gap", *gap_us)], 1),
    };
    if let Some((what, _)) = positive.iter().find(|(_, length)| *length <= 0) {
        return Err(external(Error::invalid_parameter(format!("the {what} of a window must be greater than zero"))));
    }
    if count > WINDOWS_MAX {
        let message = format!("a row would lie in {count} windows, more than {WINDOWS_MAX}");
        return Err(external(Error::invalid_parameter(message).hint("Choose a larger slide or step.")));
    }
    Ok(())
}

/// The expressions of PARTITION BY, also in parentheses.
fn keys(expr: &ast::Expr) -> Vec<&ast::Expr> {
    match expr {
        ast::Expr::Tuple(exprs) => exprs.iter().collect(),
        ast::Expr::Nested(inner) => keys(inner),
        other => vec![other],
    }
}

fn plain(argument: &FunctionArg) -> Option<&ast::Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
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
        _ => Err(external(Error::type_mismatch("the lengths of a window must be constant intervals"))),
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
