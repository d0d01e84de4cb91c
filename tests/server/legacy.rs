//! The original's API, as its clients use it.

use tonic::{Code, Request};
use tripline::proto::usermanagement as um;
use tripline::proto::v1::feed_client::FeedClient;
use tripline::proto::v1::quotes_client::QuotesClient;
use tripline::proto::v1::{GetQuoteRequest, PushTicksRequest, StreamQuotesRequest};
use tripline::server::Authorisation;
use tripline::server::store::Role;

use super::fixture::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_flow_of_an_original_client() {
    let node = Node::start().await;
    let mut client = node.legacy().await;
    let ann = "Ann@example.com";
    let said = client.register_user(from(ann, "r1", registration(ann))).await.unwrap();
    assert!(said.get_ref().success && !said.get_ref().message.is_empty(), "{said:?}");

    let shown = client.show_details(identifier("ann@example.com")).await.unwrap().into_inner();
    assert_eq!((shown.success, shown.ticker.as_str()), (true, "AAPL"));
    assert_eq!((shown.low_value, shown.high_value), (100.0, 150.1));

    let high = um::HighThresholdRequest { email: ann.to_owned(), high_value: -1.0 };
    assert!(client.update_high_value(from(ann, "r2", high)).await.unwrap().get_ref().success);
    let low = um::LowThresholdRequest { email: ann.to_owned(), low_value: 0.5 };
    assert!(client.update_low_value(from(ann, "r3", low)).await.unwrap().get_ref().success);
    let update = um::UserUpdateRequest { email: ann.to_owned(), new_ticker: "tsla".to_owned() };
    assert!(client.update_user(from(ann, "r4", update)).await.unwrap().get_ref().success);
    let shown = client.show_details(identifier(ann)).await.unwrap().into_inner();
    assert_eq!((shown.ticker.as_str(), shown.low_value, shown.high_value), ("TSLA", 0.5, -1.0));

    let latest = client.get_latest_value(identifier(ann)).await.unwrap().into_inner();
    assert!(!latest.success && latest.message.contains("no price of TSLA"), "{latest:?}");
    prices(
        &node,
        "TSLA",
        &[("2026-01-01T10:00:00Z", "100.1"), ("2026-01-01T11:00:00.5Z", "100.2")],
    )
    .await;
    let latest = client.get_latest_value(identifier(ann)).await.unwrap().into_inner();
    assert_eq!((latest.ticker.as_str(), latest.value), ("TSLA", 100.2), "{latest:?}");
    assert_eq!(latest.timestamp, "2026-01-01 12:00:00");

    for (num_values, success, average, part) in [
        (2, true, 100.15, "average of the latest 2"),
        (1, true, 100.2, "latest 1"),
        (9, true, 100.15, "2 values that there are; 9 were asked for"),
        (0, false, 0.0, "num_values: expected 1 or more, found 0"),
        (-3, false, 0.0, "found -3"),
    ] {
        let request = um::AverageRequest { email: ann.to_owned(), num_values };
        let answer = client.get_average_value(request).await.unwrap().into_inner();
        assert_eq!((answer.success, answer.average), (success, average), "{answer:?}");
        assert!(answer.message.contains(part), "{answer:?}");
    }

    assert!(client.delete_user(from(ann, "r5", identifier(ann))).await.unwrap().get_ref().success);
    let shown = client.show_details(identifier(ann)).await.unwrap().into_inner();
    assert!(!shown.success && shown.message.contains("log in"), "{shown:?}");
    assert_eq!((shown.low_value, shown.high_value), (-1.0, -1.0));
    assert_eq!(node.metric("request_total"), node.metric("success_request_total") + 4.0);
    let observed = r#"response_time_seconds_count{uservice="server_exporter",hostname="test",function="ShowDetails"}"#;
    assert_eq!(node.metric(observed), 3.0);
}

/// Pushes prices and waits until they are evaluated and told.
async fn prices(node: &Node, symbol: &str, prices: &[(&str, &str)]) {
    node.evaluate();
    let token = node.login("feeder@example.com", Role::Feeder).await;
    let channel = node.connect().await;
    let mut quotes = QuotesClient::new(channel.clone());
    let symbols = vec![symbol.to_owned()];
    let request = with(&token, StreamQuotesRequest { symbols });
    let mut told = quotes.stream_quotes(request).await.unwrap().into_inner();
    for (time, price) in prices {
        let batch = PushTicksRequest { ticks: vec![tick(symbol, time, price)] };
        let batches = futures::stream::iter([batch]);
        let mut answers =
            FeedClient::new(channel.clone()).push_ticks(with(&token, batches)).await.unwrap();
        let answer = answers.get_mut().message().await.unwrap().unwrap();
        assert_eq!(answer.accepted, 1, "{answer:?}");
        let quote = within(told.message()).await.unwrap().unwrap();
        assert_eq!(quote.price, *price);
        // The history is the store's, which the evaluator writes.
        within(async {
            loop {
                let symbol = symbol.to_owned();
                let request = tripline::proto::v1::GetHistoryRequest { symbol, count: 1 };
                let kept = quotes.get_history(with(&token, request)).await.unwrap();
                if kept.get_ref().quotes.first().is_some_and(|kept| kept.price == *price) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let request = GetQuoteRequest { symbol: symbol.to_owned() };
    assert!(quotes.get_quote(with(&token, request)).await.is_ok());
}

#[tokio::test]
async fn what_is_refused_is_refused_with_a_message() {
    let node = Node::start().await;
    let mut client = node.legacy().await;
    type Change = fn(&mut um::UserRegisterRequest);
    let cases: [(Change, &str); 16] = [
        (|r| r.email = "ann".into(), "email: expected an e-mail address"),
        (|r| r.email = String::new(), "email: expected an e-mail address"),
        (|r| r.password = String::new(), "password: expected 1 to 1024 bytes, found 0"),
        (|r| r.password = "x".repeat(1025), "found 1025"),
        (|r| r.ticker = String::new(), "ticker: expected 1 to 32"),
        (|r| r.ticker = "A B".into(), "ticker: expected 1 to 32"),
        (|r| r.low_value = 0.0, "low_value: expected -1 for none"),
        (|r| r.low_value = -2.0, "found -2"),
        (|r| r.low_value = f32::NAN, "found NaN"),
        (|r| r.low_value = f32::INFINITY, "found inf"),
        (|r| r.high_value = 0.0, "high_value: expected -1 for none"),
        (|r| r.high_value = -0.5, "found -0.5"),
        (|r| r.high_value = f32::NEG_INFINITY, "found -inf"),
        (|r| (r.low_value, r.high_value) = (5.0, 5.0), "expected low < high"),
        (|r| (r.low_value, r.high_value) = (6.0, 5.0), "found low 6 and high 5"),
        (|r| r.email = "TAKEN@example.com".into(), "exists already"),
    ];
    let taken = client.register_user(registration("taken@example.com")).await.unwrap();
    assert!(taken.get_ref().success);
    for (change, part) in cases {
        let mut request = registration("new@example.com");
        change(&mut request);
        let said = client.register_user(request).await.unwrap().into_inner();
        assert!(!said.success && said.message.contains(part), "{part:?}: {said:?}");
    }
    // What is above 0 is accepted, and one threshold or none at all.
    for (user, low, high) in [("a@x.y", 0.5, 0.75), ("b@x.y", -1.0, -1.0), ("c@x.y", -1.0, 1e9)] {
        let request =
            um::UserRegisterRequest { low_value: low, high_value: high, ..registration(user) };
        assert!(client.register_user(request).await.unwrap().get_ref().success);
        let shown = client.show_details(identifier(user)).await.unwrap().into_inner();
        assert_eq!((shown.low_value, shown.high_value), (low, high));
    }
    // An update is judged by what it would leave.
    let request = um::LowThresholdRequest { email: "a@x.y".to_owned(), low_value: 0.75 };
    let said = client.update_low_value(request).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("expected low < high"), "{said:?}");

    for (email, password) in [
        ("nobody@example.com", "secret"),
        ("taken@example.com", "wrong"),
        ("taken@example.com", ""),
        ("no address", "secret"),
    ] {
        let (email, password) = (email.to_owned(), password.to_owned());
        let said = client.login_user(um::UserLoginRequest { email, password }).await.unwrap();
        assert!(!said.get_ref().success && !said.get_ref().message.is_empty(), "{said:?}");
    }
    assert_eq!(node.metric("login_failures_total"), 4.0);
    let long = from("ann@example.com", &"x".repeat(129), registration("long@example.com"));
    let said = client.register_user(long).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("request_id: expected at most 128"), "{said:?}");
}

#[tokio::test]
async fn a_user_without_a_watch_can_only_choose_one() {
    let node = Node::start().await;
    node.login("ann@example.com", Role::User).await;
    let mut client = node.legacy().await;
    let email = "ann@example.com".to_owned();
    let login = um::UserLoginRequest { email: email.clone(), password: "secret".to_owned() };
    assert!(client.login_user(login).await.unwrap().get_ref().success);
    let said = client.show_details(identifier(&email)).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("no watch yet"), "{said:?}");
    let high = um::HighThresholdRequest { email: email.clone(), high_value: 5.0 };
    let said = client.update_high_value(high).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("no watch yet"), "{said:?}");
    let update = um::UserUpdateRequest { email: email.clone(), new_ticker: "AAPL".to_owned() };
    assert!(client.update_user(update).await.unwrap().get_ref().success);
    let said = client.show_details(identifier(&email)).await.unwrap().into_inner();
    assert!(said.success && said.ticker == "AAPL", "{said:?}");
}

#[tokio::test]
async fn only_connections_that_logged_in_may_act() {
    let node = Node::start().await;
    let ann = "ann@example.com";
    let (mut first, mut other) = (node.legacy().await, node.legacy().await);
    let register = || from(ann, "r1", registration(ann));
    assert!(first.register_user(register()).await.unwrap().get_ref().success);
    // A stranger learns as much of Ann as of nobody.
    let said = other.show_details(identifier(ann)).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("log in first"), "{said:?}");
    let nobody = other.show_details(identifier("nobody@example.com")).await.unwrap().into_inner();
    assert_eq!(said.message, nobody.message);
    let said = other.delete_user(from("mallory@example.com", "d0", identifier(ann))).await.unwrap();
    assert!(!said.get_ref().success);
    // A repeated registration authorises, as does a login.
    assert!(other.register_user(register()).await.unwrap().get_ref().success);
    assert!(other.show_details(identifier(ann)).await.unwrap().get_ref().success);

    // Deleted on one connection, and registered anew by somebody else: the other one is a
    // stranger now, and a repetition of the old registration leaves it one.
    assert!(first.delete_user(from(ann, "d1", identifier(ann))).await.unwrap().get_ref().success);
    let mut third = node.legacy().await;
    let anew = from(ann, "r2", registration(ann));
    assert!(third.register_user(anew).await.unwrap().get_ref().success);
    for client in [&mut first, &mut other] {
        assert!(!client.show_details(identifier(ann)).await.unwrap().get_ref().success);
        assert!(client.register_user(register()).await.unwrap().get_ref().success);
        assert!(!client.show_details(identifier(ann)).await.unwrap().get_ref().success);
    }
    assert!(third.show_details(identifier(ann)).await.unwrap().get_ref().success);
}

#[tokio::test]
async fn a_new_password_ends_the_authorisation_of_connections() {
    let node = Node::start().await;
    let ann = "ann@example.com";
    let mut client = node.legacy().await;
    let register = || from(ann, "r1", registration(ann));
    assert!(client.register_user(register()).await.unwrap().get_ref().success);
    assert!(client.show_details(identifier(ann)).await.unwrap().get_ref().success);
    // As an operator does it on the host.
    node.login(ann, Role::User).await;
    // A repetition of the registration bears the old password, and the answer of its first time.
    let mut other = node.legacy().await;
    for client in [&mut client, &mut other] {
        let said = client.show_details(identifier(ann)).await.unwrap().into_inner();
        assert!(!said.success && said.message.contains("log in first"), "{said:?}");
        assert!(client.register_user(register()).await.unwrap().get_ref().success);
        assert!(!client.show_details(identifier(ann)).await.unwrap().get_ref().success);
    }
    let (email, password) = (ann.to_owned(), "secret".to_owned());
    let login = um::UserLoginRequest { email, password };
    assert!(client.login_user(login).await.unwrap().get_ref().success);
    assert!(client.show_details(identifier(ann)).await.unwrap().get_ref().success);
}

#[tokio::test]
async fn the_service_can_be_open_or_off() {
    let world = World::new();
    let open = world.node(|o| o.legacy.authorisation = Authorisation::Open).await;
    let mut client = open.legacy().await;
    assert!(client.register_user(registration("ann@example.com")).await.unwrap().get_ref().success);
    let mut other = open.legacy().await;
    assert!(other.show_details(identifier("ann@example.com")).await.unwrap().get_ref().success);
    let said = other.show_details(identifier("bob@example.com")).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("no such account"), "{said:?}");
    open.stop().await;
    let off = world.node(|o| o.legacy.authorisation = Authorisation::Off).await;
    let status = off.legacy().await.show_details(identifier("ann@example.com")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn failed_logins_are_throttled_without_ending_the_request() {
    let node = World::new().node(|options| options.throttle.account_burst = 2).await;
    let mut client = node.legacy().await;
    assert!(client.register_user(registration("ann@example.com")).await.unwrap().get_ref().success);
    let mut login = async |password: &str| {
        let (email, password) = ("Ann@example.com".to_owned(), password.to_owned());
        let request = Request::new(um::UserLoginRequest { email, password });
        client.login_user(request).await.unwrap().into_inner()
    };
    for _ in 0..2 {
        assert!(login("wrong").await.message.contains("wrong"));
    }
    let said = login("secret").await;
    assert!(!said.success && said.message.contains("try again in 30 s"), "{said:?}");
    assert_eq!(node.metric("login_failures_total"), 3.0);
    node.world.clock.advance(std::time::Duration::from_secs(30));
    for _ in 0..5 {
        assert!(login("secret").await.success);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_given_up_at_their_deadline_are_not_failed_ones() {
    let node = World::new().node(|options| options.throttle.account_burst = 2).await;
    let mut client = node.legacy().await;
    assert!(client.register_user(registration("ann@example.com")).await.unwrap().get_ref().success);
    let login = || {
        let (email, password) = ("ann@example.com".to_owned(), "secret".to_owned());
        Request::new(um::UserLoginRequest { email, password })
    };
    for _ in 0..5 {
        let mut hasty = login();
        hasty.set_timeout(std::time::Duration::from_millis(1));
        let _ = client.login_user(hasty).await;
    }
    // The clock stands still, so that nothing else gives the attempts back.
    within(async { while !client.login_user(login()).await.unwrap().get_ref().success {} }).await;
}
