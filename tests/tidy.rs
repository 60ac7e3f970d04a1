//! The rules of the house that no lint can keep. Every breach is told as `file:line: what`.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::{Source, files, has_word, name_of, root, rust};

#[path = "tidy/source.rs"]
mod source;

/// Which modules of `src/` a module may name. Arrows go one way; `cli` and `main` may name all.
const ARROWS: &[(&str, &[&str])] = &[
    ("raft", &[]),
    ("kv", &[]),
    ("proto", &["raft", "kv"]),
    ("node", &["raft", "kv", "proto"]),
    ("sim", &["node", "proto", "kv", "raft", "kontiki_wal"]),
    ("storage", &["kontiki_wal", "kontiki_snapshot", "raft", "proto"]),
    ("transport", &["proto", "raft"]),
    ("runtime", &["node", "storage", "transport", "kv", "proto", "raft"]),
    ("server", &["runtime", "proto", "kv", "node", "raft", "transport"]),
    ("client", &["proto", "kv", "transport"]),
];

/// Single files that may name one module more, and why.
const ARROW_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/runtime/doors.rs", "server", "starting a node opens its doors"),
    ("src/runtime/start.rs", "kontiki_wal", "what the log refuses decides the exit code"),
    ("src/runtime/start.rs", "kontiki_snapshot", "what the identity file refuses decides the exit code"),
    ("src/runtime/consensus.rs", "kontiki_wal", "a failed sync ends the node"),
    ("src/storage/journal.rs", "node", "the journal is handed what a turn wants written"),
];

/// Modules that take no clock, thread, socket, file, lock, or randomness, and show no hash order.
const PURE: &[&str] = &["raft", "kv", "node", "proto", "sim"];

/// What pure code may not name.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "Mutex",
    "RwLock",
    "std::env",
    "std::fs",
    "std::net",
    "std::thread",
    "std::sync::mpsc",
    "tokio::",
    "parking_lot::",
    "rand::",
];

/// The files that may say `unsafe`, each under a numbered contract.
const UNSAFE: &[&str] = &["wal/src/mmap.rs", "snapshot/src/mmap.rs", "src/runtime/sigbus.rs"];

/// The most lines of a file that is not a test.
const LINES_MAX: usize = 500;

#[track_caller]
fn tell(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{} breaches:\n{}\n", breaches.len(), breaches.join("\n"));
}

/// Every breach of every rule about Rust files.
fn breaches(sources: &[Source]) -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut breaches = Vec::new();
    for source in sources {
        arrows(source, &mut breaches);
        purity(source, &mut breaches);
        unsafety(source, &mut breaches);
        duty(source, &mut breaches);
        leftovers(source, &mut breaches);
        sleeps(source, &mut breaches);
        unreached(source, sources, &manifest, &mut breaches);
    }
    breaches
}

#[test]
fn rust_files_keep_the_rules() {
    tell(breaches(&rust()));
}

/// Files that break one rule each: name, text below the first line, and what is to be told.
fn broken() -> Vec<(&'static str, String, &'static str)> {
    let broken: &[(&str, &str, &str)] = &[
        ("src/raft/a.rs", "use crate::kv::Store;", "raft names kv"),
        ("src/kv/a.rs", "use crate::{\n    kv::Store,\n    raft::{Index, Term},\n};", "kv names raft"),
        ("src/storage/a.rs", "fn f() { crate::server::serve() }", "storage names server"),
        ("src/raft/a.rs", "use kontiki_wal::Wal;", "raft names kontiki_wal"),
        ("wal/src/a.rs", "use kontiki_snapshot::sealed_file;", "wal names another crate of ours"),
        ("src/node/a.rs", "let now = Instant::now();", "Instant in pure code"),
        ("src/sim/a.rs", "let x = rand::random();", "rand:: in pure code"),
        ("wal/src/log.rs", "unsafe { *p }", "unsafe"),
        ("src/kv/a.rs", "#![allow(unsafe_code)]", "lifts the lint on unsafe code"),
        ("src/kv/a.rs", &"\n".repeat(LINES_MAX), "a second duty?"),
        ("src/kv/a.rs", &["to", "do!()"].concat(), "left over"),
        ("tests/it/main.rs", "thread::sleep(ms);", "sleeps"),
        ("src/kv/a.rs", "#[cfg(test)]\nmod tests {\n    fn t() { sleep(ms) }\n}", "sleeps"),
    ];
    broken.iter().map(|(name, text, expected)| (*name, (*text).to_owned(), *expected)).collect()
}

/// Each rule finds the breach it is there for, and only that.
#[test]
fn the_rules_can_fail() {
    for (name, text, expected) in broken() {
        let source = Source::new(name.to_owned(), format!("//! Says its duty.\n{text}"));
        let parent = Source::new(
            format!("{}/mod.rs", name.rsplit_once('/').unwrap().0),
            "//! Declares.\nmod a;\nmod log;".to_owned(),
        );
        let found: Vec<String> =
            breaches(&[source, parent]).into_iter().filter(|breach| !breach.contains("/mod.rs:")).collect();
        assert!(found.len() == 1 && found[0].contains(expected), "{name}: {text}: {found:?}");
    }
    let harmless = "//! Says unsafe, Instant and crate::server in words.\nconst S: &str = \"unsafe crate::server::x\"; // unsafe\n";
    let orphan = Source::new("src/kv/a.rs".to_owned(), harmless.to_owned());
    assert_eq!(breaches(&[orphan]), ["src/kv/a.rs:1: no module declares it"]);
    let silent = Source::new("src/main.rs".to_owned(), "fn main() {}".to_owned());
    assert_eq!(breaches(&[silent]).len(), 1, "a file without a first line that says its duty");
}

/// Modules name only what the house's arrows allow.
fn arrows(source: &Source, breaches: &mut Vec<String>) {
    for (at, line) in source.code.iter().enumerate() {
        let ours = match source.name.split('/').next() {
            Some("wal") => ["kontiki::", "kontiki_snapshot"],
            Some("snapshot") => ["kontiki::", "kontiki_wal"],
            _ => break,
        };
        if ours.iter().any(|other| has_word(line, other)) {
            let from = &source.name[..source.name.find('/').unwrap()];
            breaches.push(format!("{}:{}: {from} names another crate of ours", source.name, at + 1));
        }
    }
    let Some(module) = source.module() else {
        return;
    };
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
        assert!(matches!(module, "cli" | "main" | "lib"), "src/{module}: give it a place in ARROWS");
        return;
    };
    let modules = ARROWS.iter().map(|(name, _)| *name);
    let others: Vec<&str> = modules
        .chain(["cli", "kontiki_wal", "kontiki_snapshot"])
        .filter(|other| *other != module && !allowed.contains(other))
        .collect();
    for (line, target) in named_modules(source) {
        let excepted = ARROW_EXCEPTIONS.iter().any(|(file, to, _)| *file == source.name && *to == target);
        if others.contains(&target.as_str()) && !excepted {
            breaches.push(format!("{}:{line}: {module} names {target}", source.name));
        }
    }
}

/// The modules of `src/` and crates of ours that the shipped lines of a file name, with line numbers.
fn named_modules(source: &Source) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let segment = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    // Inside `use crate::{…}`: how many braces are open. Names at depth 1 are modules.
    let mut depth = 0usize;
    for (number, line) in source.shipped() {
        for (at, start) in line.match_indices("crate::") {
            let rest = &line[at + start.len()..];
            if !rest.starts_with('{') {
                named.push((number, segment(rest)));
            }
        }
        let group = match line.rsplit_once("crate::{") {
            Some((_, group)) => {
                depth = 1;
                group
            }
            None => line,
        };
        let mut starts = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' if depth > 0 => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                ',' => starts = true,
                c if starts && depth == 1 && c.is_alphabetic() => {
                    named.push((number, segment(&group[at..])));
                    starts = false;
                }
                _ => {}
            }
        }
        for ours in ["kontiki_wal", "kontiki_snapshot"] {
            if has_word(line, ours) {
                named.push((number, ours.to_owned()));
            }
        }
    }
    named
}

/// Pure modules take an input instead of asking the world.
fn purity(source: &Source, breaches: &mut Vec<String>) {
    if !source.module().is_some_and(|module| PURE.contains(&module)) {
        return;
    }
    for (number, line) in source.shipped() {
        for word in IMPURE.iter().filter(|word| has_word(line, word)) {
            breaches.push(format!("{}:{number}: {word} in pure code", source.name));
        }
    }
}

/// `unsafe` stays in the files that carry a contract, and only their modules lift the lint.
fn unsafety(source: &Source, breaches: &mut Vec<String>) {
    if UNSAFE.contains(&source.name.as_str()) {
        return;
    }
    for (at, line) in source.code.iter().enumerate() {
        let next = source.code.get(at + 1).map_or("", |next| next.trim());
        let for_a_contract = matches!(next, "mod mmap;" | "pub mod mmap;" | "mod sigbus;");
        if has_word(line, "unsafe") {
            breaches.push(format!("{}:{}: unsafe", source.name, at + 1));
        }
        if line.contains("allow(unsafe_code") && !for_a_contract {
            breaches.push(format!("{}:{}: lifts the lint on unsafe code", source.name, at + 1));
        }
    }
}

/// A file has one duty and says it first.
fn duty(source: &Source, breaches: &mut Vec<String>) {
    if !source.text.starts_with("//! ") {
        breaches.push(format!("{}:1: the first line does not say what the file is for", source.name));
    }
    if !source.is_test() && source.tests_from > LINES_MAX {
        breaches.push(format!("{}:{LINES_MAX}: {} lines; a second duty?", source.name, source.tests_from));
    }
}

/// Nothing is left for later in silence.
fn leftovers(source: &Source, breaches: &mut Vec<String>) {
    // Spelled in two halves, so that this file passes its own rule.
    let halves = [
        ("to", "do!("),
        ("unimple", "mented!("),
        ("dbg", "!("),
        ("#[ign", "ore"),
        ("FIX", "ME"),
        ("XX", "X"),
        ("TO", "DO"),
    ];
    let markers = halves.map(|(a, b)| format!("{a}{b}"));
    for (at, line) in source.text.lines().enumerate() {
        for marker in markers.iter().filter(|marker| has_word(line, marker)) {
            breaches.push(format!("{}:{}: {marker} left over", source.name, at + 1));
        }
    }
}

/// Tests await events. A bench may let a machine come to rest.
fn sleeps(source: &Source, breaches: &mut Vec<String>) {
    if source.name.starts_with("benches/") {
        return;
    }
    let from = if source.is_test() { 0 } else { source.tests_from };
    for (at, line) in source.code.iter().enumerate().skip(from) {
        if has_word(line, "sleep(") {
            breaches.push(format!("{}:{}: sleeps", source.name, at + 1));
        }
    }
}

/// A file that no `mod` reaches is neither compiled nor tested; a bench without an entry runs the wrong harness.
fn unreached(source: &Source, sources: &[Source], manifest: &str, breaches: &mut Vec<String>) {
    let (folder, file) = source.name.rsplit_once('/').unwrap_or(("", &source.name));
    let (above, folder_name) = folder.rsplit_once('/').unwrap_or(("", folder));
    let stem = file.strip_suffix(".rs").unwrap();
    if folder_name == "benches" {
        if !manifest.contains(&format!("[[bench]]\nname = \"{stem}\"\nharness = false")) {
            breaches.push(format!("{}:1: no [[bench]] entry with `harness = false`", source.name));
        }
        return;
    }
    // Each file of these folders is a crate of its own, and may declare the modules below it.
    let is_crates = |folder: &str| {
        matches!(folder, "tests" | "examples" | "wal/tests" | "wal/examples" | "snapshot/tests" | "tools/tests")
    };
    if is_crates(folder) || matches!(stem, "main" | "lib") || folder_name == "fuzz_targets" {
        return;
    }
    let roots = ["mod.rs", "lib.rs", "main.rs"];
    let (module, parents) = if stem == "mod" {
        (folder_name, roots.map(|name| format!("{above}/{name}")).to_vec())
    } else {
        let beside = roots.map(|name| format!("{folder}/{name}"));
        (stem, beside.into_iter().chain([format!("{folder}.rs")]).collect())
    };
    let declaration = format!("mod {module};");
    let by_path = format!("#[path = \"{file}\"]");
    let declares = |parent: &Source| {
        let parent_folder = parent.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let may_declare = parents.contains(&parent.name) || stem == "mod" && parent_folder == above && is_crates(above);
        may_declare && parent.code.iter().any(|line| has_word(line, &declaration))
            || parent_folder == folder && parent.text.contains(&by_path)
    };
    if !sources.iter().any(declares) {
        breaches.push(format!("{}:1: no module declares it", source.name));
    }
}

#[test]
fn manifests_inherit_the_lints() {
    let manifests = files(&["Cargo.toml"]);
    let silent =
        manifests.iter().filter(|path| !fs::read_to_string(path).unwrap().contains("[lints]\nworkspace = true"));
    tell(silent.map(|path| format!("{}:1: does not inherit the workspace's lints", name_of(path))).collect());
}

/// A script is reached when the code above its folder walks the folder or names the script.
#[test]
fn every_testscript_is_reached() {
    let sources = rust();
    let mut breaches = Vec::new();
    for script in files(&[""]) {
        let name = name_of(&script);
        let Some((above, below)) = name.split_once("/testscripts/") else {
            continue;
        };
        let stem = Path::new(below).file_stem().unwrap().to_str().unwrap();
        let reached = sources.iter().any(|source| {
            source.name.starts_with(above)
                && source.text.contains("testscripts")
                && (source.text.contains("read_dir(") || has_word(&source.text, stem))
        });
        if !reached {
            breaches.push(format!("{name}:1: no test runs it"));
        }
    }
    tell(breaches);
}

#[test]
fn links_in_the_docs_resolve() {
    let mut breaches = Vec::new();
    for page in files(&[".md"]) {
        let text = fs::read_to_string(&page).unwrap();
        for (at, line) in text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
                if !target.exists() {
                    breaches.push(format!("{}:{}: no {file}", name_of(&page), at + 1));
                } else if !anchor.is_empty() && file_has_no_anchor(&target, anchor) {
                    breaches.push(format!("{}:{}: no #{anchor} in {}", name_of(&page), at + 1, name_of(&target)));
                }
            }
        }
    }
    tell(breaches);
}

/// Files of the house that the docs name exist: `src/kv/store.rs` in backticks is a promise too.
#[test]
fn files_that_the_docs_name_exist() {
    let folders = ["src/", "wal/", "snapshot/", "tools/", "tests/", "benches/", "docs/", "examples/", ".ci/"];
    let mut breaches = Vec::new();
    for page in files(&[".md"]) {
        let text = fs::read_to_string(&page).unwrap();
        for (at, line) in text.lines().enumerate() {
            for word in line.split('`').skip(1).step_by(2) {
                let names_a_file = folders.iter().any(|folder| word.starts_with(folder)) && !word.contains([' ', '*']);
                if names_a_file && !root().join(word).exists() {
                    breaches.push(format!("{}:{}: no {word}", name_of(&page), at + 1));
                }
            }
        }
    }
    tell(breaches);
}

fn file_has_no_anchor(page: &Path, anchor: &str) -> bool {
    let slug = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    let text = fs::read_to_string(page).unwrap();
    let anchors: BTreeSet<String> = text.lines().filter(|line| line.starts_with('#')).map(slug).collect();
    !anchors.contains(anchor)
}

#[test]
fn nothing_names_a_machine() {
    // Spelled in two halves, so that this file passes its own rule.
    let halves = [("../sha", "red"), ("/wo", "rk/"), ("/fa", "rm/"), ("/ro", "ot/"), ("/ho", "me/"), ("/Us", "ers/")];
    let places = halves.map(|(a, b)| format!("{a}{b}"));
    let mut breaches = Vec::new();
    for path in files(&[".rs", ".md", ".toml", ".yml", ".yaml", ".json", ".txt", ".sh", "run", "LICENSE"]) {
        let text = fs::read_to_string(&path).unwrap();
        for (at, line) in text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place.as_str())) {
                breaches.push(format!("{}:{}: {}", name_of(&path), at + 1, line.trim()));
            }
        }
    }
    tell(breaches);
}
