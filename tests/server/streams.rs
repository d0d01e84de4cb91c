//! Streams: prices and alerts as they come, and ticks pushed in.

use futures::StreamExt;
use tonic::Code;
use tripline::proto::v1;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::alerts_client::AlertsClient;
use tripline::proto::v1::feed_client::FeedClient;
use tripline::proto::v1::quotes_client::QuotesClient;
use tripline::proto::v1::watches_client::WatchesClient;
use tripline::server::store::Role;

use super::fixture::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_ticks_become_quotes_and_alerts() {
    let node = Node::start().await;
    node.evaluate();
    let (feeder, ann) = (
        node.login("feeder@example.com", Role::Feeder).await,
        node.login("ann@example.com", Role::User).await,
    );
    let channel = node.connect().await;
    let request = v1::CreateWatchRequest {
        symbol: "AAPL".to_owned(),
        high: "110".to_owned(),
        ..Default::default()
    };
    let mut watches = WatchesClient::new(channel.clone());
    let watch = watches.create_watch(with(&ann, request)).await.unwrap().into_inner();
    let watch = watch.watch.unwrap().id;
    let mut alerts = AlertsClient::new(channel.clone());
    let request = with(&ann, v1::StreamAlertsRequest {});
    let mut told = alerts.stream_alerts(request).await.unwrap().into_inner();
    let mut quotes = QuotesClient::new(channel.clone());
    let request = v1::StreamQuotesRequest { symbols: vec!["aapl".to_owned(), "TSLA".to_owned()] };
    let mut seen = quotes.stream_quotes(with(&ann, request)).await.unwrap().into_inner();
    assert_eq!(node.metric("tripline_streams"), 2.0);

    let batches = futures::stream::iter([
        vec![
            tick("AAPL", "2026-01-01T11:00:00Z", "100"),
            tick("A B", "2026-01-01T11:00:00Z", "100"),
            tick("AAPL", "yesterday", "100"),
            tick("AAPL", "2026-01-01T11:00:00Z", "0"),
            tick("AAPL", "2027-01-01T11:00:00Z", "100"),
        ],
        vec![],
        vec![tick("AAPL", "2026-01-01T11:00:01Z", "118.56")],
    ])
    .map(|ticks| v1::PushTicksRequest { ticks });
    let mut feed = FeedClient::new(channel.clone());
    let answers = feed.push_ticks(with(&feeder, batches)).await.unwrap().into_inner();
    let answers: Vec<_> = within(answers.collect::<Vec<_>>()).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let accepted: Vec<u32> = answers.iter().map(|answer| answer.accepted).collect();
    assert_eq!(accepted, [1, 0, 1]);
    for (refused, (index, part)) in answers[0].refused.iter().zip([
        (1, "symbol: expected"),
        (2, "time: expected an RFC 3339"),
        (3, "price: expected a number greater than 0"),
        (4, ""),
    ]) {
        assert_eq!(refused.index, index);
        assert!(refused.reason.contains(part) && !refused.reason.is_empty(), "{refused:?}");
    }
    assert_eq!(answers[0].refused.len(), 4);
    for price in ["100", "118.56"] {
        assert_eq!(within(seen.message()).await.unwrap().unwrap().price, price);
    }
    let alert = within(told.message()).await.unwrap().unwrap();
    assert_eq!((alert.watch_id, alert.condition.as_str()), (watch, "above"));
    assert_eq!((alert.price.as_str(), alert.threshold.as_str()), ("118.56", "110"));
    let request = with(&ann, v1::ListAlertsRequest::default());
    let listed = alerts.list_alerts(request).await.unwrap().into_inner().alerts;
    assert_eq!(listed, [alert]);
    let request = with(&ann, v1::GetQuoteRequest { symbol: "AAPL".to_owned() });
    let quote = quotes.get_quote(request).await.unwrap().into_inner().quote.unwrap();
    assert_eq!((quote.price.as_str(), quote.time.as_str()), ("118.56", "2026-01-01T11:00:01Z"));

    let too_many = v1::PushTicksRequest { ticks: vec![v1::TickInput::default(); 10_001] };
    let batches = futures::stream::iter([too_many]);
    let mut answers = feed.push_ticks(with(&feeder, batches)).await.unwrap().into_inner();
    let status = within(answers.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn a_stream_ends_with_its_session_and_with_the_server() {
    let node = World::new().node(|options| options.board.streams_per_user_max = 2).await;
    let channel = node.connect().await;
    let mut alerts = AlertsClient::new(channel.clone());
    let ann = node.login("ann@example.com", Role::User).await;
    let bob = node.login("bob@example.com", Role::User).await;
    let mut open = async |token: &str| {
        let request = with(token, v1::StreamAlertsRequest {});
        alerts.stream_alerts(request).await.map(tonic::Response::into_inner)
    };
    let (mut first, _second) = (open(&ann).await.unwrap(), open(&ann).await.unwrap());
    let status = open(&ann).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let mut other = open(&bob).await.unwrap();
    let mut accounts = AccountsClient::new(channel);
    accounts.logout(with(&ann, v1::LogoutRequest {})).await.unwrap();
    let status = within(first.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    node.stop.cancel();
    let status = within(other.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    node.stop().await;
}
