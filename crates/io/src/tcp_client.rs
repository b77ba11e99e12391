//! # TCP client: request and whole response
//!
//! TCP has no messages: one `read` may give a part of an answer, and a `read` of 0 may be a peer that
//! died half way. This client sends a request behind its length, reads until the answer is whole,
//! within limits in time and size, and never takes a late answer for that of the next request.
//!
//! ## Use it when
//! - you speak a protocol of your own over TCP, or over another stream such as TLS: each request has
//!   one answer, and both are sent as by `framed_length`, four bytes of length before them.
//!
//! ## Use something else when
//! - the protocol is HTTP, SQL or Redis: it has a client that others have tested;
//! - several requests are under way on one connection, or messages come unasked: `framed_length`;
//! - both sides talk at once: `split_stream`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features io-util,net,rt,time
//! ```
//!
//! ## Watch out
//! - To take one `read` for an answer cuts it, and puts its rest before the next: shown in
//!   `one_read_one_message`.
//! - An error after the request was sent does not say whether the peer carried it out. Repeat at once
//!   only after [`RequestError::Closed`]; otherwise only what may be done twice.
//! - With a bare stream, a `timeout` around a request leaves the answer on its way, and the next
//!   request reads it as its own. One around each `read` is never reached by a peer that sends a byte
//!   now and then. [`Limits::request`] is for the whole, and closes the connection.
//! - A second answer to one request is found out if it has arrived before the next is made. One that
//!   comes later is taken for the next's: put a number in request and answer.
//! - A peer that answers while it reads, as `tcp_server`'s `echo` does, and a long request: once the
//!   buffers are full both write, neither reads, and [`Limits::request`] ends it.
//! - A name's addresses are tried in turn, and a silent one takes all of [`Limits::connect`] from
//!   those behind it. Where that matters, resolve first and connect to each.

use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

/// What a client waits for and takes. [`Duration::MAX`] is no limit; zero ends what has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To resolve the name and connect, all its addresses together.
    pub connect: Duration,
    /// To write a request and read the whole of its answer.
    pub request: Duration,
    /// Bytes in a request, and in an answer. A length of 4 GiB or more cannot be sent in any case.
    pub message: NonZeroUsize,
}

/// Nothing that the address stands for accepted a connection.
#[derive(Debug, Error)]
#[error("cannot connect to {address:?}: {error}; {}", remedy(error))]
pub struct ConnectError {
    /// What was asked for.
    pub address: String,
    /// What the system or its resolver says; `TimedOut` at [`Limits::connect`].
    pub error: io::Error,
}

/// Why there is no answer. What has come of it is dropped.
///
/// Each closes the connection, except [`RequestTooLong`](Self::RequestTooLong).
#[derive(Debug, Error)]
pub enum RequestError {
    /// Nothing was sent, and the connection is as it was. Has the request's length.
    #[error("a request of {0} bytes is over the limit; raise the limit on both sides")]
    RequestTooLong(usize),
    /// Nothing was sent: an earlier request failed or was dropped.
    #[error("this connection was given up by an earlier request; connect anew")]
    Broken,
    /// Nothing was sent: the connection was found closed.
    #[error("the idle connection was closed; connect anew and repeat the request")]
    Closed,
    /// Nothing was sent: there is more to read after the last answer.
    #[error("the peer sent bytes without a request; check that both speak the same protocol")]
    Unasked,
    /// [`Limits::request`] was reached.
    #[error("no whole answer within {0:?}; see what keeps the peer, or raise the limit")]
    TimedOut(Duration),
    /// The peer ended the stream before the answer was whole.
    #[error("the peer closed before the end of its answer; look for a crash or a limit there")]
    CutShort,
    /// The answer is over the limit. Has the length that the peer announced.
    #[error("an answer of {0} bytes is over the limit; raise the limit or ask for less")]
    AnswerTooLong(usize),
    /// The stream failed.
    #[error("the connection failed: {0}; connect anew")]
    Io(io::Error),
}

/// One end of a connection on which one request at a time is answered.
#[derive(Debug)]
pub struct Client<S> {
    /// Taken while a request is under way: whatever ends that too early drops it, and so closes it.
    stream: Option<S>,
    limits: Limits,
}

/// Connects to `address`, a `host:port`.
///
/// # Errors
///
/// [`ConnectError`], which says what to do.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O or timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it closes what it has opened. **The system's resolver cannot be
/// stopped: its thread goes on until it answers**, and so it does after [`Limits::connect`].
pub async fn connect(address: &str, limits: Limits) -> Result<Client<TcpStream>, ConnectError> {
    let connected = timeout(limits.connect, TcpStream::connect(address)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let address = address.to_owned();
    let stream = connected.map_err(|error| ConnectError { address, error })?;
    // Nagle's algorithm holds a short packet back until the peer has acknowledged the one before, and
    // the peer delays that, hoping to send it with its answer. If this fails, the peer is gone, and
    // the first request will tell.
    stream.set_nodelay(true).ok();
    Ok(Client::new(stream, limits))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Takes over a stream that is connected, such as TLS. Set `TCP_NODELAY` below it yourself.
    #[must_use]
    pub fn new(stream: S, limits: Limits) -> Self {
        let stream = Some(stream);
        Self { stream, limits }
    }

    /// Sends `request` and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// [`RequestError`], which says what to do.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it closes the connection: the peer may have carried the request
    /// out, and every further one is [`RequestError::Broken`].
    pub async fn request(&mut self, request: &[u8]) -> Result<Vec<u8>, RequestError> {
        let (patience, limit) = (self.limits.request, self.limits.message.get());
        let header = match u32::try_from(request.len()) {
            Ok(header) if request.len() <= limit => header.to_be_bytes(),
            _ => return Err(RequestError::RequestTooLong(request.len())),
        };
        let mut stream = self.stream.take().ok_or(RequestError::Broken)?;
        must_be_silent(&mut stream)?;
        let exchange = async {
            // In one piece, or the header would be a packet of its own.
            stream.write_all(&[&header, request].concat()).await?;
            stream.flush().await?; // TLS may still hold a part
            let header = stream.read_u32().await?;
            let length = header as usize;
            if length > limit {
                return Err(RequestError::AnswerTooLong(length));
            }
            // Grows with what comes: 8 KiB at most are taken for what is only announced.
            let mut answer = Vec::with_capacity(length.min(8 * 1024));
            let mut body = (&mut stream).take(header.into());
            if body.read_to_end(&mut answer).await? < length {
                return Err(RequestError::CutShort);
            }
            Ok(answer)
        };
        let exchanged = timeout(patience, exchange).await;
        let answer = exchanged.unwrap_or(Err(RequestError::TimedOut(patience)))?;
        self.stream = Some(stream);
        Ok(answer)
    }

    /// The stream itself, for its addresses and options. `None` once the connection is given up.
    pub fn get_ref(&self) -> Option<&S> {
        self.stream.as_ref()
    }
}

/// Between two requests there is nothing to read. Looks once, and does not wait.
fn must_be_silent(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), RequestError> {
    let mut context = Context::from_waker(Waker::noop());
    // Unconstrained, since a task that has used its budget up is told that there is nothing to read.
    match pin!(unconstrained(stream.read(&mut [0]))).poll(&mut context) {
        Poll::Pending => Ok(()),
        Poll::Ready(Ok(1..)) => Err(RequestError::Unasked),
        Poll::Ready(Ok(0) | Err(_)) => Err(RequestError::Closed),
    }
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::CutShort,
            _ => Self::Io(error),
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "start the server there, or correct the port",
        io::ErrorKind::TimedOut => "look for a firewall or a full server, or raise the limit",
        _ => "write it as host:port, and check the name, the resolver and the route",
    }
}
