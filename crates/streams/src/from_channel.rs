//! # From channel: a spawned producer as a stream
//!
//! One task reads rows, lines or messages; another wants them as a stream, to filter, map and take
//! some. `ReceiverStream` makes one of a channel's receiver, but knows nothing of the producer behind
//! it: one that panicked looks like one that was done, and one whose consumer has gone works on until
//! it happens to send. Here the producer belongs to the stream. A bounded channel holds it back, how
//! it failed is the stream's last item, and it stops when the stream is dropped.
//!
//! ## Use it when
//! - the producer is to work ahead of the consumer, a bounded number of items;
//! - the source hands out items by calls, blocking ones among them: a parser, a walk through folders.
//!
//! ## Use something else when
//! - nothing has to be ready in advance: `async_stream::stream!` or `futures_util::stream::unfold` run
//!   in the consumer's own task, only while it waits for the next item (`paginate`);
//! - several senders live elsewhere and report their ends elsewhere: `ReceiverStream` is enough;
//! - every subscriber is to see every item: `event_bus`; only the latest value: `config_watch`;
//! - the items are jobs for a pool: `work_queue`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features rt,sync
//! cargo add tokio-util --features rt
//! ```
//!
//! ## Watch out
//! - `take(3)` ends after the third item, and its producer only when the `take` itself is dropped.
//!   Until then it waits at the full channel with all it holds: connections, files, locks.
//! - `ReceiverStream` ends the same way when its sender is done, fails or panics.
//! - `BroadcastStream` tells of lost items by an `Err(Lagged(n))` between the others, and
//!   `filter_map(Result::ok)` throws just that away.
//! - `WatchStream` gives what is there at once, then the latest value whenever it is asked: of ten
//!   changes in between, one.
//! - The producer is ahead by the items in the channel and one in its hands. Whoever drops the stream
//!   drops them too: read on after [`close`](Produced::close) if they must not be lost.
//! - After `close` only sending fails. A producer that waits for something else does not notice, unless
//!   it also waits for `Sender::closed` in a `select!`.
//! - A producer that never awaits can be stopped by nothing: use [`produce_blocking`], and see that it
//!   sends now and then.

use std::any::Any;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

/// What a producer sends, and at the end how it failed, if it did. Made by [`produce`] and
/// [`produce_blocking`].
///
/// It owns the producer: **dropping it stops the producer at its next await, and drops what was not
/// read: items, and a failure**. Once it has given `None` it goes on giving `None`.
#[derive(Debug)]
#[must_use = "dropping it stops the producer"]
pub struct Produced<T, E> {
    items: mpsc::Receiver<T>,
    /// Whether `items` has ended.
    is_drained: bool,
    /// `None` once it has ended.
    producer: Option<AbortOnDropHandle<Result<(), E>>>,
    /// How it ended, until that is told.
    failure: Option<ProducerError<E>>,
}

/// The producer did not come to its end: the items before this may not be all there are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProducerError<E> {
    /// It returned this error.
    #[error(transparent)]
    Failed(E),
    /// It panicked with this message.
    #[error("the producer panicked: {0}")]
    Panicked(String),
    /// Its runtime was shut down.
    #[error("the producer was cancelled")]
    Cancelled,
}

/// Spawns `producer` and returns what it sends as a stream.
///
/// Up to `capacity` items wait to be read, then its `send` waits. `send` fails once the stream is closed:
/// return then. The stream ends when the producer has returned and what was sent is read. A clone of the
/// sender that is left in another task cannot send any more then.
///
/// # Panics
///
/// If called outside of a Tokio runtime.
pub fn produce<T, E, F>(
    capacity: NonZeroUsize,
    producer: impl FnOnce(mpsc::Sender<T>) -> F + Send + 'static,
) -> Produced<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    // Inside the block, so that a panic before the first await is caught too.
    start(capacity, |sender| {
        tokio::spawn(async move { producer(sender).await })
    })
}

/// The same for a producer that blocks, on one of the runtime's threads for that: it sends with
/// `blocking_send`.
///
/// **It outlives a dropped stream until its next `blocking_send`**, which fails: nothing else can stop
/// a thread. A runtime waits for it as it shuts down.
///
/// # Panics
///
/// If called outside of a Tokio runtime.
pub fn produce_blocking<T, E>(
    capacity: NonZeroUsize,
    producer: impl FnOnce(mpsc::Sender<T>) -> Result<(), E> + Send + 'static,
) -> Produced<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    start(capacity, |sender| spawn_blocking(|| producer(sender)))
}

fn start<T, E>(
    capacity: NonZeroUsize,
    spawn: impl FnOnce(mpsc::Sender<T>) -> JoinHandle<Result<(), E>>,
) -> Produced<T, E> {
    let capacity = capacity.get().min(Semaphore::MAX_PERMITS); // more would panic
    let (sender, items) = mpsc::channel(capacity);
    Produced {
        items,
        is_drained: false,
        producer: Some(AbortOnDropHandle::new(spawn(sender))),
        failure: None,
    }
}

impl<T, E> Produced<T, E> {
    /// Takes no more: a `send` that waits fails, and so does every later one. What was sent before, and
    /// how the producer then ends, is still to be read.
    pub fn close(&mut self) {
        self.items.close();
    }
}

impl<T, E> Stream for Produced<T, E> {
    type Item = Result<T, ProducerError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // Not asked again once it is empty for good: that takes from the task's budget, and might
            // each time leave none for the producer's handle.
            if !this.is_drained {
                match this.items.poll_recv(cx) {
                    Poll::Ready(Some(item)) => return Poll::Ready(Some(Ok(item))),
                    Poll::Ready(None) => this.is_drained = true,
                    Poll::Pending => {}
                }
            }
            // Asked even while the channel is open: a clone of the sender may outlive the producer.
            let Some(producer) = &mut this.producer else {
                if this.is_drained {
                    return Poll::Ready(this.failure.take().map(Err));
                }
                return Poll::Pending;
            };
            let ended = ready!(Pin::new(producer).poll(cx));
            this.producer = None;
            this.items.close();
            this.failure = match ended {
                Ok(result) => result.err().map(ProducerError::Failed),
                Err(error) => Some(ProducerError::from_join(error)),
            };
            // It may have sent something just before it ended, so look again.
        }
    }
}

/// Nothing in it is pinned, whatever the items and errors are.
impl<T, E> Unpin for Produced<T, E> {}

impl<E> ProducerError<E> {
    fn from_join(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => Self::Panicked(message(panic.as_ref())),
            Err(_) => Self::Cancelled,
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
