//! Commands that need access to the host instead of an account: `user` and `mail`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use super::failure::{Failure, note};
use super::password;
use super::settings::SettingsArgs;
use super::setup;
use crate::adapters::clock::SystemClock;
use crate::adapters::store::mysql::MysqlStore;
use crate::adapters::store::sqlite::SqliteStore;
use crate::config::{Flag, Settings};
use crate::model::Email;
use crate::node::DataDir;
use crate::pipeline::clock::Clock;
use crate::pipeline::notify::Mail;
use crate::pipeline::store::StoreError;
use crate::server::password::{check_password, hash_password};
use crate::server::store::{AccountStore, Role as StoredRole};

/// What an account may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Its own watches.
    User,
    /// That, and push ticks.
    Feeder,
    /// That, and dead letters and resets.
    Operator,
}

impl From<Role> for StoredRole {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Feeder => Self::Feeder,
            Role::Operator => Self::Operator,
        }
    }
}

/// Creates and changes accounts from the host, also while `serve` runs: this is how the first
/// feeder and the first operator come to be.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline user add ops@example.com --role operator --data-dir /var/lib/tripline
  Password:
  Again:
  ops@example.com was added as an operator")]
pub(super) struct User {
    #[command(subcommand)]
    action: UserAction,
}

#[derive(Args, Debug)]
struct Where {
    #[command(flatten)]
    settings: SettingsArgs,

    /// The data folder. [default: tripline-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

#[derive(Debug, Subcommand)]
enum UserAction {
    /// Adds an account, with a password that is asked for or read as a line of standard input.
    #[command(after_help = "\
Example:
  $ tripline user add feed@example.com --role feeder --password-file /run/secrets/feed")]
    Add {
        /// Its e-mail address.
        email: Email,
        /// What it may do.
        #[arg(long, value_enum, default_value = "user")]
        role: Role,
        /// A file that holds the password.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        place: Where,
    },
    /// Sets what an account may do; more than before logs it out everywhere.
    #[command(after_help = "\
Example:
  $ tripline user role feed@example.com feeder")]
    Role {
        /// Its e-mail address.
        email: Email,
        /// What it may do from now on.
        #[arg(value_enum)]
        role: Role,
        #[command(flatten)]
        place: Where,
    },
    /// Sets an account's password, and logs it out everywhere.
    #[command(after_help = "\
Example:
  $ tripline user password ann@example.com")]
    Password {
        /// Its e-mail address.
        email: Email,
        /// A file that holds the password.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        place: Where,
    },
}

impl User {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.action {
            UserAction::Add { email, role, password_file, place } => {
                let store = place.store().await?;
                if account(&store, &email).await?.is_some() {
                    return Err(Failure::failed(format!("{email} has an account already"))
                        .or_next("`tripline user role` and `tripline user password` change it"));
                }
                let hash = hashed(password_file)?;
                put(&store, &email, Some(role), Some(&hash)).await?;
                note(&format!("{email} was added with the role {}", name(role)));
            }
            UserAction::Role { email, role, place } => {
                let store = place.store().await?;
                known(&store, &email).await?;
                put(&store, &email, Some(role), None).await?;
                note(&format!(
                    "{email} has the role {} now; its password is unchanged, and a higher role \
                     has logged it out everywhere",
                    name(role)
                ));
            }
            UserAction::Password { email, password_file, place } => {
                let store = place.store().await?;
                known(&store, &email).await?;
                let hash = hashed(password_file)?;
                put(&store, &email, None, Some(&hash)).await?;
                note(&format!("{email} has a new password and is logged out everywhere"));
            }
        }
        Ok(())
    }
}

impl Where {
    fn settings(self) -> Result<Settings, Failure> {
        let flag = self.data_dir.map(|value| Flag {
            name: "--data-dir".to_owned(),
            key: "data.dir".to_owned(),
            value,
        });
        Ok(self.settings.load(flag.into_iter().collect())?.settings)
    }

    async fn store(self) -> Result<HostStore, Failure> {
        let settings = self.settings()?;
        let (folder, clock) = (&settings.data.dir, Arc::new(SystemClock));
        let failed = |error: StoreError| Failure::failed(error.to_string());
        if !settings.mysql.url.is_empty() {
            let store = MysqlStore::open(settings.mysql, settings.store, clock).await;
            return Ok(HostStore::Mysql(store.map_err(failed)?));
        }
        let file = DataDir::store_file(folder);
        if !file.exists() {
            let message = format!("expected a data folder, found no store in {}", folder.display());
            return Err(Failure::failed(message).or_next(
                "name the folder with --data-dir; `tripline serve` makes a new one when it starts",
            ));
        }
        let store = SqliteStore::open(&file, settings.store, clock).await;
        Ok(HostStore::Embedded(store.map_err(failed)?))
    }
}

/// The store of the settings.
enum HostStore {
    Embedded(SqliteStore),
    Mysql(MysqlStore),
}

impl HostStore {
    fn accounts(&self) -> &dyn AccountStore {
        match self {
            Self::Embedded(store) => store,
            Self::Mysql(store) => store,
        }
    }

    async fn close(&self) {
        match self {
            Self::Embedded(store) => store.close().await,
            Self::Mysql(store) => store.close().await,
        }
    }
}

fn name(role: Role) -> String {
    role.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn hashed(password_file: Option<PathBuf>) -> Result<String, Failure> {
    let password = password::read_new("Password: ", password_file.as_deref())?;
    check_password("password", &password).map_err(Failure::bad_input)?;
    hash_password(&password).map_err(|fault| Failure::failed(fault.to_string()))
}

async fn account(
    store: &HostStore,
    email: &Email,
) -> Result<Option<crate::server::store::Account>, Failure> {
    store.accounts().account(email).await.map_err(|error| Failure::failed(error.to_string()))
}

async fn known(store: &HostStore, email: &Email) -> Result<(), Failure> {
    match account(store, email).await? {
        Some(_) => Ok(()),
        None => Err(Failure::failed(format!("{email} has no account"))
            .or_next("`tripline user add` adds one")),
    }
}

async fn put(
    store: &HostStore,
    email: &Email,
    role: Option<Role>,
    hash: Option<&str>,
) -> Result<(), Failure> {
    let put = store.accounts().put_account(email, role.map(Into::into), hash).await;
    put.map_err(|error| Failure::failed(error.to_string()))?;
    store.close().await;
    Ok(())
}

/// Checks the configured mailer.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline mail test ann@example.com --mailer smtps://ann:secret@mail.example.com:465")]
pub(super) struct MailCommand {
    #[command(subcommand)]
    action: MailAction,
}

#[derive(Debug, Subcommand)]
enum MailAction {
    /// Sends one mail through the configured mailer.
    #[command(after_help = "\
Example:
  $ tripline mail test ann@example.com
  a mail was handed over for ann@example.com")]
    Test {
        /// Whom it goes to.
        address: Email,
        /// Who takes the mail: console, files, or smtp[s]://USER:PASSWORD@HOST:PORT.
        #[arg(long, value_name = "MAILER")]
        mailer: Option<String>,
        #[command(flatten)]
        place: Where,
    },
}

impl MailCommand {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let MailAction::Test { address, mailer, place } = self.action;
        let mut settings = place.settings()?;
        if let Some(mailer) = mailer {
            settings.mail.mailer = mailer;
        }
        let mailer = setup::mailer(&settings.mail, &settings.data.dir)?;
        let text = format!("This is a test of Tripline's mailer, sent at {}.", SystemClock.now());
        let mail = Mail {
            alert: None,
            to: address.clone(),
            subject: "Tripline: test".to_owned(),
            html: format!("<p>{text}</p>"),
            text: format!("{text}\n"),
            message_id: uuid::Uuid::new_v4().to_string(),
        };
        let sent = mailer.send(&mail).await;
        sent.map_err(|error| Failure::failed(error.to_string()))?;
        note(&format!("a mail was handed over for {address}"));
        Ok(())
    }
}
