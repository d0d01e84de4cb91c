//! A commit whose answer never comes: it is looked up, and what it did is done once.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tripline::adapters::clock::ManualClock;
use tripline::adapters::store::mysql::{MysqlOptions, MysqlStore};
use tripline::model::{AlertSeq, UserId};
use tripline::pipeline::clock::Clock;
use tripline::pipeline::evaluate::{EvaluateStore, Evaluation};
use tripline::pipeline::notify::{NotifyStore, Outcome, Settlement};
use tripline::server::store::{
    AccountStore, Command, CommandStore, Opened, QueryStore, Recorded, Reply, Request, RequestKey,
};

use crate::deliveries::claimant;
use crate::fixture::{ZERO, adopt, alert, at, incoming, numbered, span, spec};
use crate::mysql_server::{Database, server};

/// What happens to the next commit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// The connection breaks before the server has it.
    Before,
    /// The connection breaks instead of the answer.
    After,
}

/// A relay in front of the server that breaks a connection when it is told to.
#[derive(Clone)]
struct Relay {
    next: Arc<Mutex<Option<Cut>>>,
    port: u16,
}

const COMMIT: &[u8] = b"\x03COMMIT";

impl Relay {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self { next: Arc::default(), port: listener.local_addr().unwrap().port() };
        let next = relay.next.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass(client, server, next.clone()));
            }
        });
        relay
    }

    fn cut(&self, cut: Cut) {
        *self.next.lock().unwrap() = Some(cut);
    }

    fn is_done(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }
}

async fn pass(client: TcpStream, server: TcpStream, next: Arc<Mutex<Option<Cut>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answerless = Arc::new(AtomicU8::new(0));
    let silent = answerless.clone();
    let requests = async move {
        let mut bytes = [0; 65_536];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..count].windows(COMMIT.len()).any(|window| window == COMMIT) {
                match next.lock().unwrap().take() {
                    Some(Cut::Before) => return,
                    Some(Cut::After) => silent.store(1, Ordering::SeqCst),
                    None => {}
                }
            }
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let answers = async move {
        let mut bytes = [0; 65_536];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let silent = answerless.load(Ordering::SeqCst) == 1;
            if silent || to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    // Both ends go when either does.
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}

struct Broken {
    relay: Relay,
    store: MysqlStore,
    clock: Arc<ManualClock>,
    _database: Database,
}

async fn broken() -> Option<Broken> {
    let database = Database::create().await?;
    let address = server()?.rsplit('@').next().unwrap().trim_start_matches("mysql://").to_owned();
    let relay = Relay::start(address.clone()).await;
    let to_relay = format!("127.0.0.1:{}", relay.port);
    let url = database.url().replace(&address, &to_relay) + "?ssl-mode=DISABLED";
    let clock = Arc::new(ManualClock::new(at(1_000_000)));
    let options = MysqlOptions { url, ..database.options() };
    let store = MysqlStore::open_with_time_of(options, Default::default(), clock.clone());
    let store = store.await.unwrap();
    adopt(&store).await;
    Some(Broken { relay, store, clock, _database: database })
}

impl Broken {
    /// Runs `work` with its commit cut off, one way and the other.
    async fn each<T>(&self, work: impl AsyncFn(u32) -> T, check: impl AsyncFn(u32, T)) {
        for (round, cut) in (0..).zip([Cut::Before, Cut::After]) {
            self.relay.cut(cut);
            let done = work(round).await;
            assert!(self.relay.is_done(), "{cut:?} met no commit");
            check(round, done).await;
        }
    }

    async fn user(&self, name: &str) -> UserId {
        let email = format!("{name}@example.com").parse().unwrap();
        let register = Command::Register { email, password_hash: "hash".into(), watch: None };
        match self.store.execute(None, &register).await.unwrap().reply {
            Reply::Registered { user, .. } => UserId(user),
            other => panic!("expected an account, found {other:?}"),
        }
    }

    async fn watches(&self, user: UserId) -> Vec<tripline::model::Watch> {
        let views = QueryStore::watches(&self.store, user, None, 100).await.unwrap();
        views.into_iter().map(|view| view.watch).collect()
    }
}

#[tokio::test]
async fn a_command_takes_effect_once() {
    let Some(b) = broken().await else { return };
    let user = b.user("ann").await;
    let create = Command::CreateWatch { user, spec: spec() };
    let request = |round: u32| {
        let key = RequestKey { caller: "user:1".into(), id: format!("r{round}") };
        Request { key, method: "m".into(), fingerprint: [1; 32] }
    };
    b.each(
        async |_| b.store.execute(None, &create).await.unwrap().reply,
        async |round, reply| {
            let Reply::Watch { id } = reply else { panic!("expected a watch, found {reply:?}") };
            let watches = b.watches(user).await;
            assert_eq!((watches.len(), watches.last().unwrap().id.0), (round as usize + 1, id));
        },
    )
    .await;
    b.each(
        async |round| b.store.execute(Some(&request(round)), &create).await.unwrap(),
        async |round, recorded| {
            assert_eq!(b.watches(user).await.len(), round as usize + 3);
            let again = b.store.recorded(&request(round).key).await.unwrap();
            assert_eq!(again, Some(Recorded { again: true, view: None, ..recorded }));
        },
    )
    .await;
    b.each(
        async |round| {
            let email = format!("user{round}@example.com").parse().unwrap();
            b.store.import([round as u8; 32], &[(email, spec())]).await.unwrap()
        },
        async |_, loaded| assert_eq!(loaded, Some(1)),
    )
    .await;
    b.each(
        async |round| {
            let expires = b.clock.now().plus(std::time::Duration::from_secs(60));
            let token = [round as u8; 32];
            b.store.open_session(user, Some("hash"), token, expires).await.unwrap()
        },
        async |round, opened| {
            assert_ne!(opened, Opened::Refused);
            assert!(b.store.session([round as u8; 32]).await.unwrap().is_some());
        },
    )
    .await;
}

#[tokio::test]
async fn a_step_takes_effect_once_and_keeps_its_claims() {
    let Some(b) = broken().await else { return };
    let user = b.user("ann").await;
    b.store.execute(None, &Command::CreateWatch { user, spec: spec() }).await.unwrap();
    let watch = b.watches(user).await[0];
    let evaluator = EvaluateStore::own(&b.store, ZERO, Default::default()).await.unwrap().fence;
    let alerts = |round: u32| [1, 2].map(|n| alert(&watch, i64::from(10 * round + n)));
    b.each(
        async |round| {
            let (first, from) = (u64::from(2 * round) + 1, u64::from(round));
            let alerts = alerts(round).into_iter().zip(first..);
            let alerts = alerts.map(|(alert, seq)| numbered(seq, alert)).collect();
            let step = Evaluation { alerts, ..Default::default() };
            EvaluateStore::commit(&b.store, evaluator, span(from, from + 1), &step).await.unwrap();
        },
        async |round, ()| {
            let found = b.store.alerts_after(ZERO, AlertSeq(0), 9).await.unwrap();
            assert_eq!(found.len(), 2 * (round as usize + 1));
        },
    )
    .await;

    let notifier = NotifyStore::own(&b.store, ZERO, Default::default()).await.unwrap().fence;
    let ann = claimant("a");
    // One of each two is claimed at once.
    b.each(
        async |round| {
            let from = u64::from(round);
            let incoming = alerts(round).map(incoming);
            let step = span(from, from + 1);
            b.store.accept(notifier, step, &incoming, &[], &ann, 1).await.unwrap()
        },
        async |round, got| {
            assert_eq!(got.len(), 1, "{got:?}");
            assert_eq!(got[0].alert, alerts(round)[0]);
        },
    )
    .await;
    // The others by two claims.
    let mut held = Vec::new();
    for cut in [Cut::Before, Cut::After] {
        b.relay.cut(cut);
        let got = b.store.claim(&ann, 1).await.unwrap().deliveries;
        assert!(b.relay.is_done());
        assert_eq!(got.len(), 1, "{cut:?}");
        held.extend(got);
    }
    assert_ne!(held[0].id, held[1].id);
    assert_eq!(b.store.claim(&ann, 9).await.unwrap().deliveries, []);
    // Counted once each.
    for (cut, delivery) in [Cut::Before, Cut::After].into_iter().zip(&held) {
        b.relay.cut(cut);
        let outcome = Outcome::Retry { at: b.clock.now(), error: "busy".into() };
        let settlement = Settlement { id: delivery.id, outcome };
        b.store.settle(&ann, &[settlement]).await.unwrap();
        let again = b.store.claim(&ann, 1).await.unwrap().deliveries;
        assert_eq!((again[0].id, again[0].attempts), (delivery.id, 1), "{cut:?}");
    }
}
