//! The listening socket: accepts connections up to the limit, and ends those that may not go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::clients::{Client, End};
use super::connection::Connection;
use super::door::{Door, NodeView, RespOptions};
use super::pipeline::OUTPUT_BYTES_PAUSE;
use crate::runtime::Handle;

/// With a password set, a client must have proved itself within this time.
const AUTH_TIME_MAX: Duration = Duration::from_secs(10);

/// A client with much unsent output must take some of it within this time.
const STALL_TIME_MAX: Duration = Duration::from_secs(10);

/// How often clients are looked at for these two.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How long to wait after accepting failed, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// After this time at a stop, connections that are still not answered are closed all the same.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

/// Serves RESP on `listener` until `shutdown` is true (or its sender gone): then it accepts no more, answers what is under
/// way, closes every connection and returns. Must run inside a tokio runtime, on which it spawns one task a connection.
///
/// Returns an error only if the listener has no local address.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    options: RespOptions,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let (node, loading) = (handle.clone(), handle.clone());
    let view = NodeView { status: Box::new(move || node.status()), is_loading: Box::new(move || loading.is_loading()) };
    let door = Arc::new(Door::new(options, listener.local_addr()?, rand::random(), view));
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => begin(stream, &door, &handle),
                Err(error) => {
                    tracing::warn!(%error, "a RESP connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = sweep.tick() => end_overdue(&door, Instant::now()),
            () = stopping(&mut shutdown) => break,
        }
    }
    drop(listener);
    stop(&door).await;
    Ok(())
}

/// Waits for the stop, or for its sender to be gone.
async fn stopping(shutdown: &mut watch::Receiver<bool>) {
    let _told = shutdown.wait_for(|is_stopping| *is_stopping).await.is_ok();
}

/// Starts the task of a new connection, or refuses it.
fn begin(stream: TcpStream, door: &Arc<Door>, handle: &Handle) {
    door.counters.connections.increment();
    let (Ok(address), Ok(local_address)) = (stream.peer_addr(), stream.local_addr()) else {
        return; // Gone already.
    };
    let Some(client) = door.clients.insert(address, local_address, Instant::now(), door.max_clients()) else {
        door.counters.refused_connections.increment();
        refuse(&stream);
        return;
    };
    door.count_connections();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a RESP connection without TCP_NODELAY");
    }
    let connection = Connection::new(stream, Arc::clone(&client), Arc::clone(door), handle.clone());
    tokio::spawn(async move {
        if let Err(error) = connection.run().await {
            tracing::debug!(client = client.id, address = %client.address, %error, "a RESP connection broke");
        }
    });
}

/// Says why, if the socket takes it at once.
fn refuse(stream: &TcpStream) {
    const TEXT: &[u8] = b"-ERR max number of clients reached\r\n";
    // A new socket has room. If it breaks, there is nobody to tell.
    let told = rustix::io::write(stream, TEXT);
    tracing::debug!(?told, "a RESP connection refused: --max-clients are open");
}

/// Closes who did not prove itself in time, and who does not take its output.
fn end_overdue(door: &Door, now: Instant) {
    for client in door.clients.all() {
        if let Some(why) = overdue(&client, now) {
            tracing::info!(client = client.id, address = %client.address, why, "a RESP connection is closed");
            client.close(End::Now);
        }
    }
}

fn overdue(client: &Client, now: Instant) -> Option<&'static str> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let age_ms = client.age_ms(now);
    let unproved_ms = age_ms.saturating_sub(client.challenged_ms.load(Ordering::Relaxed));
    if !client.is_authenticated.load(Ordering::Relaxed) && unproved_ms > millis(AUTH_TIME_MAX) {
        return Some("no AUTH within 10 s");
    }
    let unsent = client.output_bytes.load(Ordering::Relaxed);
    let still_ms = age_ms.saturating_sub(client.sent_ms.load(Ordering::Relaxed));
    (unsent > OUTPUT_BYTES_PAUSE && still_ms > millis(STALL_TIME_MAX)).then_some("its output is not read")
}

/// Lets every connection answer what is under way, then close.
async fn stop(door: &Door) {
    let until = Instant::now() + STOP_TIME_MAX;
    for client in door.clients.all() {
        client.close(End::WhenAnswered);
    }
    while door.clients.count() > 0 {
        if Instant::now() > until {
            for client in door.clients.all() {
                client.close(End::Now);
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
