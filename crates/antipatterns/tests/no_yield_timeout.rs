//! What a limit does to code that never waits.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use antipatterns::no_yield_timeout::{find_in_stream_within, find_within};
use futures_util::{FutureExt, stream};
use runtime::cpu_offload::CpuPool;
use timers::deadline::Deadline;
use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, consume_budget, yield_now};
use tokio::time::{Instant, advance, timeout};
use tokio_util::sync::CancellationToken;

const MILLION: u32 = 1_000_000;
const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(60);
const HUNG: i32 = 42;

#[tokio::test]
async fn harm_with_a_limit_of_zero_a_million_candidates_are_looked_at() {
    let mut seen = 0;
    let found = find_within(Duration::ZERO, 1..=MILLION, |candidate| {
        seen += 1;
        *candidate == MILLION
    });
    assert_eq!(found.await, Ok(Some(MILLION)), "no `Elapsed`");
    assert_eq!(seen, MILLION);
}

#[tokio::test]
async fn harm_awaits_of_what_is_ready_change_nothing() {
    let mut seen = 0;
    let found = find_in_stream_within(Duration::ZERO, stream::iter(1..=MILLION), |candidate| {
        seen += 1;
        *candidate == MILLION
    });
    assert_eq!(found.await, Ok(Some(MILLION)), "no `Elapsed`");
    assert_eq!(seen, MILLION);
}

#[tokio::test]
async fn harm_awaits_of_what_is_ready_let_no_abort_in() {
    for yields_at_the_end in [false, true] {
        let handle = Arc::new(OnceLock::<AbortHandle>::new());
        let aborted = Arc::clone(&handle);
        let task = tokio::spawn(async move {
            let all = stream::iter(1..=MILLION);
            let search = find_in_stream_within(LIMIT, all, |candidate| {
                aborted.get().unwrap().abort();
                *candidate == MILLION
            });
            let found = search.await;
            if yields_at_the_end {
                yield_now().await;
            }
            found
        });
        handle.set(task.abort_handle()).unwrap();
        let ended = task.await;
        if yields_at_the_end {
            assert!(ended.unwrap_err().is_cancelled(), "there it gets in");
        } else {
            assert_eq!(ended.unwrap(), Ok(Some(MILLION)), "aborted at the first");
        }
    }
}

/// Computes for a millisecond: moves the clock, and awaits nothing.
fn compute() {
    assert!(advance(MS).now_or_never().is_none(), "it would yield");
}

#[tokio::test(start_paused = true)]
async fn harm_a_limit_that_passed_long_ago_is_no_error() {
    let started = Instant::now();
    let found = find_within(100 * MS, 1..=1_000, |candidate| {
        compute();
        *candidate == 1_000
    });
    assert_eq!(found.await, Ok(Some(1_000)), "no `Elapsed`");
    assert_eq!(started.elapsed(), 1_000 * MS);
}

/// It ends with the process only, so it has one of its own.
#[test]
fn harm_what_has_no_end_is_not_ended() {
    if std::env::var_os("NO_YIELD_TIMEOUT").is_some() {
        std::thread::spawn(|| {
            let (_kept, silence) = sync_channel::<()>(1);
            let waited = silence.recv_timeout(Duration::from_secs(2));
            assert_eq!(waited, Err(RecvTimeoutError::Timeout));
            std::process::exit(HUNG);
        });
        let runtime = Runtime::new().unwrap();
        let search = find_within(MS, std::iter::repeat(0), |it| *it > 0);
        drop(runtime.block_on(runtime.spawn(search)));
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "harm_what_has_no_end_is_not_ended",
        "--nocapture",
    ]);
    child.env("NO_YIELD_TIMEOUT", "1");
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(HUNG));
}

#[tokio::test(start_paused = true)]
async fn mended_a_loop_that_consumes_budget_is_cut_off() {
    let started = Instant::now();
    let search = async {
        for _ in 1..=1_000 {
            compute();
            consume_budget().await;
        }
    };
    let deadline = Deadline::within("search", 100 * MS);
    deadline.run("search", search).await.unwrap_err();
    // The rest of the turn in which the deadline came, and the whole of the next.
    assert!(started.elapsed() <= 356 * MS, "{:?}", started.elapsed());
}

#[tokio::test]
async fn mended_a_job_on_another_thread_is_left_in_time_and_told() {
    let pool = CpuPool::new(NonZeroUsize::MIN);
    let (tell, told) = sync_channel(1);
    let job = pool.run(move |left: &CancellationToken| {
        while !left.is_cancelled() {}
        tell.send(()).unwrap();
    });
    timeout(20 * MS, job).await.unwrap_err();
    assert_eq!(
        told.recv_timeout(Duration::from_secs(60)),
        Ok(()),
        "it stopped"
    );
}
