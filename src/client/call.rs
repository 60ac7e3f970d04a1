//! One call from its start to its end: attempts, pauses between them, and what is known when the deadline passes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::kv::{CommandError, Query, Reply};
use crate::proto::native::{Call, CallEnd, Failure, Refusal};

use super::connector::Connector;
use super::error::{ClientError, Trouble};
use super::link::{DialError, Link, Lost};
use super::session::{Session, Ticket};

/// A node that has not ended a call after so long is asked again, or another one is: it may be cut off.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);

/// Bounds of the pause between attempts: drawn from 0 up to a bound that doubles from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// One call under way.
pub(super) struct Attempts<'a> {
    connector: &'a Connector,
    deadline: Instant,
    failures: u32,
    /// Whether an attempt was sent whose fate is not known. Reads have no effect and leave nothing open.
    is_open: bool,
    has_effect: bool,
    trouble: Trouble,
}

/// How one attempt ended, if it ended well.
enum Step {
    Done(CallEnd),
    Again,
}

impl<'a> Attempts<'a> {
    /// Starts attempts at something that may be done twice without harm.
    pub(super) fn harmless(connector: &'a Connector, deadline: Instant) -> Attempts<'a> {
        Attempts { connector, deadline, failures: 0, is_open: false, has_effect: false, trouble: Trouble::Late }
    }

    /// Starts attempts at a write.
    pub(super) fn write(connector: &'a Connector, deadline: Instant) -> Attempts<'a> {
        Attempts { has_effect: true, ..Attempts::harmless(connector, deadline) }
    }

    /// Waits until some node lets this client in.
    pub(super) async fn connect(mut self) -> Result<(), ClientError> {
        while let Err(error) = self.link().await? {
            self.trouble = error;
            self.pause().await?;
        }
        Ok(())
    }

    /// Asks a query until it is answered.
    pub(super) async fn query(mut self, query: Query) -> Result<Reply, ClientError> {
        loop {
            match self.attempt(|| Call::Query(query.clone()), 0).await? {
                Step::Done(CallEnd::Answer(reply)) => return checked(reply),
                Step::Done(other) => return Err(unexpected(&other)),
                Step::Again => {}
            }
        }
    }

    /// Opens a session; one that is opened in vain expires by itself.
    pub(super) async fn open_session(mut self) -> Result<Session, ClientError> {
        loop {
            match self.attempt(|| Call::OpenSession, 0).await? {
                Step::Done(CallEnd::Applied { reply: Reply::Integer(number), .. }) => {
                    let number = u64::try_from(number);
                    return number.map(Session::new).map_err(|_| ClientError::Unexpected("session below 0".to_owned()));
                }
                Step::Done(other) => return Err(unexpected(&other)),
                Step::Again => {}
            }
        }
    }

    /// Sends a write until its end is known. `Ok(None)`: the session is gone and the write certainly was not executed.
    pub(super) async fn send(&mut self, ticket: &Ticket, entry: &Bytes) -> Result<Option<Reply>, ClientError> {
        loop {
            let was_open = self.is_open;
            let call = || Call::Write {
                session: ticket.session.number,
                seq: ticket.seq,
                first_unanswered: ticket.session.first_unanswered(),
                entry: entry.clone(),
            };
            match self.attempt(call, entry.len()).await? {
                Step::Done(CallEnd::Applied { reply: Reply::Error(CommandError::SessionExpired), .. }) => {
                    ticket.session.set_lost();
                    return if was_open { Err(ClientError::SessionLost) } else { Ok(None) };
                }
                Step::Done(CallEnd::Applied { reply: Reply::Error(CommandError::SessionStale), .. }) => {
                    return Err(ClientError::SessionLost);
                }
                Step::Done(CallEnd::Applied { reply, .. }) => return checked(reply).map(Some),
                Step::Done(other) => return Err(unexpected(&other)),
                Step::Again => {}
            }
        }
    }

    /// Makes one attempt, and pauses if there must be another.
    async fn attempt(&mut self, call: impl FnOnce() -> Call, entry_bytes: usize) -> Result<Step, ClientError> {
        let link = match self.link().await? {
            Ok(link) => link,
            Err(trouble) => {
                self.trouble = trouble;
                return self.pause().await;
            }
        };
        if entry_bytes > link.entry_bytes_max && !self.is_open {
            return Err(ClientError::TooLarge);
        }
        let left = self.deadline.saturating_duration_since(Instant::now()).min(ATTEMPT_MAX);
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        // The node ends it in time; if it does not, it may be cut off from this client.
        let ended = timeout_at(Instant::now() + left + ATTEMPT_MAX / 4, link.call(call(), left_ms)).await;
        match ended {
            Ok(Ok(CallEnd::Failed { failure, leader })) => self.on_failed(&link, failure, &leader).await,
            Ok(Ok(end)) => Ok(Step::Done(end)),
            Ok(Err(lost)) => {
                self.is_open |= self.has_effect && lost == Lost::Sent;
                self.trouble = Trouble::Unreachable(format!("{}: the connection broke", link.address));
                self.pause().await
            }
            Err(_) => {
                self.is_open |= self.has_effect;
                self.trouble = Trouble::Late;
                self.connector.leave(&link, "");
                self.pause().await
            }
        }
    }

    /// Returns a link, or what stands in its way for now.
    async fn link(&self) -> Result<Result<Arc<Link>, Trouble>, ClientError> {
        match timeout_at(self.deadline, self.connector.link()).await {
            Ok(Ok(link)) => Ok(Ok(link)),
            Ok(Err(DialError::Denied(denied))) if !self.is_open => Err(ClientError::Denied(denied)),
            Ok(Err(DialError::Denied(denied))) => Ok(Err(Trouble::Unreachable(denied.to_string()))),
            Ok(Err(DialError::Unreachable(why))) => Ok(Err(Trouble::Unreachable(why))),
            Err(_) => Err(self.end()),
        }
    }

    async fn on_failed(&mut self, link: &Arc<Link>, failure: Failure, leader: &str) -> Result<Step, ClientError> {
        match failure {
            Failure::Refused(Refusal::NoSpace) if !self.is_open => return Err(ClientError::NoSpace),
            Failure::Refused(Refusal::TooLarge) if !self.is_open => return Err(ClientError::TooLarge),
            Failure::Refused(Refusal::NoSpace | Refusal::TooLarge) => {}
            Failure::Refused(Refusal::NoLeader) => {
                self.trouble = Trouble::NoLeader;
                self.connector.leave(link, leader);
            }
            Failure::Refused(Refusal::Loading) => {
                self.trouble = Trouble::Loading;
                self.connector.leave(link, leader);
            }
            Failure::Refused(Refusal::Overloaded) => self.trouble = Trouble::Overloaded,
            Failure::Refused(refusal @ Refusal::Unsupported) => {
                self.trouble = Trouble::Unreachable(refusal.to_string());
                self.connector.leave(link, leader);
            }
            Failure::Uncertain => {
                self.is_open |= self.has_effect;
                self.connector.leave(link, leader);
            }
        }
        self.pause().await
    }

    async fn pause(&mut self) -> Result<Step, ClientError> {
        let bound = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures += 1;
        let until = Instant::now() + bound.mul_f64(rand::random());
        if until >= self.deadline {
            sleep_until(self.deadline).await;
            return Err(self.end());
        }
        sleep_until(until).await;
        Ok(Step::Again)
    }

    /// Returns what is known when the deadline has passed.
    fn end(&self) -> ClientError {
        if self.is_open { ClientError::Uncertain } else { ClientError::Unavailable(self.trouble.clone()) }
    }
}

fn checked(reply: Reply) -> Result<Reply, ClientError> {
    match reply {
        Reply::Error(error) => Err(ClientError::Command(error)),
        Reply::Ok | Reply::Nil | Reply::Integer(_) | Reply::Bulk(_) | Reply::Simple(_) | Reply::Array(_) => Ok(reply),
    }
}

pub(super) fn unexpected(what: &impl std::fmt::Debug) -> ClientError {
    ClientError::Unexpected(format!("{what:?}"))
}
