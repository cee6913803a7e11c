//! The stored form of a plan: `{"version":1,"nodes":[...]}`, JSON text in the catalog beside the view. A restart reads it
//! and never plans again, so whatever version wrote it must be read for ever: see `tests/golden/plans`.

use serde::Deserialize;
use serde::Serialize;

use crate::error::Error;
use crate::error::Result;
use crate::ids::NodeId;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;

/// The version written.
const VERSION: u32 = 1;

/// What is read first: enough to know whether the rest can be.
#[derive(Deserialize)]
struct Header {
    /// Which version wrote it.
    version: u32,
}

/// Version 1.
#[derive(Serialize, Deserialize)]
struct Version1<N> {
    /// Always 1.
    version: u32,
    /// The plan's nodes.
    nodes: N,
    /// See [`Plan::allowed_lateness_us`].
    #[serde(default, skip_serializing_if = "is_zero")]
    allowed_lateness_us: i64,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// The plan as text.
pub fn write(plan: &Plan) -> String {
    let stored = Version1 { version: VERSION, nodes: &plan.nodes, allowed_lateness_us: plan.allowed_lateness_us };
    serde_json::to_string(&stored).expect("a plan is plain data")
}

/// The plan that a text holds.
pub fn read(text: &str) -> Result<Plan> {
    let damaged =
        |error: serde_json::Error| Error::corrupted("a stored plan cannot be read").detail(format!("{error}."));
    let header: Header = serde_json::from_str(text).map_err(damaged)?;
    if header.version != VERSION {
        let message = format!("a stored plan has version {}, this server reads version {VERSION}", header.version);
        return Err(Error::corrupted(message).hint("Start the version of the server that wrote it, or a newer one."));
    }
    let stored: Version1<Vec<Node>> = serde_json::from_str(text).map_err(damaged)?;
    let plan = Plan { nodes: stored.nodes, allowed_lateness_us: stored.allowed_lateness_us };
    check(&plan)?;
    Ok(plan)
}

/// That what the rest of the code relies on holds of a plan that was read.
fn check(plan: &Plan) -> Result<()> {
    let damaged =
        |node: &Node, what: &str| Err(Error::corrupted(format!("a stored plan is damaged: node {} {what}", node.id)));
    for (i, node) in plan.nodes.iter().enumerate() {
        let ports = match &node.op {
            Op::Input { .. } | Op::Errors { .. } | Op::Values { .. } => 0..=0,
            Op::Union => 1..=usize::MAX,
            Op::Join | Op::Anti => 2..=2,
            Op::Project { .. }
            | Op::Filter { .. }
            | Op::Negate
            | Op::Repeat { .. }
            | Op::Arrange { .. }
            | Op::Aggregate { .. }
            | Op::Window { .. }
            | Op::Changes
            | Op::Final { .. }
            | Op::Session { .. }
            | Op::Materialize { .. }
            | Op::Sink { .. } => 1..=1,
        };
        if node.id != NodeId(i as u32) {
            return damaged(node, "is out of order");
        }
        if !ports.contains(&node.inputs.len()) || node.inputs.iter().any(|input| input.0 as usize >= i) {
            return damaged(node, "has wrong inputs");
        }
    }
    match plan.nodes.last().map(|n| &n.op) {
        Some(Op::Materialize { .. } | Op::Sink { .. }) => Ok(()),
        _ => Err(Error::corrupted("a stored plan is damaged: it ends in nothing")),
    }
}
