//! Starting and stopping a node: the seam between the command line and the threads.

use thiserror::Error;

use super::options::{FailureClass, StartOptions};

/// A node that runs on threads of its own.
pub struct RunningNode {}

/// Asks a running node to stop. Cheap to clone; may be called from any thread, more than once.
#[derive(Clone)]
pub struct Stopper {}

/// Why a node did not start, or stopped by itself.
///
/// `message` is the one line for standard error: what, where (for damage: file, offset and index) and the next command to run.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct NodeFailure {
    /// Decides the exit code.
    pub class: FailureClass,
    /// The line.
    pub message: String,
}

/// Starts a node: identity and lock, log, sockets, doors, threads. Returns once its doors are open.
pub fn start(options: StartOptions) -> Result<RunningNode, NodeFailure> {
    let _ = options;
    unimplemented!("the runtime is being built")
}

impl RunningNode {
    /// Returns what stops this node.
    pub fn stopper(&self) -> Stopper {
        unimplemented!("the runtime is being built")
    }

    /// Waits until the node has ended: `Ok` after [`Stopper::stop`], within 5 s of it; else why it ended by itself.
    pub fn wait(self) -> Result<(), NodeFailure> {
        unimplemented!("the runtime is being built")
    }
}

impl Stopper {
    /// Stops accepting, hands over leadership, finishes what is committed.
    pub fn stop(&self) {
        unimplemented!("the runtime is being built")
    }
}
