//! cargo bench -p structured --bench memory
//!
//! The memory of a run over 100,000 and over 1,000,000 inputs, 64 at a time: a row's `max alloc` is the
//! most that was allocated at once. It is the same for both but for `batch`, whose report has an end
//! for each input: 24 bytes for a `u64` and an error without fields, and up to twice that, as a `Vec`
//! grows.
//!
//! The runtime is built outside of what is counted.

use std::future::pending;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use divan::{AllocProfiler, Bencher};
use futures_util::{StreamExt, stream};
use structured::batch::{OnFailure, batch, batch_keyed};
use structured::fan_out::{Limits, Order, fan_out};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

fn main() {
    divan::main();
}

/// As a test, too few to mean anything.
fn inputs() -> [u64; 2] {
    let trial = std::env::args().any(|argument| argument == "--test");
    [100_000, 1_000_000].map(|inputs| if trial { inputs / 1_000 } else { inputs })
}

fn runtime() -> Runtime {
    match Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            std::process::exit(1)
        }
    }
}

async fn work(input: u64) -> Result<u64, ()> {
    yield_now().await;
    Ok(black_box(input))
}

#[divan::bench(args = inputs(), sample_count = 1, sample_size = 1)]
fn ordered_batch(bencher: Bencher<'_, '_>, inputs: u64) {
    bencher.with_inputs(runtime).bench_local_refs(|runtime| {
        runtime.block_on(async {
            let report = batch(LIMIT, OnFailure::Stop, pending(), 0..inputs, work).await;
            report.ends.len()
        })
    });
}

#[divan::bench(args = inputs(), sample_count = 1, sample_size = 1)]
fn keyed_batch(bencher: Bencher<'_, '_>, inputs: u64) {
    bencher.with_inputs(runtime).bench_local_refs(|runtime| {
        runtime.block_on(async {
            let mut values = 0_u64;
            let inputs = (0..inputs).map(|input| (input, input));
            let flow = batch_keyed(LIMIT, pending(), inputs, work, |_, end| {
                values += u64::from(end.is_ok());
                ControlFlow::Continue(())
            });
            (flow.await.is_continue(), values)
        })
    });
}

#[divan::bench(args = inputs(), sample_count = 1, sample_size = 1)]
fn fan_out_as_finished(bencher: Bencher<'_, '_>, inputs: u64) {
    fanned_out(bencher, inputs, Order::AsFinished);
}

#[divan::bench(args = inputs(), sample_count = 1, sample_size = 1)]
fn fan_out_as_given(bencher: Bencher<'_, '_>, inputs: u64) {
    fanned_out(bencher, inputs, Order::AsGiven);
}

fn fanned_out(bencher: Bencher<'_, '_>, inputs: u64, order: Order) {
    bencher.with_inputs(runtime).bench_local_refs(|runtime| {
        runtime.block_on(async {
            let limits = Limits {
                workers: LIMIT,
                buffer: 64,
            };
            let ends = fan_out(limits, order, stream::iter(0..inputs), work);
            ends.fold(0_u64, async |ends, _| ends + 1).await
        })
    });
}
