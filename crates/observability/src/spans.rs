//! # Spans: the request's id on every event
//!
//! A hundred requests run at once and write into one log. "connection reset" is in there, and nobody
//! can say whose. A span with the request's id answers that, if it is the current span wherever code
//! runs for the request: after each `.await`, in the tasks it spawns, on the threads it blocks, and
//! at the other end of each channel. None of the last three happens by itself.
//!
//! ## Use it when
//! - several requests, jobs or connections are under way at once, and each event has to name its own;
//! - work goes through a queue or an actor, and what happens there is part of the request.
//!
//! ## Use something else when
//! - a test should prove that no event has lost its request: `capture_events`, as the tests here do;
//! - you ask why nothing happens at all: `runtime_metrics` and `console`;
//! - the id has to reach another process: send it in a header, and open the span there with it.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features rt
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `let _guard = span.enter();` before an `.await` leaves the span entered while other tasks run:
//!   their events carry this request's id, shown in `entered_span`. Write `.instrument(span)`.
//! - `tokio::spawn` starts without a span. `.in_current_span()` belongs outside of the `async` block:
//!   within, it runs in the new task, where there is none.
//! - A handler is more than its future: what it does before it returns the future, or a destructor
//!   does after it, is outside of `handler(job).instrument(span)`. [`InSpan::handle`] has both inside.
//! - A filter of `warn` turns `info_span!` off, and the errors lose their id. Spans that carry an id
//!   are `error_span!`: a span's level says how much must be filtered away before it goes.
//! - A span is open until its last handle is gone. A task or message that lives on keeps the request's
//!   open, and its duration is wrong. What goes on after the answer gets a root of its own, which names
//!   the other: `error_span!(parent: None, "mail", id)`, then `.follows_from(Span::current())`.

use tokio::task::JoinHandle;
use tracing::instrument::Instrumented;
use tracing::{Instrument, Span};

/// A value and the span it belongs to: what to send through a channel instead of the value.
///
/// Dropped unhandled, as by a channel that closes, its value is dropped in the span.
#[derive(Debug, Clone)]
pub struct InSpan<T>(Instrumented<T>);

impl<T> InSpan<T> {
    /// The value, in the span that is current here: the sender's.
    #[must_use]
    pub fn here(value: T) -> Self {
        Self::of(value, Span::current())
    }

    /// The value, in this span.
    #[must_use]
    pub fn of(value: T, span: Span) -> Self {
        Self(value.instrument(span))
    }

    /// The value, to look at.
    #[must_use]
    pub fn get(&self) -> &T {
        self.0.inner()
    }

    /// Its span, to add a field or to make a child of it.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.0.span()
    }

    /// The two apart, for what the other methods cannot do. Nothing enters the span any more.
    #[must_use]
    pub fn into_parts(self) -> (T, Span) {
        let span = self.0.span().clone();
        (self.0.into_inner(), span)
    }

    /// Something else in the same span: the job that a request becomes.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> InSpan<U> {
        let (value, span) = self.into_parts();
        let value = span.in_scope(|| change(value));
        InSpan::of(value, span)
    }

    /// Calls `handler` with the value, in the span. One that awaits is for [`handle`](Self::handle).
    pub fn in_scope<R>(self, handler: impl FnOnce(T) -> R) -> R {
        let (value, span) = self.into_parts();
        span.in_scope(|| handler(value))
    }

    /// Calls `handler` with the value and awaits what it returns, all of it in the span; between the
    /// polls, and where others run, the span is not entered.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it drops the value, or the handler's future that has it, in the span.
    pub async fn handle<F: Future>(self, handler: impl FnOnce(T) -> F) -> F::Output {
        let (value, span) = self.into_parts();
        // Within the block, so that the span is entered for the call as well, and for the future's end.
        async move { handler(value).await }.instrument(span).await
    }
}

/// [`tokio::spawn`], in the current span. For a task in a `JoinSet`:
/// `tasks.spawn(future.in_current_span())`.
///
/// **Dropping the handle detaches the task**, as tokio's does.
///
/// # Panics
///
/// If called outside of a Tokio runtime.
#[track_caller] // or every task would seem to be spawned here
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future.in_current_span())
}

/// `work` in the span that is current here, on whatever thread it is called:
/// `spawn_blocking(in_current_span(work))`, and the same for `std::thread::spawn` or a pool of threads.
///
/// Dropped uncalled, it drops what `work` has captured in the span.
pub fn in_current_span<R>(work: impl FnOnce() -> R) -> impl FnOnce() -> R {
    let work = InSpan::here(work);
    move || work.in_scope(|work| work())
}
