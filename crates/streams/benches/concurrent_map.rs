//! cargo bench -p streams --bench concurrent_map
//!
//! 64 at once, each a yield and a sum, so that what is around the work counts for more than the work.
//! The rows of an order take turns of 5,000 items, shorter than what a scheduler gives at a time; 20
//! turns are 100,000 items, and there are 400. A figure is the time for each item in a good turn, and
//! its ratio to the first row.
//!
//! *Guarded*: the bare combinator with what gives the same guarantees, by hand: each item's index, a
//! panic caught, a unit of budget spent. `JoinSet` catches panics, and its tasks may not borrow.

use std::error::Error;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use streams::concurrent_map::{Order, concurrent_map};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, coop};
use tokio::time::Instant;

const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

async fn work(number: u64) -> u64 {
    tokio::task::yield_now().await;
    number + 1
}

async fn sum(results: impl Stream<Item = u64>) -> u64 {
    let mut results = pin!(results);
    let mut sum = 0;
    while let Some(result) = results.next().await {
        sum += result;
    }
    sum
}

async fn buffer_unordered(items: u64) -> u64 {
    sum(stream::iter(0..items)
        .map(work)
        .buffer_unordered(LIMIT.get()))
    .await
}

async fn buffered(items: u64) -> u64 {
    sum(stream::iter(0..items).map(work).buffered(LIMIT.get())).await
}

async fn futures_unordered(items: u64) -> u64 {
    let mut inputs = 0..items;
    let mut running: FuturesUnordered<_> = inputs.by_ref().take(LIMIT.get()).map(work).collect();
    let mut sum = 0;
    while let Some(result) = running.next().await {
        sum += result;
        running.extend(inputs.next().map(work));
    }
    sum
}

async fn join_set(items: u64) -> u64 {
    let mut inputs = 0..items;
    let mut running: JoinSet<_> = inputs.by_ref().take(LIMIT.get()).map(work).collect();
    let mut sum = 0;
    while let Some(result) = running.join_next().await {
        sum += result.unwrap_or_default();
        if let Some(input) = inputs.next() {
            running.spawn(work(input));
        }
    }
    sum
}

/// The work as it is in the guarded rows.
async fn guarded((index, number): (usize, u64)) -> Result<u64, usize> {
    coop::consume_budget().await;
    // A block of its own, for the panics before the work is a future and when that is dropped.
    let result = AssertUnwindSafe(async move { work(number).await });
    let result = result.catch_unwind().await;
    result.map_err(|_| index)
}

async fn guarded_buffer_unordered(items: u64) -> u64 {
    let work = stream::iter(0..items).enumerate().map(guarded);
    sum(work
        .buffer_unordered(LIMIT.get())
        .map(Result::unwrap_or_default))
    .await
}

async fn guarded_buffered(items: u64) -> u64 {
    let work = stream::iter(0..items).enumerate().map(guarded);
    sum(work.buffered(LIMIT.get()).map(Result::unwrap_or_default)).await
}

async fn recipe(order: Order, items: u64) -> u64 {
    let results = concurrent_map(LIMIT, order, stream::iter(0..items), work);
    sum(results.map(Result::unwrap_or_default)).await
}

async fn recipe_during(order: Order, items: u64) -> u64 {
    let mut results = concurrent_map(LIMIT, order, stream::iter(0..items), work);
    let mut sum = 0;
    while let Some(result) = results.next().await {
        results
            .during(async { sum += result.unwrap_or_default() })
            .await;
    }
    sum
}

type Run = Pin<Box<dyn Future<Output = u64>>>;
type Row = (&'static str, fn(u64) -> Run);

const BY_ENDS: [Row; 6] = [
    ("`buffer_unordered`, guarded", |items| {
        Box::pin(guarded_buffer_unordered(items))
    }),
    ("[`concurrent_map`] by ends", |items| {
        Box::pin(recipe(Order::Ends, items))
    }),
    ("the same, with `during`", |items| {
        Box::pin(recipe_during(Order::Ends, items))
    }),
    ("`buffer_unordered`, bare", |items| {
        Box::pin(buffer_unordered(items))
    }),
    ("`FuturesUnordered`, bare", |items| {
        Box::pin(futures_unordered(items))
    }),
    ("`JoinSet`, a task for each", |items| {
        Box::pin(join_set(items))
    }),
];

const BY_INPUTS: [Row; 4] = [
    ("`buffered`, guarded", |items| {
        Box::pin(guarded_buffered(items))
    }),
    ("[`concurrent_map`] by inputs", |items| {
        Box::pin(recipe(Order::Inputs, items))
    }),
    ("the same, with `during`", |items| {
        Box::pin(recipe_during(Order::Inputs, items))
    }),
    ("`buffered`, bare", |items| Box::pin(buffered(items))),
];

fn main() -> Result<(), Box<dyn Error>> {
    let trial = std::env::args().any(|argument| argument == "--test");
    let (rounds, items) = if trial { (1, 1_000) } else { (400, 5_000) };
    println!(
        "| {} items, {LIMIT} at once | ns for each | ratio |",
        rounds * items
    );
    println!("| --- | ---: | ---: |");
    let runtime = Builder::new_current_thread().build()?;
    for rows in [BY_ENDS.as_slice(), BY_INPUTS.as_slice()] {
        let mut times = vec![Vec::new(); rows.len()];
        for _ in 0..rounds {
            for ((name, run), times) in rows.iter().zip(&mut times) {
                let started = Instant::now();
                let total = runtime.block_on(run(items));
                times.push(started.elapsed().as_nanos() as f64 / items as f64);
                if total != items * (items + 1) / 2 {
                    return Err(format!("{name} lost an item").into());
                }
            }
        }
        let times: Vec<f64> = times.into_iter().map(tenth).collect();
        for ((name, _), time) in rows.iter().zip(&times) {
            let ratio = time / times.first().copied().unwrap_or(f64::NAN);
            println!("| {name} | {time:.0} | {ratio:.2} |");
        }
    }
    Ok(())
}

/// A tenth of them are less. What else the machine does makes a turn longer, and none shorter.
fn tenth(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 10).copied().unwrap_or(f64::NAN)
}
