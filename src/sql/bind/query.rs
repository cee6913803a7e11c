//! Queries: rewritten, planned by DataFusion over our relations, analyzed, and given the columns that the client sees.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast;

use crate::catalog::{ObjectKind, View};
use crate::error::{Error, Result};
use crate::ids::ObjectId;
use crate::sql::bind::error::convert;
use crate::sql::bind::output::shown;
use crate::sql::bind::provider::Provider;
use crate::sql::bind::rewrite::{cast_parameters, counting_parameters, rewrite};
use crate::sql::bind::{refuse, view};
use crate::sql::bound::{Query, RelationRef, RelationSource};
use crate::sql::parse::ast::Statement;
use crate::sql::parse::parse;
use crate::types::{Column, SqlType};

/// What a query is bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be run now.
    Read,
    /// To be put in where the view is read.
    View,
    /// To be kept up to date.
    MaterializedView,
}

/// Binds a query.
pub fn bind_query(provider: &Provider, query: &ast::Query, purpose: Purpose) -> Result<Query> {
    let mut query = query.clone();
    if purpose == Purpose::MaterializedView && query.limit_clause.is_none() && query.fetch.is_none() {
        query.order_by = None;
    }
    let (plan, parameters) = plan_query(provider, &query)?;
    let plan = output(plan)?;
    let (columns, reads) = (columns(&plan)?, reads(provider, &plan)?);
    let query = Query::new(plan, columns, reads, parameters);
    match purpose {
        Purpose::Read => refuse_sources(provider, &query)?,
        Purpose::View | Purpose::MaterializedView => view::check(&query, purpose)?,
    }
    Ok(query)
}

/// The plan of a plain view, with the columns as they were when it was created.
pub fn view_plan(provider: &Provider, view: &View) -> Result<LogicalPlan> {
    let mut statements = parse(&view.query)?;
    let Some(Statement::Query(query)) = statements.pop().map(|statement| statement.ast) else {
        return Err(Error::internal("the query of a view is no query"));
    };
    let (plan, _) = plan_query(provider, &query)?;
    let plan = output(plan)?;
    let names = plan.schema().columns().into_iter().zip(&view.columns);
    let columns: Vec<Expr> = names.map(|(column, shown)| Expr::Column(column).alias(&shown.name)).collect();
    LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(convert)
}

/// The analyzed plan of a query, and the types of its parameters.
pub fn plan_query(provider: &Provider, query: &ast::Query) -> Result<(LogicalPlan, Vec<SqlType>)> {
    let given: Vec<Option<FieldRef>> =
        provider.context.parameter_types.iter().map(|ty| ty.as_ref().map(field)).collect();
    let plan = raw_plan(provider, query, given)?;
    let plan = analyze(provider, plan)?;
    let parameters = parameter_types(provider, &plan, query)?;
    if parameters.is_empty() {
        return Ok((plan, parameters));
    }
    let types = parameters.iter().map(|ty| Some(field(ty))).collect();
    let plan = raw_plan(provider, query, types)?;
    Ok((analyze(provider, plan)?, parameters))
}

/// A field of this type, without a name.
pub fn field(ty: &SqlType) -> FieldRef {
    ty.field("", true).into()
}

/// Runs DataFusion's planner, a second time with more aliases where a wildcard brings a name in again.
fn raw_plan(provider: &Provider, query: &ast::Query, parameters: Vec<Option<FieldRef>>) -> Result<LogicalPlan> {
    refuse::check(query, provider.text)?;
    let attempt = |around_wildcards| {
        let mut query = query.clone();
        rewrite(&mut query, provider.context, around_wildcards)?;
        let options =
            ParserOptions { collect_spans: true, ..ParserOptions::from(&provider.state.config_options().sql_parser) };
        let planner = SqlToRel::new_with_options(provider, options);
        let mut context = PlannerContext::new().with_prepare_param_data_types(parameters.clone());
        let statement = ast::Statement::Query(Box::new(query));
        let plan = planner.sql_statement_to_plan_with_context(statement, &mut context);
        Ok::<_, Error>(plan)
    };
    match attempt(false)? {
        Err(error) if error.to_string().contains("require unique expression names") => {
            attempt(true)?.map_err(|error| provider.fail(error))
        }
        plan => plan.map_err(|error| provider.fail(error)),
    }
}

/// Types, coercions and Postgres' semantics, by the analyzer's rules.
pub fn analyze(provider: &Provider, plan: LogicalPlan) -> Result<LogicalPlan> {
    let options = provider.state.config_options();
    provider.state.analyzer().execute_and_check(plan, options, |_, _| {}).map_err(|error| provider.fail(error))
}

/// The types of `$1` to the highest parameter: as given, else as inferred, else text.
fn parameter_types(provider: &Provider, plan: &LogicalPlan, query: &ast::Query) -> Result<Vec<SqlType>> {
    let fields = parameter_fields(plan)?;
    // Those in what was left out of the plan are parameters all the same.
    let (counting, named) = (counting_parameters(query), cast_parameters(query));
    let given = &provider.context.parameter_types;
    let numbers = fields.keys().chain(named.keys()).filter_map(|id| id.trim_start_matches('$').parse::<usize>().ok());
    let count = numbers.max().unwrap_or(0).max(given.len());
    (1..=count)
        .map(|n| {
            if let Some(Some(ty)) = given.get(n - 1) {
                return Ok(ty.clone());
            }
            let wide = |ty| if matches!(ty, SqlType::Varchar(_)) { SqlType::Text } else { ty };
            match fields.get(&format!("${n}")) {
                Some(Some(field)) => {
                    SqlType::of_field(field).map_or_else(|| nearest_type(field.data_type()), Ok).map(wide)
                }
                Some(None) if counting.contains(&format!("${n}")) => Ok(SqlType::BigInt),
                Some(None) => Ok(SqlType::Text),
                None => match named.get(&format!("${n}")) {
                    Some(ty) => Ok(ty.clone().unwrap_or(SqlType::Text)),
                    None => Err(Error::indeterminate_type(format!("could not determine data type of parameter ${n}"))),
                },
            }
        })
        .collect()
}

/// The parameters of a plan, each with the type that the first of its uses gives it.
fn parameter_fields(plan: &LogicalPlan) -> Result<BTreeMap<String, Option<FieldRef>>> {
    let mut fields: BTreeMap<String, Option<FieldRef>> = BTreeMap::new();
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Placeholder(placeholder) = expr {
                    let field = fields.entry(placeholder.id.clone()).or_default();
                    *field = field.take().or_else(|| placeholder.field.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(convert)?;
    Ok(fields)
}

/// Gives a plan the columns that a result has: of types that SQL knows, and under names that differ.
pub fn output(plan: LogicalPlan) -> Result<LogicalPlan> {
    let schema = plan.schema().clone();
    let mut names = BTreeSet::new();
    let mut changed = false;
    let mut expressions = Vec::new();
    for (column, field) in schema.columns().into_iter().zip(schema.fields()) {
        let expr = Expr::Column(column);
        let target = match SqlType::of_field(field) {
            Some(ty) if ty.arrow() == *field.data_type() => None,
            _ => Some(nearest_type(field.data_type())?),
        };
        let mut name = field.name().clone();
        while !names.insert(name.clone()) {
            name.push('\u{1}');
        }
        changed |= target.is_some() || name != *field.name();
        expressions.push(match target {
            Some(ty) => Expr::Cast(Cast::new_from_field(Box::new(expr), self::field(&ty))).alias(name),
            None if name != *field.name() => expr.alias(name),
            None => expr,
        });
    }
    if !changed {
        return Ok(plan);
    }
    LogicalPlanBuilder::from(plan).project(expressions).and_then(LogicalPlanBuilder::build).map_err(convert)
}

/// The SQL type for an Arrow type that is none's.
fn nearest_type(data_type: &DataType) -> Result<SqlType> {
    Ok(match data_type {
        DataType::Null | DataType::Utf8View | DataType::LargeUtf8 => SqlType::Text,
        DataType::Dictionary(_, value) => return of(value),
        DataType::Int8 | DataType::UInt8 => SqlType::SmallInt,
        DataType::UInt16 => SqlType::Integer,
        DataType::UInt32 | DataType::UInt64 => SqlType::BigInt,
        DataType::Float16 => SqlType::Real,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            SqlType::Numeric { precision: *precision, scale: *scale }
        }
        DataType::Decimal256(_, scale) => SqlType::Numeric { precision: 38, scale: (*scale).clamp(0, 38) },
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => SqlType::Bytea,
        DataType::Date64 | DataType::Timestamp(_, None) => SqlType::Timestamp,
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
        DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => SqlType::Array(Box::new(of(item.data_type())?)),
        other => match SqlType::of_arrow(other) {
            Some(ty) => ty,
            None => return Err(Error::unsupported(format!("values of type {other} are not supported in a result"))),
        },
    })
}

fn of(data_type: &DataType) -> Result<SqlType> {
    SqlType::of_arrow(data_type).map_or_else(|| nearest_type(data_type), Ok)
}

/// An expression of a type that SQL knows, with that type; `None` for a NULL of no type.
pub fn normalized(expr: Expr, field: &Field) -> Result<Option<(Expr, SqlType)>> {
    if *field.data_type() == DataType::Null {
        return Ok(None);
    }
    Ok(Some(match SqlType::of_field(field) {
        Some(ty) if ty.arrow() == *field.data_type() => (expr, ty),
        _ => {
            let ty = nearest_type(field.data_type())?;
            (Expr::Cast(Cast::new_from_field(Box::new(expr), self::field(&ty))), ty)
        }
    }))
}

/// The columns of a plan whose output is in order.
pub fn columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    plan.schema().fields().iter().map(|field| column(field)).collect()
}

/// The column that a field shows as.
pub fn column(field: &Field) -> Result<Column> {
    let ty = SqlType::of_field(field).map_or_else(|| nearest_type(field.data_type()), Ok)?;
    Ok(Column { name: shown(field.name()).to_string(), ty, nullable: field.is_nullable() })
}

/// The objects that a plan reads, with the plain views that were put in.
pub fn reads(provider: &Provider, plan: &LogicalPlan) -> Result<BTreeSet<ObjectId>> {
    let mut reads = provider.views.borrow().clone();
    for relation in relations(plan)? {
        if let RelationRef::Object(id) = relation {
            reads.insert(id);
        }
    }
    Ok(reads)
}

/// The relations that a plan scans.
pub fn relations(plan: &LogicalPlan) -> Result<Vec<RelationRef>> {
    let mut relations = Vec::new();
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(source) = RelationSource::of(&scan.source)
        {
            relations.push(source.relation.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(convert)?;
    Ok(relations)
}

/// A source has no rows to read: a view over it has.
pub fn refuse_sources(provider: &Provider, query: &Query) -> Result<()> {
    for id in &query.reads {
        if let Some(object) = provider.context.catalog.get(*id)
            && let ObjectKind::Source(_) = object.kind
        {
            let name = &object.name;
            return Err(Error::unsupported(format!("source \"{name}\" cannot be read directly")).hint(format!(
                "Its rows are not stored. Create a materialized view over it: CREATE MATERIALIZED VIEW v AS SELECT * FROM {name}."
            )));
        }
    }
    Ok(())
}
