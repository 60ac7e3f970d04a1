//! What goes into a run and what comes out: options, report, failure.

use std::fmt;

use thiserror::Error;

#[cfg(feature = "mutants")]
use crate::raft::Mutant;

/// What a run can be told beside its seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long faults go on, in milliseconds of the simulated clock.
    pub faults_ms: u64,
    /// How many nodes; drawn from the seed if `None`.
    pub nodes: Option<u64>,
    /// Whether every event is written out.
    pub trace: bool,
    /// The mistake to make, to see whether it is found.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

impl Default for Options {
    fn default() -> Options {
        Options::new(10_000, None, false)
    }
}

impl Options {
    /// Returns options without a mistake.
    pub fn new(faults_ms: u64, nodes: Option<u64>, trace: bool) -> Options {
        Options {
            faults_ms,
            nodes,
            trace,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

/// What a run did, when nothing was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A hash over every event with its time: equal for equal runs.
    pub trace_hash: u64,
    /// Events handled.
    pub events: u64,
    /// Simulated time in milliseconds.
    pub simulated_ms: u64,
    /// Nodes of the cluster.
    pub nodes: u64,
    /// Entries committed.
    pub committed: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// Operations that were answered with success.
    pub acknowledged: u64,
    /// Terms that had a leader.
    pub leaders: u64,
    /// Crashes.
    pub crashes: u64,
    /// Torn tails that recovery dropped.
    pub torn_tails: u64,
    /// Messages sent between nodes.
    pub messages: u64,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// At most one leader in a term (Raft, figure 3: election safety).
    OneLeaderPerTerm,
    /// A node votes once in a term, whatever crashed between.
    OneVotePerTerm,
    /// A leader never cuts its own log (leader append-only).
    LeaderAppendOnly,
    /// Two entries with one log id are the same, and so is what comes before them (log matching).
    LogMatching,
    /// A new leader has every committed entry (leader completeness).
    LeaderCompleteness,
    /// What is committed at an index never changes (state machine safety).
    CommittedNeverChanges,
    /// An entry is committed only when a quorum has it durably.
    CommittedIsDurable,
    /// A leader commits through an entry of its own term.
    CommitsOwnTerm,
    /// An answer leaves only when a quorum has its entry durably.
    AcknowledgedIsDurable,
    /// Equal index, equal state.
    StateHash,
    /// Recovery finds what was durable, and whole batches of what was not.
    Recovery,
    /// A node starts from its own disk.
    Boot,
    /// Members do not break the protocol among themselves.
    Protocol,
    /// Every answer can be explained by one copy of the data, each append taking effect as often as it was promised.
    History,
    /// Once faults end, the cluster serves and its nodes become equal.
    Liveness,
}

/// A broken invariant.
#[derive(Clone, Debug, Error)]
#[error("seed {seed}, {at_us} us: {violation}\nreplay: kontiki simulate --seed {seed}{flags}")]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// When, in microseconds of the simulated clock.
    pub at_us: u64,
    /// What.
    pub violation: Violation,
    /// The options that differ from the default, as flags.
    pub flags: String,
}

/// What was broken, and how it showed.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// How it showed.
    pub details: String,
}

impl Violation {
    pub(super) fn new(invariant: Invariant, details: String) -> Violation {
        Violation { invariant, details }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is broken: {}", self.invariant, self.details)
    }
}

impl Options {
    /// Returns the flags of `kontiki simulate` that repeat these options.
    pub(super) fn flags(&self) -> String {
        let standard = Options::default();
        let mut flags = String::new();
        if self.faults_ms != standard.faults_ms {
            flags += &format!(" --faults-ms {}", self.faults_ms);
        }
        if let Some(nodes) = self.nodes {
            flags += &format!(" --nodes {nodes}");
        }
        flags
    }
}
