//! Processes that never outlive their story.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, kill_process_group};

use super::{TestDir, wait_for};

pub use rustix::process::Signal;

/// The end of a process.
#[derive(Debug)]
pub struct Output {
    /// The exit code, or 128 plus the signal as a shell says it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Asserts that the process failed with `code` and one line on standard error that contains all of `words`.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        assert_eq!(self.stderr.lines().count(), 1, "one line on standard error: {self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing in: {}", self.stderr);
        }
    }

    /// Asserts that the process succeeded, and returns its standard output.
    #[track_caller]
    pub fn success(&self) -> &str {
        assert_eq!(self.code, 0, "{self:#?}");
        &self.stdout
    }
}

/// A running process in a group of its own. Dropping it kills the group.
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes to `NAME.out` and `NAME.err` in `logs`.
    #[track_caller]
    pub fn start(mut command: Command, logs: &Path, name: &str) -> Process {
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child, stdout, stderr }
    }

    /// Sends a signal to the process and whatever it started in its group.
    pub fn signal(&self, signal: Signal) {
        let group = Pid::from_child(&self.child);
        // The group may be gone already; what follows notices.
        let _gone = kill_process_group(group, signal);
    }

    /// Sends a signal to the process alone.
    pub fn signal_one(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait(&mut self) -> Output {
        let status = wait_for("end of the process", || self.child.try_wait().unwrap());
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        Output { code, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Kills the process without a chance to finish anything, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns a command that runs the `kontiki` under test with nothing inherited that would configure it.
pub fn kontiki<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KONTIKI_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// Runs `command` to its end, which must come within the patience of [`wait_for`].
#[track_caller]
pub fn run(command: Command) -> Output {
    let logs = TestDir::new();
    Process::start(command, logs.path(), "run").wait()
}
