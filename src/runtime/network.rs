//! Outgoing messages on their way to the transport: payloads are read from the log, frames are encoded here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::node::{Event, MemberView, NodeView, Outgoing};
use crate::proto::peer::{self, ForwardOutcome, PeerMessage};
use crate::raft::{Index, Message, NodeId};
use crate::storage::{Journal, JournalError};
use crate::transport::{NetworkError, PeerConfig, PeerEvent, PeerMember, PeerNetwork, Refusal, RefusalReason, Sent};

use super::inbox::Input;
use super::options::FailureClass;
use super::refusals::{Refusals, Standing};
use super::shared::Shared;

/// The peers of one node.
pub(super) struct Network {
    peers: PeerNetwork,
}

impl Network {
    /// Starts the transport; what it hears goes to the inbox of `shared`.
    pub(super) fn start(config: PeerConfig, shared: &Arc<Shared>) -> Result<Network, NetworkError> {
        let heard = Arc::clone(shared);
        let refusals = Mutex::new(Refusals::default());
        let peers = PeerNetwork::start(config, move |event| on_event(&heard, &refusals, event))?;
        Ok(Network { peers })
    }

    /// Tells the transport whom to expect now.
    pub(super) fn on_membership(&self, view: &NodeView) {
        self.peers.set_members(members_of(view));
    }

    /// Tells the transport the cluster's history.
    pub(super) fn on_history(&self, history: u128) {
        self.peers.set_history(history);
    }

    /// Sends everything a turn wants sent. What a peer's queue has no room for is dropped and counted there; returns
    /// the forwarded writes among it.
    pub(super) fn send_all(
        &self,
        sends: Vec<(NodeId, Outgoing)>,
        journal: &Journal,
    ) -> Result<Vec<(NodeId, u64)>, JournalError> {
        let mut unsent = Vec::new();
        for (to, outgoing) in sends {
            let message = match outgoing {
                Outgoing::Raft(message) => with_payloads(message, journal)?,
                Outgoing::Forward { request, entry } => PeerMessage::Forward { request, entry },
                Outgoing::ForwardEnded { request, outcome } => PeerMessage::ForwardReply { request, outcome },
            };
            if self.send(to, &message) != Sent::Queued
                && let PeerMessage::Forward { request, .. } = message
            {
                unsent.push((to, request));
            }
        }
        Ok(unsent)
    }

    /// Answers a forwarded write.
    pub(super) fn reply(&self, to: NodeId, request: u64, outcome: ForwardOutcome) {
        // A lost answer is asked for again by the front node.
        let _sent = self.send(to, &PeerMessage::ForwardReply { request, outcome });
    }

    fn send(&self, to: NodeId, message: &PeerMessage) -> Sent {
        self.peers.send(to, message.class(), peer::encode(message))
    }

    pub(super) fn stop(&self) {
        self.peers.stop();
    }
}

fn with_payloads(mut message: Message, journal: &Journal) -> Result<PeerMessage, JournalError> {
    let mut payloads = Vec::new();
    if let Message::Append { prev, entries, .. } = &mut message {
        let mut index = prev.index;
        for bytes in &mut entries.sizes {
            index = index.next();
            let payload = journal.payload(index)?;
            // The core sizes the entries that it makes itself by estimate.
            *bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            payloads.push(payload);
        }
    }
    Ok(PeerMessage::Raft { message, payloads })
}

/// Returns whom the newest configuration names, as the transport wants to know it.
pub(super) fn members_of(view: &NodeView) -> BTreeMap<NodeId, PeerMember> {
    let member = |member: &MemberView| PeerMember { addr: member.peer_addr.clone(), storage_uuid: member.storage_uuid };
    view.members.iter().map(|view| (view.id, member(view))).collect()
}

fn on_event(shared: &Shared, refusals: &Mutex<Refusals>, event: PeerEvent) {
    match event {
        PeerEvent::Message { from, message } => {
            // Dropped when too much waits: whoever sent it sends it again.
            let _taken = shared.inbox.offer(from, message);
        }
        PeerEvent::Connected { id, hello } => {
            refusals.lock().on_accepted();
            tracing::info!(peer = id.0, "peer connected");
            let event = Event::PeerUp { id, storage_uuid: hello.storage_uuid, client_addr: hello.client_addr };
            shared.inbox.push(Input::Event(event));
        }
        PeerEvent::Gone { id } => {
            tracing::info!(peer = id.0, "peer process gone");
            shared.inbox.push(Input::Event(Event::PeerGone { id }));
        }
        PeerEvent::Lost { id } => {
            tracing::info!(peer = id.0, "peer lost");
            shared.inbox.push(Input::Event(Event::PeerDown { id }));
        }
        PeerEvent::Refused { id, refusal } => on_refused(shared, refusals, id, &refusal),
    }
}

fn on_refused(shared: &Shared, refusals: &Mutex<Refusals>, id: NodeId, refusal: &Refusal) {
    tracing::warn!(peer = id.0, by = ?refusal.by, reason = ?refusal.reason, text = %refusal.text, "refused");
    let me = shared.identity.node_id;
    let standing = {
        let view = shared.view.lock();
        let voters = view.members.iter().filter(|member| member.voter && member.id.0 != me);
        Standing { is_log_empty: view.last == Index(0), others: voters.map(|member| member.id).collect() }
    };
    if refusals.lock().is_final(id, refusal, &standing) {
        let advice = match refusal.reason {
            RefusalReason::Cluster | RefusalReason::Identity | RefusalReason::Tls => {
                "; check --tls-dir and --initial-cluster"
            }
            RefusalReason::History => "; this data directory is of another history: start with an empty one",
            RefusalReason::Version | RefusalReason::NotAMember | RefusalReason::Storage => "",
        };
        let message = format!("node {me} is refused by node {id}: {}{advice}", refusal.text);
        shared.fail(FailureClass::Identity, message);
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}
