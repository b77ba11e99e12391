//! What a set holds that nobody reads.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::ready;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use antipatterns::unreaped_join_set::Connections;
use tasks::join_set::{TaskError, TaskSet};
use tokio::select;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

/// What a connection leaves behind: as many as there are clones.
type Memory = Arc<()>;

#[tokio::test(start_paused = true)]
async fn harm_a_hundred_thousand_that_have_ended_are_still_held() {
    let memory = Memory::default();
    let mut connections = Connections::new(usize::MAX);
    for _ in 0..100 {
        for _ in 0..1_000 {
            let left = Arc::clone(&memory);
            assert!(connections.serve(async { left }));
        }
        sleep(MS).await; // these have ended
    }
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(connections.open(), 100_000, "of which none is open");
    assert_eq!(Arc::strong_count(&memory) - 1, 100_000);
}

#[tokio::test(start_paused = true)]
async fn harm_a_limit_refuses_everybody_once_so_many_have_come() {
    let mut connections = Connections::new(1_000);
    for _ in 0..1_000 {
        assert!(connections.serve(sleep(MS)));
        sleep(2 * MS).await; // one at a time
    }
    assert!(!connections.serve(sleep(MS)));
    sleep(Duration::from_secs(3_600)).await;
    assert!(!connections.serve(sleep(MS)), "while none is open");
}

#[tokio::test(start_paused = true)]
async fn harm_a_panic_is_heard_at_the_shutdown() {
    let started = Instant::now();
    let mut connections = Connections::new(1_000);
    assert!(connections.serve(async { panic!("at the first second") }));
    sleep(Duration::from_secs(3_600)).await; // nothing tells of it, and nothing can be asked
    let ends: Vec<Result<(), _>> = connections.shut_down().await;
    assert!(ends[0].as_ref().unwrap_err().is_panic());
    assert_eq!(started.elapsed(), Duration::from_secs(3_600));
}

#[tokio::test(start_paused = true)]
async fn mended_ends_are_read_beside_the_accept_and_the_limit_counts_who_is_open() {
    let memory = Memory::default();
    let mut tasks = TaskSet::new(NonZeroUsize::new(10).unwrap());
    let (mut served, mut panics, mut most) = (0, 0, 0);
    while served < 10_000 {
        select! {
            Some(ended) = tasks.next() => {
                panics += u32::from(matches!(ended.result, Err(TaskError::Panicked { .. })));
            }
            () = ready(()), if !tasks.is_full() => {
                let left = Arc::clone(&memory);
                let connection = async move {
                    assert_ne!(served, 7, "at the eighth");
                    left
                };
                tasks.spawn(served, connection).unwrap();
                served += 1;
            }
        }
        most = most.max(Arc::strong_count(&memory) - 1);
    }
    assert!(most <= 10, "{most}");
    assert_eq!(panics, 1, "heard as it came");
}
