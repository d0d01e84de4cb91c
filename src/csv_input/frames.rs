//! Finds where each record of a CSV file begins and ends, before its fields are split.
//!
//! The `csv` crate reads leniently: it mends stray quotes, takes a missing closing quote for
//! the end of the file, takes a bare CR for a line end, counts the empty lines before a record
//! as its own, and has no bound. So [`Frames`] hands it one sound record at a time, and knows
//! that record's first line.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// The longest record that is read, in bytes; no valid one comes near.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What was found where a record may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A record, ready to be read through [`Read`].
    Record,
    /// A record that breaks the rules, and why; it has been passed over.
    Malformed(String),
    /// The end of the file.
    End,
}

/// A source of single records: [`Frames::advance`] finds the next one, and reading gives its
/// bytes up to the line feed that ends it, never those of another.
pub(super) struct Frames<R> {
    input: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    record: Vec<u8>,
    served: usize,
    line: u64,
    line_next: u64,
}

/// Where the scan stands within a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote within quotes: the field's end, or the first half of a doubled quote.
    Quote,
    /// After a quoted field and a CR, which only a line feed may follow.
    QuoteCr,
    /// After the line feed that ends the record.
    End,
}

impl Place {
    /// The place after one more byte; with the fault that it makes, if any.
    fn after(self, byte: u8) -> (Self, Option<&'static str>) {
        match (self, byte) {
            (Self::Quoted, b'"') => (Self::Quote, None),
            (Self::Quoted, _) | (Self::Quote, b'"') => (Self::Quoted, None),
            (_, b'\n') => (Self::End, None),
            (Self::Quote, b'\r') => (Self::QuoteCr, None),
            (Self::QuoteCr, _) => (Self::Unquoted, Some(AFTER_QUOTE)),
            (_, b',') => (Self::FieldStart, None),
            (Self::FieldStart, b'"') => (Self::Quoted, None),
            (Self::Quote, _) => (Self::Unquoted, Some(AFTER_QUOTE)),
            (_, b'"') => (Self::Unquoted, Some(STRAY_QUOTE)),
            _ => (Self::Unquoted, None),
        }
    }
}

const AFTER_QUOTE: &str = "expected a comma or the line's end after a closing quote, found more";
const STRAY_QUOTE: &str = "expected quotes around a whole field, found one within a field";

impl<R: Read> Frames<R> {
    /// The records of `input`, past its byte order mark.
    pub(super) fn new(mut input: R) -> io::Result<Self> {
        let mut head = Vec::new();
        input.by_ref().take(3).read_to_end(&mut head)?;
        if head == BYTE_ORDER_MARK {
            head.clear();
        }
        let input = BufReader::with_capacity(RECORD_BYTES_MAX, Cursor::new(head).chain(input));
        Ok(Self { input, record: Vec::new(), served: 0, line: 1, line_next: 1 })
    }

    /// The first line of the record found last.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Finds the next record; lines without any text are passed over.
    pub(super) fn advance(&mut self) -> io::Result<Frame> {
        loop {
            self.line = self.line_next;
            let frame = self.scan()?;
            if frame != Frame::Record || !self.record.is_empty() {
                self.record.push(b'\n');
                return Ok(frame);
            }
        }
    }

    /// Reads up to the end of a record and keeps its text, without the line's end.
    fn scan(&mut self) -> io::Result<Frame> {
        self.record.clear();
        self.served = 0;
        let mut place = Place::FieldStart;
        let mut fault = None;
        let mut bytes = 0;
        while place != Place::End {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            let mut used = 0;
            for byte in chunk {
                used += 1;
                self.line_next += u64::from(*byte == b'\n');
                let (next, found) = place.after(*byte);
                place = next;
                fault = fault.or(found);
                if place == Place::End {
                    break;
                }
            }
            let room = RECORD_BYTES_MAX.saturating_sub(self.record.len());
            self.record.extend_from_slice(&chunk[..used.min(room)]);
            bytes += used;
            self.input.consume(used);
        }
        let text = self.record.strip_suffix(b"\n");
        let text = text.map(|text| text.strip_suffix(b"\r").unwrap_or(text));
        if let Some(len) = text.map(<[u8]>::len) {
            self.record.truncate(len);
        }
        let malformed = if place == Place::Quoted {
            Some(format!(
                "expected a closing quote, found the file's end in line {}",
                self.line_next
            ))
        } else if let Some(fault) = fault {
            Some(fault.to_owned())
        } else if bytes > RECORD_BYTES_MAX {
            Some(format!("expected a record of at most {RECORD_BYTES_MAX} bytes, found {bytes}"))
        } else {
            None
        };
        Ok(match malformed {
            Some(reason) => Frame::Malformed(reason),
            None if bytes == 0 => Frame::End,
            None => Frame::Record,
        })
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let len = (&self.record[self.served..]).read(to)?;
        self.served += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and is interrupted before each.
    struct Trickle<'a>(&'a [u8], bool);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let len = to.len().min(1);
            self.0.read(&mut to[..len])
        }
    }

    fn frames(input: impl Read) -> Vec<(u64, String)> {
        let mut frames = Frames::new(input).unwrap();
        let mut found = Vec::new();
        loop {
            let text = match frames.advance().unwrap() {
                Frame::End => return found,
                Frame::Malformed(reason) => format!("! {reason}"),
                Frame::Record => {
                    let mut text = String::new();
                    frames.read_to_string(&mut text).unwrap();
                    text
                }
            };
            found.push((frames.line(), text));
        }
    }

    #[test]
    fn a_record_begins_on_its_first_line_and_ends_outside_of_quotes() {
        for (input, expected) in [
            ("", vec![]),
            ("\n\r\n\n", vec![]),
            ("a,b", vec![(1, "a,b\n")]),
            ("a\nb\n", vec![(1, "a\n"), (2, "b\n")]),
            ("a\r\nb\r\n", vec![(1, "a\n"), (2, "b\n")]),
            ("\n\r\na\r\n\r\n\nb", vec![(3, "a\n"), (6, "b\n")]),
            ("\u{feff}a\nb", vec![(1, "a\n"), (2, "b\n")]),
            ("\u{feff}\"a\"\nb", vec![(1, "\"a\"\n"), (2, "b\n")]),
            ("\u{feff}\n\na", vec![(3, "a\n")]),
            ("a\rb\nc\r", vec![(1, "a\rb\n"), (2, "c\r\n")]),
            ("\"a\r\n\nb\",c\r\nd\n", vec![(1, "\"a\r\n\nb\",c\n"), (4, "d\n")]),
            ("\"a\"\"\n\",\"\"\r\nb", vec![(1, "\"a\"\"\n\",\"\"\n"), (3, "b\n")]),
            ("\"a\"\r\nb", vec![(1, "\"a\"\n"), (2, "b\n")]),
            ("\"\n\"", vec![(1, "\"\n\"\n")]),
            (" \nb", vec![(1, " \n"), (2, "b\n")]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(line, text)| (line, text.to_owned())).collect();
            assert_eq!(frames(input.as_bytes()), expected, "{input:?}");
            assert_eq!(frames(Trickle(input.as_bytes(), false)), expected, "{input:?} trickling");
        }
    }

    #[test]
    fn quotes_that_rfc_4180_does_not_know_are_malformed_and_reading_goes_on() {
        for (input, line, reason) in [
            ("x\na\"b\nz\n", 2, "found one within a field"),
            ("x\na\"b\"\nz\n", 2, "found one within a field"),
            ("x\n\"a\"b\nz\n", 2, "after a closing quote"),
            ("x\n\"a\" ,b\nz\n", 2, "after a closing quote"),
            ("x\n\"a\"\rb\nz\n", 2, "after a closing quote"),
            ("x\n\"a\"\r,b\nz\n", 2, "after a closing quote"),
            ("x\n\"a\n\"b\nz\n", 2, "after a closing quote"),
        ] {
            let found = frames(input.as_bytes());
            assert_eq!(found.len(), 3, "{input:?}: {found:?}");
            assert_eq!(found[1].0, line, "{input:?}");
            assert!(found[1].1.contains(reason), "{input:?}: {found:?}");
            assert_eq!(found[2].1, "z\n", "{input:?}");
        }
        assert_eq!(
            frames(&b"x\n\n\"a,b\nc\nd"[..])[1],
            (3, "! expected a closing quote, found the file's end in line 5".to_owned())
        );
    }

    #[test]
    fn an_over_long_record_is_passed_over_within_the_bound() {
        let longest = "a".repeat(RECORD_BYTES_MAX - 1);
        let input = format!("{longest}\n{longest}bc\n\"{longest}\n{longest}\"\nd\n");
        let mut frames = Frames::new(input.as_bytes()).unwrap();
        assert_eq!(frames.advance().unwrap(), Frame::Record);
        for line in [2, 3] {
            let Frame::Malformed(reason) = frames.advance().unwrap() else { panic!("line {line}") };
            assert!(reason.starts_with("expected a record of at most 65536 bytes"), "{reason}");
            assert_eq!(frames.line(), line);
            assert!(frames.record.len() <= RECORD_BYTES_MAX + 1);
        }
        assert_eq!((frames.advance().unwrap(), frames.line()), (Frame::Record, 5));
        assert_eq!(frames.advance().unwrap(), Frame::End);
    }
}
