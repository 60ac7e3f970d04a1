//! The nodes as child processes: started, told to stop by the end of their standard input, never outliving us.
//!
//! Each child holds the reading end of a pipe whose writing end only this process has: however this process ends, the
//! pipe ends with it, and so does the child (`--exit-with-parent`).

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::super::exit::{Exit, Failure};
use super::layout::{Layout, NodePlace};

/// A node that has not stopped this long after it was told to is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(6);

/// Settings of one node that must not reach all of them by the environment.
const OWN_VARIABLES: [&str; 4] =
    ["KONTIKI_ADVERTISE_PEER_ADDR", "KONTIKI_ADVERTISE_CLIENT_ADDR", "KONTIKI_CONFIG", "KONTIKI_PASSWORD_FILE"];

/// How a node ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: u64,
    pub(super) status: ExitStatus,
}

/// All nodes that were started.
pub(super) struct Children {
    pipes: Vec<ChildStdin>,
    keepers: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<Ended>,
    /// Says `true` when whoever still runs must be killed.
    kill: watch::Sender<bool>,
}

impl Children {
    /// Starts every node of `layout`.
    pub(super) fn start(layout: &Layout, password_file: Option<&Path>) -> Result<Children, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Io, format!("cannot find the kontiki program itself: {error}")))?;
        let (kill, killed) = watch::channel(false);
        let (endings, ended) = mpsc::channel(layout.nodes.len());
        let mut children = Children { pipes: Vec::new(), keepers: Vec::new(), ended, kill };
        for node in &layout.nodes {
            let mut child = command(&program, layout, node, password_file)?
                .spawn()
                .map_err(|error| Failure::io("start a node with", &program, &error))?;
            let pipe = child.stdin.take().expect("standard input is piped");
            children.pipes.push(pipe);
            let (id, endings, mut killed) = (node.id, endings.clone(), killed.clone());
            children.keepers.push(tokio::spawn(async move {
                let status = tokio::select! {
                    status = child.wait() => status,
                    () = async { drop(killed.wait_for(|kill| *kill).await) } => {
                        // Fails only if the child has just ended, which the wait then tells.
                        child.start_kill().ok();
                        child.wait().await
                    }
                };
                let status = status.unwrap_or_else(|_| ExitStatus::from_raw(0));
                // Nobody listens any more once all are being stopped.
                endings.send(Ended { id, status }).await.ok();
            }));
        }
        Ok(children)
    }

    /// Waits for the next node that ends by itself; for ever once all have.
    pub(super) async fn next_ended(&mut self) -> Ended {
        match self.ended.recv().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Tells all nodes to stop, and waits; kills whoever does not. Cancel-safe.
    pub(super) async fn stop(&mut self) {
        self.pipes.clear();
        let all = async {
            for keeper in &mut self.keepers {
                if !keeper.is_finished() {
                    keeper.await.ok();
                }
            }
        };
        if tokio::time::timeout(STOP_TIME_MAX, all).await.is_err() {
            self.kill().await;
        }
    }

    /// Kills all nodes. What they acknowledged is on disk.
    pub(super) async fn kill(&mut self) {
        self.pipes.clear();
        self.kill.send_replace(true);
        for keeper in &mut self.keepers {
            if !keeper.is_finished() {
                keeper.await.ok();
            }
        }
    }
}

fn command(
    program: &Path,
    layout: &Layout,
    node: &NodePlace,
    password_file: Option<&Path>,
) -> Result<Command, Failure> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&node.log_file)
        .map_err(|error| Failure::io("open the log file", &node.log_file, &error))?;
    let mut command = Command::new(program);
    command.arg("start").args(["--id", &node.id.to_string()]);
    command.arg("--data-dir").arg(&node.data_dir);
    command.args(["--client-addr", &node.client_addr]);
    command.args(["--peer-addr", &node.peer_addr]);
    command.args(["--http-addr", &node.http_addr]);
    command.args(["--initial-cluster", &layout.initial_cluster()]);
    command.arg("--tls-dir").arg(&node.tls_dir);
    command.arg("--log-file").arg(&node.log_file);
    command.arg("--exit-with-parent");
    if let Some(path) = password_file {
        command.arg("--password-file").arg(path);
    }
    for variable in OWN_VARIABLES {
        command.env_remove(variable);
    }
    // A group of their own: Ctrl-C in a terminal reaches only the supervisor, which then stops them in good order.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0).kill_on_drop(true);
    Ok(command)
}

/// Returns how a node ended, in words, with its last words and its log.
pub(super) fn describe(ended: &Ended, node: &NodePlace) -> String {
    let how = match (ended.status.code(), ended.status.signal()) {
        (Some(code), _) => format!("exited with code {code} ({})", Exit::describe(code)),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let words = if ended.status.signal().is_some() { None } else { last_line(&node.log_file) };
    let words = words.map(|line| format!(": {line}")).unwrap_or_default();
    format!("node {} {how}{words}; its log is {}", node.id, node.log_file.display())
}

/// Returns the exit code that tells of this end.
pub(super) fn exit_of(ended: &Ended) -> Exit {
    let all = [Exit::Usage, Exit::Config, Exit::Damaged, Exit::Locked, Exit::Identity, Exit::Unavailable, Exit::Io];
    let code = ended.status.code().unwrap_or(1);
    all.into_iter().find(|exit| i32::from(exit.code()) == code).unwrap_or(Exit::Failed)
}

/// Returns the last line of a log file, without the name of the program.
fn last_line(path: &Path) -> Option<String> {
    const TAIL_BYTES: u64 = 4_096;
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.strip_prefix("kontiki: ").unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(raw: i32) -> (Ended, NodePlace, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path(), Some(1), None).unwrap();
        let node = layout.nodes[0].clone();
        std::fs::write(&node.log_file, "INFO serving\nkontiki: slot-0003 is damaged at 4096\n").unwrap();
        (Ended { id: 1, status: ExitStatus::from_raw(raw) }, node, dir)
    }

    #[test]
    fn an_end_by_itself_is_told_with_its_last_words() {
        let (ended, node, dir) = ended(65 << 8);
        let log = dir.path().join("node-1.log");
        let told = "node 1 exited with code 65 (data damaged): slot-0003 is damaged at 4096; its log is ";
        assert_eq!(describe(&ended, &node), format!("{told}{}", log.display()));
        assert_eq!(exit_of(&ended), Exit::Damaged);
    }

    #[test]
    fn a_killed_node_has_no_last_words() {
        let (ended, node, _dir) = ended(9);
        assert!(describe(&ended, &node).starts_with("node 1 was killed by signal 9; its log is "));
        assert_eq!(exit_of(&ended), Exit::Failed);
    }
}
