//! Who is connected: what CLIENT LIST shows, and the way to close a connection from another.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One connection, as others see it. Its own task keeps it up to date, once a wake-up.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    /// Where it comes from.
    pub(super) address: SocketAddr,
    /// Where it came to.
    pub(super) local_address: SocketAddr,
    pub(super) connected: Instant,
    pub(super) named: Mutex<Named>,
    /// 2 or 3.
    pub(super) version: AtomicU8,
    /// Whether it reads possibly stale local state.
    pub(super) is_readonly: AtomicBool,
    /// Milliseconds from `connected` to its newest command.
    pub(super) active_ms: AtomicU64,
    pub(super) input_bytes: AtomicUsize,
    pub(super) input_free_bytes: AtomicUsize,
    pub(super) output_bytes: AtomicUsize,
    /// Whether it proved itself, if it must.
    pub(super) is_authenticated: AtomicBool,
    /// Milliseconds from `connected` to when it last had to prove itself.
    pub(super) challenged_ms: AtomicU64,
    /// Milliseconds from `connected` to when it last took some of its output, or had none.
    pub(super) sent_ms: AtomicU64,
    end: AtomicU8,
    woken: Notify,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It does.
    NotYet,
    /// It takes no more commands, and closes when all are answered.
    WhenAnswered,
    /// It closes at once.
    Now,
}

/// What a client says about itself, and its newest command.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub(super) name: Bytes,
    pub(super) library: Bytes,
    pub(super) library_version: Bytes,
    pub(super) command: &'static str,
}

impl Client {
    /// Ends the connection: its task wakes up for it. The stronger of two ends counts.
    pub(super) fn close(&self, end: End) {
        self.end.fetch_max(end as u8, Ordering::AcqRel);
        self.woken.notify_one();
    }

    /// Returns whether the connection goes on.
    pub(super) fn end(&self) -> End {
        match self.end.load(Ordering::Acquire) {
            0 => End::NotYet,
            1 => End::WhenAnswered,
            _ => End::Now,
        }
    }

    /// Waits until [`Client::close`] is called. Cancel-safe.
    pub(super) async fn closed(&self) {
        self.woken.notified().await;
    }

    /// Returns whole milliseconds since it connected.
    pub(super) fn age_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.connected).as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns its line of CLIENT LIST, without the line's end.
    pub(super) fn line(&self, now: Instant) -> String {
        let named = self.named.lock().clone();
        let age_ms = self.age_ms(now);
        let idle_ms = age_ms.saturating_sub(self.active_ms.load(Ordering::Relaxed));
        let output_bytes = self.output_bytes.load(Ordering::Relaxed);
        let input_bytes = self.input_bytes.load(Ordering::Relaxed);
        let input_free_bytes = self.input_free_bytes.load(Ordering::Relaxed);
        let mut line = format!("id={} addr={} laddr={}", self.id, self.address, self.local_address);
        let rest = write!(
            line,
            " fd=-1 name={} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf={input_bytes} qbuf-free={input_free_bytes} \
             argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={output_bytes} oll=0 omem={output_bytes} tot-mem={} events=r cmd={} user=default \
             redir=-1 resp={} lib-name={} lib-ver={}",
            String::from_utf8_lossy(&named.name),
            age_ms / 1000,
            idle_ms / 1000,
            if self.is_readonly.load(Ordering::Relaxed) { "r" } else { "N" },
            input_bytes + input_free_bytes + output_bytes,
            if named.command.is_empty() { "NULL" } else { named.command },
            self.version.load(Ordering::Relaxed),
            String::from_utf8_lossy(&named.library),
            String::from_utf8_lossy(&named.library_version),
        );
        assert!(rest.is_ok(), "writing to a string does not fail");
        line
    }
}

/// All connections of one listener, by id.
#[derive(Debug, Default)]
pub(super) struct Clients {
    open: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
}

impl Clients {
    /// Registers a new connection, unless `count_max` are open.
    pub(super) fn insert(
        &self,
        address: SocketAddr,
        local_address: SocketAddr,
        now: Instant,
        count_max: usize,
    ) -> Option<Arc<Client>> {
        let mut open = self.open.lock();
        if open.len() >= count_max {
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            address,
            local_address,
            connected: now,
            named: Mutex::default(),
            version: AtomicU8::new(2),
            is_readonly: AtomicBool::new(false),
            active_ms: AtomicU64::new(0),
            input_bytes: AtomicUsize::new(0),
            input_free_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            is_authenticated: AtomicBool::new(false),
            challenged_ms: AtomicU64::new(0),
            sent_ms: AtomicU64::new(0),
            end: AtomicU8::new(0),
            woken: Notify::new(),
        });
        open.insert(id, Arc::clone(&client));
        Some(client)
    }

    /// Forgets a closed connection.
    pub(super) fn remove(&self, id: u64) {
        self.open.lock().remove(&id);
    }

    /// Returns how many are open.
    pub(super) fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Returns all that are open, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.open.lock().values().cloned().collect()
    }
}
