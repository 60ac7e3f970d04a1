//! What ends a node from outside: SIGTERM, SIGINT, and the end of standard input when a supervisor holds it.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};

use super::super::exit::{Exit, Failure};
use crate::runtime::Stopper;

/// A node that has not ended this long after it was told to is ended: nothing acknowledged is lost by that.
const STOP_TIME_MAX: Duration = Duration::from_millis(4_700);

/// For the log lines of such an end.
const LAST_WORDS_TIME: Duration = Duration::from_millis(50);

/// The watch over signals and the supervisor; works from before the node starts.
pub(super) struct Ending {
    state: Arc<Mutex<State>>,
}

enum State {
    /// The node is not running yet: an end ends the process at once.
    Starting,
    Running(Stopper),
    Stopping,
}

/// Starts watching.
pub(super) fn watch(exit_with_parent: bool) -> Result<Ending, Failure> {
    let state = Arc::new(Mutex::new(State::Starting));
    let cannot = |error: std::io::Error| Failure::new(Exit::Io, format!("cannot watch for signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(cannot)?;
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate()).map_err(cannot)?, signal(SignalKind::interrupt()).map_err(cannot)?)
    };
    let on_signal = Arc::clone(&state);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => stop(&on_signal, "SIGTERM"),
                        _ = interrupt.recv() => stop(&on_signal, "SIGINT"),
                    }
                }
            });
        })
        .map_err(cannot)?;
    if exit_with_parent {
        // The pipe's end stops the node in good order; only a stopped process cannot see it, so the kernel ends that one.
        let killed = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        killed.map_err(|errno| cannot(errno.into()))?;
        let on_end = Arc::clone(&state);
        std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                let mut ignored = [0; 64];
                // Nothing is ever written to the pipe; it ends when the supervisor does, however that ends.
                while std::io::stdin().lock().read(&mut ignored).is_ok_and(|bytes| bytes > 0) {}
                stop(&on_end, "supervisor gone");
            })
            .map_err(cannot)?;
    }
    Ok(Ending { state })
}

impl Ending {
    /// From now on an end stops the node in good order.
    pub(super) fn arm(&self, stopper: Stopper) {
        *self.state.lock() = State::Running(stopper);
    }
}

/// Stops the node, or the process if there is no node yet.
fn stop(state: &Mutex<State>, reason: &'static str) {
    let stopper = match std::mem::replace(&mut *state.lock(), State::Stopping) {
        State::Running(stopper) => stopper,
        State::Starting => std::process::exit(0),
        State::Stopping => return,
    };
    tracing::info!(reason, "stopping");
    stopper.stop();
    let last_resort = move || {
        std::thread::sleep(STOP_TIME_MAX);
        tracing::warn!("not stopped in time; ending the process");
        std::thread::sleep(LAST_WORDS_TIME);
        std::process::exit(0);
    };
    drop(std::thread::Builder::new().name("last-resort".to_owned()).spawn(last_resort));
}
