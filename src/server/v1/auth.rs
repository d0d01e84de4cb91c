//! Who calls, what the role allows, and under which id.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::metadata::MetadataMap;

use super::Api;
use crate::server::fault::Fault;
use crate::server::incoming::ending;
use crate::server::sessions::{TokenDigest, digest};

pub(super) use crate::server::sessions::log_in;
use crate::server::store::{RequestKey, Role, Session};

/// The account that calls.
pub(super) struct Caller {
    pub(super) session: Arc<Session>,
    pub(super) token: TokenDigest,
    /// Says when the streams of its connection are to end.
    pub(super) ending: CancellationToken,
}

impl Caller {
    /// The caller's key of at-most-once.
    pub(super) fn key(&self) -> String {
        format!("user:{}", self.session.user)
    }
}

impl Api {
    /// The account of the token that a call bears.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Fault> {
        let token = token(request.metadata())?;
        let session = self.services.sessions.find(token).await?.ok_or_else(log_in)?;
        Ok(Caller { session, token, ending: ending(request.extensions()) })
    }

    /// The account that calls, and its message.
    pub(super) async fn open<T>(&self, request: Request<T>) -> Result<(Caller, T), Fault> {
        let caller = self.caller(&request).await?;
        Ok((caller, request.into_inner()))
    }

    /// That, of a command, with the key of its request.
    pub(super) async fn open_command<T>(
        &self,
        request: Request<T>,
    ) -> Result<(Caller, Option<RequestKey>, T), Fault> {
        let caller = self.caller(&request).await?;
        let key = request_key(request.metadata(), caller.key())?;
        Ok((caller, key, request.into_inner()))
    }
}

/// The digest of the token that a call bears.
pub(super) fn token(metadata: &MetadataMap) -> Result<TokenDigest, Fault> {
    let text = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let (scheme, token) = text.and_then(|text| text.split_once(' ')).ok_or_else(log_in)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(log_in());
    }
    Ok(digest(token))
}

/// The key of a command's request; `None` without an id.
pub(super) fn request_key(
    metadata: &MetadataMap,
    caller: String,
) -> Result<Option<RequestKey>, Fault> {
    let Some(value) = metadata.get("request-id") else { return Ok(None) };
    match value.to_str() {
        Ok(id) if (1..=128).contains(&id.len()) => {
            Ok(Some(RequestKey { caller, id: id.to_owned() }))
        }
        found => {
            let found = found.map_or_else(|_| "others".to_owned(), |id| id.len().to_string());
            Err(Fault::invalid(format!(
                "request-id: expected 1 to 128 bytes of printable ASCII, found {found}"
            )))
        }
    }
}

/// The role of a session is one of these.
pub(super) fn require(session: &Session, allowed: &[Role]) -> Result<(), Fault> {
    if allowed.contains(&session.role) {
        return Ok(());
    }
    let name = |role: &Role| format!("{role:?}").to_lowercase();
    let allowed = allowed.iter().map(name).collect::<Vec<_>>().join(" or ");
    let found = name(&session.role);
    Err(Fault::Denied(format!("expected an account with the role {allowed}, found {found}")))
}
