//! Three Kontiki nodes under `kontiki cluster`, and a client that speaks just enough RESP.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::{Failure, START_TIME_MAX};

const BASE_PORT: u16 = 17_001;

/// The cluster; it ends when this is dropped.
pub(crate) struct Kontiki {
    pub(crate) pids: Vec<u32>,
    addresses: Vec<String>,
    process: Process,
}

impl Kontiki {
    /// Starts three nodes and returns once a leader serves.
    pub(crate) async fn start(binary: &Path, dir: &Path) -> Result<Self, Failure> {
        let ready_file = dir.join("kontiki-ready.json");
        let mut command = Command::new(binary);
        command.args(["cluster", "--quiet", "--nodes", "3", "--base-port", &BASE_PORT.to_string()]);
        command.arg("--dir").arg(dir.join("kontiki")).arg("--ready-file").arg(&ready_file);
        let mut process = Process::start(command, &dir.join("kontiki.log"))?;
        let since = Instant::now();
        while !ready_file.exists() {
            process.check().map_err(|error| format!("kontiki cluster: {error}"))?;
            if since.elapsed() > START_TIME_MAX {
                return Err("kontiki cluster: not ready in time".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let ready: serde_json::Value = serde_json::from_slice(&fs::read(&ready_file)?)?;
        let nodes = ready["nodes"].as_array().ok_or("no nodes in the ready file")?;
        let mut pids = Vec::new();
        let mut addresses = Vec::new();
        for node in nodes {
            pids.push(u32::try_from(node["process_id"].as_u64().ok_or("a node is not up")?)?);
            addresses.push(node["resp_addr"].as_str().ok_or("a node has no address")?.to_owned());
        }
        Ok(Self { pids, addresses, process })
    }

    /// Returns the address of the node that leads now.
    pub(crate) async fn leader(&mut self) -> Result<String, Failure> {
        self.process.check()?;
        for address in &self.addresses {
            let info = Resp::connect(address).await?.call(&[b"INFO", b"replication"]).await?;
            if info.is_some_and(|info| String::from_utf8_lossy(&info).contains("role:master")) {
                return Ok(address.clone());
            }
        }
        Err("no Kontiki node leads".into())
    }
}

/// One connection, one outstanding command.
pub(crate) struct Resp {
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl Resp {
    pub(crate) async fn connect(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), out: Vec::new() })
    }

    pub(crate) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.call(&[b"SET", key, value]).await.map(|_| ())
    }

    pub(crate) async fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.call(&[b"GET", key]).await
    }

    /// Sends a command and returns the line or bulk string that answers it.
    async fn call(&mut self, parts: &[&[u8]]) -> Result<Option<Vec<u8>>, Failure> {
        self.out.clear();
        self.out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
        for part in parts {
            self.out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            self.out.extend_from_slice(part);
            self.out.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&self.out).await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+", text)) => Ok(Some(text.into())),
            Some(("$", "-1")) | Some(("_", _)) => Ok(None),
            Some(("$", length)) => {
                let length: usize = length.parse()?;
                let mut bulk = vec![0; length + 2];
                self.stream.read_exact(&mut bulk).await?;
                bulk.truncate(length);
                Ok(Some(bulk))
            }
            _ => Err(format!("Kontiki answered {line:?}").into()),
        }
    }
}
