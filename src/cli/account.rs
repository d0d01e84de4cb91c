//! Commands of an account: from its beginning to its end.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tonic::Code;

use super::client::{Client, ClientArgs};
use super::failure::Failure;
use super::output::{Output, printable};
use super::password;
use crate::proto::v1::accounts_client::AccountsClient;
use crate::proto::v1::{
    ChangePasswordRequest, DeleteAccountRequest, LoginRequest, LogoutRequest, RegisterRequest,
    Role, WhoAmIRequest,
};

/// What a command about an account says as JSON.
#[derive(Serialize)]
struct Account<'a> {
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<&'a str>,
}

#[derive(Serialize)]
struct Done {
    done: &'static str,
}

/// Creates an account. Asks for its password, or reads it as a line of standard input.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline register ann@example.com
  Password:
  Again:
  registered ann@example.com; log in with `tripline login ann@example.com`")]
pub(super) struct Register {
    /// The email address, to which alerts are sent.
    email: String,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Register {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let Self { email, password_file } = self;
        let client = Client::anonymous(args)?;
        let password = password::read_new("Password: ", password_file.as_deref())?;
        let request = RegisterRequest { email: email.clone(), password };
        client
            .call(request, |channel, request| async {
                AccountsClient::new(channel).register(request).await
            })
            .await?;
        let text = format!("registered {email}; log in with `tripline login {email}`");
        let account = Account { email: &email, role: None, expires: None };
        Output::new(args.json).say(&account, &text)
    }
}

/// Logs in: keeps a token for further commands in a file that only you can read.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline login ann@example.com
  Password:
  logged in as ann@example.com until 2000-03-08T14:30:00Z

The token is kept in $XDG_CONFIG_HOME/tripline/tokens, by default ~/.config/tripline/tokens, one
for each server. TRIPLINE_TOKEN_FILE names another file, TRIPLINE_TOKEN holds a token itself.")]
pub(super) struct Login {
    /// The email address of the account.
    email: String,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Login {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let Self { email, password_file } = self;
        let client = Client::anonymous(args)?;
        let password = password::read("Password: ", password_file.as_deref())?;
        let request = LoginRequest { email: email.clone(), password };
        let send = |channel, request| async { AccountsClient::new(channel).login(request).await };
        let login = client.try_call(request, send).await.map_err(|status| match status.code() {
            Code::Unauthenticated => Failure::failed(printable(status.message())).or_next(
                "check the email and the password; `tripline register EMAIL` creates an account",
            ),
            _ => client.failure(&status),
        })?;
        client.tokens().write(&login.token)?;
        let text = format!("logged in as {email} until {}", login.expires);
        let account = Account { email: &email, role: None, expires: Some(&login.expires) };
        Output::new(args.json).say(&account, &text)
    }
}

/// Logs out: the token is void from then on, and forgotten.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline logout
  logged out")]
pub(super) struct Logout {}

impl Logout {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let client = Client::new(args)?;
        let send = |channel, request| async { AccountsClient::new(channel).logout(request).await };
        match client.try_call(LogoutRequest {}, send).await {
            Ok(_) => {}
            // The token is void already.
            Err(status) if status.code() == Code::Unauthenticated => {}
            Err(status) => return Err(client.failure(&status)),
        }
        client.tokens().remove()?;
        Output::new(args.json).say(&Done { done: "logout" }, "logged out")
    }
}

/// Says who is logged in.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline whoami
  ann@example.com (user), logged in until 2000-03-08T14:30:00Z")]
pub(super) struct Whoami {}

impl Whoami {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let me = Client::new(args)?
            .call(WhoAmIRequest {}, |channel, request| async {
                AccountsClient::new(channel).who_am_i(request).await
            })
            .await?;
        let role = match me.role() {
            Role::User => "user",
            Role::Feeder => "feeder",
            Role::Operator => "operator",
            Role::Unspecified => "unknown role",
        };
        let text = format!("{} ({role}), logged in until {}", me.email, me.expires);
        let account = Account { email: &me.email, role: Some(role), expires: Some(&me.expires) };
        Output::new(args.json).say(&account, &text)
    }
}

/// Changes the password, and logs out everywhere else.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline password
  Old password:
  New password:
  Again:
  changed the password; every other login has ended

Where standard input is no terminal, its lines are the old and the new password.")]
pub(super) struct Password {
    /// A file that holds the old password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A file that holds the new password.
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

impl Password {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let client = Client::new(args)?;
        let old_password = password::read("Old password: ", self.password_file.as_deref())?;
        let new = self.new_password_file.as_deref();
        let new_password = password::read_new("New password: ", new)?;
        let request = ChangePasswordRequest { old_password, new_password };
        client
            .call(request, |channel, request| async {
                AccountsClient::new(channel).change_password(request).await
            })
            .await?;
        let text = "changed the password; every other login has ended";
        Output::new(args.json).say(&Done { done: "password" }, text)
    }
}

/// Deletes the account with its watches; alerts not delivered yet are cancelled.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline delete-account
  Password of the account to delete:
  deleted the account")]
pub(super) struct DeleteAccount {
    /// A file that holds the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl DeleteAccount {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let client = Client::new(args)?;
        let prompt = "Password of the account to delete: ";
        let password = password::read(prompt, self.password_file.as_deref())?;
        client
            .call(DeleteAccountRequest { password }, |channel, request| async {
                AccountsClient::new(channel).delete_account(request).await
            })
            .await?;
        client.tokens().remove()?;
        Output::new(args.json).say(&Done { done: "delete-account" }, "deleted the account")
    }
}
