//! What commands do to watches: versions, pending changes, and the counts per symbol.

use super::bulk::Bulk;
use super::commands::{Done, Work};
use super::rows::{self, watch_columns};
use crate::model::{Price, Symbol, UserId, Version, Watch, WatchId, WatchSpec};
use crate::pipeline::broker::partition_of;
use crate::pipeline::store::StoreError;
use crate::server::store::{Refusal, Reply, WatchPatch, WatchRef};

impl Work<'_> {
    pub(super) async fn create_watch(&mut self, user: UserId, spec: &WatchSpec) -> Done {
        if !self.user_exists(user).await? {
            return Ok(Err(Refusal::UnknownUser));
        }
        let count: u32 = sqlx::query_scalar("SELECT COUNT(*) FROM watches WHERE user_id = ?")
            .bind(user.0)
            .fetch_one(&mut *self.tx)
            .await?;
        let max = self.store.inner.options.watches_per_account_max;
        if count >= max {
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
        let Some(old) = self.find_watch(user, watch).await? else {
            let has_one = self.find_watch(user, WatchRef::Oldest).await?.is_some();
            return match (or_create, watch) {
                (Some(spec), _) if !has_one => self.create_watch(user, spec).await,
                _ if !self.user_exists(user).await? => Ok(Err(Refusal::UnknownUser)),
                (_, WatchRef::Oldest) => Ok(Err(Refusal::NoWatch)),
                (_, WatchRef::Id(_)) => Ok(Err(Refusal::UnknownWatch)),
            };
        };
        let next = match patch.apply(&old) {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(Ok(Reply::Watch { id: old.id.0 })),
            Err(error) => return Ok(Err(error.into())),
        };
        self.update_watch(&next).await?;
        let (from, to) = (old.spec.symbol(), next.spec.symbol());
        if from != to {
            self.add_change(from, Some(old.id)).await?;
        }
        self.add_change(to, Some(old.id)).await?;
        if from != to || old.paused != next.paused {
            self.count(from, -1, -i64::from(!old.paused)).await?;
            self.count(to, 1, i64::from(!next.paused)).await?;
            self.forget_unwatched(from).await?;
        }
        Ok(Ok(Reply::Watch { id: old.id.0 }))
    }

    pub(super) async fn delete_watch(&mut self, user: UserId, watch: WatchId) -> Done {
        if self.find_watch(user, WatchRef::Id(watch)).await?.is_none() {
            let known = self.user_exists(user).await?;
            return Ok(Err(if known { Refusal::UnknownWatch } else { Refusal::UnknownUser }));
        }
        // Who claimed one stays recorded: that attempt may still arrive, and is settled then.
        sqlx::query(
            "UPDATE deliveries SET state = 'cancelled', reason = 'watch', changed_ms = ?
             WHERE watch_id = ? AND state IN ('pending', 'claimed')",
        )
        .bind(self.now_ms)
        .bind(rows::signed(watch.0))
        .execute(&mut *self.tx)
        .await?;
        self.remove_watches(user, Some(watch)).await?;
        Ok(Ok(Reply::Done))
    }

    pub(super) async fn reset_symbol(&mut self, symbol: Symbol) -> Done {
        let known: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM symbol_states WHERE symbol = ?1)
                 OR EXISTS (SELECT 1 FROM watched_symbols WHERE symbol = ?1)",
        )
        .bind(symbol.as_str())
        .fetch_one(&mut *self.tx)
        .await?;
        if !known {
            return Ok(Err(Refusal::UnknownSymbol));
        }
        self.add_change(symbol, None).await?;
        Ok(Ok(Reply::Done))
    }

    /// Inserts watches in the order given, counts them and leaves their changes; returns the
    /// id of the last.
    pub(super) async fn insert_watches(
        &mut self,
        watches: &[(UserId, WatchSpec)],
    ) -> Result<u64, StoreError> {
        const INSERT: Bulk = Bulk {
            head: "INSERT INTO watches (user_id, symbol, partition, version, fresh_since, \
                   cooldown_since, paused, low, high, policy, step, hysteresis, cooldown_s) VALUES",
            row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            tail: "",
        };
        // Nobody else writes meanwhile, so the new ones are those with greater ids.
        let before: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM watches")
            .fetch_one(&mut *self.tx)
            .await?;
        let partitions = self.store.partitions()?;
        INSERT
            .execute(self.tx, watches, |query, (user, spec)| {
                let (policy, step, hysteresis) = rows::policy_columns(spec.policy());
                query
                    .bind(user.0)
                    .bind(spec.symbol().as_str().to_owned())
                    .bind(partition_of(spec.symbol().as_bytes(), partitions).0)
                    .bind(Version::FIRST.0)
                    .bind(Version::FIRST.0)
                    .bind(Version::FIRST.0)
                    .bind(false)
                    .bind(spec.low().map(Price::units))
                    .bind(spec.high().map(Price::units))
                    .bind(policy)
                    .bind(step)
                    .bind(hysteresis)
                    .bind(rows::signed(spec.cooldown_s()))
            })
            .await?;
        sqlx::query(
            "INSERT INTO changes (partition, symbol, watch_id)
             SELECT partition, symbol, id FROM watches WHERE id > ? ORDER BY id",
        )
        .bind(before)
        .execute(&mut *self.tx)
        .await?;
        sqlx::query(
            "INSERT INTO watched_symbols (symbol, watches, active)
             SELECT symbol, COUNT(*), COUNT(*) FROM watches WHERE id > ? GROUP BY symbol
             ON CONFLICT (symbol) DO UPDATE SET watches = watches + excluded.watches,
                                                active = active + excluded.active",
        )
        .bind(before)
        .execute(&mut *self.tx)
        .await?;
        let last: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM watches")
            .fetch_one(&mut *self.tx)
            .await?;
        Ok(last.cast_unsigned())
    }

    /// Deletes a user's watches, or one of them, with all that is counted and kept for them.
    /// Every statement is over the whole set, however many watches there are.
    pub(super) async fn remove_watches(
        &mut self,
        user: UserId,
        watch: Option<WatchId>,
    ) -> Result<(), StoreError> {
        for statement in [
            "INSERT INTO changes (partition, symbol, watch_id)
             SELECT partition, symbol, id FROM watches
             WHERE user_id = ?1 AND (?2 IS NULL OR id = ?2) ORDER BY id",
            "UPDATE watched_symbols SET watches = watched_symbols.watches - gone.watches,
                                        active = watched_symbols.active - gone.active
             FROM (SELECT symbol, COUNT(*) AS watches, SUM(1 - paused) AS active FROM watches
                   WHERE user_id = ?1 AND (?2 IS NULL OR id = ?2) GROUP BY symbol) AS gone
             WHERE watched_symbols.symbol = gone.symbol",
            "DELETE FROM prices WHERE symbol IN (
                 SELECT v.symbol FROM watches w JOIN watched_symbols v ON v.symbol = w.symbol
                 WHERE v.watches = 0 AND w.user_id = ?1 AND (?2 IS NULL OR w.id = ?2))",
            "DELETE FROM watched_symbols WHERE watches = 0 AND symbol IN (
                 SELECT symbol FROM watches WHERE user_id = ?1 AND (?2 IS NULL OR id = ?2))",
            "DELETE FROM watch_states WHERE watch_id IN (
                 SELECT id FROM watches WHERE user_id = ?1 AND (?2 IS NULL OR id = ?2))",
            "DELETE FROM watches WHERE user_id = ?1 AND (?2 IS NULL OR id = ?2)",
        ] {
            sqlx::query(statement)
                .bind(user.0)
                .bind(watch.map(|watch| rows::signed(watch.0)))
                .execute(&mut *self.tx)
                .await?;
        }
        Ok(())
    }

    async fn find_watch(
        &mut self,
        user: UserId,
        watch: WatchRef,
    ) -> Result<Option<Watch>, StoreError> {
        let id = match watch {
            WatchRef::Id(id) => Some(rows::signed(id.0)),
            WatchRef::Oldest => None,
        };
        let row = sqlx::query(concat!(
            "SELECT ",
            watch_columns!(),
            " FROM watches w WHERE w.user_id = ?1 AND (?2 IS NULL OR w.id = ?2)
              ORDER BY w.id LIMIT 1"
        ))
        .bind(user.0)
        .bind(id)
        .fetch_optional(&mut *self.tx)
        .await?;
        row.map(|row| rows::watch(&row, 0)).transpose()
    }

    async fn update_watch(&mut self, watch: &Watch) -> Result<(), StoreError> {
        let spec = &watch.spec;
        let (policy, step, hysteresis) = rows::policy_columns(spec.policy());
        sqlx::query(
            "UPDATE watches SET symbol = ?, partition = ?, version = ?, fresh_since = ?,
                    cooldown_since = ?, paused = ?, low = ?, high = ?, policy = ?, step = ?,
                    hysteresis = ?, cooldown_s = ?
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
        .bind(rows::signed(spec.cooldown_s()))
        .bind(rows::signed(watch.id.0))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Leaves a change for the evaluator of a symbol: of a watch, or a reset.
    async fn add_change(
        &mut self,
        symbol: Symbol,
        watch: Option<WatchId>,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO changes (partition, symbol, watch_id) VALUES (?, ?, ?)")
            .bind(self.store.partition_of(symbol)?.0)
            .bind(symbol.as_str())
            .bind(watch.map(|watch| rows::signed(watch.0)))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    async fn count(&mut self, symbol: Symbol, watches: i64, active: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO watched_symbols (symbol, watches, active) VALUES (?, ?, ?)
             ON CONFLICT (symbol) DO UPDATE SET watches = watches + excluded.watches,
                                                active = active + excluded.active",
        )
        .bind(symbol.as_str())
        .bind(watches)
        .bind(active)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Drops the prices of a symbol that nobody watches any more. Its last tick stays.
    async fn forget_unwatched(&mut self, symbol: Symbol) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM prices WHERE symbol = ?1
             AND EXISTS (SELECT 1 FROM watched_symbols WHERE symbol = ?1 AND watches = 0)",
            "DELETE FROM watched_symbols WHERE symbol = ?1 AND watches = 0",
        ] {
            sqlx::query(statement).bind(symbol.as_str()).execute(&mut *self.tx).await?;
        }
        Ok(())
    }
}
