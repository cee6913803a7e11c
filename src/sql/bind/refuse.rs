//! What parses, would be planned, and would be answered wrongly: refused, with the place and what to write instead.

use std::ops::ControlFlow;

use sqlparser::ast::{Join, JoinConstraint, JoinOperator, Query, Select, Spanned, TableFactor, Visit, Visitor};
use sqlparser::tokenizer::Span;

use crate::error::{Error, Result};
use crate::sql::parse::text::Text;
use crate::sql::walk;

/// Looks through a tree.
pub fn check<T: Visit>(tree: &T, text: Option<&Text>) -> Result<()> {
    let mut refusal = Refusal { refused: None };
    let _ = walk::read(tree, &mut refusal);
    let Some(refused) = refusal.refused else { return Ok(()) };
    let (mut error, span) = *refused;
    error.position = text.and_then(|text| text.position(span));
    Err(error)
}

struct Refusal {
    /// What broke it off, and where that stands.
    refused: Option<Box<(Error, Span)>>,
}

/// What is refused, and where it stands.
type Checked = std::result::Result<(), Box<(Error, Span)>>;

fn refuse(message: &str, hint: &str, span: Span) -> Checked {
    Err(Box::new((Error::unsupported(message).hint(hint), span)))
}

impl Refusal {
    fn told(&mut self, checked: Checked) -> ControlFlow<()> {
        self.refused = checked.err();
        if self.refused.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Visitor for Refusal {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.told(check_query(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.told(check_select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.told(check_factor(factor))
    }
}

fn check_query(query: &Query) -> Checked {
    match query.locks.first() {
        Some(lock) => refuse(
            &format!("{lock} is not supported"),
            "Nothing is locked here: a transaction whose rows changed meanwhile fails at COMMIT with 40001.",
            query.span(),
        ),
        None => Ok(()),
    }
}

fn check_select(select: &Select) -> Checked {
    if let Some(into) = &select.into {
        return refuse("SELECT INTO is not supported", "Create the table, then INSERT into it.", into.name.span());
    }
    select.from.iter().flat_map(|table| &table.joins).try_for_each(check_join)
}

fn check_factor(factor: &TableFactor) -> Checked {
    match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => table_with_joins.joins.iter().try_for_each(check_join),
        TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
            refuse("TABLESAMPLE is not supported", "Use LIMIT.", factor.span())
        }
        _ => Ok(()),
    }
}

/// A join needs a condition, as in Postgres. The merged column of USING would be NULL for rows of the right side alone.
fn check_join(join: &Join) -> Checked {
    if let JoinOperator::Join(JoinConstraint::None)
    | JoinOperator::Inner(JoinConstraint::None)
    | JoinOperator::Left(JoinConstraint::None)
    | JoinOperator::LeftOuter(JoinConstraint::None)
    | JoinOperator::Right(JoinConstraint::None)
    | JoinOperator::RightOuter(JoinConstraint::None)
    | JoinOperator::FullOuter(JoinConstraint::None) = &join.join_operator
    {
        let error = Error::syntax("a join lacks its condition")
            .hint("Write ON condition, USING (columns), or CROSS JOIN for all pairs.");
        return Err(Box::new((error, join.relation.span())));
    }
    let (JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) | JoinOperator::FullOuter(constraint)) =
        &join.join_operator
    else {
        return Ok(());
    };
    match constraint {
        JoinConstraint::Using(_) | JoinConstraint::Natural => refuse(
            "USING and NATURAL are not supported with RIGHT and FULL joins",
            "Write the condition with ON, and the key as coalesce(a.key, b.key).",
            join.relation.span(),
        ),
        JoinConstraint::On(_) | JoinConstraint::None => Ok(()),
    }
}
