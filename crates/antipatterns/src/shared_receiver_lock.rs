//! # Shared receiver: a lock that is held while the body runs
//!
//! An mpsc receiver cannot be cloned, so the workers share it behind a `Mutex`, and each takes its
//! jobs with `while let`. The lock's guard is a temporary of the `while let`, and lives until the
//! end of its body. One worker works; the others wait for the lock.
//!
//! ## You have it when
//! - more workers make nothing faster, and the task list shows them all waiting for one lock;
//! - `jobs.lock().await.recv().await` stands in a `while let`, an `if let` or a `match`, and the
//!   work in its body. Of the lints, `clippy::significant_drop_in_scrutinee` finds the like with a
//!   lock of std, and does not find this.
//!
//! ## What it does to you
//! - 8 jobs of 100 ms and 4 workers: 800 ms, one job at a time, instead of 200 ms.
//! - It works for one worker, and each job is done once, so its test passes.
//!
//! ## Use instead
//! - `work_queue`, which lets go of the lock before the work begins, and gives the results back;
//! - in your own loop a line of its own, `let job = jobs.lock().await.recv().await;`: a `let` drops
//!   its temporaries where it ends.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

/// Starts so many workers, which do the jobs until there are no more.
pub fn start_workers<J, F>(
    workers: usize,
    jobs: Receiver<J>,
    work: impl Fn(J) -> F + Clone + Send + 'static,
) -> JoinSet<()>
where
    J: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let jobs = Arc::new(Mutex::new(jobs));
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (jobs, work) = (Arc::clone(&jobs), work.clone());
        tasks.spawn(async move {
            while let Some(job) = jobs.lock().await.recv().await {
                work(job).await; // the lock is still held
            }
        });
    }
    tasks
}
