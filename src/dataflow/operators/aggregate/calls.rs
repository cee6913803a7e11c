//! The aggregate calls of a node, each with its column of accumulators.

use crate::error::Error;
use crate::error::Result;
use crate::plan::ir::AggregateCall;
use crate::plan::ir::AggregateFunction;
use crate::state::StateReader;
use crate::types::Column;

use super::accumulators::Accumulators;
use super::accumulators::Counts;
use super::accumulators::Quantifier;
use super::accumulators::Rows;
use super::accumulators::Truths;
use super::accumulators::mask;
use super::extremes::End;
use super::extremes::extremes;
use super::multiset::Multiset;
use super::multiset::Part;
use super::multiset::Transitions;
use super::ordered::Ordered;
use super::ordered::SEARCH_VALUES;
use super::sums::SumResult;
use super::sums::sums;
use super::table::SlotTable;

/// One call of the node.
pub(super) struct Call {
    /// What is folded into it.
    feed: Feed,
    /// What it holds for each group.
    state: CallState,
}

/// Where a call's rows come from.
enum Feed {
    /// The input's rows: the column of the argument, and that of FILTER.
    Input { argument: Option<usize>, filter: Option<usize> },
    /// The transitions of a multiset of the argument, for this filter.
    Multiset { multiset: usize, filter: Option<usize> },
}

/// A call's accumulators. Those that need searches are told apart.
enum CallState {
    Plain(Box<dyn Accumulators>),
    Ordered(Box<Ordered>),
}

impl Call {
    /// The call over this input.
    pub fn new(call: &AggregateCall, input: &[Column]) -> Result<Call> {
        let argument = || {
            let column = call.argument.and_then(|argument| input.get(argument));
            column.map(|column| &column.ty).ok_or_else(|| Error::internal("an aggregate without its argument"))
        };
        let extreme = |end| -> Result<CallState> {
            let ty = argument()?;
            Ok(match call.multiset {
                Some(_) => CallState::Ordered(Box::new(Ordered::new(end, ty))),
                None => CallState::Plain(extremes(end, ty)),
            })
        };
        let state = match call.function {
            AggregateFunction::Count => CallState::Plain(Box::new(Counts::default())),
            AggregateFunction::Sum => CallState::Plain(sums(argument()?, SumResult::Sum, &call.ty)?),
            AggregateFunction::Avg => CallState::Plain(sums(argument()?, SumResult::Avg, &call.ty)?),
            AggregateFunction::Min => extreme(End::Least)?,
            AggregateFunction::Max => extreme(End::Greatest)?,
            AggregateFunction::BoolAnd => CallState::Plain(Box::new(Truths::new(Quantifier::All))),
            AggregateFunction::BoolOr => CallState::Plain(Box::new(Truths::new(Quantifier::Any))),
        };
        let feed = match call.multiset {
            Some(multiset) => Feed::Multiset { multiset, filter: call.filter },
            None => Feed::Input { argument: call.argument, filter: call.filter },
        };
        Ok(Call { feed, state })
    }

    /// The accumulators, to read.
    pub fn accumulators(&self) -> &dyn Accumulators {
        match &self.state {
            CallState::Plain(accumulators) => accumulators.as_ref(),
            CallState::Ordered(ordered) => ordered.as_ref(),
        }
    }

    /// The accumulators, to change.
    pub fn accumulators_mut(&mut self) -> &mut dyn Accumulators {
        match &mut self.state {
            CallState::Plain(accumulators) => accumulators.as_mut(),
            CallState::Ordered(ordered) => ordered.as_mut(),
        }
    }

    /// Folds a step in: its rows, or what they changed in the node's multisets.
    pub fn fold(&mut self, parts: &[Part], multisets: &[Multiset], transitions: &[Vec<Transitions>]) -> Result<()> {
        let (argument, filter) = match self.feed {
            Feed::Input { argument, filter } => (argument, filter),
            Feed::Multiset { multiset, filter } => {
                let filter = multisets[multiset].count_of(filter);
                let Transitions { slots, weights, values } = &transitions[multiset][filter];
                return self.accumulators_mut().update(&Rows { slots, weights, mask: None }, Some(values));
            }
        };
        for part in parts {
            let columns = part.delta.batch().columns();
            let values = argument.map(|argument| &columns[argument]);
            let mask = mask(values, filter.map(|filter| &columns[filter]));
            let rows = Rows { slots: &part.slots, weights: part.delta.weights(), mask };
            self.accumulators_mut().update(&rows, values)?;
        }
        Ok(())
    }

    /// Searches for the extremes that this epoch's retractions left open.
    pub fn search(&mut self, multisets: &[Multiset], groups: &SlotTable, state: &StateReader) -> Result<()> {
        let (CallState::Ordered(ordered), Feed::Multiset { multiset, .. }) = (&mut self.state, &self.feed) else {
            return Ok(());
        };
        let open = ordered.take_open();
        if open.is_empty() {
            return Ok(());
        }
        let multiset = &multisets[*multiset];
        let overlay = multiset.overlay();
        for slot in open {
            let group = (groups.key(slot), groups.shard(slot));
            let values = multiset.search(&overlay, group, ordered.end, SEARCH_VALUES, state)?;
            if values.is_empty() {
                return Err(Error::internal(format!(
                    "state table {} has lost the values of a group",
                    multiset.table()
                )));
            }
            ordered.found(slot, values);
        }
        Ok(())
    }
}
