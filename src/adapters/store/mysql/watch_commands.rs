//! What commands do to watches: versions, pending changes, and the counts per symbol.
//!
//! Locks are taken in one order: the account where it matters, watches by id, their states, and
//! last, because others may wait for them, the counts by symbol.

use super::bulk::{Bulk, exact, padded};
use super::commands::{Done, Work};
use super::counts::Counts;
use super::{Failure, now_ms};
use crate::adapters::store::rows::{self, int, parsed, signed, state_columns, watch_columns};
use crate::adapters::store::views::view;
use crate::model::{Price, Symbol, UserId, Version, Watch, WatchId, WatchSpec};
use crate::pipeline::broker::partition_of;
use crate::server::store::{Refusal, Reply, WatchPatch, WatchRef, WatchView};

/// What an answer tells of a watch as well, so that it costs no read of its own. Only the watch is
/// locked: not what is read in a query within the query.
macro_rules! locked_view {
    ($which:literal) => {
        concat!(
            "SELECT ",
            watch_columns!(),
            ", ",
            state_columns!(),
            ", y.last_ms, y.last_price, y.currency, y.market FROM watches w \
             LEFT JOIN (SELECT watch_id, version, told, bucket, last_alert_ms FROM watch_states) s \
             ON s.watch_id = w.id \
             LEFT JOIN (SELECT symbol, last_ms, last_price, currency, market FROM symbol_states) y \
             ON y.symbol = w.symbol ",
            $which,
            " FOR UPDATE"
        )
    };
}
pub(super) const WATCH_OF: &str = locked_view!("WHERE w.id = ? AND w.user_id = ?");
pub(super) const OLDEST_OF: &str = locked_view!("WHERE w.user_id = ? ORDER BY w.id LIMIT 1");

impl Work<'_> {
    pub(super) async fn create_watch(&mut self, user: UserId, spec: &WatchSpec) -> Done {
        if !self.hold_user(user).await? {
            return Ok(Err(Refusal::UnknownUser));
        }
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM watches WHERE user_id = ?")
            .bind(user.0)
            .fetch_one(&mut *self.tx)
            .await?;
        let max = self.store.inner.options.watches_per_account_max;
        if count >= i64::from(max) {
            return Ok(Err(Refusal::TooManyWatches(max)));
        }
        let id = self.insert_watches(&[(user, *spec)]).await?;
        Ok(Ok(Reply::Watch { id }))
    }

    pub(super) async fn change_watch(
        &mut self,
        user: UserId,
        watch: WatchRef,
        patch: &WatchPatch,
        or_create: Option<&WatchSpec>,
    ) -> Done {
        let mut found = self.find_watch(user, watch).await?;
        if found.is_none() {
            // Held, so that of two who would create the first watch one finds the other's.
            if !self.hold_user(user).await? {
                return Ok(Err(Refusal::UnknownUser));
            }
            let oldest = self.find_watch(user, WatchRef::Oldest).await?;
            match (oldest, or_create, watch) {
                (None, Some(spec), _) => return self.create_watch(user, spec).await,
                (Some(oldest), _, WatchRef::Oldest) => found = Some(oldest),
                (None, None, WatchRef::Oldest) => return Ok(Err(Refusal::NoWatch)),
                (_, _, WatchRef::Id(_)) => {}
            }
        }
        let Some(view) = found else {
            return Ok(Err(Refusal::UnknownWatch));
        };
        let old = view.watch;
        let next = match patch.apply(&old) {
            Ok(Some(next)) => next,
            Ok(None) => {
                self.view = Some(view);
                return Ok(Ok(Reply::Watch { id: old.id.0 }));
            }
            Err(error) => return Ok(Err(error.into())),
        };
        self.update_watch(&next).await?;
        let (from, to) = (old.spec.symbol(), next.spec.symbol());
        let mut changes = vec![(to, Some(signed(old.id.0)))];
        if from == to {
            let state = view.state.carried_to(&next);
            self.view = Some(WatchView { watch: next, state, last: view.last });
        } else {
            changes.insert(0, (from, Some(signed(old.id.0))));
        }
        self.add_changes(&changes).await?;
        if from != to || old.paused != next.paused {
            let mut counts = Counts::from([(from, (-1, -i64::from(!old.paused)))]);
            let to = counts.entry(to).or_default();
            *to = (to.0 + 1, to.1 + i64::from(!next.paused));
            self.count(&counts).await?;
        }
        Ok(Ok(Reply::Watch { id: old.id.0 }))
    }

    pub(super) async fn delete_watch(&mut self, user: UserId, watch: WatchId) -> Done {
        if !self.remove_watches(user, Some(watch)).await? {
            let known = self.hold_user(user).await?;
            return Ok(Err(if known { Refusal::UnknownWatch } else { Refusal::UnknownUser }));
        }
        // Who claimed one stays recorded: that attempt may still arrive, and is settled then.
        sqlx::query(concat!(
            "UPDATE deliveries SET state = 'cancelled', reason = 'watch', changed_ms = ",
            now_ms!(),
            " WHERE watch_id = ? AND state IN ('pending', 'claimed')"
        ))
        .bind(signed(watch.0))
        .execute(&mut *self.tx)
        .await?;
        Ok(Ok(Reply::Done))
    }

    pub(super) async fn reset_symbol(&mut self, symbol: Symbol) -> Done {
        let known: i64 = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM symbol_states WHERE symbol = ?) \
                 OR EXISTS (SELECT 1 FROM watched_symbols WHERE symbol = ?)",
        )
        .bind(symbol.as_str())
        .bind(symbol.as_str())
        .fetch_one(&mut *self.tx)
        .await?;
        if known == 0 {
            return Ok(Err(Refusal::UnknownSymbol));
        }
        self.add_changes(&[(symbol, None)]).await?;
        Ok(Ok(Reply::Done))
    }

    /// Inserts watches in the order given, counts them and leaves their changes; returns the
    /// id of the last.
    pub(super) async fn insert_watches(
        &mut self,
        watches: &[(UserId, WatchSpec)],
    ) -> Result<u64, Failure> {
        const INSERT: Bulk = Bulk {
            head: "INSERT INTO watches (user_id, symbol, `partition`, version, fresh_since, \
                   cooldown_since, paused, low, high, policy, step, hysteresis, cooldown_s) VALUES",
            row: "(?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)",
            between: ",",
            tail: "",
        };
        let partitions = self.store.partitions()?;
        let (mut changes, mut counts) = (Vec::with_capacity(watches.len()), Counts::new());
        for piece in exact(watches) {
            let mut insert = INSERT.of(piece.len());
            for (user, spec) in piece {
                let (policy, step, hysteresis) = rows::policy_columns(spec.policy());
                insert = insert
                    .bind(user.0)
                    .bind(spec.symbol().as_str().to_owned())
                    .bind(partition_of(spec.symbol().as_bytes(), partitions).0)
                    .bind(Version::FIRST.0)
                    .bind(Version::FIRST.0)
                    .bind(Version::FIRST.0)
                    .bind(spec.low().map(Price::units))
                    .bind(spec.high().map(Price::units))
                    .bind(policy)
                    .bind(step)
                    .bind(hysteresis)
                    .bind(signed(spec.cooldown_s()));
            }
            // The ids of one statement that says how many rows it has come in its order.
            let first = signed(insert.execute(&mut *self.tx).await?.last_insert_id());
            let ids = (0..).map(|index| first + index * self.store.inner.id_step);
            changes.extend(piece.iter().zip(ids).map(|((_, spec), id)| (spec.symbol(), Some(id))));
        }
        for (symbol, _) in &changes {
            let count = counts.entry(*symbol).or_default();
            *count = (count.0 + 1, count.1 + 1);
        }
        self.add_changes(&changes).await?;
        self.count(&counts).await?;
        Ok(changes.last().and_then(|(_, id)| *id).unwrap_or(0).cast_unsigned())
    }

    /// Deletes a user's watches, or one of them, with all that is counted and kept for them.
    /// Returns whether there were any.
    pub(super) async fn remove_watches(
        &mut self,
        user: UserId,
        watch: Option<WatchId>,
    ) -> Result<bool, Failure> {
        const STATES: Bulk = Bulk {
            head: "DELETE FROM watch_states WHERE watch_id IN (",
            row: "?",
            between: ",",
            tail: ")",
        };
        const WATCHES: Bulk =
            Bulk { head: "DELETE FROM watches WHERE id IN (", row: "?", between: ",", tail: ")" };
        let query = match watch {
            Some(watch) => sqlx::query(
                "SELECT id, symbol, paused FROM watches WHERE id = ? AND user_id = ? FOR UPDATE",
            )
            .bind(signed(watch.0)),
            None => sqlx::query(
                "SELECT id, symbol, paused FROM watches WHERE user_id = ? ORDER BY id FOR UPDATE",
            ),
        };
        let (mut changes, mut counts) = (Vec::new(), Counts::new());
        for row in query.bind(user.0).fetch_all(&mut *self.tx).await? {
            let (symbol, paused) = (parsed(&row, 1)?, int(&row, 2)? != 0);
            changes.push((symbol, Some(int(&row, 0)?)));
            let count = counts.entry(symbol).or_default();
            *count = (count.0 - 1, count.1 - i64::from(!paused));
        }
        for statement in [STATES, WATCHES] {
            for piece in padded(&changes) {
                let query = statement.of(piece.len());
                let query = piece.into_iter().fold(query, |query, (_, id)| query.bind(*id));
                query.execute(&mut *self.tx).await?;
            }
        }
        self.add_changes(&changes).await?;
        self.count(&counts).await?;
        Ok(!changes.is_empty())
    }

    async fn find_watch(
        &mut self,
        user: UserId,
        watch: WatchRef,
    ) -> Result<Option<WatchView>, Failure> {
        let query = match watch {
            WatchRef::Id(id) => sqlx::query(WATCH_OF).bind(signed(id.0)),
            WatchRef::Oldest => sqlx::query(OLDEST_OF),
        };
        let row = query.bind(user.0).fetch_optional(&mut *self.tx).await?;
        Ok(row.map(|row| view(&row)).transpose()?)
    }

    async fn update_watch(&mut self, watch: &Watch) -> Result<(), Failure> {
        let spec = &watch.spec;
        let (policy, step, hysteresis) = rows::policy_columns(spec.policy());
        sqlx::query(
            "UPDATE watches SET symbol = ?, `partition` = ?, version = ?, fresh_since = ?, \
                    cooldown_since = ?, paused = ?, low = ?, high = ?, policy = ?, step = ?, \
                    hysteresis = ?, cooldown_s = ? \
             WHERE id = ?",
        )
        .bind(spec.symbol().as_str())
        .bind(self.store.partition_of(spec.symbol())?.0)
        .bind(watch.version.0)
        .bind(watch.fresh_since.0)
        .bind(watch.cooldown_since.0)
        .bind(watch.paused)
        .bind(spec.low().map(Price::units))
        .bind(spec.high().map(Price::units))
        .bind(policy)
        .bind(step)
        .bind(hysteresis)
        .bind(signed(spec.cooldown_s()))
        .bind(signed(watch.id.0))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Leaves changes for the evaluators of their symbols: of a watch, or a reset.
    async fn add_changes(&mut self, changes: &[(Symbol, Option<i64>)]) -> Result<(), Failure> {
        const INSERT: Bulk = Bulk {
            head: "INSERT INTO changes (`partition`, symbol, watch_id) VALUES",
            row: "(?, ?, ?)",
            between: ",",
            tail: "",
        };
        let partitions = self.store.partitions()?;
        for piece in exact(changes) {
            let mut insert = INSERT.of(piece.len());
            for (symbol, watch) in piece {
                insert = insert
                    .bind(partition_of(symbol.as_bytes(), partitions).0)
                    .bind(symbol.as_str().to_owned())
                    .bind(*watch);
            }
            insert.execute(&mut *self.tx).await?;
        }
        Ok(())
    }
}
