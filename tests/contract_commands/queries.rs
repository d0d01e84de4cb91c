//! Reads: watches with what is known of them, prices, alerts.

use tripline::model::{Condition, MarketState, Symbol, Told, UserId, WatchId};
use tripline::pipeline::notify::Outcome;
use tripline::server::store::{Command, DeliveryState, QueryStore, WatchPatch, WatchRef};

use crate::fixture::{Fixture, at, dead, price, spec, symbol};

pub(crate) async fn watches_are_paged_by_id_with_state_and_price(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let bob = f.register("bob@example.com").await;
    let mut ids = Vec::new();
    for name in ["B", "A", "C"] {
        ids.push(f.create(ann, spec(name)).await);
        f.create(bob, spec(name)).await;
    }
    f.tick("A", 1, at(1), "201").await;
    f.tell(&f.watch(ann, ids[1]).await, at(1)).await;

    let page = QueryStore::watches(&*f.store, ann, None, 2).await.unwrap();
    assert_eq!(page.iter().map(|view| view.watch.id).collect::<Vec<_>>(), ids[..2]);
    let rest = QueryStore::watches(&*f.store, ann, Some(ids[1]), 2).await.unwrap();
    assert_eq!(rest.iter().map(|view| view.watch.id).collect::<Vec<_>>(), ids[2..]);
    assert_eq!(QueryStore::watches(&*f.store, ann, Some(ids[2]), 2).await.unwrap(), []);

    assert_eq!((page[0].last, page[0].state.told), (None, Told::Nothing));
    let last = page[1].last.unwrap();
    assert_eq!((last.symbol, last.time, last.price), (symbol("A"), at(1), price("201")));
    assert_eq!(last.currency.unwrap().as_str(), "USD");
    assert_eq!(last.market, Some(MarketState::Regular));
    assert_eq!(f.store.quote(symbol("A")).await.unwrap(), Some(last));
    assert_eq!(f.store.quote(symbol("B")).await.unwrap(), None);
    let above = Told::Told { condition: Condition::Above, bucket: 0 };
    assert_eq!((page[1].state.told, page[1].state.last_alert), (above, Some(at(1))));

    // The state is told as the watch is now, also before an evaluator has seen the change.
    let patch = WatchPatch { high: Some(None), ..WatchPatch::default() };
    let watch = WatchRef::Id(ids[1]);
    let change = Command::ChangeWatch { user: ann, watch, patch, or_create: None };
    let left = f.store.execute(None, &change).await.unwrap().view;
    let view = f.store.watch(ann, watch).await.unwrap().unwrap();
    assert!(left.is_none_or(|left| left == view), "{left:?}, {view:?}");
    assert_eq!((view.state.version, view.state.told), (view.watch.version, Told::Nothing));

    let oldest = f.store.watch(ann, WatchRef::Oldest).await.unwrap().unwrap();
    assert_eq!(oldest.watch.id, ids[0]);
    for (user, id) in [(bob, ids[0]), (ann, WatchId(0)), (ann, WatchId(999)), (UserId(9), ids[0])] {
        assert_eq!(f.store.watch(user, WatchRef::Id(id)).await.unwrap(), None);
    }
    assert_eq!(f.store.watch(UserId(9), WatchRef::Oldest).await.unwrap(), None);
}

pub(crate) async fn history_is_the_newest_first(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    f.create(ann, spec("A")).await;
    let history = async |limit| -> Vec<_> {
        let quotes = f.store.history(symbol("A"), limit).await.unwrap();
        quotes.iter().map(|quote| (quote.time, quote.price.to_string())).collect()
    };
    assert_eq!(history(10).await, []);
    for number in 1..=3 {
        f.tick("A", number, at(10 * number.cast_signed()), &number.to_string()).await;
    }
    let newest = |price: &str, time| (at(time), price.to_owned());
    assert_eq!(history(2).await, [newest("3", 30), newest("2", 20)]);
    // A later price of the same second has the same number; the ring holds four.
    f.tick("A", 3, at(31), "3.5").await;
    f.tick("A", 4, at(40), "4").await;
    f.tick("A", 5, at(50), "5").await;
    let all = [newest("5", 50), newest("4", 40), newest("3.5", 31), newest("2", 20)];
    assert_eq!(history(10).await, all);
    // After a reset an older price may come later.
    f.tick("A", 6, at(35), "6").await;
    assert_eq!(history(2).await, all[..2]);
}

pub(crate) async fn alerts_are_paged_newest_first_with_their_delivery(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let bob = f.register("bob@example.com").await;
    let id = f.create(ann, spec("A")).await;
    let (watch, bobs) =
        (f.watch(ann, id).await, f.watch(bob, f.create(bob, spec("A")).await).await);
    f.deliver(&watch, at(1), Outcome::Delivered).await;
    f.deliver(&watch, at(2), dead()).await;
    f.deliver(&bobs, at(2), Outcome::Delivered).await;
    let open = f.tell(&watch, at(3)).await;
    let seen = |views: &[tripline::server::store::AlertView]| -> Vec<_> {
        views.iter().map(|view| (view.alert.id.time, view.delivery)).collect()
    };
    let page = f.store.alerts(ann, None, 2).await.unwrap();
    assert_eq!(page[0].alert, open);
    assert_eq!(seen(&page), [(at(3), DeliveryState::Pending), (at(2), DeliveryState::Dead)]);
    let rest = f.store.alerts(ann, Some(page[1].cursor), 2).await.unwrap();
    assert_eq!(seen(&rest), [(at(1), DeliveryState::Delivered)]);
    assert!(page[0].cursor > page[1].cursor && page[1].cursor > rest[0].cursor);
    assert_eq!(f.store.alerts(ann, Some(rest[0].cursor), 2).await.unwrap(), []);
    // Accepted and claimed are both on their way; deleting the watch cancels it.
    f.accept(&[open], &[], 1).await;
    assert_eq!(f.state(&open).await, Some(DeliveryState::Pending));
    f.run(Command::DeleteWatch { user: ann, watch: id }).await;
    let page = f.store.alerts(ann, None, 1).await.unwrap();
    assert_eq!(seen(&page), [(at(3), DeliveryState::Cancelled)]);
    let mut unknown = open.id;
    unknown.time = at(99);
    assert_eq!(f.store.delivery(unknown).await.unwrap(), None);
}

pub(crate) async fn notes_on_symbols_are_read_as_they_were_last_written(f: Fixture) {
    let symbol = |number: usize| format!("S{number}").parse::<Symbol>().unwrap();
    let note = |text: &str| Some(text.to_owned());
    let read = async |symbols: &[Symbol]| {
        let mut notes = f.store.symbol_notes(symbols).await.unwrap();
        notes.sort();
        notes
    };
    assert_eq!(read(&[symbol(1)]).await, []);
    let all: Vec<Symbol> = (0..300).map(symbol).collect();
    let notes: Vec<_> = all.iter().map(|symbol| (*symbol, note("unknown \u{4f60}'\"%"))).collect();
    f.store.note_symbols(&notes).await.unwrap();
    assert_eq!(read(&all).await.len(), 300);
    let changes = [(symbol(1), note("away")), (symbol(2), None), (symbol(999), None)];
    f.store.note_symbols(&changes).await.unwrap();
    let found = read(&[symbol(1), symbol(2), symbol(3), symbol(999)]).await;
    let expected = ["away", "unknown \u{4f60}'\"%"].map(str::to_owned);
    assert_eq!(found, [(symbol(1), expected[0].clone()), (symbol(3), expected[1].clone())]);
    f.store.note_symbols(&[]).await.unwrap();
    f.store.forget_notes().await.unwrap();
    assert_eq!(read(&all).await, []);
}
