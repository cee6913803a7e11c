//! The one match from a plan's node to the operator that runs it.

use crate::dataflow::operator::Operator;
use crate::dataflow::operators::aggregate::Aggregate;
use crate::dataflow::operators::aggregate::Kept;
use crate::dataflow::operators::anti::Anti;
use crate::dataflow::operators::arrange::Arrange;
use crate::dataflow::operators::arrange::SharedArrangement;
use crate::dataflow::operators::changes::Changes;
use crate::dataflow::operators::filter::Filter;
use crate::dataflow::operators::final_rows::FinalRows;
use crate::dataflow::operators::join::Join;
use crate::dataflow::operators::negate::Negate;
use crate::dataflow::operators::project::Project;
use crate::dataflow::operators::repeat::Repeat;
use crate::dataflow::operators::session;
use crate::dataflow::operators::session::Session;
use crate::dataflow::operators::sink::Sink;
use crate::dataflow::operators::union::Union;
use crate::dataflow::operators::values::Values;
use crate::dataflow::operators::window::Window;
use crate::error::{Error, Result};
use crate::ids::NodeId;
use crate::plan::bind::bind;
use crate::plan::ir::Literal;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::plan::ir::Scalar;
use crate::types::Column;

/// A node made ready to run on one worker.
pub struct Built {
    /// The operator; `None` where the worker itself does the work, for [`Op::Input`] and [`Op::Materialize`].
    pub operator: Option<Box<dyn Operator>>,
    /// What the joins above read, if the node is an [`Op::Arrange`].
    pub arrangement: Option<SharedArrangement>,
}

/// What a node's input offers.
pub struct Input<'a> {
    /// Its columns.
    pub columns: &'a [Column],
    /// Its arrangement, if it has one.
    pub arrangement: Option<&'a SharedArrangement>,
}

/// Makes a node's operator. With `fresh` the view was just created, and nothing of its state is on disk.
pub fn build(node: &Node, inputs: &[Input<'_>], fresh: bool) -> Result<Built> {
    let operator: Box<dyn Operator> = match &node.op {
        Op::Input { .. } | Op::Materialize { .. } => return Ok(Built { operator: None, arrangement: None }),
        Op::Values { rows } => {
            let bind_row = |row: &Vec<Literal>| row.iter().map(|l| bind(&Scalar::Literal(l.clone()), &[])).collect();
            Box::new(Values::new(rows.iter().map(bind_row).collect::<Result<_>>()?, &node.columns))
        }
        Op::Project { expressions } => {
            let input = input(node, inputs, 0)?.columns;
            let expressions = expressions.iter().map(|e| bind(e, input)).collect::<Result<_>>()?;
            Box::new(Project::new(expressions, &node.columns))
        }
        Op::Filter { predicate } => Box::new(Filter::new(bind(predicate, input(node, inputs, 0)?.columns)?)),
        // Failed rows are gathered by the worker, and come in like the rows of any other input.
        Op::Union | Op::Errors { .. } => Box::new(Union::new(&node.columns)),
        Op::Negate => Box::new(Negate),
        Op::Repeat { times } => Box::new(Repeat::new(*times)),
        Op::Window { time, windows } => Box::new(Window::new(*time, windows.clone(), &node.columns)),
        Op::Final { column, table } => {
            let (columns, route) = (&node.columns, node.identity());
            Box::new(FinalRows::new(columns, *column, route, *table, node.closes_after_us, fresh))
        }
        Op::Session { time, partition, gap_us, rows, ends } => {
            let plan = session::Plan {
                input: input(node, inputs, 0)?.columns,
                output: &node.columns,
                time: *time,
                partition,
                gap_us: *gap_us,
                tables: [*rows, *ends],
                closes_after_us: node.closes_after_us,
            };
            Box::new(Session::new(&plan, fresh))
        }
        Op::Changes => Box::new(Changes::new(&node.columns)),
        Op::Sink { .. } => Box::new(Sink),
        Op::Arrange { key, null_safe, table } => {
            let (operator, arrangement) =
                Arrange::new(&node.columns, key, *null_safe, *table, node.closes_after_us, fresh);
            return Ok(Built { operator: Some(Box::new(operator)), arrangement: Some(arrangement) });
        }
        Op::Join => {
            let (left, right) = (arrangement(node, inputs, 0)?, arrangement(node, inputs, 1)?);
            Box::new(Join::new(left.clone(), right.clone()))
        }
        Op::Anti => {
            let (left, right) = (arrangement(node, inputs, 0)?, arrangement(node, inputs, 1)?);
            Box::new(Anti::new(left.clone(), right.clone()))
        }
        Op::Aggregate { group, calls, table, multisets } => {
            let input = input(node, inputs, 0)?.columns;
            let state = Kept { table: *table, closes_after_us: node.closes_after_us, fresh };
            Box::new(Aggregate::new(input, group, calls, multisets, &node.columns, state)?)
        }
    };
    Ok(Built { operator: Some(operator), arrangement: None })
}

/// Makes every operator of a plan once, to find out whether they can be made at all.
pub fn check(plan: &Plan) -> Result<()> {
    let mut built: Vec<Built> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let offered = |id: &NodeId| {
            let index = id.0 as usize;
            Some(Input { columns: &plan.nodes[index].columns, arrangement: built.get(index)?.arrangement.as_ref() })
        };
        let inputs = node.inputs.iter().map(offered).collect::<Option<Vec<_>>>();
        let inputs = inputs.ok_or_else(|| Error::corrupted("the nodes of a plan are not in order"))?;
        let next = build(node, &inputs, true)?;
        built.push(next);
    }
    Ok(())
}

fn input<'a, 'b>(node: &Node, inputs: &'b [Input<'a>], port: usize) -> Result<&'b Input<'a>> {
    inputs.get(port).ok_or_else(|| Error::corrupted(format!("node {} of a plan has no input {port}", node.id)))
}

fn arrangement<'a>(node: &Node, inputs: &'a [Input<'_>], port: usize) -> Result<&'a SharedArrangement> {
    let arrangement = input(node, inputs, port)?.arrangement;
    arrangement.ok_or_else(|| Error::corrupted(format!("node {} of a plan joins what is not arranged", node.id)))
}
