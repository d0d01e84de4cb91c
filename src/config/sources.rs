//! The sources of settings above the defaults: a file, the environment, flags.
//!
//! Each is checked against the schema on its own, so that a fault names the place it is in.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ::config::{ConfigError as Never, Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, plain};
use super::schema::{Entry, Kind, Named, Schema, in_order, join, line};

/// Variables of the environment that are settings begin so.
pub const ENV_PREFIX: &str = "TRIPLINE__";
/// The largest file of settings, or of one secret, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A flag of the command line that sets an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The flag as its user knows it: `--grpc`.
    pub name: String,
    /// The option that it sets: `server.grpc.listen`.
    pub key: String,
    /// The value, spelled as in the environment.
    pub value: String,
}

/// The values of one source, by the options' full names.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) values: Map<String, Value>,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, Never> {
        Ok(self.values.clone())
    }
}

/// Reads sources, and gathers their faults.
pub(super) struct Reader<'a> {
    pub(super) schema: &'a Schema,
    pub(super) errors: Vec<ConfigError>,
}

/// Where a value stands: as messages say it, and as `config show` does.
struct Place {
    message: String,
    origin: String,
}

impl Reader<'_> {
    pub(super) fn defaults(&self) -> Layer {
        let origin = "default".to_owned();
        let options = self.schema.options.iter();
        let values = options
            .map(|entry| (entry.path.clone(), Value::new(Some(&origin), entry.default.clone())));
        Layer { values: values.collect() }
    }

    /// The file at `path`. One that does not exist is empty unless it was asked for.
    pub(super) fn file(&mut self, path: &Path, asked_for: bool) -> Layer {
        let mut layer = Layer::default();
        let file = path.display().to_string();
        let text = match read(path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && !asked_for => return layer,
            Err(cause) => {
                self.errors.push(ConfigError::Unreadable { file, cause: cause.to_string() });
                return layer;
            }
        };
        match DeTable::parse(&text) {
            Ok(table) => self.table(&mut layer, (&file, &text), "", table.get_ref()),
            Err(error) => {
                let line = line(&text, &error.span().unwrap_or_default());
                let place = format!("{file}:{line}");
                let cause = error.message().to_owned();
                self.errors.push(ConfigError::Syntax { place, cause });
            }
        }
        layer
    }

    fn table(
        &mut self,
        layer: &mut Layer,
        (file, text): (&str, &str),
        table: &str,
        found: &DeTable<'_>,
    ) {
        for (key, value) in in_order(found) {
            let path = join(table, key.get_ref());
            let at = format!("{file}:{}", line(text, &key.span()));
            let place = Place { message: at.clone(), origin: at };
            let schema = self.schema;
            match (schema.named(&path), value.get_ref()) {
                (Named::Table, DeValue::Table(entries)) => {
                    self.table(layer, (file, text), &path, entries);
                }
                (Named::Table, other) => {
                    let expected = format!("a table, [{path}]");
                    self.mistyped(&place, path, expected, describe(other));
                }
                (Named::Option(entry), other) => match entry.kind.value(other) {
                    Some(value) => self.set(layer, &place, entry, value),
                    None => {
                        let found =
                            if entry.is_secret() { kind_of(other) } else { &describe(other) };
                        let expected = entry.kind.expected().to_owned();
                        self.mistyped(&place, path, expected, found.to_owned());
                    }
                },
                (Named::InFile(entry), DeValue::String(name)) => {
                    self.secret(layer, &place, entry, name);
                }
                (Named::InFile(_), other) => {
                    let expected = "the name of a file, in quotes".to_owned();
                    self.mistyped(&place, path, expected, describe(other));
                }
                (Named::Nothing, DeValue::Table(_)) => {
                    let nearest = schema.nearest_table(&path);
                    self.unknown(place.message, "a table", path, nearest);
                }
                (Named::Nothing, _) => {
                    let nearest = schema.nearest_option(&path);
                    self.unknown(place.message, "an option", path, nearest);
                }
            }
        }
    }

    /// Those variables that begin with [`ENV_PREFIX`]: `TRIPLINE__TABLE__KEY`.
    pub(super) fn environment(&mut self, variables: &[(OsString, OsString)]) -> Layer {
        let mut layer = Layer::default();
        let mut variables: Vec<_> = variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?.strip_prefix(ENV_PREFIX)?, value)))
            .collect();
        variables.sort_unstable();
        for (name, value) in variables {
            let variable = |path: &str| {
                format!("{ENV_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
            };
            let path = name.to_ascii_lowercase().replace("__", ".");
            let place = Place {
                message: "environment".to_owned(),
                origin: format!("env {ENV_PREFIX}{name}"),
            };
            let found = format!("{ENV_PREFIX}{name}");
            self.spelled(&mut layer, &place, &path, value.to_str(), &found, variable);
        }
        layer
    }

    pub(super) fn flags(&mut self, flags: &[Flag]) -> Layer {
        let mut layer = Layer::default();
        for Flag { name, key, value } in flags {
            let place = Place { message: format!("flag {name}"), origin: format!("flag {name}") };
            // The last of two equal flags counts, as with any other flag.
            layer.values.remove(key);
            self.spelled(&mut layer, &place, key, Some(value), key, str::to_owned);
        }
        layer
    }

    /// A value that is text by nature. `named` is the name as it was given, `name` makes such
    /// names.
    fn spelled(
        &mut self,
        layer: &mut Layer,
        place: &Place,
        path: &str,
        text: Option<&str>,
        named: &str,
        name: impl Fn(&str) -> String,
    ) {
        let schema = self.schema;
        let key = named.to_owned();
        let Some(text) = text else {
            return self.mistyped(place, key, "UTF-8".to_owned(), "other bytes".to_owned());
        };
        match schema.named(path) {
            Named::Option(entry) => match entry.kind.parse(text) {
                Some(value) => self.set(layer, place, entry, value),
                None => {
                    let expected = match entry.kind {
                        Kind::Counts => "whole numbers separated by commas",
                        kind => kind.expected(),
                    };
                    self.mistyped(place, key, expected.to_owned(), quoted(text));
                }
            },
            Named::InFile(entry) => self.secret(layer, place, entry, text),
            Named::Table | Named::Nothing => {
                let nearest = name(&schema.nearest_option(path));
                self.unknown(place.message.clone(), "an option", key, nearest);
            }
        }
    }

    fn secret(&mut self, layer: &mut Layer, place: &Place, entry: &Entry, file: &str) {
        match read(Path::new(file)) {
            Ok(text) => {
                self.set(layer, place, entry, ValueKind::String(text.trim().to_owned()));
            }
            Err(cause) => {
                let key = format!("{}_file", entry.path);
                let found = format!("{}: {cause}", quoted(file));
                self.mistyped(place, key, "a readable file".to_owned(), found);
            }
        }
    }

    fn set(&mut self, layer: &mut Layer, place: &Place, entry: &Entry, value: ValueKind) {
        let value = Value::new(Some(&place.origin), value);
        if layer.values.insert(entry.path.clone(), value).is_some() {
            let path = &entry.path;
            let expected = format!("one of {path} and {path}_file");
            self.mistyped(place, path.clone(), expected, "both".to_owned());
        }
    }

    fn mistyped(&mut self, place: &Place, key: String, expected: String, found: String) {
        let (place, key) = (place.message.clone(), plain(&key));
        self.errors.push(ConfigError::Value { place, key, expected, found });
    }

    fn unknown(&mut self, place: String, what: &'static str, found: String, nearest: String) {
        let found = plain(&found);
        self.errors.push(ConfigError::Unknown { place, what, found, nearest });
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

const fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(on) => on.to_string(),
        other => kind_of(other).to_owned(),
    }
}

/// A text in quotes, short enough for a line.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    let more = if start.len() < text.len() { "..." } else { "" };
    format!("{start:?}{more}")
}
