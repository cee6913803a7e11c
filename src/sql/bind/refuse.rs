//! What parses, would be planned, and would be answered wrongly: refused, with the place and what to write instead.

use std::ops::ControlFlow;

use sqlparser::ast::{Join, JoinConstraint, JoinOperator, Query, Select, Spanned, TableFactor, Visit, Visitor};
use sqlparser::tokenizer::Span;

use crate::error::{Error, Result};
use crate::sql::parse::text::Text;

/// Looks through a tree.
pub fn check<T: Visit>(tree: &T, text: Option<&Text>) -> Result<()> {
    match tree.visit(&mut Refusal) {
        ControlFlow::Break(refused) => {
            let (mut error, span) = *refused;
            error.position = text.and_then(|text| text.position(span));
            Err(error)
        }
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Refusal;

type Flow = ControlFlow<Box<(Error, Span)>>;

fn refuse(message: &str, hint: &str, span: Span) -> Flow {
    ControlFlow::Break(Box::new((Error::unsupported(message).hint(hint), span)))
}

impl Visitor for Refusal {
    type Break = Box<(Error, Span)>;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        if let Some(lock) = query.locks.first() {
            return refuse(
                &format!("{lock} is not supported"),
                "Nothing is locked here: a transaction whose rows changed meanwhile fails at COMMIT with 40001.",
                query.span(),
            );
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        if let Some(into) = &select.into {
            return refuse("SELECT INTO is not supported", "Create the table, then INSERT into it.", into.name.span());
        }
        for table in &select.from {
            for join in &table.joins {
                outer_using(join)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => {
                for join in &table_with_joins.joins {
                    outer_using(join)?;
                }
                ControlFlow::Continue(())
            }
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                refuse("TABLESAMPLE is not supported", "Use LIMIT.", factor.span())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The merged column of USING would be NULL for rows of the right side alone.
fn outer_using(join: &Join) -> Flow {
    let (JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) | JoinOperator::FullOuter(constraint)) =
        &join.join_operator
    else {
        return ControlFlow::Continue(());
    };
    match constraint {
        JoinConstraint::Using(_) | JoinConstraint::Natural => refuse(
            "USING and NATURAL are not supported with RIGHT and FULL joins",
            "Write the condition with ON, and the key as coalesce(a.key, b.key).",
            join.relation.span(),
        ),
        JoinConstraint::On(_) | JoinConstraint::None => ControlFlow::Continue(()),
    }
}
