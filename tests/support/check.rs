//! The end of a run held against the slow reference: which version of which watch took effect
//! after which tick is read from the store, everything else is computed anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tripline::model::{
    Alert, AlertId, Price, Symbol, Tick, Timestamp, Told, UserId, Version, WatchId, WatchState,
};
use tripline::pipeline::evaluate::Effects;
use tripline::pipeline::evaluate::reference::Reference;

use crate::process::{Mail, database, mails, number};
use crate::story::Story;

/// A change that an evaluator applied: which watch, which version (none: it is gone), and the
/// last tick before.
#[derive(Clone, Copy, Debug)]
struct Applied {
    symbol: Symbol,
    watch: WatchId,
    version: Option<Version>,
    after: Option<Timestamp>,
}

/// An alert and its delivery, as stored.
#[derive(Clone, Debug)]
struct Stored {
    alert: Alert,
    delivery: String,
}

pub(crate) async fn all_is_as_the_reference_has_it(folder: &Path, ticks: &[Tick], story: &Story) {
    let mut store = database(folder, "store.db").await;
    let stored = alerts(&mut store).await;
    let mut applied = applied(&mut store).await;
    add_those_applied_at_load(&mut applied, &stored, story);
    let (reference, expected) = replay(ticks, story, applied);

    // The alerts are those of the reference, each made once.
    let found: BTreeMap<AlertId, Alert> =
        stored.values().map(|stored| (stored.alert.id, stored.alert)).collect();
    let missing: Vec<_> = expected.keys().filter(|id| !found.contains_key(id)).collect();
    let extra: Vec<_> = found.keys().filter(|id| !expected.contains_key(id)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    assert_eq!(found, expected);
    assert!(!found.is_empty(), "a run that tells nothing shows nothing");
    eprintln!("{} ticks, {} watches, {} alerts", ticks.len(), story.len(), found.len());

    // Each has ended: delivered, or cancelled because its watch was deleted.
    let mails: BTreeMap<String, Mail> =
        mails(folder).into_iter().map(|mail| (mail.alert.clone(), mail)).collect();
    for (id, Stored { alert, delivery }) in &stored {
        let lived = &story[&id.watch];
        let mail = mails.get(&id.to_string());
        match delivery.as_str() {
            "delivered" => assert!(mail.is_some(), "{id} is delivered without a mail"),
            "cancelled" => assert!(lived.deleted, "{id} is cancelled, and its watch is there"),
            other => panic!("{id} is {other}"),
        }
        if let Some(mail) = mail {
            assert_eq!(*mail, told(alert, &lived.email));
        }
    }
    let ids: BTreeSet<String> = stored.keys().map(AlertId::to_string).collect();
    let strays: Vec<_> = mails.keys().filter(|id| !ids.contains(*id)).collect();
    assert!(strays.is_empty(), "mails without an alert: {strays:?}");

    check_watches(&mut store, story, &reference).await;
    let orphans =
        "SELECT COUNT(*) FROM watch_states WHERE watch_id NOT IN (SELECT id FROM watches)";
    assert_eq!(number(&mut store, orphans).await, 0);
}

/// Every acknowledged command is in effect once: the watches, their versions, and their states.
async fn check_watches(store: &mut SqliteConnection, story: &Story, reference: &Reference) {
    let rows = sqlx::query(
        "SELECT w.id, w.version, w.symbol, w.paused, w.low, w.high, w.cooldown_s, \
                s.version, s.told, s.bucket, s.last_alert_ms \
         FROM watches w LEFT JOIN watch_states s ON s.watch_id = w.id ORDER BY w.id",
    );
    let rows = rows.fetch_all(store).await.unwrap();
    let alive: Vec<WatchId> =
        story.iter().filter(|(_, lived)| !lived.deleted).map(|(id, _)| *id).collect();
    assert_eq!(rows.iter().map(|row| WatchId(row.get(0))).collect::<Vec<_>>(), alive);
    for row in &rows {
        let watch = story[&WatchId(row.get(0))].now();
        let spec = watch.spec;
        let found: (u32, &str, bool) = (row.get(1), row.get(2), row.get(3));
        assert_eq!(found, (watch.version.0, spec.symbol().as_str(), watch.paused));
        let found: (Option<i64>, Option<i64>, i64) = (row.get(4), row.get(5), row.get(6));
        let units = |price: Option<Price>| price.map(Price::units);
        assert_eq!(found, (units(spec.low()), units(spec.high()), spec.cooldown_s() as i64));
        let told = row.get::<Option<&str>, _>(8).map_or(Told::Nothing, |condition| Told::Told {
            condition: condition.parse().unwrap(),
            bucket: row.get(9),
        });
        let last_alert = row.get::<Option<i64>, _>(10).and_then(Timestamp::from_millis);
        let state = WatchState { version: Version(row.get(7)), told, last_alert };
        assert_eq!(Some(state), reference.state(spec.symbol(), watch.id), "watch {}", watch.id);
    }
}

async fn alerts(store: &mut SqliteConnection) -> BTreeMap<AlertId, Stored> {
    let rows = sqlx::query(
        "SELECT watch_id, version, time_ms, condition, a.user_id, symbol, price, threshold, state \
         FROM alerts a JOIN deliveries d USING (watch_id) WHERE d.alert_id = a.id",
    );
    let stored = |row: SqliteRow| {
        let id = AlertId {
            watch: WatchId(row.get(0)),
            version: Version(row.get(1)),
            time: Timestamp::from_millis(row.get(2)).unwrap(),
            condition: row.get::<&str, _>(3).parse().unwrap(),
        };
        let alert = Alert {
            id,
            user: UserId(row.get(4)),
            symbol: row.get::<&str, _>(5).parse().unwrap(),
            price: Price::from_units(row.get(6)).unwrap(),
            threshold: Price::from_units(row.get(7)).unwrap(),
        };
        (id, Stored { alert, delivery: row.get(8) })
    };
    let rows = rows.fetch_all(&mut *store).await.unwrap();
    let count = rows.len();
    let alerts: BTreeMap<_, _> = rows.into_iter().map(stored).collect();
    // As many rows in each table as there are identities.
    assert_eq!(
        (alerts.len(), number(store, "SELECT COUNT(*) FROM alerts").await),
        (count, count as i64)
    );
    assert_eq!(number(store, "SELECT COUNT(*) FROM deliveries").await, count as i64);
    alerts
}

async fn applied(store: &mut SqliteConnection) -> Vec<Applied> {
    let rows =
        sqlx::query("SELECT symbol, watch_id, version, after_ms FROM applied_changes ORDER BY id");
    let applied = |row: &SqliteRow| Applied {
        symbol: row.get::<&str, _>(0).parse().unwrap(),
        watch: WatchId(row.get(1)),
        version: row.get::<Option<u32>, _>(2).map(Version),
        after: row.get::<Option<i64>, _>(3).and_then(Timestamp::from_millis),
    };
    rows.fetch_all(store).await.unwrap().iter().map(applied).collect()
}

/// A version that was in effect only while an evaluator loaded what another had left, and was
/// superseded before the changes were read, has no row of its own. If it told something, it
/// took effect just before the watch's next version.
fn add_those_applied_at_load(
    applied: &mut Vec<Applied>,
    stored: &BTreeMap<AlertId, Stored>,
    story: &Story,
) {
    for id in stored.keys() {
        let symbol =
            story[&id.watch].version(id.version).expect("a version that was").spec.symbol();
        let ours = |change: &&mut Applied| change.watch == id.watch && change.symbol == symbol;
        let mut ours: Vec<_> = applied.iter_mut().filter(ours).map(|change| *change).collect();
        if ours.iter().any(|change| change.version == Some(id.version)) {
            continue;
        }
        ours.retain(|change| change.version.is_none_or(|version| version > id.version));
        let next = ours.first().unwrap_or_else(|| panic!("{id} of a version never applied"));
        assert_eq!(next.after, Some(id.time), "{id} was told while loading");
        let at = applied.iter().position(|change| {
            (change.watch, change.symbol, change.version) == (next.watch, next.symbol, next.version)
        });
        applied.insert(at.unwrap(), Applied { version: Some(id.version), ..*next });
    }
}

/// Repeats the run: each symbol's ticks, with the changes where they took effect.
fn replay(
    ticks: &[Tick],
    story: &Story,
    applied: Vec<Applied>,
) -> (Reference, BTreeMap<AlertId, Alert>) {
    let mut changes: BTreeMap<Symbol, VecDeque<Applied>> = BTreeMap::new();
    for change in applied {
        changes.entry(change.symbol).or_default().push_back(change);
    }
    let (mut reference, mut effects) = (Reference::new(), Effects::default());
    let apply = |symbol: Symbol,
                 changes: &mut BTreeMap<Symbol, VecDeque<Applied>>,
                 reference: &mut Reference,
                 effects: &mut Effects| {
        let queue = changes.entry(symbol).or_default();
        let last = reference.last(symbol).map(|last| last.time);
        while let Some(change) = queue.pop_front_if(|change| change.after == last) {
            match change.version {
                None => drop(reference.remove(symbol, change.watch)),
                Some(version) => {
                    let watch = story[&change.watch].version(version).expect("a version that was");
                    reference.apply(watch, WatchState::default(), effects);
                }
            }
        }
    };
    for tick in ticks {
        apply(tick.symbol, &mut changes, &mut reference, &mut effects);
        reference.tick(tick, &mut effects);
    }
    let symbols: Vec<Symbol> = changes.keys().copied().collect();
    for symbol in symbols {
        apply(symbol, &mut changes, &mut reference, &mut effects);
        assert!(changes[&symbol].is_empty(), "changes after ticks that never were: {changes:?}");
    }
    (reference, effects.alerts.iter().map(|alert| (alert.id, *alert)).collect())
}

/// The mail of an alert.
fn told(alert: &Alert, email: &str) -> Mail {
    Mail {
        alert: alert.id.to_string(),
        time: alert.id.time.to_string(),
        email: email.to_owned(),
        symbol: alert.symbol.to_string(),
        condition: alert.id.condition.to_string(),
        price: alert.price.to_string(),
        threshold: alert.threshold.to_string(),
    }
}
