//! Looks at the nodes: first until a leader serves, then for what changes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::super::exit::{Exit, Failure};
use super::super::http;
use super::super::print;
use super::Args;
use super::changes::changes;
use super::child::{self, Children, Ended};
use super::layout::Layout;
use super::ready;
use crate::runtime::{NodeStatus, Password};

/// Between two looks until a leader serves.
const LOOK_INTERVAL_STARTING: Duration = Duration::from_millis(50);
/// Between two looks afterwards.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
/// How long one node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(1_000);
/// How long the others may take to be ready once a leader serves.
const OTHERS_TIME_MAX: Duration = Duration::from_secs(3);
/// How often a long start says that it goes on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks without an answer after which a node whose process lives counts as silent: a busy machine is slow.
const MISSES_MAX: u32 = 4;

/// What was seen of the nodes: one place each, `None` for one that does not answer.
type Seen = Vec<Option<NodeStatus>>;

/// Waits for a leader, prints the table, then tells what changes. Returns only if the nodes end by themselves.
pub(super) async fn serve(
    layout: &Layout,
    args: &Args,
    password: Option<Password>,
    children: &mut Children,
) -> Result<(), Failure> {
    let mut watch = Watch {
        layout,
        password,
        started: Instant::now(),
        is_quiet: args.quiet,
        ended: BTreeSet::new(),
        early: Vec::new(),
    };
    let seen = watch.until_served(children).await?;
    let colour = print::has_colour();
    let table = ready::table(layout, &seen, colour);
    let text = if args.quiet {
        table
    } else {
        format!("{}{table}{}", ready::headline(layout, &seen), ready::next_steps(layout, watch.password.is_some()))
    };
    // Whoever started this may not read on: the nodes serve all the same.
    print::raw(text.as_bytes()).ok();
    std::mem::take(&mut watch.early).iter().for_each(|failure| watch.complain(&failure.message));
    if let Some(path) = &args.ready_file {
        ready::write(path, layout, &seen)?;
    }
    watch.tell_changes(seen, children).await
}

struct Watch<'a> {
    layout: &'a Layout,
    password: Option<Password>,
    started: Instant,
    is_quiet: bool,
    /// Nodes whose process has ended by itself.
    ended: BTreeSet<u64>,
    /// What is to be said of nodes that ended before a leader served.
    early: Vec<Failure>,
}

impl Watch<'_> {
    /// Waits until a leader serves, then a little for the others.
    async fn until_served(&mut self, children: &mut Children) -> Result<Seen, Failure> {
        let mut led_since = None;
        let mut spoke = Instant::now();
        loop {
            tokio::select! {
                ended = children.next_ended() => self.on_ended_early(&ended)?,
                () = tokio::time::sleep(LOOK_INTERVAL_STARTING) => {}
            }
            let seen = self.look().await;
            if let Some(leader) = ready::leader(&seen) {
                let ready = self.count_ready().await;
                if ready.contains(&leader.node_id) {
                    let since = *led_since.get_or_insert_with(Instant::now);
                    if ready.len() >= self.running() || since.elapsed() > OTHERS_TIME_MAX {
                        return Ok(self.look().await);
                    }
                }
            }
            if spoke.elapsed() > PATIENCE {
                spoke = Instant::now();
                self.say_patience(&seen);
            }
        }
    }

    /// A start that can still lead to a leader goes on without the node that ended.
    fn on_ended_early(&mut self, ended: &Ended) -> Result<(), Failure> {
        self.ended.insert(ended.id);
        self.early.push(Failure::new(child::exit_of(ended), self.describe(ended)));
        if self.running() > self.layout.nodes.len() / 2 {
            return Ok(());
        }
        let also = match self.ended.len() - 1 {
            0 => String::new(),
            more => format!("; so did {more} more, see their logs"),
        };
        let first = self.early.swap_remove(0);
        Err(Failure { message: first.message + &also, ..first })
    }

    fn say_patience(&self, seen: &Seen) {
        let states: Vec<String> = self
            .layout
            .nodes
            .iter()
            .zip(seen)
            .map(|(node, status)| match status {
                Some(status) => format!("node {} {} in term {}", node.id, status.role.name(), status.term),
                None => format!("node {} does not answer yet", node.id),
            })
            .collect();
        let seconds = self.started.elapsed().as_secs();
        self.complain(&format!("still waiting for a leader after {seconds} s: {}", states.join(", ")));
    }

    async fn tell_changes(&mut self, mut before: Seen, children: &mut Children) -> Result<(), Failure> {
        let mut misses = vec![0; before.len()];
        loop {
            tokio::select! {
                ended = children.next_ended() => {
                    self.ended.insert(ended.id);
                    let words = self.describe(&ended);
                    if self.running() == 0 {
                        return Err(Failure::new(child::exit_of(&ended), format!("no node is left: {words}")));
                    }
                    self.complain(&format!("{words}; stop and start the cluster to bring it back"));
                }
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    let mut now = self.look().await;
                    self.bear_with_slow(&before, &mut now, &mut misses);
                    for change in changes(&before, &now) {
                        self.tell(&change);
                    }
                    before = now;
                }
            }
        }
    }

    /// Lets a node that lives but was silent for a moment count as unchanged.
    fn bear_with_slow(&self, before: &Seen, now: &mut Seen, misses: &mut [u32]) {
        for (((node, was), is), misses) in self.layout.nodes.iter().zip(before).zip(now).zip(misses) {
            *misses = if is.is_some() { 0 } else { *misses + 1 };
            if is.is_none() && *misses < MISSES_MAX && !self.ended.contains(&node.id) {
                is.clone_from(was);
            }
        }
    }

    /// Returns how many processes have not ended.
    fn running(&self) -> usize {
        self.layout.nodes.len() - self.ended.len()
    }

    /// Asks all nodes at once for their status.
    async fn look(&self) -> Seen {
        let asked: Vec<_> = self
            .layout
            .nodes
            .iter()
            .map(|node| {
                let (address, password) = (node.http_addr.clone(), self.password.clone());
                tokio::spawn(async move { http::status(&address, password.as_ref(), ANSWER_TIME_MAX).await.ok() })
            })
            .collect();
        let mut seen = Vec::new();
        for status in asked {
            seen.push(status.await.ok().flatten());
        }
        seen
    }

    /// Returns the nodes through which a linearizable read is possible.
    async fn count_ready(&self) -> Vec<u64> {
        let mut ready = Vec::new();
        for node in &self.layout.nodes {
            let answer = http::get(&node.http_addr, "/readyz", self.password.as_ref(), ANSWER_TIME_MAX).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                ready.push(node.id);
            }
        }
        ready
    }

    fn describe(&self, ended: &Ended) -> String {
        let node = self.layout.nodes.iter().find(|node| node.id == ended.id);
        child::describe(ended, node.expect("only our own nodes end"))
    }

    /// Says a change on standard output.
    fn tell(&self, change: &str) {
        if !self.is_quiet {
            print::line(&format!("[{:>8.1}s] {change}", self.started.elapsed().as_secs_f64())).ok();
        }
    }

    /// Says what is not as it should be on standard error.
    fn complain(&self, words: &str) {
        Failure::new(Exit::Failed, words).report(crate::cli::PROGRAM);
    }
}
