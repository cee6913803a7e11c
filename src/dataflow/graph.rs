//! The one graph of all running plans: which node reads which, and where rows change workers.
//!
//! Every worker and the coordinator hold an equal copy, so that all of them know without asking which nodes an epoch can
//! reach and which exchanges take place in it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::Storage;
use crate::ids::ObjectId;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::plan::ir::Scalar;

/// A node's number in the graph: ascending numbers are a topological order. Never used again.
pub type Index = usize;

/// One node of the graph.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// The view it belongs to.
    pub view: ObjectId,
    /// Its node in that view's plan.
    pub node: Arc<Node>,
    /// Where each port's input comes from.
    pub inputs: Vec<Edge>,
    /// Who reads it: vertex and port.
    pub readers: Vec<(Index, usize)>,
}

/// The way into one port.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Where from; `None` for an [`Op::Input`] of a table or source, which is fed from outside.
    pub from: Option<Index>,
    /// The columns by whose hash rows are sent to the workers; `None`: they stay where they are.
    pub exchange: Option<Vec<usize>>,
}

/// All running plans.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Every vertex by its number.
    vertices: BTreeMap<Index, Vertex>,
    /// The vertices of each view, its Materialize last.
    views: BTreeMap<ObjectId, Vec<Index>>,
    /// The inputs that read each object.
    inputs: BTreeMap<ObjectId, BTreeSet<Index>>,
    /// The vertex that takes the failed rows of each view.
    errors: BTreeMap<ObjectId, Index>,
    /// For each vertex the lists of columns by which its output is already spread over the workers.
    spread: BTreeMap<Index, Vec<Vec<usize>>>,
    /// The next number.
    next: Index,
}

impl Graph {
    /// Adds a view's plan. Views that it reads are there already.
    pub fn add(&mut self, view: ObjectId, plan: &Plan, storage: &Storage) -> Vec<Index> {
        let base = self.next;
        self.next += plan.nodes.len();
        for (offset, node) in plan.nodes.iter().enumerate() {
            let index = base + offset;
            let inputs = self.edges(index, base, node, storage);
            let spread = self.spread_of(node, &inputs);
            self.spread.insert(index, spread);
            for (port, edge) in inputs.iter().enumerate() {
                if let Some(from) = edge.from {
                    self.vertex_mut(from).readers.push((index, port));
                }
            }
            let vertex = Vertex { view, node: Arc::new(node.clone()), inputs, readers: Vec::new() };
            self.vertices.insert(index, vertex);
        }
        let indices = (base..self.next).collect::<Vec<_>>();
        self.views.insert(view, indices.clone());
        indices
    }

    /// Takes a view's plan out; nothing reads it any more. Returns its vertices.
    pub fn remove(&mut self, view: ObjectId) -> Vec<Index> {
        let indices = self.views.remove(&view).unwrap_or_default();
        for index in &indices {
            self.spread.remove(index);
            self.errors.retain(|_, errors| errors != index);
            for inputs in self.inputs.values_mut() {
                inputs.remove(index);
            }
            if let Some(vertex) = self.vertices.remove(index) {
                for edge in vertex.inputs.iter().filter_map(|edge| edge.from) {
                    if let Some(upstream) = self.vertices.get_mut(&edge) {
                        upstream.readers.retain(|(reader, _)| reader != index);
                    }
                }
            }
        }
        self.inputs.retain(|_, inputs| !inputs.is_empty());
        indices
    }

    /// A vertex that is known to exist.
    pub fn vertex(&self, index: Index) -> &Vertex {
        self.vertices.get(&index).expect("vertices are only named while they exist")
    }

    fn vertex_mut(&mut self, index: Index) -> &mut Vertex {
        self.vertices.get_mut(&index).expect("vertices are only named while they exist")
    }

    /// The input vertices that read this table or source from outside.
    pub fn inputs_of(&self, object: ObjectId) -> impl Iterator<Item = Index> {
        self.inputs.get(&object).into_iter().flatten().copied()
    }

    /// Whether any running plan reads this object.
    pub fn is_read(&self, object: ObjectId) -> bool {
        self.inputs_of(object).next().is_some()
    }

    /// Which of an object's stored columns the running plans read.
    pub fn columns_read(&self, object: ObjectId) -> BTreeSet<usize> {
        let nodes = self.inputs_of(object).map(|index| &self.vertex(index).node);
        nodes.flat_map(|node| node.op.columns_of(object)).copied().collect()
    }

    /// The vertices of a view, in order.
    pub fn view(&self, view: ObjectId) -> &[Index] {
        self.views.get(&view).map_or(&[], Vec::as_slice)
    }

    /// The vertex that takes the failed rows of a view.
    pub fn errors_of(&self, view: ObjectId) -> Option<Index> {
        self.errors.get(&view).copied()
    }

    /// The vertices of a view that let go of what its watermark closes.
    pub fn closing(&self, view: ObjectId) -> impl Iterator<Item = Index> {
        self.view(view).iter().copied().filter(|&index| self.vertex(index).node.closes_after_us.is_some())
    }

    /// Every vertex that changes of these objects can reach, in topological order.
    pub fn reach(&self, objects: &BTreeSet<ObjectId>) -> Vec<Index> {
        self.downstream(objects.iter().flat_map(|&object| self.inputs_of(object)).collect())
    }

    /// These vertices and all that read what they put out, in topological order.
    pub fn downstream(&self, mut open: BTreeSet<Index>) -> Vec<Index> {
        let mut reached = Vec::new();
        while let Some(index) = open.pop_first() {
            let vertex = self.vertex(index);
            open.extend(vertex.readers.iter().map(|(reader, _)| *reader));
            if vertex.node.op.can_fail() {
                open.extend(self.errors_of(vertex.view));
            }
            reached.push(index);
        }
        reached
    }

    /// How a node's ports are fed.
    fn edges(&mut self, index: Index, base: Index, node: &Node, storage: &Storage) -> Vec<Edge> {
        if let Op::Input { object, .. } = &node.op {
            let from = self.views.get(object).and_then(|view| view.last().copied());
            self.inputs.entry(*object).or_default().insert(index);
            return vec![Edge { from, exchange: None }];
        }
        if let Op::Errors { view } = &node.op {
            self.errors.insert(*view, index);
            return vec![Edge { from: None, exchange: None }];
        }
        let wanted = wanted(node, storage);
        let edge = |input: &crate::ids::NodeId| {
            let from = base + input.0 as usize;
            let there = wanted.as_ref().is_some_and(|columns| self.spread[&from].contains(columns));
            Edge { from: Some(from), exchange: if there { None } else { wanted.clone() } }
        };
        node.inputs.iter().map(edge).collect()
    }

    /// By which columns a node's output is spread over the workers.
    fn spread_of(&self, node: &Node, inputs: &[Edge]) -> Vec<Vec<usize>> {
        let from = |port: usize| -> Vec<Vec<usize>> {
            let edge: &Edge = &inputs[port];
            match (&edge.exchange, edge.from) {
                (Some(columns), _) => vec![columns.clone()],
                (None, Some(from)) => self.spread[&from].clone(),
                (None, None) => Vec::new(),
            }
        };
        match &node.op {
            Op::Input { .. } | Op::Errors { .. } | Op::Values { .. } | Op::Union => Vec::new(),
            Op::Filter { .. } | Op::Negate | Op::Repeat { .. } | Op::Materialize { .. } => from(0),
            Op::Window { .. } | Op::Changes => from(0),
            Op::Arrange { key, .. } => vec![key.clone()],
            Op::Final { .. } => vec![node.identity()],
            Op::Session { partition, .. } => vec![partition.clone()],
            Op::Aggregate { group, .. } => vec![(0..group.len()).collect()],
            Op::Project { expressions } => {
                let place = |column: &usize| expressions.iter().position(|e| *e == Scalar::Column(*column));
                let moved = |columns: &Vec<usize>| columns.iter().map(place).collect::<Option<Vec<_>>>();
                from(0).iter().filter_map(moved).collect()
            }
            Op::Join => {
                let left = inputs[0].from.map_or(0, |left| self.vertex(left).node.columns.len());
                let right = from(1).into_iter().map(|columns| columns.iter().map(|c| c + left).collect());
                from(0).into_iter().chain(right).collect()
            }
        }
    }
}

/// The columns by which a node wants its input spread; `None`: it does not care.
fn wanted(node: &Node, storage: &Storage) -> Option<Vec<usize>> {
    match &node.op {
        Op::Input { .. } | Op::Errors { .. } | Op::Values { .. } | Op::Project { .. } => None,
        Op::Filter { .. } | Op::Union | Op::Negate | Op::Repeat { .. } | Op::Join => None,
        Op::Window { .. } | Op::Changes => None,
        Op::Arrange { key, .. } => Some(key.clone()),
        Op::Aggregate { group, .. } => Some(group.clone()),
        Op::Final { .. } => Some(node.identity()),
        Op::Session { partition, .. } => Some(partition.clone()),
        Op::Materialize { .. } => match storage {
            Storage::Keyed(key) => Some(key.clone()),
            Storage::Hashed => Some((0..node.columns.len()).collect()),
            Storage::Log => None,
        },
    }
}
