//! `kontiki status`: the members of a cluster as its nodes see them, also without a leader.

mod source;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::parse;
use super::print::{self, Output, Table, grouped, micros};
use super::reach::{Endpoints, parse_endpoints};
use super::start::read_password;
use crate::runtime::{MemberStatus, NodeStatus, Password, Role};
use source::{Door, SourceError};

/// The HTTP doors of the nodes of `kontiki cluster`.
const HTTP_DEFAULT: &str = "127.0.0.1:7201,7202,7203";

const EXAMPLES: &str = "\
Examples:
  kontiki status                              the nodes of 'kontiki cluster'
  kontiki status --watch                      the same, again every second
  kontiki status --endpoints 10.0.0.1:7001,10.0.0.2:7001
  kontiki status --output json | jq .status.role

Exit codes: 0 a leader is known, 69 no leader, or no node answers.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Client addresses of the nodes; a bare port takes the host before it
    #[arg(long, value_name = "HOST:PORT,…", env = "KONTIKI_ENDPOINTS", hide_env_values = true)]
    #[arg(value_parser = parse_endpoints)]
    endpoints: Option<Endpoints>,
    /// HTTP addresses of the nodes instead [default: 127.0.0.1:7201,7202,7203 if no --endpoints]
    #[arg(long, value_name = "HOST:PORT,…", env = "KONTIKI_HTTP", hide_env_values = true)]
    #[arg(value_parser = parse_endpoints)]
    http: Option<Endpoints>,
    /// Again and again, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse::duration)]
    interval: Duration,
    /// How long a node may take to answer
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse::duration)]
    timeout: Duration,
    /// Taken like every client command does; the doors asked here speak no TLS
    #[arg(long, value_name = "DIR", env = "KONTIKI_TLS_DIR", hide_env_values = true, hide = true)]
    tls_dir: Option<PathBuf>,
    /// A file with the cluster's password
    #[arg(long, value_name = "FILE", env = "KONTIKI_PASSWORD_FILE", hide_env_values = true)]
    password_file: Option<PathBuf>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Which doors are asked, and where they are.
struct Doors {
    door: Door,
    addresses: Vec<String>,
}

/// What one node said, or why it did not.
struct Seen {
    address: String,
    status: Result<NodeStatus, SourceError>,
}

/// One row of JSON: a node's own words, or nulls.
#[derive(Serialize)]
struct Row<'a> {
    address: &'a str,
    reachable: bool,
    error: Option<String>,
    status: Option<&'a NodeStatus>,
}

/// Looks once, or again and again.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let password = args.password_file.as_deref().map(read_password).transpose()?;
    let doors = doors(args)?;
    super::block_on(async {
        if args.watch {
            watch(args, &doors, password.as_ref()).await
        } else {
            once(args, &doors, password.as_ref()).await
        }
    })
}

/// HTTP if it is named or nothing is; a flag on the line beats a variable of the other kind by being asked for.
fn doors(args: &Args) -> Result<Doors, Failure> {
    let (door, addresses) = match (&args.http, &args.endpoints) {
        (Some(http), _) => (Door::Http, http.0.clone()),
        (None, Some(endpoints)) => (Door::Client, endpoints.0.clone()),
        (None, None) => (Door::Http, parse::endpoints(HTTP_DEFAULT).map_err(Failure::config)?),
    };
    Ok(Doors { door, addresses })
}

async fn once(args: &Args, doors: &Doors, password: Option<&Password>) -> Result<(), Failure> {
    let seen = look(args, doors, password).await;
    if args.output == Output::Json || seen.iter().any(|node| node.status.is_ok()) {
        show(&seen, args.output)?;
    }
    if seen.iter().all(|node| node.status.is_err()) {
        let tried = doors.addresses.join(", ");
        if seen.iter().filter_map(|node| node.status.as_ref().err()).any(SourceError::is_unauthorized) {
            return Err(Failure::config(format!("{tried} want the cluster's password; name it with --password-file")));
        }
        let why = seen.iter().find_map(|node| node.status.as_ref().err()).map(ToString::to_string);
        return Err(Failure::new(
            Exit::Unavailable,
            format!(
                "no node answers at {tried} ({}); start one with 'kontiki cluster', or name others with --endpoints",
                why.unwrap_or_default()
            ),
        ));
    }
    match leader(&seen) {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            Exit::Unavailable,
            "no leader: too few members are up to elect one; start the others and look again with 'kontiki status'",
        )),
    }
}

async fn watch(args: &Args, doors: &Doors, password: Option<&Password>) -> Result<(), Failure> {
    let is_terminal = std::io::stdout().is_terminal() && args.output == Output::Human;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let seen = look(args, doors, password).await;
        if is_terminal {
            // Home, then clear what is below: no flicker.
            print::raw(b"\x1b[H\x1b[J")?;
        }
        show(&seen, args.output)?;
        tokio::select! {
            _ = &mut interrupt => return Ok(()),
            () = tokio::time::sleep(args.interval) => {}
        }
    }
}

/// Asks all nodes at once.
async fn look(args: &Args, doors: &Doors, password: Option<&Password>) -> Vec<Seen> {
    let mut asked = Vec::new();
    for address in &doors.addresses {
        let (door, address, password, timeout) = (doors.door, address.clone(), password.cloned(), args.timeout);
        asked.push(tokio::spawn(async move {
            let status = source::ask(door, &address, password.as_ref(), timeout).await;
            Seen { address, status }
        }));
    }
    let mut seen = Vec::new();
    for node in asked {
        seen.push(node.await.expect("asking a node does not panic"));
    }
    seen
}

fn show(seen: &[Seen], output: Output) -> Result<(), Failure> {
    match output {
        Output::Human => print::raw(render(seen, print::has_colour()).as_bytes()),
        Output::Json => seen.iter().try_for_each(|node| {
            print::json(&Row {
                address: &node.address,
                reachable: node.status.is_ok(),
                error: node.status.as_ref().err().map(ToString::to_string),
                status: node.status.as_ref().ok(),
            })
        }),
    }
}

/// Returns the leader of the newest term, as it says itself.
fn leader(seen: &[Seen]) -> Option<&NodeStatus> {
    let nodes = seen.iter().filter_map(|node| node.status.as_ref().ok());
    nodes.filter(|status| status.role == Role::Leader).max_by_key(|status| status.term)
}

fn render(seen: &[Seen], colour: bool) -> String {
    let nodes: BTreeMap<u64, &NodeStatus> =
        seen.iter().filter_map(|node| node.status.as_ref().ok()).map(|status| (status.node_id, status)).collect();
    let leader = leader(seen);
    let mut text = headline(&nodes, leader);
    let mut table = Table::new(&[
        "ID",
        "PEER",
        "ROLE",
        ">TERM",
        ">COMMIT",
        ">APPLIED",
        ">MATCH",
        ">LAG",
        "CONTACT",
        "LOG",
        ">SYNC P99",
        ">KEYS",
        "STORAGE",
    ]);
    let listed = members(&nodes, leader);
    for id in member_ids(&nodes, listed) {
        let known = listed.iter().find(|member| member.id == id);
        table.row(member_row(id, nodes.get(&id).copied(), known, leader));
    }
    text.push_str(&table.render(colour));
    for node in seen {
        if let Err(error) = &node.status {
            writeln!(text, "no answer from {}: {error}", node.address).expect("writing to a string");
        }
    }
    text
}

fn headline(nodes: &BTreeMap<u64, &NodeStatus>, leader: Option<&NodeStatus>) -> String {
    let cluster = nodes.values().next().map_or("?", |status| status.cluster_id.as_str());
    match leader {
        Some(leader) => format!(
            "cluster {cluster}  term {}  leader {}  commit {}\n",
            leader.term,
            leader.node_id,
            grouped(leader.commit_index)
        ),
        None => {
            let term = nodes.values().map(|status| status.term).max().unwrap_or(0);
            format!("cluster {cluster}  term {term}  no leader\n")
        }
    }
}

/// Returns the members by the best configuration there is: the leader's, else that of whoever knows most.
fn members<'a>(nodes: &BTreeMap<u64, &'a NodeStatus>, leader: Option<&'a NodeStatus>) -> &'a [MemberStatus] {
    let best = leader.or_else(|| nodes.values().copied().max_by_key(|status| status.commit_index));
    best.map(|status| status.members.as_slice()).unwrap_or_default()
}

/// Returns the members, and every node that answered.
fn member_ids(nodes: &BTreeMap<u64, &NodeStatus>, listed: &[MemberStatus]) -> Vec<u64> {
    let mut ids: Vec<u64> = nodes.keys().copied().chain(listed.iter().map(|member| member.id)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn member_row(
    id: u64,
    own: Option<&NodeStatus>,
    known: Option<&MemberStatus>,
    leader: Option<&NodeStatus>,
) -> Vec<String> {
    let dash = || "-".to_owned();
    let is_leader = leader.is_some_and(|leader| leader.node_id == id);
    let matched = known.and_then(|member| member.match_index);
    let lag = leader.zip(matched).map(|(leader, matched)| leader.last_log_index.saturating_sub(matched));
    let contact = known.and_then(|member| member.last_contact_ms).map(|ms| format!("{ms}ms ago"));
    let number = |pick: fn(&NodeStatus) -> u64| own.map_or_else(dash, |status| grouped(pick(status)));
    vec![
        if is_leader { format!("{id} *") } else { id.to_string() },
        known.map_or_else(dash, |member| member.peer_addr.clone()),
        own.map_or("down", |status| status.role.name()).to_owned(),
        own.map_or_else(dash, |status| status.term.to_string()),
        number(|status| status.commit_index),
        number(|status| status.applied_index),
        matched.map_or_else(dash, grouped),
        lag.map_or_else(dash, grouped),
        if is_leader { dash() } else { contact.unwrap_or_else(dash) },
        own.map_or_else(dash, |status| format!("{}..{}", status.first_log_index, status.last_log_index)),
        own.map_or_else(dash, |status| micros(status.sync_p99_us)),
        number(|status| status.keys),
        own.map_or("-", |status| status.storage_state.name()).to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn node(id: u64, role: Role, matched: [Option<u64>; 2]) -> Seen {
        let members = vec![sample::member(1, matched[0]), sample::member(2, matched[1])];
        Seen { address: format!("h:{id}"), status: Ok(NodeStatus { members, ..sample::status(id, role) }) }
    }

    fn lines(seen: &[Seen]) -> Vec<String> {
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        render(seen, false).lines().map(squeeze).collect()
    }

    #[test]
    fn a_leader_knows_the_lag_of_the_others() {
        let seen = [
            node(1, Role::Leader, [Some(1_200), Some(1_100)]),
            Seen { address: "h:2".into(), status: Err(SourceError::Late(Duration::from_millis(5))) },
        ];
        assert_eq!(
            lines(&seen),
            [
                "cluster c0 term 4 leader 1 commit 1 200",
                "ID PEER ROLE TERM COMMIT APPLIED MATCH LAG CONTACT LOG SYNC P99 KEYS STORAGE",
                "1 * p:1 leader 4 1 200 1 200 1 200 0 - 1..1200 1.25ms 3 ok",
                "2 p:2 down - - - 1 100 100 3ms ago - - - -",
                "no answer from h:2: no answer within 5 ms",
            ]
        );
    }

    #[test]
    fn without_a_leader_the_nodes_are_still_told() {
        let lines = lines(&[node(2, Role::Candidate, [None, None])]);
        assert_eq!(lines[0], "cluster c0 term 4 no leader");
        assert_eq!(lines[2], "1 p:1 down - - - - - - - - - -");
        assert_eq!(lines[3], "2 p:2 candidate 4 1 200 1 200 - - - 1..1200 1.25ms 3 ok");
    }
}
