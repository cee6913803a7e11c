//! The one match from plan node to operator.

use std::collections::BTreeMap;

use crate::catalog::Storage;
use crate::dataflow::graph::Graph;
use crate::dataflow::graph::Index;
use crate::dataflow::input::Input;
use crate::dataflow::materialize::Materialize;
use crate::dataflow::operator::Operator;
use crate::dataflow::operators::aggregate::Aggregate;
use crate::dataflow::operators::arrange::Arrange;
use crate::dataflow::operators::arrange::SharedArrangement;
use crate::dataflow::operators::filter::Filter;
use crate::dataflow::operators::join::Join;
use crate::dataflow::operators::negate::Negate;
use crate::dataflow::operators::project::Project;
use crate::dataflow::operators::union::Union;
use crate::dataflow::operators::values::Values;
use crate::error::Error;
use crate::error::Result;
use crate::ids::WorkerId;
use crate::plan::ir::Op;
use crate::plan::ir::Scalar;
use crate::types::Column;

/// The arrangements of one worker, by the vertex that owns them.
pub type Shared = BTreeMap<Index, SharedArrangement>;

/// The operator of a vertex on one worker. `fresh`: its view was just created, so its state is known to be empty.
pub fn operator(
    graph: &Graph,
    index: Index,
    storage: &Storage,
    worker: WorkerId,
    fresh: bool,
    shared: &mut Shared,
) -> Result<Box<dyn Operator>> {
    let vertex = graph.vertex(index);
    let node = &vertex.node;
    let input = |port: usize| -> Result<(Index, &[Column])> {
        let from = vertex.inputs.get(port).and_then(|edge| edge.from);
        let from = from.ok_or_else(|| Error::corrupted("a stored plan has a node without its input"))?;
        Ok((from, &graph.vertex(from).node.columns))
    };
    let bind = |expressions: &[Scalar], columns: &[Column]| {
        expressions.iter().map(|e| crate::plan::bind::bind(e, columns)).collect::<Result<Vec<_>>>()
    };
    Ok(match &node.op {
        Op::Input { columns, .. } => Box::new(Input::new(columns, &node.columns)),
        Op::Values { rows } => {
            let bind = |row: &Vec<_>| bind(&row.iter().cloned().map(Scalar::Literal).collect::<Vec<_>>(), &[]);
            Box::new(Values::new(rows.iter().map(bind).collect::<Result<Vec<_>>>()?, &node.columns))
        }
        Op::Project { expressions } => Box::new(Project::new(bind(expressions, input(0)?.1)?, &node.columns)),
        Op::Filter { predicate } => {
            let predicate = crate::plan::bind::bind(predicate, input(0)?.1)?;
            Box::new(Filter::new(predicate))
        }
        Op::Union => Box::new(Union::new(&node.columns)),
        Op::Negate => Box::new(Negate),
        Op::Arrange { key, null_safe, table } => {
            let (arrange, arrangement) = Arrange::new(&node.columns, key, *null_safe, *table, fresh);
            shared.insert(index, arrangement);
            Box::new(arrange)
        }
        Op::Join => {
            let side = |port: usize| -> Result<SharedArrangement> {
                let arrangement = shared.get(&input(port)?.0).cloned();
                arrangement.ok_or_else(|| Error::corrupted("a stored plan joins what is not arranged"))
            };
            Box::new(Join::new(side(0)?, side(1)?))
        }
        Op::Aggregate { group, calls, table, multisets } => {
            let columns = input(0)?.1;
            Box::new(Aggregate::new(columns, group, calls, *table, multisets, &node.columns, fresh)?)
        }
        Op::Materialize { object } => Box::new(Materialize::new(*object, &node.columns, storage.clone(), worker)),
    })
}
