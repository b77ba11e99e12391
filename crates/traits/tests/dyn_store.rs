//! That a store behind `dyn` is the same store, and what the box costs.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::poll;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::time::sleep;
use traits::dyn_store::{DynStore, Store};

const MS: Duration = Duration::from_millis(1);

/// Answers at once.
#[derive(Default)]
struct Map(Mutex<HashMap<String, Vec<u8>>>);

impl Store for Map {
    type Error = Infallible;

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), Infallible> {
        self.0
            .lock()
            .unwrap()
            .insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

/// Answers after a while, and counts the calls that are under way.
struct Slow {
    inner: Map,
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Store for Slow {
    type Error = Infallible;

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Infallible> {
        let _running = Running::begin(&self.running);
        sleep(MS).await;
        self.inner.get(key).await
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), Infallible> {
        let _running = Running::begin(&self.running);
        sleep(MS).await;
        self.inner.set(key, value).await
    }
}

fn slow() -> (Slow, Arc<AtomicUsize>) {
    let running = Arc::new(AtomicUsize::new(0));
    let inner = Map::default();
    (
        Slow {
            inner,
            running: Arc::clone(&running),
        },
        running,
    )
}

/// What every store promises, be it static or behind `dyn`.
async fn conformance<S: Store<Error = Infallible>>(store: S) {
    assert_eq!(store.get("a").await, Ok(None));
    store.set("a", b"one").await.unwrap();
    store.set("b", b"").await.unwrap();
    store.set("a", b"two").await.unwrap();
    assert_eq!(store.get("a").await, Ok(Some(b"two".to_vec())));
    assert_eq!(store.get("b").await, Ok(Some(Vec::new())));
}

#[tokio::test(start_paused = true)]
async fn a_store_conforms_static_behind_dyn_and_behind_dyn_twice() {
    conformance(Map::default()).await;
    conformance(slow().0).await;
    let once: Arc<dyn DynStore<_>> = Arc::new(slow().0);
    conformance(Arc::clone(&once)).await;
    let fresh: Arc<dyn DynStore<_>> = Arc::new(Map::default());
    let twice: Arc<dyn DynStore<_>> = Arc::new(fresh);
    conformance(twice).await;
}

#[tokio::test(start_paused = true)]
async fn different_stores_are_in_one_list_and_each_is_its_own() {
    let stores: Vec<Box<dyn DynStore<Infallible>>> =
        vec![Box::new(Map::default()), Box::new(slow().0)];
    for (number, store) in stores.iter().enumerate() {
        store
            .set_boxed("n", number.to_string().as_bytes())
            .await
            .unwrap();
    }
    for (number, store) in stores.iter().enumerate() {
        let value = store.get_boxed("n").await.unwrap().unwrap();
        assert_eq!(value, number.to_string().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_dyn_can_be_shared_and_spawned() {
    let store: Arc<dyn DynStore<Infallible>> = Arc::new(slow().0);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50_u8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let key = number.to_string();
            store.set(&key, &[number]).await.unwrap();
            assert_eq!(store.get(&key).await, Ok(Some(vec![number])));
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_box_drops_the_call() {
    let (store, running) = slow();
    let store: Arc<dyn DynStore<_>> = Arc::new(store);
    let mut call = store.get_boxed("key");
    assert_eq!(
        running.load(Ordering::SeqCst),
        0,
        "nothing runs before it is polled"
    );
    assert!(poll!(&mut call).is_pending());
    assert_eq!(running.load(Ordering::SeqCst), 1);
    drop(call);
    assert_eq!(running.load(Ordering::SeqCst), 0);

    let points = every_await_point(
        Duration::from_secs(60),
        async || {
            let (store, running) = slow();
            (Arc::new(store) as Arc<dyn DynStore<_>>, running)
        },
        async |(store, _)| store.set("key", b"value").await,
        async |(store, running), outcome| {
            assert_eq!(running.load(Ordering::SeqCst), 0);
            let expected = matches!(outcome, Outcome::Completed(_));
            assert_eq!(store.get("key").await.unwrap().is_some(), expected);
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[test]
fn a_boxed_future_is_two_pointers_whatever_it_holds() {
    let (map, slow) = (Map::default(), slow().0);
    assert!(size_of_val(&map.get("key")) < size_of_val(&slow.get("key")));
    for store in [&map as &dyn DynStore<_>, &slow] {
        assert_eq!(size_of_val(&store.get_boxed("key")), 2 * size_of::<usize>());
    }
}
