//! `INSERT`: the rows to come, as a query for the table's declared columns in order.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{
    self, ConflictTarget, Insert, OnConflictAction, OnInsert, SelectItem, SetExpr, Spanned, TableObject,
};

use crate::catalog::{Object, Table};
use crate::error::{Error, Result};
use crate::sql::bind::assign::{adopt, assign, wrap_assign};
use crate::sql::bind::constant_rows;
use crate::sql::bind::dml::{
    assignment_pairs, bind_returning, merge_parameters, refuse_append_only, target_table, values_of_target,
};
use crate::sql::bind::expression::{analyze_over, bind_over, expression_for, row_schema};
use crate::sql::bind::names::{column_index, resolve_object};
use crate::sql::bind::provider::Provider;
use crate::sql::bind::query::{analyze, columns as plan_columns, normalized, plan_query, reads, refuse_sources};
use crate::sql::bound::{Dml, EXCLUDED, OLD, OnConflict, Query, RelationRef, RelationSource};
use crate::sql::parse::grammar::folded;
use crate::sql::parse::parse_expression;
use crate::types::{Column, schema_of};

/// Binds INSERT.
pub fn bind_insert(provider: &Provider, insert: &Insert) -> Result<Dml> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::syntax("INSERT takes the name of a table"));
    };
    if insert.or.is_some() || insert.overwrite || insert.partitioned.is_some() || !insert.assignments.is_empty() {
        return Err(Error::unsupported("this form of INSERT is not supported"));
    }
    let object = resolve_object(name, provider.context)?;
    let table = target_table(&object, "insert into")?;
    let targets = targets(provider, insert, &object, table)?;
    let plan = match &insert.source {
        Some(source) => source_plan(provider, source, insert, &targets, table)?,
        None => (one_row()?, Vec::new()),
    };
    let (plan, mut parameters) = plan;
    let plan = table_rows(provider, plan, &targets, table)?;
    let alias = insert.table_alias.as_ref().map_or_else(|| object.name.clone(), |alias| folded(&alias.alias));
    let conflict = conflict(provider, insert, &object, table, &alias)?;
    if let OnConflict::Update { assignments, filter } = &conflict {
        merge_parameters(&mut parameters, assignments.iter().map(|(_, expr)| expr).chain(filter))?;
    }
    let (columns, reads) = (plan_columns(&plan)?, reads(provider, &plan)?);
    let source = Query::new(plan, columns, reads, parameters);
    refuse_sources(provider, &source)?;
    let returning = bind_returning(provider, insert.returning.as_deref(), &table.columns, &alias)?;
    Ok(Dml::Insert { table: object.id, source, conflict, returning })
}

/// Binds the write of rows that come with the statement: [`RelationRef::Given`], with these columns of the table.
pub fn bind_given(provider: &Provider, object: &Object, table: &Table, targets: &[usize]) -> Result<Dml> {
    let columns: Vec<Column> = targets.iter().map(|&target| table.columns[target].clone()).collect();
    let given = Arc::new(RelationSource { relation: RelationRef::Given, schema: schema_of(&columns), rows: None });
    let plan = LogicalPlanBuilder::scan("given", given, None).and_then(LogicalPlanBuilder::build);
    let plan = table_rows(provider, plan.map_err(|error| provider.fail(error))?, targets, table)?;
    let (columns, reads) = (plan_columns(&plan)?, reads(provider, &plan)?);
    let source = Query::new(plan, columns, reads, Vec::new());
    Ok(Dml::Insert { table: object.id, source, conflict: OnConflict::Error, returning: None })
}

/// The columns that the source's values go to.
fn targets(provider: &Provider, insert: &Insert, object: &Object, table: &Table) -> Result<Vec<usize>> {
    if insert.columns.is_empty() {
        return Ok((0..table.columns.len()).collect());
    }
    let mut targets = Vec::new();
    for name in &insert.columns {
        let ident = name.0.last().and_then(|part| part.as_ident());
        let ident = ident.ok_or_else(|| Error::syntax(format!("\"{name}\" is no column name")))?;
        let position = provider.text.and_then(|text| text.position(ident.span));
        let at = |mut error: Error| {
            error.position = position;
            error
        };
        let index = column_index(&table.columns, ident, &object.name).map_err(at)?;
        if targets.contains(&index) {
            let message = format!("column \"{}\" specified more than once", folded(ident));
            return Err(at(Error::duplicate_column(message)));
        }
        targets.push(index);
    }
    Ok(targets)
}

fn one_row() -> Result<LogicalPlan> {
    LogicalPlanBuilder::empty(true).build().map_err(crate::sql::bind::error::convert)
}

/// The plan of the source, its literals read as values of the columns they go to.
fn source_plan(
    provider: &Provider,
    source: &ast::Query,
    insert: &Insert,
    targets: &[usize],
    table: &Table,
) -> Result<(LogicalPlan, Vec<crate::types::SqlType>)> {
    let columns = targets.iter().map(|target| &table.columns[*target]).collect::<Vec<_>>();
    if let Some(plan) = constant_rows::plan(provider, source, &columns)? {
        return Ok((plan, Vec::new()));
    }
    let mut source = source.clone();
    match source.body.as_mut() {
        SetExpr::Values(values) => {
            let several = values.rows.len() > 1;
            for row in &mut values.rows {
                check_count(provider, row.content.len(), targets, insert, row.content.last().map(Spanned::span))?;
                for (cell, target) in row.content.iter_mut().zip(targets) {
                    value_of_column(cell, *target, table)?;
                    if several {
                        wrap_assign(cell, &table.columns[*target].ty);
                    }
                }
            }
        }
        SetExpr::Select(select) => {
            let plain =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            if select.projection.iter().all(plain) {
                for (item, target) in select.projection.iter_mut().zip(targets) {
                    if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                        adopt(expr, &table.columns[*target].ty);
                    }
                }
            }
        }
        _ => {}
    }
    let (plan, parameters) = plan_query(provider, &source)?;
    check_count(provider, plan.schema().fields().len(), targets, insert, None)?;
    Ok((plan, parameters))
}

/// A value of VALUES or SET: DEFAULT is replaced, a literal takes the column's type.
pub fn value_of_column(value: &mut ast::Expr, column: usize, table: &Table) -> Result<()> {
    let is_default = matches!(value, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"));
    if is_default {
        *value = match &table.defaults[column] {
            Some(default) => parse_expression(default)?,
            None => ast::Expr::value(ast::Value::Null),
        };
    }
    adopt(value, &table.columns[column].ty);
    Ok(())
}

fn check_count(
    provider: &Provider,
    count: usize,
    targets: &[usize],
    insert: &Insert,
    span: Option<sqlparser::tokenizer::Span>,
) -> Result<()> {
    let message = if count > targets.len() {
        "INSERT has more expressions than target columns"
    } else if count < targets.len() && !insert.columns.is_empty() {
        "INSERT has more target columns than expressions"
    } else {
        return Ok(());
    };
    let mut error = Error::syntax(message);
    error.position = span.zip(provider.text).and_then(|(span, text)| text.position(span));
    Err(error)
}

/// Completes the source's rows to rows of the table.
fn table_rows(provider: &Provider, plan: LogicalPlan, targets: &[usize], table: &Table) -> Result<LogicalPlan> {
    let schema = plan.schema().clone();
    let values: Vec<_> = schema.columns().into_iter().zip(schema.fields().iter()).collect();
    let mut expressions = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        let place = targets.iter().position(|target| *target == index).filter(|place| *place < values.len());
        let expr = match (place, &table.defaults[index]) {
            (Some(place), _) => {
                let (from, field) = &values[place];
                match normalized(Expr::Column(from.clone()), field)? {
                    Some((expr, ty)) => assign(provider, expr, &ty, column)?,
                    None => null(column)?,
                }
            }
            (None, Some(default)) => expression_for(default, &[], column, provider.context)?,
            (None, None) => null(column)?,
        };
        expressions.push(expr.alias(&column.name));
    }
    let plan = LogicalPlanBuilder::from(plan).project(expressions).and_then(LogicalPlanBuilder::build);
    analyze(provider, plan.map_err(|error| provider.fail(error))?)
}

fn null(column: &Column) -> Result<Expr> {
    let null = ScalarValue::try_from(&column.ty.arrow()).map_err(crate::sql::bind::error::convert)?;
    Ok(Expr::Literal(null, None))
}

fn conflict(
    provider: &Provider,
    insert: &Insert,
    object: &Arc<Object>,
    table: &Table,
    alias: &str,
) -> Result<OnConflict> {
    let clause = match &insert.on {
        None => return Ok(OnConflict::Error),
        Some(OnInsert::OnConflict(clause)) => clause,
        Some(_) => return Err(Error::unsupported("ON DUPLICATE KEY UPDATE is not supported").hint("Use ON CONFLICT.")),
    };
    match &clause.conflict_target {
        None => {}
        Some(ConflictTarget::OnConstraint(name)) => {
            let constraint = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
            if constraint != format!("{}_pkey", object.name) || table.primary_key.is_empty() {
                let message = format!("constraint \"{constraint}\" for table \"{}\" does not exist", object.name);
                return Err(Error::undefined_object(message));
            }
        }
        Some(ConflictTarget::Columns(columns)) => {
            let mut key: Vec<usize> = Vec::new();
            for column in columns {
                key.push(column_index(&table.columns, column, &object.name)?);
            }
            let mut primary_key = table.primary_key.clone();
            key.sort_unstable();
            primary_key.sort_unstable();
            if key != primary_key {
                let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
                return Err(Error::invalid_column_reference(message).hint("Name the columns of the primary key."));
            }
        }
    }
    let update = match &clause.action {
        OnConflictAction::DoNothing => return Ok(OnConflict::Nothing),
        OnConflictAction::DoUpdate(update) => update,
    };
    if clause.conflict_target.is_none() {
        let error = Error::syntax("ON CONFLICT DO UPDATE requires inference specification or constraint name");
        return Err(error.hint("For example, ON CONFLICT (column_name)."));
    }
    refuse_append_only(object, table, "update")?;
    update_on_conflict(provider, update, object, table, alias)
}

fn update_on_conflict(
    provider: &Provider,
    update: &ast::DoUpdate,
    object: &Object,
    table: &Table,
    alias: &str,
) -> Result<OnConflict> {
    let schema = row_schema(&table.columns, Some(alias))?
        .join(&row_schema(&table.columns, Some(EXCLUDED))?)
        .map_err(|error| provider.fail(error))?;
    let pairs = assignment_pairs(provider, &update.assignments, object, table)?;
    let mut trees: Vec<ast::Expr> = pairs.iter().map(|(_, tree)| tree.clone()).collect();
    trees.extend(update.selection.clone());
    for tree in &mut trees {
        values_of_target(tree, &table.columns, alias);
    }
    let mut bound = bind_over(provider, trees, schema.clone())?;
    let filter = update.selection.as_ref().and_then(|_| bound.pop());
    let mut expressions = Vec::new();
    for ((index, _), (expr, column)) in pairs.iter().zip(bound) {
        expressions.push(assign(provider, expr, &column.ty, &table.columns[*index])?);
    }
    let assigned = analyze_over(provider, expressions, schema)?;
    let old = |expr| rename_qualifier(expr, alias);
    let assignments =
        pairs.iter().zip(assigned).map(|((index, _), (expr, _))| Ok((*index, old(expr)?))).collect::<Result<_>>()?;
    let filter = filter.map(|(expr, _)| old(expr)).transpose()?;
    Ok(OnConflict::Update { assignments, filter })
}

/// The columns of the old row under [`OLD`], whatever the statement calls the table.
fn rename_qualifier(expr: Expr, alias: &str) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
    expr.transform_up(|expr| match expr {
        Expr::Column(column) if column.relation.as_ref().is_some_and(|relation| relation.table() == alias) => {
            let column = datafusion::common::Column::new(Some(OLD), column.name);
            Ok(Transformed::yes(Expr::Column(column)))
        }
        expr => Ok(Transformed::no(expr)),
    })
    .data()
    .map_err(crate::sql::bind::error::convert)
}
