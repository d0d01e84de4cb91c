//! The settings: defaults, under `tripline.toml`, under the environment, under flags.
//!
//! `config/default.toml` is compiled in and lists every option; it is the schema that all
//! sources are checked against. To add a section, add its table there and a field to
//! [`Settings`] whose type is the options struct of the part that it configures.

mod error;
mod schema;
mod settings;
mod show;
mod sources;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ::config::{Config, ConfigError as Cause, Map, Source as _, Value, ValueKind};

use error::plain;
pub use error::{ConfigError, ConfigErrors};
pub use schema::DEFAULTS;
use schema::Schema;
pub use settings::*;
pub use sources::{ENV_PREFIX, Flag};
use sources::{Layer, Reader};

/// The file that is read when it is there and none is named.
pub const FILE: &str = "tripline.toml";

/// What to make settings of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file to read; [`FILE`], if it exists, where none is named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// Those of this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        Self { file, environment: std::env::vars_os().collect(), flags }
    }
}

/// Settings, and where each comes from.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    values: Values,
    schema: Schema,
}

/// The value of each option, by its full name. Each knows where it comes from.
type Values = Map<String, Value>;

/// Reads and checks all sources. No fault hides another of the same kind.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let (values, schema) = merge(DEFAULTS, sources)?;
    let settings =
        typed(&values, &schema).map_err(|cause| one(refused(&cause, &values, &schema)))?;
    let faults = settings.check().into_iter().map(|(key, cause)| ConfigError::Refused {
        place: origin(&values, key),
        key: key.to_owned(),
        cause: plain(&cause),
    });
    match faults.collect::<Vec<_>>() {
        faults if faults.is_empty() => Ok(Loaded { settings, values, schema }),
        faults => Err(ConfigErrors(faults)),
    }
}

fn merge(defaults: &str, sources: &Sources) -> Result<(Values, Schema), ConfigErrors> {
    let schema = Schema::parse(defaults).map_err(|cause| {
        one(ConfigError::Syntax { place: "config/default.toml".to_owned(), cause })
    })?;
    let mut reader = Reader { schema: &schema, errors: Vec::new() };
    let layers = [
        reader.defaults(),
        reader.file(sources.file.as_deref().unwrap_or(Path::new(FILE)), sources.file.is_some()),
        reader.environment(&sources.environment),
        reader.flags(&sources.flags),
    ];
    if !reader.errors.is_empty() {
        return Err(ConfigErrors(reader.errors));
    }
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let mut values = Values::new();
    let merged = builder.build().and_then(|merged| merged.collect());
    flatten("", merged.map_err(|cause| one(refused(&cause, &values, &schema)))?, &mut values);
    Ok((values, schema))
}

fn flatten(table: &str, entries: Values, values: &mut Values) {
    for (key, value) in entries {
        let path = schema::join(table, &key);
        match value.kind {
            ValueKind::Table(entries) => flatten(&path, entries, values),
            _ => drop(values.insert(path, value)),
        }
    }
}

/// The settings that values make. Empty text is left out where it is the default: there it
/// stands for none.
fn typed(values: &Values, schema: &Schema) -> Result<Settings, Cause> {
    let options = schema.options.iter().filter(|entry| {
        let value = values.get(&entry.path).map(|value| &value.kind);
        !(is_empty(&entry.default) && value.is_some_and(is_empty))
    });
    let values = options.filter_map(|entry| values.get_key_value(&entry.path));
    let values = values.map(|(path, value)| (path.clone(), value.clone())).collect();
    Config::builder().add_source(Layer { values }).build()?.try_deserialize()
}

fn is_empty(kind: &ValueKind) -> bool {
    matches!(kind, ValueKind::String(text) if text.is_empty())
}

/// A value of the right type that the option's own type does not take.
fn refused(cause: &Cause, values: &Values, schema: &Schema) -> ConfigError {
    let (Cause::Type { key, .. } | Cause::At { key, .. }) = cause else {
        let (place, key) = ("settings".to_owned(), String::new());
        return ConfigError::Refused { place, key, cause: plain(&cause.to_string()) };
    };
    let key = key.clone().unwrap_or_default();
    // The crate `config` does not say which values are valid; serde does, asked about this one.
    let mut json = serde_json::Value::default();
    for entry in &schema.options {
        let is_key = entry.path == key;
        let kind = values.get(&key).filter(|_| is_key).map_or(&entry.default, |value| &value.kind);
        put(&mut json, &entry.path, kind);
    }
    let said = serde_json::from_value::<Settings>(json).err();
    let cause = said.map_or_else(|| cause.to_string(), |error| error.to_string());
    ConfigError::Refused { place: origin(values, &key), key, cause: plain(&cause) }
}

fn put(settings: &mut serde_json::Value, path: &str, kind: &ValueKind) {
    if !is_empty(kind) {
        // Indexing makes the tables.
        *path.split('.').fold(settings, |table, key| &mut table[key]) = json(kind);
    }
}

fn json(kind: &ValueKind) -> serde_json::Value {
    match kind {
        ValueKind::String(text) => text.as_str().into(),
        ValueKind::Boolean(on) => (*on).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::Array(items) => items.iter().map(|item| json(&item.kind)).collect(),
        // The schema has no other kinds.
        _ => serde_json::Value::Null,
    }
}

/// Where the value of an option comes from.
fn origin(values: &Values, key: &str) -> String {
    values.get(key).and_then(Value::origin).unwrap_or("settings").to_owned()
}

fn one(error: ConfigError) -> ConfigErrors {
    ConfigErrors(vec![error])
}
