//! # UDP server: a receive loop with limits
//!
//! `loop { let (length, peer) = socket.recv_from(&mut buffer).await?; … socket.send_to(…).await?; }`
//! ends at the first answer that cannot be sent, passes on the beginning of a datagram as if it were
//! the whole, and lets one slow answer hold up all peers. This server lives through failed receives
//! and sends, drops what is too long, answers many peers at once, within limits, and counts how each
//! datagram ended.
//!
//! ## Use it when
//! - you serve a protocol of your own in which a request and its answer are a datagram each;
//! - a lost one is asked for again by the peer, or not missed.
//!
//! ## Use something else when
//! - each byte has to arrive, and in order: `tcp_server`;
//! - messages outgrow a packet of the network, about 1,400 bytes. Longer ones travel in fragments, and
//!   are lost if one of these is: `tcp_server`;
//! - the peers are processes of this host: `unix_socket`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features macros,net,rt,time
//! cargo add tokio-util
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - A sender's address is easily forged, and the answer goes to whom it names. Send nothing longer
//!   than the request until the peer has sent back a token that you sent there, or others use you to
//!   flood it.
//! - Never answer an answer. One datagram, forged to come from another server that does, and the two
//!   answer each other for ever.
//! - All peers share the limits, and one that floods the server keeps the others waiting. Keep
//!   [`Limits::answer`] short.
//! - Once its buffer is full the kernel drops datagrams and tells nobody. On Linux the last column of
//!   `/proc/net/udp` counts them. `SO_RCVBUF` is the buffer's size: the crate `socket2` sets it.
//! - Datagrams may come twice and in another order, and answers overtake each other in the server.
//!   Number the requests, and repeat the number in the answer.
//! - On a host with several addresses bind to one. Behind 0.0.0.0 an answer may leave from another
//!   address than the one that was asked, and a client that has connected its socket never sees it.
//! - A bare `recv_from` into a buffer that is too small gives what fits, and drops the rest without a
//!   word; on Windows it fails.
//! - macOS sends 9,216 bytes at most, until `SO_SNDBUF` is raised: a longer answer is `unsent`.
//! - What a handler spawns is outside of the limits and the stop.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::select;
use tokio::task::coop::{consume_budget, unconstrained};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// One byte more than a datagram can have, whose length is a number of 16 bits. So the kernel cuts
/// off nothing, on no system, and each datagram shows its whole length.
const BUFFER: usize = 65_536;

/// After the first failed receive in a row. Each further pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a server grants its peers. [`Duration::MAX`] is no limit; zero ends what has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in the longest datagram that the handler gets. From 65,507 on, over IPv4 no peer can
    /// send a longer one; over IPv6 from 65,527 on. With 0 it gets empty ones only.
    pub datagram: usize,
    /// Datagrams being answered at once. At this number none is received; further ones wait in the
    /// kernel.
    pub in_flight: NonZeroUsize,
    /// How long an answer may take, from the call of the handler until it is sent.
    pub answer: Duration,
    /// How long answers may go on after a stop. Those that do are aborted.
    pub drain: Duration,
    /// How long aborted ones have to come to an await. Those that do not are `still_running`.
    pub abort: Duration,
}

/// How the datagrams ended: each that was received is in one of the first eight counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Report {
    /// The kernel took the answer. Whether it arrived, the peer alone knows.
    pub answered: u64,
    /// The handler gave no answer.
    pub unanswered: u64,
    /// The answer could not be sent: the peer's address cannot be reached, or the answer is too long.
    pub unsent: u64,
    /// The answer was not sent within [`Limits::answer`].
    pub late: u64,
    /// The handler panicked.
    pub panicked: u64,
    /// Aborted, [`Limits::drain`] after the stop.
    pub aborted: u64,
    /// Aborted, and had come to no await within [`Limits::abort`]. **It runs on** until its next.
    pub still_running: u64,
    /// Longer than [`Limits::datagram`], and dropped.
    pub oversize: u64,
    /// Receives that failed, which are no datagrams.
    pub failed_receives: u64,
    /// How often [`Limits::in_flight`] was reached. What came then waited in the kernel; what its
    /// buffer did not hold is lost, and in no count.
    pub full: u64,
}

/// Where datagrams come from and answers go: a `UdpSocket`, and what you implement it for.
pub trait Socket: Send + Sync + 'static {
    /// The other end's address.
    type Peer: fmt::Debug + Clone + Send + 'static;

    /// Waits for a datagram, and gives its length and its sender.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it must have taken no datagram: it is called anew many times.
    fn receive(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, Self::Peer)>> + Send;

    /// Sends `answer` to `peer`, in one datagram.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it must have sent all or nothing.
    fn answer(
        &self,
        answer: &[u8],
        peer: Self::Peer,
    ) -> impl Future<Output = io::Result<()>> + Send;
}

impl Socket for UdpSocket {
    type Peer = SocketAddr;

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer).await
    }

    async fn answer(&self, answer: &[u8], peer: SocketAddr) -> io::Result<()> {
        self.send_to(answer, peer).await.map(drop) // a datagram is never sent in part
    }
}

/// The address cannot be bound to.
#[derive(Debug, Error)]
#[error("cannot receive on {address}: {error}; {}", remedy(error))]
pub struct BindError {
    /// The address asked for.
    pub address: String,
    /// What the system says.
    pub error: io::Error,
}

/// A socket on `address`, a `host:port`. Port 0 is any free one: `local_addr` tells which.
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
/// Dropped before it is done, it is bound to nothing. A host's name takes as long as the resolver
/// does: put a `timeout` around it.
pub async fn bind(address: &str) -> Result<UdpSocket, BindError> {
    UdpSocket::bind(address).await.map_err(|error| BindError {
        address: address.to_owned(),
        error,
    })
}

/// Calls `handler` in a task for each datagram, and sends its answer, if it has one, to the sender,
/// until `stop` is cancelled; then waits for the answers within the limits, and tells how all ended.
///
/// The handler gets the datagram, which may be empty, and the sender's address. It is called anew for
/// each, so it clones what it captures. With a clone of the `Arc` the caller can send unasked.
/// Memory holds up to `in_flight` times `datagram` bytes of datagrams. What waits in the kernel at
/// the stop is not received.
///
/// A failed receive is logged, and repeated after a pause that grows from 10 ms to 1 s; at once if it
/// tells of an answer that did not arrive. What peers can cause any number of is logged at the level
/// `debug`. A handler that panics or is aborted is an error.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it receives no more and aborts the handlers; the report is lost.
pub async fn serve<S: Socket, F>(
    socket: Arc<S>,
    limits: Limits,
    stop: CancellationToken,
    handler: impl Fn(Vec<u8>, S::Peer) -> F + Send + Sync + 'static,
) -> Report
where
    F: Future<Output = Option<Vec<u8>>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let mut tasks = Tasks {
        running: JoinSet::new(),
        peers: HashMap::new(),
        report: Report::default(),
    };
    let mut buffer = vec![0; BUFFER];
    let (mut pause, mut retry_at) = (FIRST_PAUSE, None);
    loop {
        consume_budget().await; // or a socket that never waits keeps the thread to itself
        let receive = async {
            if let Some(instant) = retry_at {
                sleep_until(instant).await;
            }
            socket.receive(&mut buffer).await
        };
        let received = select! {
            biased; // what has ended is forgotten, and makes room, before more is let in
            () = stop.cancelled() => break,
            Some(()) = tasks.ended() => continue,
            received = receive, if tasks.running.len() < limits.in_flight.get() => received,
        };
        match received {
            Ok((length, peer)) => {
                (pause, retry_at) = (FIRST_PAUSE, None);
                match buffer.get(..length) {
                    Some(datagram) if length < BUFFER && length <= limits.datagram => {
                        let (socket, handler) = (Arc::clone(&socket), Arc::clone(&handler));
                        let work = handle(socket, handler, datagram.to_vec(), peer.clone());
                        let work = timeout(limits.answer, work);
                        let task = async { work.await.unwrap_or(Ended::Late) };
                        tasks.peers.insert(tasks.running.spawn(task).id(), peer);
                        let full = tasks.running.len() >= limits.in_flight.get();
                        tasks.report.full += u64::from(full);
                    }
                    _ => {
                        tasks.report.oversize += 1;
                        tracing::debug!(?peer, length, "a datagram is too long");
                    }
                }
            }
            // The receiving itself is well, and what others have sent waits behind this.
            Err(error) if is_about_an_answer(&error) => {
                tasks.report.failed_receives += 1;
                tracing::debug!(%error, "an answer did not arrive");
            }
            // Without a pause this loop might do nothing but fail.
            Err(error) => {
                tasks.report.failed_receives += 1;
                tracing::error!(%error, ?pause, "cannot receive datagrams");
                retry_at = Some(Instant::now() + pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    timeout(limits.drain, tasks.all_ended()).await.ok(); // who is late is still in the set
    tasks.running.abort_all();
    // Unconstrained: a budget that ends at 128 tasks would hide the rest when the time is over.
    let ended = unconstrained(tasks.all_ended());
    timeout(limits.abort, ended).await.ok();
    for peer in tasks.peers.values() {
        tracing::error!(?peer, "a datagram's handler cannot be stopped");
        tasks.report.still_running += 1;
    }
    tasks.report
}

/// How a task came to its end.
enum Ended {
    Answered,
    Unanswered,
    Unsent(io::Error),
    Late,
}

async fn handle<S: Socket, F: Future<Output = Option<Vec<u8>>>>(
    socket: Arc<S>,
    handler: Arc<impl Fn(Vec<u8>, S::Peer) -> F>,
    datagram: Vec<u8>,
    peer: S::Peer,
) -> Ended {
    // Called in the task, so that a panic in the call is the task's as well.
    let Some(answer) = handler(datagram, peer.clone()).await else {
        return Ended::Unanswered;
    };
    let sent = socket.answer(&answer, peer).await;
    sent.map_or_else(Ended::Unsent, |()| Ended::Answered)
}

/// Where an answer went, nobody receives. Windows tells so in a later receive (`ConnectionReset`),
/// the others only if the socket is connected (`ConnectionRefused`).
fn is_about_an_answer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

/// The running handlers, whom they answer, and how the others ended.
struct Tasks<P> {
    running: JoinSet<Ended>,
    peers: HashMap<Id, P>,
    report: Report,
}

impl<P: fmt::Debug> Tasks<P> {
    /// Waits for a handler to end, and counts it. `None` if none is running.
    async fn ended(&mut self) -> Option<()> {
        let ended = self.running.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let peer = self.peers.remove(&id).map(tracing::field::debug);
        match ended {
            Ok((_, Ended::Answered)) => self.report.answered += 1,
            Ok((_, Ended::Unanswered)) => self.report.unanswered += 1,
            Ok((_, Ended::Unsent(error))) => {
                tracing::debug!(peer, %error, "an answer cannot be sent");
                self.report.unsent += 1;
            }
            Ok((_, Ended::Late)) => {
                tracing::debug!(peer, "an answer is late");
                self.report.late += 1;
            }
            Err(error) if error.is_panic() => {
                tracing::error!(peer, %error, "a datagram's handler panicked");
                self.report.panicked += 1;
            }
            Err(_) => {
                tracing::error!(peer, "a datagram's handler was aborted");
                self.report.aborted += 1;
            }
        }
        Some(())
    }

    async fn all_ended(&mut self) {
        while self.ended().await.is_some() {}
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the program that receives there, or take another port",
        io::ErrorKind::AddrNotAvailable => "take an address of this host",
        io::ErrorKind::PermissionDenied => "take a port above 1023, or grant the right to this one",
        io::ErrorKind::InvalidInput => "write it as host:port, with a port of 65535 at most",
        _ => "check the name, and that this host can resolve it",
    }
}
