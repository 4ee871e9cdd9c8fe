//! The two framings of Modbus as a server sees them, and CRC-16.
//!
//! Written on its own, so that a mistake in the agent's client is not answered by the same mistake here.

/// How requests and answers are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// MBAP header (Modbus Messaging on TCP/IP 1.0b, 3.1.3).
    Tcp,
    /// Unit id before, CRC after (Modbus over Serial Line 1.02, 2.5.1).
    Rtu,
}

/// Longest request that is waited for: MBAP header and the longest PDU.
pub const REQUEST_LENGTH_MAX: usize = 7 + 253;

/// One request, cut out of what a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Transaction id of the client; 0 on a serial line.
    pub transaction: u16,
    /// Who shall answer.
    pub unit: u8,
    /// Function code and what follows; never empty.
    pub pdu: &'a [u8],
    /// The whole request as it came.
    pub bytes: &'a [u8],
}

/// What the bytes received so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The beginning of a request.
    Incomplete,
    /// A request, and perhaps more behind it.
    Request(Request<'a>),
    /// No request begins like this.
    Garbage,
}

impl Framing {
    /// Looks for a request at the beginning of `bytes`.
    pub fn receive(self, bytes: &[u8]) -> Received<'_> {
        match self {
            Self::Tcp => receive_tcp(bytes),
            Self::Rtu => receive_rtu(bytes),
        }
    }

    /// Appends the frame of `pdu` to `out`.
    pub fn frame(self, transaction: u16, unit: u8, pdu: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Tcp => {
                let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
                out.extend_from_slice(&transaction.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&length.to_be_bytes());
                out.push(unit);
                out.extend_from_slice(pdu);
            }
            Self::Rtu => {
                let start = out.len();
                out.push(unit);
                out.extend_from_slice(pdu);
                let crc = crc16(&out[start..]);
                out.extend_from_slice(&crc.to_le_bytes());
            }
        }
    }
}

fn receive_tcp(bytes: &[u8]) -> Received<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<7>() else { return Received::Incomplete };
    let [transaction_high, transaction_low, protocol_high, protocol_low, length_high, length_low, unit] = *header;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if (protocol_high, protocol_low) != (0, 0) || !(2..=254).contains(&length) {
        return Received::Garbage;
    }
    match rest.get(..length - 1) {
        None => Received::Incomplete,
        Some(pdu) => Received::Request(Request {
            transaction: u16::from_be_bytes([transaction_high, transaction_low]),
            unit,
            pdu,
            bytes: &bytes[..6 + length],
        }),
    }
}

/// Serial frames carry no length: the function tells it.
fn receive_rtu(bytes: &[u8]) -> Received<'_> {
    let length = match bytes {
        [_, 1..=6, ..] => 8,
        [_, 15 | 16, _, _, _, _, count, ..] => 9 + usize::from(*count),
        [_, 22, ..] => 10,
        [_, 23, _, _, _, _, _, _, _, _, count, ..] => 13 + usize::from(*count),
        [] | [_] | [_, 15 | 16 | 23, ..] => return Received::Incomplete,
        [_, 0x2b, ..] => 7,
        [_, _, ..] => return Received::Garbage,
    };
    let Some(frame) = bytes.get(..length) else { return Received::Incomplete };
    let (body, crc) = frame.split_at(length - 2);
    if crc16(body).to_le_bytes() != crc {
        return Received::Garbage;
    }
    Received::Request(Request { transaction: 0, unit: body[0], pdu: &body[1..], bytes: frame })
}

/// CRC-16 of an RTU frame (Modbus over Serial Line 1.02, 6.2.2); goes on the wire low byte first.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that goes with the CRC (Modbus over Serial Line 1.02, 6.2.2): 02 07 gives 41 12.
    #[test]
    fn the_crc_is_the_one_of_the_specification() {
        assert_eq!(crc16(&[0x02, 0x07]).to_le_bytes(), [0x41, 0x12]);
    }

    #[test]
    fn what_was_framed_is_received_again() {
        for framing in [Framing::Tcp, Framing::Rtu] {
            let pdu = [3, 0, 1, 0, 2];
            let mut bytes = Vec::new();
            framing.frame(0, 17, &pdu, &mut bytes);
            let length = bytes.len();
            bytes.push(0xee);

            let Received::Request(request) = framing.receive(&bytes) else { panic!("{framing:?}: no request") };
            assert_eq!((request.unit, request.pdu, request.bytes), (17, &pdu[..], &bytes[..length]));
            for cut in 0..length {
                assert_eq!(framing.receive(&bytes[..cut]), Received::Incomplete, "{framing:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_request_is_garbage() {
        assert_eq!(Framing::Tcp.receive(&[0, 1, 0, 9, 0, 6, 1, 3]), Received::Garbage);
        assert_eq!(Framing::Tcp.receive(&[0, 1, 0, 0, 2, 6, 1, 3]), Received::Garbage);
        assert_eq!(Framing::Rtu.receive(&[1, 0x99]), Received::Garbage);
        assert_eq!(Framing::Rtu.receive(&[1, 3, 0, 1, 0, 2, 0, 0]), Received::Garbage);
    }
}
