//! # Futurelock: a future that has the lock, or its turn, and is not polled
//!
//! A save takes a while, and its loop tells how things are meanwhile: `select!` on `&mut saving`
//! and on a timer. The save and the timer's branch ask for the same tokio lock. No guard is held
//! across anything that waits for long, no lock is taken twice by one function, and all stands
//! still.
//!
//! ## You have it when
//! - a task hangs for ever at `lock().await`, and no task that runs has the guard;
//! - all workers are idle, other tasks go on until they want the lock, and a restart mends it;
//! - it happens now and then only, or since the work takes longer than the timer.
//!
//! ## What it does to you
//! - [`save_and_report`] hangs at the first timer that finds the save at work: the branch waits for
//!   the guard of `saving`, which is polled by nobody until the branch is done.
//! - The save need not have the lock. If it only stands before the branch in the queue, tokio hands
//!   the lock to it when its turn comes, and there it stays.
//! - [`fetch_and_merge`] does it without a `select!`: `buffered` futures are polled only while the
//!   loop awaits the next one, and the body of the loop asks for the lock that one of them has.
//! - An hour later nothing has moved, and each other task that wants the lock waits as well.
//!
//! ## Use instead
//! - `async_lock`: each wait for it has a limit. Run the save in a task of its own, which is polled
//!   whatever the branch does, and keep its handle in the `select!`;
//! - `read_mostly` for a report that may look at the state without the lock.

use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::select;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// Saves the state, and reports it each `period` until it is saved.
pub async fn save_and_report<S>(
    state: &Mutex<S>,
    save: impl AsyncFnOnce(&mut S),
    period: Duration,
    mut report: impl FnMut(&S),
) {
    let mut saving = pin!(async { save(&mut *state.lock().await).await });
    loop {
        select! {
            () = &mut saving => return,
            () = sleep(period) => report(&*state.lock().await), // `saving` is not polled in here
        }
    }
}

/// Fetches two at a time, with what is merged already at hand, and merges each.
pub async fn fetch_and_merge<I, S>(
    state: &Mutex<S>,
    inputs: Vec<I>,
    fetch: impl AsyncFn(I, &S) -> I,
    merge: impl Fn(&mut S, I),
) {
    let fetches = inputs.into_iter().map(async |input| {
        let state = state.lock().await;
        fetch(input, &state).await
    });
    let mut fetched = pin!(stream::iter(fetches).buffered(2));
    while let Some(input) = fetched.next().await {
        merge(&mut *state.lock().await, input); // the next fetch has it, and is not polled in here
    }
}
