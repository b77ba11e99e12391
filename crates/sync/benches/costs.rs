//! cargo bench -p sync --bench costs
//!
//! What a read and a write of 64 bytes cost behind each lock: the table of the section page, as it
//! stands there. A read takes all of them, a write makes new ones of the old.
//!
//! *Alone*: one task. *Contended*: four tasks for each thread, all threads at once, so the figure is
//! the time that one operation takes its thread; with no contention it would be that of *alone*. All
//! rows take turns within a round; a figure is the median of the rounds.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::available_parallelism;
use std::time::Duration;

use sync::async_lock::AsyncLock;
use sync::read_mostly::Store;
use sync::short_lock::Shared;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::Instant;

type State = [u64; 8];

const WAIT: Duration = Duration::from_secs(60);

/// Every hundredth operation writes, every second, or all or none.
const MIXES: [(&str, usize); 4] = [
    ("alone, read", usize::MAX),
    ("alone, write", 1),
    ("contended, 50 % reads", 2),
    ("contended, 99 % reads", 100),
];

fn sum(state: &State) -> u64 {
    state.iter().copied().fold(0, u64::wrapping_add)
}

fn next(state: &State) -> State {
    state.map(|word| word.wrapping_add(1))
}

trait Lock: Clone + Send + Sync + 'static {
    fn read(&self) -> impl Future<Output = u64> + Send;
    fn write(&self) -> impl Future<Output = ()> + Send;
}

impl Lock for Arc<Mutex<State>> {
    async fn read(&self) -> u64 {
        sum(&self.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn write(&self) {
        let mut state = self.lock().unwrap_or_else(PoisonError::into_inner);
        *state = next(&state);
    }
}

impl Lock for Shared<State> {
    async fn read(&self) -> u64 {
        self.with(|state| sum(state)).unwrap_or_default()
    }

    async fn write(&self) {
        self.with(|state| *state = next(state)).ok();
    }
}

impl Lock for Arc<RwLock<State>> {
    async fn read(&self) -> u64 {
        sum(&RwLock::read(self).unwrap_or_else(PoisonError::into_inner))
    }

    async fn write(&self) {
        let mut state = RwLock::write(self).unwrap_or_else(PoisonError::into_inner);
        *state = next(&state);
    }
}

impl Lock for Arc<tokio::sync::Mutex<State>> {
    async fn read(&self) -> u64 {
        sum(&*self.lock().await)
    }

    async fn write(&self) {
        let mut state = self.lock().await;
        *state = next(&state);
    }
}

impl Lock for Arc<tokio::sync::RwLock<State>> {
    async fn read(&self) -> u64 {
        sum(&*tokio::sync::RwLock::read(self).await)
    }

    async fn write(&self) {
        let mut state = tokio::sync::RwLock::write(self).await;
        *state = next(&state);
    }
}

impl Lock for AsyncLock<State> {
    async fn read(&self) -> u64 {
        let draft = self.draft(WAIT).await;
        draft.map_or(0, |state| sum(&state))
    }

    async fn write(&self) {
        let change = async |state: &mut State| {
            *state = next(state);
            Ok::<_, Infallible>(())
        };
        self.update(WAIT, change).await.ok();
    }
}

impl Lock for Store<State> {
    async fn read(&self) -> u64 {
        Store::read(self, sum)
    }

    async fn write(&self) {
        self.update(next);
    }
}

async fn operations(lock: impl Lock, count: usize, every: usize) {
    for number in 1..=count {
        if number.is_multiple_of(every) {
            lock.write().await;
        } else {
            black_box(lock.read().await);
        }
    }
}

/// Nanoseconds for each operation.
type Measure<'a> = Pin<Box<dyn Future<Output = f64> + 'a>>;

fn measure<'a>(lock: &'a impl Lock, threads: usize, count: usize, every: usize) -> Measure<'a> {
    Box::pin(async move {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        let number = if threads == 1 { 1 } else { threads * 4 };
        for _ in 0..number {
            tasks.spawn(operations(lock.clone(), count, every));
        }
        tasks.join_all().await;
        let total = started.elapsed().as_nanos() as f64 * threads as f64;
        total / (number * count) as f64
    })
}

type Row<'a> = (
    &'a str,
    Box<dyn Fn(usize, usize, usize) -> Measure<'a> + 'a>,
);

fn row<'a>(name: &'a str, lock: &'a impl Lock) -> Row<'a> {
    let measure = move |threads, count, every| measure(lock, threads, count, every);
    (name, Box::new(measure))
}

fn main() -> Result<(), Box<dyn Error>> {
    let trial = std::env::args().any(|argument| argument == "--test");
    let (rounds, count) = if trial { (1, 100) } else { (15, 100_000) };
    let threads = available_parallelism().map_or(2, NonZeroUsize::get).max(2);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_time()
        .build()?;

    let state = State::default();
    let std_mutex = Arc::new(Mutex::new(state));
    let short_lock = Shared::new(state);
    let std_rwlock = Arc::new(RwLock::new(state));
    let tokio_mutex = Arc::new(tokio::sync::Mutex::new(state));
    let async_lock = AsyncLock::new(state);
    let tokio_rwlock = Arc::new(tokio::sync::RwLock::new(state));
    let read_mostly = Store::new(state);
    let rows = [
        row("`std::sync::Mutex`", &std_mutex),
        row("the same in [`short_lock`]", &short_lock),
        row("`std::sync::RwLock`", &std_rwlock),
        row("`ArcSwap` in [`read_mostly`]", &read_mostly),
        row("`tokio::sync::Mutex`", &tokio_mutex),
        row("the same in [`async_lock`]", &async_lock),
        row("`tokio::sync::RwLock`", &tokio_rwlock),
    ];

    let titles = MIXES.map(|(title, _)| title).join(" | ");
    println!("| Nanoseconds, {threads} threads | {titles} |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, medians) in medians(&runtime, &rows, threads, rounds, count) {
        let [a, b, c, d] = medians;
        println!("| {name} | {a:.0} | {b:.0} | {c:.0} | {d:.0} |");
    }
    Ok(())
}

fn medians<'a>(
    runtime: &Runtime,
    rows: &[Row<'a>],
    threads: usize,
    rounds: usize,
    count: usize,
) -> Vec<(&'a str, [f64; MIXES.len()])> {
    let mut samples = vec![[const { Vec::new() }; MIXES.len()]; rows.len()];
    for _ in 0..rounds {
        for ((_, measure), samples) in rows.iter().zip(&mut samples) {
            for ((title, every), samples) in MIXES.iter().zip(samples) {
                let threads = if title.starts_with("alone") {
                    1
                } else {
                    threads
                };
                let measure = async { measure(threads, count, *every).await };
                samples.push(runtime.block_on(measure));
            }
        }
    }
    let median = |mut samples: Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let names = rows.iter().map(|(name, _)| *name);
    names
        .zip(samples.into_iter().map(|of| of.map(median)))
        .collect()
}
