//! Accounts of `tripline.v1`: tokens, passwords, throttling, roles.

use std::time::Duration;

use tonic::{Code, Request};
use tripline::proto::v1;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::feed_client::FeedClient;
use tripline::proto::v1::operator_client::OperatorClient;
use tripline::server::store::{AccountStore, Role};

use super::fixture::*;

fn who() -> v1::WhoAmIRequest {
    v1::WhoAmIRequest {}
}

#[tokio::test]
async fn a_token_is_needed_and_lives_its_time() {
    let node = World::new().node(|options| options.sessions.lifetime_s = 3_600).await;
    let mut client = AccountsClient::new(node.connect().await);
    let register =
        v1::RegisterRequest { email: "Ann@example.com".to_owned(), password: "secret".to_owned() };
    client.register(register.clone()).await.unwrap();
    let status = client.register(register).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let token = login(&mut client, "ann@example.com", "secret").await.unwrap();
    assert!(token.starts_with("tl_") && token.len() == 67, "{token}");

    let me = client.who_am_i(with(&token, who())).await.unwrap().into_inner();
    assert_eq!((me.email.as_str(), me.role()), ("Ann@example.com", v1::Role::User));
    assert_eq!(me.expires, "2026-01-01T13:00:00Z");
    for bearer in ["", "Bearer", "Bearer ", "Basic x", "Bearer tl_00", &token] {
        let mut request = Request::new(who());
        set(&mut request, "authorization", bearer);
        let status = client.who_am_i(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{bearer:?}");
        assert!(status.message().contains("log in"), "{status:?}");
    }
    let status = client.who_am_i(who()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    node.world.clock.advance(Duration::from_secs(3_599));
    assert!(client.who_am_i(with(&token, who())).await.is_ok());
    node.world.clock.advance(Duration::from_secs(1));
    assert!(client.who_am_i(with(&token, who())).await.is_err());
}

#[tokio::test]
async fn a_revoked_token_is_dead_at_once() {
    let node = Node::start().await;
    let mut client = AccountsClient::new(node.connect().await);
    let ann = "ann@example.com";
    let first = node.login(ann, Role::User).await;
    let [second, third] = [
        login(&mut client, ann, "secret").await.unwrap(),
        login(&mut client, ann, "secret").await.unwrap(),
    ];
    let mut alive = async |token: &str| client.who_am_i(with(token, who())).await.is_ok();
    assert!(alive(&first).await && alive(&second).await && alive(&third).await);
    let mut client = AccountsClient::new(node.connect().await);
    client.logout(with(&first, v1::LogoutRequest {})).await.unwrap();
    client.logout(with(&first, v1::LogoutRequest {})).await.unwrap();
    assert!(!alive(&first).await && alive(&second).await);

    let change = |old: &str, new: &str| {
        let (old_password, new_password) = (old.to_owned(), new.to_owned());
        with(&second, v1::ChangePasswordRequest { old_password, new_password })
    };
    let status = client.change_password(change("wrong", "next")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().starts_with("old_password: expected"), "{status:?}");
    let status = client.change_password(change("secret", "")).await.unwrap_err();
    assert!(status.message().starts_with("new_password: expected 1 to 1024"), "{status:?}");
    client.change_password(change("secret", "next")).await.unwrap();
    assert!(alive(&second).await && !alive(&third).await);
    assert!(login(&mut client, ann, "secret").await.is_err());
    let fourth = login(&mut client, ann, "next").await.unwrap();

    let delete = |password: &str| {
        let password = password.to_owned();
        with(&fourth, v1::DeleteAccountRequest { password })
    };
    let status = client.delete_account(delete("secret")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    client.delete_account(delete("next")).await.unwrap();
    assert!(!alive(&second).await && !alive(&fourth).await);
    let status = login(&mut client, ann, "next").await.unwrap_err();
    let unknown = login(&mut client, "nobody@example.com", "next").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (unknown.code(), unknown.message()));
    assert_eq!(node.metric("login_failures_total"), 3.0);
}

#[tokio::test]
async fn what_another_process_changes_is_noticed() {
    let node = Node::start().await;
    let token = node.login("ann@example.com", Role::Operator).await;
    let mut client = AccountsClient::new(node.connect().await);
    let other = node.world.store().await;
    let ann = "ann@example.com".parse().unwrap();
    assert!(client.who_am_i(with(&token, who())).await.is_ok());
    other.put_account(&ann, Some(Role::User), None).await.unwrap();
    within(async {
        loop {
            node.world.clock.advance(Duration::from_millis(500));
            let me = client.who_am_i(with(&token, who())).await.unwrap().into_inner();
            if me.role() == v1::Role::User {
                break;
            }
        }
    })
    .await;
    // Another password revokes the tokens.
    other.put_account(&ann, None, Some("$argon2id$none")).await.unwrap();
    within(async {
        while client.who_am_i(with(&token, who())).await.is_ok() {
            node.world.clock.advance(Duration::from_millis(500));
        }
    })
    .await;
}

#[tokio::test]
async fn failed_logins_are_throttled_per_account_and_per_peer() {
    let node = World::new()
        .node(|options| {
            options.throttle.account_burst = 2;
            options.throttle.peer_burst = 4;
        })
        .await;
    let ann = "ann@example.com";
    node.login(ann, Role::User).await;
    let mut client = AccountsClient::new(node.connect().await);
    for (email, password, code) in [
        (ann, "wrong", Code::Unauthenticated),
        (ann, "secret", Code::Ok),
        ("ANN@example.com", "wrong", Code::Unauthenticated),
        (ann, "secret", Code::ResourceExhausted),
        ("bob@example.com", "wrong", Code::Unauthenticated),
        ("cid@example.com", "wrong", Code::Unauthenticated),
        ("dan@example.com", "wrong", Code::ResourceExhausted),
    ] {
        let found = login(&mut client, email, password).await;
        let found = found.err().map_or(Code::Ok, |status| status.code());
        assert_eq!(found, code, "{email} {password}");
    }
    assert_eq!(node.metric("login_failures_total"), 6.0);
    node.world.clock.advance(Duration::from_secs(30));
    assert!(login(&mut client, ann, "secret").await.is_ok());
}

#[tokio::test]
async fn registrations_of_a_peer_are_throttled_but_no_repetition() {
    let node = World::new().node(|options| options.throttle.register_burst = 2).await;
    let mut client = AccountsClient::new(node.connect().await);
    for (id, email, code) in [
        ("r1", "ann@example.com", Code::Ok),
        ("r1", "ann@example.com", Code::Ok),
        ("r2", "ann@example.com", Code::AlreadyExists),
        ("r3", "bob@example.com", Code::ResourceExhausted),
        ("r2", "ann@example.com", Code::AlreadyExists),
    ] {
        let password = "secret".to_owned();
        let mut request = Request::new(v1::RegisterRequest { email: email.to_owned(), password });
        set(&mut request, "request-id", id);
        let found = client.register(request).await;
        let found = found.err().map_or(Code::Ok, |status| status.code());
        assert_eq!(found, code, "{id} {email}");
    }
    // What was throttled was not recorded.
    node.world.clock.advance(Duration::from_secs(2));
    let password = "secret".to_owned();
    let mut request =
        Request::new(v1::RegisterRequest { email: "bob@example.com".to_owned(), password });
    set(&mut request, "request-id", "r3");
    client.register(request).await.unwrap();
}

#[tokio::test]
async fn attempts_are_judged_whatever_becomes_of_their_callers() {
    let node = World::new()
        .node(|options| {
            options.throttle.account_burst = 3;
            // One after the other, so that a login that has ended says the same of those before.
            options.passwords.hash_concurrency_max = 1;
        })
        .await;
    let ann = "ann@example.com";
    node.login(ann, Role::User).await;
    let mut client = AccountsClient::new(node.connect().await);
    // A caller that gives up at once: right passwords never count, as often as it tries.
    for _ in 0..10 {
        let mut request =
            Request::new(v1::LoginRequest { email: ann.to_owned(), password: "secret".to_owned() });
        request.set_timeout(Duration::from_millis(10));
        let _ = client.login(request).await;
        assert!(login(&mut client, ann, "secret").await.is_ok());
    }
    // Wrong ones do.
    within(async {
        loop {
            let mut request = Request::new(v1::LoginRequest {
                email: ann.to_owned(),
                password: "wrong".to_owned(),
            });
            request.set_timeout(Duration::from_millis(10));
            let _ = client.login(request).await;
            match login(&mut client, ann, "secret").await {
                Ok(_) => {}
                Err(status) => break assert_eq!(status.code(), Code::ResourceExhausted),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn roles_are_checked() {
    let node = Node::start().await;
    let channel = node.connect().await;
    for (role, feeds, operates) in [
        (Role::User, Code::PermissionDenied, Code::PermissionDenied),
        (Role::Feeder, Code::Ok, Code::PermissionDenied),
        (Role::Operator, Code::Ok, Code::Ok),
    ] {
        let token = node.login(&format!("{role:?}@example.com"), role).await;
        let mut feed = FeedClient::new(channel.clone());
        let batches = futures::stream::iter([v1::PushTicksRequest::default()]);
        let found = feed.push_ticks(with(&token, batches)).await;
        assert_eq!(found.err().map_or(Code::Ok, |status| status.code()), feeds, "{role:?}");
        let mut operator = OperatorClient::new(channel.clone());
        let list = v1::ListDeadLettersRequest::default();
        let found = operator.list_dead_letters(with(&token, list)).await;
        assert_eq!(found.err().map_or(Code::Ok, |status| status.code()), operates, "{role:?}");
        let reset = v1::ResetSymbolRequest { symbol: "AAPL".to_owned() };
        let status = operator.reset_symbol(with_id(&token, "r1", reset)).await.unwrap_err();
        let expected = if operates == Code::Ok { Code::NotFound } else { operates };
        assert_eq!(status.code(), expected, "{role:?}: {status:?}");
        let retry = v1::RetryDeadLetterRequest { id: "record-1".to_owned() };
        let status = operator.retry_dead_letter(with(&token, retry)).await.unwrap_err();
        assert_eq!(status.code(), expected, "{role:?}: {status:?}");
    }
}

#[tokio::test]
async fn a_feeder_that_is_demoted_stops() {
    let node = Node::start().await;
    let token = node.login("feed@example.com", Role::Feeder).await;
    let mut feed = FeedClient::new(node.connect().await);
    let (send, batches) = tokio::sync::mpsc::channel(1);
    let batches = futures::stream::unfold(batches, |mut batches| async {
        batches.recv().await.map(|batch| (batch, batches))
    });
    let mut answers = feed.push_ticks(with(&token, batches)).await.unwrap().into_inner();
    send.send(v1::PushTicksRequest::default()).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().accepted, 0);
    let other = node.world.store().await;
    let email = "feed@example.com".parse().unwrap();
    other.put_account(&email, Some(Role::User), None).await.unwrap();
    let status = within(async {
        loop {
            node.world.clock.advance(Duration::from_millis(500));
            // It fails once the stream has ended, and its end says why.
            let _ = send.send(v1::PushTicksRequest::default()).await;
            match answers.message().await {
                Ok(answer) => assert!(answer.is_some()),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}
