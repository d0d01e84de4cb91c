//! Which options there are: `config/default.toml`, compiled in, is the schema.
//!
//! The type of a default is the type of its option, so that a new option is one line there and
//! one field in a struct.

use std::ops::Range;

use ::config::{Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Every option with its default, unit and meaning.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Count,
    Number,
    Text,
    Counts,
    Texts,
}

impl Kind {
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Count => "a whole number, 0 or more",
            Self::Number => "a number",
            Self::Text => "text in quotes",
            Self::Counts => "a list of whole numbers",
            Self::Texts => "a list of texts",
        }
    }

    const fn item(self) -> Option<Self> {
        match self {
            Self::Counts => Some(Self::Count),
            Self::Texts => Some(Self::Text),
            _ => None,
        }
    }

    /// The value of this kind in a file, if it is one.
    pub(super) fn value(self, found: &DeValue<'_>) -> Option<ValueKind> {
        Some(match (self, found) {
            (Self::Switch, DeValue::Boolean(on)) => ValueKind::Boolean(*on),
            (Self::Count, DeValue::Integer(_)) => count(integer(found)?)?,
            (Self::Number, DeValue::Float(number)) => finite(number.as_str())?,
            (Self::Number, DeValue::Integer(number)) => finite(number.as_str())?,
            (Self::Text, DeValue::String(text)) => ValueKind::String(text.to_string()),
            (Self::Counts | Self::Texts, DeValue::Array(items)) => {
                let item = self.item()?;
                let values = items.iter().map(|found| item.value(found.get_ref()));
                list(values.collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// The value of this kind that a variable or a flag spells; lists are separated by commas.
    pub(super) fn parse(self, text: &str) -> Option<ValueKind> {
        Some(match self {
            Self::Switch => ValueKind::Boolean(text.parse().ok()?),
            Self::Count => count(text.parse().ok()?)?,
            Self::Number => finite(text)?,
            Self::Text => ValueKind::String(text.to_owned()),
            Self::Counts | Self::Texts => {
                let item = self.item()?;
                let items = text.split(',').map(str::trim).filter(|text| !text.is_empty());
                list(items.map(|text| item.parse(text)).collect::<Option<_>>()?)
            }
        })
    }

    fn of(default: &DeValue<'_>) -> Option<Self> {
        Some(match default {
            DeValue::Boolean(_) => Self::Switch,
            DeValue::Integer(_) => Self::Count,
            DeValue::Float(_) => Self::Number,
            DeValue::String(_) => Self::Text,
            DeValue::Array(items) => match items.iter().next().map(Spanned::get_ref) {
                Some(DeValue::Integer(_)) => Self::Counts,
                _ => Self::Texts,
            },
            DeValue::Datetime(_) | DeValue::Table(_) => return None,
        })
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn count(number: i64) -> Option<ValueKind> {
    (number >= 0).then_some(ValueKind::I64(number))
}

fn finite(text: &str) -> Option<ValueKind> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(ValueKind::Float)
}

fn list(items: Vec<ValueKind>) -> ValueKind {
    ValueKind::Array(items.into_iter().map(|kind| Value::new(None, kind)).collect())
}

/// One option.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its tables and its name: `mail.smtp.host`.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) default: ValueKind,
}

impl Entry {
    /// Whether its value must not be shown.
    pub(super) fn is_secret(&self) -> bool {
        let name = self.path.rsplit('.').next().unwrap_or_default();
        self.kind == Kind::Text
            && ["password", "secret", "token", "api_key", "fingerprint_key"]
                .iter()
                .any(|end| name.ends_with(end))
    }
}

/// All options, in the order of the file.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) options: Vec<Entry>,
    pub(super) tables: Vec<String>,
}

/// What a name stands for.
pub(super) enum Named<'a> {
    Option(&'a Entry),
    /// The option named before `_file`, whose text is in the file that the value names.
    InFile(&'a Entry),
    Table,
    Nothing,
}

impl Schema {
    /// The schema that a text of defaults makes.
    pub(super) fn parse(defaults: &str) -> Result<Self, String> {
        let table = DeTable::parse(defaults).map_err(|error| error.to_string())?;
        let mut schema = Self { options: Vec::new(), tables: Vec::new() };
        schema.add("", table.get_ref())?;
        Ok(schema)
    }

    fn add(&mut self, table: &str, entries: &DeTable<'_>) -> Result<(), String> {
        for (key, value) in in_order(entries) {
            let path = join(table, key.get_ref());
            if let DeValue::Table(entries) = value.get_ref() {
                self.tables.push(path.clone());
                self.add(&path, entries)?;
                continue;
            }
            let kind = Kind::of(value.get_ref());
            let default = kind.and_then(|kind| Some((kind, kind.value(value.get_ref())?)));
            let (kind, default) = default.ok_or(format!("{path}: no default of a known type"))?;
            self.options.push(Entry { path, kind, default });
        }
        Ok(())
    }

    pub(super) fn option(&self, path: &str) -> Option<&Entry> {
        self.options.iter().find(|entry| entry.path == path)
    }

    pub(super) fn named(&self, path: &str) -> Named<'_> {
        if let Some(entry) = self.option(path) {
            return Named::Option(entry);
        }
        if self.tables.iter().any(|table| table == path) {
            return Named::Table;
        }
        let entry = path.strip_suffix("_file").and_then(|path| self.option(path));
        match entry {
            Some(entry) if entry.kind == Kind::Text => Named::InFile(entry),
            _ => Named::Nothing,
        }
    }

    pub(super) fn nearest_option(&self, path: &str) -> String {
        // The same name in another table is what was meant more often than not.
        let name = path.rsplit('.').next().unwrap_or(path);
        let namesake =
            self.options.iter().find(|entry| entry.path.rsplit('.').next() == Some(name));
        let all = self.options.iter().map(|entry| entry.path.as_str());
        let nearest = nearest(path, all);
        match namesake {
            Some(entry) if strsim::osa_distance(path, nearest) > 3 => entry.path.clone(),
            _ => nearest.to_owned(),
        }
    }

    pub(super) fn nearest_table(&self, path: &str) -> String {
        nearest(path, self.tables.iter().map(String::as_str)).to_owned()
    }
}

fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> &'a str {
    // The distance takes time and memory for each pair of letters.
    let name: String = name.chars().take(100).collect();
    names.min_by_key(|valid| strsim::osa_distance(&name, valid)).unwrap_or_default()
}

/// A table's entries as its file has them.
pub(super) fn in_order<'a, 'i>(
    entries: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

pub(super) fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// The line, from 1, in which a span of `text` begins.
pub(super) fn line(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}
