//! # Unbounded queue: mpsc::unbounded_channel
//!
//! Events go to a task that writes them, jobs to one that does them. The bounded channel wants a
//! number, its `send` wants an await that a callback or a `Drop` does not have, and sometimes it
//! was full. The unbounded one wants nothing: `send` always works, until the worker is slower for a
//! while.
//!
//! ## You have it when
//! - the process grows by so many megabytes a minute under load, and is killed (`OOMKilled`, exit
//!   code 137) at the worst time;
//! - everything succeeds, later and later, long after its caller has given up;
//! - no error, no rejected request and no lint: none but `disallowed_methods`, if you set it up.
//!
//! ## What it does to you
//! - A loop that sends 100,000 jobs has all of them in memory before the first is done; each `send`
//!   said `Ok`.
//! - A worker that takes 20 ms for what comes each 10 ms is behind by 3,000 jobs after a minute.
//!   With 100 KiB each that is 300 MB.
//! - The job sent then is done 60 s later. All of a minute's work is late, and none of it fails.
//! - What is queued at the end of the program is gone: of 3,000 jobs none was done.
//!
//! ## Use instead
//! - `work_queue`: a bound that makes the producer wait, a number of workers, each outcome told;
//! - `load_shedding` if the producer cannot wait: it says no, and what was dropped is counted.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Starts a worker and returns where its jobs go. `send` never waits.
#[expect(
    clippy::disallowed_methods,
    reason = "clippy.toml of this workspace forbids it, and is right"
)]
pub fn start_worker<J, F>(mut handle: impl FnMut(J) -> F + Send + 'static) -> UnboundedSender<J>
where
    J: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (jobs, mut queue) = unbounded_channel(); // the whole rest of the memory
    tokio::spawn(async move {
        while let Some(job) = queue.recv().await {
            handle(job).await;
        }
    });
    jobs
}
