//! Joins of every kind, composed of inner joins, distincts, anti joins with distinct keys, and unions:
//!
//! ```text
//! L semi R   =  L ⋈ distinct(keys of R)                     with further conditions, where J = σ(L ⋈ R):
//!                                                           L ⋈ distinct(the L rows of J)
//! L anti R   =  L ▷ the same distinct rows                  and the L rows whose key holds a NULL
//! L left R   =  (L inner R) ∪ (L anti R) padded with NULLs    right and full likewise
//! L mark R   =  (L semi R) × true ∪ (L anti R) × false
//! ```
//!
//! All of it is linear or made of joins, so it is maintained by what maintains those, and the arrangements are shared.

use datafusion::common::DFSchema;
use datafusion::common::JoinType;
use datafusion::common::NullEquality;
use datafusion::logical_expr::BinaryExpr;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::logical_plan::Join;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::utils::split_conjunction;

use crate::error::Error;
use crate::error::Result;
use crate::ids::NodeId;
use crate::plan::explain;
use crate::plan::expr::lower_expr;
use crate::plan::expr::planning;
use crate::plan::ir::Scalar;
use crate::plan::lower::Lowering;
use crate::plan::lower::Relation;
use crate::plan::properties::covers;
use crate::types::SqlType;

/// One side of a join, with just the columns that the join needs.
struct Side {
    /// Its rows.
    node: NodeId,
    /// The columns of `node` that are equated with those of the other side.
    key: Vec<usize>,
    /// For each column of the logical plan, the column of `node`.
    columns: Vec<usize>,
}

/// A join with both sides lowered.
struct Sides {
    left: Side,
    right: Side,
    /// Whether NULL equals NULL.
    null_safe: bool,
    /// What else must be true, over the columns of both nodes; `None` where nothing.
    residual: Option<Scalar>,
}

/// A side of a join, and its place among the columns of the inner join.
#[derive(Clone, Copy)]
struct View<'a> {
    /// The side looked at.
    this: &'a Side,
    /// The other one.
    other: &'a Side,
    /// The first of this side's columns in the inner join.
    offset: usize,
}

/// Which rows of a side have a partner: those whose `own` columns are a row of `partners`, which has each once.
struct Partnered {
    own: Vec<usize>,
    partners: NodeId,
    null_safe: bool,
}

/// What a join's filter equates where NULL equals NULL, the left side first, and the rest of the filter. DataFusion has keys of one
/// kind in a join, and leaves these there beside others.
fn null_safe_pairs(join: &Join) -> (Vec<(Expr, Expr)>, Option<Expr>) {
    let of = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.into_iter().all(|column| schema.has_column(column))
    };
    let (left, right) = (join.left.schema(), join.right.schema());
    let of_sides = |a: &Expr, b: &Expr| {
        let is_typed_alike = || matches!((a.get_type(left), b.get_type(right)), (Ok(a), Ok(b)) if a == b);
        of(a, left) && of(b, right) && is_typed_alike()
    };
    let (mut pairs, mut rest) = (vec![], vec![]);
    for condition in join.filter.iter().flat_map(split_conjunction) {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::IsNotDistinctFrom, right: b }) if of_sides(a, b) => {
                pairs.push((a.as_ref().clone(), b.as_ref().clone()));
            }
            Expr::BinaryExpr(BinaryExpr { left: b, op: Operator::IsNotDistinctFrom, right: a }) if of_sides(a, b) => {
                pairs.push((a.as_ref().clone(), b.as_ref().clone()));
            }
            condition => rest.push(condition.clone()),
        }
    }
    (pairs, conjunction(rest))
}

impl Lowering<'_> {
    /// `null_aware` is not looked at: see [`crate::plan::not_in`].
    pub(super) fn join(&mut self, join: &Join) -> Result<Relation> {
        let sides = self.sides(join)?;
        match join.join_type {
            JoinType::Inner => {
                let node = self.inner(&sides)?;
                let relation = self.both(&sides, node);
                Ok(self.united(&sides, relation))
            }
            JoinType::Left => self.outer(&sides, true, false),
            JoinType::Right => self.outer(&sides, false, true),
            JoinType::Full => self.outer(&sides, true, true),
            JoinType::LeftSemi => self.one(&sides, self.left(&sides), Lowering::semi),
            JoinType::RightSemi => self.one(&sides, self.right(&sides), Lowering::semi),
            JoinType::LeftAnti => self.one(&sides, self.left(&sides), Lowering::anti),
            JoinType::RightAnti => self.one(&sides, self.right(&sides), Lowering::anti),
            JoinType::LeftMark => self.mark(&sides, self.left(&sides)),
            JoinType::RightMark => self.mark(&sides, self.right(&sides)),
        }
    }

    /// Lowers both sides and puts keys that are expressions in as columns.
    fn sides(&mut self, join: &Join) -> Result<Sides> {
        let (left, right) = (self.lower(&join.left)?, self.lower(&join.right)?);
        let (alike, filter) = null_safe_pairs(join);
        let mut keys = (vec![], vec![]);
        for (l, r) in join.on.iter().chain(&alike) {
            let l = self.scalar(l, join.left.schema(), &left)?;
            let r = self.scalar(r, join.right.schema(), &right)?;
            let types = (l.ty(self.builder.columns(left.node)), r.ty(self.builder.columns(right.node)));
            if types.0.arrow() != types.1.arrow() {
                return Err(Error::unsupported(format!("joining {} with {} is not supported", types.0, types.1))
                    .hint("Cast both sides to one type."));
            }
            keys.0.push(l);
            keys.1.push(r);
        }
        let mut null_safe = join.null_equality == NullEquality::NullEqualsNull;
        if !alike.is_empty() && !null_safe {
            // All keys are compared as those that may be NULL; a row in which one of the others is has no partner.
            null_safe = true;
            let equal = keys.0[..join.on.len()].iter();
            let nullable = equal.filter(|key| key.nullable(self.builder.columns(left.node)));
            if let Some(unknown) = Scalar::any_is_null(nullable.cloned()) {
                keys.0.push(unknown);
                keys.1.push(Scalar::boolean(false));
            }
        }
        let (left, right) = (self.side(left, keys.0)?, self.side(right, keys.1)?);
        let width = self.builder.columns(left.node).len();
        let places = left.columns.iter().copied().chain(right.columns.iter().map(|c| width + c)).collect::<Vec<_>>();
        let schema = join.left.schema().join(join.right.schema()).map_err(planning)?;
        let residual = filter.map(|f| lower_expr(&f, &schema)).transpose()?;
        let residual = residual.map(|r| r.over(&places)).filter(|r| *r != Scalar::truth());
        Ok(Sides { left, right, null_safe, residual })
    }

    /// The columns of a relation and its keys, nothing else.
    fn side(&mut self, relation: Relation, keys: Vec<Scalar>) -> Result<Side> {
        let input = self.builder.columns(relation.node);
        let mut expressions: Vec<(Scalar, String)> = vec![];
        let mut put = |scalar: Scalar, name: &str| {
            let found = expressions.iter().position(|(e, _)| *e == scalar);
            found.unwrap_or_else(|| {
                expressions.push((scalar, name.to_string()));
                expressions.len() - 1
            })
        };
        let columns = relation.columns.iter().map(|&c| put(Scalar::Column(c), &input[c].name)).collect();
        let key = keys.into_iter().map(|key| (explain::scalar(&key, input), key));
        let key = key.map(|(name, key)| put(key, &name)).collect();
        let node = match expressions.is_empty() {
            true => self.narrow(relation.node, &[])?,
            false => self.builder.project(relation.node, expressions)?,
        };
        Ok(Side { node, key, columns })
    }

    fn left<'a>(&self, sides: &'a Sides) -> View<'a> {
        View { this: &sides.left, other: &sides.right, offset: 0 }
    }

    fn right<'a>(&self, sides: &'a Sides) -> View<'a> {
        View { this: &sides.right, other: &sides.left, offset: self.builder.columns(sides.left.node).len() }
    }

    /// The pairs of rows that satisfy all conditions.
    fn inner(&mut self, sides: &Sides) -> Result<NodeId> {
        let (left, right) = (&sides.left, &sides.right);
        let joined = self.builder.join((left.node, &left.key), (right.node, &right.key), sides.null_safe);
        match &sides.residual {
            None => Ok(joined),
            Some(residual) => self.builder.filter(joined, residual.clone()),
        }
    }

    /// The columns of both sides in a node that has them one after the other.
    fn both(&self, sides: &Sides, node: NodeId) -> Relation {
        let offset = self.builder.columns(sides.left.node).len();
        let right = sides.right.columns.iter().map(|c| offset + c);
        Relation { node, columns: sides.left.columns.iter().copied().chain(right).collect() }
    }

    /// An inner join's columns, those of the right that equal one of the left taken from there, where keys are known by.
    fn united(&self, sides: &Sides, relation: Relation) -> Relation {
        let columns = self.builder.columns(relation.node);
        let offset = self.builder.columns(sides.left.node).len();
        let unite = |c: usize| {
            let equated = sides.left.key.iter().zip(&sides.right.key).find(|(_, r)| offset + **r == c);
            equated.map_or(c, |(l, _)| if same_form(&columns[*l].ty, &columns[c].ty) { *l } else { c })
        };
        Relation { node: relation.node, columns: relation.columns.into_iter().map(unite).collect() }
    }

    /// A semi or anti join: the columns of one side.
    fn one(
        &mut self,
        sides: &Sides,
        view: View<'_>,
        rows: fn(&mut Self, &Sides, View<'_>) -> Result<NodeId>,
    ) -> Result<Relation> {
        Ok(Relation { node: rows(self, sides, view)?, columns: view.this.columns.clone() })
    }

    /// The rows of one side that have a partner.
    fn semi(&mut self, sides: &Sides, view: View<'_>) -> Result<NodeId> {
        let this = view.this;
        let Partnered { own, partners, null_safe } = self.partnered(sides, view)?;
        let theirs = (0..own.len()).collect::<Vec<_>>();
        let width = self.builder.columns(this.node).len();
        let joined = self.builder.join((this.node, &own), (partners, &theirs), null_safe);
        let rows = self.builder.select(joined, &(0..width).collect::<Vec<_>>())?;
        self.builder.prove_key(rows, self.builder.node(this.node).key.clone());
        Ok(rows)
    }

    /// What tells which rows of one side have a partner.
    fn partnered(&mut self, sides: &Sides, view: View<'_>) -> Result<Partnered> {
        let this = view.this;
        let (own, partners, null_safe) = match &sides.residual {
            None => (this.key.clone(), self.narrow(view.other.node, &view.other.key)?, sides.null_safe),
            Some(_) => {
                let pairs = self.inner(sides)?;
                let own = self.identity(this.node);
                let there = own.iter().map(|c| view.offset + c).collect::<Vec<_>>();
                (own, self.narrow(pairs, &there)?, true)
            }
        };
        let partners = self.builder.distinct(partners);
        Ok(Partnered { own, partners, null_safe })
    }

    /// The columns that tell a node's rows apart: its key, else all.
    fn identity(&self, node: NodeId) -> Vec<usize> {
        self.builder.node(node).identity()
    }

    /// The rows of one side that have no partner.
    fn anti(&mut self, sides: &Sides, view: View<'_>) -> Result<NodeId> {
        let this = view.this.node;
        let Partnered { own, partners, null_safe } = self.partnered(sides, view)?;
        let theirs = (0..own.len()).collect::<Vec<_>>();
        let alone = self.builder.anti((this, &own), (partners, &theirs), null_safe);
        let columns = self.builder.columns(this);
        let nullable = own.iter().copied().filter(|&c| !null_safe && columns[c].nullable);
        let Some(unknown) = Scalar::any_null(nullable) else { return Ok(alone) };
        let unknown = self.builder.filter(this, unknown)?;
        let rest = self.builder.union(vec![alone, unknown]);
        self.builder.prove_key(rest, self.builder.node(this).key.clone());
        Ok(rest)
    }

    /// An outer join that keeps the rows without partner of the sides chosen.
    fn outer(&mut self, sides: &Sides, keep_left: bool, keep_right: bool) -> Result<Relation> {
        let inner = self.inner(sides)?;
        let mut parts = vec![inner];
        if keep_left && !self.always_meets(sides, self.left(sides)) {
            parts.push(self.padded(sides, self.left(sides))?);
        }
        if keep_right && !self.always_meets(sides, self.right(sides)) {
            parts.push(self.padded(sides, self.right(sides))?);
        }
        let node = self.builder.union(parts);
        let key = self.outer_key(sides, keep_left, keep_right);
        self.builder.prove_key(node, key);
        Ok(self.both(sides, node))
    }

    /// Whether every row of one side has a partner, because all pairs are wanted and the other side always has a row.
    fn always_meets(&self, sides: &Sides, view: View<'_>) -> bool {
        view.this.key.is_empty() && sides.residual.is_none() && self.builder.always_has_one(view.other.node)
    }

    /// The rows of one side that have no partner, with NULLs for the other.
    fn padded(&mut self, sides: &Sides, view: View<'_>) -> Result<NodeId> {
        let rest = self.anti(sides, view)?;
        let own = self.builder.columns(view.this.node).iter().enumerate();
        let own = own.map(|(i, c)| (Scalar::Column(i), c.name.clone())).collect::<Vec<_>>();
        let other = self.builder.columns(view.other.node).iter();
        let other = other.map(|c| (Scalar::null(c.ty.clone()), c.name.clone())).collect::<Vec<_>>();
        let expressions = if view.offset == 0 { [own, other].concat() } else { [other, own].concat() };
        self.builder.project(rest, expressions)
    }

    /// The key of an outer join, where each side has one. A padded row is alone with its side's key, and differs from the
    /// padded rows of the other side where a column of either key is never NULL.
    fn outer_key(&self, sides: &Sides, keep_left: bool, keep_right: bool) -> Option<Vec<usize>> {
        let (left, right) = (self.builder.node(sides.left.node), self.builder.node(sides.right.node));
        let (l, r) = (left.key.as_ref()?, right.key.as_ref()?);
        let shifted = r.iter().map(|c| left.columns.len() + c).collect::<Vec<_>>();
        if !keep_right && covers(&sides.right.key, r) {
            return Some(l.clone());
        }
        if !keep_left && covers(&sides.left.key, l) {
            return Some(shifted);
        }
        let told_apart = l.iter().any(|&c| !left.columns[c].nullable) || r.iter().any(|&c| !right.columns[c].nullable);
        (!(keep_left && keep_right) || told_apart).then(|| [l.clone(), shifted].concat())
    }

    /// All rows of one side, and whether each has a partner.
    fn mark(&mut self, sides: &Sides, view: View<'_>) -> Result<Relation> {
        let mut parts = vec![];
        for (rows, mark) in [(self.semi(sides, view)?, true), (self.anti(sides, view)?, false)] {
            let own = self.builder.columns(view.this.node).iter().enumerate();
            let own = own.map(|(i, c)| (Scalar::Column(i), c.name.clone()));
            let marked = own.chain([(Scalar::boolean(mark), "mark".into())]).collect();
            parts.push(self.builder.project(rows, marked)?);
        }
        let node = self.builder.union(parts);
        self.builder.prove_key(node, self.builder.node(view.this.node).key.clone());
        let width = self.builder.columns(view.this.node).len();
        Ok(Relation { node, columns: view.this.columns.iter().copied().chain([width]).collect() })
    }
}

/// Whether values of these types that are equal are the same: 0.0 equals -0.0, one day equals 24 hours.
fn same_form(left: &SqlType, right: &SqlType) -> bool {
    let many_forms = matches!(left, SqlType::Real | SqlType::Double | SqlType::Interval | SqlType::Array(_));
    left == right && !many_forms
}
