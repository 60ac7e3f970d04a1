//! Where operations go: a connection for each client, by the native protocol or by RESP.

use std::time::Duration;

use bytes::Bytes;

use super::super::exit::{Exit, Failure};
use super::super::native::Native;
use super::super::reach::Reach;
use super::super::resp::{RespClient, RespError, Value};
use super::Protocol;
use super::load::Operation;
use crate::client::{Client, ClientError};
use crate::runtime::Password;

/// What is said of a read that finds nothing.
const KEY_LOST: &str = "a key that was written is not there";

/// A cluster, and how to reach it.
pub(super) enum Target {
    Native(Native),
    Resp(RespTarget),
}

/// The doors of RESP.
#[derive(Clone)]
pub(super) struct RespTarget {
    endpoints: Vec<String>,
    password: Option<Password>,
    timeout: Duration,
}

/// How one operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// Certainly not executed.
    Refused(String),
    /// It may or may not have taken effect.
    Uncertain(String),
}

/// One client's way to the cluster.
pub(super) enum Connection {
    Native(Client),
    Resp(RespConnection),
}

/// A RESP connection that is made anew, at the next node, when it breaks.
pub(super) struct RespConnection {
    client: Option<RespClient>,
    target: RespTarget,
    /// The node of the connection, or to try next.
    at: usize,
}

impl Target {
    /// Reads what is needed to connect.
    pub(super) fn new(protocol: Protocol, reach: &Reach) -> Result<Target, Failure> {
        Ok(match protocol {
            Protocol::Native => Target::Native(Native::new(reach)?),
            Protocol::Resp => Target::Resp(RespTarget {
                endpoints: reach.endpoints.0.clone(),
                password: reach.password()?,
                timeout: reach.timeout,
            }),
        })
    }

    /// Connects one client; clients spread over the nodes.
    pub(super) async fn connect(&self, client: u32) -> Result<Connection, Failure> {
        match self {
            Target::Native(native) => Ok(Connection::Native(native.connect_from(client as usize).await?)),
            Target::Resp(target) => Ok(Connection::Resp(RespConnection::connect(target, client as usize).await?)),
        }
    }
}

impl Connection {
    /// Executes one operation.
    pub(super) async fn execute(&mut self, operation: Operation, key: Vec<u8>, value: &Bytes) -> Fate {
        match self {
            Connection::Native(client) => execute_native(client, operation, key, value).await,
            Connection::Resp(connection) => connection.execute(operation, &key, value).await,
        }
    }
}

async fn execute_native(client: &Client, operation: Operation, key: Vec<u8>, value: &Bytes) -> Fate {
    let ended = match operation {
        Operation::Put => client.put(key, value.clone()).await.map(|()| true),
        Operation::Append => client.append(key, value.clone()).await.map(|_| true),
        Operation::Get => client.get(key).await.map(|found| found.is_some()),
    };
    match ended {
        Ok(true) => Fate::Done,
        Ok(false) => Fate::Refused(KEY_LOST.to_owned()),
        Err(error @ (ClientError::Uncertain | ClientError::SessionLost)) => Fate::Uncertain(error.to_string()),
        Err(error) => Fate::Refused(error.to_string()),
    }
}

impl RespConnection {
    async fn connect(target: &RespTarget, first: usize) -> Result<RespConnection, Failure> {
        let endpoints = &target.endpoints;
        let mut connection = RespConnection { client: None, target: target.clone(), at: first % endpoints.len() };
        for _ in endpoints {
            match connection.ensure().await {
                Ok(_) => return Ok(connection),
                Err(RespError::Refused(text)) => return Err(Failure::new(Exit::Failed, text)),
                Err(RespError::Io(_) | RespError::Strange) => connection.drop_client(),
            }
        }
        Err(Failure::new(
            Exit::Unavailable,
            format!(
                "no node answers at {}; start a cluster with 'kontiki cluster', or name others with --endpoints",
                endpoints.join(", ")
            ),
        ))
    }

    async fn ensure(&mut self) -> Result<&mut RespClient, RespError> {
        if self.client.is_none() {
            let connecting = RespClient::connect(&self.target.endpoints[self.at], self.target.password.as_ref());
            let connected = tokio::time::timeout(self.target.timeout, connecting).await;
            self.client = Some(connected.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??);
        }
        Ok(self.client.as_mut().expect("connected above"))
    }

    /// Gives the connection up; the next one goes to the next node.
    fn drop_client(&mut self) {
        self.client = None;
        self.at = (self.at + 1) % self.target.endpoints.len();
    }

    async fn execute(&mut self, operation: Operation, key: &[u8], value: &[u8]) -> Fate {
        // Twice what the node takes at most: whoever is silent for longer is gone.
        let patience = self.target.timeout * 2;
        let client = match self.ensure().await {
            Ok(client) => client,
            Err(error) => {
                self.drop_client();
                return Fate::Refused(error.to_string());
            }
        };
        let words: &[&[u8]] = match operation {
            Operation::Put => &[b"SET", key, value],
            Operation::Get => &[b"GET", key],
            Operation::Append => &[b"APPEND", key, value],
        };
        let answer = tokio::time::timeout(patience, client.call(words)).await;
        let why = match answer {
            Ok(Ok(value)) => return fate(operation, &value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.drop_client();
        if operation == Operation::Get { Fate::Refused(why) } else { Fate::Uncertain(why) }
    }
}

fn fate(operation: Operation, value: &Value) -> Fate {
    match (operation, value) {
        (_, Value::Error(text)) if text.starts_with("UNCERTAIN") => Fate::Uncertain(text.clone()),
        (_, Value::Error(text)) => Fate::Refused(text.clone()),
        (Operation::Put, Value::Simple(text)) if text == "OK" => Fate::Done,
        (Operation::Append, Value::Integer(_)) => Fate::Done,
        (Operation::Get, Value::Bulk(_)) => Fate::Done,
        (Operation::Get, Value::Nil) => Fate::Refused(KEY_LOST.to_owned()),
        (_, other) => Fate::Refused(format!("a reply that makes no sense: {other:?}")),
    }
}
