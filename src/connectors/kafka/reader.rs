//! The running reader: one thread polls and decodes, another looks for new partitions and tells the group how far we are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use rdkafka::Offset;
use rdkafka::consumer::CommitMode;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::message::Message;

use super::client::Cluster;
use super::client::PATIENCE;
use super::rows::RowsBuilder;
use crate::connectors::EndQuestion;
use crate::connectors::Ends;
use crate::connectors::Positions;
use crate::connectors::Reader;
use crate::connectors::SourceBatch;
use crate::connectors::SourceEvent;
use crate::connectors::SourceSpec;
use crate::connectors::worker::StopSignal;
use crate::connectors::worker::Stopped;
use crate::connectors::worker::Workers;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::time::Clock;

/// A batch is sent when it has so many messages,
const MESSAGES_MAX: usize = 4096;

/// or so many bytes of payload,
const BYTES_MAX: usize = 4 << 20;

/// or its first message has waited so long, or no further message is there.
const AGE_MAX: Duration = Duration::from_millis(10);

/// How long the reader waits for a message before it looks around.
const POLL: Duration = Duration::from_millis(50);

/// How often the group is told offsets, and the topic's partitions are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// The partitions' ends are looked at in every so many rounds of housekeeping.
const ROUNDS_PER_END: usize = 5;

/// The brokers are named to librdkafka again after so many looks in a row that did not reach them.
const LOOKS_PER_NAMING: usize = 4;

/// How long a look at the topic may take; also how long a drop may.
const LOOK: Duration = Duration::from_secs(1);

/// The handle of a running reader.
pub(super) struct KafkaReader {
    cluster: Arc<Cluster>,
    /// The last committed positions, on their way to the group.
    committed: Arc<Mutex<Positions>>,
    /// Where the partitions end.
    ends: Ends,
    /// Dropped with the handle; ends the threads.
    _workers: Workers,
}

/// What the housekeeper sees of the topic.
enum Look {
    Partitions(Vec<i32>),
    Missing(Error),
    /// Another topic has the name now.
    Replaced(Error),
    Unreachable(Error),
}

/// The polling thread.
struct Poller {
    spec: SourceSpec,
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    events: Sender<SourceEvent>,
    stop: StopSignal,
    partitions: BTreeMap<i32, Partition>,
    /// When the oldest message that is not sent came.
    oldest: Option<Instant>,
    /// The trouble last told, which the next batch clears.
    trouble: Option<String>,
    /// How many looks in a row did not find the topic.
    missing: usize,
    /// How often librdkafka had said by which id it reads the topic.
    topic_ids: usize,
    /// Whether a look has found that the topic is still the one that the source began with, since there was reason to doubt it.
    /// Nothing is taken before that.
    confirmed: bool,
}

/// One partition being read.
struct Partition {
    /// What was read and not sent.
    rows: RowsBuilder,
    /// The offset after what was read.
    next_offset: i64,
    /// Whether the partition's end was met after that, and is not yet told.
    end_met: bool,
}

/// Why a poller stops by itself.
enum Ending {
    Stopped,
    Failed(Error),
}

impl From<Stopped> for Ending {
    fn from(_: Stopped) -> Ending {
        Ending::Stopped
    }
}

impl KafkaReader {
    pub(super) fn start(
        spec: SourceSpec,
        from: &Positions,
        clock: Arc<dyn Clock>,
        events: Sender<SourceEvent>,
        cluster: Cluster,
    ) -> Result<KafkaReader> {
        let cluster = Arc::new(cluster);
        let committed = Arc::new(Mutex::new(Positions::new()));
        let mut workers = Workers::new();
        let (looks, seen) = crossbeam_channel::bounded(1);
        let mut poller = Poller {
            cluster: cluster.clone(),
            clock,
            events,
            stop: workers.stop_signal(),
            partitions: BTreeMap::new(),
            oldest: None,
            trouble: None,
            missing: 0,
            topic_ids: 0,
            confirmed: spec.identity.is_none(),
            spec,
        };
        poller.assign(parse(from)?)?;
        let (name, identity) = (poller.spec.name.clone(), poller.spec.identity.clone());
        workers.spawn(format!("kafka {name}"), move || poller.run(&seen))?;
        let ends = Ends::default();
        let keeper = Housekeeper {
            cluster: cluster.clone(),
            identity,
            committed: committed.clone(),
            ends: ends.clone(),
            looks,
            stop: workers.stop_signal(),
        };
        workers.spawn(format!("kafka+ {name}"), move || keeper.run())?;
        Ok(KafkaReader { cluster, committed, ends, _workers: workers })
    }
}

impl Reader for KafkaReader {
    fn committed(&self, positions: &Positions) {
        self.committed.lock().clone_from(positions);
    }

    fn end(&self) -> EndQuestion {
        let cluster = self.cluster.clone();
        Box::new(move || {
            let partitions = cluster.partitions(PATIENCE)?;
            cluster.end_offsets(&partitions).map(Some)
        })
    }

    fn ends_seen(&self) -> Ends {
        self.ends.clone()
    }
}

/// The thread that looks at the topic, and tells the group how far we are.
struct Housekeeper {
    cluster: Arc<Cluster>,
    /// What the topic's id was when the source was created.
    identity: Option<String>,
    /// The last committed positions.
    committed: Arc<Mutex<Positions>>,
    /// Where the partitions end.
    ends: Ends,
    /// To the poller.
    looks: Sender<Look>,
    stop: StopSignal,
}

impl Housekeeper {
    fn run(&self) -> Result<(), Stopped> {
        let mut told = Positions::new();
        let mut unreached = 0;
        for round in 0.. {
            let look = self.look();
            unreached = if matches!(look, Look::Unreachable(_)) { unreached + 1 } else { 0 };
            if unreached == LOOKS_PER_NAMING {
                self.cluster.name_brokers();
                unreached = 0;
            }
            let partitions = match &look {
                Look::Partitions(partitions) if round % ROUNDS_PER_END == 0 => partitions.clone(),
                Look::Partitions(_) | Look::Missing(_) | Look::Replaced(_) | Look::Unreachable(_) => Vec::new(),
            };
            self.stop.send(&self.looks, look)?;
            self.look_at_ends(&partitions)?;
            let waited = self.stop.wait(HOUSEKEEPING);
            self.tell_group(&mut told);
            waited?;
        }
        Ok(())
    }

    /// Looks at the topic.
    fn look(&self) -> Look {
        let looked = self.cluster.partitions(LOOK).and_then(|partitions| match &self.identity {
            Some(_) => Ok((partitions, self.cluster.topic_id(LOOK)?)),
            None => Ok((partitions, None)),
        });
        match looked {
            Ok((_, id)) if id != self.identity => Look::Replaced(self.cluster.replaced()),
            Ok((partitions, _)) => Look::Partitions(partitions),
            Err(error) if error.kind == Kind::UndefinedObject => Look::Missing(error),
            Err(error) => Look::Unreachable(error),
        }
    }

    fn tell_group(&self, told: &mut Positions) {
        let positions = self.committed.lock().clone();
        if positions != *told {
            let list = parse(&positions).and_then(|positions| self.cluster.list(positions));
            if let Err(error) = list.map(|list| self.cluster.consumer.commit(&list, CommitMode::Async)) {
                tracing::debug!("kafka: {error}");
            }
            *told = positions;
        }
    }

    /// Notes where these partitions end. A broker that does not answer leaves the rest for another time.
    fn look_at_ends(&self, partitions: &[i32]) -> Result<(), Stopped> {
        for partition in partitions {
            self.stop.check()?;
            let Ok((_, end)) = self.cluster.bounds(*partition, LOOK) else { break };
            self.ends.lock().insert(partition.to_string(), end);
        }
        Ok(())
    }
}

impl Poller {
    fn run(mut self, seen: &Receiver<Look>) -> Result<(), Stopped> {
        match self.read(seen) {
            Ending::Stopped => Err(Stopped),
            Ending::Failed(error) => {
                let failed = SourceEvent::Failed { source: self.spec.source, error };
                self.stop.send(&self.events, failed)
            }
        }
    }

    fn read(&mut self, seen: &Receiver<Look>) -> Ending {
        loop {
            if let Err(ending) = self.turn(seen) {
                return ending;
            }
        }
    }

    /// Takes what is there, sends what is due.
    fn turn(&mut self, seen: &Receiver<Look>) -> Result<(), Ending> {
        self.stop.check()?;
        if let Ok(look) = seen.recv_timeout(if self.confirmed { Duration::ZERO } else { POLL }) {
            self.look_around(look)?;
        }
        if !self.confirmed {
            return Ok(());
        }
        let cluster = self.cluster.clone();
        let mut wait = POLL;
        while let Some(polled) = cluster.consumer.poll(wait) {
            self.check_identity()?;
            match polled {
                Ok(message) => self.take(&message)?,
                Err(error) => self.hear(&error)?,
            }
            if self.oldest.is_some_and(|oldest| self.clock.instant().duration_since(oldest) >= AGE_MAX) {
                break;
            }
            wait = Duration::ZERO;
        }
        self.send_all()?;
        Ok(())
    }

    /// What is polled from now on may be of another topic of the same name: librdkafka fetches by the topic's id, and says when it
    /// takes another one. What was taken before is of the old topic.
    fn check_identity(&mut self) -> Result<(), Ending> {
        let context = self.cluster.consumer.context();
        if context.topic_ids() == self.topic_ids {
            return Ok(());
        }
        self.topic_ids = context.topic_ids();
        match (&self.spec.identity, context.topic_id()) {
            (Some(identity), Some(read)) if read != *identity => {
                self.send_all()?;
                Err(Ending::Failed(self.cluster.replaced()))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Ending> {
        let number = message.partition();
        let Some(partition) = self.partitions.get_mut(&number) else { return Ok(()) };
        // A fetch that was under way when the connection broke may deliver a message again.
        if message.offset() < partition.next_offset {
            return Ok(());
        }
        let until = self.spec.until.as_ref().map(|until| until.get(&number.to_string()).copied().unwrap_or(0));
        if let Some(until) = until.filter(|until| message.offset() >= *until) {
            partition.next_offset = partition.next_offset.max(until);
            partition.end_met = true;
            return Ok(());
        }
        partition.rows.push(message);
        partition.next_offset = message.offset() + 1;
        partition.end_met = false;
        let full = partition.rows.messages() >= MESSAGES_MAX || partition.rows.bytes() >= BYTES_MAX;
        if self.oldest.is_none() {
            self.oldest = Some(self.clock.instant());
        }
        if full {
            self.send(number)?;
        }
        Ok(())
    }

    /// Hears what librdkafka says instead of a message.
    fn hear(&mut self, error: &KafkaError) -> Result<(), Ending> {
        if let KafkaError::PartitionEOF(number) = error {
            // Control records at the end move the position without any message.
            let position = self.cluster.consumer.position().ok();
            let position = position.and_then(|list| Some(list.find_partition(&self.cluster.topic, *number)?.offset()));
            if let Some(partition) = self.partitions.get_mut(number) {
                if let Some(Offset::Offset(position)) = position {
                    partition.next_offset = partition.next_offset.max(position);
                }
                partition.end_met = true;
            }
            return Ok(());
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.send_all()?;
                Err(Ending::Failed(self.out_of_range()))
            }
            // A topic or partition that is gone is confirmed by the housekeeper.
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicId,
            ) => {
                self.doubt();
                Ok(())
            }
            Some(RDKafkaErrorCode::PollExceeded) => Ok(()),
            _ => Ok(self.tell_trouble(self.cluster.unreachable(error))?),
        }
    }

    /// The next messages may be those of another topic of the same name.
    fn doubt(&mut self) {
        self.confirmed = self.spec.identity.is_none();
    }

    /// Which partition no longer holds the offset we need.
    fn out_of_range(&self) -> Error {
        let topic = &self.cluster.topic;
        for (number, partition) in &self.partitions {
            let Ok((first, end)) = self.cluster.bounds(*number, LOOK) else { continue };
            let next = partition.next_offset;
            if next < first || next > end {
                return Error::not_ready(format!("offset {next} of partition {number} of topic \"{topic}\" is not there any more"))
                    .detail(format!("The partition holds the offsets from {first} to {end}."))
                    .hint("The topic forgot messages that were not yet read, or was created anew. Drop the source and create it again.");
            }
        }
        Error::not_ready(format!("messages of topic \"{topic}\" that were to be read next are not there any more"))
            .hint("Drop the source and create it again.")
    }

    fn look_around(&mut self, look: Look) -> Result<(), Ending> {
        match look {
            Look::Partitions(numbers) => {
                (self.missing, self.confirmed) = (0, true);
                self.add_partitions(&numbers)?;
                if self.trouble.is_some() {
                    self.clear_trouble()?;
                }
            }
            // Once may be a broker that is just starting.
            Look::Missing(error) => {
                self.missing += 1;
                if self.missing >= 3 {
                    self.send_all()?;
                    return Err(Ending::Failed(error));
                }
            }
            Look::Replaced(error) => {
                self.send_all()?;
                return Err(Ending::Failed(error));
            }
            // librdkafka does not always say so: a connection that was idle goes quietly.
            Look::Unreachable(error) => {
                self.missing = 0;
                self.tell_trouble(error)?;
            }
        }
        Ok(())
    }

    /// Starts reading partitions that are new, from their beginning.
    fn add_partitions(&mut self, numbers: &[i32]) -> Result<(), Ending> {
        let new = numbers.iter().filter(|number| !self.partitions.contains_key(number)).copied();
        let new = new.collect::<Vec<_>>();
        if new.is_empty() {
            return Ok(());
        }
        tracing::info!(source = self.spec.name, partitions = ?new, "kafka: new partitions");
        let offsets = new.into_iter().map(|number| Ok((number, self.cluster.bounds(number, LOOK)?.0)));
        // Where the brokers do not answer now, the next look comes back to it.
        match offsets.collect::<Result<BTreeMap<_, _>>>() {
            Ok(offsets) => self.assign(offsets).map_err(Ending::Failed),
            Err(error) => Ok(self.tell_trouble(error)?),
        }
    }

    /// Adds these partitions to those that are read.
    fn assign(&mut self, from: BTreeMap<i32, i64>) -> Result<()> {
        let list = self.cluster.list(from.clone())?;
        let assigned = self.cluster.consumer.incremental_assign(&list);
        assigned.map_err(|e| Error::internal(format!("kafka: partitions cannot be assigned: {e}")))?;
        for (number, next_offset) in from {
            let rows = RowsBuilder::new(&self.spec)?;
            self.partitions.insert(number, Partition { rows, next_offset, end_met: false });
        }
        Ok(())
    }

    fn send_all(&mut self) -> Result<(), Stopped> {
        let due = self.partitions.iter().filter(|(_, p)| p.end_met || p.rows.messages() > 0);
        for number in due.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.send(number)?;
        }
        self.oldest = None;
        Ok(())
    }

    fn send(&mut self, number: i32) -> Result<(), Stopped> {
        let partition = self.partitions.get_mut(&number).expect("only partitions that are read are sent");
        let (batch, deleted, offsets, errors) = partition.rows.finish(number);
        let event = SourceEvent::Batch(SourceBatch {
            source: self.spec.source,
            partition: number.to_string(),
            batch,
            deleted,
            offsets,
            next_offset: partition.next_offset,
            at_end: std::mem::take(&mut partition.end_met),
            errors,
        });
        self.trouble = None;
        self.stop.send(&self.events, event)
    }

    fn tell_trouble(&mut self, error: Error) -> Result<(), Stopped> {
        if self.trouble.as_ref() == Some(&error.message) {
            return Ok(());
        }
        tracing::warn!(source = self.spec.name, "{error}");
        self.doubt();
        self.trouble = Some(error.message.clone());
        self.stop.send(&self.events, SourceEvent::Trouble { source: self.spec.source, error })
    }

    /// The brokers answer again; a batch says so, an empty one if need be.
    fn clear_trouble(&mut self) -> Result<(), Stopped> {
        tracing::info!(source = self.spec.name, "kafka can be reached again");
        match self.partitions.keys().next() {
            Some(number) => self.send(*number),
            None => Ok(()),
        }
    }
}

/// Positions with their partitions as numbers.
fn parse(positions: &Positions) -> Result<BTreeMap<i32, i64>> {
    let number = |name: &String| {
        name.parse().map_err(|_| Error::corrupted(format!("\"{name}\" is no partition of a Kafka topic")))
    };
    positions.iter().map(|(name, offset)| Ok((number(name)?, *offset))).collect()
}
