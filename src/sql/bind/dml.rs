//! `UPDATE`, `DELETE` and `TRUNCATE`, and what they share with INSERT.
//!
//! UPDATE and DELETE are bound as one query over the target with its hidden columns: the stored columns, then the values
//! to assign, FROM the target and what else is named, WHERE. So parameters are inferred and names are resolved by the same
//! way as in any query. Without subqueries the query is then taken apart again into the scan, the predicate and the
//! assignments, which the engine evaluates again on each row as it stands when the write is resolved.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection};
use sqlparser::ast::{
    self, Assignment, AssignmentTarget, Delete, FromTable, Ident, ObjectName, SelectItem, SetExpr, Spanned, TableAlias,
    TableFactor, TableWithJoins, Update, UpdateTableFromKind, VisitorMut,
};

use crate::catalog::{Object, ObjectKind, Table};
use crate::error::{Error, Result};
use crate::sql::BindContext;
use crate::sql::bind::assign::assign;
use crate::sql::bind::error::convert;
use crate::sql::bind::expression::{analyze_over, bind_over, row_schema, unaliased, unqualified};
use crate::sql::bind::insert::value_of_column;
use crate::sql::bind::names::{column_index, resolve_object};
use crate::sql::bind::output;
use crate::sql::bind::provider::Provider;
use crate::sql::bind::query::{analyze, columns as plan_columns, normalized, plan_query, reads, refuse_sources};
use crate::sql::bound::{Dml, Query, RelationRef, RelationSource, Returning};
use crate::sql::parse::ast::Statement;
use crate::sql::parse::grammar::folded;
use crate::sql::walk;
use crate::types::{Column, SqlType, schema_of};

/// The name of the target, with its hidden columns, in the query made of an UPDATE or DELETE.
const TARGET: &str = "\u{1}target";

/// The table that a statement changes.
struct Target {
    object: Arc<Object>,
    table: Table,
    /// What the statement calls it.
    alias: Ident,
    /// Its stored columns.
    stored: Vec<Column>,
}

/// Binds UPDATE.
pub fn bind_update(provider: &Provider, update: &Update) -> Result<Dml> {
    if update.or.is_some() || update.limit.is_some() || !update.order_by.is_empty() {
        return Err(Error::unsupported("this form of UPDATE is not supported"));
    }
    let target = target(provider, &update.table, "update")?;
    let pairs = assignment_pairs(provider, &update.assignments, &target.object, &target.table)?;
    let from = match &update.from {
        None => Vec::new(),
        Some(UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from)) => from.clone(),
    };
    let values = pairs.iter().map(|(_, value)| value.clone()).collect();
    let (plan, parameters, provider) = combined(provider, &target, values, from, update.selection.clone())?;
    let returning =
        bind_returning(&provider, update.returning.as_deref(), &target.table.columns, &folded(&target.alias))?;
    let indexes: Vec<usize> = pairs.iter().map(|(index, _)| *index).collect();
    let table = target.object.id;
    if let Some((projection, predicate)) = simple(&plan, &target) {
        let assignments = assignments(&provider, projection, &target, &indexes)?;
        let scan = scan(&provider, stored_only(projection, &target)?, parameters)?;
        let predicate = predicate.map(|predicate| declared(predicate, &target)).transpose()?;
        return Ok(Dml::Update { table, scan, predicate, assignments, computed: false, returning });
    }
    let scan = scan(&provider, computed(&provider, plan, &target, &indexes)?, parameters)?;
    Ok(Dml::Update { table, scan, predicate: None, assignments: Vec::new(), computed: true, returning })
}

/// Binds DELETE.
pub fn bind_delete(provider: &Provider, delete: &Delete) -> Result<Dml> {
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    let ([table], true, None, true) =
        (tables.as_slice(), delete.tables.is_empty(), &delete.limit, delete.order_by.is_empty())
    else {
        return Err(Error::unsupported("this form of DELETE is not supported"));
    };
    let target = target(provider, table, "delete from")?;
    let using = delete.using.clone().unwrap_or_default();
    let (plan, parameters, provider) = combined(provider, &target, Vec::new(), using, delete.selection.clone())?;
    let returning =
        bind_returning(&provider, delete.returning.as_deref(), &target.table.columns, &folded(&target.alias))?;
    let table = target.object.id;
    let predicate = match simple(&plan, &target) {
        Some((_, predicate)) => predicate.map(|predicate| declared(predicate, &target)).transpose()?,
        None => None,
    };
    let scan = scan(&provider, plan, parameters)?;
    Ok(Dml::Delete { table, scan, predicate, returning })
}

/// Binds TRUNCATE.
pub fn bind_truncate(context: &BindContext, names: &[ObjectName]) -> Result<Dml> {
    let mut tables = Vec::new();
    for name in names {
        let object = resolve_object(name, context)?;
        let table = target_table(&object, "truncate")?;
        refuse_append_only(&object, table, "truncate")?;
        if !tables.contains(&object.id) {
            tables.push(object.id);
        }
    }
    Ok(Dml::Truncate { tables })
}

/// The table that an object is, or why it cannot be written.
pub fn target_table<'a>(object: &'a Object, verb: &str) -> Result<&'a Table> {
    let hint = match &object.kind {
        ObjectKind::Table(table) => return Ok(table),
        ObjectKind::Source(_) => "Rows of a source come from its connector. Create a table for rows of your own.",
        ObjectKind::View(_) | ObjectKind::MaterializedView(_) => "Change the tables that the view reads.",
        ObjectKind::Sink(_) => "Change the tables that the sink reads.",
        ObjectKind::Subscription(_) => {
            "Change the table that it follows; ALTER SUBSCRIPTION ... ADVANCE TO moves it on."
        }
    };
    let message = format!("cannot {verb} {} \"{}\"", object.noun(), object.name);
    Err(Error::wrong_object_type(message).hint(hint))
}

/// Refuses what takes rows of an append-only table back.
pub fn refuse_append_only(object: &Object, table: &Table, verb: &str) -> Result<()> {
    if !table.append_only {
        return Ok(());
    }
    let message = format!("cannot {verb} append-only table \"{}\"", object.name);
    Err(Error::unsupported(message).hint("Create the table without APPEND ONLY to change its rows."))
}

fn target(provider: &Provider, relation: &TableWithJoins, verb: &str) -> Result<Target> {
    let TableFactor::Table { name, alias, args: None, .. } = &relation.relation else {
        return Err(Error::syntax("this statement takes the name of a table"));
    };
    if !relation.joins.is_empty() {
        return Err(
            Error::syntax("the target of this statement cannot be a join").hint("Put the join into FROM or USING.")
        );
    }
    let object = resolve_object(name, provider.context)?;
    let table = target_table(&object, verb)?.clone();
    refuse_append_only(&object, &table, verb)?;
    let alias = match alias {
        Some(TableAlias { name, .. }) => name.clone(),
        None => Ident::with_quote('"', &object.name),
    };
    let stored = object.stored_columns();
    Ok(Target { object, table, alias, stored })
}

/// Which columns are set to what; each once.
pub fn assignment_pairs(
    provider: &Provider,
    assignments: &[Assignment],
    object: &Object,
    table: &Table,
) -> Result<Vec<(usize, ast::Expr)>> {
    let mut pairs: Vec<(usize, ast::Expr)> = Vec::new();
    let mut add = |name: &ObjectName, mut value: ast::Expr| {
        let ident = name.0.last().and_then(|part| part.as_ident());
        let ident = ident.ok_or_else(|| Error::syntax(format!("\"{name}\" is no column name")))?;
        let place = |mut error: Error| {
            error.position = provider.text.and_then(|text| text.position(ident.span));
            error
        };
        let index = column_index(&table.columns, ident, &object.name).map_err(place)?;
        if pairs.iter().any(|(earlier, _)| *earlier == index) {
            let message = format!("multiple assignments to same column \"{}\"", folded(ident));
            return Err(place(Error::syntax(message)));
        }
        value_of_column(&mut value, index, table)?;
        pairs.push((index, value));
        Ok(())
    };
    for Assignment { target, value } in assignments {
        match (target, value) {
            (AssignmentTarget::ColumnName(name), value) => add(name, value.clone())?,
            (AssignmentTarget::Tuple(names), ast::Expr::Tuple(values)) if names.len() == values.len() => {
                for (name, value) in names.iter().zip(values) {
                    add(name, value.clone())?;
                }
            }
            (AssignmentTarget::Tuple(names), ast::Expr::Nested(value)) if names.len() == 1 => {
                add(&names[0], value.as_ref().clone())?;
            }
            (AssignmentTarget::Tuple(_), ast::Expr::Tuple(_)) => {
                return Err(Error::syntax("number of columns does not match number of values"));
            }
            (AssignmentTarget::Tuple(_), value) => {
                let mut error = Error::unsupported("a list of columns can only be assigned a list of expressions")
                    .hint("Assign the columns one by one, each from a subquery of its own.");
                error.position = provider.text.and_then(|text| text.position(value.span()));
                return Err(error);
            }
        }
    }
    Ok(pairs)
}

/// The one query that an UPDATE or DELETE is bound as.
fn combined<'a>(
    provider: &Provider<'a>,
    target: &Target,
    values: Vec<ast::Expr>,
    from: Vec<TableWithJoins>,
    selection: Option<ast::Expr>,
) -> Result<(LogicalPlan, Vec<SqlType>, Provider<'a>)> {
    let mut inner = Provider::new(provider.context, provider.state.clone(), provider.text);
    let relation = RelationRef::Object(target.object.id);
    let source = RelationSource { relation, schema: schema_of(&target.stored), rows: None };
    inner.extra.push((TARGET, Arc::new(source)));
    let mut query = template()?;
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::internal("the template of a scan is no SELECT"));
    };
    let column = |column: &Column| {
        let name = Ident::with_quote('"', &column.name);
        SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(vec![target.alias.clone(), name]))
    };
    select.projection = target.stored.iter().map(column).collect();
    select.projection.extend(values.into_iter().map(SelectItem::UnnamedExpr));
    select.selection = selection;
    for table in &mut select.from {
        if let TableFactor::Table { alias, .. } = &mut table.relation {
            *alias = Some(TableAlias { explicit: true, name: target.alias.clone(), columns: Vec::new(), at: None });
        }
    }
    select.from.extend(from);
    let (plan, parameters) = plan_query(&inner, &query)?;
    Ok((plan, parameters, inner))
}

/// `SELECT ... FROM target`, to be filled in.
fn template() -> Result<ast::Query> {
    let statement = crate::sql::parse::parse(&format!("SELECT 1 FROM \"{TARGET}\""))?.pop();
    match statement.map(|statement| statement.ast) {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(Error::internal("the template of a scan is no query")),
    }
}

/// The projection and the predicate of a plan that reads the target alone and has no subquery.
fn simple<'a>(plan: &'a LogicalPlan, target: &Target) -> Option<(&'a Projection, Option<Expr>)> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    let (input, predicate) = match projection.input.as_ref() {
        LogicalPlan::Filter(filter) => (filter.input.as_ref(), Some(filter.predicate.clone())),
        input => (input, None),
    };
    let is_scan = match input {
        LogicalPlan::SubqueryAlias(alias) => matches!(alias.input.as_ref(), LogicalPlan::TableScan(_)),
        LogicalPlan::TableScan(_) => true,
        _ => false,
    };
    let values = projection.expr.iter().skip(target.stored.len());
    let has_subquery = values.chain(predicate.as_ref()).any(has_subquery);
    (is_scan && !has_subquery).then_some((projection, predicate))
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| {
        let subquery =
            matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
        Ok(subquery)
    })
    .unwrap_or(true)
}

/// The assigned values, cast to their columns, over the declared columns.
fn assignments(
    provider: &Provider,
    projection: &Projection,
    target: &Target,
    indexes: &[usize],
) -> Result<Vec<(usize, Expr)>> {
    let skip = target.stored.len();
    let mut values = Vec::new();
    for (place, index) in indexes.iter().enumerate() {
        let column = &target.table.columns[*index];
        let expr = unaliased(projection.expr[skip + place].clone());
        values.push(match normalized(expr.clone(), projection.schema.field(skip + place))? {
            Some((expr, ty)) => assign(provider, expr, &ty, column)?,
            None => expr,
        });
    }
    let analyzed = analyze_over(provider, values, projection.input.schema().as_ref().clone())?;
    indexes.iter().zip(analyzed).map(|(index, (expr, _))| Ok((*index, declared(expr, target)?))).collect()
}

/// An expression over the declared columns, without qualifiers.
fn declared(expr: Expr, target: &Target) -> Result<Expr> {
    let expr = unqualified(expr)?;
    for column in expr.column_refs() {
        if !target.table.columns.iter().any(|declared| declared.name == column.name) {
            return Err(Error::undefined_column(format!("column \"{}\" does not exist", column.name)));
        }
    }
    Ok(expr)
}

/// The plan for the stored columns alone.
fn stored_only(projection: &Projection, target: &Target) -> Result<LogicalPlan> {
    let stored = projection.expr.iter().take(target.stored.len()).cloned();
    LogicalPlanBuilder::from(projection.input.as_ref().clone())
        .project(stored.collect::<Vec<_>>())
        .and_then(LogicalPlanBuilder::build)
        .map_err(convert)
}

/// The plan for the stored columns and then the new values of all declared ones.
fn computed(provider: &Provider, plan: LogicalPlan, target: &Target, indexes: &[usize]) -> Result<LogicalPlan> {
    let schema = plan.schema().clone();
    let outputs = schema.columns();
    let mut expressions: Vec<Expr> =
        outputs.iter().take(target.stored.len()).map(|column| Expr::Column(column.clone())).collect();
    for (n, column) in target.table.columns.iter().enumerate() {
        let place = indexes.iter().position(|index| *index == n).map_or(n, |place| target.stored.len() + place);
        let value = Expr::Column(outputs[place].clone());
        let value = match normalized(value.clone(), schema.field(place))? {
            Some((expr, ty)) => assign(provider, expr, &ty, column)?,
            None => value,
        };
        expressions.push(value.alias(format!("{}\u{1}new", column.name)));
    }
    let plan = LogicalPlanBuilder::from(plan).project(expressions).and_then(LogicalPlanBuilder::build);
    analyze(provider, plan.map_err(convert)?)
}

fn scan(provider: &Provider, plan: LogicalPlan, parameters: Vec<SqlType>) -> Result<Query> {
    let (columns, reads) = (plan_columns(&plan)?, reads(provider, &plan)?);
    let query = Query::new(plan, columns, reads, parameters);
    refuse_sources(provider, &query)?;
    Ok(query)
}

/// Binds RETURNING over the declared columns.
pub fn bind_returning(
    provider: &Provider,
    items: Option<&[SelectItem]>,
    columns: &[Column],
    alias: &str,
) -> Result<Option<Returning>> {
    let Some(items) = items else { return Ok(None) };
    let (mut trees, mut names) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            SelectItem::UnnamedExpr(tree) => {
                names.push(output::name(tree));
                trees.push(tree.clone());
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                names.push(folded(alias));
                trees.push(expr.clone());
            }
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                for column in columns {
                    names.push(column.name.clone());
                    let idents = [alias, &column.name].map(|name| Ident::with_quote('"', name));
                    trees.push(ast::Expr::CompoundIdentifier(idents.to_vec()));
                }
            }
            SelectItem::ExprWithAliases { .. } => return Err(Error::syntax("RETURNING takes expressions")),
        }
    }
    let bound = bind_over(provider, trees, row_schema(columns, Some(alias))?)?;
    let mut returning = Returning { expressions: Vec::new(), columns: Vec::new() };
    for ((expr, column), name) in bound.into_iter().zip(names) {
        returning.expressions.push(unqualified(expr)?);
        returning.columns.push(Column { name, ..column });
    }
    Ok(Some(returning))
}

/// In ON CONFLICT DO UPDATE a column without a qualifier is the old row's.
pub fn values_of_target(tree: &mut ast::Expr, columns: &[Column], alias: &str) {
    struct Qualify<'a>(&'a [Column], &'a str);
    impl VisitorMut for Qualify<'_> {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Identifier(ident) = expr
                && self.0.iter().any(|column| column.name == folded(ident))
            {
                *expr = ast::Expr::CompoundIdentifier(vec![Ident::with_quote('"', self.1), ident.clone()]);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = walk::change(tree, &mut Qualify(columns, alias));
}

/// Adds the parameters of more expressions to those of a query.
pub fn merge_parameters<'a>(
    parameters: &mut Vec<SqlType>,
    expressions: impl IntoIterator<Item = &'a Expr>,
) -> Result<()> {
    for expr in expressions {
        expr.apply(|expr| {
            if let Expr::Placeholder(placeholder) = expr
                && let Ok(number) = placeholder.id.trim_start_matches('$').parse::<usize>()
                && number > parameters.len()
            {
                parameters.resize(number, SqlType::Text);
                if let Some(ty) = placeholder.field.as_ref().and_then(|field| SqlType::of_field(field)) {
                    parameters[number - 1] = ty;
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .map_err(convert)?;
    }
    Ok(())
}
