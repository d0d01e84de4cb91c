//! `tripline.v1.Watches`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic::{Request, Response, Status, async_trait};

use super::status::done;
use super::{Api, fields, views};
use crate::model::{Symbol, UserId, WatchId};
use crate::pipeline::collect::MarketError;
use crate::proto::v1;
use crate::proto::v1::watches_server::Watches;
use crate::proto::v1::{
    ChangeWatchRequest, ChangeWatchResponse, CreateWatchRequest, CreateWatchResponse,
    DeleteWatchRequest, DeleteWatchResponse, ListWatchesRequest, ListWatchesResponse,
};
use crate::server::commands::Work;
use crate::server::fault::Fault;
use crate::server::store::{
    Command, PolicyPatch, Recorded, Refusal, Reply, WatchPatch, WatchRef, WatchView,
};

#[async_trait]
impl Watches for Api {
    async fn create_watch(
        &self,
        request: Request<CreateWatchRequest>,
    ) -> Result<Response<CreateWatchResponse>, Status> {
        self.observed("CreateWatch", async {
            let (caller, key, message) = self.open_command(request).await?;
            let user = caller.session.user;
            let commands = &self.services.commands;
            let request = commands.request(key, "/tripline.v1.Watches/CreateWatch", &message);
            let spec = fields::watch_spec(&message);
            let work = spec.map(|spec| Command::CreateWatch { user, spec });
            // The work of a repetition is not polled.
            let first = Arc::new(AtomicBool::new(false));
            let polled = Arc::clone(&first);
            let work = async move {
                polled.store(true, Ordering::Relaxed);
                Ok(Work::of(work))
            };
            let reply = commands.run(request, work).await?;
            let (view, watch) = self.answer(user, reply, None).await?;
            let warnings = match view {
                Some(view) if view.last.is_none() && first.load(Ordering::Relaxed) => {
                    self.warnings(view.watch.spec.symbol()).await
                }
                _ => Vec::new(),
            };
            Ok(CreateWatchResponse { watch: Some(watch), warnings })
        })
        .await
    }

    async fn change_watch(
        &self,
        request: Request<ChangeWatchRequest>,
    ) -> Result<Response<ChangeWatchResponse>, Status> {
        self.observed("ChangeWatch", async {
            let (caller, key, message) = self.open_command(request).await?;
            let user = caller.session.user;
            let commands = &self.services.commands;
            let request = commands.request(key, "/tripline.v1.Watches/ChangeWatch", &message);
            let watch = WatchRef::Id(WatchId(message.id));
            let work = patch(&message).map(|patch| Command::ChangeWatch {
                user,
                watch,
                patch,
                or_create: None,
            });
            let Recorded { reply, view, .. } = commands.execute(request, Work::of(work)).await?;
            let (_, watch) = self.answer(user, reply, view).await?;
            Ok(ChangeWatchResponse { watch: Some(watch) })
        })
        .await
    }

    async fn delete_watch(
        &self,
        request: Request<DeleteWatchRequest>,
    ) -> Result<Response<DeleteWatchResponse>, Status> {
        self.observed("DeleteWatch", async {
            let (caller, key, message) = self.open_command(request).await?;
            let commands = &self.services.commands;
            let request = commands.request(key, "/tripline.v1.Watches/DeleteWatch", &message);
            let (user, watch) = (caller.session.user, WatchId(message.id));
            let work = Work::of(Ok(Command::DeleteWatch { user, watch }));
            done(commands.execute(request, work).await?.reply)?;
            Ok(DeleteWatchResponse {})
        })
        .await
    }

    async fn list_watches(
        &self,
        request: Request<ListWatchesRequest>,
    ) -> Result<Response<ListWatchesResponse>, Status> {
        self.observed("ListWatches", async {
            let (caller, message) = self.open(request).await?;
            let limit = fields::page_size(message.page_size)?;
            let after = fields::page_token(&message.page_token)?.map(WatchId);
            let queries = &self.services.queries;
            // One more than a page says whether there is another page.
            let mut views = queries.watches(caller.session.user, after, limit + 1).await?;
            let more = views.len() > limit as usize;
            views.truncate(limit as usize);
            let last = views.last().filter(|_| more).map(|view| view.watch.id.to_string());
            Ok(ListWatchesResponse {
                watches: self.views(&views).await?,
                next_page_token: last.unwrap_or_default(),
            })
        })
        .await
    }
}

impl Api {
    async fn views(&self, found: &[WatchView]) -> Result<Vec<v1::Watch>, Fault> {
        let symbol = |view: &WatchView| view.watch.spec.symbol();
        let priceless: Vec<Symbol> =
            found.iter().filter(|view| view.last.is_none()).map(symbol).collect();
        let notes: HashMap<Symbol, String> =
            self.services.queries.symbol_notes(&priceless).await?.into_iter().collect();
        let watch = |view| views::watch(view, notes.get(&symbol(view)).cloned());
        Ok(found.iter().map(watch).collect())
    }

    /// The watch that a command made or changed: as the command left it, where that is known, or
    /// as it is now.
    async fn answer(
        &self,
        user: UserId,
        reply: Reply,
        left: Option<WatchView>,
    ) -> Result<(Option<WatchView>, v1::Watch), Fault> {
        let Reply::Watch { id } = done(reply)? else {
            return Err(Fault::internal(&"a command on a watch did not name it"));
        };
        let view = match left {
            Some(view) => Some(view),
            None => self.services.queries.watch(user, WatchRef::Id(WatchId(id))).await?,
        };
        let watch = self.views(view.as_slice()).await?.pop();
        let watch = watch.unwrap_or_else(|| views::gone_watch(id));
        Ok((view, watch))
    }

    /// What the source says of a symbol that was never priced.
    async fn warnings(&self, symbol: Symbol) -> Vec<String> {
        let Some(market) = &self.services.market else { return Vec::new() };
        // One at a time: callers must not take the pace that the source allows from the collector.
        let Ok(_turn) = self.services.symbol_check.try_acquire() else { return Vec::new() };
        let wait = Duration::from_millis(self.services.symbol_check_ms);
        tokio::select! {
            answer = market.quote(symbol) => match answer {
                Err(error @ MarketError::UnknownSymbol(_)) => vec![error.to_string()],
                // Anything else is no news of the symbol.
                _ => Vec::new(),
            },
            () = self.services.clock.sleep(wait) => Vec::new(),
        }
    }
}

fn patch(message: &ChangeWatchRequest) -> Result<WatchPatch, Refusal> {
    let threshold = |field, text: &Option<String>| {
        text.as_deref().map(|text| fields::optional(field, text)).transpose()
    };
    let hysteresis = message.hysteresis.as_deref();
    Ok(WatchPatch {
        symbol: message.symbol.as_deref().map(fields::symbol).transpose()?,
        low: threshold("low", &message.low)?,
        high: threshold("high", &message.high)?,
        policy: PolicyPatch {
            kind: message.policy.map(fields::policy).transpose()?.flatten(),
            step: threshold("step", &message.step)?,
            hysteresis: hysteresis.map(|h| fields::optional("hysteresis", h)).transpose()?,
        },
        cooldown_s: message.cooldown_seconds.map(fields::cooldown).transpose()?,
        paused: message.paused,
    })
}
