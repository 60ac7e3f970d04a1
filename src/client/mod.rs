//! The native client: sessions, deadlines, retries, leader discovery.
//!
//! A write that returns has taken effect exactly once, whatever leaders, connections or nodes died meanwhile: each has a
//! number in a replicated session, is sent again under that number until a reply comes, and nodes repeat the reply of one
//! they have executed. Reads are linearizable.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kontiki::client::{Client, ClientOptions};
//! use kontiki::transport::tls::ClientTls;
//!
//! let tls = ClientTls::load("kontiki-data/certs".as_ref())?;
//! let endpoints = ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"].map(str::to_owned);
//! let client = Client::connect(endpoints.into(), tls, ClientOptions::default()).await?;
//! client.put("raft", "balsa").await?;
//! client.append("raft", " and hemp").await?;
//! assert_eq!(client.get("raft").await?.unwrap(), "balsa and hemp");
//! # Ok(())
//! # }
//! ```
#![allow(clippy::disallowed_methods, reason = "a client has deadlines")]

mod call;
mod connector;
mod error;
mod link;
mod session;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::kv::{Command, Exec, Operation, Query, Reply, Set, SetCondition};
use crate::proto::entry::{self, Body};
use crate::transport::tls::ClientTls;

use call::{Attempts, unexpected};
use connector::Connector;
pub use error::{ClientError, Denied, Trouble};
use session::Session;

/// How much later than the opening of a session its waiter gives up.
const SESSION_GRACE: Duration = Duration::from_millis(50);

/// How a client behaves.
#[derive(Clone)]
pub struct ClientOptions {
    /// How long a call may take, all attempts together.
    pub deadline: Duration,
    /// The cluster's password, if the client has no certificate.
    pub password: Option<Bytes>,
    /// Whether to look for the leader, which answers writes a hop sooner than other nodes.
    pub follows_leader: bool,
}

/// A client of one cluster. Cheap to clone; clones share a connection and a session. Calls of one client may be under way
/// at the same time, up to 200 writes; those have no order among each other.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    deadline: Duration,
}

struct Inner {
    connector: Connector,
    /// Opened by the first write.
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
}

/// A value and the revision of its key: the log index of the last write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The revision.
    pub revision: u64,
}

/// One row of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision.
    pub revision: u64,
}

/// What a key must hold for [`Client::compare_and_set`] to set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the key is absent.
    Absent,
    /// This value.
    Value(Bytes),
    /// A value whose revision is this one.
    Revision(u64),
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions { deadline: Duration::from_secs(5), password: None, follows_leader: true }
    }
}

impl Client {
    /// Connects to the first of `endpoints` (client addresses, `host:port`) that lets this client in.
    ///
    /// # Errors
    ///
    /// [`ClientError::Denied`], or [`ClientError::Unavailable`] if no node answers before the deadline.
    pub async fn connect(
        endpoints: Vec<String>,
        tls: ClientTls,
        options: ClientOptions,
    ) -> Result<Client, ClientError> {
        let password = options.password.unwrap_or_default();
        let connector = Connector::new(endpoints, tls, password, options.follows_leader);
        let inner = Arc::new(Inner { connector, session: tokio::sync::Mutex::default() });
        let client = Client { inner, deadline: options.deadline };
        client.attempts().connect().await?;
        Ok(client)
    }

    /// Returns the same client with another deadline for its calls.
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        Client { inner: self.inner.clone(), deadline }
    }

    /// Sets `key` to `value`.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), ClientError> {
        match self.write(set(key.into(), value.into(), SetCondition::Always)).await? {
            Reply::Ok => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Appends `value` to what `key` holds, nothing if it is absent. Returns the new length in bytes.
    pub async fn append(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, ClientError> {
        count(self.write(Command::Append { key: key.into(), value: value.into() }).await?)
    }

    /// Deletes keys. Returns how many were there.
    pub async fn delete(&self, keys: Vec<Bytes>) -> Result<u64, ClientError> {
        count(self.write(Command::Delete { keys }).await?)
    }

    /// Sets `key` to `value` if it holds what is expected. Returns whether it did.
    pub async fn compare_and_set(
        &self,
        key: impl Into<Bytes>,
        expected: Expected,
        value: impl Into<Bytes>,
    ) -> Result<bool, ClientError> {
        let condition = match expected {
            Expected::Absent => SetCondition::IfAbsent,
            Expected::Value(old) => SetCondition::IfEqual(old),
            Expected::Revision(revision) => SetCondition::IfRevision(revision),
        };
        match self.write(set(key.into(), value.into(), condition)).await? {
            Reply::Ok => Ok(true),
            Reply::Nil => Ok(false),
            other => Err(unexpected(&other)),
        }
    }

    /// Executes several commands at one point of the log if all conditions hold. Returns the replies of the commands in
    /// order, or `None` if a condition does not hold.
    pub async fn transaction(&self, exec: Exec) -> Result<Option<Vec<Reply>>, ClientError> {
        match self.write_operation(Operation::Exec(exec)).await? {
            Reply::Array(replies) => Ok(Some(replies)),
            Reply::Nil => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns the value of `key`.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, ClientError> {
        match self.query(Query::Get { key: key.into() }).await? {
            Reply::Bulk(value) => Ok(Some(value)),
            Reply::Nil => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns the value and the revision of `key`.
    pub async fn get_versioned(&self, key: impl Into<Bytes>) -> Result<Option<Versioned>, ClientError> {
        match self.query(Query::GetRevision { key: key.into() }).await? {
            Reply::Array(fields) => match fields.as_slice() {
                [Reply::Bulk(value), Reply::Integer(revision)] => {
                    Ok(Some(Versioned { value: value.clone(), revision: revision.unsigned_abs() }))
                }
                other => Err(unexpected(&other)),
            },
            Reply::Nil => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns up to `limit` rows in the order of their keys, from `start` (inclusive; `None`: the first) to `end` (exclusive;
    /// `None`: the last), all of one moment.
    pub async fn range(&self, start: Option<Bytes>, end: Option<Bytes>, limit: u64) -> Result<Vec<Row>, ClientError> {
        let reply = self.query(Query::Range { start, end, limit, with_revision: true }).await?;
        let Reply::Array(flat) = reply else {
            return Err(unexpected(&reply));
        };
        let row = |fields: &[Reply]| match fields {
            [Reply::Bulk(key), Reply::Bulk(value), Reply::Integer(revision)] => {
                Ok(Row { key: key.clone(), value: value.clone(), revision: revision.unsigned_abs() })
            }
            other => Err(unexpected(&other)),
        };
        flat.chunks(3).map(row).collect()
    }

    /// Asks any query of the state.
    pub async fn query(&self, query: Query) -> Result<Reply, ClientError> {
        self.attempts().query(query).await
    }

    /// Executes any command, exactly once.
    pub async fn write(&self, command: Command) -> Result<Reply, ClientError> {
        self.write_operation(Operation::Command(command)).await
    }

    async fn write_operation(&self, operation: Operation) -> Result<Reply, ClientError> {
        let entry = entry::encode(&Body::Operation(operation)).freeze();
        let deadline = Instant::now() + self.deadline;
        let mut attempts = Attempts::write(&self.inner.connector, deadline);
        let too_many = || ClientError::Unavailable(Trouble::Overloaded);
        loop {
            // Opening a session knows its own deadline and what stood in its way; only waiting for another call does not.
            let session =
                timeout_at(deadline + SESSION_GRACE, self.session(deadline)).await.map_err(|_| too_many())??;
            let ticket = timeout_at(deadline, session.ticket()).await.map_err(|_| too_many())?;
            if let Some(reply) = attempts.send(&ticket, &entry).await? {
                return Ok(reply);
            }
            // The session was gone before the write came: certainly not executed. It goes on under a new one.
        }
    }

    /// Returns the open session, or opens one. One that is lost is replaced; writes under way in it end by themselves.
    async fn session(&self, deadline: Instant) -> Result<Arc<Session>, ClientError> {
        let mut session = self.inner.session.lock().await;
        if let Some(open) = session.as_ref().filter(|session| !session.is_lost()) {
            return Ok(open.clone());
        }
        let opened = Arc::new(Attempts::harmless(&self.inner.connector, deadline).open_session().await?);
        *session = Some(opened.clone());
        Ok(opened)
    }

    fn attempts(&self) -> Attempts<'_> {
        Attempts::harmless(&self.inner.connector, Instant::now() + self.deadline)
    }
}

fn set(key: Bytes, value: Bytes, condition: SetCondition) -> Command {
    Command::Set(Set { key, value, condition, return_old: false, deadline_ms: None, keep_deadline: false })
}

fn count(reply: Reply) -> Result<u64, ClientError> {
    match reply {
        Reply::Integer(count) => Ok(count.unsigned_abs()),
        other => Err(unexpected(&other)),
    }
}
