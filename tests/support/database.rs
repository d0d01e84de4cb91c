//! The tables of either store, read as they are.
#![allow(dead_code)]

use std::path::Path;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _, TypeInfo as _, ValueRef as _};

use crate::process::database;

/// A connection to look with.
pub(crate) enum Database {
    Sqlite(SqliteConnection),
    Mysql(MySqlConnection),
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Number(i64),
    Text(String),
}

impl Cell {
    pub(crate) fn some_number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Null => None,
            Self::Text(text) => panic!("expected a number, found {text:?}"),
        }
    }

    pub(crate) fn number(&self) -> i64 {
        self.some_number().expect("expected a number, found none")
    }

    pub(crate) fn some_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null => None,
            Self::Number(number) => panic!("expected text, found {number}"),
        }
    }

    pub(crate) fn text(&self) -> &str {
        self.some_text().expect("expected text, found none")
    }
}

impl Database {
    /// A data folder's store.
    pub(crate) async fn of_folder(folder: &Path) -> Self {
        Self::Sqlite(database(folder, "store.db").await)
    }

    /// The store in a database of a server.
    pub(crate) async fn of_url(url: &str) -> Self {
        let options: MySqlConnectOptions = url.parse().unwrap();
        Self::Mysql(options.connect().await.unwrap())
    }

    /// All rows of a query that both dialects understand.
    pub(crate) async fn rows(&mut self, sql: impl Into<String>) -> Vec<Vec<Cell>> {
        let sql = AssertSqlSafe(sql.into());
        match self {
            Self::Sqlite(connection) => {
                let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
                rows.iter()
                    .map(|row| (0..row.len()).map(|at| of_sqlite(row, at)).collect())
                    .collect()
            }
            Self::Mysql(connection) => {
                let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
                rows.iter()
                    .map(|row| (0..row.len()).map(|at| of_mysql(row, at)).collect())
                    .collect()
            }
        }
    }

    /// The first column of the first row, a number.
    pub(crate) async fn number(&mut self, sql: impl Into<String>) -> i64 {
        self.rows(sql).await[0][0].number()
    }
}

fn of_sqlite(row: &SqliteRow, at: usize) -> Cell {
    let value = row.try_get_raw(at).unwrap();
    if value.is_null() {
        return Cell::Null;
    }
    match value.type_info().name() {
        "INTEGER" => Cell::Number(row.get(at)),
        _ => Cell::Text(row.get(at)),
    }
}

fn of_mysql(row: &MySqlRow, at: usize) -> Cell {
    let value = row.try_get_raw(at).unwrap();
    if value.is_null() {
        return Cell::Null;
    }
    let name = value.type_info().name().to_owned();
    if name == "BOOLEAN" {
        return Cell::Number(row.get::<bool, _>(at).into());
    }
    if name.contains("INT") && name.ends_with("UNSIGNED") {
        return Cell::Number(row.get::<u64, _>(at).cast_signed());
    }
    if name.contains("INT") { Cell::Number(row.get(at)) } else { Cell::Text(row.get(at)) }
}
