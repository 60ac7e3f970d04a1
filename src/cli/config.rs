//! Where a setting comes from: flags, then the environment, then the file, then the default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};

/// What each environment variable starts with: `segment-bytes` is `KONTIKI_SEGMENT_BYTES`.
const ENVIRONMENT_PREFIX: &str = "KONTIKI_";

/// The most bytes a configuration file may have.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where one value was found; its text names the place for an error message.
enum Origin<'a> {
    Flag,
    Environment,
    File(&'a Path),
}

/// The settings that were given, by place. Keys are the flags' names without dashes in front.
pub(crate) struct Layers {
    flags: BTreeMap<&'static str, String>,
    environment: BTreeMap<String, String>,
    file: Option<(PathBuf, BTreeMap<String, String>)>,
}

impl Layers {
    /// Gathers the settings. `known` are the keys that a file may hold; the file is the one that `config` names.
    pub(crate) fn gather(
        flags: BTreeMap<&'static str, String>,
        variables: impl Iterator<Item = (OsString, OsString)>,
        known: &[&str],
    ) -> Result<Layers, Failure> {
        let mut layers = Layers { flags, environment: environment(variables)?, file: None };
        let path = layers.optional("config", |text| Ok(PathBuf::from(text)))?;
        if let Some(path) = path {
            let settings = read_file(&path, known)?;
            layers.file = Some((path, settings));
        }
        Ok(layers)
    }

    /// Returns a setting, parsed, or `None` if nobody gave it.
    pub(crate) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let Some((text, origin)) = self.find(key) else { return Ok(None) };
        match parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(why) => Err(Failure::config(format!("bad value {text:?} for {}: {why}", Named { key, origin }))),
        }
    }

    /// Returns a setting that must be given.
    pub(crate) fn required<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        self.optional(key, parse)?.ok_or_else(|| {
            let variable = variable(key);
            Failure::new(
                Exit::Usage,
                format!(
                    "missing --{key}; give the flag, or {variable}, or {key} in the --config file \
                     (see 'kontiki start --help')"
                ),
            )
        })
    }

    /// Returns the names of variables that look like settings but are none of `known`.
    pub(crate) fn unknown_variables(&self, known: &[&str]) -> Vec<String> {
        let names: Vec<String> = known.iter().map(|key| variable(key)).collect();
        self.environment.keys().filter(|name| !names.contains(name)).cloned().collect()
    }

    fn find(&self, key: &'static str) -> Option<(&str, Origin<'_>)> {
        if let Some(text) = self.flags.get(key) {
            return Some((text, Origin::Flag));
        }
        if let Some(text) = self.environment.get(&variable(key)) {
            return Some((text, Origin::Environment));
        }
        let (path, settings) = self.file.as_ref()?;
        settings.get(key).map(|text| (text.as_str(), Origin::File(path)))
    }
}

/// A key with the place where it was found, as an error names it.
struct Named<'a> {
    key: &'a str,
    origin: Origin<'a>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Flag => write!(f, "--{}", self.key),
            Origin::Environment => write!(f, "the variable {}", variable(self.key)),
            Origin::File(path) => write!(f, "{} in {}", self.key, path.display()),
        }
    }
}

fn variable(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('-', "_").to_uppercase())
}

/// Keeps our variables; an empty one counts as not set.
fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else { continue };
        let value = value
            .into_string()
            .map_err(|_| Failure::config(format!("the variable {name} is not UTF-8; set it anew")))?;
        if !value.is_empty() {
            found.insert(name.to_owned(), value);
        }
    }
    Ok(found)
}

/// Reads a TOML file of `key = value`.
fn read_file(path: &Path, known: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    let cannot = |why: String| Failure::config(format!("cannot use the configuration file {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(cannot(format!("it has {size} bytes, more than {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    let table = text.parse::<toml::Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        cannot(format!("line {line}: {}", error.message()))
    })?;
    let mut settings = BTreeMap::new();
    for (key, value) in table {
        if !known.contains(&key.as_str()) {
            let list = known.join(", ");
            return Err(Failure::config(format!("unknown key {key} in {}; the keys are {list}", path.display())));
        }
        let text = scalar(&value)
            .ok_or_else(|| cannot(format!("{key} is neither a text, a number, true or false, nor a list of texts")))?;
        settings.insert(key, text);
    }
    Ok(settings)
}

/// Returns a TOML value as the text that a flag would have.
fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Array(list) => {
            let texts: Option<Vec<&str>> = list.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const KNOWN: &[&str] = &["id", "max-clients", "initial-cluster"];

    fn layers(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: Option<&str>) -> Result<Layers, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let mut flags: BTreeMap<&'static str, String> =
            flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        if let Some(text) = file {
            let path = dir.path().join("node.toml");
            std::fs::write(&path, text).unwrap();
            flags.insert("config", path.to_str().unwrap().to_owned());
        }
        let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Layers::gather(flags, env, KNOWN)
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let file = Some("id = 3\n");
        let env = &[("KONTIKI_ID", "2")][..];
        let id = |layers: Layers| layers.required("id", parse::node_id).unwrap().0;
        assert_eq!(id(layers(&[("id", "1")], env, file).unwrap()), 1);
        assert_eq!(id(layers(&[], env, file).unwrap()), 2);
        assert_eq!(id(layers(&[], &[("KONTIKI_ID", "")], file).unwrap()), 3);
        assert!(layers(&[], &[], Some("")).unwrap().optional("id", parse::node_id).unwrap().is_none());
    }

    #[test]
    fn a_bad_value_names_its_place() {
        let error = |layers: Layers| layers.optional("max-clients", parse::positive).unwrap_err();
        let flag = error(layers(&[("max-clients", "x")], &[], None).unwrap());
        assert_eq!(flag.exit, Exit::Config);
        assert_eq!(flag.message, "bad value \"x\" for --max-clients: not a whole number from 1");
        let env = error(layers(&[], &[("KONTIKI_MAX_CLIENTS", "0")], None).unwrap());
        assert!(env.message.contains("the variable KONTIKI_MAX_CLIENTS"), "{}", env.message);
        let file = error(layers(&[], &[], Some("max-clients = -1")).unwrap());
        assert!(file.message.contains("max-clients in ") && file.message.contains("node.toml"), "{}", file.message);
    }

    #[test]
    fn an_unknown_key_names_key_and_file() {
        let error = layers(&[], &[], Some("id = 1\nmax_clients = 5\n")).err().unwrap();
        assert_eq!(error.exit, Exit::Config);
        assert!(error.message.contains("unknown key max_clients in "), "{}", error.message);
        assert!(error.message.contains("node.toml"), "{}", error.message);
    }

    #[test]
    fn a_file_that_is_no_toml_names_the_line() {
        let error = layers(&[], &[], Some("id = 1\nid = 2\n")).err().unwrap();
        assert!(error.exit == Exit::Config && error.message.contains("line 2"), "{}", error.message);
        let error = layers(&[], &[], Some("[id]\nx = 1\n")).err().unwrap();
        assert!(error.message.contains("id is neither"), "{}", error.message);
    }

    #[test]
    fn a_missing_setting_is_a_usage_error() {
        let error = layers(&[], &[], None).unwrap().required("id", parse::node_id).unwrap_err();
        assert!(error.exit == Exit::Usage && error.message.contains("--id"), "{}", error.message);
    }

    #[test]
    fn a_list_in_the_file_is_joined() {
        let layers = layers(&[], &[], Some("initial-cluster = [\"1=a:1\", \"2=b:1\"]")).unwrap();
        assert_eq!(layers.required("initial-cluster", parse::initial_cluster).unwrap().len(), 2);
    }

    #[test]
    fn strange_variables_are_found() {
        let layers = layers(&[], &[("KONTIKI_IDD", "1"), ("KONTIKI_ID", "1"), ("PATH", "x")], None).unwrap();
        assert_eq!(layers.unknown_variables(KNOWN), ["KONTIKI_IDD"]);
    }
}
