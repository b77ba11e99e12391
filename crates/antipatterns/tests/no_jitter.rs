//! What backoff without jitter does to a server that a thousand clients have lost together.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::BTreeMap;
use std::future::ready;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antipatterns::no_jitter::with_backoff;
use retry::backoff::{Policy, retry};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const CLIENTS: u32 = 1000;
const MS: Duration = Duration::from_millis(1);

const POLICY: Policy = Policy {
    base: Duration::from_millis(100),
    cap: Duration::MAX,
    tries: NonZeroU32::new(8).unwrap(),
    total: Duration::MAX,
};

/// Fails at first, and then serves 50 calls in each 10 ms.
struct Server {
    started: Instant,
    calls: Mutex<BTreeMap<u128, u32>>,
}

impl Server {
    fn call(&self) -> Result<(), &'static str> {
        let slot = self.started.elapsed().as_millis() / 10;
        let mut calls = self.calls.lock().unwrap();
        let calls = calls.entry(slot).or_default();
        *calls += 1;
        match slot {
            0 => Err("down"),
            _ if *calls > 50 => Err("overloaded"),
            _ => Ok(()),
        }
    }
}

/// How many were served, and how many calls came when, in tens of milliseconds.
async fn served<F>(client: impl Fn(Arc<Server>, u64) -> F) -> (usize, BTreeMap<u128, u32>, Duration)
where
    F: Future<Output = bool> + Send + 'static,
{
    let started = Instant::now();
    let server = Arc::new(Server {
        started,
        calls: Mutex::default(),
    });
    let clients: JoinSet<bool> = (0..CLIENTS)
        .map(|seed| client(Arc::clone(&server), seed.into()))
        .collect();
    let served = clients
        .join_all()
        .await
        .into_iter()
        .filter(|served| *served)
        .count();
    let mut calls = server.calls.lock().unwrap().clone();
    assert!(calls.remove(&0).unwrap() >= CLIENTS, "all fail together");
    (served, calls, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn harm_all_come_back_in_the_same_instant_and_most_are_turned_away_each_time() {
    let (served, calls, lasted) =
        served(async |server, _| with_backoff(|| ready(server.call())).await.is_ok()).await;
    assert_eq!(served, 350, "50 at each of seven retries; 650 gave up");
    let arrivals = [
        (10, 1000),
        (30, 950),
        (70, 900),
        (150, 850),
        (310, 800),
        (630, 750),
        (1270, 700),
    ];
    assert_eq!(calls.into_iter().collect::<Vec<_>>(), arrivals);
    assert_eq!(lasted.as_secs(), 12);
}

#[tokio::test(start_paused = true)]
async fn harm_a_tenth_of_chance_leaves_the_first_retry_within_20_ms() {
    let mut random = fastrand::Rng::with_seed(7);
    let started = Instant::now();
    let waits: JoinSet<Duration> = (0..CLIENTS)
        .map(|_| {
            let wait = 100 * MS.mul_f64(random.f64().mul_add(0.2, 0.9));
            async move {
                sleep(wait).await;
                started.elapsed()
            }
        })
        .collect();
    let came = waits.join_all().await;
    assert!(came.iter().all(|at| (90 * MS..=110 * MS).contains(at)));
}

#[tokio::test(start_paused = true)]
async fn mended_with_full_jitter_the_same_server_serves_all_within_a_second() {
    let (served, calls, lasted) = served(async |server, seed| {
        let random = fastrand::Rng::with_seed(seed);
        let always = |_: &&str| Some(Duration::ZERO);
        retry(&POLICY, random, always, |_| ready(server.call()))
            .await
            .is_ok()
    })
    .await;
    assert_eq!(served, 1000);
    let most = calls.values().max().unwrap();
    assert!(*most < 150, "{most} in 10 ms, not 1000");
    assert!(lasted < 1000 * MS, "{lasted:?}");
}
