//! What is proved of a node's output from what is proved of its inputs: a key, append-only, watermark columns. Each rule
//! errs on the side of no proof.

use std::collections::BTreeSet;

use crate::functions::window::Windows;
use crate::plan::ir::Closing;
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
    /// See [`Node::closing`].
    pub closing: Vec<Closing>,
}

impl Properties {
    /// What these columns of the output keep of it: column `i` of the selection is column `columns[i]` of it.
    pub fn select(&self, columns: &[usize]) -> Properties {
        let place = |c: &usize| columns.iter().position(|x| x == c);
        Properties {
            key: self.key.as_ref().and_then(|key| key.iter().map(place).collect()),
            append_only: self.append_only,
            watermarks: (0..columns.len()).filter(|&i| self.watermarks.contains(&columns[i])).collect(),
            closing: moved(&self.closing, |c| (0..columns.len()).filter(|&i| columns[i] == c).collect()),
        }
    }
}

/// Closing columns at the places where `places` says that the output has them.
fn moved(closing: &[Closing], places: impl Fn(usize) -> Vec<usize>) -> Vec<Closing> {
    let at = |c: &Closing| {
        let after_us = c.after_us;
        places(c.column).into_iter().map(move |column| Closing { column, after_us })
    };
    let mut moved = closing.iter().flat_map(at).collect::<Vec<_>>();
    moved.sort_unstable_by_key(|closing| closing.column);
    moved
}

/// The properties of an operation over these inputs. What an [`Op::Input`] has is not known here: it is the catalog's.
pub fn derive(op: &Op, inputs: &[&Node]) -> Properties {
    match op {
        Op::Input { .. } | Op::Errors { .. } => Properties::default(),
        Op::Values { rows } => {
            Properties { key: (rows.len() <= 1).then(Vec::new), append_only: true, ..Properties::default() }
        }
        Op::Project { expressions } => project(expressions, inputs[0]),
        Op::Filter { .. } | Op::Arrange { .. } | Op::Materialize { .. } | Op::Sink { .. } => of(inputs[0]),
        Op::Negate => Properties { append_only: false, ..of(inputs[0]) },
        Op::Repeat { .. } => Properties { key: None, ..of(inputs[0]) },
        Op::Union => union(inputs),
        Op::Window { time, windows } => window(*time, windows, inputs[0]),
        Op::Session { .. } => session(inputs[0]),
        Op::Final { .. } => Properties { append_only: true, ..of(inputs[0]) },
        Op::Changes => Properties { append_only: true, ..Properties::default() },
        Op::Join => join(inputs[0], inputs[1]),
        Op::Anti => anti(inputs[0], inputs[1]),
        Op::Aggregate { group, calls, .. } => aggregate(group, calls.is_empty(), inputs[0]),
    }
}

/// A node's own.
pub fn of(node: &Node) -> Properties {
    let Node { key, append_only, watermarks, closing, .. } = node;
    let (key, watermarks, closing) = (key.clone(), watermarks.clone(), closing.clone());
    Properties { key, append_only: *append_only, watermarks, closing }
}

/// A column passed on keeps what it had, an expression has nothing.
fn project(expressions: &[Scalar], input: &Node) -> Properties {
    let place = |column: &usize| expressions.iter().position(|e| *e == Scalar::Column(*column));
    let places = |c: usize| (0..expressions.len()).filter(|&i| expressions[i] == Scalar::Column(c)).collect::<Vec<_>>();
    Properties {
        key: input.key.as_ref().and_then(|key| key.iter().map(place).collect()),
        append_only: input.append_only,
        watermarks: input.watermarks.iter().flat_map(|&c| places(c)).collect::<BTreeSet<_>>().into_iter().collect(),
        closing: moved(&input.closing, places),
    }
}

/// A row may come from each input: no key. A bound must hold for all of them.
fn union(inputs: &[&Node]) -> Properties {
    let watermarks = inputs[0].watermarks.iter().copied();
    let all = |c: &Closing| {
        let last = inputs.iter().map(|n| closes_after(n, c.column)).collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some(Closing { column: c.column, after_us: last })
    };
    Properties {
        key: None,
        append_only: inputs.iter().all(|n| n.append_only),
        watermarks: watermarks.filter(|w| inputs.iter().all(|n| n.watermarks.contains(w))).collect(),
        closing: inputs[0].closing.iter().filter_map(all).collect(),
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
    let mut closing = vec![];
    for (l, r) in left_on.iter().zip(right_on) {
        if let (Some(a), Some(b)) = (closes_after(left, *l), closes_after(right, *r)) {
            closing.extend([*l, width + r].map(|column| Closing { column, after_us: a.max(b) }));
        }
    }
    closing.sort_unstable_by_key(|closing| closing.column);
    closing.dedup_by_key(|closing| closing.column);
    Properties { key, append_only: left.append_only && right.append_only, watermarks, closing }
}

/// A row comes and goes with what has its key on the right, so it is bounded as that of a join is.
fn anti(left: &Node, right: &Node) -> Properties {
    let own = (0..left.columns.len()).collect::<Vec<_>>();
    Properties { key: left.key.clone(), append_only: false, ..join(left, right).select(&own) }
}

/// How long after this column of a node its rows are final, if it says so.
pub fn closes_after(node: &Node, column: usize) -> Option<i64> {
    node.closing.iter().filter(|closing| closing.column == column).map(|closing| closing.after_us).min()
}

/// Rows keep what they had; where one lies in one window only, its key too. No row is still to come that belongs to a window
/// whose end its time has passed for good; the start lies before the end by the window's size at most.
fn window(time: usize, windows: &Windows, input: &Node) -> Properties {
    let (start, end) = (input.columns.len(), input.columns.len() + 1);
    let mut watermarks = input.watermarks.clone();
    watermarks.extend(input.watermarks.contains(&time).then_some(end));
    let mut closing = input.closing.clone();
    if let Some(after_us) = closes_after(input, time) {
        let start_us = after_us.saturating_add(windows.size_us());
        closing.extend([Closing { column: start, after_us: start_us }, Closing { column: end, after_us }]);
    }
    let key = match windows {
        Windows::Tumble { .. } => input.key.clone(),
        Windows::Hop { .. } | Windows::Cumulate { .. } => input.key.as_ref().map(|key| {
            let own = if matches!(windows, Windows::Hop { .. }) { start } else { end };
            key.iter().copied().chain([own]).collect()
        }),
    };
    Properties { key, append_only: input.append_only, watermarks, closing }
}

/// Rows keep their key. A new row may change the session of old ones, so nothing else stays as it was.
fn session(input: &Node) -> Properties {
    Properties { key: input.key.clone(), ..Properties::default() }
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
        closing: moved(&input.closing, |c| (0..group.len()).filter(|&i| group[i] == c).collect()),
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
