//! RocksDB's logs (the write-ahead log and the manifest) looked through before it opens them.
//!
//! RocksDB ends its recovery at the first record that it cannot read. That is right for the end of a log that a crash cut short,
//! and wrong for damage in the middle, where it would forget in silence what was acknowledged after it. So whatever is damaged
//! must be the torn end of its file, with nothing that was written after it.
//!
//! A log is a sequence of blocks of 32 KiB, each a sequence of fragments of records:
//!
//! ```text
//!  crc32c, masked (4) │ length (2) │ type (1) │ payload          type: 1 whole, 2 first, 3 middle, 4 last
//! ```
//!
//! A record of the write-ahead log is a batch: its sequence number (8 bytes, little-endian), how many of them it takes (4), its
//! entries. Sequence numbers follow each other without a gap, from file to file too.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::Error;
use crate::error::Result;

/// The file that names the manifest.
const CURRENT: &str = "CURRENT";
/// Fragments do not cross the multiples of this.
const BLOCK_BYTES: usize = 32 << 10;
/// Bytes before a fragment's payload.
const HEADER_BYTES: usize = 7;
/// Bytes at the beginning of a batch that say which sequence numbers it takes.
const BATCH_HEADER_BYTES: usize = 12;
/// An end of so many zeroes was never written: only the file's length came to disk.
const UNWRITTEN_BYTES: usize = 512;
/// Added to a checksum by RocksDB's masking.
const MASK_DELTA: u32 = 0xa282_ead8;

/// Refuses a RocksDB folder whose logs are damaged in another way than a crash can do it. What is not there yet is not missing.
pub(super) fn check(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let (mut logs, mut has_data) = (Vec::new(), false);
    for entry in entries {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        has_data |= matches!(extension, Some("sst" | "log"));
        if extension == Some("log") {
            logs.push(path);
        }
    }
    let current = folder.join(CURRENT);
    if current.exists() {
        check_manifest(folder, &current)?;
    } else if has_data {
        return Err(Error::corrupted(format!("file \"{}\" is missing", current.display()))
            .detail("Without it RocksDB would begin anew and delete what is there.")
            .hint("Restore the data directory from a backup."));
    }
    logs.sort();
    let mut sequence = Sequence::default();
    for log in logs {
        let damage = walk(&log, &mut |fragment| sequence.take(fragment))?;
        if let Some(gap) = sequence.gap {
            let missing = format!("sequence number {} is missing before {}", gap.expected, gap.found);
            return Err(damaged(&log, gap.offset, &format!("Records are missing: {missing}.")));
        }
        refuse(&log, damage)?;
        sequence.begin_file();
    }
    Ok(())
}

/// The manifest that is named must be there, and whole up to its end.
fn check_manifest(folder: &Path, current: &Path) -> Result<()> {
    let text = std::fs::read(current)?;
    let name = text.strip_suffix(b"\n").and_then(|name| std::str::from_utf8(name).ok());
    let number = name.and_then(|name| name.strip_prefix("MANIFEST-"));
    let manifest = match (name, number) {
        (Some(name), Some(number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => folder.join(name),
        _ => return Err(damaged(current, 0, "It should hold the name of a manifest.")),
    };
    if !manifest.exists() {
        return Err(Error::corrupted(format!("file \"{}\" is missing", manifest.display()))
            .detail(format!("It is named by \"{}\".", current.display()))
            .hint("Restore the data directory from a backup."));
    }
    let damage = walk(&manifest, &mut |_| {})?;
    refuse(&manifest, damage)
}

fn refuse(file: &Path, damage: Option<Damage>) -> Result<()> {
    match damage {
        None => Ok(()),
        Some(Damage { torn: true, .. }) => {
            tracing::info!(file = %file.display(), "a crash cut the last record of a log short; it was never acknowledged");
            Ok(())
        }
        Some(Damage { offset, torn: false }) => Err(damaged(
            file,
            offset,
            "This is no write that a crash has cut short: it was whole, or others came after it.",
        )),
    }
}

fn damaged(file: &Path, offset: u64, detail: &str) -> Error {
    Error::corrupted(format!("file \"{}\" is damaged at byte {offset}", file.display()))
        .detail(detail)
        .hint("Restore the data directory from a backup.")
}

/// A place in a log that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Damage {
    /// Where it begins.
    offset: u64,
    /// Whether it is the last that was written, and not to its end.
    torn: bool,
}

/// An intact part of a record.
struct Fragment<'a> {
    /// Where it begins.
    offset: u64,
    /// Whether a record begins with it.
    first: bool,
    /// Whether it is part of a record at all, and not a remark about the log.
    of_record: bool,
    payload: &'a [u8],
}

/// Whether sequence numbers follow each other.
#[derive(Default)]
struct Sequence {
    /// The number after those of the last record; `None` before the first.
    next: Option<u64>,
    /// The first bytes of the record that is being read.
    head: Vec<u8>,
    /// Where that record begins.
    offset: u64,
    /// The first gap.
    gap: Option<Gap>,
}

/// Records that are missing.
#[derive(Clone, Copy)]
struct Gap {
    expected: u64,
    found: u64,
    /// Where the record after them begins.
    offset: u64,
}

impl Sequence {
    fn begin_file(&mut self) {
        self.head.clear();
    }

    fn take(&mut self, fragment: Fragment<'_>) {
        if !fragment.of_record {
            return;
        }
        if fragment.first {
            self.head.clear();
            self.offset = fragment.offset;
        }
        let missing = BATCH_HEADER_BYTES - self.head.len();
        if missing == 0 {
            return;
        }
        self.head.extend(fragment.payload.iter().take(missing));
        if let Some((sequence, count)) = self.head.split_first_chunk::<8>()
            && let Some(count) = count.first_chunk::<4>()
        {
            let (found, count) = (u64::from_le_bytes(*sequence), u32::from_le_bytes(*count));
            if let Some(expected) = self.next.filter(|&expected| found > expected) {
                self.gap.get_or_insert(Gap { expected, found, offset: self.offset });
            }
            self.next = Some(found + u64::from(count));
        }
    }
}

/// Passes the intact fragments of a file up to its end, or to the first place that is damaged.
fn walk(path: &Path, take: &mut dyn FnMut(Fragment<'_>)) -> Result<Option<Damage>> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let (mut block, mut start) = (Vec::with_capacity(BLOCK_BYTES), 0);
    loop {
        block.clear();
        (&mut file).take(BLOCK_BYTES as u64).read_to_end(&mut block).map_err(|error| unreadable(path, &error))?;
        let mut at = 0;
        while block.len() - at >= HEADER_BYTES {
            let Some((kind, payload)) = intact(&block[at..]) else {
                let mut rest = block.split_off(at);
                file.read_to_end(&mut rest).map_err(|error| unreadable(path, &error))?;
                return Ok(Some(Damage { offset: start + at as u64, torn: is_torn(&rest, at) }));
            };
            let first = matches!(kind, 1 | 2);
            let of_record = matches!(kind, 1..=4);
            take(Fragment { offset: start + at as u64, first, of_record, payload });
            at += HEADER_BYTES + payload.len();
        }
        // A block ends in zeroes where no header fits; a file, in less than a header that was cut.
        if block.len() < BLOCK_BYTES {
            return Ok((at < block.len()).then_some(Damage { offset: start + at as u64, torn: true }));
        }
        start += BLOCK_BYTES as u64;
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::io(format!("cannot read file \"{}\": {error}", path.display()))
}

/// The type and payload of the fragment that begins here and ends in this block; `None` if it is damaged.
fn intact(block: &[u8]) -> Option<(u8, &[u8])> {
    let (header, rest) = block.split_first_chunk::<HEADER_BYTES>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let payload = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
    let whole = kind != 0 && is_checksum(u32::from_le_bytes([c0, c1, c2, c3]), kind, payload);
    whole.then_some((kind, payload))
}

/// Whether damage, `at` bytes after the beginning of a block, is a last record that was not written to its end. `rest` is
/// everything from there on.
fn is_torn(rest: &[u8], at: usize) -> bool {
    let block_left = |offset: usize| BLOCK_BYTES - (at + offset) % BLOCK_BYTES;
    // Nothing intact comes after it.
    for offset in 1..rest.len().saturating_sub(HEADER_BYTES - 1) {
        let end = rest.len().min(offset + block_left(offset));
        if matches!(rest[offset + HEADER_BYTES - 1], 1..=4) && intact(&rest[offset..end]).is_some() {
            return false;
        }
    }
    let unwritten = rest.len().min(UNWRITTEN_BYTES);
    if rest[rest.len() - unwritten..].iter().all(|&byte| byte == 0) {
        return true;
    }
    // It is cut, unless only its length is not what it was.
    let Some((header, payload)) = rest.split_first_chunk::<HEADER_BYTES>() else { return true };
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    let here = &payload[..payload.len().min(block_left(0).saturating_sub(HEADER_BYTES))];
    length > here.len() && here.len() == payload.len() && !is_checksum(u32::from_le_bytes([c0, c1, c2, c3]), kind, here)
}

/// Whether this is the masked checksum of a fragment.
fn is_checksum(masked: u32, kind: u8, payload: &[u8]) -> bool {
    let crc = crc32c(&[&[kind], payload]);
    masked == (crc.rotate_right(15)).wrapping_add(MASK_DELTA)
}

/// CRC-32C (Castagnoli), eight bytes at a time.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = !0u32;
    for part in parts {
        let (eights, rest) = part.as_chunks::<8>();
        for eight in eights {
            let [a, b, c, d, e, f, g, h] = (u64::from_le_bytes(*eight) ^ u64::from(crc)).to_le_bytes().map(usize::from);
            let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
            crc = t7[a] ^ t6[b] ^ t5[c] ^ t4[d] ^ t3[e] ^ t2[f] ^ t1[g] ^ t0[h];
        }
        for &byte in rest {
            crc = TABLES[0][usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
        }
    }
    !crc
}

/// `TABLES[n][byte]`: what a byte does to the checksum, with n zero bytes after it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u32 = tables[n - 1][byte];
            tables[n][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            byte += 1;
        }
        n += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 20], &[0xff; 12]]), 0x62a8_ab43);
    }
}
