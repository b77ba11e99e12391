//! # Detached by a question mark: `task.await??`, `try_join_all` over handles
//!
//! Tasks are spawned, their handles kept and awaited. At the first error the question mark returns,
//! and the handles that are left are dropped. To drop a handle does not stop its task: it takes away
//! the last means to stop it, or to hear how it ended.
//!
//! ## You have it when
//! - after a failed request its work goes on: rows that should have been rolled back are written;
//! - a retry finds its own first try still at work, and two of them write the same file;
//! - the number of tasks grows with the number of errors.
//!
//! ## What it does to you
//! - Ten uploads, the first of which fails at once: the caller has the error, and afterwards the
//!   other nine are done, each of them, for nobody.
//! - A time limit around it is the same: `timeout` drops the handles, and ten uploads are done.
//! - An error of the last task waits for the tasks before it: known after 10 ms, told after 1 s.
//! - `try_join_all(tasks)` returns at the first panic alone, since an error is an `Ok(Err(…))` to it.
//!   Made to see errors, as below, it tells of them in time, and leaves the rest running as well.
//!
//! ## Use instead
//! - `batch`: the first failure stops the others, and when it returns none of them is running;
//! - a `JoinSet` instead of handles, whose drop aborts its tasks: `join_set`, or `scope` for more.

use std::error::Error;

use futures_util::future::try_join_all;

/// Uploads files, each in a task.
///
/// # Errors
///
/// The first one in the order of the uploads, a task's or an upload's.
pub async fn upload_all<T, E, F>(
    uploads: impl IntoIterator<Item = F>,
) -> Result<Vec<T>, Box<dyn Error + Send + Sync>>
where
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let tasks: Vec<_> = uploads.into_iter().map(tokio::spawn).collect();
    let mut uploaded = Vec::new();
    for task in tasks {
        uploaded.push(task.await??); // the tasks that are left run on, and nobody has them any more
    }
    Ok(uploaded)
}

/// The same, with the error that comes first.
///
/// # Errors
///
/// The first one in time.
pub async fn upload_all_at_once<T, E, F>(
    uploads: impl IntoIterator<Item = F>,
) -> Result<Vec<T>, Box<dyn Error + Send + Sync>>
where
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let tasks = uploads.into_iter().map(tokio::spawn);
    try_join_all(tasks.map(async |task| Ok(task.await??))).await // so do these
}
