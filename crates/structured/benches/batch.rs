//! cargo bench -p structured --bench batch
//!
//! What an input costs: 100,000 of them, 64 at a time, whose work yields once. All rows take turns
//! within a round; a figure is the median of the rounds, a ratio the median of the rounds' ratios to
//! the first row.
//!
//! The first row is a bare `JoinSet` written out to the same end: the limit, the values and errors in
//! the order of the inputs, the first error or panic aborts the rest and awaits it, and every end is
//! known by its input, that of a panicked or aborted task too, which takes a map from task ids. The
//! second does without this map: it cannot say which input panicked, or was cut off. The others are
//! the futures-util forms over spawned tasks; they abort when dropped, but await nothing that they
//! abort. The target for the recipe's rows is at most 5 % over the first.

use std::collections::HashMap;
use std::error::Error;
use std::future::{Future, pending};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::pin::Pin;

use futures_util::stream::{self, FuturesUnordered};
use futures_util::{StreamExt, TryStreamExt};
use structured::batch::{OnFailure, batch, batch_keyed};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{Id, JoinError, JoinSet, yield_now};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

#[derive(Debug)]
struct Refused;

async fn work(input: u64) -> Result<u64, Refused> {
    yield_now().await;
    Ok(black_box(input))
}

type Ends = Vec<Option<Result<Result<u64, Refused>, JoinError>>>;

fn sum(ends: Ends) -> Option<u64> {
    ends.into_iter().map(|end| end?.ok()?.ok()).sum()
}

/// Stores an end, and tells whether it is a value.
fn store(
    ends: &mut Ends,
    keys: &mut HashMap<Id, usize>,
    end: Result<(Id, Result<u64, Refused>), JoinError>,
) -> bool {
    let (id, end) = match end {
        Ok((id, end)) => (id, Ok(end)),
        Err(error) => (error.id(), Err(error)),
    };
    let is_value = matches!(end, Ok(Ok(_)));
    if let Some(index) = keys.remove(&id)
        && let Some(place) = ends.get_mut(index)
    {
        *place = Some(end);
    }
    is_value
}

async fn join_set_and_keys(inputs: u64) -> Option<u64> {
    let (mut tasks, mut keys) = (JoinSet::new(), HashMap::new());
    let mut ends = Vec::new();
    let mut inputs = (0..inputs).enumerate();
    loop {
        if tasks.len() < LIMIT.get()
            && let Some((index, input)) = inputs.next()
        {
            ends.push(None);
            keys.insert(tasks.spawn(work(input)).id(), index);
            continue;
        }
        let Some(end) = tasks.join_next_with_id().await else {
            break;
        };
        if !store(&mut ends, &mut keys, end) {
            tasks.abort_all();
            break;
        }
    }
    while let Some(end) = tasks.join_next_with_id().await {
        store(&mut ends, &mut keys, end);
    }
    sum(ends)
}

async fn join_set(inputs: u64) -> Option<u64> {
    let mut tasks = JoinSet::new();
    let mut ends = Vec::new();
    let mut inputs = (0..inputs).enumerate();
    loop {
        if tasks.len() < LIMIT.get()
            && let Some((index, input)) = inputs.next()
        {
            ends.push(None);
            tasks.spawn(async move { (index, work(input).await) });
            continue;
        }
        let Some(end) = tasks.join_next().await else {
            break;
        };
        let Ok((index, end @ Ok(_))) = end else {
            tasks.shutdown().await;
            return None;
        };
        if let Some(place) = ends.get_mut(index) {
            *place = Some(Ok(end));
        }
    }
    sum(ends)
}

async fn unordered(inputs: u64) -> Option<u64> {
    let mut tasks = FuturesUnordered::new();
    let mut ends = Vec::new();
    let mut inputs = (0..inputs).enumerate();
    loop {
        if tasks.len() < LIMIT.get()
            && let Some((index, input)) = inputs.next()
        {
            ends.push(None);
            let task = tokio::spawn(async move { (index, work(input).await) });
            tasks.push(AbortOnDropHandle::new(task));
            continue;
        }
        let Some(end) = tasks.next().await else {
            break;
        };
        let (index, end) = end.ok()?;
        if let Some(place) = ends.get_mut(index) {
            *place = Some(Ok(end));
        }
    }
    sum(ends)
}

async fn buffered(inputs: u64) -> Option<u64> {
    let tasks =
        stream::iter(0..inputs).map(|input| AbortOnDropHandle::new(tokio::spawn(work(input))));
    let ends: Result<Vec<_>, _> = tasks.buffered(LIMIT.get()).try_collect().await;
    ends.ok()?.into_iter().map(Result::ok).sum()
}

async fn buffer_unordered(inputs: u64) -> Option<u64> {
    let tasks =
        stream::iter(0..inputs).map(|input| AbortOnDropHandle::new(tokio::spawn(work(input))));
    let ends = tasks.buffer_unordered(LIMIT.get());
    ends.map(|end| end.ok()?.ok())
        .fold(Some(0), async |sum, end| Some(sum? + end?))
        .await
}

async fn ordered_recipe(inputs: u64) -> Option<u64> {
    let report = batch(LIMIT, OnFailure::Stop, pending(), 0..inputs, work).await;
    report
        .into_values()
        .ok()
        .map(|values| values.into_iter().sum())
}

async fn keyed_recipe(inputs: u64) -> Option<u64> {
    let mut sum = Some(0);
    let flow = batch_keyed(LIMIT, pending(), (0..inputs).enumerate(), work, |_, end| {
        sum = sum.and_then(|sum| Some(sum + end.ok()?));
        sum.map_or(ControlFlow::Break(()), |_| ControlFlow::Continue(()))
    });
    flow.await.is_continue().then_some(())?;
    sum
}

type Form = fn(u64) -> Pin<Box<dyn Future<Output = Option<u64>> + Send>>;

const ROWS: [(&str, Form); 7] = [
    ("`JoinSet` and a map of keys", |inputs| {
        Box::pin(join_set_and_keys(inputs))
    }),
    ("`JoinSet`", |inputs| Box::pin(join_set(inputs))),
    ("`FuturesUnordered` of tasks", |inputs| {
        Box::pin(unordered(inputs))
    }),
    ("`buffered` tasks", |inputs| Box::pin(buffered(inputs))),
    ("`buffer_unordered` tasks", |inputs| {
        Box::pin(buffer_unordered(inputs))
    }),
    ("[`batch`]", |inputs| Box::pin(ordered_recipe(inputs))),
    ("[`batch::batch_keyed`]", |inputs| {
        Box::pin(keyed_recipe(inputs))
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
