//! The listening sockets of a node, and the servers behind them on a runtime of their own.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::server::http::{self, HttpOptions};
use crate::server::native::{self, NativeOptions};
use crate::server::resp::{self, RespOptions};
use crate::transport::tls::NodeTls;

use super::handle::Handle;
use super::metrics::Registry;
use super::options::{FailureClass, StartOptions};
use super::start::{NodeFailure, failure};

/// Worker threads of the servers' runtime: parsing and formatting is all they do.
const SERVER_THREADS: usize = 2;

/// The addresses for clients, bound before any thread is started, so that a taken one is told at once.
#[derive(Debug)]
pub(super) struct ClientSockets {
    resp: TcpListener,
    native: UdpSocket,
    http: TcpListener,
}

impl ClientSockets {
    /// The peers' address is only tried: the transport binds it.
    pub(super) fn bind(options: &StartOptions) -> Result<ClientSockets, NodeFailure> {
        drop(udp(options.peer_listen, "peer-addr")?);
        Ok(ClientSockets {
            resp: tcp(options.client_listen, "client-addr")?,
            native: udp(options.client_listen, "client-addr")?,
            http: tcp(options.http_listen, "http-addr")?,
        })
    }
}

fn tcp(address: SocketAddr, flag: &str) -> Result<TcpListener, NodeFailure> {
    let listener = TcpListener::bind(address).map_err(|error| refused(address, flag, "TCP", &error))?;
    listener.set_nonblocking(true).map_err(|error| refused(address, flag, "TCP", &error))?;
    Ok(listener)
}

fn udp(address: SocketAddr, flag: &str) -> Result<UdpSocket, NodeFailure> {
    native::bind(address).map_err(|error| refused(address, flag, "UDP", &error))
}

/// Puts into words why an address cannot be listened on.
pub(super) fn refused(address: SocketAddr, flag: &str, protocol: &str, error: &io::Error) -> NodeFailure {
    let (class, advice) = match error.kind() {
        io::ErrorKind::AddrInUse => (FailureClass::Unavailable, "stop the program that has it, or choose another port"),
        _ => (FailureClass::Configuration, "choose an address of this machine that this user may listen on"),
    };
    NodeFailure { class, message: format!("--{flag} {address} ({protocol}): {error}; {advice}") }
}

/// The servers of one node.
#[derive(Debug)]
pub(super) struct Doors {
    runtime: Runtime,
    shutdown: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl Doors {
    /// Opens every door. Must be called once; the sockets are bound already.
    pub(super) fn open(
        options: &StartOptions,
        tls: &NodeTls,
        handle: &Handle,
        registry: &Arc<Registry>,
        sockets: ClientSockets,
    ) -> Result<Doors, NodeFailure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(SERVER_THREADS)
            .thread_name("kontiki-door")
            .enable_all()
            .build()
            .map_err(|error| failure(FailureClass::Io, &error))?;
        let (shutdown, watching) = watch::channel(false);
        let _inside = runtime.enter();
        let from_std =
            |listener| tokio::net::TcpListener::from_std(listener).map_err(|error| failure(FailureClass::Io, &error));
        let resp = resp::serve(
            from_std(sockets.resp)?,
            handle.clone(),
            resp_options(options, handle, registry),
            watching.clone(),
        );
        let native = native::serve(
            sockets.native,
            handle.clone(),
            native_options(options, handle, tls.clone()),
            watching.clone(),
        );
        let http = http::serve(from_std(sockets.http)?, handle.clone(), http_options(options, registry), watching);
        let servers = vec![
            runtime.spawn(log_end("resp", resp)),
            runtime.spawn(log_end("native", native)),
            runtime.spawn(log_end("http", http)),
        ];
        drop(_inside);
        Ok(Doors { runtime, shutdown, servers })
    }

    /// Asks every server to accept nothing more and to end what is under way.
    pub(super) fn stop_accepting(&self) {
        self.shutdown.send_replace(true);
    }

    /// Waits for the servers to end, at most until `deadline`.
    pub(super) fn close(self, deadline: Instant) {
        let servers = self.servers;
        let all = async move {
            for server in servers {
                let _ended = server.await.is_ok();
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let _in_time = self.runtime.block_on(async { tokio::time::timeout(left, all).await }).is_ok();
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

async fn log_end(door: &'static str, server: impl Future<Output = io::Result<()>>) {
    if let Err(error) = server.await {
        tracing::error!(door, %error, "door closed");
    }
}

fn resp_options(options: &StartOptions, handle: &Handle, registry: &Arc<Registry>) -> RespOptions {
    RespOptions {
        password: options.password.clone(),
        max_clients: usize::try_from(options.max_clients).unwrap_or(usize::MAX),
        max_value_bytes: usize::try_from(options.max_value_bytes).unwrap_or(usize::MAX),
        max_entry_bytes: handle.shared.journal.entry_bytes_max(),
        request_timeout: options.request_timeout,
        registry: Arc::clone(registry),
    }
}

fn native_options(options: &StartOptions, handle: &Handle, tls: NodeTls) -> NativeOptions {
    NativeOptions {
        tls,
        password: options.password.clone(),
        is_proof_required: false,
        max_clients: usize::try_from(options.max_clients).unwrap_or(usize::MAX),
        max_value_bytes: usize::try_from(options.max_value_bytes).unwrap_or(usize::MAX),
        max_entry_bytes: handle.shared.journal.entry_bytes_max(),
    }
}

fn http_options(options: &StartOptions, registry: &Arc<Registry>) -> HttpOptions {
    HttpOptions {
        password: options.password.clone(),
        request_timeout: options.request_timeout,
        registry: Arc::clone(registry),
    }
}
