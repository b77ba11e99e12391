//! # Unbounded spawn_blocking: a blocking task for each input
//!
//! Two thousand images want a thumbnail, each 50 ms of a core. So as not to block a worker, each is
//! given to `spawn_blocking`, all in one loop. That is the right call, and it has no limit: tokio
//! starts a thread for each, hundreds of them, for work that four cores do.
//!
//! ## You have it when
//! - the process has some 520 threads (`ls /proc/PID/task | wc -l`), nearly all `tokio-rt-worker`;
//! - while such a batch runs, names and files stand still: `connect` to a host's name, `lookup_host`
//!   and `tokio::fs` time out although network and disk are idle;
//! - the batch goes on after its request was given up.
//!
//! ## What it does to you
//! - 2,000 jobs run on 512 threads at once, each with a stack, and in turn on each core.
//! - Behind them the line is full: `tokio::fs::metadata` and `lookup_host`, which need such a
//!   thread too, wait until jobs are done.
//! - When the caller is dropped, no job is: all 2,000 are done for nobody.
//!
//! ## Use instead
//! - `cpu_offload`: as many jobs at once as there are cores, the others wait in turn, and what
//!   nobody waits for is not begun;
//! - `hash_file` for blocking work on files, with `spawn_batch` around it as the limit.

use std::sync::Arc;

use tokio::task::{JoinError, spawn_blocking};

/// Calls `work` with each input, beside the workers, and returns the results in their order.
///
/// # Errors
///
/// `JoinError` if one panics.
pub async fn map_blocking<I, T>(
    inputs: Vec<I>,
    work: impl Fn(I) -> T + Send + Sync + 'static,
) -> Result<Vec<T>, JoinError>
where
    I: Send + 'static,
    T: Send + 'static,
{
    let work = Arc::new(work);
    let mut jobs = Vec::new();
    for input in inputs {
        let work = Arc::clone(&work);
        jobs.push(spawn_blocking(move || work(input))); // takes a thread at once, if there are 512
    }
    let mut results = Vec::new();
    for job in jobs {
        results.push(job.await?);
    }
    Ok(results)
}
