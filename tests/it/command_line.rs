//! The command line itself: help, versions, pipes, and one line for everything that is wrong.

use std::process::Stdio;

use crate::harness::{TestDir, kontiki, run};

const COMMANDS: [&[&str]; 16] = [
    &[],
    &["cluster"],
    &["start"],
    &["cert"],
    &["cert", "ca"],
    &["cert", "node"],
    &["cert", "client"],
    &["put"],
    &["append"],
    &["get"],
    &["del"],
    &["cas"],
    &["range"],
    &["status"],
    &["bench"],
    &["completions"],
];

#[test]
fn help_is_on_every_level_with_examples() {
    for command in COMMANDS {
        let help = run(kontiki(command.iter().chain(&["--help"])));
        let text = help.success();
        let name = ["kontiki"].iter().chain(command).copied().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("Usage: {name}")), "{text}");
        let (_, examples) = text.split_once("Examples:").unwrap_or_else(|| panic!("no examples: {text}"));
        assert!(examples.contains(&name), "{text}");
        assert_eq!(help.stderr, "");
        assert!(!text.contains('\x1b'), "colour in a file: {text}");
    }
}

#[test]
fn the_version_is_on_every_level() {
    let version = concat!(env!("CARGO_PKG_VERSION"), "\n");
    for command in COMMANDS {
        let told = run(kontiki(command.iter().chain(&["--version"])));
        assert!(told.success().ends_with(version), "{told:#?}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = run(kontiki(["completions", shell]));
        assert!(text.success().contains("cluster"), "{shell}");
    }
    run(kontiki(["completions", "tcl"])).assert_refused(64, &["tcl", "bash"]);
}

/// What is unknown or missing is usage (2); a bad value is configuration (64).
#[test]
fn wrong_lines_are_told_in_one_line() {
    for (code, line, word) in [
        (2, "frobnicate", "frobnicate"),
        (2, "cluster --no-such-flag", "--no-such-flag"),
        (2, "put onlykey", "<VALUE>"),
        (2, "cert ca", "--tls-dir"),
        (2, "cert node --tls-dir t", "--id"),
        (2, "start --data-dir d", "--id"),
        (2, "start --id", "--id"),
        (64, "cluster --nodes 0", "--nodes"),
        (64, "cluster --base-port 70000", "70000"),
        (64, "cert node --id 0 --tls-dir t", "--id"),
        (64, "get k --endpoints nowhere", "nowhere"),
        (64, "get k --timeout soon", "soon"),
        (64, "get k --output xml", "xml"),
        (64, "get k --tls-dir /nonexistent", "/nonexistent/ca.pem"),
        (64, "bench --clients 0", "--clients"),
        (2, "bench --total 5 --duration 5s", "--duration"),
        (69, "status --http 127.0.0.1:1", "127.0.0.1:1"),
        (69, "status --endpoints 127.0.0.1:1", "127.0.0.1:1"),
    ] {
        run(kontiki(line.split(' '))).assert_refused(code, &[word]);
    }
}

#[test]
fn a_bad_variable_is_named() {
    let mut command = kontiki(["get", "k"]);
    command.env("KONTIKI_ENDPOINTS", "nowhere");
    run(command).assert_refused(64, &["nowhere"]);
    let mut command = kontiki(["start", "--data-dir", "d"]);
    command.env("KONTIKI_ID", "zero");
    run(command).assert_refused(64, &["KONTIKI_ID", "zero"]);
}

#[test]
fn certificates_are_not_made_twice_nor_without_an_authority() {
    let dir = TestDir::new();
    let tls = dir.join("tls").display().to_string();
    run(kontiki(["cert", "node", "--id", "1", "--tls-dir", &tls])).assert_refused(64, &["ca.pem", "cert ca"]);
    run(kontiki(["cert", "ca", "--tls-dir", &tls, "--cluster", "a b"])).assert_refused(64, &["a b"]);
    run(kontiki(["cert", "ca", "--tls-dir", &tls])).success();
    let authority = std::fs::read(dir.join("tls/ca.pem")).unwrap();
    run(kontiki(["cert", "ca", "--tls-dir", &tls])).assert_refused(1, &["ca.key"]);
    assert_eq!(std::fs::read(dir.join("tls/ca.pem")).unwrap(), authority);
    run(kontiki(["cert", "client", "--name", "x", "--tls-dir", &tls])).success();
    assert!(dir.join("tls/client.key").exists());
}

/// A reader that leaves early is not an error, and never a panic.
#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = kontiki(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
