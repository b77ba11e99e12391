//! The times in the table of the section page.

use std::time::Duration;

use divan::Bencher;
use runtime::cpu_offload::CpuPool;
use runtime::sync_bridge::{AsyncThread, call_blocking};
use tokio::runtime::Builder;

const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    divan::main();
}

#[divan::bench]
fn start_and_leave_multi_thread_2() {
    drop(
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build(),
    );
}

#[divan::bench]
fn start_and_leave_current_thread() {
    drop(Builder::new_current_thread().enable_all().build());
}

#[divan::bench]
#[expect(
    clippy::expect_used,
    reason = "a benchmark without its thread has nothing to do"
)]
fn async_thread_call(bencher: Bencher<'_, '_>) {
    let bridge = AsyncThread::start("bridge").expect("a thread");
    bencher.bench_local(|| bridge.call(LIMIT, async { 1 }));
}

#[divan::bench]
#[expect(
    clippy::expect_used,
    reason = "a benchmark without its runtime has nothing to do"
)]
fn call_blocking_from_a_task(bencher: Bencher<'_, '_>) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    bencher.bench_local(|| runtime.block_on(call_blocking(|_| 1)));
}

#[divan::bench]
#[expect(
    clippy::expect_used,
    reason = "a benchmark without its runtime has nothing to do"
)]
fn cpu_pool_run(bencher: Bencher<'_, '_>) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let pool = CpuPool::per_core();
    bencher.bench_local(|| runtime.block_on(pool.run(|_| 1)));
}
