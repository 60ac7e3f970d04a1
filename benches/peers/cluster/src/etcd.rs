//! Three etcd nodes as packaged, fsync on, and a client of the few gRPC calls that the loads need.
//!
//! The messages are written by hand (field numbers of etcd's rpc.proto), so that no protoc is needed.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::process::Process;
use crate::{Failure, START_TIME_MAX};

const CLIENT_PORTS: [u16; 3] = [17_501, 17_502, 17_503];
const PEER_PORTS: [u16; 3] = [17_511, 17_512, 17_513];

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The answers whose fields nobody reads.
#[derive(Clone, PartialEq, Message)]
struct Empty {}

/// Linearizable, as `serializable` (field 7) is left out.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// Returns the first line of `etcd --version`, or `None` if etcd is not installed.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.replace("etcd Version: ", ""))
}

/// The cluster; it ends when this is dropped.
pub(crate) struct Etcd {
    pub(crate) pids: Vec<u32>,
    processes: Vec<Process>,
}

impl Etcd {
    /// Starts three nodes and returns once a leader is known.
    pub(crate) async fn start(dir: &Path) -> Result<Self, Failure> {
        let members: Vec<_> = (0..3).map(|i| format!("e{i}=http://127.0.0.1:{}", PEER_PORTS[i])).collect();
        let mut processes = Vec::new();
        for i in 0..3 {
            let client = format!("http://127.0.0.1:{}", CLIENT_PORTS[i]);
            let peer = format!("http://127.0.0.1:{}", PEER_PORTS[i]);
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("e{i}"), "--initial-cluster", &members.join(",")]);
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.arg("--data-dir").arg(dir.join(format!("etcd-{i}")));
            processes.push(Process::start(command, &dir.join(format!("etcd-{i}.log")))?);
        }
        let mut etcd = Self { pids: processes.iter().map(Process::id).collect(), processes };
        let since = Instant::now();
        while let Err(error) = etcd.leader().await {
            if since.elapsed() > START_TIME_MAX {
                return Err(format!("etcd is not ready: {error}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(etcd)
    }

    /// Returns the address of the node that leads now.
    pub(crate) async fn leader(&mut self) -> Result<String, Failure> {
        for process in &mut self.processes {
            process.check()?;
        }
        for port in CLIENT_PORTS {
            let address = format!("http://127.0.0.1:{port}");
            let path = "/etcdserverpb.Maintenance/Status";
            let status: StatusResponse = EtcdClient::connect(&address).await?.call(path, Empty {}).await?;
            if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(address);
            }
        }
        Err("no etcd node leads".into())
    }
}

/// One HTTP/2 channel, one outstanding call.
pub(crate) struct EtcdClient(Grpc<Channel>);

impl EtcdClient {
    pub(crate) async fn connect(address: &str) -> Result<Self, Failure> {
        Ok(Self(Grpc::new(Endpoint::from_shared(address.to_owned())?.connect().await?)))
    }

    pub(crate) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let request = PutRequest { key: key.to_vec(), value: value.to_vec() };
        let _: Empty = self.call("/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    pub(crate) async fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let response: RangeResponse = self.call("/etcdserverpb.KV/Range", RangeRequest { key: key.to_vec() }).await?;
        Ok(response.kvs.into_iter().next().map(|kv| kv.value))
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(self.0.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }
}
