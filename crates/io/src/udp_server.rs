//! # UDP server: one socket, a bounded number of answers at work
//!
//! A datagram server is one socket for all peers, so one bad peer, a failed send or a slow answer
//! must not be everybody's. What is easily missed: a datagram longer than the buffer is cut without
//! an error, and a `?` behind `send_to` ends the service for all when one peer cannot be reached.
//!
//! ## Use it when
//! - each datagram is a question of its own, and its answer fits into one: lookups, time, metrics.
//!
//! ## Use something else when
//! - messages must arrive, stay in order or be longer: `tcp_server`, or QUIC;
//! - peers are on this machine only: `unix_socket`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features macros,net,rt,time
//! cargo add tokio-util --features rt
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `recv_from` into a buffer that is too short gives its first bytes and says nothing of the rest.
//! - A burst larger than the socket's buffer is lost, and every send of it was `Ok`. What is lost in
//!   the system is counted nowhere here: let peers number and repeat what matters.
//! - Whoever sends may write any address as his own. Answers longer than questions make the server
//!   an amplifier in somebody's attack on that address: answer with no more bytes than came, or ask
//!   for something that only the owner of the address can know.
//! - On a connected socket an earlier send to a closed port comes back as an error of `recv_from`.
//!   It is about that datagram, not about the socket.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::select;
use tokio::task::coop::unconstrained;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// No datagram is longer than this over IP, but for jumbograms of IPv6.
const LONGEST: usize = 65_535;
/// Between a receive that failed and the next, doubled up to the longest wait.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What a server takes. [`Duration::MAX`] is no limit; zero ends what has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in a datagram. Longer ones are dropped and counted. 65,507 fit into one over IPv4.
    pub datagram: NonZeroUsize,
    /// Answers at work at once. At this number nothing is received: the system keeps some datagrams
    /// and drops the rest.
    pub at_once: NonZeroUsize,
    /// How long a handler and the send of its answer may take together.
    pub answer: Duration,
    /// How long answers may go on after a stop. Those that do are aborted.
    pub drain: Duration,
}

/// What became of the datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "it tells of what failed"]
pub struct Report {
    /// The answer was given to the system, which is not to say that it arrived.
    pub answered: u64,
    /// The handler returned `None`.
    pub unanswered: u64,
    /// Longer than [`Limits::datagram`].
    pub too_long: u64,
    /// The answer could not be sent.
    pub failed: u64,
    /// [`Limits::answer`] was reached.
    pub timed_out: u64,
    /// The handler panicked.
    pub panicked: u64,
    /// Aborted, [`Limits::drain`] after the stop.
    pub aborted: u64,
    /// Receives that failed, which are no datagrams.
    pub failed_receives: u64,
}

/// The address cannot be bound.
#[derive(Debug, Error)]
#[error("cannot bind {address}: {error}; {}", remedy(error))]
pub struct BindError {
    /// The address asked for.
    pub address: String,
    /// What the system says.
    pub error: io::Error,
}

/// Binds a socket to `address`, a `host:port`. Port 0 is any free one: `local_addr` tells which.
///
/// # Errors
///
/// [`BindError`], which says what to do.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O.
///
/// # Cancel safety
///
/// Dropped before it is done, it has bound nothing. A host's name takes as long as the resolver
/// does: put a `timeout` around it.
pub async fn bind(address: &str) -> Result<UdpSocket, BindError> {
    UdpSocket::bind(address).await.map_err(|error| BindError {
        address: address.to_owned(),
        error,
    })
}

/// Calls `handler` in a task for each datagram and sends what it returns back, until `stop` is
/// cancelled; then waits for the answers at work, at most for [`Limits::drain`]. Datagrams that the
/// system has received and this function has not are lost then.
///
/// A failure is logged with its peer, counted, and the end of nothing else. **A handler that never
/// awaits is not stopped by any limit**, and may run on after this function has returned.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers, or if `handler` itself panics
/// rather than its future.
///
/// # Cancel safety
///
/// Dropped before it is done, it aborts the answers at work and closes the socket; its counts are lost.
pub async fn serve<F>(
    socket: UdpSocket,
    limits: Limits,
    stop: CancellationToken,
    handler: impl Fn(Vec<u8>, SocketAddr) -> F,
) -> Report
where
    F: Future<Output = Option<Vec<u8>>> + Send + 'static,
{
    let socket = Arc::new(socket);
    let mut report = Report::default();
    let mut tasks = JoinSet::new();
    // Room for more than the limit, so that what is too long is seen to be.
    let mut buffer = vec![0; LONGEST];
    let mut wait = FIRST_WAIT;
    loop {
        let received = select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next() => {
                report.count(ended);
                continue;
            }
            received = socket.recv_from(&mut buffer), if tasks.len() < limits.at_once.get() => received,
        };
        match received {
            Ok((length, peer)) => {
                wait = FIRST_WAIT;
                match buffer.get(..length) {
                    Some(datagram) if length <= limits.datagram.get() => {
                        let work = handler(datagram.to_vec(), peer);
                        tasks.spawn(answer(Arc::clone(&socket), peer, limits.answer, work));
                    }
                    _ => {
                        tracing::warn!(%peer, length, "dropped a datagram that is too long");
                        report.too_long += 1;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, ?wait, "cannot receive");
                report.failed_receives += 1;
                // Without a wait, an error that lasts would keep a core busy.
                stop.run_until_cancelled(sleep(wait)).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
    let draining = async {
        while let Some(ended) = tasks.join_next().await {
            report.count(ended);
        }
    };
    // Unconstrained: a budget that ends at 128 answers would hide the rest when the time is over.
    timeout(limits.drain, unconstrained(draining)).await.ok(); // what is left is counted below
    report.aborted += tasks.len() as u64;
    if !tasks.is_empty() {
        tracing::warn!(answers = tasks.len(), "aborted answers at the stop");
    }
    report
}

async fn answer(
    socket: Arc<UdpSocket>,
    peer: SocketAddr,
    limit: Duration,
    work: impl Future<Output = Option<Vec<u8>>>,
) -> End {
    let answering = async {
        let Some(answer) = work.await else {
            return Ok(End::Unanswered);
        };
        let sent = socket.send_to(&answer, peer).await;
        sent.map(|_| End::Answered) // a datagram is sent whole or not at all
    };
    match timeout(limit, answering).await {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => {
            tracing::warn!(%peer, %error, "cannot send an answer");
            End::Failed
        }
        Err(_) => {
            tracing::warn!(%peer, ?limit, "no answer in time");
            End::TimedOut
        }
    }
}

impl Report {
    fn count(&mut self, ended: Result<End, JoinError>) {
        let counter = match ended {
            Ok(End::Answered) => &mut self.answered,
            Ok(End::Unanswered) => &mut self.unanswered,
            Ok(End::Failed) => &mut self.failed,
            Ok(End::TimedOut) => &mut self.timed_out,
            Err(error) => {
                tracing::error!(%error, "a handler panicked");
                &mut self.panicked
            }
        };
        *counter += 1;
    }
}

/// How one datagram ended, if not by a panic or an abort.
enum End {
    Answered,
    Unanswered,
    Failed,
    TimedOut,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what has that port, or take another",
        io::ErrorKind::PermissionDenied => "take a port above 1023, or grant the right to it",
        _ => "write it as host:port, with an address of this machine",
    }
}
