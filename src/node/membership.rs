//! The node's upkeep of the cluster: binding members to their storage, ending dead sessions, handing over.

use crate::kv::{Command, Operation, SessionId};
use crate::proto::entry::{self, Body};
use crate::raft::{Configuration, LogId, Message, NodeId, RoleName};

use super::Node;
use super::event::RequestId;
use super::request::WriteSession;

/// At most this many sessions are ended by one entry.
const CLOSING_BATCH: usize = 1024;

/// The request of the node's own upkeep: connection 0, which nobody owns.
const UPKEEP: RequestId = RequestId { connection: 0, number: 0, is_write: true };

impl Node {
    /// Returns whether a message may be given to the core: answers of a node that this one's newest configuration does
    /// not bind to its storage count in no quorum. It might be a blank disk under a known id, which would vote for and
    /// acknowledge anything. While the log is empty there is nothing to forget.
    pub(super) fn counts(&self, from: NodeId, message: &Message) -> bool {
        let bound = self.raft.configuration().members.get(&from).and_then(|member| member.storage_uuid);
        let shown = self.peers.get(&from).map(|peer| peer.storage_uuid);
        let is_bound = bound.is_some() && bound == shown;
        match message {
            Message::VoteReply { .. } | Message::PreVoteReply { .. } => {
                is_bound || self.raft.last() == LogId::default()
            }
            Message::AppendReply { .. } | Message::HeartbeatReply { .. } => {
                is_bound || self.raft.role() != RoleName::Leader
            }
            Message::PreVote { .. }
            | Message::Vote { .. }
            | Message::Append { .. }
            | Message::Heartbeat { .. }
            | Message::ReadIndex { .. }
            | Message::ReadIndexReply { .. }
            | Message::TimeoutNow { .. } => true,
        }
    }

    /// As leader, records what is newly known of a member: its storage, and where it is reached.
    ///
    /// Bindings change no quorum, so they need no barrier and may stand one upon another.
    pub(super) fn maybe_bind_members(&mut self) {
        if self.raft.role() != RoleName::Leader {
            return;
        }
        let current = self.raft.configuration();
        let wanted = self.bound(current);
        if wanted != *current {
            // Refused while leadership is being handed over: the next leader binds.
            let _refused = self.raft.propose_configuration(wanted).is_err();
        }
    }

    fn bound(&self, current: &Configuration) -> Configuration {
        let mut wanted = current.clone();
        for (id, member) in &mut wanted.members {
            let Some((storage_uuid, client_addr)) = self.known(*id) else { continue };
            if member.storage_uuid.is_none_or(|bound| bound == storage_uuid) {
                member.storage_uuid = Some(storage_uuid);
                client_addr.clone_into(&mut member.client_addr);
            }
        }
        wanted
    }

    fn known(&self, id: NodeId) -> Option<(u128, &str)> {
        if id == self.settings.raft.id {
            return Some((self.settings.storage_uuid, &self.settings.client_addr));
        }
        let peer = self.peers.get(&id)?;
        Some((peer.storage_uuid, &peer.client_addr))
    }

    /// Before the first session of this life, ends those of earlier lives.
    pub(super) fn announce_boot(&mut self) {
        if !self.boot_announced {
            self.boot_announced = true;
            let node = self.settings.raft.id.0;
            self.write_upkeep(Command::CloseOtherBoots { node, boot: self.settings.boot });
        }
    }

    /// Ends the sessions of connections that are gone.
    pub(super) fn end_closed_sessions(&mut self) {
        if self.leadership.leader.is_some() && self.front.closing() > 0 {
            let sessions: Vec<SessionId> = self.front.take_closing(CLOSING_BATCH);
            self.write_upkeep(Command::CloseSessions { sessions });
        }
    }

    fn write_upkeep(&mut self, command: Command) {
        let entry = entry::encode(&Body::Operation(Operation::Command(command)));
        // Nobody waits for it, so it is never given up.
        let token = self.front.admit(UPKEEP, WriteSession::None, entry, u64::MAX);
        let _waits = !self.hand_on(token);
    }

    /// Gives leadership to the member that has most of the log, if this node leads and there is one.
    pub(super) fn hand_over(&mut self) {
        let voters = &self.raft.configuration().members;
        let is_voter = |id: NodeId| voters.get(&id).is_some_and(|member| member.voter);
        let peers = self.raft.peers().into_iter().filter(|peer| peer.is_active && is_voter(peer.id));
        if let Some(target) = peers.max_by_key(|peer| peer.matched).map(|peer| peer.id) {
            // Refused only if leadership is gone meanwhile, which is what was wanted.
            let _refused = self.raft.transfer(target).is_err();
        }
    }
}
