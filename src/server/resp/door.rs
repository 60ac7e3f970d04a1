//! What all connections of one RESP listener share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clients::Clients;
use super::connection::Taken;
use super::scan::Cursors;
use super::translate::Bounds;
use crate::proto::resp::Limits;
use crate::runtime::metrics::{Counter, Gauge, Histogram, Registry};
use crate::runtime::{NodeStatus, Password};
use crate::server::KEY_BYTES_MAX;

/// Bytes of one command, and of a connection's unread input.
const INPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Arguments of one command.
const ARGUMENTS_MAX: usize = 1024 * 1024;

/// What a RESP listener is started with.
#[derive(Clone, Debug)]
pub struct RespOptions {
    /// What clients must know, if anything.
    pub password: Option<Password>,
    /// The most connections served at once.
    pub max_clients: usize,
    /// The longest value in bytes.
    pub max_value_bytes: usize,
    /// The longest log entry in bytes: a command with its arguments, encoded.
    pub max_entry_bytes: usize,
    /// How long a request may take before it is answered with an error.
    pub request_timeout: Duration,
    /// Where the listener's counters are registered.
    pub registry: Arc<Registry>,
}

/// What the node says about itself now.
pub(super) struct NodeView {
    pub(super) status: Box<dyn Fn() -> Arc<NodeStatus> + Send + Sync>,
    pub(super) is_loading: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The shared part.
pub(super) struct Door {
    pub(super) options: RespOptions,
    pub(super) address: SocketAddr,
    pub(super) clients: Clients,
    pub(super) cursors: Mutex<Cursors>,
    pub(super) counters: Counters,
    /// Changed by CONFIG SET maxclients.
    pub(super) max_clients: AtomicUsize,
    pub(super) node: NodeView,
}

impl Door {
    /// Returns a listener's shared part with nobody connected. `random` keeps the cursors of different nodes apart.
    pub(super) fn new(options: RespOptions, address: SocketAddr, random: u64, node: NodeView) -> Door {
        Door {
            address,
            clients: Clients::default(),
            cursors: Mutex::new(Cursors::new(random)),
            counters: Counters::new(&options.registry),
            max_clients: AtomicUsize::new(options.max_clients),
            node,
            options,
        }
    }

    /// Returns what a connection may send.
    pub(super) fn limits(&self, is_authenticated: bool) -> Limits {
        Limits {
            arguments: ARGUMENTS_MAX,
            bulk_bytes: self.options.max_value_bytes.max(KEY_BYTES_MAX),
            command_bytes: INPUT_BYTES_MAX,
            authenticated: is_authenticated,
        }
    }

    /// Returns what values may be.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { value_bytes_max: self.options.max_value_bytes }
    }

    /// Returns what the node says about itself now.
    pub(super) fn status(&self) -> Arc<NodeStatus> {
        (self.node.status)()
    }

    /// Counts what a connection took.
    pub(super) fn count(&self, taken: &Taken) {
        for (counter, count) in [
            (&self.counters.local_commands, taken.local),
            (&self.counters.reads, taken.reads),
            (&self.counters.writes, taken.writes),
        ] {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// Counts a connection that was opened or closed.
    pub(super) fn count_connections(&self) {
        self.counters.open_connections.set(self.clients.count() as u64);
    }

    /// Returns how many connections may be open.
    pub(super) fn max_clients(&self) -> usize {
        self.max_clients.load(Ordering::Relaxed)
    }
}

/// What is counted, for `/metrics` and INFO.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) connections: Counter,
    pub(super) open_connections: Gauge,
    pub(super) refused_connections: Counter,
    pub(super) local_commands: Counter,
    pub(super) reads: Counter,
    pub(super) writes: Counter,
    pub(super) errors: Counter,
    pub(super) protocol_errors: Counter,
    pub(super) input_bytes: Counter,
    pub(super) output_bytes: Counter,
    pub(super) read_latency: Histogram,
    pub(super) write_latency: Histogram,
    /// The values at the last CONFIG RESETSTAT: INFO shows what came since, `/metrics` never goes back.
    pub(super) reset: Mutex<Totals>,
}

/// The sums that INFO shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) connections: u64,
    pub(super) refused_connections: u64,
    pub(super) commands: u64,
    pub(super) errors: u64,
    pub(super) input_bytes: u64,
    pub(super) output_bytes: u64,
}

impl Counters {
    fn new(registry: &Registry) -> Counters {
        const COMMANDS: &str = "Commands taken from RESP clients, by what they need: local, read (state), write (log).";
        const LATENCY: &str = "From the arrival of a RESP command to its reply.";
        let commands = |class: &str| registry.counter("kontiki_resp_commands_total", class, COMMANDS);
        let latency = |class: &str| registry.histogram("kontiki_resp_latency_seconds", class, LATENCY);
        Counters {
            connections: registry.counter("kontiki_resp_connections_total", "", "RESP connections accepted."),
            open_connections: registry.gauge("kontiki_resp_connections", "", "Open RESP connections."),
            refused_connections: registry.counter(
                "kontiki_resp_refused_connections_total",
                "",
                "RESP connections refused because --max-clients were open.",
            ),
            local_commands: commands("class=\"local\""),
            reads: commands("class=\"read\""),
            writes: commands("class=\"write\""),
            errors: registry.counter("kontiki_resp_errors_total", "", "Commands answered with an error."),
            protocol_errors: registry.counter(
                "kontiki_resp_protocol_errors_total",
                "",
                "Connections closed because of bytes that are not RESP, or beyond the limits.",
            ),
            input_bytes: registry.counter("kontiki_resp_input_bytes_total", "", "Bytes received from RESP clients."),
            output_bytes: registry.counter("kontiki_resp_output_bytes_total", "", "Bytes sent to RESP clients."),
            read_latency: latency("class=\"read\""),
            write_latency: latency("class=\"write\""),
            reset: Mutex::default(),
        }
    }

    /// Returns the sums since the last reset.
    pub(super) fn totals(&self) -> Totals {
        let reset = self.reset.lock();
        let all = self.absolute(); // Under the lock: never older than the reset.
        Totals {
            connections: all.connections - reset.connections,
            refused_connections: all.refused_connections - reset.refused_connections,
            commands: all.commands - reset.commands,
            errors: all.errors - reset.errors,
            input_bytes: all.input_bytes - reset.input_bytes,
            output_bytes: all.output_bytes - reset.output_bytes,
        }
    }

    /// Lets [`Counters::totals`] begin at 0 again.
    pub(super) fn reset(&self) {
        let mut reset = self.reset.lock();
        *reset = self.absolute();
    }

    fn absolute(&self) -> Totals {
        Totals {
            connections: self.connections.value(),
            refused_connections: self.refused_connections.value(),
            commands: self.local_commands.value() + self.reads.value() + self.writes.value(),
            errors: self.errors.value(),
            input_bytes: self.input_bytes.value(),
            output_bytes: self.output_bytes.value(),
        }
    }
}
