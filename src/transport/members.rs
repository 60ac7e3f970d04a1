//! Who this node is, whom it expects, and whether a hello is from one of them. Decisions only; no socket.

use std::collections::BTreeMap;

use crate::proto::peer::{Hello, PROTOCOL_VERSION};
use crate::raft::NodeId;

use super::identity::{CertIdentity, CertRole};
use super::refusal::{Refusal, RefusalReason, Refuser};

/// One expected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMember {
    /// Where it is heard, `host:port`.
    pub addr: String,
    /// The storage that its id is bound to, if the configuration says so.
    pub storage_uuid: Option<u128>,
}

/// What this node says of itself.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) id: NodeId,
    pub(super) cluster: String,
    pub(super) cluster_id: u128,
    pub(super) storage_uuid: u128,
    pub(super) boot: u64,
    pub(super) client_addr: String,
}

impl Local {
    pub(super) fn hello(&self, history: u128) -> Hello {
        Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            cluster_id: self.cluster_id,
            history,
            node: self.id,
            storage_uuid: self.storage_uuid,
            boot: self.boot,
            client_addr: self.client_addr.clone(),
        }
    }

    /// Returns the node that a certificate speaks for, if it is one of this cluster.
    pub(super) fn check_certificate(&self, cert: &CertIdentity) -> Result<NodeId, Refusal> {
        if cert.cluster != self.cluster {
            let text = format!("certificate {cert}, but this is cluster {}", self.cluster);
            return Err(refuse(RefusalReason::Cluster, text));
        }
        match cert.role {
            CertRole::Node(id) => Ok(id),
            CertRole::Client(_) | CertRole::Authority => {
                Err(refuse(RefusalReason::Identity, format!("certificate {cert} is not a node's")))
            }
        }
    }

    /// Returns the protocol version to speak with the sender of `hello`, whose certificate is `certified`'s.
    pub(super) fn check_hello(
        &self,
        hello: &Hello,
        certified: NodeId,
        history: u128,
        members: &BTreeMap<NodeId, PeerMember>,
    ) -> Result<u16, Refusal> {
        let Hello { node, cluster_id, .. } = hello;
        if *node != certified || *node == self.id {
            let text =
                format!("node {} heard a hello of node {node} under the certificate of node {certified}", self.id);
            return Err(refuse(RefusalReason::Identity, text));
        }
        if *cluster_id != self.cluster_id {
            let text = format!("node {node} is of cluster {cluster_id:032x}, this is {:032x}", self.cluster_id);
            return Err(refuse(RefusalReason::Cluster, text));
        }
        let Some(version) = self.hello(history).common_version(hello) else {
            let Hello { version_min, version_max, .. } = hello;
            let text =
                format!("node {node} speaks versions {version_min} to {version_max}, this node {PROTOCOL_VERSION}");
            return Err(refuse(RefusalReason::Version, text));
        };
        let Some(member) = members.get(node) else {
            return Err(refuse(RefusalReason::NotAMember, format!("node {node} is not a member of this cluster")));
        };
        check_bindings(hello, member, history)?;
        Ok(version)
    }
}

/// Checks what may change while a connection lives: the storage that the id is bound to, and the history.
pub(super) fn check_bindings(hello: &Hello, member: &PeerMember, history: u128) -> Result<(), Refusal> {
    let Hello { node, storage_uuid, .. } = hello;
    if let Some(bound) = member.storage_uuid.filter(|bound| bound != storage_uuid) {
        let text = format!(
            "node {node} comes with storage {storage_uuid:032x}, but its id is bound to {bound:032x}: \
             remove the node and add it again"
        );
        return Err(refuse(RefusalReason::Storage, text));
    }
    if hello.history != 0 && history != 0 && hello.history != history {
        let text = format!("node {node} is of history {:032x}, this node of {history:032x}", hello.history);
        return Err(refuse(RefusalReason::History, text));
    }
    Ok(())
}

fn refuse(reason: RefusalReason, text: String) -> Refusal {
    Refusal { by: Refuser::Us, reason, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(id: u64) -> Local {
        Local {
            id: NodeId(id),
            cluster: "blue".into(),
            cluster_id: 7,
            storage_uuid: 70 + u128::from(id),
            boot: 1,
            client_addr: "h:1".into(),
        }
    }

    /// Node 1 hears node 2, with one thing changed at a time.
    #[test]
    fn each_foreign_hello_has_its_reason() {
        let member = |storage_uuid| PeerMember { addr: "h:2".into(), storage_uuid };
        let members = BTreeMap::from([(NodeId(2), member(Some(72))), (NodeId(4), member(None))]);
        let heard = |hello: Hello, certified: u64| {
            local(1).check_hello(&hello, NodeId(certified), 9, &members).map_err(|refusal| refusal.reason)
        };
        let hello = |id| local(id).hello(9);
        assert_eq!(heard(hello(2), 2), Ok(PROTOCOL_VERSION));
        assert_eq!(heard(hello(4), 4), Ok(PROTOCOL_VERSION), "not bound yet");
        assert_eq!(heard(Hello { history: 0, ..hello(2) }, 2), Ok(PROTOCOL_VERSION), "an empty log has no history");
        assert_eq!(heard(hello(2), 4), Err(RefusalReason::Identity));
        assert_eq!(heard(hello(1), 1), Err(RefusalReason::Identity), "itself");
        assert_eq!(heard(hello(3), 3), Err(RefusalReason::NotAMember));
        assert_eq!(heard(Hello { cluster_id: 8, ..hello(2) }, 2), Err(RefusalReason::Cluster));
        assert_eq!(heard(Hello { history: 8, ..hello(2) }, 2), Err(RefusalReason::History));
        assert_eq!(heard(Hello { storage_uuid: 73, ..hello(2) }, 2), Err(RefusalReason::Storage));
        assert_eq!(heard(Hello { version_min: 2, version_max: 3, ..hello(2) }, 2), Err(RefusalReason::Version));
    }

    #[test]
    fn only_nodes_of_this_cluster_may_speak() {
        let cert = |cluster: &str, role| CertIdentity { cluster: cluster.into(), role };
        let checked = |cert| local(1).check_certificate(&cert).map_err(|refusal| refusal.reason);
        assert_eq!(checked(cert("blue", CertRole::Node(NodeId(2)))), Ok(NodeId(2)));
        assert_eq!(checked(cert("red", CertRole::Node(NodeId(2)))), Err(RefusalReason::Cluster));
        assert_eq!(checked(cert("blue", CertRole::Client("x".into()))), Err(RefusalReason::Identity));
        assert_eq!(checked(cert("blue", CertRole::Authority)), Err(RefusalReason::Identity));
    }
}
