//! GROUP BY: a projection that computes groups, arguments and filters, and the aggregate over its columns.

use datafusion::logical_expr::Aggregate;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::AggregateFunction as Call;

use crate::error::Error;
use crate::error::Result;
use crate::ids::NodeId;
use crate::ids::TableId;
use crate::plan::explain;
use crate::plan::expr::sql_type;
use crate::plan::ir::AggregateCall;
use crate::plan::ir::AggregateFunction;
use crate::plan::ir::Multiset;
use crate::plan::ir::Scalar;
use crate::plan::lower::Lowering;
use crate::plan::lower::Relation;
use crate::plan::properties::closes_after;
use crate::plan::refuse::construct;
use crate::types::Column;
use crate::types::SqlType;

/// The columns that the projection below the aggregate computes, equal ones once.
#[derive(Default)]
struct Below {
    /// Each with its name.
    expressions: Vec<(Scalar, String)>,
}

impl Below {
    /// The column with this expression over these columns.
    fn column(&mut self, scalar: Scalar, input: &[Column]) -> usize {
        if let Some(place) = self.expressions.iter().position(|(e, _)| *e == scalar) {
            return place;
        }
        let name = explain::scalar(&scalar, input);
        self.expressions.push((scalar, name));
        self.expressions.len() - 1
    }
}

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Relation> {
        let input = self.lower(&aggregate.input)?;
        let mut below = Below::default();
        let mut group = vec![];
        for expr in &aggregate.group_expr {
            if let Expr::GroupingSet(_) = expr {
                return Err(construct("GROUPING SETS"));
            }
            let scalar = self.scalar(expr, aggregate.input.schema(), &input)?;
            group.push(below.column(scalar, self.builder.columns(input.node)));
        }
        let mut calls = vec![];
        let mut columns = vec![];
        for (i, expr) in aggregate.aggr_expr.iter().enumerate() {
            let ty = sql_type(aggregate.schema.field(group.len() + i))?;
            calls.push(self.call(expr, ty, aggregate, &input, &mut below)?);
        }
        let projected = self.computed(input.node, below)?;
        let shown = self.builder.columns(projected);
        for call in &calls {
            let nullable = call.function != AggregateFunction::Count;
            columns.push(Column { name: explain::call(call, shown), ty: call.ty.clone(), nullable });
        }
        let multisets = allot(&mut calls, self.builder.node(projected).append_only);
        let closes = |column: &&usize| closes_after(self.builder.node(projected), **column).is_some();
        let mut unique = group.iter().find(closes).copied().into_iter().collect::<Vec<_>>();
        let grouped = group.into_iter().map(|column| place(&mut unique, column)).collect::<Vec<_>>();
        let called = unique.len()..unique.len() + calls.len();
        let node = self.builder.aggregate(projected, unique, calls, multisets, columns);
        Ok(Relation { node, columns: grouped.into_iter().chain(called).collect() })
    }

    /// The projection below; without any column (`count(*)` alone) whatever there is.
    fn computed(&mut self, input: NodeId, below: Below) -> Result<NodeId> {
        if below.expressions.is_empty() {
            return self.narrow(input, &[0]);
        }
        self.builder.project(input, below.expressions)
    }

    /// One aggregate call, without its multiset.
    fn call(
        &self,
        expr: &Expr,
        ty: SqlType,
        aggregate: &Aggregate,
        input: &Relation,
        below: &mut Below,
    ) -> Result<AggregateCall> {
        let Expr::AggregateFunction(Call { func, params }) = expr.clone().unalias() else {
            return Err(Error::internal(format!("{expr} is not an aggregate")));
        };
        let function = function_of(func.name())?;
        if params.null_treatment.is_some() {
            return Err(construct("IGNORE NULLS of an aggregate"));
        }
        let (schema, columns) = (aggregate.input.schema(), self.builder.columns(input.node));
        let argument = match params.args.as_slice() {
            [] => None,
            [argument] => Some(self.scalar(argument, schema, input)?),
            _ => return Err(construct(&format!("{}() of several arguments", func.name()))),
        };
        let argument = match argument {
            Some(Scalar::Literal(literal)) if function == AggregateFunction::Count && literal.text.is_some() => None,
            Some(scalar) => Some(below.column(scalar, columns)),
            None => None,
        };
        let filter = params.filter.as_ref().map(|f| self.scalar(f, schema, input)).transpose()?;
        let filter = filter.filter(|f| *f != Scalar::truth()).map(|f| below.column(f, columns));
        let distinct = params.distinct && counts_repetitions(function);
        if distinct && argument.is_none() {
            return Err(construct("count(DISTINCT ...) of a constant"));
        }
        Ok(AggregateCall { function, argument, filter, ty, multiset: None, distinct })
    }
}

/// Our name for an aggregate function.
fn function_of(name: &str) -> Result<AggregateFunction> {
    Ok(match name {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" | "mean" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "bool_and" | "every" => AggregateFunction::BoolAnd,
        "bool_or" => AggregateFunction::BoolOr,
        other => {
            return Err(Error::unsupported(format!("aggregate {other}() is not supported in a materialized view"))
                .hint("Supported are count, sum, avg, min, max, bool_and, bool_or and every."));
        }
    })
}

/// Whether DISTINCT makes a difference.
fn counts_repetitions(function: AggregateFunction) -> bool {
    match function {
        AggregateFunction::Count | AggregateFunction::Sum | AggregateFunction::Avg => true,
        AggregateFunction::Min | AggregateFunction::Max | AggregateFunction::BoolAnd | AggregateFunction::BoolOr => {
            false
        }
    }
}

/// Gives each call that needs one a multiset. Those with DISTINCT over the same column share one, whatever their filters.
/// Min and max, for which the greatest seen is enough while nothing is taken back, search theirs: it has what they want and
/// nothing else.
fn allot(calls: &mut [AggregateCall], append_only: bool) -> Vec<Multiset> {
    let mut multisets: Vec<Multiset> = vec![];
    for call in calls.iter_mut().filter(|call| call.distinct) {
        let Some(column) = call.argument else { continue };
        let shared = multisets.iter().position(|multiset| multiset.column == column).unwrap_or(multisets.len());
        if shared == multisets.len() {
            multisets.push(Multiset { column, filters: vec![], table: TableId(0) });
        }
        place(&mut multisets[shared].filters, call.filter);
        call.multiset = Some(shared);
    }
    for call in calls.iter_mut().filter(|call| !append_only && !call.distinct) {
        let extreme = matches!(call.function, AggregateFunction::Min | AggregateFunction::Max);
        let (true, Some(column)) = (extreme, call.argument) else { continue };
        let wanted = Multiset { column, filters: vec![call.filter], table: TableId(0) };
        call.multiset = Some(place(&mut multisets, wanted));
    }
    multisets
}

/// Where an item is in a list, putting it there if it is not.
fn place<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    let found = list.iter().position(|x| *x == item);
    found.unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}
