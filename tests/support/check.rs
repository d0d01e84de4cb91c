//! The end of a run held against the slow reference: which version of which watch took effect
//! after which tick is read from the store, everything else is computed anew.

use std::collections::{BTreeMap, VecDeque};

use tripline::model::{
    Alert, AlertId, Price, Symbol, Tick, Timestamp, Told, UserId, Version, WatchId, WatchState,
};
use tripline::pipeline::evaluate::Effects;
use tripline::pipeline::evaluate::reference::Reference;

use crate::database::{Cell, Database};
use crate::process::Mail;
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

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) ticks: usize,
    pub(crate) watches: usize,
    pub(crate) alerts: usize,
    pub(crate) delivered: usize,
    pub(crate) cancelled: usize,
    pub(crate) dead: usize,
    /// Mails beyond the first of an alert.
    pub(crate) duplicates: usize,
}

/// Checks the store, and every mail that was taken, against the reference. `may_die` is whether
/// deliveries may have gone to the dead letters.
pub(crate) async fn all_is_as_the_reference_has_it(
    store: &mut Database,
    mails: &[Mail],
    ticks: &[Tick],
    story: &Story,
    may_die: bool,
) -> Found {
    let stored = alerts(store).await;
    let mut applied = applied(store).await;
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

    // Each has ended: delivered, dead where that may be, or cancelled because its watch was
    // deleted.
    let mut taken: BTreeMap<&str, Vec<&Mail>> = BTreeMap::new();
    mails.iter().for_each(|mail| taken.entry(&mail.alert).or_default().push(mail));
    let mut sum = Found {
        ticks: ticks.len(),
        watches: story.len(),
        alerts: found.len(),
        duplicates: mails.len() - taken.len(),
        ..Found::default()
    };
    for (id, Stored { alert, delivery }) in &stored {
        let lived = &story[&id.watch];
        let mails = taken.remove(id.to_string().as_str()).unwrap_or_default();
        match delivery.as_str() {
            "delivered" => {
                assert!(!mails.is_empty(), "{id} is delivered without a mail");
                sum.delivered += 1;
            }
            "cancelled" => {
                assert!(lived.deleted, "{id} is cancelled, and its watch is there");
                sum.cancelled += 1;
            }
            "dead" if may_die => sum.dead += 1,
            other => panic!("{id} is {other}"),
        }
        for mail in mails {
            assert_eq!(*mail, told(alert, &lived.email));
        }
    }
    assert!(taken.is_empty(), "mails without an alert: {:?}", taken.keys());

    check_watches(store, story, &reference).await;
    let orphans =
        "SELECT COUNT(*) FROM watch_states WHERE watch_id NOT IN (SELECT id FROM watches)";
    assert_eq!(store.number(orphans).await, 0);
    sum
}

/// Every acknowledged command is in effect once: the watches, their versions, and their states.
async fn check_watches(store: &mut Database, story: &Story, reference: &Reference) {
    let rows = store.rows(
        "SELECT w.id, w.version, w.symbol, w.paused, w.low, w.high, w.cooldown_s, \
                s.version, s.told, s.bucket, s.last_alert_ms \
         FROM watches w LEFT JOIN watch_states s ON s.watch_id = w.id ORDER BY w.id",
    );
    let rows = rows.await;
    let id = |row: &[Cell]| WatchId(row[0].number().cast_unsigned());
    let alive: Vec<WatchId> =
        story.iter().filter(|(_, lived)| !lived.deleted).map(|(id, _)| *id).collect();
    assert_eq!(rows.iter().map(|row| id(row)).collect::<Vec<_>>(), alive);
    for row in &rows {
        let watch = story[&id(row)].now();
        let spec = watch.spec;
        let found = (version(&row[1]), row[2].text(), row[3].number() != 0);
        assert_eq!(found, (Some(watch.version), spec.symbol().as_str(), watch.paused));
        let found = (row[4].some_number(), row[5].some_number(), row[6].number());
        let units = |price: Option<Price>| price.map(Price::units);
        assert_eq!(found, (units(spec.low()), units(spec.high()), spec.cooldown_s() as i64));
        let told = row[8].some_text().map_or(Told::Nothing, |condition| Told::Told {
            condition: condition.parse().unwrap(),
            bucket: row[9].number(),
        });
        let last_alert = row[10].some_number().and_then(Timestamp::from_millis);
        let state = WatchState { version: version(&row[7]).unwrap(), told, last_alert };
        assert_eq!(Some(state), reference.state(spec.symbol(), watch.id), "watch {}", watch.id);
    }
}

fn version(cell: &Cell) -> Option<Version> {
    cell.some_number().map(|number| Version(u32::try_from(number).unwrap()))
}

async fn alerts(store: &mut Database) -> BTreeMap<AlertId, Stored> {
    let rows = store.rows(
        "SELECT a.watch_id, a.version, a.time_ms, a.`condition`, a.user_id, a.symbol, a.price, \
                a.threshold, d.state \
         FROM alerts a JOIN deliveries d ON d.alert_id = a.id",
    );
    let stored = |row: &Vec<Cell>| {
        let id = AlertId {
            watch: WatchId(row[0].number().cast_unsigned()),
            version: version(&row[1]).unwrap(),
            time: Timestamp::from_millis(row[2].number()).unwrap(),
            condition: row[3].text().parse().unwrap(),
        };
        let alert = Alert {
            id,
            user: UserId(u32::try_from(row[4].number()).unwrap()),
            symbol: row[5].text().parse().unwrap(),
            price: Price::from_units(row[6].number()).unwrap(),
            threshold: Price::from_units(row[7].number()).unwrap(),
        };
        (id, Stored { alert, delivery: row[8].text().to_owned() })
    };
    let rows = rows.await;
    let count = rows.len();
    let alerts: BTreeMap<_, _> = rows.iter().map(stored).collect();
    // As many rows in each table as there are identities.
    let all = store.number("SELECT COUNT(*) FROM alerts").await;
    assert_eq!((alerts.len(), all), (count, count as i64));
    assert_eq!(store.number("SELECT COUNT(*) FROM deliveries").await, count as i64);
    alerts
}

async fn applied(store: &mut Database) -> Vec<Applied> {
    let rows = store.rows(
        "SELECT symbol, watch_id, version, after_ms FROM applied_changes \
         WHERE watch_id IS NOT NULL ORDER BY id",
    );
    let applied = |row: &Vec<Cell>| Applied {
        symbol: row[0].text().parse().unwrap(),
        watch: WatchId(row[1].number().cast_unsigned()),
        version: version(&row[2]),
        after: row[3].some_number().and_then(Timestamp::from_millis),
    };
    let mut applied: Vec<Applied> = rows.await.iter().map(applied).collect();
    // By when they took effect: numbers are given out before commands commit, in any order.
    applied.sort_by_key(|change| change.after);
    applied
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
