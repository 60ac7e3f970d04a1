//! Historic mistakes, made on purpose: the simulator must find each. Without the feature `mutants` none can be chosen.

use super::raft::Raft;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutants"), allow(unreachable_pub, reason = "nobody outside can name it then"))]
pub enum Mutant {
    /// Votes, and asks for votes, before term and vote are durable (T01, T04).
    VoteBeforeDurable,
    /// Counts replicas of old terms: figure 8 (T20).
    CommitOldTermByCount,
    /// Acknowledges entries before they are durable (T27).
    AcknowledgeBeforeDurable,
    /// Acknowledges what was written, although a later leader has replaced it since (T27).
    AcknowledgeSuperseded,
    /// Cuts the log behind every append, also behind an old one (T21).
    TruncateOnEveryAppend,
    /// Answers reads without asking whether it still leads (T62).
    ReadWithoutRound,
    /// Votes for whoever asks first, whatever its log has (T09).
    VoteWithoutLogCheck,
    /// Grants a second vote in a term (T06).
    ForgetVote,
}

impl Raft {
    /// Makes the core make a mistake.
    #[cfg(feature = "mutants")]
    pub fn set_mutant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
    }

    /// Returns whether this mistake is to be made.
    #[cfg(feature = "mutants")]
    pub(super) fn is_mutant(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Returns whether this mistake is to be made: never.
    #[cfg(not(feature = "mutants"))]
    #[inline]
    #[allow(clippy::unused_self, reason = "has the shape of the other one")]
    pub(super) fn is_mutant(&self, _: Mutant) -> bool {
        false
    }
}
