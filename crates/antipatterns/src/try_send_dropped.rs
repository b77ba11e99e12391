//! # Load shed in silence: `tx.try_send(event).ok()`
//!
//! Events go through a bounded channel to a task that stores them. Whoever records one must not wait,
//! so it is `try_send`; and what should be done with its error, in the middle of a request? Nothing,
//! says `.ok()`. It returns the same for an event that is stored, one that is lost because the
//! queue is full, and one that is lost because the task has been dead for a week.
//!
//! ## You have it when
//! - the audit log or the metrics have gaps at the busiest times, just those that one wants to see;
//! - after one panic on the standard error they have nothing at all, and everything else goes on;
//! - two counts of the same thing differ, and nobody can say by how much they may.
//!
//! ## What it does to you
//! - A burst of a thousand events and a queue of a hundred: 900 are lost, nothing counts them, and
//!   what is left are the oldest.
//! - A store that panics at the first event loses all of the thousand, and `record` says nothing.
//!
//! `clippy::unused_result_ok`, off by default, finds the `.ok()`.
//!
//! ## Use instead
//! - `load_shedding`: the newest may stay instead, each loss is counted and given to a callback, and
//!   a queue that nobody reads is an error;
//! - `channel_errors`, which tells full from closed and gives the event back; `work_queue` to wait.

use tokio::sync::mpsc;

/// Records events without ever holding up who does.
#[derive(Debug, Clone)]
pub struct EventLog<E>(mpsc::Sender<E>);

impl<E: Send + 'static> EventLog<E> {
    /// Starts the task that stores the events.
    pub fn start<F>(mut store: impl FnMut(E) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (sender, mut events) = mpsc::channel(100);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                store(event).await;
            }
        });
        Self(sender)
    }

    /// Records an event, or does not.
    pub fn record(&self, event: E) {
        self.0.try_send(event).ok(); // full or closed: the event is gone, uncounted
    }
}
