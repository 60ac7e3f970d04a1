//! Processes that this run starts, and ends whatever happens; and what they cost.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to stop by itself.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// A child that is stopped when this is dropped: by SIGTERM, and by SIGKILL when that takes too long.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command` in a process group of its own, so that Ctrl-C reaches it through us alone; output goes to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self, Failure> {
        use std::os::unix::process::CommandExt;
        let out = File::create(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let child = command.spawn().map_err(|error| format!("start {}: {error}", command.get_program().display()))?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns an error once the process has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("process {} ended early: {status}", self.0.id()).into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // A failure means that it has just ended; the wait below sees that.
            kill_process(Pid::from_child(&self.0), Signal::TERM).ok();
        }
        let since = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) {
            if since.elapsed() > STOP_TIME_MAX {
                self.0.kill().ok();
                self.0.wait().ok();
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns the CPU time that the processes have used so far, user and system, in seconds.
pub(crate) fn cpu_seconds(pids: &[u32]) -> Result<f64, Failure> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold anything; utime and stime are fields 14 and 15, the state is field 3.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u32>()?;
        }
    }
    let ticks_per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(f64::from(ticks) / f64::from(ticks_per_second))
}
