//! # TCP server: an accept loop with limits
//!
//! `loop { spawn(handle(listener.accept().await?)) }` ends at the first `accept` that fails, takes
//! any number of clients, waits for ever for those that fall silent, and cannot be stopped. This
//! server lives through failed accepts, limits clients in number and in time, keeps a panic or an
//! error to the client that it concerns, and at a stop lets the clients finish, up to a deadline.
//!
//! ## Use it when
//! - you serve a protocol of your own over TCP, or over another [`Listener`], to clients that may be
//!   slow, broken or hostile.
//!
//! ## Use something else when
//! - the protocol is HTTP or gRPC: a framework has an accept loop of its own;
//! - packets are independent, and one may be lost: `udp_server`;
//! - bytes go on to another server: `relay` as the handler.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features io-util,macros,net,rt,time
//! cargo add tokio-util
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - A client that sends a byte now and then is never idle. [`Limits::lifetime`] ends it; where the
//!   protocol has requests, also put a `timeout` around the reading of each.
//! - Clients above [`Limits::connections`] see an open connection on which nobody answers: they wait
//!   in the kernel's queue. A stop resets those that are still there.
//! - Each connection is a file descriptor. Set the process's limit (`ulimit -n`) above
//!   `connections` and what the handlers open: clients behind a failing accept wait, too.
//! - A handler that returns with bytes unread makes the kernel reset the connection, and what the
//!   client has not received by then is lost. Read to the end, or `shutdown` and then read to the end.
//! - A handler's write is done when the kernel has the bytes. Only an answer shows that they arrived.
//! - What a handler spawns is outside of the limits and the stop, and so is a connection that it hands
//!   over. Spawn into a `JoinSet` that the handler owns.
//! - A blocking call in a handler hears neither limit nor abort, and on a runtime with one thread it
//!   stops everything, the deadlines too.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// After the first failed accept in a row. Each further pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The most that [`echo`] reads at once.
const BUFFER: usize = 16 * 1024;

/// What a server grants its clients. [`Duration::MAX`] is no limit; zero ends what has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. At this number nothing is accepted; further clients wait in the kernel.
    pub connections: NonZeroUsize,
    /// How long a read waits while no byte passes, in either direction.
    pub idle: Duration,
    /// How long a write waits while the client takes no byte.
    pub write: Duration,
    /// How long a connection lives, whatever its handler awaits.
    pub lifetime: Duration,
    /// How long connections may go on after a stop. Those that do are aborted.
    pub drain: Duration,
    /// How long aborted ones have to come to an await. Those that do not are `still_running`.
    pub abort: Duration,
}

/// How the connections ended: each that was accepted is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Report {
    /// The handler returned `Ok`.
    pub served: u64,
    /// The handler returned an error, or the connection reached [`Limits::lifetime`].
    pub failed: u64,
    /// The handler panicked.
    pub panicked: u64,
    /// Aborted, [`Limits::drain`] after the stop.
    pub aborted: u64,
    /// Aborted, and had come to no await within [`Limits::abort`]. **It runs on** until its next.
    pub still_running: u64,
    /// Accepts that failed, which are no connections.
    pub failed_accepts: u64,
}

/// Where connections come from: a `TcpListener`, and what you implement it for.
///
/// A TLS handshake belongs in the handler: here one slow client would keep all others waiting.
pub trait Listener {
    /// A connection.
    type Stream: Send + 'static;
    /// The other end's address.
    type Client: fmt::Debug + Clone + Send + 'static;

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it must have taken no connection: it is called anew many times.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Self::Client)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Client = std::net::SocketAddr;

    async fn accept(&mut self) -> io::Result<(TcpStream, Self::Client)> {
        let (stream, client) = TcpListener::accept(self).await?;
        // Or a small write waits until the client has acknowledged the one before. If this fails,
        // the client is gone, and the handler will see it.
        stream.set_nodelay(true).ok();
        Ok((stream, client))
    }
}

/// The address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {error}; {}", remedy(error))]
pub struct BindError {
    /// The address asked for.
    pub address: String,
    /// What the system says.
    pub error: io::Error,
}

/// Listens on `address`, a `host:port`. Port 0 is any free one: `local_addr` tells which.
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
/// Dropped before it is done, it listens on nothing. A host's name takes as long as the resolver
/// does: put a `timeout` around it.
pub async fn bind(address: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| BindError {
        address: address.to_owned(),
        error,
    })
}

/// Calls `handler` in a task for each connection, until `stop` is cancelled; then closes `listener`,
/// waits for the connections within the limits, and tells how all of them ended.
///
/// The handler gets the connection, the client's address, and a token that is cancelled with `stop`
/// and asks it to come to its end. It is called anew for each, so it clones what it captures.
///
/// A failed accept is logged, and repeated after a pause that grows from 10 ms to 1 s. So is a
/// connection that fails, at the level `debug`, since clients can cause any number of these. One
/// whose handler panics or is aborted is an error.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it closes `listener` and aborts the connections; the report is lost.
pub async fn serve<L: Listener, F>(
    mut listener: L,
    limits: Limits,
    stop: CancellationToken,
    handler: impl Fn(Connection<L::Stream>, L::Client, CancellationToken) -> F + Send + Sync + 'static,
) -> Report
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let mut tasks = Tasks {
        running: JoinSet::new(),
        clients: HashMap::new(),
        report: Report::default(),
    };
    let (mut pause, mut retry_at) = (FIRST_PAUSE, None);
    loop {
        let accept = async {
            if let Some(instant) = retry_at {
                sleep_until(instant).await;
            }
            listener.accept().await
        };
        let accepted = select! {
            biased; // who has ended is forgotten, and makes room, before another is let in
            () = stop.cancelled() => break,
            Some(()) = tasks.ended() => continue,
            accepted = accept, if tasks.running.len() < limits.connections.get() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                (pause, retry_at) = (FIRST_PAUSE, None);
                let (handler, stop) = (Arc::clone(&handler), stop.child_token());
                let (connection, peer) = (Connection::new(stream, limits), client.clone());
                let task = tasks.running.spawn(async move {
                    // Called in here, so that a panic in the call is the task's as well.
                    let work = handler(connection, peer, stop);
                    let done = timeout(limits.lifetime, work).await;
                    done.unwrap_or_else(|_| Err(late("the connection is open", limits.lifetime)))
                });
                tasks.clients.insert(task.id(), client);
            }
            // It was in the queue, and left. Nothing is wrong here, and others wait behind it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                tasks.report.failed_accepts += 1;
                tracing::debug!(%error, "a client left before it was accepted");
            }
            // Most often the file descriptors are used up. That stays so until one is closed, and
            // without a pause this loop would do nothing but fail.
            Err(error) => {
                tasks.report.failed_accepts += 1;
                let open = tasks.running.len();
                tracing::error!(%error, open, ?pause, "cannot accept connections");
                retry_at = Some(Instant::now() + pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    drop(listener);
    timeout(limits.drain, tasks.all_ended()).await.ok(); // who is late is still in the set
    tasks.running.abort_all();
    timeout(limits.abort, tasks.all_ended()).await.ok();
    for client in tasks.clients.values() {
        tracing::error!(?client, "a connection's handler cannot be stopped");
        tasks.report.still_running += 1;
    }
    tasks.report
}

/// A handler: gives back every byte, until the client sends no more.
///
/// At the stop it gives back what has arrived, ends the stream, and waits for the client to end its
/// own: what comes after that is dropped.
///
/// # Errors
///
/// If a read or a write fails, or reaches a limit of the connection.
///
/// # Cancel safety
///
/// Dropped before it is done, it loses what it has read and not yet written: 16 KiB at most.
pub async fn echo<S>(mut stream: S, stop: CancellationToken) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut stopped = pin!(stop.cancelled());
    loop {
        let length = select! {
            biased; // what has arrived comes before the stop
            length = stream.read_buf(&mut buffer) => length?,
            () = &mut stopped => 0,
        };
        if length == 0 {
            break;
        }
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    stream.shutdown().await?;
    // To close with bytes unread would reset the connection, and with it what is still on its way.
    while stream.read_buf(&mut buffer).await? > 0 {
        buffer.clear();
    }
    Ok(())
}

/// A stream whose reads and writes fail with `TimedOut` where they wait longer than the [`Limits`]
/// allow.
///
/// An idle one costs one timer. A busy one leaves that timer alone: it fires once per limit, finds
/// that bytes have passed, and is set again.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    read: Wait,
    write: Wait,
    flush: Wait,
}

impl<S> Connection<S> {
    fn new(stream: S, limits: Limits) -> Self {
        Self {
            stream,
            read: Wait::new(limits.idle),
            write: Wait::new(limits.write),
            flush: Wait::new(limits.write),
        }
    }

    /// The stream itself, for its addresses and options.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read.limit(cx, done, "no byte has passed")
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(1..)) = length {
            // A client that takes bytes is not idle, although it sends none.
            self.read.since = self.read.since.map(|_| Instant::now());
        }
        self.write.limit(cx, length, TAKEN)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.flush.limit(cx, done, TAKEN)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.flush.limit(cx, done, TAKEN)
    }
}

const TAKEN: &str = "the client has taken no byte";

/// Since when one operation waits. Reads and writes may be two tasks' (`tokio::io::split`), and a
/// timer wakes one: so each operation has its own, made when it first waits. Flushes have one since
/// `TcpStream`'s are done at once: to a write that waits this means nothing.
#[derive(Debug)]
struct Wait {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            timer: None,
        }
    }

    /// Passes on what is ready; fails what is not once it has waited for the limit.
    fn limit<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        what: &str,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.since = None;
            return polled;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let Some(deadline) = since.checked_add(self.limit) else {
            return Poll::Pending; // beyond the end of time
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                self.since = None;
                return Poll::Ready(Err(late(what, self.limit)));
            }
            timer.as_mut().reset(deadline); // it was set for an earlier wait
        }
        Poll::Pending
    }
}

fn late(what: &str, limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} for {limit:?}"))
}

/// The running handlers, whom they serve, and how the others ended.
struct Tasks<C> {
    running: JoinSet<io::Result<()>>,
    clients: HashMap<Id, C>,
    report: Report,
}

impl<C: fmt::Debug> Tasks<C> {
    /// Waits for a handler to end, and counts it. `None` if none is running.
    async fn ended(&mut self) -> Option<()> {
        let ended = self.running.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let client = self.clients.remove(&id).map(tracing::field::debug);
        match ended {
            Ok((_, Ok(()))) => self.report.served += 1,
            Ok((_, Err(error))) => {
                tracing::debug!(client, %error, "a connection failed");
                self.report.failed += 1;
            }
            Err(error) if error.is_panic() => {
                tracing::error!(client, %error, "a connection's handler panicked");
                self.report.panicked += 1;
            }
            Err(_) => {
                tracing::error!(client, "a connection was aborted");
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
        io::ErrorKind::AddrInUse => "stop the program that listens there, or take another port",
        io::ErrorKind::AddrNotAvailable => {
            "take an address of this host, or 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => "take a port above 1023, or grant the right to this one",
        io::ErrorKind::InvalidInput => "write it as host:port, with a port of 65535 at most",
        _ => "check the name, and that this host can resolve it",
    }
}
