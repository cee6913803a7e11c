//! `UNION [ALL]`, DISTINCT, and the rows of EXCEPT ALL and INTERSECT ALL. Without ALL those two arrive as joins.

use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Union;
use datafusion::logical_expr::logical_plan::Unnest;

use crate::error::Result;
use crate::functions::subqueries::COPIES;
use crate::plan::ir::Scalar;
use crate::plan::lower::Lowering;
use crate::plan::lower::Relation;
use crate::plan::lower::cast;
use crate::plan::lower::schema_columns;
use crate::plan::refuse::construct;

impl Lowering<'_> {
    /// The sum of the inputs, each cast to the common types.
    pub(super) fn union(&mut self, union: &Union) -> Result<Relation> {
        let columns = schema_columns(&union.schema)?;
        let (mut inputs, mut events) = (vec![], vec![]);
        for plan in &union.inputs {
            let input = self.lower(plan)?;
            let below = self.builder.columns(input.node);
            let expressions = input.columns.iter().zip(&columns);
            let expressions = expressions.map(|(&c, to)| (cast(Scalar::Column(c), &to.ty, below), to.name.clone()));
            let mut expressions = expressions.collect::<Vec<_>>();
            events.push(self.carry(input.node, &mut expressions));
            inputs.push(match expressions.is_empty() {
                true => self.narrow(input.node, &[])?,
                false => self.builder.project(input.node, expressions)?,
            });
        }
        let width = columns.len();
        let event = events[0].filter(|first| events.iter().all(|e| e.is_some_and(|e| e.time == first.time)));
        if event.is_none() {
            let own = (0..width).collect::<Vec<_>>();
            inputs = inputs.into_iter().map(|input| self.narrow(input, &own)).collect::<Result<_>>()?;
        }
        let node = self.builder.union(inputs);
        if let Some(event) = event {
            self.event_times.insert(node, event);
        }
        Ok(Relation { node, columns: (0..width).collect() })
    }

    /// What [`copies`](crate::functions::subqueries::copies) are unnested of: each row so often.
    pub(super) fn copies(&mut self, unnest: &Unnest) -> Result<Relation> {
        let count = |expr: &Expr| match expr.clone().unalias() {
            Expr::ScalarFunction(call) if call.name() == COPIES => call.args.into_iter().next(),
            _ => None,
        };
        let LogicalPlan::Projection(projection) = unnest.input.as_ref() else { return Err(construct("unnest")) };
        let Some(place) = projection.expr.iter().position(|expr| count(expr).is_some()) else {
            return Err(construct("unnest"));
        };
        let counted =
            projection.expr.iter().map(|expr| count(expr).unwrap_or_else(|| expr.clone())).collect::<Vec<_>>();
        let input = self.lower(&projection.input)?;
        let relation = self.project(&input, &counted, projection.input.schema())?;
        let node = self.builder.repeat(relation.node, relation.columns[place]);
        Ok(Relation { node, columns: relation.columns })
    }

    /// Each row once: an aggregate without calls.
    pub(super) fn distinct(&mut self, input: &LogicalPlan) -> Result<Relation> {
        let input = self.lower(input)?;
        let narrowed = self.narrow(input.node, &input.columns)?;
        Ok(Relation { node: self.builder.distinct(narrowed), columns: (0..input.columns.len()).collect() })
    }
}
