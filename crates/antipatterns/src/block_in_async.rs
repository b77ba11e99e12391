//! # Blocking in async: a call that waits or computes on the worker's own thread
//!
//! The handler calls something that takes a second and has no `.await` in it: a database driver of
//! the old kind, a password hash, `std::thread::sleep`. It compiles, and passes its test. In
//! production everything is slow now and then, also what has nothing to do with it.
//!
//! ## You have it when
//! - timers, time limits and health checks come late, all together, by as much as the slowest call;
//! - the process answers nobody, and its CPU is idle (it waits) or one core is full (it computes).
//!
//! ## What it does to you
//! - A timer of 5 ms did not come for the whole second that the call took: the thread that works is
//!   the one that looks after timers.
//! - A byte that lay ready in a socket was not read during that time: it looks after sockets too.
//! - More threads only put it off: four such calls stop a runtime of four workers as one stops one.
//! - `timeout` around the call does not end it: its timer is among those that do not come.
//!
//! ## Use instead
//! - `cpu_offload` for what computes, which keeps as many jobs at once as there are cores;
//! - `sync_bridge` for what waits: which blocking call is allowed where; `hash_file` for files.

/// Answers a request. The work is done in place, as it was before the function became async.
#[expect(
    clippy::unused_async,
    reason = "the lint is right: a function that is async and awaits nothing blocks"
)]
pub async fn respond<T>(work: impl FnOnce() -> T) -> T {
    work() // no await: until it returns, this thread does nothing else
}
