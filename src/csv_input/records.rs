//! Records with a header: which field belongs to which column, and what it says.

use std::fmt::Display;
use std::io::{self, Read};
use std::str::FromStr;

use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};

use super::frames::{Frame, Frames};
use super::{FileError, InputError, ReadError, Row};

/// Longer than any valid field, and short enough to be shown.
const FIELD_BYTES_MAX: usize = 254;

/// The columns that a kind of file may have.
pub(super) struct Columns {
    /// Those that must be there.
    pub(super) required: &'static [&'static str],
    /// Those that may.
    pub(super) optional: &'static [&'static str],
}

impl Columns {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.required.iter().chain(self.optional).copied()
    }
}

/// The records of a file below its header.
pub(super) struct Records<R> {
    file: String,
    csv: Reader<Frames<R>>,
    record: ByteRecord,
    /// The place of each known column, in the order of [`Columns::names`].
    places: Vec<Option<usize>>,
    columns: &'static Columns,
    width: usize,
    ended: bool,
}

/// The fields of one record.
pub(super) struct Fields<'a> {
    record: &'a ByteRecord,
    places: &'a [Option<usize>],
    columns: &'static Columns,
}

impl<R: Read> Records<R> {
    /// Reads the header of `input`, which messages call `file`.
    pub(super) fn new(file: &str, input: R, columns: &'static Columns) -> Result<Self, FileError> {
        let frames = Frames::new(input).map_err(|cause| unreadable(file, cause))?;
        let csv = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // A frame ends in LF, whatever its line did; a CR within it is text.
            .terminator(Terminator::Any(b'\n'))
            .from_reader(frames);
        let mut records = Self {
            file: file.to_owned(),
            csv,
            record: ByteRecord::new(),
            places: Vec::new(),
            columns,
            width: 0,
            ended: false,
        };
        match records.advance().map_err(|cause| unreadable(file, cause))? {
            Frame::Record => {
                let places = places(&records.record, columns);
                records.places = places.map_err(|reason| records.faulty_header(reason))?;
                records.width = records.record.len();
                Ok(records)
            }
            Frame::Malformed(reason) => Err(records.faulty_header(reason)),
            Frame::End => {
                let names: Vec<_> = columns.names().collect();
                let names = names.join(",");
                Err(records.faulty_header(format!("expected a header, {names}, found no text")))
            }
        }
    }

    /// The next row as `parse` reads its fields.
    pub(super) fn next<T>(
        &mut self,
        parse: impl FnOnce(&Fields<'_>) -> Result<T, String>,
    ) -> Option<Result<Row<T>, ReadError>> {
        if self.ended {
            return None;
        }
        let parsed = match self.advance() {
            Ok(Frame::Record) if self.record.len() == self.width => {
                parse(&Fields { record: &self.record, places: &self.places, columns: self.columns })
            }
            Ok(Frame::Record) => {
                let (width, found) = (self.width, self.record.len());
                Err(format!("expected {width} fields, as the header has, found {found}"))
            }
            Ok(Frame::Malformed(reason)) => Err(reason),
            Ok(Frame::End) => {
                self.ended = true;
                return None;
            }
            Err(cause) => {
                self.ended = true;
                return Some(Err(unreadable(&self.file, cause).into()));
            }
        };
        Some(match parsed {
            Ok(value) => Ok(Row { line: self.csv.get_ref().line(), value }),
            Err(reason) => Err(self.error(reason).into()),
        })
    }

    /// Finds the next record and splits it.
    fn advance(&mut self) -> io::Result<Frame> {
        let frame = self.csv.get_mut().advance()?;
        if frame == Frame::Record {
            self.csv.read_byte_record(&mut self.record).map_err(io::Error::from)?;
        }
        Ok(frame)
    }

    fn error(&self, reason: String) -> InputError {
        InputError { file: self.file.clone(), line: self.csv.get_ref().line(), reason }
    }

    fn faulty_header(&self, reason: String) -> FileError {
        FileError::Header(self.error(reason))
    }
}

fn unreadable(file: &str, cause: io::Error) -> FileError {
    FileError::Unreadable { file: file.to_owned(), cause }
}

/// Where the header has each column.
fn places(header: &ByteRecord, columns: &Columns) -> Result<Vec<Option<usize>>, String> {
    let names: Vec<_> = columns.names().collect();
    let mut places = vec![None; names.len()];
    for (place, field) in header.iter().enumerate() {
        let found: String = String::from_utf8_lossy(field).chars().take(64).collect();
        let Some(column) = names.iter().position(|name| name.as_bytes() == field) else {
            let lower = found.to_lowercase();
            let nearest = names.iter().min_by_key(|name| strsim::damerau_levenshtein(&lower, name));
            let nearest = nearest.copied().unwrap_or_default();
            let names = names.join(", ");
            return Err(format!(
                "expected columns of {names}, found {found:?}; the nearest is {nearest:?}"
            ));
        };
        if places[column].replace(place).is_some() {
            return Err(format!("expected each column once, found {found:?} twice"));
        }
    }
    let missing = columns.required.iter().zip(&places).find(|(_, place)| place.is_none());
    match missing {
        Some((name, _)) => {
            let required = columns.required.join(", ");
            Err(format!("expected the columns {required}, found no {name:?}"))
        }
        None => Ok(places),
    }
}

impl Fields<'_> {
    /// The field of a column, given by its place in [`Columns::names`]; empty if the file
    /// has no such column.
    pub(super) fn text(&self, column: usize) -> Result<&str, String> {
        let field = self.places[column].and_then(|place| self.record.get(place)).unwrap_or(b"");
        if field.len() > FIELD_BYTES_MAX {
            let (name, found) = (self.name(column), field.len());
            return Err(format!("{name}: expected at most {FIELD_BYTES_MAX} bytes, found {found}"));
        }
        std::str::from_utf8(field).map_err(|error| {
            let byte = field.get(error.valid_up_to()).copied().unwrap_or_default();
            format!("{}: expected UTF-8, found the byte 0x{byte:02x}", self.name(column))
        })
    }

    /// What the field of a column means.
    pub(super) fn value<T: FromStr<Err: Display>>(&self, column: usize) -> Result<T, String> {
        let text = self.text(column)?;
        text.parse().map_err(|error| format!("{}: {error}", self.name(column)))
    }

    /// What the field of a column means, unless it is empty.
    pub(super) fn option<T: FromStr<Err: Display>>(
        &self,
        column: usize,
    ) -> Result<Option<T>, String> {
        if self.text(column)?.is_empty() { Ok(None) } else { self.value(column).map(Some) }
    }

    fn name(&self, column: usize) -> &'static str {
        self.columns.names().nth(column).unwrap_or_default()
    }
}
