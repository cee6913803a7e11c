//! The one graph of all running plans: which node reads which, and where rows change workers.
//!
//! Every worker and the coordinator hold an equal copy, so that all of them know without asking which nodes an epoch can
//! reach and which exchanges take place in it.
//!
//! State is kept once: where two plans name the same state table, one vertex works for both, with all that it reads.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::Storage;
use crate::ids::NodeId;
use crate::ids::ObjectId;
use crate::ids::TableId;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::plan::ir::Scalar;

/// A node's number in the graph: ascending numbers are a topological order. Never used again.
pub type Index = usize;

/// One node of the graph.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// The views it works for. What can fail or lets go of state works for one alone.
    pub views: BTreeSet<ObjectId>,
    /// Its node in the plan of the first of them.
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

/// What changes in the graph when a view shares state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Vertices that nobody needs any more.
    pub removed: Vec<Index>,
    /// Vertices of the view that now read others.
    pub moved: Vec<Index>,
}

/// All running plans.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Every vertex by its number.
    vertices: BTreeMap<Index, Vertex>,
    /// The vertices of each view in order, its Materialize or Sink last.
    views: BTreeMap<ObjectId, Vec<Index>>,
    /// Views that stand behind: what changes in the epoch does not reach them.
    behind: BTreeSet<ObjectId>,
    /// The inputs that read each object.
    inputs: BTreeMap<ObjectId, BTreeSet<Index>>,
    /// The vertex that keeps each state table.
    tables: BTreeMap<TableId, Index>,
    /// The vertex that takes the failed rows of each view.
    errors: BTreeMap<ObjectId, Index>,
    /// For each vertex the lists of columns by which its output is already spread over the workers.
    spread: BTreeMap<Index, Vec<Vec<usize>>>,
    /// The next number.
    next: Index,
}

impl Graph {
    /// Adds a view's plan; what it reads, and what keeps the state that it shares, is there already. Returns the new vertices.
    pub fn add(&mut self, view: ObjectId, plan: &Plan, storage: Option<&Storage>) -> Vec<Index> {
        let (base, mut places) = (self.next, BTreeMap::<NodeId, Index>::new());
        self.next += plan.nodes.len();
        for node in self.own_nodes(plan) {
            let index = base + node.id.0 as usize;
            for input in &node.inputs {
                let there = || self.keeper(&plan.nodes[input.0 as usize]).expect("what is not its own is kept already");
                places.entry(*input).or_insert_with(there);
            }
            places.insert(node.id, index);
            let inputs = self.edges(index, &places, node, storage);
            let spread = self.spread_of(node, &inputs);
            self.spread.insert(index, spread);
            self.tables.extend(node.op.tables().into_iter().map(|table| (table, index)));
            for (port, edge) in inputs.iter().enumerate() {
                if let Some(from) = edge.from {
                    self.vertex_mut(from).readers.push((index, port));
                }
            }
            let views = BTreeSet::from([view]);
            let vertex = Vertex { views, node: Arc::new(node.clone()), inputs, readers: Vec::new() };
            self.vertices.insert(index, vertex);
        }
        self.claim(view, places.values().copied().collect());
        (base..self.next).filter(|index| self.vertices.contains_key(index)).collect()
    }

    /// The nodes of a plan that nothing in the graph works for yet, in order.
    fn own_nodes<'a>(&self, plan: &'a Plan) -> Vec<&'a Node> {
        let mut own = BTreeSet::new();
        let mut open = plan.nodes.last().map(|node| node.id).into_iter().collect::<Vec<_>>();
        while let Some(id) = open.pop() {
            let node = &plan.nodes[id.0 as usize];
            if self.keeper(node).is_none() && own.insert(id) {
                open.extend(&node.inputs);
            }
        }
        own.into_iter().map(|id| &plan.nodes[id.0 as usize]).collect()
    }

    /// The vertex that keeps a node's state already.
    fn keeper(&self, node: &Node) -> Option<Index> {
        node.op.tables().first().and_then(|table| self.tables.get(table)).copied()
    }

    /// These vertices and all that they read work for a view; no others do.
    fn claim(&mut self, view: ObjectId, mut open: Vec<Index>) {
        let mut claimed = BTreeSet::new();
        while let Some(index) = open.pop() {
            if !claimed.insert(index) {
                continue;
            }
            let vertex = self.vertex_mut(index);
            vertex.views.insert(view);
            // What feeds an input is another view's.
            if !matches!(vertex.node.op, Op::Input { .. }) {
                open.extend(vertex.inputs.iter().filter_map(|edge| edge.from));
            }
        }
        self.views.insert(view, claimed.into_iter().collect());
    }

    /// A view runs with tables of its own; this is its plan with those of others for some nodes, which hold the same at this
    /// moment. The vertices that keep them work for the view from now on, and its own go.
    pub fn share(&mut self, view: ObjectId, plan: &Plan) -> Shared {
        let before = self.view(view).to_vec();
        let mut shared = Shared::default();
        for &index in &before {
            let node = &plan.nodes[self.vertex(index).node.id.0 as usize];
            if self.vertex(index).node.op == node.op {
                continue;
            }
            let there = self.keeper(node).expect("what is shared is kept already");
            for (reader, port) in std::mem::take(&mut self.vertex_mut(index).readers) {
                self.vertex_mut(reader).inputs[port].from = Some(there);
                self.vertex_mut(there).readers.push((reader, port));
                shared.moved.push(reader);
            }
        }
        self.claim(view, before.last().copied().into_iter().collect());
        shared.removed = before.into_iter().filter(|index| !self.view(view).contains(index)).collect();
        shared.removed.iter().for_each(|&index| self.remove_vertex(index));
        shared.moved.retain(|index| self.vertices.contains_key(index));
        shared
    }

    /// Sets a view apart from the epochs of the others.
    pub fn set_behind(&mut self, view: ObjectId) {
        self.behind.insert(view);
    }

    /// Makes a view that stood behind one of the others.
    pub fn join(&mut self, view: ObjectId) {
        self.behind.remove(&view);
    }

    /// Whether a vertex works for a view that stands behind. Then it works for that one alone.
    fn is_behind(&self, index: Index) -> bool {
        !self.behind.is_disjoint(&self.vertex(index).views)
    }

    /// Whether what a vertex puts out goes to this reader: not into another view, if that stands behind.
    pub fn flows(&self, from: Index, reader: Index) -> bool {
        !self.is_behind(reader) || self.is_behind(from)
    }

    /// Takes a view's plan out; nothing reads it any more. Returns the vertices that went with it.
    pub fn remove(&mut self, view: ObjectId) -> Vec<Index> {
        self.behind.remove(&view);
        let mut removed = self.views.remove(&view).unwrap_or_default();
        removed.retain(|&index| {
            let views = &mut self.vertex_mut(index).views;
            views.remove(&view);
            views.is_empty()
        });
        removed.iter().for_each(|&index| self.remove_vertex(index));
        removed
    }

    fn remove_vertex(&mut self, index: Index) {
        self.spread.remove(&index);
        self.errors.retain(|_, errors| *errors != index);
        self.tables.retain(|_, keeper| *keeper != index);
        self.inputs.retain(|_, inputs| {
            inputs.remove(&index);
            !inputs.is_empty()
        });
        if let Some(vertex) = self.vertices.remove(&index) {
            for edge in vertex.inputs.iter().filter_map(|edge| edge.from) {
                if let Some(upstream) = self.vertices.get_mut(&edge) {
                    upstream.readers.retain(|(reader, _)| *reader != index);
                }
            }
        }
    }

    /// The plan of a view, with the state tables of others where those keep the same: the same nodes over the same inputs. What
    /// can fail, or lets go of what a watermark closes, is a view's own.
    pub fn shareable(&self, view: ObjectId, plan: &Plan) -> Plan {
        let mut shared = plan.clone();
        for node in &plan.nodes {
            let (mut tables, own) = (BTreeMap::new(), self.keeper(node));
            let keeps = |index: &Index| {
                tables.clear();
                let others = !self.vertex(*index).views.contains(&view) && !self.is_behind(*index);
                // What reads it must come after it.
                let before = own.is_some_and(|own| *index < own);
                others && before && self.keeps(*index, node, plan, &mut tables)
            };
            if !node.op.tables().is_empty() && self.tables.values().any(keeps) {
                shared.nodes.iter_mut().for_each(|node| node.op.replace_tables(&tables));
            }
        }
        shared
    }

    /// Whether a vertex does what a node of a plan would, with the same input; and which tables it has for those of the plan.
    fn keeps(&self, index: Index, node: &Node, plan: &Plan, tables: &mut BTreeMap<TableId, TableId>) -> bool {
        let vertex = self.vertex(index);
        let (mine, theirs) = (node.op.tables(), vertex.node.op.tables());
        let replaced = mine.iter().copied().zip(theirs.iter().copied()).collect();
        let mut op = node.op.clone();
        op.replace_tables(&replaced);
        let alike = op == vertex.node.op && node.columns == vertex.node.columns && !op.can_fail();
        let closes = node.closes_after_us.is_some() || vertex.node.closes_after_us.is_some();
        if !alike || closes || mine.len() != theirs.len() {
            return false;
        }
        tables.extend(replaced);
        let mut inputs = node.inputs.iter().zip(&vertex.inputs);
        inputs.all(|(input, edge)| {
            edge.from.is_some_and(|from| self.keeps(from, &plan.nodes[input.0 as usize], plan, tables))
        })
    }

    /// Whether any running plan uses this state table.
    pub fn uses(&self, table: TableId) -> bool {
        self.tables.contains_key(&table)
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

    /// The vertex that works for each node of a view's plan.
    pub fn places(&self, view: ObjectId, plan: &Plan) -> BTreeMap<NodeId, Index> {
        let mut places = BTreeMap::new();
        let last = plan.nodes.last().map(|node| node.id).zip(self.view(view).last().copied());
        let mut open = last.into_iter().collect::<Vec<_>>();
        while let Some((id, index)) = open.pop() {
            if places.insert(id, index).is_none() {
                let from = self.vertex(index).inputs.iter().map(|edge| edge.from);
                let inputs = plan.nodes[id.0 as usize].inputs.iter().zip(from);
                open.extend(inputs.filter_map(|(input, from)| Some((*input, from?))));
            }
        }
        places
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
        let inputs = objects.iter().flat_map(|&object| self.inputs_of(object));
        self.downstream(inputs.filter(|&input| !self.is_behind(input)).collect())
    }

    /// These vertices and all that read what they put out, in topological order.
    pub fn downstream(&self, mut open: BTreeSet<Index>) -> Vec<Index> {
        let mut reached = Vec::new();
        while let Some(index) = open.pop_first() {
            let vertex = self.vertex(index);
            open.extend(vertex.readers.iter().map(|(reader, _)| *reader).filter(|&reader| self.flows(index, reader)));
            if vertex.node.op.can_fail() {
                open.extend(vertex.views.iter().filter_map(|view| self.errors_of(*view)));
            }
            reached.push(index);
        }
        reached
    }

    /// How a node's ports are fed.
    fn edges(
        &mut self,
        index: Index,
        places: &BTreeMap<NodeId, Index>,
        node: &Node,
        storage: Option<&Storage>,
    ) -> Vec<Edge> {
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
        let edge = |input: &NodeId| {
            let from = places[input];
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
            Op::Window { .. } | Op::Changes | Op::Sink { .. } | Op::Anti => from(0),
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
fn wanted(node: &Node, storage: Option<&Storage>) -> Option<Vec<usize>> {
    match &node.op {
        Op::Input { .. } | Op::Errors { .. } | Op::Values { .. } | Op::Project { .. } => None,
        Op::Filter { .. } | Op::Union | Op::Negate | Op::Repeat { .. } | Op::Join => None,
        Op::Window { .. } | Op::Changes | Op::Sink { .. } | Op::Anti => None,
        Op::Arrange { key, .. } => Some(key.clone()),
        Op::Aggregate { group, .. } => Some(group.clone()),
        Op::Final { .. } => Some(node.identity()),
        Op::Session { partition, .. } => Some(partition.clone()),
        Op::Materialize { .. } => match storage {
            Some(Storage::Keyed(key)) => Some(key.clone()),
            Some(Storage::Hashed) => Some((0..node.columns.len()).collect()),
            Some(Storage::Log) | None => None,
        },
    }
}
