//! cargo bench -p structured --bench fan_out
//!
//! What an input costs: 100,000 of them from a stream, 64 at a time, whose work yields once, and a
//! reader that adds up what comes out. All rows take turns within a round; a figure is the median of
//! the rounds, a ratio the median of the rounds' ratios to the first row.
//!
//! All bare rows spawn a task for each input, have the limit, report a panic and abort when dropped.
//! None starts a task while the reader is busy with a result. `fan_out` does, and counts its inputs.
//! The target for it is at most 5 % over the best bare form of the same order.

use std::error::Error;
use std::future::Future;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::pin::Pin;

use futures_util::stream::{self, FuturesUnordered};
use futures_util::{Stream, StreamExt};
use structured::fan_out::{Limits, Order, fan_out};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

const WORKERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

async fn work(input: u64) -> u64 {
    yield_now().await;
    black_box(input)
}

async fn add_up<E>(ends: impl Stream<Item = Result<u64, E>>) -> Option<u64> {
    let ends = ends.map(Result::ok);
    ends.fold(Some(0), async |sum, end| Some(sum? + end?)).await
}

async fn join_set(inputs: u64) -> Option<u64> {
    let mut inputs = stream::iter(0..inputs);
    let mut tasks = JoinSet::new();
    let mut sum = 0;
    loop {
        if tasks.len() < WORKERS.get()
            && let Some(input) = inputs.next().await
        {
            tasks.spawn(work(input));
        } else if let Some(end) = tasks.join_next().await {
            sum += end.ok()?;
        } else {
            return Some(sum);
        }
    }
}

async fn unordered(inputs: u64) -> Option<u64> {
    let mut inputs = stream::iter(0..inputs);
    let mut tasks = FuturesUnordered::new();
    let mut sum = 0;
    loop {
        if tasks.len() < WORKERS.get()
            && let Some(input) = inputs.next().await
        {
            tasks.push(AbortOnDropHandle::new(tokio::spawn(work(input))));
        } else if let Some(end) = tasks.next().await {
            sum += end.ok()?;
        } else {
            return Some(sum);
        }
    }
}

fn tasks(inputs: u64) -> impl Stream<Item = AbortOnDropHandle<u64>> {
    stream::iter(0..inputs).map(|input| AbortOnDropHandle::new(tokio::spawn(work(input))))
}

fn recipe(inputs: u64, buffer: usize, order: Order) -> impl Future<Output = Option<u64>> {
    let workers = WORKERS;
    add_up(fan_out(
        Limits { workers, buffer },
        order,
        stream::iter(0..inputs),
        work,
    ))
}

type Form = fn(u64) -> Pin<Box<dyn Future<Output = Option<u64>> + Send>>;

const ROWS: [(&str, Form); 8] = [
    ("`buffer_unordered` tasks", |inputs| {
        Box::pin(add_up(tasks(inputs).buffer_unordered(64)))
    }),
    ("`JoinSet`", |inputs| Box::pin(join_set(inputs))),
    ("`FuturesUnordered` of tasks", |inputs| {
        Box::pin(unordered(inputs))
    }),
    ("`buffered` tasks", |inputs| {
        Box::pin(add_up(tasks(inputs).buffered(64)))
    }),
    ("[`fan_out`], as finished", |inputs| {
        Box::pin(async move { recipe(inputs, 64, Order::AsFinished).await })
    }),
    ("[`fan_out`], as given", |inputs| {
        Box::pin(async move { recipe(inputs, 64, Order::AsGiven).await })
    }),
    ("[`fan_out`], as finished, no buffer", |inputs| {
        Box::pin(async move { recipe(inputs, 0, Order::AsFinished).await })
    }),
    ("[`fan_out`], as given, no buffer", |inputs| {
        Box::pin(async move { recipe(inputs, 0, Order::AsGiven).await })
    }),
];

fn main() -> Result<(), Box<dyn Error>> {
    let trial = std::env::args().any(|argument| argument == "--test");
    let (rounds, inputs) = if trial { (1, 1_000) } else { (11, 100_000) };
    let current = Builder::new_current_thread().build()?;
    let multi = Builder::new_multi_thread().worker_threads(2).build()?;
    let columns = [
        measure(&current, rounds, inputs)?,
        measure(&multi, rounds, inputs)?,
    ];
    println!("| ns for each input | 1 thread | ratio | 2 threads | ratio |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let [current, multi] = columns.map(Vec::into_iter);
    for (((name, _), one), two) in ROWS.iter().zip(current).zip(multi) {
        let [(one, one_ratio), (two, two_ratio)] = [one, two];
        println!("| {name} | {one:.0} | {one_ratio:.2} | {two:.0} | {two_ratio:.2} |");
    }
    Ok(())
}

/// For each row the median of its nanoseconds per input, and of its ratio to the first row.
fn measure(
    runtime: &Runtime,
    rounds: usize,
    inputs: u64,
) -> Result<Vec<(f64, f64)>, Box<dyn Error>> {
    let mut samples = [const { (Vec::new(), Vec::new()) }; ROWS.len()];
    for _ in 0..rounds {
        let mut first = None;
        for ((name, form), (times, ratios)) in ROWS.iter().zip(&mut samples) {
            let started = Instant::now();
            let sum = runtime.block_on(runtime.spawn(form(inputs)))?;
            let time = started.elapsed().as_nanos() as f64 / inputs as f64;
            if sum != Some(inputs * (inputs - 1) / 2) {
                return Err(format!("{name} gives {sum:?}").into());
            }
            times.push(time);
            ratios.push(time / *first.get_or_insert(time));
        }
    }
    Ok(samples
        .map(|(times, ratios)| (median(times), median(ratios)))
        .into())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
