//! MySQL over TLS: `TRIPLINE_TEST_MYSQL_TLS` is the server's URL for a user whom it takes over TLS
//! only, with a certificate by `TRIPLINE_TEST_CA`.

use std::sync::Arc;

use tripline::adapters::clock::SystemClock;
use tripline::adapters::store::mysql::{MysqlOptions, MysqlStore};
use tripline::pipeline::store::StoreError;

use crate::authority::stranger;
use crate::mysql_server::Database;
use crate::services::service;

/// A database, and options that reach it over TLS.
async fn made() -> Option<(Database, MysqlOptions)> {
    let server = service("mysql", "TRIPLINE_TEST_MYSQL_TLS")?;
    let database = Database::create().await?;
    let url = format!("{server}/{}", database.name());
    let root_ca_file = std::env::var_os("TRIPLINE_TEST_CA").unwrap().into();
    let options = MysqlOptions { url, root_ca_file, ..database.options() };
    Some((database, options))
}

async fn open(options: MysqlOptions) -> Result<(), StoreError> {
    let store = MysqlStore::open(options, Default::default(), Arc::new(SystemClock)).await?;
    store.close().await;
    Ok(())
}

#[tokio::test]
async fn a_server_whose_authority_is_trusted_is_used_over_tls() {
    let Some((_database, options)) = made().await else { return };
    open(options.clone()).await.unwrap();
    // The user would not be taken without.
    let url = options.url.clone() + "?ssl-mode=DISABLED";
    let plain = MysqlOptions { url, root_ca_file: Default::default(), ..options };
    let error = open(plain).await.unwrap_err();
    assert!(matches!(error, StoreError::Permanent(_)), "{error}");
}

/// Nothing is sent to it, and the process goes on waiting for one that is trusted.
async fn refused(options: MysqlOptions) -> String {
    let options = MysqlOptions { retries_max: 1, ..options };
    let error = open(options).await.unwrap_err();
    assert!(matches!(error, StoreError::Transient(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused_and_said_so() {
    let Some((_database, options)) = made().await else { return };
    let stranger = stranger();
    let said = refused(MysqlOptions { root_ca_file: stranger.path().into(), ..options }).await;
    assert!(said.contains("check mysql.root_ca_file"), "{said}");
}

#[tokio::test]
async fn a_server_under_a_name_that_its_certificate_has_not_is_refused() {
    let Some((_database, options)) = made().await else { return };
    let url = options.url.replace("@127.0.0.1:", "@localhost:");
    let said = refused(MysqlOptions { url, ..options }).await;
    assert!(said.contains("check mysql.root_ca_file"), "{said}");
}
