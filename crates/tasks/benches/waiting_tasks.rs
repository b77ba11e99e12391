//! What a task costs while it waits: the memory of 1,000 tasks that are spawned and wait for a
//! message that does not come. Read the bytes at `max alloc`, by a thousand.
//!
//! The second argument is what the task keeps across its await, in bytes: a future is as large as
//! what it remembers, and a task is one allocation with its future in it.

use divan::{AllocProfiler, Bencher, black_box};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const TASKS: usize = 1_000;

fn main() {
    divan::main();
}

#[divan::bench(consts = [0, 1024])]
#[expect(
    clippy::expect_used,
    reason = "a benchmark without its runtime has nothing to do"
)]
fn thousand_waiting_tasks<const KEEPS: usize>(bencher: Bencher<'_, '_>) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let sender = watch::Sender::new(());
    bencher.bench_local(|| {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..TASKS {
                let mut never = sender.subscribe();
                tasks.spawn(async move {
                    let kept = black_box([0_u8; KEEPS]);
                    never.changed().await.ok();
                    kept
                });
            }
            tokio::task::yield_now().await;
            tasks.len()
        })
    });
}
