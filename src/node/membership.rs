//! The node's upkeep of the cluster: binding members to their storage, ending dead sessions, handing over.

use crate::kv::{Command, Operation, SessionId};
use crate::proto::entry::{self, Body};
use crate::raft::{Configuration, NodeId, RoleName};

use super::Node;
use super::event::RequestId;
use super::request::WriteSession;

/// At most this many sessions are ended by one entry.
const CLOSING_BATCH: usize = 1024;

/// An upkeep write that finds no leader for this long is given up.
const UPKEEP_DEADLINE_MS: u64 = 60_000;

/// The request of the node's own upkeep: connection 0, which nobody owns.
const UPKEEP: RequestId = RequestId { connection: 0, number: 0, is_write: true };

impl Node {
    /// As leader, records what is newly known of a member: its storage, and where it is reached.
    ///
    /// Bindings change no quorum; one change is under way at a time.
    pub(super) fn maybe_bind_members(&mut self) {
        let is_settled = self.raft.configuration_index() <= self.raft.commit();
        if self.raft.role() != RoleName::Leader || !is_settled || !self.raft.is_ready_to_read() {
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
        let deadline_ms = self.clock.monotonic_ms + UPKEEP_DEADLINE_MS;
        let token = self.front.admit(UPKEEP, WriteSession::None, entry, deadline_ms);
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
