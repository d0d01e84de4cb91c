//! Files of ticks: `time,symbol,price`.

use std::io::Read;

use super::records::{Columns, Fields, Records};
use super::{FileError, ReadError, Row};
use crate::model::Tick;

const COLUMNS: Columns = Columns { required: &["time", "symbol", "price"], optional: &[] };
const TIME: usize = 0;
const SYMBOL: usize = 1;
const PRICE: usize = 2;

/// The ticks of a file, in its order. A row that is well-formed allocates nothing.
pub struct Ticks<R>(Records<R>);

impl<R: Read> Ticks<R> {
    /// Reads the header of `input`, which messages call `file`.
    pub fn new(file: &str, input: R) -> Result<Self, FileError> {
        Records::new(file, input, &COLUMNS).map(Self)
    }
}

impl<R: Read> Iterator for Ticks<R> {
    type Item = Result<Row<Tick>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(tick)
    }
}

fn tick(fields: &Fields<'_>) -> Result<Tick, String> {
    Ok(Tick {
        time: fields.value(TIME)?,
        symbol: fields.value(SYMBOL)?,
        price: fields.value(PRICE)?,
        currency: None,
        market: None,
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn read(input: &[u8]) -> Vec<String> {
        match Ticks::new("t.csv", input) {
            Err(error) => vec![format!("fatal {error}")],
            Ok(ticks) => ticks
                .map(|row| match row {
                    Ok(Row { line, value: Tick { time, symbol, price, .. } }) => {
                        format!("{line} {time} {symbol} {price}")
                    }
                    Err(error) => error.to_string(),
                })
                .collect(),
        }
    }

    #[test]
    fn rows_are_read_as_rfc_4180_has_them() {
        let expected = ["2 2000-03-01T14:30:00Z A 1.5", "3 2000-03-01T14:30:01Z B/C 2"];
        for input in [
            "time,symbol,price\n2000-03-01T14:30:00Z,a,1.50\n2000-03-01T14:30:01Z,B/C,2",
            "\u{feff}time,symbol,price\r\n2000-03-01T14:30:00Z,A,1.5\r\n2000-03-01T14:30:01Z,B/C,2\r\n",
            "price,time,symbol\n1.5,2000-03-01T15:30:00+01:00,A\n2,2000-03-01T14:30:01Z,B/C\n",
            "\u{feff}\"time\",\"symbol\",\"price\"\n\"2000-03-01T14:30:00Z\",\"A\",\"1.5\"\n2000-03-01T14:30:01Z,\"b/c\",2\n",
        ] {
            assert_eq!(read(input.as_bytes()), expected, "{input:?}");
        }
        assert_eq!(read(b"time,symbol,price"), Vec::<String>::new());
    }

    #[test]
    fn a_malformed_row_is_named_by_its_first_line_and_reading_goes_on() {
        let good = "2000-03-01T14:30:00Z,A,1\r\n";
        for (row, line, reason) in [
            ("2000-03-01,A,1\n", 4, "time: expected an RFC 3339 time"),
            ("2000-03-01T14:30:00.0001Z,A,1\n", 4, "time: expected at most milliseconds"),
            ("2000-03-01T14:30:00Z,A B,1\n", 4, "symbol: expected 1 to 32 of A-Z"),
            ("2000-03-01T14:30:00Z,A,0\n", 4, "price: expected a number greater than 0, found 0"),
            ("2000-03-01T14:30:00Z,A, 1\n", 4, "price: expected digits[.digits]"),
            ("2000-03-01T14:30:00Z,A,1\r\r\n", 4, "found \"1\\r\""),
            ("2000-03-01T14:30:00Z,A,\"1\r\"\r\n", 4, "found \"1\\r\""),
            ("2000-03-01T14:30:00Z,A\n", 4, "expected 3 fields, as the header has, found 2"),
            ("2000-03-01T14:30:00Z,A,1,\n", 4, "expected 3 fields, as the header has, found 4"),
            (" \n", 4, "expected 3 fields, as the header has, found 1"),
            ("\"\"\n", 4, "expected 3 fields, as the header has, found 1"),
            ("\r\n\n\n2000,A,1\n", 7, "time: expected an RFC 3339 time"),
            ("2000-03-01T14:30:00Z,\"A\r\n\nB\",1\n", 4, "found \"A\\r\\n\\nB\""),
            ("\n2000-03-01T14:30:00Z,\"A\n\"\"\",1\n", 5, "found \"A\\n\\\"\""),
            ("2000-03-01T14:30:00Z,\"A\n\"B,1\n", 4, "after a closing quote"),
        ] {
            let found = read(format!("time,symbol,price\r\n\n{good}{row}{good}").as_bytes());
            assert_eq!(found.len(), 3, "{row:?}: {found:?}");
            assert!(found[0].starts_with("3 2000"), "{found:?}");
            assert!(found[1].starts_with(&format!("t.csv:{line}: ")), "{row:?}: {found:?}");
            assert!(found[1].contains(reason), "{row:?}: {found:?}");
            let last = 4 + row.matches('\n').count();
            assert!(found[2].starts_with(&format!("{last} 2000")), "{row:?}: {found:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_and_fields_too_long_to_show_are_named() {
        let found = read(b"symbol,time,price\n\xff,2000-03-01T14:30:00Z,1\n");
        let first = "t.csv:2: symbol: expected UTF-8, found the byte 0xff";
        assert_eq!(found, [first]);
        let input = format!("price,symbol,time\n{},A,2000-03-01T14:30:00Z\n", "9".repeat(300));
        assert_eq!(
            read(input.as_bytes()),
            ["t.csv:2: price: expected at most 254 bytes, found 300"]
        );
    }

    #[test]
    fn a_faulty_header_is_final() {
        for (header, message) in [
            ("", "t.csv:1: expected a header, time,symbol,price, found no text"),
            ("\n\n", "t.csv:3: expected a header, time,symbol,price, found no text"),
            (
                "\ntime,symbol,Prise\n",
                "t.csv:2: expected columns of time, symbol, price, found \"Prise\"; the nearest is \"price\"",
            ),
            (
                "time,symbol,price,\n",
                "t.csv:1: expected columns of time, symbol, price, found \"\"; the nearest is \"time\"",
            ),
            (
                "time,price,symbol,price",
                "t.csv:1: expected each column once, found \"price\" twice",
            ),
            (
                "price,time\n",
                "t.csv:1: expected the columns time, symbol, price, found no \"symbol\"",
            ),
            ("time,\"symbol", "t.csv:1: expected a closing quote, found the file's end in line 1"),
        ] {
            assert_eq!(read(header.as_bytes()), [format!("fatal {message}")], "{header:?}");
        }
    }

    #[test]
    fn an_input_that_breaks_ends_the_rows() {
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        assert!(matches!(Ticks::new("t.csv", Breaks), Err(FileError::Unreadable { .. })));
        let text = &b"time,symbol,price\n2000-03-01T14:30:00Z,A,1\n2000"[..];
        let found: Vec<_> = Ticks::new("t.csv", text.chain(Breaks)).unwrap().collect();
        assert_eq!(found.len(), 2, "{found:?}");
        let Err(ReadError::File(error)) = &found[1] else { panic!("{found:?}") };
        assert_eq!(error.to_string(), "t.csv: expected a readable file, found: gone");
    }
}
