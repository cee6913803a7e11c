//! The plan of a relation `<view>$errors`: the rows of a view that could not be computed, as a view of its own, so that it can be
//! read, counted, subscribed to and used in other views like any other.

use crate::ids::NodeId;
use crate::ids::ObjectId;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::types::Column;
use crate::types::SqlType;

/// What is kept of a row that could not be computed.
pub fn columns() -> Vec<Column> {
    let column = |name: &str| Column { name: name.to_string(), ty: SqlType::Text, nullable: false };
    vec![column("sqlstate"), column("reason"), column("input")]
}

/// The plan of `errors`, which keeps the failed rows of `view`.
pub fn plan(view: ObjectId, errors: ObjectId) -> Plan {
    let node = |id: u32, op, inputs| Node {
        id: NodeId(id),
        op,
        inputs,
        columns: columns(),
        key: None,
        append_only: false,
        watermarks: Vec::new(),
        closing: Vec::new(),
        closes_after_us: None,
    };
    let failed = node(0, Op::Errors { view }, Vec::new());
    let kept = node(1, Op::Materialize { object: errors }, vec![NodeId(0)]);
    Plan { nodes: vec![failed, kept], allowed_lateness_us: 0 }
}
