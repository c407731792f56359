//! Packets as the switch sees them: VXLAN around Ethernet around IP. Pure.
//!
//! Between namespaces Linux leaves the checksums of TCP and UDP unfinished, because no wire will ever damage them; a
//! switch that reads packets gets them like that and must finish them, or the receiver throws them away.

/// The VXLAN header.
const VXLAN: usize = 8;

/// The Ethernet header.
const ETHERNET: usize = 14;

/// The port that a packet came from.
pub(super) fn port(packet: &[u8]) -> Option<u8> {
    // The number of the network is three bytes; we give out one.
    packet.get(6).copied().filter(|_| packet.len() > VXLAN + ETHERNET)
}

/// The same packet on its way out of another port.
pub(super) fn leave_by(packet: &mut [u8], port: u8) {
    if let Some(network) = packet.get_mut(6) {
        *network = port;
    }
}

/// Who it is for and who sent it, as hardware addresses.
pub(super) fn addresses(packet: &[u8]) -> Option<([u8; 6], [u8; 6])> {
    let frame = packet.get(VXLAN..)?;
    Some((frame.get(..6)?.try_into().ok()?, frame.get(6..12)?.try_into().ok()?))
}

/// Finishes the checksum of TCP or UDP; anything else is left as it is.
pub(super) fn finish(packet: &mut [u8]) -> Option<()> {
    let frame = packet.get_mut(VXLAN..)?;
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let ip = frame.get_mut(ETHERNET..)?;
    let (protocol, addresses, start, end) = match kind {
        0x0800 => {
            let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            // Only the first fragment has a transport header, and its checksum covers them all.
            if u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff != 0 {
                return None;
            }
            (*ip.get(9)?, sum(ip.get(12..20)?), usize::from(ip.first()? & 15) * 4, length)
        }
        0x86dd => {
            let length = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            (*ip.get(6)?, sum(ip.get(8..40)?), 40, 40 + length)
        }
        _ => return None,
    };
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => return None,
    };
    let transport = ip.get_mut(start..end)?;
    transport.get_mut(at..at + 2)?.fill(0);
    let length = u32::try_from(transport.len()).ok()?;
    let checksum = match !fold(addresses + u32::from(protocol) + length + sum(transport)) {
        // Zero means that there is none.
        0 => 0xffff,
        checksum => checksum,
    };
    transport.get_mut(at..at + 2)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

fn sum(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    u32::from(fold(pairs.sum()))
}

/// To sixteen bits, carrying round.
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    // Two sums of two halves each are below 2^16.
    u16::try_from(twice & 0xffff).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ping in a UDP datagram from 10.0.0.1:1 to 10.0.0.2:2 with the payload "hi".
    fn datagram() -> Vec<u8> {
        let mut packet = vec![8, 0, 0, 0, 0, 0, 7, 0];
        packet.extend([1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 8, 0]);
        packet.extend([0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([0, 1, 0, 2, 0, 10, 0xde, 0xad, b'h', b'i']);
        packet
    }

    #[test]
    fn a_packet_says_where_it_comes_from_and_goes() {
        let mut packet = datagram();
        assert_eq!(port(&packet), Some(7));
        assert_eq!(addresses(&packet), Some(([1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16])));
        leave_by(&mut packet, 9);
        assert_eq!(port(&packet), Some(9));
        assert_eq!(port(&[8, 0, 0]), None);
    }

    #[test]
    fn a_finished_checksum_adds_up() {
        let mut packet = datagram();
        assert_eq!(finish(&mut packet), Some(()));
        let ip = &packet[VXLAN + ETHERNET..];
        let all = sum(&ip[12..20]) + 17 + 10 + sum(&ip[20..]);
        assert_eq!(fold(all), 0xffff);
        let before = packet.clone();
        finish(&mut packet);
        assert_eq!(packet, before, "finishing twice changes nothing");
    }

    #[test]
    fn what_is_cut_short_or_no_ip_is_left_alone() {
        let whole = datagram();
        for length in 0..whole.len() {
            let mut short = whole[..length].to_vec();
            assert_eq!(finish(&mut short), None, "{length} bytes");
        }
        let mut arp = whole;
        arp[VXLAN + 12..VXLAN + 14].copy_from_slice(&[8, 6]);
        assert_eq!(finish(&mut arp), None);
    }
}
