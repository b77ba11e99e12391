//! cargo bench -p timers --bench memory
//!
//! The memory of timers that wait: a row's `max alloc` is that of all its timers together, so with
//! 1,000 of them its KB are also the bytes of each, and with 100,000 its MB times ten.
//!
//! `in_one_task`: a `Vec` of boxed `Sleep`s, each polled once. `in_tasks`: a spawned task for each
//! timer that awaits `sleep`, one that awaits `Deadline::run`, and, to compare, one that awaits what
//! never comes. The wheel that keeps the timers is made with the runtime, outside of what is counted,
//! and takes no more memory for more of them: they are linked, and lie where their futures lie.
//!
//! What a `Sleep` takes inside another future is printed before the rows.

use std::future::pending;
use std::time::Duration;

use divan::{AllocProfiler, Bencher, black_box};
use futures_util::poll;
use timers::deadline::Deadline;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{Interval, Sleep, Timeout, sleep};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Longer than the benchmark takes.
const LONG: Duration = Duration::from_secs(3_600);

fn main() {
    println!("Sleep: {} bytes", size_of::<Sleep>());
    println!("Timeout: {} bytes and its work", size_of::<Timeout<()>>());
    println!("Interval: {} bytes and a Sleep", size_of::<Interval>());
    println!("Deadline: {} bytes", size_of::<Deadline>());
    divan::main();
}

fn runtime() -> Runtime {
    match Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            std::process::exit(1)
        }
    }
}

#[divan::bench(args = [1_000, 100_000], sample_count = 10, sample_size = 1)]
fn in_one_task(bencher: Bencher<'_, '_>, timers: usize) {
    bencher.with_inputs(runtime).bench_local_refs(|runtime| {
        runtime.block_on(async {
            let mut sleeps = Vec::with_capacity(timers);
            for _ in 0..timers {
                sleeps.push(Box::pin(sleep(LONG)));
            }
            for (number, sleep) in sleeps.iter_mut().enumerate() {
                if number % 100 == 0 {
                    yield_now().await; // without budget a poll would not register the timer
                }
                black_box(poll!(sleep.as_mut()).is_ready());
            }
        });
    });
}

#[divan::bench_group(sample_count = 20, sample_size = 1)]
mod in_tasks {
    use super::*;

    const TASKS: usize = 1_000;

    /// Spawns the tasks and gives each its first turn.
    fn spawned<F>(bencher: Bencher<'_, '_>, wait: impl Fn() -> F + Sync)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        bencher.with_inputs(runtime).bench_local_refs(|runtime| {
            runtime.block_on(async {
                for _ in 0..TASKS {
                    tokio::spawn(wait());
                }
                for _ in 0..TASKS / 32 {
                    yield_now().await;
                }
            });
        });
    }

    #[divan::bench]
    fn no_timer(bencher: Bencher<'_, '_>) {
        spawned(bencher, pending);
    }

    #[divan::bench]
    fn sleeping(bencher: Bencher<'_, '_>) {
        spawned(bencher, || sleep(LONG));
    }

    #[divan::bench]
    fn with_a_deadline(bencher: Bencher<'_, '_>) {
        spawned(bencher, || async {
            let deadline = Deadline::within("bench", LONG);
            black_box(deadline.run("wait", pending::<()>()).await.is_ok());
        });
    }
}
