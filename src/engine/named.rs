//! Named subscriptions: readers that the catalog knows. Where one stands, the epoch up to which its changes were acknowledged,
//! is stored with the epoch that takes the acknowledgement in; from there on its object's changelog is kept, on every start
//! anew, until it is acknowledged or has grown older than the subscription says.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::catalog::Object;
use crate::catalog::Subscription;
use crate::catalog::system::SubscriptionFacts;
use crate::engine::Engine;
use crate::engine::changes::Followed;
use crate::engine::coordinator::Coordinator;
use crate::engine::coordinator::Request;
use crate::engine::needs::Cursor;
use crate::engine::needs::Needs;
use crate::engine::records;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::sql::bound::Advance;
use crate::state::Snapshot;

/// Where a named subscription stands, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// What comes after this epoch is kept.
    pub epoch: Epoch,
    /// Whether anything was acknowledged yet.
    pub acknowledged: bool,
}

/// A named subscription while the process lives.
pub struct Named {
    /// Whose changes.
    of: ObjectId,
    /// Keeps them; it stands where the subscription does.
    cursor: Arc<Cursor>,
    /// Whether anything was acknowledged yet.
    acknowledged: bool,
}

impl Named {
    fn new(needs: &mut Needs, subscription: &Subscription, stand: Stand, since: Epoch) -> Named {
        let Subscription { of, retention_ms } = *subscription;
        let cursor = needs.name(of, (stand.epoch, since), retention_ms);
        Named { of, cursor, acknowledged: stand.acknowledged }
    }
}

impl Engine {
    /// Moves a named subscription on, for good.
    pub async fn advance(&self, advance: Advance) -> Result<()> {
        self.ask(|reply| Request::Advance { advance, reply }).await
    }
}

impl Coordinator {
    /// Takes new subscriptions up: they stand at the epoch that creates them, which is running.
    pub(super) fn begin_named(&mut self, created: &[Arc<Object>]) -> Result<()> {
        let stand = Stand { epoch: self.epoch, acknowledged: false };
        for object in created {
            let Some(subscription) = object.subscription() else { continue };
            let needs = &mut self.changelogs.needs;
            let since = needs.since(subscription.of).unwrap_or(self.epoch);
            if !needs.is_lasting(subscription.of) {
                records::put_kept(&mut self.writes, subscription.of, since);
            }
            records::put_stand(&mut self.writes, object.id, &stand)?;
            self.changelogs.named.insert(object.id, Named::new(needs, subscription, stand, since));
        }
        Ok(())
    }

    /// Takes all subscriptions up as they are stored.
    pub(super) fn load_named(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.changelogs.named.clear();
        for object in self.catalog.clone().objects() {
            let Some(subscription) = object.subscription() else { continue };
            let since = records::kept(snapshot, subscription.of)?;
            let since = since.ok_or_else(|| Error::corrupted("a changelog that is subscribed to has no beginning"))?;
            let stand = records::stand(snapshot, object.id)?;
            let named = Named::new(&mut self.changelogs.needs, subscription, stand, since);
            self.changelogs.named.insert(object.id, named);
            self.changelogs.needs.return_to(subscription.of, since);
        }
        Ok(())
    }

    /// Takes in a reader of a named subscription: from where that stands, or after an epoch. As long as nothing was acknowledged
    /// it begins with the rows as they are, unless it does not want any.
    pub(super) fn follow_named(
        &mut self,
        id: ObjectId,
        as_of: Option<Epoch>,
        snapshot: Option<bool>,
    ) -> Result<Followed> {
        let Named { of, cursor, acknowledged } = self.changelogs.named.get(&id).ok_or_else(gone)?;
        let begins = as_of.is_none() && !acknowledged && snapshot != Some(false);
        let (of, from) = (*of, (!begins).then(|| as_of.unwrap_or_else(|| cursor.epoch())));
        let mut followed = self.follow(of, from).map_err(|error| overtaken(error, as_of))?;
        followed.lives_by.insert(id);
        Ok(followed)
    }

    /// Moves a subscription on, in the running epoch. The inner error is the client's.
    pub(super) fn advance(&mut self, advance: &Advance) -> Result<Result<()>> {
        self.open()?;
        let to = match self.advance_to(advance) {
            Ok(to) => to,
            Err(error) => return Ok(Err(error)),
        };
        self.must_sync();
        let stand = Stand { epoch: to, acknowledged: true };
        records::put_stand(&mut self.writes, advance.subscription, &stand)?;
        if let Some(named) = self.changelogs.named.get_mut(&advance.subscription) {
            named.cursor.advance(to);
            named.acknowledged = true;
        }
        Ok(Ok(()))
    }

    /// The epoch that a subscription is to be moved to, if it can be.
    fn advance_to(&self, advance: &Advance) -> Result<Epoch> {
        let named = self.changelogs.named.get(&advance.subscription).ok_or_else(gone)?;
        let (stands, to) = (named.cursor.epoch(), advance.to.unwrap_or(self.changelogs.sealed));
        self.must_have_been(to)?;
        if to < stands {
            let name = self.catalog.get(advance.subscription).map_or("", |object| &object.name);
            let message = format!("subscription \"{name}\" stands at epoch {stands} and does not go back to {to}");
            return Err(Error::invalid_parameter(message)
                .hint("What was acknowledged is no longer kept. Acknowledge later epochs only."));
        }
        Ok(to)
    }

    /// Forgets subscriptions that are dropped.
    pub(super) fn forget_named(&mut self, doomed: &BTreeSet<ObjectId>) {
        self.changelogs.named.retain(|id, _| !doomed.contains(id));
    }

    /// What is shown of subscriptions.
    pub(super) fn named_facts(&self) -> Vec<SubscriptionFacts> {
        let facts = |(id, named): (&ObjectId, &Named)| {
            let epoch = named.cursor.epoch();
            SubscriptionFacts {
                subscription: *id,
                epoch,
                acknowledged: named.acknowledged,
                overtaken: self.changelogs.needs.since(named.of).is_some_and(|since| since > epoch),
            }
        };
        self.changelogs.named.iter().map(facts).collect()
    }
}

/// Where a subscription stands that its reader has left for too long, nobody can go on.
fn overtaken(error: Error, as_of: Option<Epoch>) -> Error {
    if error.kind != Kind::SnapshotTooOld || as_of.is_some() {
        return error;
    }
    error.hint(
        "The subscription was not read within its retention. Subscribe to the relation itself, which begins with its rows, then \
         ALTER SUBSCRIPTION ... ADVANCE TO the epoch that was read.",
    )
}

fn gone() -> Error {
    Error::undefined_table("the subscription was dropped meanwhile")
}
