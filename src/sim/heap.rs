//! The heap of what is going to happen, by time and then by the order of planning.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bytes::Bytes;

/// Microseconds of the simulated clock.
pub(super) type Micros = u64;

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A node's clock ticks.
    Tick { node: u64, life: u64 },
    /// A node's consensus thread wakes up.
    Turn { node: u64, life: u64 },
    /// A node's apply thread takes its next job.
    Apply { node: u64, life: u64 },
    /// The next step of a node's sync is done.
    SyncStep { node: u64, life: u64, step: usize },
    /// A frame arrives. One that needs its connection finds only the life it was sent to.
    Deliver { from: u64, to: u64, frame: Bytes, to_life: Option<u64> },
    /// Two nodes notice that they are connected.
    Connect { node: u64, life: u64, peer: u64, peer_life: u64 },
    /// A node notices that a peer is gone.
    Disconnect { node: u64, life: u64, peer: u64 },
    /// A client does what it does next.
    Client { client: usize },
    /// A client has waited long enough.
    GiveUp { client: usize, operation: usize },
    /// Trouble.
    Fault,
    /// A node starts again.
    Restart { node: u64 },
    /// A paused node goes on.
    Resume { node: u64, pause: u64 },
    /// The network is whole again, unless it was split anew.
    Heal { split: u64 },
    /// A slow disk is fast again.
    DiskRecovers { node: u64 },
    /// Faults end.
    Quiet,
    /// Clients end.
    Drain,
    /// Is everything equal yet?
    Settled,
}

struct Planned {
    at: Micros,
    order: u64,
    event: Event,
}

/// Events by time.
#[derive(Default)]
pub(super) struct Heap {
    planned: BinaryHeap<Planned>,
    order: u64,
}

impl Heap {
    pub(super) fn push(&mut self, at: Micros, event: Event) {
        self.order += 1;
        self.planned.push(Planned { at, order: self.order, event });
    }

    pub(super) fn pop(&mut self) -> Option<(Micros, Event)> {
        self.planned.pop().map(|planned| (planned.at, planned.event))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order)) // The earliest is the greatest.
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}
