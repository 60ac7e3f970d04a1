//! What waits to be sent to one peer: a bounded lane per class. Full lanes lose messages, callers never wait.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::proto::peer::{Class, is_heartbeat};

/// What came of handing a frame to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It waits for the wire. It may still be lost with the connection.
    Queued,
    /// The lane is full: lost. The peer reads too slowly.
    Full,
    /// There is no connection: lost.
    Unconnected,
}

/// How much one lane may hold. One frame always fits, whatever its size.
struct Bound {
    frames: usize,
    bytes: usize,
}

const fn bound(class: Class) -> Bound {
    match class {
        Class::Control => Bound { frames: 64, bytes: 64 * 1024 },
        // Replies to forwarded writes come in bursts of a whole commit.
        Class::Response => Bound { frames: 8192, bytes: 16 * 1024 * 1024 },
        // Appends are bounded by the core's window long before; forwarded writes by their connections.
        Class::Append => Bound { frames: 8192, bytes: 16 * 1024 * 1024 },
    }
}

/// The lanes of one peer.
///
/// - Nothing is held while no connection is open.
/// - A lane holds at most one heartbeat: the newest.
pub(super) struct Outbox {
    state: Mutex<State>,
    ready: [Notify; LANES],
}

const LANES: usize = 3;

#[derive(Default)]
struct State {
    open: bool,
    lanes: [Lane; LANES],
}

#[derive(Default)]
struct Lane {
    frames: VecDeque<Frame>,
    bytes: usize,
    dropped: u64,
}

struct Frame {
    chunks: Vec<Bytes>,
    bytes: usize,
    heartbeat: bool,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { state: Mutex::new(State::default()), ready: [Notify::new(), Notify::new(), Notify::new()] }
    }

    /// Starts with empty lanes for a new connection.
    pub(super) fn open(&self) {
        let mut state = self.state.lock();
        state.clear();
        state.open = true;
    }

    /// Drops what waits, and what comes until the next connection.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.clear();
        state.open = false;
    }

    /// Puts a frame into its lane.
    pub(super) fn push(&self, class: Class, chunks: Vec<Bytes>) -> Sent {
        let bytes = chunks.iter().map(Bytes::len).sum();
        let heartbeat = is_heartbeat(&chunks);
        let mut state = self.state.lock();
        let open = state.open;
        let lane = &mut state.lanes[number(class)];
        if !open {
            lane.dropped += 1;
            return Sent::Unconnected;
        }
        if heartbeat && let Some(older) = lane.frames.iter().position(|frame| frame.heartbeat) {
            // What the older one said, the newer one says too; the newer one takes its own place at the end.
            if let Some(older) = lane.frames.remove(older) {
                lane.bytes -= older.bytes;
            }
        }
        let bound = bound(class);
        if lane.frames.len() >= bound.frames || (lane.bytes + bytes > bound.bytes && !lane.frames.is_empty()) {
            lane.dropped += 1;
            return Sent::Full;
        }
        lane.frames.push_back(Frame { chunks, bytes, heartbeat });
        lane.bytes += bytes;
        Sent::Queued
    }

    /// Wakes the writers of lanes that hold something.
    pub(super) fn wake_writers(&self) {
        let state = self.state.lock();
        for (lane, ready) in state.lanes.iter().zip(&self.ready) {
            if !lane.frames.is_empty() {
                ready.notify_one();
            }
        }
    }

    /// Waits until a lane holds something and takes all of it, in order.
    pub(super) async fn take(&self, class: Class) -> Vec<Bytes> {
        loop {
            let chunks = self.state.lock().lanes[number(class)].take();
            if !chunks.is_empty() {
                return chunks;
            }
            self.ready[number(class)].notified().await;
        }
    }

    /// Returns how many frames were lost since the start, by lane: control, response, append.
    pub(super) fn dropped(&self) -> [u64; LANES] {
        let state = self.state.lock();
        [state.lanes[0].dropped, state.lanes[1].dropped, state.lanes[2].dropped]
    }

    /// Returns how many bytes wait in all lanes.
    pub(super) fn queued_bytes(&self) -> usize {
        self.state.lock().lanes.iter().map(|lane| lane.bytes).sum()
    }
}

impl State {
    fn clear(&mut self) {
        for lane in &mut self.lanes {
            lane.dropped += lane.frames.len() as u64;
            lane.frames.clear();
            lane.bytes = 0;
        }
    }
}

impl Lane {
    fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        match self.frames.len() {
            0 => Vec::new(),
            1 => self.frames.pop_front().map_or_else(Vec::new, |frame| frame.chunks),
            _ => self.frames.drain(..).flat_map(|frame| frame.chunks).collect(),
        }
    }
}

fn number(class: Class) -> usize {
    match class {
        Class::Control => 0,
        Class::Response => 1,
        Class::Append => 2,
    }
}

#[cfg(test)]
mod tests {
    use crate::proto::peer::{PeerMessage, encode};
    use crate::raft::{Index, Message, Term};

    use super::*;

    fn raft(message: Message) -> Vec<Bytes> {
        encode(&PeerMessage::Raft { message, payloads: Vec::new() })
    }

    fn heartbeat(read: u64) -> Vec<Bytes> {
        raft(Message::Heartbeat { term: Term(1), commit: Index(1), read })
    }

    fn taken(outbox: &Outbox, class: Class) -> Vec<u8> {
        outbox.state.lock().lanes[number(class)].take().concat()
    }

    #[test]
    fn a_newer_heartbeat_takes_the_older_ones_place_and_nothing_else() {
        let outbox = Outbox::new();
        outbox.open();
        let vote = raft(Message::VoteReply { term: Term(1), granted: true });
        for frame in [heartbeat(1), vote.clone(), heartbeat(2), heartbeat(3)] {
            assert_eq!(outbox.push(Class::Control, frame), Sent::Queued);
        }
        assert_eq!(taken(&outbox, Class::Control), [vote, heartbeat(3)].concat().concat());
        assert_eq!(outbox.queued_bytes(), 0);
    }

    #[test]
    fn lanes_are_bounded_by_frames_and_bytes_and_count_what_they_lose() {
        let outbox = Outbox::new();
        assert_eq!(outbox.push(Class::Control, vec![Bytes::from_static(b"frame")]), Sent::Unconnected);
        outbox.open();
        for _ in 0..64 {
            assert_eq!(outbox.push(Class::Control, vec![Bytes::from_static(b"frame")]), Sent::Queued);
        }
        assert_eq!(outbox.push(Class::Control, vec![Bytes::from_static(b"frame")]), Sent::Full);
        let huge = vec![Bytes::from(vec![0; 17 * 1024 * 1024])];
        assert_eq!(outbox.push(Class::Append, huge.clone()), Sent::Queued, "one frame always fits");
        assert_eq!(outbox.push(Class::Append, vec![Bytes::from_static(b"x")]), Sent::Full);
        assert_eq!(outbox.dropped(), [2, 0, 1]);
        outbox.close();
        assert_eq!(outbox.dropped(), [66, 0, 2], "what waited is lost with the connection");
        assert_eq!(outbox.push(Class::Append, huge), Sent::Unconnected);
    }
}
