//! # Pinning: `pin!`, `Box::pin`, and the size of futures
//!
//! A future must not move once it was polled, so what polls it more than once gives it a place: the
//! stack of the function, with `pin!`, or a box. Awaiting it needs neither. And it has a size, which
//! no signature shows: all that lives across its awaits, and the same of every future inside of it. It
//! is copied when it is passed on, and each task keeps it for as long as it runs.
//!
//! ## Use it when
//! - a type whose functions are `poll_…` keeps a future from one call to the next: [`Stored`];
//! - there are many tasks, a stack overflows, or clippy says `large_futures`: [`future_size`] finds
//!   the large one, [`at_most`] keeps it small from then on.
//!
//! ## Use something else when
//! - one function polls it: `let mut work = pin!(work());`, then `work.as_mut()`, and no allocation;
//! - a loop awaits it beside other things: `resume`;
//! - a type wraps a future that it is generic over: `pin_project`, as `delay` does;
//! - an `async fn` calls itself: `Box::pin(walk(child)).await` there, and nothing more;
//! - it comes out of a trait behind `dyn`: `dyn_store`.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio-util
//! ```
//!
//! ## Watch out
//! - A buffer that lives across an await is in the future, 16 KiB for 16 KiB, also when it was last
//!   used, or dropped, before. End it with a block around it, or put it on the heap: `vec![0; 16_384]`.
//! - An argument is kept twice, once as it came and once as it is used: a buffer passed by value takes
//!   32 KiB, and so does a future that is passed in and awaited. Three layers of
//!   `async fn layer(work: impl Future) { work.await }` make eight of it. Pass `impl AsyncFnOnce()`
//!   and call it where it is awaited, or pass the future boxed.
//! - An enum of a future or its box has room for the future, so nothing is "boxed if large". Only a
//!   generic function can choose, where it stores or spawns.
//! - What was given to `pin!` is gone, and the pin cannot leave its function. What has to be returned
//!   or stored is boxed.
//! - `&mut future` is "cannot be unpinned" for a future that was not pinned first.

use std::fmt;
use std::future::pending;
use std::mem;
use std::task::{Context, Poll};

use tokio_util::sync::ReusableBoxFuture;

/// The size, in bytes, of the future that `make` returns. For a test that fails when it has grown.
///
/// `make` is not called, so nothing that it takes has to exist:
///
/// ```
/// # use traits::pinning::future_size;
/// # use tokio::net::TcpStream;
/// async fn serve(client: TcpStream, id: &str) {
///     println!("{id}: {:?}", client.readable().await);
/// }
/// assert!(future_size(|(client, id)| serve(client, id)) < 1_024);
/// ```
#[must_use]
pub fn future_size<A, F: Future>(_make: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

/// Returns `future`, which takes `BYTES` at most: a larger one does not compile. The error names it.
///
/// Leave some room, since another compiler may lay it out in another way. `cargo check` does not see
/// it, `cargo build` does.
///
/// ```
/// # use traits::pinning::at_most;
/// # use tokio::task::yield_now;
/// # async fn both() {
/// at_most::<1_024, _>(async { yield_now().await }).await;
/// # }
/// ```
///
/// ```compile_fail,E0080
/// # use traits::pinning::at_most;
/// # use tokio::task::yield_now;
/// drop(at_most::<1_024, _>(async {
///     let buffer = [0; 2_048];
///     yield_now().await;
///     drop(buffer);
/// }));
/// ```
#[must_use]
pub const fn at_most<const BYTES: usize, F: Future>(future: F) -> F {
    const { assert!(size_of::<F>() <= BYTES, "the future is too large") };
    future
}

/// Keeps at most one future, of any type, for a type that is polled. Each takes the allocation of
/// the one before it if it has its size, as another one of the same function has.
///
/// Dropping it drops the future.
pub struct Stored<T> {
    future: ReusableBoxFuture<'static, T>,
    /// What has ended is still in the box, and must not be polled.
    is_running: bool,
}

/// There is a future that has not ended. Here is the other one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Running<F>(pub F);

impl<T: 'static> Stored<T> {
    /// Without a future, and without an allocation.
    #[must_use]
    pub fn new() -> Self {
        Self {
            future: ReusableBoxFuture::new(pending()),
            is_running: false,
        }
    }

    /// Takes a future, if there is none. [`poll`](Self::poll) begins it.
    ///
    /// # Errors
    ///
    /// [`Running`], with the future, if there is one that has not ended.
    pub fn start<F>(&mut self, future: F) -> Result<(), Running<F>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        if self.is_running {
            return Err(Running(future));
        }
        self.replace(future);
        Ok(())
    }

    /// Drops the future that is there and takes this one. Returns whether the other had not ended.
    ///
    /// # Panics
    ///
    /// If the drop of the future that is there does. Nothing is running then.
    pub fn replace(&mut self, future: impl Future<Output = T> + Send + 'static) -> bool {
        // Should the drop of the old one panic, the new one does not count as started.
        let was_running = mem::replace(&mut self.is_running, false);
        self.future.set(future);
        self.is_running = true;
        was_running
    }

    /// Drops the future that is there, and the allocation. Returns whether it had not ended.
    ///
    /// # Panics
    ///
    /// If the drop of the future that is there does. It counts as ended then.
    pub fn cancel(&mut self) -> bool {
        let was_running = mem::replace(&mut self.is_running, false); // though its drop panics
        self.future.set(pending()); // which has no size
        was_running
    }

    /// Whether there is a future that has not ended.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.is_running
    }

    /// Polls the future. `None` if there is none: nothing was started, or it has ended before.
    ///
    /// What has ended stays in the box until the next is started, or [`cancel`](Self::cancel) drops
    /// it. An `async fn` has let go of all that it held by then.
    ///
    /// # Panics
    ///
    /// If the future does. It counts as ended then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // Should it panic, it is not polled again.
        if !mem::replace(&mut self.is_running, false) {
            return Poll::Ready(None);
        }
        let output = self.future.poll(cx);
        self.is_running = output.is_pending();
        output.map(Some)
    }
}

impl<T: 'static> Default for Stored<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// By hand, since futures are no `Debug`.
impl<T> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("is_running", &self.is_running)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Running<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").finish_non_exhaustive()
    }
}

impl<F> fmt::Display for Running<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is a future that has not ended: poll it to its end, or replace it")
    }
}

impl<F> std::error::Error for Running<F> {}
