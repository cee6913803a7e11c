//! Scalar expressions over given columns: stored ones (defaults, watermarks, computed columns), RETURNING, ON CONFLICT.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as PlanColumn, DFSchema, TableReference};
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast;

use crate::error::{Error, Result};
use crate::sql::BindContext;
use crate::sql::bind::assign::assign;
use crate::sql::bind::error::{convert, locate};
use crate::sql::bind::provider::Provider;
use crate::sql::bind::query::{analyze, column, field};
use crate::sql::bind::state::session_state;
use crate::sql::bind::{refuse, rewrite};
use crate::sql::parse::parse_expression;
use crate::sql::parse::text::Text;
use crate::types::{Column, SqlType, schema_of};

/// Binds one stored scalar expression over columns, which it names without a qualifier.
pub fn expression(sql: &str, columns: &[Column], context: &BindContext) -> Result<Expr> {
    Ok(expression_and_type(sql, columns, context)?.0)
}

/// As [`expression`], with the type of its values.
pub fn expression_and_type(sql: &str, columns: &[Column], context: &BindContext) -> Result<(Expr, SqlType)> {
    let text = Text::new(sql);
    let tree = parse_expression(sql)?;
    let provider = Provider::new(context, session_state(context), Some(&text));
    let schema = row_schema(columns, None)?;
    let mut bound = bind_over(&provider, vec![tree.clone()], schema).map_err(|error| locate(error, &tree, &text))?;
    let (expr, column) = bound.pop().ok_or_else(|| Error::internal("an expression was lost"))?;
    Ok((expr, column.ty))
}

/// As [`expression`], cast by assignment to the type of a column.
pub fn expression_for(sql: &str, columns: &[Column], target: &Column, context: &BindContext) -> Result<Expr> {
    let text = Text::new(sql);
    let mut tree = parse_expression(sql)?;
    crate::sql::bind::assign::adopt(&mut tree, &target.ty);
    let provider = Provider::new(context, session_state(context), Some(&text));
    let schema = row_schema(columns, None)?;
    let bound =
        bind_over(&provider, vec![tree.clone()], schema.clone()).map_err(|error| locate(error, &tree, &text))?;
    let (expr, column) = bound.into_iter().next().ok_or_else(|| Error::internal("an expression was lost"))?;
    let expr = assign(&provider, expr, &column.ty, target)?;
    let mut analyzed = analyze_over(&provider, vec![expr], schema)?;
    analyzed.pop().map(|(expr, _)| expr).ok_or_else(|| Error::internal("an expression was lost"))
}

/// Binds an argument of EXECUTE: a constant.
pub fn bind_constant(provider: &Provider, tree: &ast::Expr) -> Result<Expr> {
    let mut bound = bind_over(provider, vec![tree.clone()], DFSchema::empty())?;
    bound.pop().map(|(expr, _)| expr).ok_or_else(|| Error::internal("an expression was lost"))
}

/// The schema of rows of these columns, under a qualifier if one is given.
pub fn row_schema(columns: &[Column], qualifier: Option<&str>) -> Result<DFSchema> {
    let schema = schema_of(columns);
    match qualifier {
        Some(qualifier) => DFSchema::try_from_qualified_schema(TableReference::bare(qualifier), &schema),
        None => DFSchema::try_from(schema.as_ref().clone()),
    }
    .map_err(convert)
}

/// Binds expressions over rows of a schema, each with the column it makes. They may hold no subquery.
pub fn bind_over(provider: &Provider, trees: Vec<ast::Expr>, schema: DFSchema) -> Result<Vec<(Expr, Column)>> {
    let options =
        ParserOptions { collect_spans: true, ..ParserOptions::from(&provider.state.config_options().sql_parser) };
    let planner = SqlToRel::new_with_options(provider, options);
    let given = provider.context.parameter_types.iter().map(|ty| ty.as_ref().map(field)).collect();
    let mut context = PlannerContext::new().with_prepare_param_data_types(given);
    let mut expressions = Vec::new();
    for mut tree in trees {
        refuse::check(&tree, provider.text)?;
        rewrite::rewrite_expression(&mut tree, provider.context)?;
        let expr = planner.sql_to_expr(tree, &schema, &mut context).map_err(|error| provider.fail(error))?;
        check_scalar(&expr)?;
        expressions.push(expr);
    }
    analyze_over(provider, expressions, schema)
}

/// Analyzes expressions over rows of a schema.
pub fn analyze_over(provider: &Provider, expressions: Vec<Expr>, schema: DFSchema) -> Result<Vec<(Expr, Column)>> {
    let rows = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(schema) });
    let named = expressions.into_iter().enumerate().map(|(n, expr)| expr.alias(format!("\u{1}{n}")));
    let plan = LogicalPlanBuilder::from(rows)
        .project(named)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|error| provider.fail(error))?;
    let LogicalPlan::Projection(projection) = analyze(provider, plan)? else {
        return Err(Error::internal("the analyzer took a projection away"));
    };
    let columns = projection.schema.fields().iter().map(|field| column(field));
    let expressions = projection.expr.iter().cloned().map(unaliased);
    expressions.zip(columns).map(|(expr, column)| Ok((expr, column?))).collect()
}

/// An expression without the aliases around it.
pub fn unaliased(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => unaliased(*alias.expr),
        expr => expr,
    }
}

/// An expression whose columns have no qualifier.
pub fn unqualified(expr: Expr) -> Result<Expr> {
    expr.transform_up(|expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(PlanColumn::new_unqualified(column.name)))),
        expr => Ok(Transformed::no(expr)),
    })
    .data()
    .map_err(convert)
}

/// Refuses what is no function of one row.
fn check_scalar(expr: &Expr) -> Result<()> {
    let mut refused = None;
    expr.apply(|expr| {
        refused = match expr {
            Expr::AggregateFunction(_) => Some(Error::grouping("aggregate functions are not allowed here")),
            Expr::WindowFunction(_) => Some(Error::grouping("window functions are not allowed here")),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                Some(Error::unsupported("cannot use a subquery here"))
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    })
    .map_err(convert)?;
    refused.map_or(Ok(()), Err)
}
