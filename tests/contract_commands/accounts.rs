//! Accounts and sessions.

use std::time::Duration;

use tripline::model::Timestamp;
use tripline::pipeline::clock::Clock;
use tripline::server::store::{Command, Opened, Refusal, Reply, Role};

use crate::fixture::{DAY, Fixture, HASH, SESSIONS_MAX, email, registration};

impl Fixture {
    fn tomorrow(&self) -> Timestamp {
        self.clock.now().plus(DAY)
    }
}

pub(crate) async fn addresses_are_compared_without_case_and_kept_as_typed(f: Fixture) {
    let ann = f.register("Ann@Example.com").await;
    assert_eq!(f.refusal(registration("ann@EXAMPLE.com")).await, Refusal::EmailTaken);
    let account = f.store.account(&email("ANN@example.COM")).await.unwrap().unwrap();
    assert_eq!((account.user, account.email.as_str()), (ann, "Ann@Example.com"));
    assert_eq!((account.role, account.password_hash), (Role::User, Some("hash".into())));
    assert_eq!(f.store.account(&email("bob@example.com")).await.unwrap(), None);
}

pub(crate) async fn sessions_end_and_can_be_closed(f: Fixture) {
    let ann = f.register("Ann@example.com").await;
    let expires = f.tomorrow();
    for token in [[1; 32], [2; 32]] {
        f.store.open_session(ann, HASH, token, expires).await.unwrap();
    }
    let session = f.store.session([1; 32]).await.unwrap().unwrap();
    assert_eq!((session.user, session.email.as_str()), (ann, "Ann@example.com"));
    assert_eq!((session.role, session.expires), (Role::User, expires));
    assert_eq!(f.store.session([3; 32]).await.unwrap(), None);
    f.store.close_session([1; 32]).await.unwrap();
    f.store.close_session([1; 32]).await.unwrap();
    assert_eq!(f.store.session([1; 32]).await.unwrap(), None);
    f.clock.advance(DAY - Duration::from_millis(1));
    assert!(f.store.session([2; 32]).await.unwrap().is_some());
    f.clock.advance(Duration::from_millis(1));
    assert_eq!(f.store.session([2; 32]).await.unwrap(), None);
}

pub(crate) async fn sessions_are_bounded_and_the_newest_stays(f: Fixture) {
    let (ann, bob) = (f.register("a@example.com").await, f.register("b@example.com").await);
    let expires = f.tomorrow();
    f.store.open_session(bob, HASH, [99; 32], expires).await.unwrap();
    let count = u8::try_from(SESSIONS_MAX).unwrap() + 2;
    // All in one instant, with tokens in an order of their own.
    let tokens: Vec<[u8; 32]> = (0..count).map(|n| [n.wrapping_mul(77); 32]).collect();
    for (n, token) in (0..).zip(&tokens) {
        let opened = f.store.open_session(ann, HASH, *token, expires).await.unwrap();
        assert_eq!(opened == Opened::ClosedOthers, n >= SESSIONS_MAX, "{n}: {opened:?}");
    }
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(f.store.session(*token).await.unwrap().is_some(), n >= 2, "{n}");
    }
    assert!(f.store.session([99; 32]).await.unwrap().is_some());
}

pub(crate) async fn a_new_password_revokes_the_other_sessions(f: Fixture) {
    let (ann, bob) = (f.register("a@example.com").await, f.register("b@example.com").await);
    let expires = f.tomorrow();
    for (user, token) in [(ann, [1; 32]), (ann, [2; 32]), (bob, [3; 32])] {
        f.store.open_session(user, HASH, token, expires).await.unwrap();
    }
    let set = |keep| Command::SetPassword { user: ann, password_hash: "new".into(), keep };
    assert_eq!(f.run(set(Some([1; 32]))).await, Reply::Done);
    assert!(f.store.session([1; 32]).await.unwrap().is_some());
    assert!(f.store.session([2; 32]).await.unwrap().is_none());
    let account = f.store.account(&email("a@example.com")).await.unwrap().unwrap();
    assert_eq!(account.password_hash.as_deref(), Some("new"));
    // Whoever logged in with the old one meanwhile gets none.
    for (hash, expected) in
        [(HASH, Opened::Refused), (None, Opened::Refused), (Some("new"), Opened::Alone)]
    {
        let opened = f.store.open_session(ann, hash, [5; 32], expires).await.unwrap();
        assert_eq!(opened, expected, "{hash:?}");
    }
    assert_eq!(f.run(set(None)).await, Reply::Done);
    assert!(f.store.session([1; 32]).await.unwrap().is_none());
    assert!(f.store.session([3; 32]).await.unwrap().is_some());
    f.run(Command::DeleteUser { user: ann }).await;
    assert_eq!(f.refusal(set(None)).await, Refusal::UnknownUser);
    // An account that was deleted while somebody logged in to it gets no session.
    let opened = f.store.open_session(ann, Some("new"), [4; 32], expires).await.unwrap();
    assert_eq!(opened, Opened::Refused);
    assert!(f.store.session([4; 32]).await.unwrap().is_none());
}

pub(crate) async fn an_account_is_put_from_the_host(f: Fixture) {
    let address = email("Op@example.com");
    let account = async || f.store.account(&address).await.unwrap().unwrap();
    assert!(f.store.put_account(&address, Some(Role::Operator), None).await.unwrap());
    let first = account().await;
    assert_eq!((first.role, first.password_hash), (Role::Operator, None));
    f.store.open_session(first.user, None, [1; 32], f.tomorrow()).await.unwrap();

    // A lower role leaves the sessions, which have it at once.
    assert!(
        !f.store.put_account(&email("OP@example.com"), Some(Role::Feeder), None).await.unwrap()
    );
    assert_eq!(f.store.session([1; 32]).await.unwrap().unwrap().role, Role::Feeder);
    // A higher one revokes them, and leaves the password.
    assert!(!f.store.put_account(&address, Some(Role::Operator), None).await.unwrap());
    assert_eq!(f.store.session([1; 32]).await.unwrap(), None);
    assert!(!f.store.put_account(&address, Some(Role::Feeder), None).await.unwrap());
    f.store.open_session(first.user, None, [1; 32], f.tomorrow()).await.unwrap();
    // A password revokes them, and leaves the role.
    assert!(!f.store.put_account(&address, None, Some("new")).await.unwrap());
    assert_eq!(f.store.session([1; 32]).await.unwrap(), None);
    let last = account().await;
    assert_eq!((last.role, last.password_hash.as_deref()), (Role::Feeder, Some("new")));
    assert_eq!((last.user, last.email.as_str()), (first.user, "Op@example.com"));
    assert!(f.store.put_account(&email("x@example.com"), None, None).await.unwrap());
}

pub(crate) async fn the_generation_shows_the_writes_of_others(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let address = email("ann@example.com");
    f.store.put_account(&address, Some(Role::Operator), None).await.unwrap();
    f.store.open_session(ann, HASH, [1; 32], f.tomorrow()).await.unwrap();
    let other = (f.open)().await;
    let mut before = f.store.generation().await.unwrap();
    assert_eq!(f.store.generation().await.unwrap(), before);
    other.put_account(&address, Some(Role::User), None).await.unwrap();
    for step in 0..3 {
        let after = f.store.generation().await.unwrap();
        assert_ne!(after, before, "step {step}");
        before = after;
        match step {
            0 => other.close_session([1; 32]).await.unwrap(),
            _ => {
                let command =
                    Command::SetPassword { user: ann, password_hash: "new".into(), keep: None };
                other.execute(None, &command).await.unwrap();
            }
        }
    }
}
