//! `UNION [ALL]` and DISTINCT. EXCEPT and INTERSECT arrive as joins.

use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Union;

use crate::error::Result;
use crate::plan::ir::Scalar;
use crate::plan::lower::Lowering;
use crate::plan::lower::Relation;
use crate::plan::lower::cast;
use crate::plan::lower::schema_columns;

impl Lowering<'_> {
    /// The sum of the inputs, each cast to the common types.
    pub(super) fn union(&mut self, union: &Union) -> Result<Relation> {
        let columns = schema_columns(&union.schema)?;
        let mut inputs = vec![];
        for plan in &union.inputs {
            let input = self.lower(plan)?;
            let below = self.builder.columns(input.node);
            let expressions = input.columns.iter().zip(&columns);
            let expressions = expressions.map(|(&c, to)| (cast(Scalar::Column(c), &to.ty, below), to.name.clone()));
            let expressions = expressions.collect::<Vec<_>>();
            inputs.push(match expressions.is_empty() {
                true => self.narrow(input.node, &[])?,
                false => self.builder.project(input.node, expressions)?,
            });
        }
        Ok(Relation { node: self.builder.union(inputs), columns: (0..columns.len()).collect() })
    }

    /// Each row once: an aggregate without calls.
    pub(super) fn distinct(&mut self, input: &LogicalPlan) -> Result<Relation> {
        let input = self.lower(input)?;
        let narrowed = self.narrow(input.node, &input.columns)?;
        Ok(Relation { node: self.builder.distinct(narrowed), columns: (0..input.columns.len()).collect() })
    }
}
