//! # A panic that nobody sees: `let _ = task.await`, `.ok()`, `unwrap_or_default()`
//!
//! A task is awaited so that it is done, and its result is in the way: a `Result` in a `Result`, the
//! outer one of which never seems to be an `Err`. So it is thrown away, and with it the only word of
//! the record that was not saved and of the panic in the code that saves.
//!
//! ## You have it when
//! - data is missing, and every log says that all went well;
//! - the only trace is a line on the standard error, `thread 'tokio-rt-worker' (4711) panicked at`,
//!   which no log collector counts as an error;
//! - sums are too low on some days, or a value is 0 that cannot be 0.
//!
//! ## What it does to you
//! - Of ten records one fails and one panics: eight are saved, and `save_all` returns as if all were.
//! - A balance that panics counts as 0: a total of 300 for accounts that hold 600.
//!
//! A bare `task.await;` is a warning of rustc, `unused_must_use`. For `let _ =` and `.ok();` there
//! are `clippy::let_underscore_must_use` and `clippy::unused_result_ok`, off by default.
//!
//! ## Use instead
//! - `task_errors`, which makes one result of the two: failed, panicked with a message, or cancelled;
//! - `spawn_batch` for a list of tasks, and `supervisor` for one that should not end at all.

/// Saves records, each in a task, and returns when all of these are done.
#[expect(
    let_underscore_drop,
    clippy::let_underscore_must_use,
    reason = "they are right, and off by default"
)]
pub async fn save_all<E, F>(saves: impl IntoIterator<Item = F>)
where
    E: Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    let tasks: Vec<_> = saves.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        let _ = task.await; // whether it came to its end, and how: neither is looked at
    }
}

/// Asks for balances, each in a task, and adds them up.
pub async fn total<E, F>(balances: impl IntoIterator<Item = F>) -> u64
where
    E: Send + 'static,
    F: Future<Output = Result<u64, E>> + Send + 'static,
{
    let tasks: Vec<_> = balances.into_iter().map(tokio::spawn).collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.ok().and_then(Result::ok).unwrap_or_default(); // unknown is not 0
    }
    total
}
