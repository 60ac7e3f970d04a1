//! The door to the consensus thread: many push, one drains everything at once and is woken at most once a turn.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::UnboundedSender;

use crate::node::Event;
use crate::proto::peer::PeerMessage;
use crate::raft::NodeId;

use super::handle::Completion;

/// Peer messages beyond this many waiting inputs are dropped: Raft tolerates loss, memory does not tolerate growth.
/// What clients send is bounded before it comes here.
const PEER_INPUTS_MAX: usize = 16 * 1024;

/// Payload bytes of waiting peer messages beyond which more are dropped: a few windows of the core.
const PEER_BYTES_MAX: usize = 128 << 20;

/// Something for the consensus thread.
#[derive(Debug)]
pub(super) enum Input {
    /// For the node.
    Event(Event),
    /// A connection is open; its completions go there.
    Opened { connection: u64, completions: UnboundedSender<Completion> },
    /// Stop after this turn.
    Stop,
}

/// Inputs in arrival order.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inputs: Vec<Input>,
    peer_bytes: usize,
    is_asleep: bool,
}

impl Inbox {
    /// Adds an input.
    pub(super) fn push(&self, input: Input) {
        let mut state = self.state.lock();
        state.inputs.push(input);
        let wake = std::mem::take(&mut state.is_asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Adds a peer's message unless too much waits. Returns whether it was taken.
    pub(super) fn offer(&self, from: NodeId, message: PeerMessage) -> bool {
        {
            let mut state = self.state.lock();
            if state.inputs.len() >= PEER_INPUTS_MAX || state.peer_bytes >= PEER_BYTES_MAX {
                return false;
            }
            state.peer_bytes += message.payload_bytes();
        }
        self.push(Input::Event(Event::Message { from, message }));
        true
    }

    /// Moves all inputs into `into`, which is empty; waits for one until `deadline`.
    pub(super) fn drain(&self, into: &mut Vec<Input>, deadline: Instant) {
        let mut state = self.state.lock();
        while state.inputs.is_empty() {
            state.is_asleep = true;
            if self.wake.wait_until(&mut state, deadline).timed_out() {
                state.is_asleep = false;
                break;
            }
        }
        state.peer_bytes = 0;
        std::mem::swap(&mut state.inputs, into);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    /// An input pushed while the consumer sleeps wakes it long before its deadline.
    #[test]
    fn a_push_wakes_the_sleeper() {
        let inbox = Arc::new(Inbox::default());
        let pusher = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || pusher.push(Input::Stop));
        let mut inputs = Vec::new();
        inbox.drain(&mut inputs, Instant::now() + Duration::from_secs(3600));
        assert!(matches!(inputs[..], [Input::Stop]));
        thread.join().unwrap();
    }

    /// Peers cannot make the inbox grow without bound.
    #[test]
    fn peers_are_refused_when_too_much_waits() {
        let forward = |bytes| PeerMessage::Forward { request: 1, entry: Bytes::from(vec![0; bytes]) };
        let inbox = Inbox::default();
        for _ in 0..PEER_INPUTS_MAX {
            assert!(inbox.offer(NodeId(2), forward(0)));
        }
        assert!(!inbox.offer(NodeId(2), forward(0)));
        let inbox = Inbox::default();
        assert!(inbox.offer(NodeId(2), forward(PEER_BYTES_MAX)));
        assert!(!inbox.offer(NodeId(2), forward(0)));
        inbox.drain(&mut Vec::new(), Instant::now());
        assert!(inbox.offer(NodeId(2), forward(0)));
    }
}
