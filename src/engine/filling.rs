//! The coordinator's part in views that stand behind: begins to fill them, and gives each epoch's share to it. (What is read,
//! and in which order, is said in [`super::behind`]; how it ends, in [`super::joining`].)

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::catalog::ObjectKind;
use crate::catalog::Storage;
use crate::catalog::system::Job;
use crate::dataflow::build;
use crate::dataflow::runtime::Aside;
use crate::dataflow::runtime::STEP_ROWS;
use crate::dataflow::runtime::Start;
use crate::delta::Delta;
use crate::engine::DdlOutcome;
use crate::engine::behind::Filled;
use crate::engine::behind::Input;
use crate::engine::behind::Place;
use crate::engine::changes::Followed;
use crate::engine::coordinator::Coordinator;
use crate::engine::ddl::inputs_of;
use crate::engine::epoch::EPOCH_AGE_MAX;
use crate::engine::epoch::EPOCH_ROWS_MAX;
use crate::engine::records;
use crate::engine::replay::Replay;
use crate::engine::replay::Replays;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::plan::ir::Plan;

/// So many steps are taken in the epoch that creates a view, while nobody else can write.
const STEPS_AT_ONCE: usize = 2;
/// Each of so many rows, if others had something to do lately.
const ROWS_AT_ONCE_BESIDE: usize = 1024;
/// So many steps may wait for the workers: what comes in between waits for no more than these.
const STEPS_AHEAD: usize = 2;
/// What others have to do comes soon if it came so lately.
const QUIET: Duration = Duration::from_secs(1);
/// A step takes about so long beside others,
const STEP_TIME: Duration = Duration::from_micros(1500);
/// and while there is nobody who would wait for it.
const STEP_TIME_ALONE: Duration = Duration::from_millis(15);
/// Under load, filling takes one part of an epoch's time in so many, but never less than the least.
const SHARE: u32 = 3;
const SHARE_MIN: Duration = Duration::from_millis(1);
/// How fast views are filled before that is known, in rows a second.
const PACE_FIRST: f64 = 100_000.0;
/// An epoch takes in no more for views that stand behind than is committed in about so long: whoever writes waits for it, and for
/// the one before. Without that, a commit that takes long once is followed by an epoch with as much more to commit.
const COMMIT_TIME: Duration = Duration::from_millis(1);
/// The same while there is nobody who would wait.
const COMMIT_TIME_ALONE: Duration = Duration::from_millis(20);
/// How fast what fills views is committed before that is known, in rows a second.
const COMMIT_PACE_FIRST: f64 = 1_000_000.0;
/// However slow commits are, an epoch may take in so many rows.
const FILLED_MIN: usize = 256;
/// Beside others nothing is taken in after an epoch that did, for one part in so many of the time which that took: who comes then
/// has nothing to wait for.
const REST: u32 = 2;
/// What somebody waits for is not held up by views that stand behind, unless they took nothing in for so long.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// What is known of the pace counts half after so long.
const PACE_MEMORY: Duration = Duration::from_millis(500);

/// All views that stand behind.
pub struct Behind {
    pub(super) views: BTreeMap<ObjectId, Filling>,
    /// Readers of their own, of sources.
    pub(super) replays: Replays,
    /// Rows taken in at once at most.
    rows_max: usize,
    /// How fast they are taken in.
    pace: Pace,
    /// How fast they are committed, with all else that is in their epochs.
    commit_pace: Pace,
    /// When others had something to do last.
    others: Option<Instant>,
    /// When rows were taken in last.
    taken: Option<Instant>,
    /// Beside others, when they are again.
    rests: Option<Instant>,
    /// Nothing is taken in, while writes are taken in once more that were in a lost epoch.
    pub(super) paused: bool,
    /// Epochs lost in which views took part that stand behind, since the last that was sealed.
    pub(super) lost: u32,
}

/// A view that stands behind.
pub struct Filling {
    /// How far it has come.
    pub(super) filled: Filled,
    /// The views that are filled as one.
    pub(super) views: Arc<[ObjectId]>,
    /// The plan of the first of them.
    pub(super) plan: Arc<Plan>,
    inputs: Vec<Input>,
    /// The readers of its own, by the number that their batches bear.
    pub(super) readers: BTreeMap<ObjectId, Replay>,
    /// Whether the stored record is older.
    pub(super) changed: bool,
    /// Who waits for it.
    pub(super) waiting: Waiting,
    /// Why a source cannot be read at the moment, or why the work has stopped.
    pub(super) trouble: Option<Error>,
    /// Whether the work has stopped, until the server starts again.
    pub(super) halted: bool,
}

/// Who waits for a view to be filled.
pub enum Waiting {
    /// Nobody, after a restart.
    Nobody,
    /// The session that creates it; the flag says that it does not want it any more.
    Create { reply: oneshot::Sender<Result<DdlOutcome>>, outcome: DdlOutcome, unwanted: Arc<AtomicBool> },
    /// The session that subscribes to its query.
    Subscribe(oneshot::Sender<Result<Followed>>),
}

/// How fast views are filled.
struct Pace {
    /// Rows taken in lately.
    rows: f64,
    /// The time it took, in seconds.
    seconds: f64,
}

impl Waiting {
    /// Whether whoever waited has gone away, or changed its mind.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Waiting::Nobody => false,
            Waiting::Create { unwanted, .. } => unwanted.load(Ordering::Relaxed),
            Waiting::Subscribe(reply) => reply.is_closed(),
        }
    }

    /// Tells the session that creates it that the view is there.
    pub(super) fn tell_created(self) {
        match self {
            Waiting::Nobody | Waiting::Subscribe(_) => {}
            Waiting::Create { reply, outcome, .. } => drop(reply.send(Ok(outcome))),
        }
    }

    /// Tells that there will be no view.
    pub fn refuse(self, error: Error) {
        match self {
            Waiting::Nobody => {}
            Waiting::Create { reply, .. } => drop(reply.send(Err(error))),
            Waiting::Subscribe(reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Pace {
    fn took(&mut self, time: Duration) {
        let kept = 0.5_f64.powf(time.as_secs_f64() / PACE_MEMORY.as_secs_f64());
        (self.rows, self.seconds) = (self.rows * kept, self.seconds * kept + time.as_secs_f64());
    }

    /// How many rows can be taken in in this time; at least one.
    fn rows_in(&self, time: Duration) -> usize {
        (self.rows / self.seconds * time.as_secs_f64()).max(1.0) as usize
    }
}

impl Behind {
    /// No views yet. They will take in at most so many rows at once.
    pub fn new(rows_max: usize) -> Behind {
        let pace = Pace { rows: PACE_FIRST, seconds: 1.0 };
        let commit_pace = Pace { rows: COMMIT_PACE_FIRST, seconds: 1.0 };
        let (views, replays) = (BTreeMap::new(), Replays::new());
        Behind {
            views,
            replays,
            rows_max,
            pace,
            commit_pace,
            others: None,
            taken: None,
            rests: None,
            paused: false,
            lost: 0,
        }
    }

    /// The view that is filled with this one, or is it.
    fn of(&self, view: ObjectId) -> Option<(ObjectId, &Filling)> {
        self.views.iter().find(|(_, filling)| filling.views.contains(&view)).map(|(id, filling)| (*id, filling))
    }

    /// Whether a view stands behind.
    pub fn has(&self, view: ObjectId) -> bool {
        self.of(view).is_some()
    }

    /// The view that this reader belongs to.
    pub(super) fn of_reader(&mut self, number: ObjectId) -> Option<(ObjectId, &mut Filling)> {
        let found = self.views.iter_mut().find(|(_, filling)| filling.readers.contains_key(&number));
        found.map(|(view, filling)| (*view, filling))
    }

    pub(super) fn get_mut(&mut self, view: ObjectId) -> Option<&mut Filling> {
        self.views.get_mut(&view)
    }

    /// Forgets a view; what it needed of its inputs' changes is no longer kept.
    pub fn remove(&mut self, view: ObjectId) -> Option<Filling> {
        self.views.remove(&view)
    }

    /// Forgets all.
    pub fn take(&mut self) -> BTreeMap<ObjectId, Filling> {
        self.replays.forget();
        std::mem::take(&mut self.views)
    }

    /// So many rows were given to the workers, which began then.
    pub(super) fn gave(&mut self, rows: usize, begun: Instant, now: Instant) {
        self.pace.rows += rows as f64;
        self.pace.took(now - begun);
        self.taken = Some(now);
    }

    /// An epoch with so many rows for views that stand behind is committed now, in this time. It was begun then.
    pub(super) fn committed(&mut self, rows: usize, took: Duration, begun: Instant, now: Instant) {
        if rows > 0 {
            self.commit_pace.took(took);
            self.commit_pace.rows += rows as f64;
            self.rests = Some(now + (now - begun) / REST);
        }
    }

    /// How long it will be until rows are taken in again, if that is held back.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let rests = self.rests.filter(|_| !self.is_alone(now)).min(self.taken.map(|taken| taken + PAUSE_MAX));
        rests.map(|until| until.saturating_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    /// Others have something to do now.
    pub(super) fn others_work(&mut self, now: Instant) {
        self.others = Some(now);
    }

    /// How long a step may take now, and the commit of all that an epoch takes in.
    fn times(&self, now: Instant) -> (Duration, Duration) {
        if self.is_alone(now) { (STEP_TIME_ALONE, COMMIT_TIME_ALONE) } else { (STEP_TIME, COMMIT_TIME) }
    }

    /// Whether nobody else had something to do lately.
    fn is_alone(&self, now: Instant) -> bool {
        self.others.is_none_or(|others| now.duration_since(others) > QUIET)
    }

    /// The views that are worked at.
    fn working(&self) -> impl Iterator<Item = (ObjectId, &Filled)> {
        let working = self.views.iter().filter(|(_, filling)| !self.paused && !filling.halted);
        working.map(|(view, filling)| (*view, &filling.filled))
    }

    /// Those of them that have come so far.
    pub(super) fn ids(&self, which: impl Fn(&Filled) -> bool) -> Vec<ObjectId> {
        self.working().filter(|(_, filled)| which(filled)).map(|(view, _)| view).collect()
    }
}

impl Coordinator {
    /// Installs new views, to be filled as one, and fills them for a moment in the epoch that is begun for it. Whether that was
    /// enough; if not, they stand behind from then on.
    pub(super) fn begin_filling(&mut self, plans: &[(ObjectId, Arc<Plan>, Option<Storage>)]) -> Result<bool> {
        let inputs = plans.iter().flat_map(|(_, plan, _)| inputs_of(plan)).collect::<BTreeSet<_>>();
        plans.iter().try_for_each(|(_, plan, _)| build::check(plan))?;
        plans.iter().try_for_each(|(_, plan, _)| self.widen_readers(plan, &inputs))?;
        self.open_epoch()?;
        let views = plans.iter().map(|(id, _, _)| *id).collect::<Vec<_>>();
        let (view, frontier) = (views[0], self.changelogs.sealed);
        let mut filled = Filled { begun: self.clock.now(), frontier, views, inputs: BTreeMap::new() };
        for id in inputs {
            let object = self.catalog.get(id).expect("checked to be there");
            let place = match &object.kind {
                ObjectKind::Source(source) => self.start_in_source(id, &source.feed),
                ObjectKind::Table(_)
                | ObjectKind::View(_)
                | ObjectKind::MaterializedView(_)
                | ObjectKind::Sink(_)
                | ObjectKind::Subscription(_) => Place::start(id, &self.open.as_ref().expect("just opened").base)?,
            };
            filled.inputs.insert(id, place);
        }
        for (id, plan, storage) in plans {
            self.runtime.install(*id, plan.clone(), storage.clone(), Start::Fresh);
        }
        self.stand_behind(view, filled, plans[0].1.clone());
        let complete = self.fill_at_once(view);
        match complete {
            Ok(true) => self.join(view),
            Ok(false) => {}
            // What was filled so far is in the epoch already.
            Err(_) => drop(self.return_to_commit()),
        }
        complete
    }

    /// Takes up a view that has come so far. What it still needs of its inputs' changes is kept from now on.
    pub(super) fn stand_behind(&mut self, view: ObjectId, filled: Filled, plan: Arc<Plan>) {
        let of = |id: &ObjectId| {
            let object = self.catalog.get(*id).expect("what a view reads is there");
            Input::new(object, self.changelogs.needs.restore(*id, filled.frontier))
        };
        let inputs = filled.inputs.keys().map(of).collect();
        let filling = Filling {
            views: filled.views.clone().into(),
            plan,
            inputs,
            filled,
            readers: BTreeMap::new(),
            changed: true,
            waiting: Waiting::Nobody,
            trouble: None,
            halted: false,
        };
        self.behind.views.insert(view, filling);
    }

    /// Tells whom to answer when a view is filled.
    pub(super) fn wait_for_view(&mut self, view: ObjectId, waiting: Waiting) {
        if let Some(filling) = self.behind.get_mut(view) {
            filling.waiting = waiting;
        }
    }

    /// A new view is filled alone, for a moment. Whether it is complete.
    fn fill_at_once(&mut self, view: ObjectId) -> Result<bool> {
        let Some(filling) = self.behind.get_mut(view) else { return Ok(false) };
        self.runtime.create(&filling.views);
        let alone = self.behind.is_alone(self.clock.instant());
        let most = if alone { self.behind.rows_max } else { ROWS_AT_ONCE_BESIDE };
        for _ in 0..STEPS_AT_ONCE {
            self.take_rows(view, most)?;
        }
        Ok(self.behind.get_mut(view).is_some_and(|filling| filling.filled.is_complete()))
    }

    /// Takes in what the inputs have changed up to the epoch before, as far as that concerns what the view holds.
    pub(super) fn catch_up(&mut self, view: ObjectId) -> Result<()> {
        let open = self.open.as_mut().expect("views are filled inside epochs");
        let Some(filling) = self.behind.views.get_mut(&view) else { return Ok(()) };
        let (from, to) = (filling.filled.frontier, self.changelogs.sealed);
        if from >= to {
            return Ok(());
        }
        open.fills = true;
        let runtime = &mut self.runtime;
        let (mut step, mut rows, mut all) = (Vec::new(), 0, 0);
        for input in &filling.inputs {
            let place = &filling.filled.inputs[&input.object()];
            input.changes(&open.base, (from, to), place, &mut |delta| {
                rows += delta.len();
                all += delta.len();
                step.push((input.object(), delta));
                if rows >= STEP_ROWS {
                    rows = 0;
                    runtime.fill(&filling.views, std::mem::take(&mut step));
                }
            })?;
            input.advance(to);
        }
        if !step.is_empty() {
            runtime.fill(&filling.views, step);
        }
        open.rows += all;
        filling.filled.frontier = to;
        filling.changed = true;
        self.behind.pace.rows += all as f64;
        Ok(())
    }

    /// The next rows of an input, at most about so many; answers how many. What the inputs have changed is in.
    fn take_rows(&mut self, view: ObjectId, most: usize) -> Result<usize> {
        let open = self.open.as_mut().expect("views are filled inside epochs");
        let Some(filling) = self.behind.views.get_mut(&view) else { return Ok(0) };
        for input in &filling.inputs {
            let place = filling.filled.inputs.get_mut(&input.object()).expect("every input has a place");
            if !matches!(place, Place::Rows { .. }) {
                continue;
            }
            let begun = self.clock.instant();
            let found = input.rows(&open.base, place, most.min(self.behind.rows_max))?;
            filling.changed = true;
            let Some(delta) = found else { continue };
            open.rows += delta.len();
            open.filled += delta.len();
            open.fills = true;
            let rows = delta.len();
            self.runtime.fill(&filling.views, vec![(input.object(), delta)]);
            self.behind.gave(rows, begun, self.clock.instant());
            crate::fault::point("fill.after_chunk");
            return Ok(rows);
        }
        Ok(0)
    }

    /// Rows that a view's own reader brought.
    pub(super) fn take_replayed(&mut self, view: ObjectId, source: ObjectId, rows: Delta) -> Result<()> {
        let open = self.open()?;
        open.rows += rows.len();
        open.filled += rows.len();
        open.fills = true;
        let now = self.clock.instant();
        self.behind.gave(rows.len(), now, now);
        if let Some(filling) = self.behind.views.get_mut(&view) {
            self.runtime.fill(&filling.views, vec![(source, rows)]);
        }
        Ok(())
    }

    /// A worker is through with a step of views that stand behind, or has more of the stored state in memory.
    pub(super) fn aside_done(&mut self, aside: Aside) {
        self.runtime.aside_done(aside);
        if let Aside::Filled(took) = aside {
            self.behind.pace.took(took / self.limits.workers as u32);
        }
    }

    /// Takes down how long the workers took for the steps of an epoch that has ended.
    pub(super) fn asides_done(&mut self) {
        while let Ok(aside) = self.runtime.asides().try_recv() {
            self.aside_done(aside);
        }
    }

    /// Whether the running epoch has room for a step of views that stand behind.
    pub(super) fn has_room_to_fill(&self) -> bool {
        let open = self.open.as_ref().is_none_or(|open| open.rows < EPOCH_ROWS_MAX) && !self.is_full();
        let ahead = self.runtime.fill_steps_ahead() < STEPS_AHEAD;
        open && ahead && self.room_to_fill() > 0 && !self.has_spilled() && self.failed.is_none()
    }

    /// How many more rows the running epoch may take in for views that stand behind.
    fn room_to_fill(&self) -> usize {
        let now = self.clock.instant();
        let (filled, waited) = self.open.as_ref().map_or((0, false), |open| (open.filled, !open.work.is_empty()));
        let committing = self.in_flight.as_ref().is_some_and(|commit| commit.filled > 0) && !self.behind.is_alone(now);
        let lately = self.behind.taken.is_some_and(|taken| now - taken < PAUSE_MAX);
        if (waited || committing) && lately || self.behind.rest(now).is_some() {
            return 0;
        }
        let (_, commit) = self.behind.times(now);
        self.behind.commit_pace.rows_in(commit).max(FILLED_MIN).saturating_sub(filled)
    }

    /// Whether views that stand behind have something to do although nothing else is waiting.
    pub(super) fn can_fill(&self) -> bool {
        let open = self.open.is_some();
        let has_more = |filled: &Filled| filled.has_rows() || !open && filled.is_complete();
        self.behind.working().any(|(_, filled)| has_more(filled)) && self.has_room_to_fill()
    }

    /// When views that stand behind have something to do again, if that is held back for others.
    pub(super) fn rest_of_filling(&self) -> Option<Duration> {
        let rest = self.behind.rest(self.clock.instant());
        rest.filter(|_| self.behind.working().next().is_some())
    }

    /// Whether views that stand behind will have more for the running epoch, which nobody waits for.
    pub(super) fn keeps_filling(&self) -> bool {
        let idle = self.open.as_ref().is_some_and(|open| {
            open.work.is_empty() && self.clock.instant() - open.begun < EPOCH_AGE_MAX && open.rows < EPOCH_ROWS_MAX
        });
        let room = self.room_to_fill() > 0 && !self.is_full() && !self.has_spilled();
        idle && room && self.behind.working().any(|(_, filled)| filled.has_rows())
    }

    /// Nothing else is waiting: every view takes a step, or joins with the epoch that is begun.
    pub(super) fn fill_idle(&mut self) -> Result<()> {
        if !self.can_fill() {
            return Ok(());
        }
        self.open()?;
        let (step, _) = self.behind.times(self.clock.instant());
        let most = self.behind.pace.rows_in(step).min(self.room_to_fill());
        for view in self.behind.ids(Filled::has_rows) {
            self.catch_up(view)?;
            self.take_rows(view, most)?;
        }
        Ok(())
    }

    /// The epoch is about to be closed: the views that stand behind get their share of its time, unless they had it, and how far
    /// they have come is written.
    pub(super) fn fill_share(&mut self) -> Result<()> {
        let working = self.behind.working().count() as u32;
        let Some(open) = self.open.as_ref().filter(|_| working > 0 && !self.has_spilled()) else { return Ok(()) };
        let share = ((self.clock.instant() - open.begun) / SHARE).max(SHARE_MIN);
        let most = match open.filled > 0 || self.is_full() {
            true => 0,
            false => self.behind.pace.rows_in(share / working).min(self.room_to_fill()),
        };
        while self.open.as_ref().is_some_and(|open| open.filled < most) && self.take_waiting_replay()? {}
        if self.open.is_none() {
            return Ok(());
        }
        for view in self.behind.ids(|_| true) {
            self.catch_up(view)?;
            let mut taken = 0;
            while taken < most && !self.is_full() {
                match self.take_rows(view, most - taken)? {
                    0 => break,
                    rows => taken += rows,
                }
            }
            let lasting = !self.transients.contains_key(&view);
            if let Some(filling) = self.behind.get_mut(view).filter(|filling| filling.changed) {
                filling.changed = false;
                if lasting {
                    records::put_filled(&mut self.writes, view, &filling.filled)?;
                }
            }
        }
        Ok(())
    }

    /// What is shown of views that stand behind.
    pub(super) fn jobs(&self) -> Vec<Job> {
        let named = self.behind.views.iter().filter(|(view, _)| !self.transients.contains_key(view));
        let job = |(view, filling): (&ObjectId, &Filling)| {
            let inputs = &filling.filled.inputs;
            let totals = inputs.iter().map(|(input, place)| self.total(*input, place));
            Job {
                object: *view,
                objects: filling.views.to_vec(),
                begun: filling.filled.begun,
                rows: inputs.values().map(Place::rows).sum(),
                rows_total: totals.sum::<Option<u64>>(),
                trouble: filling.trouble.as_ref().map(Error::to_string),
            }
        };
        named.map(job).collect()
    }

    /// How many rows an input is thought to have, by what those before a place take on disk.
    fn total(&self, input: ObjectId, place: &Place) -> Option<u64> {
        let Place::Rows { after: Some(after), end, rows } = place else { return place.total() };
        let (part, all) = (self.store.relation_bytes_up_to(input, after), self.store.relation_bytes_up_to(input, end));
        (part > 0).then(|| ((*rows as f64 * all as f64 / part as f64) as u64).max(*rows))
    }
}
