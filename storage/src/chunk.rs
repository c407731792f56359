//! Chunks: how bytes of any length become rows of at most 6 KiB, and how damage to one is noticed. Pure.
//!
//! sled moves a page past a quarter of its segment into a file it never syncs, so no row may be large
//! (`reference/store.md` 0.3). Every row carries a format byte and a CRC over its key and its bytes: sled does not
//! notice all damage by itself, and a row under the wrong key is damage too.

use crate::codec::FORMAT;

/// The most bytes of a row's value, everything included; with its key it stays under 6 KiB.
pub(crate) const ROW_BYTES_MAX: usize = 6 * 1024 - 64;

/// Format byte and CRC.
const SEAL_BYTES: usize = 1 + 4;
/// The first chunk starts with the length of the whole.
const LENGTH_BYTES: usize = 4;
const CHUNK_BYTES: usize = ROW_BYTES_MAX - SEAL_BYTES;

/// Cuts a blob into rows; each key is `prefix` followed by the part's number.
pub(crate) fn split(prefix: &[u8], blob: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (first, mut rest) = blob.split_at(blob.len().min(CHUNK_BYTES - LENGTH_BYTES));
    let mut head = Vec::with_capacity(LENGTH_BYTES + first.len());
    // Blobs are bounded by the command's limit, far below 4 GiB.
    head.extend((blob.len() as u32).to_be_bytes());
    head.extend(first);
    let mut rows = vec![seal(part_key(prefix, 0), &head)];
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK_BYTES));
        rows.push(seal(part_key(prefix, rows.len() as u16), chunk));
        rest = after;
    }
    rows
}

/// The key of one part.
pub(crate) fn part_key(prefix: &[u8], part: u16) -> Vec<u8> {
    [prefix, &part.to_be_bytes()].concat()
}

/// How many rows a blob of so many bytes takes.
pub(crate) fn parts(length: usize) -> u16 {
    1 + length.saturating_sub(CHUNK_BYTES - LENGTH_BYTES).div_ceil(CHUNK_BYTES) as u16
}

/// What the first row of a blob holds; for most blobs that is all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstChunk<'a> {
    length: usize,
    bytes: &'a [u8],
}

/// Reads the first row of a blob.
pub(crate) fn first<'a>(key: &[u8], value: &'a [u8]) -> Result<FirstChunk<'a>, String> {
    let chunk = open(key, value)?;
    let Some((length, bytes)) = chunk.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(format!("row {} is too short", key.escape_ascii()));
    };
    Ok(FirstChunk { length: u32::from_be_bytes(*length) as usize, bytes })
}

impl<'a> FirstChunk<'a> {
    /// The blob, if no other row belongs to it.
    pub(crate) fn whole(self) -> Option<&'a [u8]> {
        (self.bytes.len() == self.length).then_some(self.bytes)
    }

    /// The beginning of a blob of several rows.
    pub(crate) fn join(self, key: &[u8]) -> Result<Joined, String> {
        Joined { length: self.length, bytes: self.bytes.to_vec(), parts: 1 }.check(key)
    }
}

/// A blob being put together again from its rows, in order.
#[derive(Debug)]
pub(crate) struct Joined {
    length: usize,
    bytes: Vec<u8>,
    parts: u16,
}

impl Joined {
    /// Starts with the first row.
    pub(crate) fn start(key: &[u8], value: &[u8]) -> Result<Joined, String> {
        first(key, value)?.join(key)
    }

    /// Adds the next row.
    pub(crate) fn push(mut self, key: &[u8], value: &[u8]) -> Result<Joined, String> {
        self.bytes.extend(open(key, value)?);
        self.parts += 1;
        self.check(key)
    }

    /// The number of rows so far, which is the number of the next part.
    pub(crate) fn parts(&self) -> u16 {
        self.parts
    }

    /// The whole, or the number of the part that is missing.
    pub(crate) fn finish(self) -> Result<Vec<u8>, (u16, Joined)> {
        if self.bytes.len() == self.length { Ok(self.bytes) } else { Err((self.parts, self)) }
    }

    fn check(self, key: &[u8]) -> Result<Joined, String> {
        if self.bytes.len() > self.length || self.parts > parts(self.length) {
            return Err(format!("row {} holds more than its whole", key.escape_ascii()));
        }
        Ok(self)
    }
}

fn seal(key: Vec<u8>, chunk: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::with_capacity(SEAL_BYTES + chunk.len());
    value.push(FORMAT);
    value.extend(checksum(&key, chunk).to_be_bytes());
    value.extend(chunk);
    (key, value)
}

/// Whether a row is one of ours, unharmed.
pub(crate) fn check(key: &[u8], value: &[u8]) -> Result<(), String> {
    open(key, value).map(|_| ())
}

fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], String> {
    let [format, sum @ ..] = value else { return Err(format!("row {} is empty", key.escape_ascii())) };
    let Some((sum, chunk)) = sum.split_first_chunk::<4>() else {
        return Err(format!("row {} is too short", key.escape_ascii()));
    };
    if *format != FORMAT {
        return Err(format!("row {} has format {format}", key.escape_ascii()));
    }
    if u32::from_be_bytes(*sum) != checksum(key, chunk) {
        return Err(format!("row {} fails its checksum", key.escape_ascii()));
    }
    Ok(chunk)
}

fn checksum(key: &[u8], chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(chunk);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn join(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>, String> {
        let mut joined = Joined::start(&rows[0].0, &rows[0].1)?;
        for (key, value) in &rows[1..] {
            joined = joined.push(key, value)?;
        }
        joined.finish().map_err(|(part, _)| format!("part {part} is missing"))
    }

    #[test]
    fn rows_stay_under_the_size_sled_moves_to_a_file() {
        for length in [0, 1, CHUNK_BYTES - LENGTH_BYTES, CHUNK_BYTES, 2 * CHUNK_BYTES, 1_500_000] {
            let rows = split(&[7; 12], &vec![0xab; length]);
            assert_eq!(rows.len(), parts(length) as usize, "{length} bytes");
            assert!(rows.iter().all(|(key, value)| key.len() + value.len() <= 6 * 1024), "{length} bytes");
            assert_eq!(join(&rows).unwrap().len(), length);
        }
    }

    #[test]
    fn a_row_under_another_rows_key_is_damage() {
        let a = split(b"a", b"same length");
        let b = split(b"b", b"same-length");
        assert!(join(&[(a[0].0.clone(), b[0].1.clone())]).unwrap_err().contains("checksum"));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(length in 0usize..15_000, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut rows = split(b"key", &vec![0x5a; length]);
            let row = at.index(rows.len());
            let byte = at.index(rows[row].1.len());
            rows[row].1[byte] ^= 1 << bit;
            prop_assert!(join(&rows).is_err());
        }
    }
}
