//! cargo bench -p tasks
//!
//! `batch`: the time for 10,000 inputs, 64 at a time, whose work yields once. `spawn_batch` against
//! a bare `JoinSet` that does the same by hand: the limit, and the results in the order of the
//! inputs. What `spawn_batch` does besides: it catches panics and keeps them in their places. The
//! target is at most 5 % over the bare set.
//!
//! `waiting`: the memory of 1,000 tasks that wait, so that a row's `max alloc` in KB is also its
//! bytes per task. The tasks' future is 64 bytes and a flag. `spawned` is tokio's own cost;
//! `joined` adds a `JoinSet`, `keyed` the keys and the handles of `join_set`, and `batch` the
//! places of the results. The runtime is built outside of what is counted.

use std::num::NonZeroUsize;
use std::pin::pin;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use futures_util::poll;
use tasks::join_set::TaskSet;
use tasks::spawn_batch::spawn_batch;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
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

#[divan::bench_group(sample_count = 400, sample_size = 1)]
mod batch {
    use super::*;

    const INPUTS: u32 = 10_000;
    const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

    async fn work(input: u32) -> u32 {
        yield_now().await;
        black_box(input)
    }

    async fn by_hand() -> Vec<Option<u32>> {
        async fn store_next(tasks: &mut JoinSet<(usize, u32)>, results: &mut [Option<u32>]) {
            if let Some(Ok((index, result))) = tasks.join_next().await
                && let Some(place) = results.get_mut(index)
            {
                *place = Some(result);
            }
        }
        let mut tasks = JoinSet::new();
        let mut results = Vec::new();
        for (index, input) in (0..INPUTS).enumerate() {
            results.push(None);
            tasks.spawn(async move { (index, work(input).await) });
            while tasks.len() >= LIMIT.get() {
                store_next(&mut tasks, &mut results).await;
            }
        }
        while !tasks.is_empty() {
            store_next(&mut tasks, &mut results).await;
        }
        results
    }

    #[divan::bench]
    fn bare_join_set(bencher: Bencher<'_, '_>) {
        let runtime = runtime();
        let bencher = bencher.counter(ItemsCount::new(INPUTS));
        bencher.bench_local(|| runtime.block_on(by_hand()));
    }

    #[divan::bench]
    fn spawn_batch(bencher: Bencher<'_, '_>) {
        let runtime = runtime();
        let bencher = bencher.counter(ItemsCount::new(INPUTS));
        bencher.bench_local(|| runtime.block_on(super::spawn_batch(LIMIT, 0..INPUTS, work)));
    }
}

#[divan::bench_group(sample_count = 20, sample_size = 1)]
mod waiting {
    use super::*;

    const TASKS: usize = 1_000;

    async fn wait() {
        let held = black_box([0_u8; 64]);
        std::future::pending::<()>().await;
        black_box(&held);
    }

    /// Gives each task its first turn.
    async fn turns() {
        for _ in 0..TASKS / 32 {
            yield_now().await;
        }
    }

    #[divan::bench]
    fn spawned(bencher: Bencher<'_, '_>) {
        bencher.with_inputs(runtime).bench_local_refs(|runtime| {
            runtime.block_on(async {
                for _ in 0..TASKS {
                    tokio::spawn(wait());
                }
                turns().await;
            });
        });
    }

    #[divan::bench]
    fn joined(bencher: Bencher<'_, '_>) {
        bencher.with_inputs(runtime).bench_local_refs(|runtime| {
            runtime.block_on(async {
                let _tasks: JoinSet<_> = (0..TASKS).map(|_| wait()).collect();
                turns().await;
            });
        });
    }

    #[divan::bench]
    fn keyed(bencher: Bencher<'_, '_>) {
        bencher.with_inputs(runtime).bench_local_refs(|runtime| {
            runtime.block_on(async {
                let mut tasks = TaskSet::new(NonZeroUsize::MAX);
                for key in 0..TASKS {
                    black_box(tasks.spawn(key, wait()).is_ok());
                }
                turns().await;
            });
        });
    }

    #[divan::bench]
    fn batch(bencher: Bencher<'_, '_>) {
        bencher.with_inputs(runtime).bench_local_refs(|runtime| {
            runtime.block_on(async {
                let mut batch = pin!(spawn_batch(NonZeroUsize::MAX, 0..TASKS, |_| wait()));
                for _ in 0..TASKS / 32 {
                    black_box(poll!(batch.as_mut()).is_ready());
                    yield_now().await;
                }
            });
        });
    }
}
