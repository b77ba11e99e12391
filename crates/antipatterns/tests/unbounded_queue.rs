//! How much an unbounded queue holds, and for how long.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antipatterns::unbounded_queue::start_worker;
use channels::work_queue::{Limits, work_queue};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);
/// The jobs of a minute, one each 10 ms.
const MINUTE: usize = 6_000;

/// What a job holds in memory: as many as there are clones.
type Memory = Arc<()>;

/// Jobs in memory.
fn held(memory: &Memory) -> usize {
    Arc::strong_count(memory) - 1
}

#[tokio::test(start_paused = true)]
async fn harm_a_loop_that_sends_has_it_all_in_memory() {
    let memory = Memory::default();
    let jobs = start_worker(|_: Memory| sleep(MS));
    for _ in 0..100_000 {
        jobs.send(Arc::clone(&memory)).unwrap();
    }
    assert_eq!(held(&memory), 100_000);
}

#[tokio::test(start_paused = true)]
async fn harm_a_worker_half_as_fast_is_behind_by_half_of_all_jobs_and_by_a_minute() {
    let memory = Memory::default();
    let late = Arc::new(Mutex::new(Duration::ZERO));
    let latest = Arc::clone(&late);
    let jobs = start_worker(move |(_held, sent): (Memory, Instant)| {
        let latest = Arc::clone(&latest);
        async move {
            sleep(20 * MS).await;
            *latest.lock().unwrap() = sent.elapsed();
        }
    });
    for _ in 0..MINUTE {
        jobs.send((Arc::clone(&memory), Instant::now())).unwrap();
        sleep(10 * MS).await;
    }
    assert!(held(&memory).abs_diff(3_000) <= 1, "{}", held(&memory));
    // Nothing more comes, and it takes another minute to be done with it.
    while held(&memory) > 0 {
        sleep(10 * MS).await;
    }
    let late = *late.lock().unwrap();
    assert!(
        late.abs_diff(Duration::from_secs(60)) <= 50 * MS,
        "{late:?}"
    );
}

#[test]
fn harm_what_is_queued_at_the_end_of_main_is_gone() {
    let done = Arc::new(AtomicUsize::new(0));
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let count = Arc::clone(&done);
        let jobs = start_worker(move |()| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        });
        for _ in 0..3_000 {
            jobs.send(()).unwrap();
        }
    });
    drop(runtime);
    assert_eq!(done.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn mended_the_producer_waits_and_the_queue_is_as_long_as_was_said() {
    let memory = Memory::default();
    let limits = Limits {
        workers: NonZeroUsize::MIN,
        capacity: NonZeroUsize::new(100).unwrap(),
    };
    let (queue, mut outcomes) = work_queue(limits, |(_held, sent): (Memory, Instant)| async move {
        sleep(20 * MS).await;
        sent.elapsed()
    });
    let reader = tokio::spawn(async move {
        let (mut count, mut latest) = (0, Duration::ZERO);
        while let Some(outcome) = outcomes.next().await {
            latest = latest.max(outcome.result.unwrap());
            count += 1;
        }
        (count, latest)
    });
    let mut most = 0;
    for _ in 0..MINUTE {
        let job = (Arc::clone(&memory), Instant::now());
        queue.push(job).await.unwrap();
        most = most.max(held(&memory));
        sleep(10 * MS).await;
    }
    drop(queue);
    let (count, latest) = reader.await.unwrap();
    assert_eq!(count, MINUTE, "every job was done");
    assert!(
        most <= 102,
        "{most} at once: 100 wait, one runs, one is new"
    );
    assert!(latest <= 2_050 * MS, "{latest:?}");
}
