//! Commands are carried out at most once, over either API, in any process.

use futures::future::join_all;
use tonic::Code;
use tripline::proto::usermanagement as um;
use tripline::proto::v1;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::watches_client::WatchesClient;
use tripline::server::store::Role;

use super::fixture::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_copies_of_a_registration_make_one_account() {
    let node = Node::start().await;
    let ann = "ann@example.com";
    let clients = join_all((0..8).map(|_| node.legacy())).await;
    let copies = (0..200).map(|copy| {
        let mut client = clients[copy % clients.len()].clone();
        async move { client.register_user(from(ann, "r1", registration(ann))).await }
    });
    for said in join_all(copies).await {
        assert!(said.unwrap().into_inner().success);
    }
    assert_eq!(node.metric("tripline_request_repeats_total"), 199.0);
    // Each of those connections may act now.
    for mut client in clients {
        assert!(client.show_details(identifier(ann)).await.unwrap().get_ref().success);
    }
    let bob =
        v1::RegisterRequest { email: "bob@example.com".to_owned(), password: "secret".to_owned() };
    let client = AccountsClient::new(node.connect().await);
    let copies = (0..200).map(|_| {
        let (mut client, mut request) = (client.clone(), tonic::Request::new(bob.clone()));
        set(&mut request, "request-id", "r1");
        async move { client.register(request).await }
    });
    for answer in join_all(copies).await {
        answer.unwrap();
    }
    assert_eq!(node.metric("tripline_request_repeats_total"), 398.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_over_two_processes_and_a_restart_make_one_watch() {
    let world = World::new();
    let (one, two) = (world.node(|_| ()).await, world.node(|_| ()).await);
    let token = one.login("ann@example.com", Role::User).await;
    let request = v1::CreateWatchRequest { symbol: "AAPL".to_owned(), ..Default::default() };
    let clients =
        [WatchesClient::new(one.connect().await), WatchesClient::new(two.connect().await)];
    let copies = (0..200).map(|copy| {
        let (mut client, token, request) = (clients[copy % 2].clone(), &token, request.clone());
        async move { client.create_watch(with_id(token, "w1", request)).await }
    });
    let ids: Vec<u64> = join_all(copies)
        .await
        .into_iter()
        .map(|answer| answer.unwrap().into_inner().watch.unwrap().id)
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    one.stop().await;
    two.stop().await;
    let again = world.node(|_| ()).await;
    let mut client = WatchesClient::new(again.connect().await);
    let answer = client.create_watch(with_id(&token, "w1", request)).await.unwrap();
    assert_eq!(answer.into_inner().watch.unwrap().id, ids[0]);
    let list = v1::ListWatchesRequest::default();
    let watches = client.list_watches(with(&token, list)).await.unwrap().into_inner().watches;
    assert_eq!(watches.len(), 1, "{watches:?}");
}

#[tokio::test]
async fn commands_at_the_same_time_are_bounded() {
    let node = World::new().node(|options| options.grpc.commands_max = 1).await;
    let client = AccountsClient::new(node.connect().await);
    let registrations = (0..20).map(|number| {
        let mut client = client.clone();
        let email = format!("user-{number}@example.com");
        let request = v1::RegisterRequest { email, password: "secret".to_owned() };
        async move { client.register(request).await }
    });
    let (done, refused): (Vec<_>, Vec<_>) =
        join_all(registrations).await.into_iter().partition(Result::is_ok);
    assert!(!done.is_empty() && !refused.is_empty());
    for status in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("too many commands"), "{status:?}");
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_finds_its_request_done() {
    // A registration hashes a password, which takes longer than this.
    let world = World::new();
    let node = world.node(|options| options.grpc.request_timeout_ms = 1).await;
    let mut client = node.legacy().await;
    let ann = "ann@example.com";
    let mut given_up = 0;
    within(async {
        loop {
            match client.register_user(from(ann, "r1", registration(ann))).await {
                Ok(said) => break assert!(said.get_ref().success, "{said:?}"),
                Err(status) => {
                    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
                    given_up += 1;
                }
            }
        }
    })
    .await;
    assert!(given_up > 0);
    let node = node.stop().await.node(|_| ()).await;
    // Once, and the attempts that were given up have left no other trace.
    let mut client = node.legacy().await;
    let said = client.register_user(from(ann, "r2", registration(ann))).await.unwrap();
    assert!(said.get_ref().message.contains("exists already"), "{said:?}");
}

#[tokio::test]
async fn an_id_stands_for_one_request_only() {
    let node = Node::start().await;
    let ann = "ann@example.com";
    let mut client = node.legacy().await;
    assert!(
        client.register_user(from(ann, "r1", registration(ann))).await.unwrap().get_ref().success
    );
    let other = um::UserRegisterRequest { password: "other".to_owned(), ..registration(ann) };
    let said = client.register_user(from(ann, "r1", other)).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("used before"), "{said:?}");
    let said = client.delete_user(from(ann, "r1", identifier(ann))).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("used before"), "{said:?}");
    assert_eq!(node.metric("tripline_request_conflicts_total"), 2.0);

    // A refusal of what was asked is an answer, and so recorded.
    let token = node.login("bob@example.com", Role::User).await;
    let mut watches = WatchesClient::new(node.connect().await);
    let bad = v1::CreateWatchRequest { symbol: "A B".to_owned(), ..Default::default() };
    let good = v1::CreateWatchRequest { symbol: "AB".to_owned(), ..Default::default() };
    for (request, code) in [
        (bad.clone(), Code::InvalidArgument),
        (good.clone(), Code::FailedPrecondition),
        (bad, Code::InvalidArgument),
    ] {
        let status = watches.create_watch(with_id(&token, "w1", request)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    // The same id of another caller is another request.
    let token = node.login("cid@example.com", Role::User).await;
    assert!(watches.create_watch(with_id(&token, "w1", good)).await.is_ok());
}

#[tokio::test]
async fn a_want_of_login_is_not_recorded_and_a_record_needs_no_login() {
    let node = Node::start().await;
    let ann = "ann@example.com";
    let (mut first, mut other) = (node.legacy().await, node.legacy().await);
    assert!(
        first.register_user(from(ann, "r1", registration(ann))).await.unwrap().get_ref().success
    );
    let update = || {
        let new_ticker = "TSLA".to_owned();
        from(ann, "u1", um::UserUpdateRequest { email: ann.to_owned(), new_ticker })
    };
    let said = other.update_user(update()).await.unwrap().into_inner();
    assert!(!said.success && said.message.contains("log in first"), "{said:?}");
    // The right connection carries it out, and now anybody who repeats it gets the answer.
    assert!(first.update_user(update()).await.unwrap().get_ref().success);
    assert!(other.update_user(update()).await.unwrap().get_ref().success);
    assert!(!other.show_details(identifier(ann)).await.unwrap().get_ref().success);
    // The account is gone: the answer to its end is not.
    let delete = || from(ann, "d1", identifier(ann));
    for client in [&mut first, &mut other] {
        assert!(client.delete_user(delete()).await.unwrap().get_ref().success);
    }
}

#[tokio::test]
async fn the_end_of_an_account_can_be_repeated_with_its_token() {
    let world = World::new();
    let (one, two) = (world.node(|_| ()).await, world.node(|_| ()).await);
    let token = one.login("ann@example.com", Role::User).await;
    let request = || {
        let password = "secret".to_owned();
        with_id(&token, "d1", v1::DeleteAccountRequest { password })
    };
    let mut client = AccountsClient::new(one.connect().await);
    let create = v1::CreateWatchRequest { symbol: "A".to_owned(), ..Default::default() };
    let mut watches = WatchesClient::new(one.connect().await);
    watches.create_watch(with_id(&token, "w1", create)).await.unwrap();
    // An id that stands for something else already.
    let delete = v1::DeleteAccountRequest { password: "secret".to_owned() };
    let status = client.delete_account(with_id(&token, "w1", delete)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    client.delete_account(request()).await.unwrap();
    client.delete_account(request()).await.unwrap();
    AccountsClient::new(two.connect().await).delete_account(request()).await.unwrap();
    let status = client.who_am_i(with(&token, v1::WhoAmIRequest {})).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}
