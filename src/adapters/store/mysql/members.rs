//! Who shares the partitions of a topic. Leases run on the server's clock.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use sqlx::mysql::MySqlConnection;

use super::bulk::{Bulk, padded};
use super::{Failure, MysqlStore, now_ms};
use crate::adapters::store::rows::{Cells, parsed, signed, small};
use crate::model::Partition;
use crate::pipeline::members::{Membership, View};
use crate::pipeline::store::StoreError;

/// Keeps a lease that has not ended.
pub(super) const RENEW: &str = concat!(
    "UPDATE members SET lease_until_ms = ",
    now_ms!(),
    " + ? WHERE topic = ? AND `member` = ? AND lease_until_ms > ",
    now_ms!()
);
/// Every live member, with each partition that it owns.
pub(super) const VIEW: &str = concat!(
    "SELECT m.`member`, o.`partition` FROM members m \
     LEFT JOIN owners o ON o.topic = m.topic AND o.`member` = m.`member` \
     WHERE m.topic = ? AND m.lease_until_ms > ",
    now_ms!()
);
const JOIN: &str = concat!(
    "INSERT INTO members (topic, `member`, lease_until_ms) VALUES (?, ?, ",
    now_ms!(),
    " + ?) ON DUPLICATE KEY UPDATE lease_until_ms = VALUES(lease_until_ms)"
);
/// Voids what members own whose lease has ended.
const EXPIRE: &str = concat!(
    "DELETE o FROM owners o LEFT JOIN members m \
     ON m.topic = o.topic AND m.`member` = o.`member` AND m.lease_until_ms > ",
    now_ms!(),
    " WHERE o.topic = ? AND m.`member` IS NULL"
);
/// Forgets members that have been dead for ten minutes.
const FORGET: &str =
    concat!("DELETE FROM members WHERE topic = ? AND lease_until_ms < ", now_ms!(), " - 600000");
const LIVES: &str = concat!(
    "SELECT COUNT(*) FROM members WHERE topic = ? AND `member` = ? AND lease_until_ms > ",
    now_ms!()
);
const CLAIM: Bulk = Bulk {
    head: "INSERT INTO owners (topic, `partition`, `member`) VALUES",
    row: "(?, ?, ?)",
    between: ",",
    tail: "ON DUPLICATE KEY UPDATE `member` = `member`",
};
const RELEASE: Bulk = Bulk {
    head: "DELETE FROM owners WHERE topic = ? AND `member` = ? AND `partition` IN (",
    row: "?",
    between: ",",
    tail: ")",
};

#[async_trait]
impl Membership for MysqlStore {
    async fn heartbeat(
        &self,
        topic: &str,
        member: &str,
        lease_ms: u64,
    ) -> Result<View, StoreError> {
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            let renewed = sqlx::query(RENEW)
                .bind(signed(lease_ms))
                .bind(topic)
                .bind(member)
                .execute(&mut *tx)
                .await?;
            if renewed.rows_affected() == 0 {
                join(&mut tx, topic, member, lease_ms).await?;
            }
            let view = view(&mut tx, topic).await?;
            tx.commit().await?;
            Ok(view)
        })
        .await
    }

    async fn claim(
        &self,
        topic: &str,
        partitions: &[Partition],
        member: &str,
    ) -> Result<Vec<Partition>, StoreError> {
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            sqlx::query(EXPIRE).bind(topic).execute(&mut *tx).await?;
            let lives: i64 =
                sqlx::query_scalar(LIVES).bind(topic).bind(member).fetch_one(&mut *tx).await?;
            if lives == 0 {
                // What it had was voided just now.
                tx.commit().await?;
                return Ok(Vec::new());
            }
            for piece in padded(partitions) {
                let mut claim = CLAIM.of(piece.len());
                for partition in piece {
                    claim = claim.bind(topic.to_owned()).bind(partition.0).bind(member.to_owned());
                }
                claim.execute(&mut *tx).await?;
            }
            let owners = view(&mut tx, topic).await?.owners;
            tx.commit().await?;
            let is_mine =
                |partition: &Partition| owners.get(partition).is_some_and(|o| o == member);
            Ok(partitions.iter().copied().filter(is_mine).collect())
        })
        .await
    }

    async fn release(
        &self,
        topic: &str,
        partitions: &[Partition],
        member: &str,
    ) -> Result<(), StoreError> {
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            for piece in padded(partitions) {
                let release =
                    RELEASE.of(piece.len()).bind(topic.to_owned()).bind(member.to_owned());
                let release = piece.into_iter().fold(release, |query, p| query.bind(p.0));
                release.execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    async fn leave(&self, topic: &str, member: &str) -> Result<(), StoreError> {
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            for delete in [
                "DELETE FROM owners WHERE topic = ? AND `member` = ?",
                "DELETE FROM members WHERE topic = ? AND `member` = ?",
            ] {
                sqlx::query(delete).bind(topic).bind(member).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}

/// Makes a member live that was not: it owns nothing.
async fn join(
    tx: &mut MySqlConnection,
    topic: &str,
    member: &str,
    lease_ms: u64,
) -> Result<(), Failure> {
    sqlx::query(EXPIRE).bind(topic).execute(&mut *tx).await?;
    sqlx::query(FORGET).bind(topic).execute(&mut *tx).await?;
    sqlx::query(JOIN).bind(topic).bind(member).bind(signed(lease_ms)).execute(tx).await?;
    Ok(())
}

async fn view(tx: &mut MySqlConnection, topic: &str) -> Result<View, Failure> {
    let rows = sqlx::query(VIEW).bind(topic).fetch_all(tx).await?;
    let (mut members, mut owners) = (BTreeSet::new(), BTreeMap::new());
    for row in &rows {
        let member: String = parsed(row, 0)?;
        if row.int(1)?.is_some() {
            owners.insert(Partition(small(row, 1)?), member.clone());
        }
        members.insert(member);
    }
    Ok(View { members, owners })
}
