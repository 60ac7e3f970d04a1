//! Finds a node that serves, the leader if one is known, and keeps one link for all calls of a client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::transport::tls::ClientTls;

use super::link::{DialError, Link, dial};

/// The next node is dialed if the ones before it have not answered after so long.
const STAGGER: Duration = Duration::from_millis(100);

/// How many hops towards the leader one search follows.
const HOPS_MAX: u32 = 2;

/// Where the cluster is, and how this client proves itself.
pub(super) struct Connector {
    tls: ClientTls,
    password: Bytes,
    follows_leader: bool,
    /// Held while dialing: callers that come meanwhile use what it finds.
    dialing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

struct State {
    link: Option<Arc<Link>>,
    /// As given, rotated so that the node to try first comes first.
    endpoints: Vec<String>,
}

impl Connector {
    pub(super) fn new(endpoints: Vec<String>, tls: ClientTls, password: Bytes, follows_leader: bool) -> Connector {
        let state = Mutex::new(State { link: None, endpoints });
        Connector { tls, password, follows_leader, dialing: tokio::sync::Mutex::new(()), state }
    }

    /// Returns the open link, or opens one.
    pub(super) async fn link(&self) -> Result<Arc<Link>, DialError> {
        if let Some(link) = self.open_link() {
            return Ok(link);
        }
        let _only_one_dials = self.dialing.lock().await;
        if let Some(link) = self.open_link() {
            return Ok(link);
        }
        let mut link = self.dial_any().await?;
        for _ in 0..HOPS_MAX {
            if !self.follows_leader || link.leader.is_empty() || link.leader == link.address {
                break;
            }
            // What any node takes, the leader takes a hop sooner. If it cannot be reached, this node forwards.
            let Ok(Ok(leader)) = tokio::time::timeout(STAGGER * 5, self.dial(&link.leader)).await else {
                break;
            };
            link.leave();
            link = leader;
        }
        self.state.lock().link = Some(link.clone());
        Ok(link)
    }

    /// Turns away from a node that does not serve; the next search begins with `towards`, or with another node.
    pub(super) fn leave(&self, link: &Arc<Link>, towards: &str) {
        let mut state = self.state.lock();
        if !state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            return; // Another call has done so.
        }
        state.link = None;
        link.leave();
        let is_left = |endpoint: &String| *endpoint == link.address;
        if let Some(at) = state.endpoints.iter().position(is_left) {
            let left = state.endpoints.remove(at);
            state.endpoints.push(left);
        }
        if let Some(at) = state.endpoints.iter().position(|endpoint| endpoint == towards) {
            state.endpoints[..=at].rotate_right(1);
        }
    }

    fn open_link(&self) -> Option<Arc<Link>> {
        self.state.lock().link.clone().filter(|link| !link.is_closed())
    }

    async fn dial(&self, address: &str) -> Result<Arc<Link>, DialError> {
        dial(address, &self.tls, self.password.clone()).await
    }

    /// Dials all endpoints, each a little after the one before it; the first that answers wins.
    async fn dial_any(&self) -> Result<Arc<Link>, DialError> {
        let endpoints = self.state.lock().endpoints.clone();
        let mut dials = JoinSet::new();
        let mut delay = Duration::ZERO;
        for endpoint in endpoints {
            let (tls, password) = (self.tls.clone(), self.password.clone());
            dials.spawn(async move {
                sleep(delay).await;
                dial(&endpoint, &tls, password).await
            });
            delay += STAGGER;
        }
        let mut failed = DialError::Unreachable("no endpoint is given".to_owned());
        while let Some(dialed) = dials.join_next().await {
            match dialed {
                Ok(Ok(link)) => return Ok(link),
                // That one node does not let us in says more than that another one is not there.
                Ok(Err(error)) if matches!(failed, DialError::Unreachable(_)) => failed = error,
                Ok(Err(_)) => {}
                Err(panicked) => failed = DialError::Unreachable(panicked.to_string()),
            }
        }
        Err(failed)
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        if let Some(link) = self.state.lock().link.take() {
            link.leave();
        }
    }
}
