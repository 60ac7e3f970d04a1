//! `kontiki-inspect` on logs that are whole, torn, damaged, and open elsewhere.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use kontiki::kv::{self, Operation, Set, SetCondition};
use kontiki::proto::entry::{self, Body};
use kontiki_wal::{Batch, HardState, Index, NewEntry, Options, Term, Wal};
use serde_json::Value;

const CLEAN: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const TORN: i32 = 3;
const CONFIGURATION: i32 = 64;
const DAMAGED: i32 = 65;
const IO: i32 = 74;

struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

fn inspect(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki-inspect"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A log in a directory of its own: two terms, several segments, a hard state.
struct Sample {
    dir: tempfile::TempDir,
}

impl Sample {
    /// Entries 1 to `entries`, each setting `key:INDEX`; from the middle on in term 2. Closed cleanly.
    fn new(entries: u64) -> Sample {
        let sample = Sample { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        let wal = sample.open();
        for index in 1..=entries {
            let term = if index * 2 <= entries { Term(1) } else { Term(2) };
            let payload = set(index);
            let batch = Batch {
                hard_state: Some(HardState { term, vote: 3, commit: Index(index - 1) }),
                entries: &[NewEntry { index: Index(index), term, payload: &payload }],
                ..Batch::default()
            };
            let end = wal.append(&batch).unwrap();
            wal.wait_durable(end).unwrap();
        }
        wal.close().unwrap();
        sample
    }

    fn open(&self) -> Wal {
        let options = Options { segment_bytes: 64 << 10, node_id: 7, log_uuid: 0xabc, ..Options::default() };
        Wal::open(&self.wal(), options).unwrap().0
    }

    fn wal(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    /// Runs a command on this log with JSON output, and returns exit code and rows.
    fn json(&self, command: &str, args: &[&str]) -> (i32, Vec<Value>) {
        let output = inspect(&[&[command, self.path(), "--output", "json"], args].concat());
        assert_eq!(output.stderr, "");
        let rows = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.code, rows)
    }

    fn change(&self, file: &str, change: impl FnOnce(&mut [u8])) {
        let path = self.wal().join(file);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    fn flip(&self, file: &str, bit: usize) {
        self.change(file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }
}

fn set(index: u64) -> Vec<u8> {
    let set = Set {
        key: Bytes::from(format!("key:{index}")),
        value: Bytes::from(vec![b'v'; 600]),
        condition: SetCondition::Always,
        return_old: false,
        deadline_ms: None,
        keep_deadline: false,
    };
    entry::encode(&Body::Operation(Operation::Command(kv::Command::Set(set)))).to_vec()
}

fn number(row: &Value, field: &str) -> usize {
    usize::try_from(row[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {row}"))).unwrap()
}

#[track_caller]
fn assert_fields(rows: &[Value], fields: &[&str]) {
    for row in rows {
        for field in fields {
            assert!(row.as_object().unwrap().contains_key(*field), "{field} is missing in {row}");
        }
    }
}

fn active(segments: &[Value]) -> &Value {
    segments.iter().find(|row| row["state"] == "active").unwrap()
}

#[test]
fn a_whole_log_is_clean_and_every_row_has_every_field() {
    let sample = Sample::new(200);
    let (code, segments) = sample.json("segments", &[]);
    assert_eq!(code, CLEAN);
    let live: Vec<_> = segments.iter().filter(|row| row["state"] == "sealed" || row["state"] == "active").collect();
    assert!(live.len() >= 2, "{segments:#?}");
    assert_eq!((number(live[0], "first_index"), number(live[live.len() - 1], "last_index")), (1, 200));
    for pair in live.windows(2) {
        assert_eq!(number(pair[0], "last_index") + 1, number(pair[1], "first_index"));
        assert_eq!(number(pair[0], "seq") + 1, number(pair[1], "seq"));
    }
    let fields = ["file", "seq", "state", "first_index", "last_index", "tail_offset", "durable_mark", "verdict"];
    assert_fields(&segments, &fields);
    let states = ["free", "prepared", "active", "sealed"];
    assert!(segments.iter().all(|row| states.contains(&row["state"].as_str().unwrap())), "{segments:#?}");

    let (code, records) = sample.json("records", &[]);
    assert_eq!(code, CLEAN);
    assert_fields(&records, &["file", "offset", "length", "lsn", "index", "term", "kind"]);
    assert_fields(&records, &["header_crc_ok", "payload_crc_ok", "durable", "verdict"]);
    for row in &records {
        assert_eq!((&row["verdict"], &row["durable"]), (&"ok".into(), &true.into()), "{row}");
    }
    let entries: Vec<_> = records.iter().filter(|row| row["kind"] == "entry").map(|row| number(row, "index")).collect();
    assert_eq!(entries, (1..=200).collect::<Vec<_>>());

    let (code, findings) = sample.json("verify", &[]);
    assert_eq!(code, CLEAN);
    assert_fields(&findings, &["class", "file", "offset", "index", "term", "acknowledged", "expected", "computed"]);
    assert_fields(&findings, &["next"]);
    assert!(findings.iter().all(|row| row["class"] == "clean" || row["class"] == "stale"), "{findings:#?}");

    let (code, state) = sample.json("hard-state", &[]);
    assert_eq!(code, CLEAN);
    assert_eq!(["term", "vote", "commit_index"].map(|field| number(&state[0], field)), [2, 3, 199]);
    assert_eq!(["first_index", "last_index", "node_id"].map(|field| number(&state[0], field)), [1, 200, 7]);
}

/// A node's directory and the bare log directory are the same to every command.
#[test]
fn either_directory_will_do() {
    let sample = Sample::new(3);
    let wal = sample.wal();
    for command in ["segments", "records", "verify", "hard-state"] {
        let (above, below) = (inspect(&[command, sample.path()]), inspect(&[command, wal.to_str().unwrap()]));
        assert_eq!((above.code, below.code), (CLEAN, CLEAN), "{command}: {} {}", above.stderr, below.stderr);
        assert_eq!(above.stdout.lines().count(), below.stdout.lines().count());
    }
}

#[test]
fn records_are_chosen_and_decoded() {
    let sample = Sample::new(30);
    let indexes = |args: &[&str]| -> Vec<usize> {
        let (code, rows) = sample.json("records", args);
        assert_eq!(code, CLEAN);
        rows.iter().map(|row| number(row, "index")).collect()
    };
    assert_eq!(indexes(&["--from", "4", "--to", "6"]), [4, 5, 6]);
    assert_eq!(indexes(&["--kind", "entry", "--reverse", "--limit", "2"]), [30, 29]);
    assert_eq!(indexes(&["--kind", "entry", "--limit", "2"]), [1, 2]);
    assert_eq!(indexes(&["--kind", "entry", "--term", "2"]), (16..=30).collect::<Vec<_>>());
    assert_eq!(indexes(&["--key", "key:1?"]), (10..=19).collect::<Vec<_>>());
    assert_eq!(indexes(&["--key", "other"]), [0; 0]);

    let (_, rows) = sample.json("records", &["--kind", "hard_state,mark", "--term", "1"]);
    assert!(!rows.is_empty() && rows.iter().all(|row| row["index"].is_null()), "{rows:#?}");

    let (_, rows) = sample.json("records", &["--from", "4", "--to", "4", "--decode", "--hex"]);
    assert_eq!(rows[0]["decoded"]["keys"][0], "key:4");
    assert_eq!(rows[0]["payload_hex"].as_str().unwrap().len(), number(&rows[0], "length") * 2);
    let human = inspect(&["records", sample.path(), "--from", "4", "--to", "4", "--decode"]).stdout;
    assert!(human.contains("SET key:4 \"vvvv") && human.contains("(600 B)"), "{human}");
}

#[test]
fn one_entry_is_shown_whole() {
    let sample = Sample::new(5);
    let output = inspect(&["get", sample.path(), "4"]);
    assert_eq!(output.code, CLEAN, "{}", output.stderr);
    for word in ["SET key:4", "payload crc", "ok", "00000000  01 01 01"] {
        assert!(output.stdout.contains(word), "{word:?} is missing in:\n{}", output.stdout);
    }
    let missing = inspect(&["get", sample.path(), "6"]);
    assert_eq!((missing.code, missing.stderr.lines().count()), (FAILED, 1), "{}", missing.stderr);
}

/// Wherever a bit flips in an acknowledged record, its place is told; for an entry also which one it was.
#[test]
fn a_flipped_bit_in_any_record_is_found_where_it_is() {
    let sample = Sample::new(12);
    let (_, records) = sample.json("records", &[]);
    for row in &records {
        let (file, offset, length) = (row["file"].as_str().unwrap(), number(row, "offset"), number(row, "length"));
        let in_header = (offset + 17) * 8 + 3;
        let in_payload = (length > 0).then(|| (offset + 32 + length / 2) * 8 + 5);
        for bit in [Some(in_header), in_payload].into_iter().flatten() {
            sample.flip(file, bit);
            let (code, findings) = sample.json("verify", &[]);
            assert_eq!(code, DAMAGED, "bit {bit} of {row}: {findings:#?}");
            let here = |finding: &&Value| finding["file"] == file && finding["offset"] == offset;
            let finding = findings.iter().find(here).unwrap_or_else(|| panic!("bit {bit} of {row}: {findings:#?}"));
            assert_eq!((&finding["class"], &finding["acknowledged"]), (&"corrupt".into(), &true.into()), "{finding}");
            assert_ne!(finding["expected"], finding["computed"], "{finding}");
            if row["kind"] == "entry" && bit != in_header {
                let named = (&finding["index"], &finding["term"]);
                assert_eq!(named, (&row["index"], &row["term"]), "bit {bit}: {finding}");
            }
            let (code, rows) = sample.json("records", &[]);
            assert_eq!(code, DAMAGED);
            let mut hurt = rows.iter().filter(|row| row["verdict"] == "corrupt");
            assert!(hurt.any(|row| row["offset"] == offset), "bit {bit} of {row}: {rows:#?}");
            sample.flip(file, bit);
        }
    }
    assert_eq!(sample.json("verify", &[]).0, CLEAN, "all bits are back");
}

#[test]
fn acknowledged_records_that_are_zeros_are_damage() {
    let sample = Sample::new(12);
    let (_, records) = sample.json("records", &["--from", "9", "--to", "9"]);
    let (file, offset) = (records[0]["file"].as_str().unwrap().to_owned(), number(&records[0], "offset"));
    sample.change(&file, |bytes| {
        let end = bytes.len() - 4096;
        bytes[offset..end].fill(0);
    });
    let (code, findings) = sample.json("verify", &[]);
    assert_eq!(code, DAMAGED);
    let finding = findings.iter().find(|finding| finding["class"] == "corrupt").unwrap();
    assert_eq!((number(finding, "offset"), number(finding, "index")), (offset, 9));
}

#[test]
fn garbage_behind_the_end_is_a_torn_tail_and_zeros_are_not() {
    let sample = Sample::new(12);
    let (_, segments) = sample.json("segments", &[]);
    let (file, tail) = (active(&segments)["file"].as_str().unwrap(), number(active(&segments), "tail_offset"));
    sample.change(file, |bytes| {
        assert!(bytes[tail..bytes.len() - 4096].iter().all(|byte| *byte == 0), "a new slot is zeros behind its end");
        bytes[tail..tail + 100].fill(0xa5);
    });
    for command in ["verify", "segments", "records", "hard-state"] {
        assert_eq!(sample.json(command, &[]).0, TORN, "{command}");
    }
    let (_, findings) = sample.json("verify", &[]);
    let finding = findings.iter().find(|finding| finding["class"] == "torn").unwrap();
    assert_eq!((number(finding, "offset"), &finding["acknowledged"]), (tail, &false.into()));
    let human = inspect(&["verify", sample.path()]);
    assert!(human.stdout.contains(&format!("torn tail at byte {tail}")), "{}", human.stdout);

    // The log itself agrees: it opens, and has everything.
    let wal = sample.open();
    assert_eq!(wal.last_index(), Index(12));
    wal.close().unwrap();
    assert_eq!(sample.json("verify", &[]).0, CLEAN, "dropped");
}

#[test]
fn a_damaged_header_copy_is_told_and_the_other_serves() {
    let sample = Sample::new(12);
    let (_, segments) = sample.json("segments", &[]);
    sample.flip(active(&segments)["file"].as_str().unwrap(), 100 * 8);
    let (code, findings) = sample.json("verify", &[]);
    assert_eq!(code, DAMAGED);
    assert!(findings.iter().any(|finding| finding["offset"] == 0 && finding["acknowledged"] == false), "{findings:#?}");
    let (_, records) = sample.json("records", &["--kind", "entry"]);
    assert_eq!(records.len(), 12);
}

/// Looking at a log changes nothing; one that is open says so.
#[test]
fn reading_leaves_no_trace_and_a_live_log_is_called_live() {
    let sample = Sample::new(3);
    let snapshot = |dir: &Path| -> Vec<_> {
        let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let modified = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
        files.into_iter().map(|path| (modified(&path), fs::read(&path).unwrap(), path)).collect()
    };
    let before = snapshot(&sample.wal());
    for command in ["segments", "records", "verify", "hard-state"] {
        let output = inspect(&[command, sample.path()]);
        assert!(output.code == CLEAN && !output.stdout.contains("live"), "{command}: {}", output.stdout);
    }
    assert!(snapshot(&sample.wal()) == before, "reading changed something");

    let wal = sample.open();
    let output = inspect(&["segments", sample.path()]);
    assert!(output.stdout.contains("live"), "{}", output.stdout);
    wal.close().unwrap();
}

#[test]
fn trouble_is_one_line_with_its_exit_code() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let empty = dir.path().to_str().unwrap();
    let absent = format!("{empty}/absent");
    let cases: [(&[&str], i32, &str); 6] = [
        (&["verify", empty], IO, "holds no log"),
        (&["segments", &absent], IO, "absent"),
        (&["verify"], USAGE, "DIR"),
        (&["verify", empty, "--no-such-flag"], USAGE, "--no-such-flag"),
        (&["records", empty, "--kind", "nonsense"], CONFIGURATION, "nonsense"),
        (&["records", empty, "--output", "xml"], CONFIGURATION, "xml"),
    ];
    for (args, code, word) in cases {
        let output = inspect(args);
        assert_eq!((output.code, output.stderr.lines().count()), (code, 1), "{args:?}: {}", output.stderr);
        assert!(output.stderr.starts_with("kontiki-inspect: ") && output.stderr.contains(word), "{}", output.stderr);
    }
    assert!(inspect(&["completions", "bash"]).stdout.contains("kontiki-inspect"));
    assert!(inspect(&["--version"]).stdout.starts_with("kontiki-inspect "));
}
