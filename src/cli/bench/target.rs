//! Where operations go: a connection for each client, by the native protocol or by RESP.

use std::time::Duration;

use super::super::exit::{Exit, Failure};
use super::super::reach::Reach;
use super::super::resp::{RespClient, RespError, Value};
use super::Protocol;
use super::load::Operation;
use crate::runtime::Password;

/// A cluster, and how to reach it.
pub(super) struct Target {
    protocol: Protocol,
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
    Resp(RespConnection),
}

/// A RESP connection that is made anew, at the next node, when it breaks.
pub(super) struct RespConnection {
    client: Option<RespClient>,
    endpoints: Vec<String>,
    /// The node of the connection, or to try next.
    at: usize,
    password: Option<Password>,
    timeout: Duration,
}

impl Target {
    /// Reads what is needed to connect.
    pub(super) fn new(protocol: Protocol, reach: &Reach) -> Result<Target, Failure> {
        Ok(Target {
            protocol,
            endpoints: reach.endpoints.0.clone(),
            password: reach.password()?,
            timeout: reach.timeout,
        })
    }

    /// Connects one client; clients spread over the nodes.
    pub(super) async fn connect(&self, client: u32) -> Result<Connection, Failure> {
        let first = client as usize % self.endpoints.len();
        match self.protocol {
            Protocol::Resp => {
                let mut connection = RespConnection {
                    client: None,
                    endpoints: self.endpoints.clone(),
                    at: first,
                    password: self.password.clone(),
                    timeout: self.timeout,
                };
                for _ in 0..self.endpoints.len() {
                    match connection.ensure().await {
                        Ok(_) => return Ok(Connection::Resp(connection)),
                        Err(RespError::Refused(text)) => return Err(Failure::new(Exit::Failed, text)),
                        Err(_) => connection.drop_client(),
                    }
                }
                Err(Failure::new(
                    Exit::Unavailable,
                    format!(
                        "no node answers at {}; start a cluster with 'kontiki cluster', or name others with --endpoints",
                        self.endpoints.join(", ")
                    ),
                ))
            }
        }
    }
}

impl Connection {
    /// Executes one operation.
    pub(super) async fn execute(&mut self, operation: Operation, key: &[u8], value: &[u8]) -> Fate {
        match self {
            Connection::Resp(connection) => connection.execute(operation, key, value).await,
        }
    }
}

impl RespConnection {
    async fn ensure(&mut self) -> Result<&mut RespClient, RespError> {
        if self.client.is_none() {
            let connecting = RespClient::connect(&self.endpoints[self.at], self.password.as_ref());
            let connected = tokio::time::timeout(self.timeout, connecting).await;
            self.client = Some(connected.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??);
        }
        Ok(self.client.as_mut().expect("connected above"))
    }

    /// Gives the connection up; the next one goes to the next node.
    fn drop_client(&mut self) {
        self.client = None;
        self.at = (self.at + 1) % self.endpoints.len();
    }

    async fn execute(&mut self, operation: Operation, key: &[u8], value: &[u8]) -> Fate {
        // Twice what the node takes at most: whoever is silent for longer is gone.
        let patience = self.timeout * 2;
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
        (Operation::Get, Value::Nil) => Fate::Refused("a key that was written is not there".to_owned()),
        (_, other) => Fate::Refused(format!("a reply that makes no sense: {other:?}")),
    }
}
