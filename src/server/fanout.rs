//! Fan-out of what comes in to the streams that ask for it, with bounds on all sides.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;

use super::fault::Fault;
use crate::metrics::Metrics;
use crate::model::UserId;

/// The number of streams that are open, in all and per user, and of what they ask for.
pub struct Slots {
    max: usize,
    per_user_max: usize,
    keys_max: usize,
    open: Mutex<Open>,
    metrics: Metrics,
}

#[derive(Default)]
struct Open {
    of_user: HashMap<UserId, usize>,
    keys: usize,
}

/// The right to one stream; given back when dropped.
pub struct Slot {
    slots: Arc<Slots>,
    user: UserId,
    keys: usize,
}

impl Slots {
    /// No stream is open.
    pub fn new(max: usize, per_user_max: usize, keys_max: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { max, per_user_max, keys_max, open: Mutex::default(), metrics })
    }

    fn take(self: &Arc<Self>, user: UserId, keys: usize) -> Result<Slot, Fault> {
        let mut open = lock(&self.open);
        let in_all: usize = open.of_user.values().sum();
        let own = open.of_user.get(&user).copied().unwrap_or_default();
        if own >= self.per_user_max {
            let reason = format!("expected at most {own} open streams of an account");
            return Err(Fault::Exhausted(reason));
        }
        if in_all >= self.max {
            let reason = format!("the server has {in_all} open streams, as many as it may");
            return Err(Fault::Exhausted(reason));
        }
        if open.keys + keys > self.keys_max {
            let reason = format!(
                "the streams ask for {} symbols, and {keys} more are more than they may",
                open.keys
            );
            return Err(Fault::Exhausted(reason));
        }
        open.keys += keys;
        open.of_user.insert(user, own + 1);
        self.metrics.streams.inc();
        Ok(Slot { slots: Arc::clone(self), user, keys })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = lock(&self.slots.open);
        open.keys -= self.keys;
        if let Some(own) = open.of_user.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                open.of_user.remove(&self.user);
            }
        }
        self.slots.metrics.streams.dec();
    }
}

/// What is told to all that read some key.
pub struct Fanout<K, T> {
    slots: Arc<Slots>,
    buffer: usize,
    readers: Mutex<Readers<K, T>>,
}

struct Readers<K, T> {
    last_id: u64,
    by_key: HashMap<K, Vec<u64>>,
    all: HashMap<u64, Reader<K, T>>,
}

struct Reader<K, T> {
    keys: Vec<K>,
    items: mpsc::Sender<T>,
    end: Arc<OnceLock<Fault>>,
}

impl<K: Copy + Eq + Hash, T: Copy> Fanout<K, T> {
    /// A fan-out without readers, each of which may lag `buffer` items behind.
    pub fn new(slots: Arc<Slots>, buffer: usize) -> Arc<Self> {
        let readers = Readers { last_id: 0, by_key: HashMap::new(), all: HashMap::new() };
        Arc::new(Self { slots, buffer: buffer.max(1), readers: Mutex::new(readers) })
    }

    /// Reads some keys from now on, for a user.
    pub fn subscribe(
        self: &Arc<Self>,
        user: UserId,
        mut keys: Vec<K>,
    ) -> Result<Subscription<K, T>, Fault> {
        // A key that is named twice is told once.
        let mut named = std::collections::HashSet::new();
        keys.retain(|key| named.insert(*key));
        let slot = self.slots.take(user, keys.len())?;
        let (items, receiver) = mpsc::channel(self.buffer);
        let end = Arc::<OnceLock<Fault>>::default();
        let mut readers = lock(&self.readers);
        readers.last_id += 1;
        let id = readers.last_id;
        for key in &keys {
            readers.by_key.entry(*key).or_default().push(id);
        }
        readers.all.insert(id, Reader { keys, items, end: Arc::clone(&end) });
        drop(readers);
        Ok(Subscription { fanout: Arc::clone(self), id, receiver, end, ended: false, _slot: slot })
    }

    /// Tells the readers of a key. One that is too slow is ended; nobody waits for it.
    pub fn send(&self, key: K, item: T) {
        let mut readers = lock(&self.readers);
        let Some(ids) = readers.by_key.get(&key) else { return };
        let slow: Vec<u64> = ids
            .iter()
            .filter(|id| {
                readers.all.get(id).is_some_and(|reader| reader.items.try_send(item).is_err())
            })
            .copied()
            .collect();
        for id in slow {
            readers.end(id, Fault::Exhausted("the reader of the stream is too slow".to_owned()));
        }
    }

    /// Ends every stream that is open.
    pub fn end_all(&self, fault: &Fault) {
        let mut readers = lock(&self.readers);
        let ids: Vec<u64> = readers.all.keys().copied().collect();
        for id in ids {
            readers.end(id, fault.clone());
        }
    }
}

impl<K: Copy + Eq + Hash, T> Readers<K, T> {
    fn end(&mut self, id: u64, fault: Fault) {
        if let Some(reader) = self.remove(id) {
            // Set once: the reader is gone from the map.
            let _ = reader.end.set(fault);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Reader<K, T>> {
        let reader = self.all.remove(&id)?;
        for key in &reader.keys {
            if let Some(ids) = self.by_key.get_mut(key) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        Some(reader)
    }
}

/// What one reader gets: what was buffered, then why it ended. Dropping it ends it.
pub struct Subscription<K: Copy + Eq + Hash, T> {
    fanout: Arc<Fanout<K, T>>,
    id: u64,
    receiver: mpsc::Receiver<T>,
    end: Arc<OnceLock<Fault>>,
    ended: bool,
    _slot: Slot,
}

impl<K: Copy + Eq + Hash, T> Stream for Subscription<K, T> {
    type Item = Result<T, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(Ok(item))),
            Poll::Ready(None) if !self.ended => {
                self.ended = true;
                Poll::Ready(self.end.get().cloned().map(Err))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<K: Copy + Eq + Hash, T> Unpin for Subscription<K, T> {}

impl<K: Copy + Eq + Hash, T> Drop for Subscription<K, T> {
    fn drop(&mut self) {
        lock(&self.fanout.readers).remove(self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn fanout(max: usize, per_user_max: usize, buffer: usize) -> Arc<Fanout<u8, u32>> {
        Fanout::new(Slots::new(max, per_user_max, 4, Metrics::new("test")), buffer)
    }

    #[tokio::test]
    async fn a_reader_gets_its_keys_in_order_and_a_slow_one_is_ended() {
        let fanout = fanout(10, 10, 2);
        let mut quick = fanout.subscribe(UserId(1), vec![1, 2, 1]).unwrap();
        let mut slow = fanout.subscribe(UserId(1), vec![1]).unwrap();
        for item in 0..3 {
            fanout.send(1, item);
            assert_eq!(quick.next().await, Some(Ok(item)));
            fanout.send(3, 99);
        }
        assert_eq!(slow.next().await, Some(Ok(0)));
        assert_eq!(slow.next().await, Some(Ok(1)));
        assert!(matches!(slow.next().await, Some(Err(Fault::Exhausted(_)))));
        assert_eq!(slow.next().await, None);
        drop((quick, slow));
        let readers = lock(&fanout.readers);
        assert!(readers.by_key.is_empty() && readers.all.is_empty());
    }

    #[tokio::test]
    async fn what_streams_ask_for_is_bounded() {
        let fanout = fanout(10, 10, 1);
        let first = fanout.subscribe(UserId(1), vec![1, 1, 2, 3]).unwrap();
        assert!(fanout.subscribe(UserId(2), vec![1, 2]).is_err());
        let _second = fanout.subscribe(UserId(2), vec![1]).unwrap();
        drop(first);
        assert!(fanout.subscribe(UserId(1), vec![1, 2, 3]).is_ok());
    }

    #[tokio::test]
    async fn streams_are_bounded_in_all_and_per_user() {
        let fanout = fanout(3, 2, 1);
        let open = |user| fanout.subscribe(UserId(user), vec![1]);
        let (first, _second) = (open(1).unwrap(), open(1).unwrap());
        assert!(open(1).is_err());
        let _third = open(2).unwrap();
        assert!(open(3).is_err());
        drop(first);
        let mut fourth = open(3).unwrap();
        let gone = Fault::Unavailable("gone".to_owned());
        fanout.end_all(&gone);
        assert_eq!(fourth.next().await, Some(Err(gone)));
        drop(fourth);
        assert!(open(2).is_ok());
    }
}
