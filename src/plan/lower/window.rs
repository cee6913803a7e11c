//! Windows in FROM, and what comes too late for them.
//!
//! ```text
//!            ┌─► window ─► on time? ──────────► the view: from here on, what is above the watermark is all that comes
//!   input ───┤
//!            └─► maybe late? ─► window ─► late? ─► changes ─► <view>$late
//! ```
//!
//! A change carries the watermark that its input had at the end of the epoch before, in a hidden column. Where the time of
//! a window is the event time of such an input, that column goes along with the rows up to here, through whatever works row
//! by row; where it does not get here, nothing is late, and nothing is closed.

use std::mem;

use datafusion::logical_expr::Expr;

use crate::error::Error;
use crate::error::Result;
use crate::functions::window::ON_TIME;
use crate::functions::window::WINDOW_COLUMNS;
use crate::functions::window::Windows;
use crate::ids::NodeId;
use crate::plan::builder::SESSION_CLOSES_AFTER_US;
use crate::plan::ir::Closing;
use crate::plan::ir::Literal;
use crate::plan::ir::Scalar;
use crate::plan::lower::Lowering;
use crate::plan::lower::Relation;
use crate::plan::properties::closes_after;
use crate::plan::refuse::construct;
use crate::sql::window::WindowTable;
use crate::sql::window::Windowing;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::WATERMARK_COLUMN;

/// The column of `<view>$late` that says whether a row came (1) or was taken back (-1).
const DIFF_COLUMN: &str = "ms_diff";

/// The event time of a node's rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventTime {
    /// The time.
    pub time: usize,
    /// The watermark that the row carries.
    pub watermark: usize,
}

impl Lowering<'_> {
    /// A windowed relation; rows that come too late for a window leave it there.
    pub(super) fn window(&mut self, table: &WindowTable) -> Result<Relation> {
        let input = self.lower(&table.input)?;
        let Scalar::Column(time) = self.scalar(&table.time, table.input.schema(), &input)? else {
            return Err(Error::internal("the time of a window is not a column"));
        };
        let event_time = self.event_times.get(&input.node).copied().filter(|event| event.time == time);
        let bounded = closes_after(self.builder.node(input.node), time) == Some(0);
        let event_time = event_time.filter(|_| !bounded);
        if event_time.is_some() && !self.looking_for_late {
            self.late_rows(table)?;
        }
        let width = self.builder.columns(input.node).len();
        let columns = input.columns.iter().copied().chain([width, width + 1]).collect();
        let node = match &table.windowing {
            Windowing::Fixed(windows) => self.fixed(input.node, time, windows, event_time)?,
            Windowing::Session { partition, gap_us } => {
                let place = |expr: &Expr| match self.scalar(expr, table.input.schema(), &input)? {
                    Scalar::Column(column) => Ok(column),
                    _ => Err(construct("a session partitioned by an expression")),
                };
                let partition = partition.iter().map(place).collect::<Result<Vec<_>>>()?;
                let rows = match event_time {
                    Some(event) => {
                        let on_time = self.on_time(time, event.watermark, SESSION_CLOSES_AFTER_US);
                        let rows = self.builder.filter(input.node, on_time)?;
                        self.without(rows, event.watermark)?
                    }
                    None => input.node,
                };
                let node = self.builder.session(rows, time, partition, *gap_us, bounded || event_time.is_some());
                let event = event_time.map(|event| event.watermark);
                let columns = shifted(&input.columns, event, self.builder.columns(node).len());
                return Ok(Relation { node, columns });
            }
        };
        Ok(Relation { node, columns })
    }

    /// Windows that the time alone decides, without the pairs that are late.
    fn fixed(
        &mut self,
        input: NodeId,
        time: usize,
        windows: &Windows,
        event_time: Option<EventTime>,
    ) -> Result<NodeId> {
        let width = self.builder.columns(input).len();
        let windowed = self.builder.window(input, time, windows.clone());
        let Some(EventTime { watermark, .. }) = event_time else { return Ok(windowed) };
        let node = self.builder.filter(windowed, self.on_time(width + 1, watermark, 0))?;
        let (start, end) = (width, width + 1);
        let closing = [Closing { column: start, after_us: windows.size_us() }, Closing { column: end, after_us: 0 }];
        self.builder.prove_closing(node, closing.to_vec());
        Ok(node)
    }

    /// Whether a row comes before what closes so long after the time in this column.
    fn on_time(&self, time: usize, watermark: usize, after_us: i64) -> Scalar {
        let lateness_us = self.allowed_lateness_us.saturating_add(after_us);
        let lateness = Literal { ty: SqlType::BigInt, text: Some(lateness_us.to_string()) };
        Scalar::predicate(ON_TIME, vec![Scalar::Column(time), Scalar::Column(watermark), Scalar::Literal(lateness)])
    }

    /// All columns but one, which is the last that the input has for itself: a retraction carries another watermark than
    /// the row that it takes back, and what keeps rows must not see that.
    fn without(&mut self, input: NodeId, column: usize) -> Result<NodeId> {
        let kept = (0..self.builder.columns(input).len()).filter(|&c| c != column).collect::<Vec<_>>();
        self.builder.select(input, &kept)
    }

    /// Lowers the windowed relation once more, into the plan of `<view>$late`, where the other rows stay. A window ends after
    /// the time of its rows, so nearly all of them are left out before windows are assigned.
    fn late_rows(&mut self, table: &WindowTable) -> Result<()> {
        mem::swap(&mut self.builder, &mut self.late_builder);
        let event_times = mem::take(&mut self.event_times);
        self.looking_for_late = true;
        let late = self.late_pairs(table);
        self.looking_for_late = false;
        self.event_times = event_times;
        mem::swap(&mut self.builder, &mut self.late_builder);
        self.late.push(late?);
        Ok(())
    }

    fn late_pairs(&mut self, table: &WindowTable) -> Result<(NodeId, Vec<Column>)> {
        let input = self.lower(&table.input)?;
        let EventTime { time, watermark } = self.event_times[&input.node];
        let names = table.input.schema().fields().iter().map(|field| field.name().as_str());
        let late = |on_time: Scalar| Scalar::predicate("not", vec![on_time]);
        let (rows, places, names) = match &table.windowing {
            Windowing::Fixed(windows) => {
                let perhaps = self.builder.filter(input.node, late(self.on_time(time, watermark, 0)))?;
                let width = self.builder.columns(perhaps).len();
                let windowed = self.builder.window(perhaps, time, windows.clone());
                let rows = self.builder.filter(windowed, late(self.on_time(width + 1, watermark, 0)))?;
                let places = input.columns.iter().copied().chain([width, width + 1]).collect::<Vec<_>>();
                (rows, places, names.chain(WINDOW_COLUMNS).collect::<Vec<_>>())
            }
            Windowing::Session { .. } => {
                let on_time = self.on_time(time, watermark, SESSION_CLOSES_AFTER_US);
                let rows = self.builder.filter(input.node, late(on_time))?;
                (rows, input.columns.clone(), names.collect())
            }
        };
        let places = places.into_iter().chain([watermark]);
        let named = places.zip(names.into_iter().chain([WATERMARK_COLUMN]));
        let named = named.map(|(c, name)| (Scalar::Column(c), name.to_string())).collect();
        let rows = self.builder.project(rows, named)?;
        let columns = self.builder.columns(rows).to_vec();
        Ok((self.builder.changes(rows, DIFF_COLUMN), columns))
    }

    /// Keeps the hidden watermark of `input` with rows that are computed from it by these expressions; answers where it is
    /// among the columns then.
    pub(super) fn carry(&self, input: NodeId, expressions: &mut Vec<(Scalar, String)>) -> Option<EventTime> {
        let event = self.event_times.get(&input)?;
        let time = expressions.iter().position(|(e, _)| *e == Scalar::Column(event.time))?;
        expressions.push((Scalar::Column(event.watermark), WATERMARK_COLUMN.into()));
        Some(EventTime { time, watermark: expressions.len() - 1 })
    }
}

/// Where columns are after one was left out, then the last two of so many.
fn shifted(columns: &[usize], left_out: Option<usize>, width: usize) -> Vec<usize> {
    let moved = columns.iter().map(|&c| if left_out.is_some_and(|left_out| left_out < c) { c - 1 } else { c });
    moved.chain([width - 2, width - 1]).collect()
}
