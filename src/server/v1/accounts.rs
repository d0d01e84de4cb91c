//! `tripline.v1.Accounts`.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::auth::{request_key, token};
use super::status::done;
use super::{Api, fields, views};
use crate::proto::v1::accounts_server::Accounts;
use crate::proto::v1::{
    ChangePasswordRequest, ChangePasswordResponse, DeleteAccountRequest, DeleteAccountResponse,
    LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RegisterRequest, RegisterResponse,
    WhoAmIRequest, WhoAmIResponse,
};
use crate::server::fault::Fault;
use crate::server::incoming::peer;
use crate::server::store::RequestKey;

#[async_trait]
impl Accounts for Api {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.observed("Register", async {
            let email = fields::email(&request.get_ref().email);
            let caller = email.as_ref().map(|email| format!("email:{}", email.folded()));
            let key = match caller {
                Ok(caller) => request_key(request.metadata(), caller)?,
                // Nobody whose answer could be recorded.
                Err(_) => None,
            };
            let peer = peer(request.extensions());
            let message = request.into_inner();
            let commands = &self.services.commands;
            let request = commands.request(key, "/tripline.v1.Accounts/Register", &message);
            let asked = email.and_then(|email| {
                Ok((email, fields::password("password", message.password)?, None))
            });
            done(commands.register(request, asked, peer).await?)?;
            Ok(RegisterResponse {})
        })
        .await
    }

    async fn login(
        &self,
        request: Request<LoginRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        self.observed("Login", async {
            let peer = peer(request.extensions());
            let LoginRequest { email, password } = request.into_inner();
            let result = async {
                let email = fields::email(&email)?;
                let account = self.services.logins.verify(&email, &password, peer).await?;
                self.services.sessions.open(&account).await
            };
            let result = result.await.inspect_err(|_: &Fault| self.services.metrics.login_failed());
            let (token, expires) = result?;
            Ok(LoginResponse { token, expires: expires.to_string() })
        })
        .await
    }

    async fn logout(
        &self,
        request: Request<LogoutRequest>,
    ) -> Result<Response<LogoutResponse>, Status> {
        self.observed("Logout", async {
            // A token that is dead already is what the caller wants: a repetition succeeds.
            self.services.sessions.close(token(request.metadata())?).await?;
            Ok(LogoutResponse {})
        })
        .await
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        self.observed("ChangePassword", async {
            let (caller, key, message) = self.open_command(request).await?;
            let commands = &self.services.commands;
            let request = commands.request(key, "/tripline.v1.Accounts/ChangePassword", &message);
            let new = fields::password("new_password", message.new_password);
            let (session, old) = (caller.session, message.old_password);
            done(commands.change_password(request, session, caller.token, old, new).await?)?;
            Ok(ChangePasswordResponse {})
        })
        .await
    }

    async fn delete_account(
        &self,
        request: Request<DeleteAccountRequest>,
    ) -> Result<Response<DeleteAccountResponse>, Status> {
        self.observed("DeleteAccount", async {
            let token = token(request.metadata())?;
            // The account is gone when this is repeated, and with it what the token stands
            // for: here the caller is the token itself.
            let caller = format!("token:{}", hex::encode(token));
            let key = request_key(request.metadata(), caller)?;
            let metadata = request.metadata().clone();
            let message = request.into_inner();
            let commands = &self.services.commands;
            let method = "/tripline.v1.Accounts/DeleteAccount";
            let request = commands.request(key, method, &message);
            let session = match self.services.sessions.find(token).await? {
                Some(session) => session,
                None => {
                    let Some(request) = request else { return Err(super::auth::log_in()) };
                    let reply = commands.recorded(&request).await?;
                    done(reply.ok_or_else(super::auth::log_in)?)?;
                    return Ok(DeleteAccountResponse {});
                }
            };
            // An id that the account used for something else is refused here as well.
            let account = format!("user:{}", session.user);
            let as_account: Option<RequestKey> = request_key(&metadata, account)?;
            if let Some(used) = commands.request(as_account, method, &message) {
                commands.recorded(&used).await?;
            }
            let session = Arc::clone(&session);
            done(commands.delete_account(request, session, message.password).await?)?;
            Ok(DeleteAccountResponse {})
        })
        .await
    }

    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        self.observed("WhoAmI", async {
            let (caller, _) = self.open(request).await?;
            Ok(WhoAmIResponse {
                email: caller.session.email.to_string(),
                role: views::role(caller.session.role).into(),
                expires: caller.session.expires.to_string(),
            })
        })
        .await
    }
}
