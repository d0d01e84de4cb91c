//! `tripline.v1.Operator`: dead letters and resets.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::auth::require;
use super::status::done;
use super::{Api, fields, views};
use crate::pipeline::broker::Record;
use crate::pipeline::record::schema_header;
use crate::proto::v1::operator_server::Operator;
use crate::proto::v1::{
    GetDeadLetterRequest, GetDeadLetterResponse, ListDeadLettersRequest, ListDeadLettersResponse,
    ResetSymbolRequest, ResetSymbolResponse, RetryDeadLetterRequest, RetryDeadLetterResponse,
};
use crate::server::Services;
use crate::server::commands::Work;
use crate::server::fault::Fault;
use crate::server::store::{Command, DeadLetter, DeadLetterId, Refusal, Role};

/// Bytes of dead letters in a page, but for a single one: callers take messages of 4 MiB.
const PAGE_BYTES_MAX: u64 = 2 << 20;

#[async_trait]
impl Operator for Api {
    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        self.observed("ListDeadLetters", async {
            let (caller, message) = self.open(request).await?;
            require(&caller.session, &[Role::Operator])?;
            let limit = fields::page_size(message.page_size)?;
            let before = match message.page_token.as_str() {
                "" => None,
                text => Some(fields::dead_letter_id("page_token", text)?),
            };
            let operator = &self.services.operator;
            let page = operator.dead_letters(before, limit, PAGE_BYTES_MAX).await?;
            let dead_letters = page.letters.iter().map(views::dead_letter).collect();
            let next_page_token = page.next.map(views::dead_letter_id).unwrap_or_default();
            Ok(ListDeadLettersResponse { dead_letters, next_page_token })
        })
        .await
    }

    async fn get_dead_letter(
        &self,
        request: Request<GetDeadLetterRequest>,
    ) -> Result<Response<GetDeadLetterResponse>, Status> {
        self.observed("GetDeadLetter", async {
            let (caller, message) = self.open(request).await?;
            require(&caller.session, &[Role::Operator])?;
            let id = fields::dead_letter_id("id", &message.id)?;
            let letter = self.services.operator.dead_letter(id).await?;
            let letter = letter.ok_or(Refusal::UnknownDeadLetter)?;
            Ok(GetDeadLetterResponse { dead_letter: Some(views::dead_letter(&letter)) })
        })
        .await
    }

    async fn retry_dead_letter(
        &self,
        request: Request<RetryDeadLetterRequest>,
    ) -> Result<Response<RetryDeadLetterResponse>, Status> {
        self.observed("RetryDeadLetter", async {
            let (caller, key, message) = self.open_command(request).await?;
            let commands = &self.services.commands;
            let request = commands.request(key, "/tripline.v1.Operator/RetryDeadLetter", &message);
            let services = Arc::clone(&self.services);
            let work = async move {
                require(&caller.session, &[Role::Operator])?;
                Ok(Work::of(match fields::dead_letter_id("id", &message.id) {
                    Ok(DeadLetterId::Delivery(id)) => Ok(Command::RetryDelivery { id }),
                    Ok(DeadLetterId::Record(id)) => put_back(&services, id).await?,
                    Err(refusal) => Err(refusal),
                }))
            };
            done(commands.run(request, work).await?)?;
            Ok(RetryDeadLetterResponse {})
        })
        .await
    }

    async fn reset_symbol(
        &self,
        request: Request<ResetSymbolRequest>,
    ) -> Result<Response<ResetSymbolResponse>, Status> {
        self.observed("ResetSymbol", async {
            let (caller, key, message) = self.open_command(request).await?;
            let commands = &self.services.commands;
            let request = commands.request(key, "/tripline.v1.Operator/ResetSymbol", &message);
            let work = async move {
                require(&caller.session, &[Role::Operator])?;
                let symbol = fields::symbol(&message.symbol);
                Ok(Work::of(symbol.map(|symbol| Command::ResetSymbol { symbol })))
            };
            done(commands.run(request, work).await?)?;
            Ok(ResetSymbolResponse {})
        })
        .await
    }
}

/// Puts a dead record back on its topic, and then takes it away. A crash between the two
/// repeats the record, which its consumer tolerates.
async fn put_back(services: &Services, id: u64) -> Result<Result<Command, Refusal>, Fault> {
    let letter = services.operator.dead_letter(DeadLetterId::Record(id)).await?;
    let Some(DeadLetter::Record { record: dead, .. }) = letter else {
        return Ok(Err(Refusal::UnknownDeadLetter));
    };
    let record = Record {
        key: dead.key,
        value: dead.value,
        headers: schema_header(&dead.topic).into_iter().collect(),
        time: services.clock.now(),
    };
    services.broker.append(&dead.topic, dead.partition, vec![record]).await?;
    Ok(Ok(Command::RemoveDeadRecord { id }))
}
