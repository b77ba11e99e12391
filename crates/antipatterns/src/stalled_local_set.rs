//! # Stalled LocalSet: spawn_local, and nobody awaits the set
//!
//! Some state cannot leave its thread: an `Rc`, a scripting engine. A `LocalSet` takes the task
//! that owns it, and `spawn_local` looks like `spawn`. It is not: to the runtime a set is one
//! future. Its tasks run while the set itself is awaited, one at a time, on the thread that awaits
//! it.
//!
//! ## You have it when
//! - local tasks do their work during the start, within `run_until`, and none afterwards;
//! - a `send` to one of them waits for ever, though its receiver is not dropped;
//! - all local tasks stop while one of them computes, on a machine with many cores;
//! - one panics with `can call blocking only when running on the multi-threaded runtime`, and the
//!   runtime is the multi-threaded one.
//!
//! ## What it does to you
//! - Of 100 changes sent during the start all are applied. Afterwards the first 10 fill the
//!   channel, none is applied, and the 11th `send` never returns.
//! - Four local tasks run on one thread, whatever the number of workers, and while one computes for
//!   250 ms, another with a timer of 10 ms does not run.
//! - `block_in_place`, with which one gets around that elsewhere, panics in a local task.
//!
//! ## Use instead
//! - `local_tasks`: a thread of its own keeps the state and runs the tasks, whatever the callers
//!   do;
//! - `current_thread` if all of the program fits on one thread: with a `LocalRuntime`,
//!   `spawn_local` needs no set; `cpu_offload` for what computes.

use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Keeps the state in a local task, which applies the changes that `load` sends at the start, and
/// those that `serve` sends from then on, it is hoped.
pub async fn with_local_state<S: 'static, C: 'static, R>(
    mut state: S,
    apply: impl Fn(&mut S, C) + 'static,
    load: impl AsyncFnOnce(&mpsc::Sender<C>),
    serve: impl AsyncFnOnce(&mpsc::Sender<C>) -> R,
) -> R {
    let (changes, mut queue) = mpsc::channel(10);
    let local = LocalSet::new();
    local.spawn_local(async move {
        while let Some(change) = queue.recv().await {
            apply(&mut state, change);
        }
    });
    local.run_until(load(&changes)).await;
    serve(&changes).await // outside of `local`: its tasks stand still from here on
}
