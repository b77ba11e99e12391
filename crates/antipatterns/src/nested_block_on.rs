//! # Nested block_on: an async call made from a function that is not async
//!
//! A trait of somebody else's, a callback or a constructor is not async, and what it needs is. So
//! it builds a runtime and blocks on it. In the unit test that works. Called from a handler it
//! panics, and the executor of another crate, which does not panic, waits for a thread that it
//! occupies.
//!
//! ## You have it when
//! - a task panics with `Cannot start a runtime from within a runtime`;
//! - or with `there is no reactor running, must be called from the context of a Tokio 1.x runtime`;
//! - since `Runtime::block_on` was replaced by `futures::executor::block_on` or `pollster`, it does
//!   not panic, but requests stand still now and then while the CPU is idle.
//!
//! ## What it does to you
//! - Each call of [`with_new_runtime`] and of [`with_current_handle`] from async code panics, in a
//!   task, in `block_on`, on either kind of runtime; from a plain thread the second panics too.
//! - [`with_foreign_executor`] of a timer or a task hangs for ever on a runtime of one thread.
//! - So it does on a runtime of four workers, three of them idle, when it waits for a task that it
//!   has just spawned: that stands in the slot of this worker from which no other takes tasks.
//! - From a plain thread the foreign executor panics at the first timer: there is no reactor.
//!
//! ## Use instead
//! - `sync_bridge`: an `AsyncThread` whose `call` works on any thread but its own and has a limit,
//!   `call_blocking` for blocking code that has to await, and a table of what works where.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::{Handle, Runtime};

/// The synchronous face of an async function, with a runtime for each call.
///
/// # Panics
///
/// In a runtime.
#[expect(clippy::expect_used, reason = "how it is written")]
pub fn with_new_runtime<F: Future>(work: F) -> F::Output {
    Runtime::new().expect("a runtime").block_on(work) // panics where a runtime is at work already
}

/// The same with the runtime that is there.
///
/// # Panics
///
/// In a runtime, and outside of one.
pub fn with_current_handle<F: Future>(work: F) -> F::Output {
    Handle::current().block_on(work) // `current` wants to be in a runtime, `block_on` outside
}

/// The same with an executor that knows nothing of tokio; this is all that
/// `futures::executor::block_on` and `pollster::block_on` do.
pub fn with_foreign_executor<F: Future>(work: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut work = pin!(work);
    loop {
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(), // a worker's thread, perhaps the one that would wake it
        }
    }
}
