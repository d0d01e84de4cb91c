//! The MySQL or MariaDB server that the tests were given, and databases of their own on it.
#![allow(dead_code)]

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};
use tripline::adapters::store::mysql::MysqlOptions;

/// A fresh database, dropped with this.
pub(crate) struct Database {
    server: String,
    name: String,
    /// What follows a `?` in the server's URL: how to connect.
    parameters: Option<String>,
}

/// The server's URL without a database; `None` if the tests were given none and may skip it. It may
/// end with parameters of connections, such as `?ssl-mode=disabled`.
pub(crate) fn server() -> Option<String> {
    match std::env::var("TRIPLINE_TEST_MYSQL") {
        Ok(url) if !url.is_empty() => Some(url.trim_end_matches('/').to_owned()),
        _ => {
            let required = std::env::var("TRIPLINE_TEST_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|service| service == "mysql"),
                "TRIPLINE_TEST_REQUIRE names mysql and TRIPLINE_TEST_MYSQL is not set"
            );
            eprintln!("skipped: TRIPLINE_TEST_MYSQL is not set (dev/services env sets it)");
            None
        }
    }
}

async fn run(url: &str, sql: String) {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

impl Database {
    pub(crate) async fn create() -> Option<Self> {
        let url = server()?;
        let (server, parameters) = match url.split_once('?') {
            Some((server, parameters)) => (server, Some(parameters.to_owned())),
            None => (&*url, None),
        };
        let server = server.trim_end_matches('/').to_owned();
        let name = format!("tripline_test_{}", uuid::Uuid::new_v4().simple());
        let database = Self { server, name, parameters };
        let create = format!("CREATE DATABASE {} CHARACTER SET utf8mb4", database.name);
        run(&database.url_of(""), create).await;
        Some(database)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        self.url_of(&self.name)
    }

    fn url_of(&self, name: &str) -> String {
        let url = format!("{}/{name}", self.server);
        self.parameters.iter().fold(url, |url, parameters| format!("{url}?{parameters}"))
    }

    /// Options for a store on it.
    pub(crate) fn options(&self) -> MysqlOptions {
        MysqlOptions { url: self.url(), connections_max: 8, ..MysqlOptions::default() }
    }

    pub(crate) async fn run(&self, sql: impl Into<String>) {
        run(&self.url(), sql.into()).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, drop) = (self.url_of(""), format!("DROP DATABASE {}", self.name));
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(run(&server, drop));
        });
        // A test that failed has said why.
        let _ = dropped.join();
    }
}
