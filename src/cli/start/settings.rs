//! Flags, environment and file made into checked [`StartOptions`].

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::config::Layers;
use super::super::exit::{Exit, Failure};
use super::super::logging::{self, LogOptions};
use super::super::parse::{self, Address};
use super::Args;
use crate::runtime::{Password, StartOptions, Timing};

/// The settings a configuration file may hold.
const FILE_KEYS: &[&str] = &[
    "id",
    "data-dir",
    "client-addr",
    "peer-addr",
    "http-addr",
    "initial-cluster",
    "tls-dir",
    "advertise-peer-addr",
    "advertise-client-addr",
    "heartbeat-ms",
    "election-timeout-ms",
    "segment-bytes",
    "max-value-bytes",
    "max-clients",
    "request-timeout-ms",
    "password-file",
    "insecure",
    "log-format",
    "log-level",
    "log-file",
];

/// Variables of our commands that are no settings of a node.
const OTHER_VARIABLES: &[&str] = &["config", "endpoints", "http"];

const SEGMENT_BYTES: u64 = 64 << 20;
const MAX_VALUE_BYTES: u64 = 8 << 20;
const PASSWORD_BYTES_MAX: u64 = 1_024;

/// Everything `kontiki start` was asked for, checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) options: StartOptions,
    pub(super) log: LogOptions,
    /// No TLS directory was named and all addresses are loopback.
    pub(super) make_development_ca: bool,
    /// Said in the log at every start.
    pub(super) notices: Vec<String>,
}

/// The three doors, as written.
struct Doors {
    client: Address,
    peer: Address,
    http: Address,
}

impl Settings {
    /// Gathers and checks the settings.
    pub(super) fn resolve(
        args: Args,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, Failure> {
        let layers = Layers::gather(args.into_flags(), variables, FILE_KEYS)?;
        let id = layers.required("id", parse::node_id)?;
        let data_dir: PathBuf = layers.required("data-dir", path)?;
        let doors = Doors::resolve(&layers)?;
        let initial_cluster = layers.required("initial-cluster", parse::initial_cluster)?;
        let Some(own_entry) = initial_cluster.get(&id).cloned() else {
            return Err(Failure::config(format!(
                "--initial-cluster does not name this node: no {id}=… in it; add {id}={}",
                doors.peer.text()
            )));
        };
        let own_entry = parse::address(&own_entry).map_err(Failure::config)?;
        let password = password(&layers)?;
        let (max_value_bytes, segment_bytes) = sizes(&layers)?;
        let mut notices = notices(&layers, &doors, password.is_some())?;
        notices.extend(unknown_variables(&layers));
        let (tls_dir, make_development_ca) = tls_dir(&layers, &doors, &initial_cluster, &data_dir, id.0)?;
        let (client_advertise, peer_advertise) = advertised(&layers, &doors, &own_entry)?;
        let options = StartOptions {
            id,
            data_dir,
            client_listen: resolve("client-addr", &doors.client)?,
            peer_listen: resolve("peer-addr", &doors.peer)?,
            http_listen: resolve("http-addr", &doors.http)?,
            client_advertise,
            peer_advertise,
            initial_cluster,
            tls_dir,
            timing: timing(&layers)?,
            segment_bytes,
            max_value_bytes,
            max_clients: layers.optional("max-clients", parse::positive)?.unwrap_or(10_000),
            request_timeout: Duration::from_millis(u64::from(
                layers.optional("request-timeout-ms", parse::positive)?.unwrap_or(5_000),
            )),
            password,
        };
        let log = LogOptions {
            format: layers.optional("log-format", logging::format)?.unwrap_or_default(),
            level: layers.optional("log-level", logging::level)?.unwrap_or_else(|| "info".to_owned()),
            file: layers.optional("log-file", path)?,
        };
        Ok(Settings { options, log, make_development_ca, notices })
    }
}

impl Doors {
    fn resolve(layers: &Layers) -> Result<Doors, Failure> {
        let doors = Doors {
            client: layers.required("client-addr", parse::address)?,
            peer: layers.required("peer-addr", parse::address)?,
            http: layers.required("http-addr", parse::address)?,
        };
        if doors.client.port == doors.peer.port && doors.client.port != 0 && doors.client.host == doors.peer.host {
            return Err(Failure::config(format!(
                "--client-addr and --peer-addr are both {}: both use UDP; give them different ports",
                doors.client.text()
            )));
        }
        if doors.client.port == doors.http.port && doors.client.port != 0 && doors.client.host == doors.http.host {
            return Err(Failure::config(format!(
                "--client-addr and --http-addr are both {}: both use TCP; give them different ports",
                doors.client.text()
            )));
        }
        Ok(doors)
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("a path is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn resolve(key: &str, place: &Address) -> Result<SocketAddr, Failure> {
    place.resolve().map_err(|why| Failure::config(format!("--{key} {}: {why}", place.text())))
}

/// Reads the password file: its first line, which must be all of it.
fn password(layers: &Layers) -> Result<Option<Password>, Failure> {
    let Some(path) = layers.optional("password-file", path)? else { return Ok(None) };
    read_password(&path).map(Some)
}

/// Reads a password file: one line, not empty, at most 1 KiB.
pub(in crate::cli) fn read_password(path: &Path) -> Result<Password, Failure> {
    let cannot = |why: String| Failure::config(format!("cannot use the password file {}: {why}", path.display()));
    let size = fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > PASSWORD_BYTES_MAX {
        return Err(cannot(format!("it has {size} bytes, more than {PASSWORD_BYTES_MAX}")));
    }
    let mut bytes = fs::read(path).map_err(|error| cannot(error.to_string()))?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() || bytes.contains(&b'\n') {
        return Err(cannot("it must hold one line, the password".to_owned()));
    }
    Ok(Password(bytes))
}

/// Returns (longest value, segment) in bytes.
fn sizes(layers: &Layers) -> Result<(u64, u64), Failure> {
    let segment = layers.optional("segment-bytes", parse::segment_bytes)?.unwrap_or(SEGMENT_BYTES);
    let largest = segment / 4;
    let value = layers.optional("max-value-bytes", |text| {
        let size = parse::bytes(text)?;
        if size == 0 || size > largest {
            return Err(format!("not from 1 to {largest}, a quarter of segment-bytes ({segment})"));
        }
        Ok(size)
    })?;
    Ok((value.unwrap_or(MAX_VALUE_BYTES.min(largest)), segment))
}

fn timing(layers: &Layers) -> Result<Timing, Failure> {
    let millis = |text: &str| match parse::positive(text)? {
        ms if ms <= 3_600_000 => Ok(ms),
        _ => Err("more than an hour (3600000)".to_owned()),
    };
    let heartbeat = layers.optional("heartbeat-ms", millis)?.unwrap_or(50);
    let election = layers.optional("election-timeout-ms", millis)?.unwrap_or(500);
    if election < heartbeat.saturating_mul(3) {
        return Err(Failure::config(format!(
            "election-timeout-ms {election} is less than three times heartbeat-ms {heartbeat}: a leader would be \
             given up between two heartbeats; raise the one or lower the other"
        )));
    }
    Ok(Timing::from_millis(heartbeat, election))
}

/// Refuses to serve strangers unless told to; returns what must be said then.
fn notices(layers: &Layers, doors: &Doors, has_password: bool) -> Result<Vec<String>, Failure> {
    let is_insecure = layers.optional("insecure", parse::boolean)?.unwrap_or(false);
    let open: Vec<String> = [("client-addr", &doors.client), ("http-addr", &doors.http)]
        .iter()
        .filter(|(_, place)| !place.is_loopback() && !has_password)
        .map(|(key, place)| format!("{key} {}", place.text()))
        .collect();
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let open = open.join(" and ");
    if !is_insecure {
        return Err(Failure::config(format!(
            "{open} would serve anybody beyond this machine; give --password-file, listen on 127.0.0.1, or say \
             --insecure"
        )));
    }
    Ok(vec![format!("insecure: {open} serves anybody who can reach it, without a password (--insecure)")])
}

fn unknown_variables(layers: &Layers) -> Vec<String> {
    let known: Vec<&str> = FILE_KEYS.iter().chain(OTHER_VARIABLES).copied().collect();
    let unknown = layers.unknown_variables(&known);
    unknown.iter().map(|name| format!("the environment variable {name} is no setting and is ignored")).collect()
}

/// Returns the TLS directory, and whether it is the development one that may be made.
fn tls_dir(
    layers: &Layers,
    doors: &Doors,
    initial_cluster: &std::collections::BTreeMap<crate::raft::NodeId, String>,
    data_dir: &Path,
    id: u64,
) -> Result<(PathBuf, bool), Failure> {
    if let Some(dir) = layers.optional("tls-dir", path)? {
        return Ok((dir, false));
    }
    let members = initial_cluster.values().filter_map(|text| parse::address(text).ok());
    let doors = [&doors.client, &doors.peer, &doors.http];
    let strange = doors.into_iter().cloned().chain(members).find(|place| !place.is_loopback());
    if let Some(place) = strange {
        return Err(Failure::new(
            Exit::Config,
            format!(
                "missing --tls-dir: {} is not loopback, so members need certificates; make them with \
                 'kontiki cert ca --tls-dir T' and 'kontiki cert node --id {id} --tls-dir T'",
                place.text()
            ),
        ));
    }
    let beside = match data_dir.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    Ok((beside.join("certs").join(format!("node-{id}")), true))
}

/// Returns the client and the peer address that others are told.
///
/// A door on every address of the machine tells nobody where it is: then the node's own entry in the initial cluster
/// does.
fn advertised(layers: &Layers, doors: &Doors, own_entry: &Address) -> Result<(String, String), Failure> {
    let fixed = |text: &str| {
        let place = parse::address(text)?;
        if place.is_wildcard() || place.port == 0 {
            return Err("others cannot reach it; name a host and a port".to_owned());
        }
        Ok(place.text())
    };
    let client = match layers.optional("advertise-client-addr", fixed)? {
        Some(text) => text,
        None if doors.client.is_wildcard() => Address { host: own_entry.host.clone(), port: doors.client.port }.text(),
        None => doors.client.text(),
    };
    let peer = match layers.optional("advertise-peer-addr", fixed)? {
        Some(text) => text,
        None if doors.peer.is_wildcard() => own_entry.text(),
        None => doors.peer.text(),
    };
    Ok((client, peer))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    const BASE: &str = "--id 1 --data-dir d/node-1 --client-addr 127.0.0.1:7001 --peer-addr 127.0.0.1:7101 \
                        --http-addr 127.0.0.1:7201 --initial-cluster 1=127.0.0.1:7101";

    fn resolve(line: &str) -> Result<Settings, Failure> {
        let words = std::iter::once("start").chain(line.split_whitespace());
        Settings::resolve(Line::parse_from(words).args, std::iter::empty())
    }

    fn with(more: &str) -> Result<Settings, Failure> {
        resolve(&format!("{BASE} {more}"))
    }

    /// A line like the base, with one flag given another value.
    fn changed(flag: &str, value: &str) -> Result<Settings, Failure> {
        let mut words: Vec<&str> = BASE.split_whitespace().collect();
        let at = words.iter().position(|word| *word == flag).unwrap();
        words[at + 1] = value;
        resolve(&words.join(" "))
    }

    fn refused(settings: Result<Settings, Failure>, exit: Exit, part: &str) {
        let failure = settings.err().unwrap_or_else(|| panic!("taken, should be refused: {part}"));
        assert_eq!(failure.exit, exit, "{}", failure.message);
        assert!(failure.message.contains(part), "{:?} is not in {:?}", part, failure.message);
    }

    #[test]
    fn the_defaults_are_the_published_ones() {
        let settings = with("").unwrap();
        let options = settings.options;
        assert_eq!(options.segment_bytes, 67_108_864);
        assert_eq!(options.max_value_bytes, 8 << 20);
        assert_eq!(options.max_clients, 10_000);
        assert_eq!(options.request_timeout, Duration::from_secs(5));
        assert_eq!(options.timing, Timing::from_millis(50, 500));
        assert_eq!((options.tls_dir.to_str().unwrap(), settings.make_development_ca), ("d/certs/node-1", true));
        assert_eq!(settings.log.level, "info");
        assert!(options.password.is_none() && settings.notices.is_empty());
    }

    #[test]
    fn sizes_depend_on_each_other() {
        assert_eq!(with("--segment-bytes 1MiB").unwrap().options.max_value_bytes, 256 << 10);
        refused(with("--segment-bytes 1MiB --max-value-bytes 262145"), Exit::Config, "262144");
        refused(with("--segment-bytes 1000000"), Exit::Config, "--segment-bytes");
        refused(with("--max-value-bytes 16777217"), Exit::Config, "a quarter");
    }

    #[test]
    fn a_missing_flag_is_usage_and_a_bad_value_is_configuration() {
        refused(resolve("--data-dir d"), Exit::Usage, "--id");
        refused(changed("--id", "0"), Exit::Config, "--id");
        refused(changed("--client-addr", "nowhere"), Exit::Config, "--client-addr");
        refused(changed("--initial-cluster", "2=127.0.0.1:7101"), Exit::Config, "does not name this node");
        refused(changed("--peer-addr", "127.0.0.1:7001"), Exit::Config, "both use UDP");
        refused(with("--election-timeout-ms 100"), Exit::Config, "three times");
        refused(with("--log-level loud"), Exit::Config, "--log-level");
        refused(with("--password-file /nonexistent/p"), Exit::Config, "password file");
    }

    #[test]
    fn strangers_are_served_only_when_told() {
        let line = "--id 1 --data-dir d --client-addr 0.0.0.0:7001 --peer-addr 0.0.0.0:7101 --http-addr \
                    127.0.0.1:7201 --initial-cluster 1=node1:7101";
        refused(resolve(&format!("{line} --tls-dir t")), Exit::Config, "--insecure");
        refused(resolve(&format!("{line} --insecure")), Exit::Config, "missing --tls-dir");
        let settings = resolve(&format!("{line} --tls-dir t --insecure")).unwrap();
        assert!(settings.notices[0].contains("insecure: client-addr 0.0.0.0:7001"), "{:?}", settings.notices);
        assert_eq!(settings.options.client_advertise, "node1:7001");
        assert_eq!(settings.options.peer_advertise, "node1:7101");
        assert!(!settings.make_development_ca);
    }

    #[test]
    fn a_password_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "secret\n").unwrap();
        let settings = with(&format!("--password-file {}", file.display())).unwrap();
        assert_eq!(settings.options.password, Some(Password(b"secret".to_vec())));
        for bad in ["", "\n", "a\nb\n"] {
            fs::write(&file, bad).unwrap();
            refused(with(&format!("--password-file {}", file.display())), Exit::Config, "one line");
        }
    }
}
