//! The state machine: applies committed operations in log order, answers queries.

use super::{Operation, Origin, Query, Reply};

/// The replicated state at one index.
#[derive(Default)]
pub struct Store {}

/// One committed entry, as the state sees it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The entry's index: the revision of whatever it writes.
    pub index: u64,
    /// Logged time in milliseconds since the Unix epoch; never goes back.
    pub time_ms: u64,
    /// Who asked, if a session did.
    pub origin: Option<Origin>,
    /// What to do.
    pub operation: &'a Operation,
}

impl Store {
    /// Applies one entry and returns its reply.
    pub fn apply(&mut self, input: Input<'_>) -> Reply {
        let _ = input;
        unimplemented!("the state machine is being built")
    }

    /// Answers a query from this state.
    pub fn query(&self, query: &Query) -> Reply {
        let _ = query;
        unimplemented!("the state machine is being built")
    }

    /// Returns the order-independent hash of the state at the applied index.
    pub fn state_hash(&self) -> u128 {
        unimplemented!("the state machine is being built")
    }

    /// Returns how many keys there are.
    pub fn keys(&self) -> u64 {
        unimplemented!("the state machine is being built")
    }
}
