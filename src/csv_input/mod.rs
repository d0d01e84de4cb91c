//! Readers for CSV files of ticks and of watches: streaming, strict, and exact about lines.
//!
//! A file has a header; its columns come in any order; fields are quoted as in RFC 4180 and
//! not trimmed. Lines end in LF or CRLF, empty ones are ignored but counted, and so is a
//! byte order mark ignored. A malformed row is an item like any other, so that the caller
//! decides whether to go on; a faulty header or an unreadable file is not a row, and final.

mod frames;
mod records;
mod ticks;
mod watches;

use std::fs::File;
use std::io;
use std::path::Path;

pub use frames::RECORD_BYTES_MAX;
pub use ticks::Ticks;
pub use watches::Watches;

/// A well-formed row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// The first line of its record; the file's first line is 1.
    pub line: u64,
    /// What it says.
    pub value: T,
}

/// A malformed record: where it begins, and what was expected and found there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct InputError {
    /// The file as its user named it; `-` is standard input.
    pub file: String,
    /// The first line of the record; the file's first line is 1.
    pub line: u64,
    /// What was expected, and what was found.
    pub reason: String,
}

/// A file that can't be read at all. Final, even where malformed rows are skipped.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be opened or read.
    #[error("{file}: expected a readable file, found: {cause}")]
    Unreadable {
        /// The file as its user named it.
        file: String,
        /// What the system says.
        cause: io::Error,
    },
    /// Its header names other columns than it should.
    #[error(transparent)]
    Header(InputError),
}

/// Why there is no row.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// This record is malformed; the next one can be read.
    #[error(transparent)]
    Row(#[from] InputError),
    /// Nothing more can be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Opens a file of ticks or of watches.
pub fn open(path: &Path) -> Result<File, FileError> {
    File::open(path)
        .map_err(|cause| FileError::Unreadable { file: path.display().to_string(), cause })
}
