//! Values in flags, variables and files: parsed here, trusted afterwards. Every error says what would be right.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::raft::NodeId;

/// An address as it was written, `HOST:PORT`, checked for form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Returns the address as it was written.
    pub(crate) fn text(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Returns the host without the brackets of IPv6.
    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns the first socket address that the name stands for.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, String> {
        let mut found = (self.bare_host(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("the host {} cannot be resolved ({error})", self.host))?;
        found.next().ok_or_else(|| format!("the host {} has no address", self.host))
    }

    /// Returns whether the host is `localhost` or a literal loopback address.
    pub(crate) fn is_loopback(&self) -> bool {
        let literal = self.bare_host().parse::<IpAddr>();
        literal.map_or(self.host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
    }

    /// Returns whether the host stands for every address of the machine.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.bare_host().parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

/// Parses `HOST:PORT`; IPv6 hosts stand in brackets.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let wanted = "an address HOST:PORT, such as 127.0.0.1:7001";
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("not {wanted}"))?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_strange = |c: char| c.is_whitespace() || matches!(c, '/' | ',' | '=' | '@');
    if host.is_empty() || (host.contains(':') && !is_bracketed) || host.contains(is_strange) {
        return Err(format!("not {wanted}"));
    }
    let port = port.parse::<u16>().map_err(|_| format!("the port {port:?} is not a number from 0 to 65535"))?;
    Ok(Address { host: host.to_owned(), port })
}

/// Parses `ID=HOST:PORT,…`: no id 0, no id or address twice, no port 0.
pub(crate) fn initial_cluster(text: &str) -> Result<BTreeMap<NodeId, String>, String> {
    let mut members = BTreeMap::new();
    for part in text.split(',') {
        let part = part.trim();
        let (id, place) =
            part.split_once('=').ok_or_else(|| format!("{part:?} is not ID=HOST:PORT, such as 1=127.0.0.1:7101"))?;
        let id = node_id(id)?;
        let place = address(place).map_err(|why| format!("{part:?}: {why}"))?;
        if place.port == 0 {
            return Err(format!("{part:?}: a member needs a fixed port"));
        }
        if members.values().any(|other| *other == place.text()) {
            return Err(format!("the address {} is there twice", place.text()));
        }
        if members.insert(id, place.text()).is_some() {
            return Err(format!("the id {id} is there twice"));
        }
    }
    Ok(members)
}

/// Parses a node's id: a whole number from 1.
pub(crate) fn node_id(text: &str) -> Result<NodeId, String> {
    match text.parse::<u64>() {
        Ok(id) if id > 0 => Ok(NodeId(id)),
        Ok(_) | Err(_) => Err(format!("the id {text:?} is not a whole number from 1")),
    }
}

/// Parses a size in bytes: a whole number, also with KiB, MiB or GiB.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1_u64 << 30)]
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), *factor)))
        .unwrap_or((text, 1));
    let wanted = || "not a number of bytes, such as 1048576 or 1MiB".to_owned();
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wanted)
}

/// Parses the size of a segment: a power of two, at least 1 MiB and at most 1 GiB.
pub(crate) fn segment_bytes(text: &str) -> Result<u64, String> {
    let size = bytes(text)?;
    if !size.is_power_of_two() || !(1 << 20..=1 << 30).contains(&size) {
        return Err("not a power of two from 1048576 (1MiB) to 1073741824 (1GiB)".to_owned());
    }
    Ok(size)
}

/// Parses a whole number from 1 up to `u32::MAX`.
pub(crate) fn positive(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => Err("not a whole number from 1".to_owned()),
    }
}

/// Parses a yes or no.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// Parses a list of addresses; a bare port takes the host before it (`127.0.0.1:7001,7002`).
pub(crate) fn endpoints(text: &str) -> Result<Vec<String>, String> {
    let mut found: Vec<Address> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let place = match (part.parse::<u16>(), found.last()) {
            (Ok(port), Some(before)) => Address { host: before.host.clone(), port },
            (Ok(_), None) | (Err(_), _) => address(part).map_err(|why| format!("{part:?}: {why}"))?,
        };
        if place.port == 0 {
            return Err(format!("{part:?}: an endpoint needs a port"));
        }
        found.push(place);
    }
    Ok(found.iter().map(Address::text).collect())
}

/// Parses a length of time: a number with `ms`, `s` or `m`; a bare number counts seconds.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let (digits, unit_ms) = [("ms", 1), ("s", 1_000), ("m", 60_000)]
        .iter()
        .find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)))
        .unwrap_or((text, 1_000));
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)) {
        Some(ms) if ms > 0 => Ok(std::time::Duration::from_millis(ms)),
        Some(_) | None => Err("not a length of time, such as 500ms, 10s or 2m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        let good = address("node-1.example:7001").unwrap();
        assert_eq!((good.text().as_str(), good.is_loopback()), ("node-1.example:7001", false));
        assert!(address("127.9.0.1:1").unwrap().is_loopback());
        assert!(address("[::1]:7001").unwrap().is_loopback());
        assert!(address("localhost:7001").unwrap().is_loopback());
        assert!(address("0.0.0.0:7001").unwrap().is_wildcard());
        for bad in ["", "7001", "host", ":7001", "::1:7001", "a b:1", "h:65536", "h:x", "http://h:1"] {
            assert!(address(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn initial_cluster_wants_distinct_members() {
        let good = initial_cluster("2=b:2, 1=a:1").unwrap();
        assert_eq!(good.into_iter().collect::<Vec<_>>(), [(NodeId(1), "a:1".into()), (NodeId(2), "b:2".into())]);
        for bad in ["", "a:1", "0=a:1", "x=a:1", "1=a:1,1=b:1", "1=a:1,2=a:1", "1=a:0", "1=a:1,"] {
            assert!(initial_cluster(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(bytes("64MiB").unwrap(), 64 << 20);
        assert_eq!(segment_bytes("1048576").unwrap(), 1 << 20);
        for bad in ["", "1000", "524288", "3MiB", "2GiB", "-1", "99999999999GiB"] {
            assert!(segment_bytes(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_bare_port_takes_the_host_before_it() {
        let list = endpoints("127.0.0.1:7001,7002,other:7003").unwrap();
        assert_eq!(list, ["127.0.0.1:7001", "127.0.0.1:7002", "other:7003"]);
        assert!(endpoints("7001").is_err());
    }
}
