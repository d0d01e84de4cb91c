//! Kafka brokers within the process that fail when they are told to. They keep batches as they
//! come, and replicate nothing: for faults that a real cluster cannot be told to make.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answers;

/// What happens to the next produce request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is appended, and the connection is lost before the answer.
    LostAfterAppend,
    /// It is refused.
    Refused(ResponseError),
    /// It is appended, and refused all the same.
    RefusedAfterAppend(ResponseError),
    /// It is appended, and answered later.
    Late(Duration),
}

/// A partition's log.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) leader: i32,
    pub(crate) first: i64,
    pub(crate) end: i64,
    /// Base, end and bytes of each batch.
    pub(crate) batches: Vec<(i64, i64, Bytes)>,
}

/// One broker.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    /// Ends its listener and its connections.
    up: CancellationToken,
    tasks: TaskTracker,
}

/// All that the brokers know.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) nodes: BTreeMap<i32, Node>,
    pub(crate) topics: BTreeMap<String, Vec<Log>>,
    pub(crate) committed: BTreeMap<(String, String, i32), i64>,
    pub(crate) faults: VecDeque<Fault>,
    /// Refusals of the next commits of offsets.
    pub(crate) commit_faults: VecDeque<ResponseError>,
    /// How often leaders are still stated that are no broker.
    pub(crate) stale: u32,
    /// Bytes of a batch that are taken.
    pub(crate) batch_bytes_max: usize,
    /// Records of each produce request that was appended.
    pub(crate) produced: Vec<i64>,
    /// Fetches that wait.
    pub(crate) fetching: BTreeSet<(String, i32)>,
}

/// The brokers.
#[derive(Clone)]
pub(crate) struct FaultCluster {
    state: Arc<Mutex<State>>,
    pub(crate) changes: watch::Sender<u64>,
}

impl FaultCluster {
    /// Brokers 1 to `count`.
    pub(crate) async fn start(count: i32) -> Self {
        let state = State { batch_bytes_max: usize::MAX, ..State::default() };
        let cluster = Self { state: Arc::new(Mutex::new(state)), changes: watch::Sender::new(0) };
        for id in 1..=count {
            cluster.add(id).await;
        }
        cluster
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes what the brokers know, and wakes fetches.
    pub(crate) fn change(&self, with: impl FnOnce(&mut State)) {
        with(&mut self.state());
        self.changes.send_modify(|count| *count += 1);
    }

    /// Where a broker listens.
    pub(crate) fn address(&self, id: i32) -> String {
        self.state().nodes[&id].address.to_string()
    }

    /// Adds a broker on a port of its own.
    pub(crate) async fn add(&self, id: i32) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.serve(id, listener);
    }

    /// Kills a broker.
    pub(crate) async fn down(&self, id: i32) {
        let tasks = {
            let state = self.state();
            let node = &state.nodes[&id];
            node.up.cancel();
            node.tasks.clone()
        };
        tasks.close();
        tasks.wait().await;
    }

    /// Brings a killed broker back, where it was.
    pub(crate) async fn up(&self, id: i32) {
        let address = self.state().nodes[&id].address;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.serve(id, listener);
    }

    fn serve(&self, id: i32, listener: TcpListener) {
        let up = CancellationToken::new();
        let tasks = TaskTracker::new();
        let address = listener.local_addr().unwrap();
        self.state().nodes.insert(id, Node { address, up: up.clone(), tasks: tasks.clone() });
        let cluster = self.clone();
        let conversations = tasks.clone();
        tasks.spawn(up.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let cluster = cluster.clone();
                let converse = async move {
                    // A conversation ends with the client, or as a fault wants it.
                    let _ = cluster.converse(id, stream).await;
                };
                conversations.spawn(up.clone().run_until_cancelled_owned(converse));
            }
        }));
    }

    async fn converse(&self, id: i32, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let length = stream.read_i32().await?;
            let mut request = BytesMut::zeroed(usize::try_from(length).unwrap());
            stream.read_exact(&mut request).await?;
            let mut request = request.freeze();
            let key = ApiKey::try_from((&request[..2]).get_i16()).unwrap();
            let version = (&request[2..4]).get_i16();
            let header =
                RequestHeader::decode(&mut request, key.request_header_version(version)).unwrap();
            let mut answer = BytesMut::new();
            answer.put_i32(0);
            ResponseHeader::default()
                .with_correlation_id(header.correlation_id)
                .encode(&mut answer, key.response_header_version(version))
                .unwrap();
            if !answers::answer(self, id, key, version, request, &mut answer).await {
                return Ok(());
            }
            let length = i32::try_from(answer.len() - 4).unwrap();
            answer[..4].copy_from_slice(&length.to_be_bytes());
            stream.write_all(&answer).await?;
        }
    }
}
