//! # Unreaped JoinSet: spawn into it, read it at shutdown
//!
//! A server puts each connection's task into a `JoinSet`, so that it owns them and can wait for
//! them at the end. In between nobody asks the set for anything. A task that has ended stays in it,
//! with its result, until `join_next` takes it out: at shutdown, after some million connections.
//!
//! ## You have it when
//! - memory grows with the number of connections ever made, not with those that are open;
//! - a gauge fed from `JoinSet::len()` only ever rises;
//! - a limit on connections refuses everybody after some hours, and a restart mends it;
//! - panics of a month ago are reported during the shutdown.
//!
//! ## What it does to you
//! - After 100,000 connections that have all ended, the set holds 100,000 tasks and their results.
//! - With a limit of 1,000 at once, the 1,001st is refused, and each after it, while none is open.
//! - Of the panics in between none is heard before the shutdown.
//!
//! ## Use instead
//! - `join_set`: a limit that counts until an end is read, and `next` beside `accept` in the loop;
//! - tokio-util's `TaskTracker` if nobody wants the results: it keeps none, and tells of no panic.

use tokio::task::{JoinError, JoinSet};

/// The connections of a server, no more than `max` at once.
#[derive(Debug)]
pub struct Connections<T> {
    tasks: JoinSet<T>,
    max: usize,
}

impl<T: Send + 'static> Connections<T> {
    /// None so far.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let tasks = JoinSet::new();
        Self { tasks, max }
    }

    /// Serves a connection. Returns whether it did, or there are too many.
    pub fn serve(&mut self, connection: impl Future<Output = T> + Send + 'static) -> bool {
        if self.open() >= self.max {
            return false;
        }
        self.tasks.spawn(connection); // and who takes it out?
        true
    }

    /// How many connections are open, for the metrics.
    #[must_use]
    pub fn open(&self) -> usize {
        self.tasks.len() // those that have ended count
    }

    /// Waits for all of them.
    pub async fn shut_down(mut self) -> Vec<Result<T, JoinError>> {
        let mut ends = Vec::new();
        while let Some(end) = self.tasks.join_next().await {
            ends.push(end);
        }
        ends
    }
}
