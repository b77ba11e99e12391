//! # Current-thread runtime: LocalRuntime, for a command-line tool
//!
//! A tool that waits for a few things at once needs no second thread, and no `Send` and `Arc` for
//! state that never leaves this one. It needs to end when its work has ended, though a thread
//! still waits for a line on standard input.
//!
//! ## Use it when
//! - the program is a command-line tool, a client, or one of many threads with a loop of its own;
//! - tasks share state through `Rc` and `RefCell`.
//!
//! ## Use something else when
//! - `#[tokio::main(flavor = "local")]` is enough: the same runtime, with no limit at the end;
//! - it serves many clients, or computes: `multi_thread`, with `cpu_offload` for the computing;
//! - a runtime is there already: `tokio::task::LocalSet` runs local tasks within it;
//! - there are many local tasks to keep account of: `local_tasks`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `tokio::spawn` demands `Send` here too, although no other thread will run the task. Tasks with
//!   an `Rc` go into `tokio::task::spawn_local`, which panics on a runtime that is not local, such
//!   as that of `#[tokio::main(flavor = "current_thread")]`.
//!
//!   ```compile_fail,E0277
//!   let shared = std::rc::Rc::new(7);
//!   tokio::spawn(async move { shared });
//!   ```
//! - One thread is no promise of order. Of the branches that are ready, `select!` picks one at
//!   random: `shutdown_first` shows `biased;`.
//! - Whatever blocks or computes stops every task, timers included.
//! - When the future given to [`run`] ends, tasks that still run are dropped, not waited for. Await
//!   their handles.
//! - `shutdown_timeout` drops the tasks after it has waited, so a blocking closure that waits for a
//!   task to go away costs the whole limit.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, Handle, LocalOptions};

/// The future was not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// This thread has a runtime, and another may not block it: await the future there.
    #[error("this thread already has a runtime")]
    InsideRuntime,
    /// The system refuses what input, output and timers need.
    #[error("cannot start the runtime's input, output and timers")]
    Driver(#[from] io::Error),
}

/// Runs `main` to its end on this thread, in a runtime of its own that takes `!Send` tasks, with
/// timers and input and output if the features of tokio bring them.
///
/// Tasks end with `main`. Blocking closures, a read of standard input among them, are waited for at
/// most `leave_within`; **those that still block are left behind**, with a `tracing` warning.
///
/// # Errors
///
/// [`RunError`] if this thread has a runtime, entered by a guard or for a blocking closure too, or
/// if none can be made.
///
/// # Panics
///
/// With the panic of `main`, after the runtime has been left in the same way.
pub fn run<T>(leave_within: Duration, main: impl Future<Output = T>) -> Result<T, RunError> {
    if Handle::try_current().is_ok() {
        return Err(RunError::InsideRuntime);
    }
    let threads = Arc::new(AtomicUsize::new(0));
    let (started, stopped) = (Arc::clone(&threads), Arc::clone(&threads));
    let runtime = Builder::new_current_thread()
        .on_thread_start(move || _ = started.fetch_add(1, Ordering::Relaxed))
        .on_thread_stop(move || _ = stopped.fetch_sub(1, Ordering::Relaxed))
        .enable_all()
        .build_local(LocalOptions::default())?;

    // Dropping the runtime, as a panic would, waits for blocking closures without a limit.
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(main)));
    runtime.shutdown_timeout(leave_within);
    let threads = threads.load(Ordering::Relaxed);
    if threads > 0 {
        tracing::warn!(threads, "left the runtime with closures that still block");
    }
    ended.map_or_else(|panic| resume_unwind(panic), Ok)
}
