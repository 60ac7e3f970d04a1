//! One connection's commands between arrival and reply: what may be under way together, and the order of replies.
//!
//! A value without I/O. Replies leave in the order of the commands, whatever the order in which they come to be. Commands
//! take effect in their order too: consecutive writes are under way together, reads that arrive together share one barrier,
//! but a read waits for the replies of the writes before it, and a write for those of the reads.
//!
//! A read is answered when its reply is the next to leave, and only while little output is unsent: what a client asked for
//! takes memory one reply at a time, however much it asked for.

use std::collections::VecDeque;
use std::time::Instant;

use super::translate::{Read, Request, Shape};
use crate::kv::{LOGGED_REPLY_BYTES_MAX, QUERY_REPLY_BYTES_MAX, Reply};
use crate::node::{Outcome, RequestError};
use crate::proto::resp::{Output, Value, Version};

/// Writes under way at once.
pub(super) const WRITES_MAX: usize = 256;

/// Commands between arrival and reply.
pub(super) const COMMANDS_MAX: usize = 1024;

/// With more output than this unsent, no further reply is made and no further command is taken.
pub(super) const OUTPUT_BYTES_PAUSE: usize = 2 * 1024 * 1024;

/// With more output than this unsent, the connection is closed.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;
// The longest reply still fits on top of a pause: no prompt reader is closed for what it asked.
const _: () = assert!(OUTPUT_BYTES_PAUSE as u64 + QUERY_REPLY_BYTES_MAX < OUTPUT_BYTES_MAX as u64);
const _: () = assert!(LOGGED_REPLY_BYTES_MAX <= QUERY_REPLY_BYTES_MAX);

/// The commands of one connection that are not yet answered, and the output of those that are.
///
/// - `slots[i]` is the command numbered `first + i`.
/// - Not both `open_writes` and `open_reads` are above 0; each is the number of slots of its kind.
/// - At most one barrier is under way; what is read later needs a later one.
/// - The first slot is done or readable only while more than [`OUTPUT_BYTES_PAUSE`] is unsent, or until
///   [`Pipeline::answer_next`] is called.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    slots: VecDeque<Slot>,
    first: u64,
    open_writes: usize,
    open_reads: usize,
    /// The barrier for reads that arrived together, until it is asked for.
    barrier: Option<u64>,
    output: Output,
    errors: u64,
}

#[derive(Debug)]
struct Slot {
    version: Version,
    state: State,
}

#[derive(Debug)]
enum State {
    Write {
        shape: Shape,
        since: Instant,
    },
    Read {
        read: Read,
        barrier: u64,
        since: Instant,
    },
    /// A read whose barrier is confirmed: it may be answered from any later state.
    Readable {
        read: Read,
        since: Instant,
    },
    Done(Done),
}

/// A reply that is not yet encoded.
#[derive(Debug)]
pub(super) enum Done {
    /// The node's own.
    Value(Value),
    /// The state's.
    Reply(Reply, Shape),
    /// None: the request has no good end.
    Failed(RequestError),
}

/// What happened to one request of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A write that arrived then is answered.
    Write { since: Instant },
    /// A read that arrived then is answered.
    Read { since: Instant },
    /// So many reads that arrived then have no good end.
    Reads { since: Instant, count: u64 },
    /// The barrier is confirmed: the reads behind it are answered by [`Pipeline::answer_next`].
    Barrier,
}

impl Pipeline {
    /// Returns whether a local command may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < COMMANDS_MAX
    }

    /// Returns whether a request may be taken.
    pub(super) fn takes(&self, request: &Request) -> bool {
        match request {
            Request::Write { .. } => self.takes_write(),
            Request::Read(_) => self.takes_read(),
        }
    }

    /// Returns whether a write may be taken.
    fn takes_write(&self) -> bool {
        self.has_room() && self.open_reads == 0 && self.open_writes < WRITES_MAX
    }

    /// Returns whether a read may be taken.
    fn takes_read(&self) -> bool {
        let is_joining = self.open_reads == 0 || self.barrier.is_some();
        self.has_room() && self.open_writes == 0 && is_joining
    }

    /// Returns whether so little is unsent that more may be made.
    pub(super) fn may_answer(&self) -> bool {
        self.output.bytes() <= OUTPUT_BYTES_PAUSE
    }

    /// Returns whether [`Pipeline::answer_next`] has something to do.
    pub(super) fn is_answerable(&self) -> bool {
        let is_ready = matches!(self.slots.front(), Some(Slot { state: State::Done(_) | State::Readable { .. }, .. }));
        is_ready && self.may_answer()
    }

    /// Returns whether nothing is between arrival and reply.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns whether some request is under way.
    pub(super) fn is_waiting(&self) -> bool {
        self.open_writes + self.open_reads > 0
    }

    /// Returns what is ready to be sent.
    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Returns how many errors were encoded since the last call.
    pub(super) fn take_errors(&mut self) -> u64 {
        std::mem::take(&mut self.errors)
    }

    /// Takes a command that is answered already.
    pub(super) fn push_done(&mut self, done: Done, version: Version) {
        if self.slots.is_empty() {
            self.first += 1;
            self.encode(&done, version);
        } else {
            self.slots.push_back(Slot { version, state: State::Done(done) });
        }
    }

    /// Takes a write; returns the number under which it is to be submitted.
    pub(super) fn push_write(&mut self, shape: Shape, version: Version, since: Instant) -> u64 {
        assert!(self.takes_write(), "a write among {} reads and {} writes", self.open_reads, self.open_writes);
        self.open_writes += 1;
        self.push(State::Write { shape, since }, version)
    }

    /// Takes a read. Its barrier is that of the other reads taken since the last [`Pipeline::take_barrier`].
    pub(super) fn push_read(&mut self, read: Read, version: Version, since: Instant) {
        assert!(self.takes_read(), "a read among {} writes", self.open_writes);
        self.open_reads += 1;
        let next = self.first + self.slots.len() as u64;
        let barrier = *self.barrier.get_or_insert(next);
        self.push(State::Read { read, barrier, since }, version);
    }

    /// Returns the number under which the barrier of the newest reads is to be asked for, if there are any.
    pub(super) fn take_barrier(&mut self) -> Option<u64> {
        self.barrier.take()
    }

    fn push(&mut self, state: State, version: Version) -> u64 {
        self.slots.push_back(Slot { version, state });
        self.first + self.slots.len() as u64 - 1
    }

    /// Ends the request of this number.
    pub(super) fn complete(&mut self, number: u64, outcome: Result<Outcome, RequestError>) -> Ended {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let slot = at.and_then(|at| self.slots.get_mut(at));
        let Some((at, slot)) = at.zip(slot) else {
            panic!("request {number} ended, but {} are under way from {}", self.slots.len(), self.first);
        };
        match (&slot.state, outcome) {
            (State::Write { shape, since }, outcome) => {
                let (shape, since) = (*shape, *since);
                slot.state = State::Done(match outcome {
                    Ok(Outcome::Applied { reply, .. }) => Done::Reply(reply, shape),
                    Ok(Outcome::Readable) => panic!("write {number} ended as a read"),
                    Err(error) => Done::Failed(error),
                });
                self.open_writes -= 1;
                Ended::Write { since }
            }
            (State::Read { since, .. }, outcome) => {
                let since = *since;
                let error = outcome.err();
                let count = self.end_barrier(at, number, error);
                if error.is_some() { Ended::Reads { since, count } } else { Ended::Barrier }
            }
            (State::Readable { .. } | State::Done(_), _) => panic!("request {number} ended twice"),
        }
    }

    /// Makes all reads of a barrier readable, or fails them; returns how many they are.
    fn end_barrier(&mut self, at: usize, number: u64, error: Option<RequestError>) -> u64 {
        let mut count = 0;
        for slot in self.slots.range_mut(at..) {
            let state = std::mem::replace(&mut slot.state, State::Done(Done::Value(Value::Null)));
            slot.state = match state {
                State::Read { read, barrier, since } if barrier == number => {
                    count += 1;
                    match error {
                        Some(error) => State::Done(Done::Failed(error)),
                        None => State::Readable { read, since },
                    }
                }
                other => other,
            };
        }
        if error.is_some() {
            self.open_reads -= usize::try_from(count).unwrap_or(0);
        }
        count
    }

    /// Makes the next replies, unless much is unsent: those that are known, up to and with one read that `answer` answers.
    /// Returns that read's end.
    pub(super) fn answer_next(&mut self, answer: impl FnOnce(&Read) -> Done) -> Option<Ended> {
        while self.is_answerable() {
            let Slot { version, state } = self.slots.pop_front()?;
            self.first += 1;
            match state {
                State::Done(done) => self.encode(&done, version),
                State::Readable { read, since } => {
                    self.open_reads -= 1;
                    self.encode(&answer(&read), version);
                    return Some(Ended::Read { since });
                }
                State::Write { .. } | State::Read { .. } => unreachable!("the first slot is not answerable"),
            }
        }
        None
    }

    fn encode(&mut self, done: &Done, version: Version) {
        let is_error = match done {
            Done::Value(value) => {
                self.output.push_value(value, version);
                matches!(value, Value::Error(_))
            }
            Done::Reply(reply, shape) => {
                shape.push(reply, &mut self.output, version);
                matches!(reply, Reply::Error(_))
            }
            Done::Failed(error) => {
                self.output.push_error(error);
                true
            }
        };
        self.errors += u64::from(is_error);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kv::Query;
    use crate::raft::Index;

    fn applied(reply: Reply) -> Result<Outcome, RequestError> {
        Ok(Outcome::Applied { index: Index(1), reply })
    }

    fn get(key: &'static str) -> Read {
        Read::Query(Query::Get { key: Bytes::from_static(key.as_bytes()) }, Shape::Plain)
    }

    /// Answers a read with its key.
    fn echo(read: &Read) -> Done {
        match read {
            Read::Query(Query::Get { key }, shape) => Done::Reply(Reply::Bulk(key.clone()), *shape),
            other => panic!("{other:?}"),
        }
    }

    /// Makes all replies that may be made, and returns how many reads were answered.
    fn answer(pipeline: &mut Pipeline) -> usize {
        std::iter::from_fn(|| pipeline.answer_next(echo)).count()
    }

    fn sent(pipeline: &mut Pipeline) -> String {
        let output = pipeline.output();
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let filled = output.slices(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        output.advance(bytes.len());
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn replies_leave_in_the_order_of_commands() {
        let (mut pipeline, now) = (Pipeline::default(), Instant::now());
        pipeline.push_done(Done::Value(Value::Simple("PONG")), Version::Two);
        assert_eq!(sent(&mut pipeline), "+PONG\r\n");
        let one = pipeline.push_write(Shape::Plain, Version::Two, now);
        let two = pipeline.push_write(Shape::Truth, Version::Two, now);
        pipeline.push_done(Done::Value(Value::Null), Version::Three);
        assert_eq!(pipeline.complete(two, applied(Reply::Ok)), Ended::Write { since: now });
        assert_eq!(sent(&mut pipeline), "");
        pipeline.complete(one, Err(RequestError::NoLeader));
        assert_eq!(answer(&mut pipeline), 0);
        assert_eq!(sent(&mut pipeline), "-CLUSTERDOWN no leader within the deadline; not executed\r\n:1\r\n_\r\n");
        assert_eq!(pipeline.take_errors(), 1);
        assert!(!pipeline.is_waiting());
    }

    #[test]
    fn reads_that_arrive_together_share_a_barrier() {
        let (mut pipeline, now) = (Pipeline::default(), Instant::now());
        pipeline.push_read(get("a"), Version::Two, now);
        pipeline.push_done(Done::Value(Value::Integer(1)), Version::Two);
        pipeline.push_read(get("b"), Version::Two, now);
        let first = pipeline.take_barrier().expect("a barrier");
        assert_eq!(pipeline.take_barrier(), None);
        // What comes after the barrier was asked for needs another one.
        assert!(!pipeline.takes_read() && !pipeline.takes_write());
        assert_eq!(pipeline.complete(first, Ok(Outcome::Readable)), Ended::Barrier);
        assert!(!pipeline.takes_read() && !pipeline.takes_write());
        assert_eq!(answer(&mut pipeline), 2);
        assert_eq!(sent(&mut pipeline), "$1\r\na\r\n:1\r\n$1\r\nb\r\n");
        pipeline.push_read(get("c"), Version::Two, now);
        let second = pipeline.take_barrier().expect("another barrier");
        assert_eq!(pipeline.complete(second, Ok(Outcome::Readable)), Ended::Barrier);
        assert_eq!(pipeline.answer_next(echo), Some(Ended::Read { since: now }));
        assert_eq!(sent(&mut pipeline), "$1\r\nc\r\n");
        assert!(pipeline.takes_write() && !pipeline.is_waiting());
    }

    #[test]
    fn a_read_waits_for_the_writes_before_it_and_a_write_for_the_reads() {
        let (mut pipeline, now) = (Pipeline::default(), Instant::now());
        let write = pipeline.push_write(Shape::Plain, Version::Two, now);
        assert!(!pipeline.takes_read() && pipeline.takes_write() && pipeline.has_room());
        pipeline.complete(write, applied(Reply::Ok));
        assert_eq!(answer(&mut pipeline), 0);
        assert!(pipeline.takes_read());
        pipeline.push_read(get("a"), Version::Two, now);
        let barrier = pipeline.take_barrier().expect("a barrier");
        assert!(!pipeline.takes_write());
        pipeline.complete(barrier, Err(RequestError::Loading));
        assert_eq!(answer(&mut pipeline), 0);
        assert_eq!(sent(&mut pipeline), "+OK\r\n-LOADING the node is recovering its state; not executed\r\n");
    }

    /// The replies of a barrier's reads were once all made together, whatever they took.
    #[test]
    fn reads_are_answered_one_by_one_as_the_output_drains() {
        let (mut pipeline, now) = (Pipeline::default(), Instant::now());
        for _ in 0..COMMANDS_MAX {
            pipeline.push_read(get("a"), Version::Two, now);
        }
        let barrier = pipeline.take_barrier().expect("a barrier");
        pipeline.complete(barrier, Ok(Outcome::Readable));
        let large = || Done::Reply(Reply::Bulk(vec![b'v'; OUTPUT_BYTES_PAUSE].into()), Shape::Plain);
        let mut answered = 0;
        while !pipeline.is_empty() {
            while pipeline.answer_next(|_| large()).is_some() {
                answered += 1;
            }
            let unsent = pipeline.output().bytes();
            assert!((OUTPUT_BYTES_PAUSE..2 * OUTPUT_BYTES_PAUSE).contains(&unsent), "{unsent} bytes unsent");
            pipeline.output().advance(unsent);
        }
        assert_eq!(answered, COMMANDS_MAX);
        assert!(pipeline.takes_write());
    }

    #[test]
    fn so_many_and_no_more() {
        let (mut pipeline, now) = (Pipeline::default(), Instant::now());
        for _ in 0..WRITES_MAX {
            assert!(pipeline.takes_write());
            pipeline.push_write(Shape::Plain, Version::Two, now);
        }
        assert!(!pipeline.takes_write());
        for _ in WRITES_MAX..COMMANDS_MAX {
            assert!(pipeline.has_room());
            pipeline.push_done(Done::Value(Value::OK), Version::Two);
        }
        assert!(!pipeline.has_room());
    }
}
