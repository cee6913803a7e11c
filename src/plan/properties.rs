//! What is proved of a node's output from what is proved of its inputs: a key, append-only, watermark columns. Each rule
//! errs on the side of no proof.

use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Scalar;

/// What a node is proved to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// See [`Node::key`].
    pub key: Option<Vec<usize>>,
    /// See [`Node::append_only`].
    pub append_only: bool,
    /// See [`Node::watermarks`].
    pub watermarks: Vec<usize>,
}

impl Properties {
    /// What these columns of the output keep of it: column `i` of the selection is column `columns[i]` of it.
    pub fn select(&self, columns: &[usize]) -> Properties {
        let place = |c: &usize| columns.iter().position(|x| x == c);
        Properties {
            key: self.key.as_ref().and_then(|key| key.iter().map(place).collect()),
            append_only: self.append_only,
            watermarks: (0..columns.len()).filter(|&i| self.watermarks.contains(&columns[i])).collect(),
        }
    }
}

/// The properties of an operation over these inputs. What an [`Op::Input`] has is not known here: it is the catalog's.
pub fn derive(op: &Op, inputs: &[&Node]) -> Properties {
    match op {
        Op::Input { .. } | Op::Errors { .. } => Properties::default(),
        Op::Values { rows } => {
            Properties { key: (rows.len() <= 1).then(Vec::new), append_only: true, watermarks: vec![] }
        }
        Op::Project { expressions } => project(expressions, inputs[0]),
        Op::Filter { .. } | Op::Arrange { .. } | Op::Materialize { .. } => of(inputs[0]),
        Op::Negate => Properties { append_only: false, ..of(inputs[0]) },
        Op::Repeat { .. } => Properties { key: None, ..of(inputs[0]) },
        Op::Union => union(inputs),
        Op::Join => join(inputs[0], inputs[1]),
        Op::Aggregate { group, calls, .. } => aggregate(group, calls.is_empty(), inputs[0]),
    }
}

/// A node's own.
pub fn of(node: &Node) -> Properties {
    Properties { key: node.key.clone(), append_only: node.append_only, watermarks: node.watermarks.clone() }
}

/// A column passed on keeps what it had, an expression has nothing, save the end of a window: no row is still to come
/// that belongs to a window whose end the watermark has reached. Its start lies below the watermark while the window is open.
fn project(expressions: &[Scalar], input: &Node) -> Properties {
    let place = |column: &usize| expressions.iter().position(|e| *e == Scalar::Column(*column));
    let bounded = |e: &Scalar| match e {
        Scalar::Column(c) => input.watermarks.contains(c),
        Scalar::Call { .. } => window_end(e).is_some_and(|c| input.watermarks.contains(&c)),
        Scalar::Literal(_) | Scalar::Cast { .. } | Scalar::Case { .. } => false,
    };
    Properties {
        key: input.key.as_ref().and_then(|key| key.iter().map(place).collect()),
        append_only: input.append_only,
        watermarks: (0..expressions.len()).filter(|&i| bounded(&expressions[i])).collect(),
    }
}

/// The column of `tumble_start(column, size, offset) + size`.
fn window_end(scalar: &Scalar) -> Option<usize> {
    let Scalar::Call { function: plus, arguments, .. } = scalar else { return None };
    let ("op_add", [Scalar::Call { function, arguments, .. }, length]) = (plus.as_str(), arguments.as_slice()) else {
        return None;
    };
    match (function.as_str(), arguments.as_slice()) {
        ("tumble_start", [Scalar::Column(column), size, ..]) if size == length => Some(*column),
        _ => None,
    }
}

/// A row may come from each input: no key. A bound must hold for all of them.
fn union(inputs: &[&Node]) -> Properties {
    let watermarks = inputs[0].watermarks.iter().copied();
    Properties {
        key: None,
        append_only: inputs.iter().all(|n| n.append_only),
        watermarks: watermarks.filter(|w| inputs.iter().all(|n| n.watermarks.contains(w))).collect(),
    }
}

/// Two keys together are a key; where each row of one side meets at most one of the other, its own is enough. A column on the
/// right that is equated with one on the left is as good as that. An old row may meet a new one, so only columns equated
/// with each other, both bounded, stay bounded.
fn join(left: &Node, right: &Node) -> Properties {
    let (left_on, right_on) = (arranged_by(left), arranged_by(right));
    let width = left.columns.len();
    let mut watermarks: Vec<usize> = vec![];
    for (l, r) in left_on.iter().zip(right_on) {
        if left.watermarks.contains(l) && right.watermarks.contains(r) {
            watermarks.extend([*l, width + r]);
        }
    }
    watermarks.sort_unstable();
    watermarks.dedup();
    let equated = |c: &usize| right_on.iter().position(|r| r == c).map_or(width + c, |i| left_on[i]);
    let theirs = |key: &[usize]| key.iter().map(equated).collect::<Vec<_>>();
    let key = match (&left.key, &right.key) {
        (Some(l), Some(r)) if covers(right_on, r) => Some(l.clone()),
        (Some(l), Some(r)) if covers(left_on, l) => Some(theirs(r)),
        (Some(l), Some(r)) => Some([l.clone(), theirs(r).into_iter().filter(|c| !l.contains(c)).collect()].concat()),
        (Some(_), None) | (None, Some(_)) | (None, None) => None,
    };
    Properties { key, append_only: left.append_only && right.append_only, watermarks }
}

/// Groups are unique, also without what is constant in them. DISTINCT over rows that only come gives rows that only come.
fn aggregate(group: &[usize], distinct: bool, input: &Node) -> Properties {
    let constant = |column: usize| match &input.op {
        Op::Project { expressions } => matches!(expressions[column], Scalar::Literal(_)),
        _ => false,
    };
    Properties {
        key: Some((0..group.len()).filter(|&i| !constant(group[i])).collect()),
        append_only: distinct && input.append_only,
        watermarks: (0..group.len()).filter(|&i| input.watermarks.contains(&group[i])).collect(),
    }
}

/// Whether all of `key` is among `columns`.
pub fn covers(columns: &[usize], key: &[usize]) -> bool {
    key.iter().all(|c| columns.contains(c))
}

/// The key of a join's input.
fn arranged_by(node: &Node) -> &[usize] {
    match &node.op {
        Op::Arrange { key, .. } => key,
        op => unreachable!("a join reads arrangements, not {op:?}"),
    }
}
