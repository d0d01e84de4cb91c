//! Dead letters and the backlog.

use std::time::Duration;

use tripline::model::Watch;
use tripline::pipeline::clock::Clock;
use tripline::pipeline::notify::Outcome;
use tripline::pipeline::store::DeadRecord;
use tripline::server::store::{
    Backlog, Command, DeadLetter, DeadLetterId, DeliveryState, Refusal, Reply,
};

use crate::fixture::{Fixture, at, dead, dead_record, spec};

const SECOND: Duration = Duration::from_secs(1);

async fn anns_watch(f: &Fixture) -> Watch {
    let ann = f.register("Ann@example.com").await;
    let id = f.create(ann, spec("A")).await;
    f.watch(ann, id).await
}

pub(crate) async fn letters_of_both_kinds_are_merged_newest_first(f: Fixture) {
    let watch = anns_watch(&f).await;
    let mut expected = Vec::new();
    for round in 0..3 {
        // Two of each kind in one instant.
        for n in 0..2 {
            let delivery = f.deliver(&watch, at(10 * round + n), dead()).await;
            expected.push(DeadLetterId::Delivery(delivery.id.0));
        }
        let offset = round.cast_unsigned() * 2;
        f.accept(&[], &[dead_record(offset), dead_record(offset + 1)], 0).await;
        f.clock.advance(SECOND);
    }
    let all = f.letters(100).await;
    assert_eq!(all.len(), 12);
    let time = |letter: &DeadLetter| match letter {
        DeadLetter::Delivery { time, .. } | DeadLetter::Record { time, .. } => *time,
    };
    assert!(all.windows(2).all(|two| time(&two[0]) >= time(&two[1])));
    let found = |id: &DeadLetterId| all.iter().any(|letter| letter.id() == *id);
    assert!(expected.iter().all(found));
    for limit in [1, 2, 3, 5, 12] {
        let (mut paged, mut before) = (Vec::new(), None);
        loop {
            let page = f.store.dead_letters(before, limit, 1 << 20).await.unwrap();
            let full = page.letters.len() == limit as usize;
            assert!(full || page.next.is_none(), "pages of {limit}");
            paged.extend(page.letters);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
    for letter in &all {
        assert_eq!(f.store.dead_letter(letter.id()).await.unwrap().as_ref(), Some(letter));
    }
    let DeadLetter::Record { record, .. } =
        all.iter().find(|letter| matches!(letter, DeadLetter::Record { .. })).unwrap()
    else {
        panic!("expected a record");
    };
    assert_eq!(*record, dead_record(record.offset.0));
    // From a letter that is none any more the listing starts over: rather twice than never.
    f.run(Command::RetryDelivery { id: last_delivery(&all) }).await;
    let gone = Some(DeadLetterId::Delivery(last_delivery(&all)));
    assert_eq!(f.store.dead_letters(gone, 100, 1 << 20).await.unwrap().letters.len(), 11);
}

pub(crate) async fn a_page_is_bounded_in_bytes(f: Fixture) {
    const BIG: usize = 300_000;
    let watch = anns_watch(&f).await;
    let error = "é".repeat(500);
    f.deliver(&watch, at(1), Outcome::Dead { error }).await;
    f.clock.advance(SECOND);
    let record = |offset, key: Option<usize>, value| DeadRecord {
        key: key.map(|bytes| vec![b'k'; bytes].into()),
        value: vec![b'v'; value].into(),
        ..dead_record(offset)
    };
    // Oldest first: of one instant, the later ones come first.
    let records = [
        record(1, None, 10),
        record(2, None, BIG),
        record(3, Some(BIG / 2), BIG / 2),
        record(4, None, 5 * BIG),
        record(5, None, BIG),
        record(6, Some(10), 10),
    ];
    f.accept(&[], &records, 0).await;
    let all = f.letters(100).await;
    let sizes = async |limit: u32, bytes_max: u64| {
        let (mut sizes, mut before) = (Vec::new(), None);
        let mut paged = Vec::new();
        loop {
            let page = f.store.dead_letters(before, limit, bytes_max).await.unwrap();
            sizes.push(page.letters.len());
            paged.extend(page.letters);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(paged, all, "pages of {limit} and {bytes_max} bytes");
        sizes
    };
    let big = BIG as u64;
    assert_eq!(sizes(100, 20 * big).await, [7]);
    // The one that is larger than a page comes alone, and the newest with as many as fit.
    assert_eq!(sizes(100, 2 * big + 10_000).await, [2, 1, 4]);
    assert_eq!(sizes(3, 2 * big + 10_000).await, [2, 1, 3, 1]);
    // Text is counted in bytes: the delivery and the last record do not fit together.
    assert_eq!(sizes(100, 1_024 + 1_024 + 999).await, [1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(sizes(100, 0).await, [1; 7]);
}

fn last_delivery(letters: &[DeadLetter]) -> u64 {
    let number = |letter: &DeadLetter| match letter {
        DeadLetter::Delivery { id, .. } => Some(*id),
        DeadLetter::Record { .. } => None,
    };
    letters.iter().rev().find_map(number).unwrap()
}

pub(crate) async fn a_dead_delivery_is_sent_again(f: Fixture) {
    let watch = anns_watch(&f).await;
    let alert = f.tell(&watch, at(1)).await;
    let delivery = f.accept(&[alert], &[], 1).await.remove(0);
    let now = f.clock.now();
    f.settle(delivery.id, Outcome::Retry { at: now, error: "busy".into() }).await;
    let claimed = f.store.claim(&f.claimant(), 1).await.unwrap().deliveries;
    assert_eq!(claimed[0].attempts, 1);
    f.settle(delivery.id, dead()).await;

    let letter = f.store.dead_letter(DeadLetterId::Delivery(delivery.id.0)).await.unwrap();
    let Some(DeadLetter::Delivery { email, alert: found, reason, time, .. }) = letter else {
        panic!("expected a delivery, found {letter:?}");
    };
    assert_eq!((email.as_str(), found, time), ("Ann@example.com", alert, now));
    assert_eq!(reason, "no such mailbox");

    let retry = Command::RetryDelivery { id: delivery.id.0 };
    assert_eq!(f.run(retry.clone()).await, Reply::Done);
    assert_eq!(f.state(&alert).await, Some(DeliveryState::Pending));
    assert_eq!(f.refusal(retry.clone()).await, Refusal::UnknownDeadLetter);
    let claimed = f.store.claim(&f.claimant(), 1).await.unwrap().deliveries;
    assert_eq!((claimed[0].id, claimed[0].attempts), (delivery.id, 0));

    f.settle(delivery.id, dead()).await;
    f.run(Command::DeleteWatch { user: watch.user, watch: watch.id }).await;
    assert_eq!(f.refusal(retry.clone()).await, Refusal::UnknownWatch);
    f.run(Command::DeleteUser { user: watch.user }).await;
    assert_eq!(f.refusal(retry).await, Refusal::UnknownUser);
    // It stays listed, without the address, which is not kept.
    let letters = f.letters(10).await;
    let DeadLetter::Delivery { email, .. } = &letters[0] else { panic!("expected a delivery") };
    assert_eq!(email.as_str(), format!("user-{}@deleted.invalid", watch.user));
    assert_eq!(f.refusal(Command::RetryDelivery { id: 999 }).await, Refusal::UnknownDeadLetter);
}

pub(crate) async fn a_dead_record_is_taken_away(f: Fixture) {
    f.accept(&[], &[dead_record(7)], 0).await;
    let DeadLetterId::Record(id) = f.letters(1).await[0].id() else {
        panic!("expected a record");
    };
    assert_eq!(f.run(Command::RemoveDeadRecord { id }).await, Reply::Done);
    assert_eq!(f.letters(1).await, []);
    assert_eq!(f.refusal(Command::RemoveDeadRecord { id }).await, Refusal::UnknownDeadLetter);
    assert_eq!(f.store.dead_letter(DeadLetterId::Record(id)).await.unwrap(), None);
}

pub(crate) async fn the_backlog_is_counted(f: Fixture) {
    assert_eq!(f.store.backlog().await.unwrap(), Backlog::default());
    let watch = anns_watch(&f).await;
    f.deliver(&watch, at(1), Outcome::Delivered).await;
    f.deliver(&watch, at(2), dead()).await;
    let mut open = Vec::new();
    for second in 3..6 {
        open.push(f.tell(&watch, at(second)).await);
    }
    f.accept(&open, &[dead_record(1), dead_record(2)], 2).await;
    let expected = Backlog { pending: 3, dead_deliveries: 1, dead_records: 2 };
    assert_eq!(f.store.backlog().await.unwrap(), expected);
    f.run(Command::DeleteUser { user: watch.user }).await;
    assert_eq!(f.store.backlog().await.unwrap(), Backlog { pending: 0, ..expected });
}
