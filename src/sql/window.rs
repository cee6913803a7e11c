//! A windowed relation in a logical plan: the rows of its input, each with the windows it lies in.
//!
//! A node of its own, so that DataFusion's rules leave it whole: lateness is decided here, for complete rows, before the plan
//! branches. Views lower it; reads run it as it stands.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::functions::window::{WINDOW_COLUMNS, Windows};

/// How rows are put into windows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Windowing {
    /// By their time alone.
    Fixed(Windows),
    /// With the rows of equal `partition` columns that lie at most `gap_us` away.
    Session { partition: Vec<Expr>, gap_us: i64 },
}

/// `TUMBLE(...)` and its kin in FROM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WindowTable {
    /// The relation.
    pub input: Arc<LogicalPlan>,
    /// Its time column.
    pub time: Expr,
    /// Which windows.
    pub windowing: Windowing,
    /// The columns of the relation, then start and end of the window.
    schema: DFSchemaRef,
}

impl WindowTable {
    /// A relation put into windows by a column of it.
    pub fn new(input: Arc<LogicalPlan>, time: Expr, windowing: Windowing) -> Result<WindowTable> {
        let below = input.schema();
        let (data_type, nullable) = (time.get_type(below)?, time.nullable(below)?);
        let mut fields = below.iter().map(|(q, f)| (q.cloned(), f.clone())).collect::<Vec<_>>();
        for name in WINDOW_COLUMNS {
            fields.push((None, Arc::new(Field::new(name, data_type.clone(), nullable))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, below.metadata().clone())?);
        Ok(WindowTable { input, time, windowing, schema })
    }

    /// The same as a plan.
    pub fn plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The windowed relation that a plan's node is, if it is one.
    pub fn of(plan: &LogicalPlan) -> Option<&WindowTable> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

/// Nothing asks for an order of such nodes.
impl PartialOrd for WindowTable {
    fn partial_cmp(&self, other: &WindowTable) -> Option<Ordering> {
        self.time.partial_cmp(&other.time).filter(|_| self == other)
    }
}

impl UserDefinedLogicalNodeCore for WindowTable {
    fn name(&self) -> &str {
        "WindowTable"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        match &self.windowing {
            Windowing::Fixed(_) => vec![self.time.clone()],
            Windowing::Session { partition, .. } => [std::slice::from_ref(&self.time), partition.as_slice()].concat(),
        }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.windowing {
            Windowing::Fixed(windows) => write!(f, "WindowTable: {} {windows:?}", self.time),
            Windowing::Session { gap_us, .. } => write!(f, "WindowTable: {} Session {{ gap_us: {gap_us} }}", self.time),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let below = self.input.schema();
        let own = self
            .expressions()
            .iter()
            .map(|expr| match expr {
                Expr::Column(column) => below.maybe_index_of_column(column),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()?;
        let passed = output_columns.iter().copied().filter(|&column| column < below.fields().len());
        Some(vec![passed.chain(own).collect::<BTreeSet<_>>().into_iter().collect()])
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<WindowTable> {
        let time = exprs.remove(0);
        let windowing = match &self.windowing {
            Windowing::Fixed(windows) => Windowing::Fixed(windows.clone()),
            Windowing::Session { gap_us, .. } => Windowing::Session { partition: exprs, gap_us: *gap_us },
        };
        WindowTable::new(Arc::new(inputs.remove(0)), time, windowing)
    }
}
