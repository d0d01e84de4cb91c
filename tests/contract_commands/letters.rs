//! Dead letters and the backlog.

use std::time::Duration;

use tripline::model::Watch;
use tripline::pipeline::clock::Clock;
use tripline::pipeline::notify::Outcome;
use tripline::server::store::{
    Backlog, Command, DeadLetter, DeadLetterId, DeliveryState, Refusal, Reply,
};

use crate::fixture::{Fixture, at, dead, dead_record, spec};

const SECOND: Duration = Duration::from_secs(1);

fn id(letter: &DeadLetter) -> DeadLetterId {
    match letter {
        DeadLetter::Delivery { id, .. } => DeadLetterId::Delivery(*id),
        DeadLetter::Record { id, .. } => DeadLetterId::Record(*id),
    }
}

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
    let all = f.store.dead_letters(None, 100).await.unwrap();
    assert_eq!(all.len(), 12);
    let time = |letter: &DeadLetter| match letter {
        DeadLetter::Delivery { time, .. } | DeadLetter::Record { time, .. } => *time,
    };
    assert!(all.windows(2).all(|two| time(&two[0]) >= time(&two[1])));
    let found = |id: &DeadLetterId| all.iter().any(|letter| self::id(letter) == *id);
    assert!(expected.iter().all(found));
    for limit in [1, 2, 3, 5, 12] {
        let (mut paged, mut before) = (Vec::new(), None);
        loop {
            let page = f.store.dead_letters(before, limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            before = Some(id(last));
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
    for letter in &all {
        assert_eq!(f.store.dead_letter(id(letter)).await.unwrap().as_ref(), Some(letter));
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
    assert_eq!(f.store.dead_letters(gone, 100).await.unwrap().len(), 11);
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
    let letters = f.store.dead_letters(None, 10).await.unwrap();
    let DeadLetter::Delivery { email, .. } = &letters[0] else { panic!("expected a delivery") };
    assert_eq!(email.as_str(), format!("user-{}@deleted.invalid", watch.user));
    assert_eq!(f.refusal(Command::RetryDelivery { id: 999 }).await, Refusal::UnknownDeadLetter);
}

pub(crate) async fn a_dead_record_is_taken_away(f: Fixture) {
    f.accept(&[], &[dead_record(7)], 0).await;
    let DeadLetterId::Record(id) = id(&f.store.dead_letters(None, 1).await.unwrap()[0]) else {
        panic!("expected a record");
    };
    assert_eq!(f.run(Command::RemoveDeadRecord { id }).await, Reply::Done);
    assert_eq!(f.store.dead_letters(None, 1).await.unwrap(), []);
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
