//! The client against a node that follows a script: what is sent again, and what is said when the deadline passes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kontiki::client::{Client, ClientError, ClientOptions, Trouble};
use kontiki::kv::{CommandError, Reply};
use kontiki::proto::native::{
    Call, CallEnd, ClientCall, ClientHello, Failure, FrameCutter, Refusal, ServerFrame, WireError,
};
use kontiki::raft::{Index, NodeId};
use kontiki::transport::certs::Authority;
use kontiki::transport::tls::{CLIENT_ALPN, NodeTls};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint};
use tempfile::TempDir;

use crate::nodes::{Nodes, PATIENCE};

/// What the node does with a write.
enum Act {
    End(CallEnd),
    Ignore,
    Break,
}

/// A node that opens sessions 1, 2, … and does with the nth write (from 0) what the script says.
struct Scripted {
    certs: TempDir,
    endpoint: Endpoint,
    seen: Arc<Seen>,
}

struct Seen {
    script: Box<dyn Fn(usize) -> Act + Send + Sync>,
    /// (session, sequence) of each write that came.
    writes: Mutex<Vec<(u64, u64)>>,
    sessions: Mutex<i64>,
}

impl Scripted {
    fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Scripted {
        let certs = Nodes::certs();
        let dir = certs.path().join("node-1");
        Authority::open(certs.path()).unwrap().issue_node(NodeId(1), &[], &dir).unwrap();
        let tls = NodeTls::load(&dir).unwrap().client_door(&[CLIENT_ALPN]).unwrap();
        let crypto = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let config = quinn::ServerConfig::with_crypto(crypto);
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let seen = Seen { script: Box::new(script), writes: Mutex::default(), sessions: Mutex::default() };
        let seen = Arc::new(seen);
        let scripted = Scripted { certs, endpoint: endpoint.clone(), seen: seen.clone() };
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                tokio::spawn(serve(connection, seen.clone()));
            }
        });
        scripted
    }

    async fn client(&self, deadline: Duration) -> Client {
        let endpoint = self.endpoint.local_addr().unwrap().to_string();
        let options = ClientOptions { deadline, ..ClientOptions::default() };
        let client = Client::connect(vec![endpoint], Nodes::client_tls_of(&self.certs), options).await;
        client.unwrap()
    }

    fn writes(&self) -> Vec<(u64, u64)> {
        self.seen.writes.lock().unwrap().clone()
    }
}

/// Ends when the connection does; the script is followed across connections.
async fn serve(connection: Connection, seen: Arc<Seen>) -> Result<(), WireError> {
    let Ok((mut output, mut input)) = connection.accept_bi().await else {
        return Ok(());
    };
    let mut frames = FrameCutter::new(1 << 20);
    let mut is_welcome = false;
    while let Ok(Some(chunk)) = input.read_chunk(usize::MAX, true).await {
        frames.push(chunk.bytes);
        while let Some(frame) = frames.take_frame()? {
            let answer = if is_welcome {
                let ClientCall { id, call, .. } = ClientCall::decode(frame)?;
                match seen.act(&call) {
                    Act::End(end) => ServerFrame::Ended { id, end },
                    Act::Ignore => continue,
                    Act::Break => return Ok(()), // Dropping the connection closes it.
                }
            } else {
                ClientHello::decode(frame)?;
                is_welcome = true;
                let leader = String::new();
                ServerFrame::Welcome { version: 1, node: NodeId(1), entry_bytes_max: 1 << 20, leader }
            };
            let _closed_meanwhile = output.write_all_chunks(&mut answer.encode()).await;
        }
    }
    Ok(())
}

impl Seen {
    fn act(&self, call: &Call) -> Act {
        match call {
            Call::OpenSession => {
                let mut sessions = self.sessions.lock().unwrap();
                *sessions += 1;
                applied(Reply::Integer(*sessions))
            }
            Call::Write { session, seq, first_unanswered, .. } => {
                assert!(first_unanswered <= seq);
                let mut writes = self.writes.lock().unwrap();
                writes.push((*session, *seq));
                (self.script)(writes.len() - 1)
            }
            Call::Query(_) => Act::End(CallEnd::Answer(Reply::Nil)),
            Call::Ping => Act::Ignore,
        }
    }
}

fn applied(reply: Reply) -> Act {
    Act::End(CallEnd::Applied { index: Index(1), reply })
}

fn failed(failure: Failure) -> Act {
    Act::End(CallEnd::Failed { failure, leader: String::new() })
}

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_write_keeps_its_number_until_a_reply_comes() {
    let node = Scripted::start(|n| match n {
        0 => Act::Break,
        1 => failed(Failure::Refused(Refusal::NoLeader)),
        2 => failed(Failure::Uncertain),
        3 => failed(Failure::Refused(Refusal::Overloaded)),
        4 => failed(Failure::Refused(Refusal::Loading)),
        _ => applied(Reply::Ok),
    });
    let client = node.client(PATIENCE).await;
    client.put("a", "1").await.unwrap();
    client.put("a", "2").await.unwrap();
    assert_eq!(node.writes(), [(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 2)]);
}

#[tokio::test]
async fn not_executed_is_said_only_when_no_attempt_is_open() {
    let refused = || failed(Failure::Refused(Refusal::NoLeader));
    let node = Scripted::start(move |_| refused());
    match node.client(SHORT).await.put("a", "1").await {
        Err(ClientError::Unavailable(Trouble::NoLeader)) => {}
        other => panic!("{other:?}"),
    }
    for first in [|| Act::Break, || Act::Ignore, || failed(Failure::Uncertain)] {
        let node = Scripted::start(move |n| if n == 0 { first() } else { failed(Failure::Refused(Refusal::NoLeader)) });
        let ended = node.client(Duration::from_secs(2)).await.put("a", "1").await;
        assert!(matches!(ended, Err(ClientError::Uncertain)), "{ended:?}");
        assert!(node.writes().len() > 1, "it was not tried again");
    }
    // A refusal that will not change is told at once, unless an earlier attempt is open.
    for (refusal, first) in [(Refusal::NoSpace, false), (Refusal::TooLarge, false), (Refusal::NoSpace, true)] {
        let node =
            Scripted::start(move |n| if first && n == 0 { Act::Break } else { failed(Failure::Refused(refusal)) });
        match (first, node.client(SHORT).await.put("a", "1").await) {
            (false, Err(ClientError::NoSpace | ClientError::TooLarge)) => assert_eq!(node.writes().len(), 1),
            (true, Err(ClientError::Uncertain)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_lost_session_is_replaced_only_if_the_write_was_certainly_not_executed() {
    let expired = || applied(Reply::Error(CommandError::SessionExpired));
    let node = Scripted::start(move |n| if n == 1 { expired() } else { applied(Reply::Ok) });
    let client = node.client(PATIENCE).await;
    client.put("a", "1").await.unwrap();
    client.put("a", "2").await.unwrap();
    assert_eq!(node.writes(), [(1, 1), (1, 2), (2, 1)]);

    let node = Scripted::start(move |n| if n == 0 { Act::Break } else { expired() });
    let ended = node.client(PATIENCE).await.put("a", "1").await;
    assert!(matches!(ended, Err(ClientError::SessionLost)), "{ended:?}");
    let stale = || applied(Reply::Error(CommandError::SessionStale));
    let node = Scripted::start(move |_| stale());
    let ended = node.client(PATIENCE).await.put("a", "1").await;
    assert!(matches!(ended, Err(ClientError::SessionLost)), "{ended:?}");
}

/// A reader never hears "uncertain": asking again does no harm.
#[tokio::test]
async fn reads_survive_a_broken_connection() {
    let node = Scripted::start(|_| Act::Break);
    let client = node.client(PATIENCE).await;
    let hasty = client.with_deadline(SHORT);
    let (broken, read) = tokio::join!(hasty.put("a", Bytes::from_static(b"1")), client.get("a"));
    assert!(matches!(broken, Err(ClientError::Uncertain)), "{broken:?}");
    assert_eq!(read.unwrap(), None);
}
