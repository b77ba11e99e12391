//! # Kept sender: a receive loop that never ends
//!
//! Tasks send their results into a channel, and a loop collects them until the last sender is gone.
//! One sender is never gone: the first, of which the tasks had clones, is a variable of the very
//! function that waits. All results are there, and it waits for one more.
//!
//! ## You have it when
//! - a function, a test or a shutdown hangs at its very end, with all the work done and no CPU
//!   used;
//! - `while let Some(…) = results.recv().await` stands in the scope of the `Sender`, of a struct
//!   with one in it, or of a task that holds its own handle.
//!
//! ## What it does to you
//! - After a day the loop of three results, which had all come after 100 ms, has not ended.
//! - Neither lint nor borrow checker objects, since a `Sender` that nobody uses again is still
//!   alive until the end of its block.
//!
//! ## Use instead
//! - `work_queue`, whose `close` ends the loop though somebody keeps a clone;
//! - `close_by_drop` when it is the end that one waits for: with a limit, and the number of
//!   holders;
//! - `spawn_batch` or `join_set` when all there is to do is to collect: there is no channel to
//!   close;
//! - where a channel it must be: `drop(sender)` before the loop.

use tokio::sync::mpsc;

/// Does all jobs at once, each in a task, and returns the results as they come.
pub async fn do_all<J, R, F>(jobs: Vec<J>, work: impl Fn(J) -> F) -> Vec<R>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let (sender, mut results) = mpsc::channel(16);
    for job in jobs {
        let (sender, working) = (sender.clone(), work(job));
        tokio::spawn(async move { sender.send(working.await).await.ok() });
    }
    let mut all = Vec::new();
    while let Some(result) = results.recv().await {
        all.push(result);
    }
    all // `sender` lives until here, so this is never reached
}
