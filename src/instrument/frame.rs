//! Bytes from a serial port, cut into lines, and the checksum a line may carry. Pure.

/// One piece of the byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A complete line without its end; never empty.
    Line(&'a [u8]),
    /// More bytes than a line may have came without an end. Said once; the bytes up to the next end are dropped.
    TooLong,
}

/// Cuts a byte stream into lines. Holds at most one line of the longest allowed length, whatever arrives.
#[derive(Debug)]
pub struct LineCutter {
    end: Vec<u8>,
    line_max: usize,
    held: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `held` is the beginning of a line.
    Filling,
    /// `held` is a line that was handed out.
    HandedOut,
    /// `held` is the tail of a line that was too long.
    Skipping,
}

impl LineCutter {
    /// Lines end with `end` and have at most `line_max` bytes before it.
    pub fn new(end: &[u8], line_max: usize) -> Self {
        Self { end: end.to_vec(), line_max, held: Vec::with_capacity(line_max + end.len()), state: State::Filling }
    }

    /// Takes bytes from the front of `input` until a frame is complete; `None` when `input` is used up first.
    ///
    /// Carriage returns and line feeds around a line are not part of it, and empty lines are passed over.
    pub fn take(&mut self, input: &mut &[u8]) -> Option<Frame<'_>> {
        if self.state == State::HandedOut {
            self.forget();
        }
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.held.push(*byte);
            if self.held.ends_with(&self.end) {
                if self.state == State::Skipping || self.line().is_empty() {
                    self.forget();
                    continue;
                }
                self.state = State::HandedOut;
                return Some(Frame::Line(self.line()));
            }
            if self.held.len() >= self.line_max + self.end.len() {
                let surplus = self.held.len() + 1 - self.end.len();
                self.held.drain(..surplus);
                if self.state != State::Skipping {
                    self.state = State::Skipping;
                    return Some(Frame::TooLong);
                }
            }
        }
        None
    }

    /// Drops an unfinished line: the next byte begins a new one. True when there was one.
    pub fn forget(&mut self) -> bool {
        let unfinished = self.state != State::HandedOut && !self.held.is_empty();
        self.held.clear();
        self.state = State::Filling;
        unfinished
    }

    /// What is held, without the end and without carriage returns and line feeds around it.
    fn line(&self) -> &[u8] {
        let mut line = &self.held[..self.held.len() - self.end.len()];
        while let [b'\r' | b'\n', rest @ ..] | [rest @ .., b'\r' | b'\n'] = line {
            line = rest;
        }
        line
    }
}

/// What the checksum of an NMEA 0183 line says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentence<'a> {
    /// From the last start of a sentence (`$` or `!`) on, checksum included; the whole line when there is no start.
    ///
    /// A start within a line means that the end of the sentence before it was lost.
    pub text: &'a [u8],
    /// The checksum is there and right.
    pub intact: bool,
}

/// Finds the sentence in a line and verifies its checksum: two hexadecimal digits after `*`, the exclusive or of all
/// bytes between the start and the `*` (NMEA 0183, IEC 61162-1).
pub fn nmea_sentence(line: &[u8]) -> Sentence<'_> {
    let Some(start) = line.iter().rposition(|byte| matches!(byte, b'$' | b'!')) else {
        return Sentence { text: line, intact: false };
    };
    let text = line[start..].trim_ascii_end();
    let intact = match text {
        [_, body @ .., b'*', high, low] => {
            let sum = body.iter().fold(0, |sum, byte| sum ^ byte);
            hex_digit(*high).zip(hex_digit(*low)).is_some_and(|(high, low)| high << 4 | low == sum)
        }
        _ => false,
    };
    Sentence { text, intact }
}

fn hex_digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Piece {
        Line(String),
        TooLong,
    }

    /// Every frame in `chunks`, given to the cutter one after the other.
    fn cut(cutter: &mut LineCutter, chunks: &[&[u8]]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(frame) = cutter.take(&mut input) {
                pieces.push(match frame {
                    Frame::Line(line) => Piece::Line(String::from_utf8_lossy(line).into_owned()),
                    Frame::TooLong => Piece::TooLong,
                });
            }
        }
        pieces
    }

    fn line(text: &str) -> Piece {
        Piece::Line(text.to_owned())
    }

    #[test]
    fn a_line_split_over_reads_is_one_line() {
        let mut cutter = LineCutter::new(b"\r\n", 40);
        let pieces = cut(&mut cutter, &[b"S S  ", b"1.00 g\r", b"\nS D  2.", b"00 g\r\nS"]);
        assert_eq!(pieces, [line("S S  1.00 g"), line("S D  2.00 g")]);
    }

    #[test]
    fn a_line_of_the_longest_length_passes_and_one_byte_more_does_not() {
        let mut cutter = LineCutter::new(b"\r\n", 4);
        assert_eq!(cut(&mut cutter, &[b"abcd\r\nabcde\r\nef\r\n"]), [line("abcd"), Piece::TooLong, line("ef")]);
    }

    #[test]
    fn garbage_without_an_end_is_reported_once_and_takes_no_memory() {
        let mut cutter = LineCutter::new(b"\n", 16);
        let garbage = [0xffu8; 1000];
        let mut pieces = Vec::new();
        for _ in 0..1000 {
            pieces.extend(cut(&mut cutter, &[&garbage]));
        }
        assert_eq!(pieces, [Piece::TooLong]);
        assert!(cutter.held.capacity() <= 17, "{}", cutter.held.capacity());
        assert_eq!(cut(&mut cutter, &[b"tail of it\nnext\n"]), [line("next")]);
    }

    #[test]
    fn empty_lines_and_stray_carriage_returns_are_passed_over() {
        let mut cutter = LineCutter::new(b"\n", 16);
        assert_eq!(cut(&mut cutter, &[b"\n\r\n\r\nabc\r\n\n"]), [line("abc")]);
    }

    #[test]
    fn what_was_forgotten_does_not_begin_the_next_line() {
        let mut cutter = LineCutter::new(b"\n", 16);
        assert_eq!(cut(&mut cutter, &[b"late ans"]), []);
        assert!(cutter.forget());
        assert_eq!(cut(&mut cutter, &[b"fresh\n"]), [line("fresh")]);
        assert!(!cutter.forget(), "a line that was handed out is not an unfinished one");
    }

    #[test]
    fn a_right_checksum_is_found_and_a_wrong_one_too() {
        // A sentence from the protocol specification of the u-blox 6 receivers (GPS.G6-SW-10018).
        let good = b"$GPGLL,4717.11364,N,00833.91565,E,092321.00,A,A*60";
        assert_eq!(nmea_sentence(good), Sentence { text: good, intact: true });
        for bad in [
            "$GPGLL,4717.11364,N,00833.91565,E,092321.00,A,A*61",
            "$GPGLL,4717.11365,N,00833.91565,E,092321.00,A,A*60",
            "$GPGLL,4717.11364,N,00833.91565,E,092321.00,A,A*6",
            "$GPGLL,4717.11364,N,00833.91565,E,092321.00,A,A*6g",
            "$GPGLL,4717.11364,N,00833.91565,E,092321.00,A,A",
            "GPGLL,4717.11364,N,00833.91565,E,092321.00,A,A*60",
            "$",
            "",
        ] {
            assert!(!nmea_sentence(bad.as_bytes()).intact, "{bad}");
        }
    }

    #[test]
    fn a_sentence_after_a_torn_one_on_the_same_line_is_found() {
        let line = b"$GPGLL,4717.1136$GPGLL,4717.11364,N,00833.91565,E,092321.00,A,A*60 ";
        let sentence = nmea_sentence(line);
        assert!(sentence.intact);
        assert_eq!(sentence.text, b"$GPGLL,4717.11364,N,00833.91565,E,092321.00,A,A*60");
    }

    proptest! {
        #[test]
        fn cutting_does_not_depend_on_how_the_bytes_arrive(
            bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..300),
            step in 1usize..20,
        ) {
            let whole = cut(&mut LineCutter::new(b"\r\n", 10), &[&bytes]);
            let chunks: Vec<&[u8]> = bytes.chunks(step).collect();
            prop_assert_eq!(cut(&mut LineCutter::new(b"\r\n", 10), &chunks), whole);
        }

        #[test]
        fn no_line_is_longer_than_allowed(bytes in prop::collection::vec(0u8..16, 0..500)) {
            let mut cutter = LineCutter::new(b"\n", 7);
            let mut input = &bytes[..];
            while let Some(frame) = cutter.take(&mut input) {
                if let Frame::Line(line) = frame {
                    prop_assert!(!line.is_empty() && line.len() <= 7);
                }
            }
        }

        #[test]
        fn no_bytes_upset_the_checksum(bytes in any::<Vec<u8>>()) {
            nmea_sentence(&bytes);
        }
    }
}
