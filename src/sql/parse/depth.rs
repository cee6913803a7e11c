//! Keeps trees shallow: what is nested too deep is refused before it is parsed, long chains of AND and OR are balanced.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, FunctionArguments, Query, Visit, VisitMut, Visitor, VisitorMut};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::Result;
use crate::sql::dialect::keyword;
use crate::sql::parse::DEPTH_MAX;
use crate::sql::parse::ast::{Copied, Statement, SubscribeTarget};
use crate::sql::parse::error::too_complex;
use crate::sql::walk;

/// How many set operations (UNION and the like) a text may have in one statement.
const SET_OPERATIONS_MAX: usize = 500;

/// How deep subqueries may stand in expressions of one another. DataFusion checks each as often as there are ways to it, twice as
/// often at each level.
const SUBQUERIES_MAX: usize = 8;

/// Chains of AND or OR up to this length stay as written.
const CHAIN_LENGTH: usize = 16;

/// Refuses parentheses and CASE nested too deep and set operations chained too long, before the parser meets them.
pub fn check_tokens(tokens: &[TokenWithSpan]) -> Result<()> {
    let (mut depth, mut sets) = (0usize, 0usize);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::SemiColon => (depth, sets) = (0, 0),
            token if keyword(token) == Keyword::CASE => depth += 1,
            token if keyword(token) == Keyword::END => depth = depth.saturating_sub(1),
            token if matches!(keyword(token), Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT) => sets += 1,
            _ => {}
        }
        if depth > DEPTH_MAX || sets > SET_OPERATIONS_MAX {
            return Err(too_complex());
        }
    }
    Ok(())
}

/// Balances chains of AND and OR, and refuses what is still too deep.
pub fn balance(statement: &mut Statement) -> Result<()> {
    let flow = match statement {
        Statement::Subscribe(subscribe) => match &mut subscribe.target {
            SubscribeTarget::Query(query) => balanced(query.as_mut()),
            SubscribeTarget::Relation(_) => return Ok(()),
        },
        Statement::Query(query) | Statement::Explain { query, .. } => balanced(query.as_mut()),
        Statement::CreateView(view) | Statement::CreateMaterializedView(view) => balanced(view.query.as_mut()),
        Statement::CreateSink(sink) => match &mut sink.from {
            SubscribeTarget::Query(query) => balanced(query.as_mut()),
            SubscribeTarget::Relation(_) => return Ok(()),
        },
        Statement::Insert(insert) => balanced(insert.as_mut()),
        Statement::Update(update) => balanced(update.as_mut()),
        Statement::Delete(delete) => balanced(delete.as_mut()),
        Statement::Execute { arguments, .. } => balanced(arguments),
        Statement::Declare(declare) => return balance(&mut declare.query),
        Statement::CopyTo(copy) => match &mut copy.what {
            Copied::Statement(statement) => return balance(statement),
            Copied::Table { .. } => ControlFlow::Continue(()),
        },
        Statement::Empty
        | Statement::Fetch(_)
        | Statement::Close(_)
        | Statement::CopyFrom(_)
        | Statement::Truncate(_)
        | Statement::CreateTable(_)
        | Statement::CreateSource(_)
        | Statement::CreateSubscription(_)
        | Statement::Advance(_)
        | Statement::Drop(_)
        | Statement::CreateSchema { .. }
        | Statement::DropSchema { .. }
        | Statement::ExplainView { .. }
        | Statement::Transaction(_)
        | Statement::Setting(_)
        | Statement::Flush
        | Statement::Prepare { .. }
        | Statement::Deallocate(_)
        | Statement::DiscardAll
        | Statement::Nothing { .. } => ControlFlow::Continue(()),
    };
    if flow.is_break() { Err(too_complex()) } else { Ok(()) }
}

fn balanced<T: Visit + VisitMut>(tree: &mut T) -> ControlFlow<()> {
    let _ = walk::change(tree, &mut Balance);
    walk::read(tree, &mut Depth { all: 0, subqueries: 0 })
}

/// Turns each chain of one of AND and OR into a balanced tree. Both are associative, so the meaning is the same.
struct Balance;

impl VisitorMut for Balance {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr else {
            return ControlFlow::Continue(());
        };
        let op = op.clone();
        if chain(expr, &op) > CHAIN_LENGTH {
            let whole = std::mem::replace(expr, Expr::value(sqlparser::ast::Value::Null));
            let mut leaves = Vec::new();
            flatten(whole, &op, &mut leaves);
            *expr = tree(&mut leaves.into_iter(), &op);
        }
        ControlFlow::Continue(())
    }
}

/// How long the chain is that leans to the left here.
fn chain(expr: &Expr, chained: &BinaryOperator) -> usize {
    let (mut expr, mut length) = (expr, 1);
    while let Expr::BinaryOp { left, op, .. } = expr
        && op == chained
    {
        (expr, length) = (left, length + 1);
    }
    length
}

fn flatten(mut expr: Expr, chained: &BinaryOperator, leaves: &mut Vec<Expr>) {
    let from = leaves.len();
    loop {
        match expr {
            Expr::BinaryOp { left, op, right } if op == *chained => {
                leaves.push(*right);
                expr = *left;
            }
            leaf => {
                leaves.push(leaf);
                break;
            }
        }
    }
    leaves[from..].reverse();
}

fn tree(leaves: &mut dyn ExactSizeIterator<Item = Expr>, op: &BinaryOperator) -> Expr {
    let mut level: Vec<Expr> = leaves.collect();
    while level.len() > 1 {
        let mut pairs = level.into_iter();
        let mut next = Vec::new();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => Expr::BinaryOp { left: left.into(), op: op.clone(), right: right.into() },
                None => left,
            });
        }
        level = next;
    }
    level.pop().expect("a chain has leaves")
}

/// Breaks off where expressions and queries are nested too deep.
struct Depth {
    /// How many of either we are in.
    all: usize,
    /// How many subqueries in expressions we are in.
    subqueries: usize,
}

impl Depth {
    fn enter(&mut self) -> ControlFlow<()> {
        self.all += 1;
        let too_deep = self.all > DEPTH_MAX || self.subqueries > SUBQUERIES_MAX;
        if too_deep { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn leave(&mut self) -> ControlFlow<()> {
        self.all -= 1;
        ControlFlow::Continue(())
    }
}

impl Visitor for Depth {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.subqueries += usize::from(is_subquery(expr));
        self.enter()
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.subqueries -= usize::from(is_subquery(expr));
        self.leave()
    }

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.enter()
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.leave()
    }
}

fn is_subquery(expr: &Expr) -> bool {
    match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => true,
        Expr::Function(function) => matches!(function.args, FunctionArguments::Subquery(_)),
        _ => false,
    }
}
