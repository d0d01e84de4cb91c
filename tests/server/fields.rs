//! What `tripline.v1` says of fields that break a rule: the field, what was expected, what was
//! found.

use tonic::Code;
use tripline::proto::v1;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::alerts_client::AlertsClient;
use tripline::proto::v1::operator_client::OperatorClient;
use tripline::proto::v1::quotes_client::QuotesClient;
use tripline::proto::v1::watches_client::WatchesClient;
use tripline::server::store::Role;

use super::fixture::*;

#[track_caller]
fn check<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, start: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with(start), "expected {start:?}, found {status:?}");
}

fn watch() -> v1::CreateWatchRequest {
    v1::CreateWatchRequest { symbol: "AAPL".to_owned(), ..Default::default() }
}

#[tokio::test]
async fn new_watches_are_checked_field_by_field() {
    let node = Node::start().await;
    let token = node.login("ann@example.com", Role::User).await;
    let mut client = WatchesClient::new(node.connect().await);
    type Change = fn(&mut v1::CreateWatchRequest);
    let cases: [(Change, &str); 12] = [
        (|w| w.symbol = String::new(), "symbol: expected 1 to 32"),
        (|w| w.low = "1e3".into(), "low: expected digits[.digits]"),
        (|w| w.low = "0".into(), "low: expected a number greater than 0, found 0"),
        (|w| w.high = "-1".into(), "high: expected digits[.digits]"),
        (|w| w.high = "0.123456789".into(), "high: expected at most 10 integer and 8"),
        (|w| (w.low, w.high) = ("2".into(), "2".into()), "low and high: expected low < high"),
        (|w| w.policy = 9, "policy: expected 1 (crossing), 2 (step) or 3 (once), found 9"),
        (|w| w.step = "0".into(), "step: expected a number greater than 0"),
        (|w| w.step = "x".into(), "step: expected digits[.digits]"),
        (|w| w.hysteresis = "-1".into(), "hysteresis: expected digits[.digits]"),
        (|w| w.cooldown_seconds = 10_000_000_000, "cooldown_seconds: expected a cooldown of at"),
        (|w| w.symbol = "A".repeat(33), "symbol: expected 1 to 32"),
    ];
    for (change, start) in cases {
        let mut request = watch();
        change(&mut request);
        check(client.create_watch(with(&token, request)).await, start);
    }
    for id in ["", &"x".repeat(129)] {
        let answer = client.create_watch(with_id(&token, id, watch())).await;
        check(answer, "request-id: expected 1 to 128 bytes");
    }
}

#[tokio::test]
async fn changes_leave_what_they_do_not_name() {
    let node = Node::start().await;
    let token = node.login("ann@example.com", Role::User).await;
    let mut client = WatchesClient::new(node.connect().await);
    let request = v1::CreateWatchRequest {
        symbol: "aapl".to_owned(),
        low: "1.50".to_owned(),
        high: "2".to_owned(),
        policy: v1::Policy::Step.into(),
        step: "0.5".to_owned(),
        hysteresis: "3".to_owned(),
        cooldown_seconds: 60,
    };
    let made = client.create_watch(with(&token, request)).await.unwrap().into_inner();
    let made = made.watch.unwrap();
    assert_eq!(
        (made.symbol.as_str(), made.low.as_str(), made.step.as_str()),
        ("AAPL", "1.5", "0.5")
    );
    assert_eq!((made.hysteresis.as_str(), made.version), ("", 1));
    assert_eq!(made.status(), v1::WatchStatus::NoPrice);

    let id = made.id;
    type Change = fn(&mut v1::ChangeWatchRequest);
    type Expect = fn(&mut v1::Watch);
    let cases: [(Change, Expect); 7] = [
        (|_| (), |w| w.version -= 1),
        (|r| r.low = Some("1.5".into()), |w| w.version -= 1),
        (|r| r.high = Some(String::new()), |w| w.high = String::new()),
        (|r| r.policy = Some(v1::Policy::Step.into()), |w| w.version -= 1),
        (
            |r| r.policy = Some(v1::Policy::Crossing.into()),
            |w| {
                w.policy = v1::Policy::Crossing.into();
                (w.step, w.hysteresis) = (String::new(), "0".to_owned());
            },
        ),
        (|r| r.hysteresis = Some("0.25".into()), |w| w.hysteresis = "0.25".to_owned()),
        (
            |r| r.paused = Some(true),
            |w| (w.paused, w.status) = (true, v1::WatchStatus::Paused.into()),
        ),
    ];
    let mut expected = made;
    for (change, expect) in cases {
        let mut request = v1::ChangeWatchRequest { id, ..Default::default() };
        change(&mut request);
        expected.version += 1;
        expect(&mut expected);
        let found = client.change_watch(with(&token, request)).await.unwrap().into_inner();
        assert_eq!(found.watch.unwrap(), expected);
    }
    let low = v1::ChangeWatchRequest { id, low: Some("-".to_owned()), ..Default::default() };
    check(client.change_watch(with(&token, low)).await, "low: expected digits[.digits]");
    let stranger = node.login("bob@example.com", Role::User).await;
    for token in [&token, &stranger] {
        let id = if token == &stranger { id } else { id + 1 };
        let request =
            v1::ChangeWatchRequest { id, step: Some("1".to_owned()), ..Default::default() };
        let status = client.change_watch(with(token, request)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        let request = v1::DeleteWatchRequest { id };
        let status = client.delete_watch(with(token, request)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
    }
}

#[tokio::test]
async fn listings_come_in_pages() {
    let node = Node::start().await;
    let token = node.login("ann@example.com", Role::User).await;
    let mut client = WatchesClient::new(node.connect().await);
    for _ in 0..5 {
        client.create_watch(with(&token, watch())).await.unwrap();
    }
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    for expected in [2, 2, 1] {
        let request = v1::ListWatchesRequest { page_size: 2, page_token };
        let page = client.list_watches(with(&token, request)).await.unwrap().into_inner();
        assert_eq!(page.watches.len(), expected);
        ids.extend(page.watches.into_iter().map(|watch| watch.id));
        page_token = page.next_page_token;
    }
    assert!(page_token.is_empty() && ids.is_sorted() && ids.len() == 5, "{ids:?}");
    let request = v1::ListWatchesRequest { page_size: 1_001, page_token: String::new() };
    let answer = client.list_watches(with(&token, request)).await;
    check(answer, "page_size: expected at most 1000, found 1001");
    let request = v1::ListWatchesRequest { page_size: 0, page_token: "x".to_owned() };
    check(client.list_watches(with(&token, request)).await, "page_token: expected");
}

#[tokio::test]
async fn other_requests_are_checked_as_well() {
    let node = Node::start().await;
    let token = node.login("ann@example.com", Role::Operator).await;
    let channel = node.connect().await;
    let mut accounts = AccountsClient::new(channel.clone());
    for (email, password, start) in [
        ("ann", "secret", "email: expected an e-mail address"),
        ("eve@example.com", "", "password: expected 1 to 1024 bytes, found 0"),
    ] {
        let (email, password) = (email.to_owned(), password.to_owned());
        check(accounts.register(v1::RegisterRequest { email, password }).await, start);
    }
    check(login(&mut accounts, "ann", "x").await, "email: expected");

    let mut quotes = QuotesClient::new(channel.clone());
    let symbol = "AAPL".to_owned();
    let request = v1::GetQuoteRequest { symbol: "?".to_owned() };
    check(quotes.get_quote(with(&token, request)).await, "symbol: expected");
    let status = quotes
        .get_quote(with(&token, v1::GetQuoteRequest { symbol: symbol.clone() }))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    for (count, start) in [(0, "count: expected 1 to 10000"), (10_001, "count: expected at most")] {
        let request = v1::GetAverageRequest { symbol: symbol.clone(), count };
        check(quotes.get_average(with(&token, request)).await, start);
    }
    let request = v1::GetHistoryRequest { symbol: symbol.clone(), count: 10_001 };
    check(quotes.get_history(with(&token, request)).await, "count: expected at most");
    for symbols in [Vec::new(), vec![symbol; 1_001]] {
        let request = v1::StreamQuotesRequest { symbols };
        let answer = quotes.stream_quotes(with(&token, request)).await.map(|_| ());
        check(answer, "symbols: expected 1 to 1000");
    }
    let mut alerts = AlertsClient::new(channel.clone());
    let request = v1::ListAlertsRequest { page_size: 0, page_token: "-1".to_owned() };
    check(alerts.list_alerts(with(&token, request)).await, "page_token: expected");
    let mut operator = OperatorClient::new(channel);
    for id in ["", "17", "delivery-", "record-x"] {
        let request = v1::RetryDeadLetterRequest { id: id.to_owned() };
        let answer = operator.retry_dead_letter(with(&token, request)).await;
        check(answer, "id: expected an id such as delivery-17 or record-4");
    }
}
