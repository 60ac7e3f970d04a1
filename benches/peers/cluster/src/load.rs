//! The closed-loop loads: each client has one connection and one outstanding operation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::etcd::{Etcd, EtcdClient};
use crate::kontiki::{Kontiki, Resp};
use crate::process::cpu_seconds;
use crate::{Failure, Sample};

/// How many keys the loads share; all are written before the first round.
const KEYS: u64 = 1_000;
const VALUE: [u8; 128] = [b'v'; 128];

/// What each client does, and how many clients there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    is_put: bool,
    clients: usize,
}

/// Every load there is.
pub(crate) const LOADS: [Load; 4] = [
    Load { name: "put-1", is_put: true, clients: 1 },
    Load { name: "put-64", is_put: true, clients: 64 },
    Load { name: "get-1", is_put: false, clients: 1 },
    Load { name: "get-64", is_put: false, clients: 64 },
];

/// A system under load.
pub(crate) enum Peer {
    Kontiki(Kontiki),
    Etcd(Etcd),
}

enum Client {
    Kontiki(Resp),
    Etcd(EtcdClient),
}

impl Client {
    async fn put(&mut self, key: u64) -> Result<(), Failure> {
        let key = format!("key:{key:012}");
        match self {
            Self::Kontiki(client) => client.put(key.as_bytes(), &VALUE).await,
            Self::Etcd(client) => client.put(key.as_bytes(), &VALUE).await,
        }
    }

    async fn get(&mut self, key: u64) -> Result<(), Failure> {
        let key = format!("key:{key:012}");
        let value = match self {
            Self::Kontiki(client) => client.get(key.as_bytes()).await?,
            Self::Etcd(client) => client.get(key.as_bytes()).await?,
        };
        if value.as_deref() == Some(&VALUE) { Ok(()) } else { Err(format!("{key} reads {value:?}").into()) }
    }
}

impl Peer {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kontiki(_) => "kontiki",
            Self::Etcd(_) => "etcd",
        }
    }

    fn pids(&self) -> &[u32] {
        match self {
            Self::Kontiki(kontiki) => &kontiki.pids,
            Self::Etcd(etcd) => &etcd.pids,
        }
    }

    /// Connects clients to the leader.
    async fn connect(&mut self, clients: usize) -> Result<Vec<Client>, Failure> {
        let mut connected = Vec::new();
        match self {
            Self::Kontiki(kontiki) => {
                let leader = kontiki.leader().await?;
                for _ in 0..clients {
                    connected.push(Client::Kontiki(Resp::connect(&leader).await?));
                }
            }
            Self::Etcd(etcd) => {
                let leader = etcd.leader().await?;
                for _ in 0..clients {
                    connected.push(Client::Etcd(EtcdClient::connect(&leader).await?));
                }
            }
        }
        Ok(connected)
    }

    /// Writes every key once.
    pub(crate) async fn fill(&mut self) -> Result<(), Failure> {
        for client in &mut self.connect(1).await? {
            for key in 0..KEYS {
                client.put(key).await?;
            }
        }
        Ok(())
    }

    /// Runs `load` for `time`. Any failed operation fails the run.
    pub(crate) async fn run(&mut self, load: Load, time: Duration) -> Result<Sample, Failure> {
        let clients = self.connect(load.clients).await?;
        let start = Arc::new(Barrier::new(load.clients + 1));
        let mut tasks = JoinSet::new();
        for (at, client) in (0_u64..).zip(clients) {
            tasks.spawn(work(client, load, at, time, Arc::clone(&start)));
        }
        let cpu_before = cpu_seconds(self.pids())?;
        start.wait().await;
        let since = Instant::now();
        let mut latencies = Histogram::<u64>::new(3)?;
        while let Some(done) = tasks.join_next().await {
            latencies.add(done??)?;
        }
        let seconds = since.elapsed().as_secs_f64();
        let cpu = cpu_seconds(self.pids())? - cpu_before;
        let operations = f64::from(u32::try_from(latencies.len())?);
        Ok(Sample {
            ops_per_second: operations / seconds,
            p50_us: latencies.value_at_quantile(0.5),
            p99_us: latencies.value_at_quantile(0.99),
            cpu_seconds_per_1000: cpu / operations * 1000.0,
        })
    }
}

/// One client's loop; returns its latencies in µs.
async fn work(
    mut client: Client,
    load: Load,
    at: u64,
    time: Duration,
    start: Arc<Barrier>,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = Histogram::new(3)?;
    start.wait().await;
    let since = Instant::now();
    let mut key = at * 17;
    while since.elapsed() < time {
        key = (key + 7) % KEYS; // 7 and 1,000 have no common factor: each client walks over all keys.
        let sent = Instant::now();
        if load.is_put {
            client.put(key).await?
        } else {
            client.get(key).await?
        }
        latencies.record(u64::try_from(sent.elapsed().as_micros())?.max(1))?;
    }
    Ok(latencies)
}
