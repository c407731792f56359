//! Tells a torn tail from damage. Pure: bytes in, verdict out.
//!
//! Every group is durable before the next one is written, so a power cut can tear the last group of the last file and
//! nothing else. raft-engine's recovery cuts that file at the first group it cannot read, whatever follows. If an
//! intact group follows, the cut would throw away acknowledged writes: that is damage, and we refuse to start.
//!
//! The layout we look for is raft-engine's (0.4): length and compression in eight bytes, the offset of the footer in
//! eight, then the entries with a CRC-32 at the footer's border. The log's own test writes real files and damages them.

/// Bytes before the entries of a group.
const HEADER: usize = 16;

/// Bytes of the checksum after the entries.
const CHECKSUM: usize = 4;

/// The offset of the first intact group after `from`, if there is one.
pub(super) fn intact_group_after(file: &[u8], from: usize) -> Option<usize> {
    let end = file.iter().rposition(|byte| *byte != 0)? + 1;
    (from + 1..end.saturating_sub(HEADER)).find(|at| is_intact_group(&file[*at..]))
}

fn is_intact_group(bytes: &[u8]) -> bool {
    let (Some(length), Some(footer)) = (word(bytes, 0), word(bytes, 8)) else { return false };
    let (compression, length) = (length as u8, length >> 8);
    let (Ok(length), Ok(footer)) = (usize::try_from(length), usize::try_from(footer)) else { return false };
    // A group without entries carries no checksum we could trust; it holds no acknowledged write either.
    if compression > 1 || length > bytes.len() || footer > length || footer <= HEADER + CHECKSUM {
        return false;
    }
    let (entries, checksum) = bytes[HEADER..footer].split_at(footer - HEADER - CHECKSUM);
    crc32fast::hash(entries).to_le_bytes() == checksum
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_be_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(entries: &[u8]) -> Vec<u8> {
        let footer = HEADER + entries.len() + CHECKSUM;
        let mut bytes = (((footer + 3) as u64) << 8).to_be_bytes().to_vec();
        bytes.extend((footer as u64).to_be_bytes());
        bytes.extend(entries);
        bytes.extend(crc32fast::hash(entries).to_le_bytes());
        bytes.extend([1, 2, 3]);
        bytes
    }

    #[test]
    fn zeros_and_half_a_group_are_a_torn_tail() {
        assert_eq!(intact_group_after(&[0; 4_096], 0), None);

        let mut torn = group(&[7; 500]);
        torn.truncate(300);
        torn.resize(4_096, 0);
        assert_eq!(intact_group_after(&torn, 0), None);
    }

    #[test]
    fn an_intact_group_behind_a_broken_one_is_found() {
        let mut file = group(&[7; 500]);
        file[20] ^= 1;
        let second = file.len();
        file.extend(group(&[9; 100]));
        file.resize(4_096, 0);

        assert_eq!(intact_group_after(&file, 0), Some(second));
    }

    #[test]
    fn a_sector_lost_in_front_of_the_last_one_is_a_torn_tail() {
        let mut torn = group(&[7; 1_500]);
        torn[..512].fill(0);
        torn.resize(4_096, 0);

        assert_eq!(intact_group_after(&torn, 0), None);
    }
}
