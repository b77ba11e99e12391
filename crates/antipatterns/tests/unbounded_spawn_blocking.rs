//! How many threads a loop of blocking tasks takes, and from whom.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use antipatterns::unbounded_spawn_blocking::map_blocking;
use runtime::cpu_offload::CpuPool;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const JOBS: usize = 2_000;
/// For what never comes.
const WHILE: Duration = Duration::from_millis(100);
/// For what comes, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

/// Jobs that run until the gate is open.
#[derive(Default)]
struct Gate {
    begun: AtomicUsize,
    ended: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn job(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Waits until so many have begun or ended, and a while for more.
    async fn reaches(count: &AtomicUsize, number: usize) -> usize {
        let reached = async {
            while count.load(Ordering::SeqCst) < number {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, reached).await.unwrap();
        sleep(WHILE).await;
        count.load(Ordering::SeqCst)
    }
}

#[cfg(target_os = "linux")]
fn threads_of_this_process() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test]
async fn harm_two_thousand_jobs_take_512_threads_and_files_and_names_wait() {
    let gate = Arc::new(Gate::default());
    let jobs = Arc::clone(&gate);
    let all = tokio::spawn(map_blocking(vec![(); JOBS], move |()| jobs.job()));
    assert_eq!(Gate::reaches(&gate.begun, 512).await, 512);
    #[cfg(target_os = "linux")]
    assert!(threads_of_this_process() > 512);

    let file = timeout(WHILE, tokio::fs::metadata(".")).await;
    file.expect_err("no thread is left for it");
    let name = timeout(WHILE, lookup_host("localhost:80")).await;
    assert!(name.is_err(), "no thread is left for it");

    gate.open();
    assert_eq!(all.await.unwrap().unwrap().len(), JOBS);
}

#[tokio::test]
async fn harm_a_caller_who_leaves_stops_no_job() {
    let gate = Arc::new(Gate::default());
    let jobs = Arc::clone(&gate);
    let all = map_blocking(vec![(); JOBS], move |()| jobs.job());
    timeout(WHILE, all).await.unwrap_err();
    gate.open();
    assert_eq!(Gate::reaches(&gate.ended, JOBS).await, JOBS);
}

#[tokio::test]
async fn mended_two_run_files_are_read_meanwhile_and_what_nobody_wants_is_not_begun() {
    let gate = Arc::new(Gate::default());
    let pool = CpuPool::new(NonZeroUsize::new(2).unwrap());
    let mut jobs = JoinSet::new();
    for _ in 0..JOBS {
        let (gate, pool) = (Arc::clone(&gate), pool.clone());
        jobs.spawn(async move { pool.run(move |_| gate.job()).await });
    }
    assert_eq!(Gate::reaches(&gate.begun, 2).await, 2);
    let file = timeout(LIMIT, tokio::fs::metadata(".")).await;
    file.expect("there is a thread for it").unwrap();

    jobs.shutdown().await;
    gate.open();
    assert_eq!(Gate::reaches(&gate.ended, 2).await, 2);
}
