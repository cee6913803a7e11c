//! The watermarks of views: for each the least of those of its inputs, held back by the lateness that it allows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::ids::ObjectId;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::time::Micros;

/// How far every view has come in event time.
#[derive(Clone, Debug, Default)]
pub struct Watermarks {
    /// The views whose plans read a watermark, oldest first: what a view reads comes before it.
    views: BTreeMap<ObjectId, Rule>,
    /// The watermarks of inputs and views that have one. Never back.
    now: BTreeMap<ObjectId, Micros>,
}

/// What a view's watermark follows from.
#[derive(Clone, Debug)]
struct Rule {
    /// The objects that it reads a watermark column of.
    inputs: BTreeSet<ObjectId>,
    allowed_lateness_us: i64,
}

impl Watermarks {
    /// A new view. One that neither tells a watermark nor closes anything by it has none.
    pub fn add(&mut self, view: ObjectId, plan: &Plan) {
        let inputs = plan.nodes.iter().filter_map(|node| match &node.op {
            Op::Input { object, .. } if !(node.watermarks.is_empty() && node.closing.is_empty()) => Some(*object),
            _ => None,
        });
        let inputs = inputs.collect::<BTreeSet<_>>();
        let told = plan.nodes.last().is_some_and(|last| !last.watermarks.is_empty());
        if !inputs.is_empty() && (told || plan.nodes.iter().any(|node| !node.closing.is_empty())) {
            self.views.insert(view, Rule { inputs, allowed_lateness_us: plan.allowed_lateness_us });
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, object: ObjectId) {
        self.views.remove(&object);
        self.now.remove(&object);
    }

    /// Follows the tables and sources to where they have come. Returns the views whose watermark has moved.
    pub fn advance(&mut self, inputs: impl IntoIterator<Item = (ObjectId, Option<Micros>)>) -> BTreeSet<ObjectId> {
        for (input, watermark) in inputs {
            if let Some(watermark) = watermark {
                let now = self.now.entry(input).or_insert(watermark);
                *now = watermark.max(*now);
            }
        }
        let mut moved = BTreeSet::new();
        for (&view, rule) in &self.views {
            let inputs = rule.inputs.iter().map(|input| self.now.get(input));
            let Some(least) = inputs.min().flatten() else { continue };
            let watermark = least.saturating_sub(rule.allowed_lateness_us);
            if self.now.get(&view).is_none_or(|now| *now < watermark) {
                self.now.insert(view, watermark);
                moved.insert(view);
            }
        }
        moved
    }

    /// The watermark of an input or view.
    pub fn of(&self, object: ObjectId) -> Option<Micros> {
        self.now.get(&object).copied()
    }

    /// The input of a view that is the furthest behind.
    pub fn holder(&self, view: ObjectId) -> Option<ObjectId> {
        self.views.get(&view)?.inputs.iter().copied().min_by_key(|input| self.of(*input))
    }

    /// The views that have a watermark, or will.
    pub fn views(&self) -> impl Iterator<Item = (ObjectId, Option<Micros>)> {
        self.views.keys().map(|view| (*view, self.of(*view)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(inputs: &[u32], allowed_lateness_us: i64) -> Rule {
        Rule { inputs: inputs.iter().map(|input| ObjectId(*input)).collect(), allowed_lateness_us }
    }

    #[test]
    fn the_least_input_held_back_passes_on_and_never_back() {
        let mut watermarks = Watermarks::default();
        watermarks.views.insert(ObjectId(3), rule(&[1, 2], 5));
        watermarks.views.insert(ObjectId(4), rule(&[2, 3], 0));
        let mut advance = |one, two| {
            let moved = watermarks.advance([(ObjectId(1), one), (ObjectId(2), two)]);
            let holder = watermarks.holder(ObjectId(3)).map(|holder| holder.0);
            (moved.len(), watermarks.of(ObjectId(3)), watermarks.of(ObjectId(4)), holder)
        };
        assert_eq!(advance(Some(100), None), (0, None, None, Some(2)));
        assert_eq!(advance(Some(100), Some(60)), (2, Some(55), Some(55), Some(2)));
        assert_eq!(advance(Some(110), Some(60)), (0, Some(55), Some(55), Some(2)));
        assert_eq!(advance(Some(10), Some(70)), (2, Some(65), Some(65), Some(2)));
    }
}
