//! # Request and reply: oneshot inside mpsc, an actor with a handle
//!
//! One task owns some state, a connection, a counter, a table, and others ask it for things. Each
//! request travels through a bounded channel together with the sending half of a oneshot channel
//! for its answer. No lock, and every way in which there can be no answer has an error of its own.
//!
//! ## Use it when
//! - state is changed in one place, by requests that each want an answer;
//! - a request must end by a deadline, whatever becomes of the actor.
//!
//! ## Use something else when
//! - nobody waits for the single answer: `work_queue`;
//! - a change takes no `.await`: a `std::sync::Mutex` is shorter and faster, see `short_lock`;
//! - many only read the latest value: `config_watch`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features macros,rt,sync,time
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - Actors that call each other in a circle stand still: each waits in its handler for the other,
//!   and neither reads its inbox, whatever its capacity, as shown in `actors_in_a_circle`. Use
//!   [`Inbox::serve_overlapping`] for handlers that call other actors, with a limit above the number
//!   of calls that can be under way at once. Deadlines alone only turn the standstill into errors.
//! - After [`CallError::Unanswered`] the request may have been carried out; with
//!   [`Inbox::serve_overlapping`], also as far as an await half way, for the answer's task ends with
//!   its caller. Repeat it only if doing it twice does no harm, and spawn what must not stop half way.
//! - An actor lives until the last [`Handle`] is dropped, and then ends what it has accepted. One
//!   that holds a handle to itself never ends on its own: keep the task and abort it.

use std::num::NonZeroUsize;
use std::time::Duration;

use thiserror::Error;
use tokio::select;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

/// Sends requests to an actor. Clone it for each caller.
#[derive(Debug)]
pub struct Handle<Q, A> {
    requests: mpsc::Sender<Envelope<Q, A>>,
}

/// The actor's end: run one of its `serve` functions in a task.
#[derive(Debug)]
pub struct Inbox<Q, A> {
    requests: mpsc::Receiver<Envelope<Q, A>>,
}

#[derive(Debug)]
struct Envelope<Q, A> {
    request: Q,
    answer: oneshot::Sender<A>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CallError<Q> {
    /// The actor is gone and never saw the request. Here it is.
    #[error("the actor has ended")]
    Ended(Q),
    /// The deadline passed before there was room for the request. Here it is.
    #[error("the actor's inbox was full until the deadline")]
    Full(Q),
    /// The deadline passed after the request was accepted: it may still be carried out, or have been,
    /// by [`serve_overlapping`](Inbox::serve_overlapping) also in part.
    #[error("the actor did not answer by the deadline")]
    Unanswered,
    /// The actor accepted the request, then ended or panicked: it may have been carried out, or a part
    /// of it.
    #[error("the actor dropped the request without an answer")]
    Dropped,
}

/// Makes an actor's two ends, with room for `capacity` requests that wait for their turn.
#[must_use]
pub fn actor<Q, A>(capacity: NonZeroUsize) -> (Handle<Q, A>, Inbox<Q, A>) {
    let capacity = capacity.get().min(Semaphore::MAX_PERMITS); // more would panic
    let (sender, receiver) = mpsc::channel(capacity);
    (Handle { requests: sender }, Inbox { requests: receiver })
}

impl<Q, A> Handle<Q, A> {
    /// Sends a request and waits for its answer, `within` being the limit for both together.
    ///
    /// # Errors
    ///
    /// A [`CallError`] that tells whether the actor accepted the request; if not, it hands it back.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, the request was not sent, is skipped, or is carried out with nobody
    /// to read the answer: by [`serve`](Inbox::serve) in full, by
    /// [`serve_overlapping`](Inbox::serve_overlapping) as far as its next await.
    pub async fn call(&self, request: Q, within: Duration) -> Result<A, CallError<Q>> {
        let deadline = deadline(within);
        let slot = match timeout_at(deadline, self.requests.reserve()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) => return Err(CallError::Ended(request)),
            Err(_) => return Err(CallError::Full(request)),
        };
        let (answer, mut receiver) = oneshot::channel();
        slot.send(Envelope { request, answer });
        let answered = timeout_at(deadline, async {
            select! {
                biased;
                answer = &mut receiver => answer.ok(),
                // An inbox dropped just before the request was sent never looks at it, and would
                // keep this end waiting: the channel, and the request in it, live as long as `self`.
                () = self.requests.closed() => receiver.try_recv().ok(),
            }
        });
        let answer = answered.await.map_err(|_| CallError::Unanswered)?;
        answer.ok_or(CallError::Dropped)
    }
}

impl<Q, A> Clone for Handle<Q, A> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
        }
    }
}

impl<Q, A> Inbox<Q, A> {
    /// Answers one request at a time, in the order of their arrival, until every [`Handle`] is gone.
    /// Requests whose caller has given up by then are skipped. The handler may await what it owns;
    /// while it does, no other request is looked at.
    ///
    /// # Panics
    ///
    /// If the handler does. Callers then get [`CallError::Dropped`] and [`CallError::Ended`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the actor: every accepted request's caller gets [`CallError::Dropped`].
    pub async fn serve(mut self, mut handler: impl AsyncFnMut(Q) -> A) {
        while let Some(Envelope { request, answer }) = self.requests.recv().await {
            if !answer.is_closed() {
                // An error means that the caller has given up meanwhile.
                drop(answer.send(handler(request).await));
            }
        }
    }

    /// Like [`serve`](Self::serve), for handlers that wait for others, other actors above all. The
    /// handler itself runs alone, one request at a time, and is where state changes; the future that
    /// it returns gives the answer and runs as a task, while the next requests are handled.
    ///
    /// At most `limit` answers are under way at once; further requests wait in the inbox. A task
    /// whose caller gives up is dropped at its next await. A panic in one is logged, and its caller
    /// gets [`CallError::Dropped`]; the actor goes on.
    ///
    /// # Panics
    ///
    /// If the handler itself does; the answers under way are dropped with it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the actor and its tasks: every accepted request's caller gets
    /// [`CallError::Dropped`].
    pub async fn serve_overlapping<F>(
        mut self,
        limit: NonZeroUsize,
        mut handler: impl FnMut(Q) -> F,
    ) where
        A: Send + 'static,
        F: Future<Output = A> + Send + 'static,
    {
        let mut answering = JoinSet::new();
        loop {
            select! {
                Some(ended) = answering.join_next() => report(ended),
                envelope = self.requests.recv(), if answering.len() < limit.get() => {
                    let Some(Envelope { request, mut answer }) = envelope else { break };
                    if !answer.is_closed() {
                        let work = handler(request);
                        answering.spawn(async move {
                            select! {
                                biased;
                                value = work => drop(answer.send(value)),
                                () = answer.closed() => {}
                            }
                        });
                    }
                }
            }
        }
        while let Some(ended) = answering.join_next().await {
            report(ended);
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an actor's answer was lost");
    }
}

/// The instant that far from now; about 30 years from now at the most, as `Instant` has its limits.
fn deadline(within: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    Instant::now() + within.min(FAR)
}
