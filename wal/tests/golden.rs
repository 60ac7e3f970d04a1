//! The format, byte for byte: what is on disks today must be read forever.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use common::{append, open, settle, sync, vote};
use kontiki_wal::disk::SlotId;
use kontiki_wal::format::{FLAG_LAST, HeaderFault, Kind, RecordHeader, SegmentHeader};
use kontiki_wal::mem::MemDisk;
use kontiki_wal::{Batch, HardState, Index, LogId, Lsn, Term};

/// The checksum by its definition, bit by bit, continuing from `initial`.
fn crc32(initial: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!initial, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_segment_header_is_laid_out_as_documented() {
    let header = SegmentHeader {
        log_uuid: 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10,
        cluster_id: 0x1112_1314_1516_1718_191A_1B1C_1D1E_1F20,
        node_id: 0x21,
        segment_bytes: 0x10_0000,
        seq: 0x23,
        base: LogId { index: Index(0x24), term: Term(0x25) },
        prev_end: Lsn(0x26),
        prev_check: 0x27,
        salt: 0x28,
        old_salts: [0x29, 0x2A, 0, 0, 0, 0, 0, 0x2B],
        hard_state: HardState { term: Term(0x2C), vote: 0x2D, commit: Index(0x2E) },
        durable: Lsn(0x2F),
        purged: LogId { index: Index(0x30), term: Term(0x31) },
        generation: 0x32,
    };
    let block = header.encode();
    assert_eq!(&block[..8], b"KONTIWAL");
    assert_eq!(hex(&block[8..16]), "0100000100000000");
    assert_eq!(hex(&block[16..32]), "100f0e0d0c0b0a090807060504030201");
    assert_eq!(hex(&block[32..48]), "201f1e1d1c1b1a191817161514131211");
    let numbers = [0x21u64, 0x10_0000, 0x23, 0x24, 0x25, 0x26];
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(hex(&block[48..96]), hex(&bytes));
    assert_eq!(hex(&block[96..112]), "2700000028000000290000002a000000");
    assert_eq!(hex(&block[112..136]), "00000000000000000000000000000000000000002b000000");
    let bytes: Vec<u8> = (0x2Cu64..=0x32).flat_map(u64::to_le_bytes).collect();
    assert_eq!(hex(&block[136..192]), hex(&bytes));
    assert!(block[192..252].iter().chain(&block[256..]).all(|&byte| byte == 0));
    assert_eq!(block[252..256], crc32(0, &block[..252]).to_le_bytes());
    assert_eq!(SegmentHeader::decode(&block[..]), Ok(header));
    let mut later = *block;
    later[8] = 2;
    let crc = crc32(0, &later[..252]);
    later[252..256].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&later), Err(HeaderFault::Version(2)));
}

#[test]
fn a_record_header_is_laid_out_as_documented() {
    let header = RecordHeader {
        payload_crc: 0x0403_0201,
        link: 0x0807_0605,
        length: 5,
        term: Term(0x0A),
        relative_index: -2,
        kind: Kind::Entry,
        flags: FLAG_LAST,
        group: 0,
    };
    let (bytes, check) = header.encode(0xDEAD_BEEF, 4096);
    assert_eq!(hex(&bytes[4..]), "0102030405060708050000000a00000000000000feffffff01020000");
    assert_eq!(check, crc32(0xDEAD_BEEF ^ 512, &bytes[4..]));
    assert_eq!(bytes[..4], check.to_le_bytes());
    assert_eq!((RecordHeader::decode(&bytes), header.bytes()), (Some(header), 40));
}

#[test]
fn a_whole_log_is_the_same_bytes_for_the_same_seed() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 42).unwrap();
    vote(&mut log, 1, 3);
    append(&mut log, 1, 1, b"first");
    append(&mut log, 2, 1, &[0xAB; 33]);
    sync(&mut log);
    log.append(&Batch { truncate_from: Some(Index(2)), ..Batch::default() }).unwrap();
    log.purge(Index(1)).unwrap();
    settle(&mut log);
    let content = disk.content(SlotId(0)).unwrap();
    let used = (log.written().0 % common::SEGMENT) as usize;
    let kinds: Vec<u8> = {
        let mut at = 4096;
        std::iter::from_fn(|| {
            let kind = content[at + 28];
            let length = u32::from_le_bytes(content[at + 12..at + 16].try_into().unwrap()) as usize;
            at += 32 + length.next_multiple_of(8);
            (kind != 0).then_some(kind)
        })
        .collect()
    };
    assert_eq!(kinds, [8, 5, 2, 1, 1, 5, 3, 4, 5, 5]);
    let sum = crc32(0, &content);
    assert_eq!((used, sum), GOLDEN, "the bytes of a log changed: that is a new format version");
}

/// Where the records of that log end, and the checksum of its slot.
const GOLDEN: (usize, u32) = (4624, 3_636_409_240);
