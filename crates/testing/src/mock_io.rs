//! # Mock I/O: a scripted peer, tokio_test::io and duplex
//!
//! A protocol function is tested against a peer that answers at once, whole, and to the end. The
//! network does none of these: an answer comes in two pieces with a pause between them, the peer goes
//! away half way, or a read fails. Here one script of a conversation is played again for each byte of
//! it: paused there, ended there, failed there; and each time the outcome is checked.
//!
//! ## Use it when
//! - a function reads or writes a protocol, and takes any `AsyncRead + AsyncWrite`;
//! - it must give the same result however the bytes are cut up, and an error if they end too early.
//!
//! ## Use something else when
//! - one fixed conversation is enough: `tokio_test::io::Builder`, whose mock panics at the first wrong
//!   byte, and at its drop if something of the script is left;
//! - the function is dropped half way, by a timeout or in `select!`: `every_await_point`;
//! - addresses, several peers or lost packets matter: `simulate_network`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features io-util,macros,rt,time
//! cargo add tokio-test
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well.
//!
//! ## Watch out
//! - Time must be paused (`start_paused = true`), or every pause is waited for.
//! - `duplex` holds what fits into it: with room for both requests, a client that writes everything
//!   before it reads anything looks right. A capacity of 1 finds every such place.
//! - Bytes that the operation leaves unread are not noticed here. Return what is left, or use
//!   `Builder`: "There is still data left to read".
//! - `Builder` takes a write that comes before the read in front of it, as long as the script has
//!   such a write somewhere: a client that does not wait for the greeting passes. Here it does too,
//!   as on a network; an answer before its question does not.
//! - `Builder`: a write that is not in the script, while reads are, is no panic. It waits for ever,
//!   and nothing wakes it. Put a `timeout` around it.
//! - `Builder`: a `read_error` panics with "There are no other references" while the builder is
//!   alive. Build in the same statement.
//! - `Builder`: a panic, that of its drop too, in a spawned task goes into the `JoinHandle`. Await it.
//! - `Builder`: `shutdown` and `flush` are always fine; whoever forgets them is not found. `duplex`
//!   has no buffer to flush either, but tells the peer of a shutdown.

use std::any::Any;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, Chain, DuplexStream, Join, ReadHalf, WriteHalf, duplex, join,
    split,
};
use tokio::time::{sleep, timeout};
use tokio_test::io::{Builder, Mock};

/// What the operation gets for a connection: one end of a `duplex`. Its reads may end in an error,
/// which `duplex` alone cannot do.
pub type Stream = Join<Chain<ReadHalf<DuplexStream>, Mock>, WriteHalf<DuplexStream>>;

/// What the peer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Reads these bytes, and accepts no others.
    Expect(&'a [u8]),
    /// Writes these.
    Send(&'a [u8]),
    /// Writes no more: reads find the end. The end of the script does the same.
    Shutdown,
}

impl<'a> Step<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Expect(bytes) | Self::Send(bytes) => bytes,
            Self::Shutdown => &[],
        }
    }
}

/// How the conversation goes in one round. Positions count its bytes from 0, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Without a pause.
    Whole,
    /// With a pause after each byte.
    Bytewise,
    /// With one pause, after so many bytes.
    PauseAfter(usize),
    /// After so many bytes the peer closes the connection: reads end, writes fail with `BrokenPipe`.
    EndAfter(usize),
    /// After so many bytes the connection breaks: reads fail with `ConnectionReset`, once.
    ErrorAfter(usize),
}

/// The connection.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Bytes under way in each direction before a write has to wait, as in a socket's buffer.
    pub capacity: NonZeroUsize,
    /// How long the peer pauses. More than the operation's own time limit, and the limit is tested.
    pub pause: Duration,
    /// How long a round may take, pauses included.
    pub limit: Duration,
}

/// What was found, and in which round.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{delivery:?}: {fault}")]
pub struct DeliveryError {
    /// The round.
    pub delivery: Delivery,
    /// What was found.
    pub fault: Fault,
}

/// What can be wrong in a round.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The operation panicked with this message, or `check` did when it saw the outcome.
    #[error("{0}")]
    Broken(String),
    /// The operation wrote something else than the script expects, or too little, or too much.
    #[error("byte {at}: expected \"{}\", got \"{}\"", expected.escape_ascii(), got.escape_ascii())]
    Differs {
        /// Bytes of the conversation before this.
        at: usize,
        /// What the script expects next; empty after its last step.
        expected: Vec<u8>,
        /// What came; empty if the operation closed the connection.
        got: Vec<u8>,
    },
    /// The round was not done after this time: each side waits for the other, or the stream was kept.
    #[error("still running after {0:?}")]
    Stuck(Duration),
}

/// Plays `script` against `operation` as a whole, then bytewise, then paused, ended and failed at
/// each byte, and calls `check` with the outcome of each round. Returns how many rounds there were:
/// three for each byte of the script, and one.
///
/// `check` panics (`assert!`) if the outcome is not allowed. `operation` owns its stream and must
/// drop it.
///
/// # Errors
///
/// [`DeliveryError`], of the first round that is not as it should be.
///
/// # Cancel safety
///
/// Dropping it drops the round under way, and starts no other.
pub async fn every_delivery<T>(
    link: Link,
    script: &[Step<'_>],
    operation: impl AsyncFn(Stream) -> T,
    check: impl Fn(Delivery, T),
) -> Result<usize, DeliveryError> {
    let total: usize = script.iter().map(|step| step.bytes().len()).sum();
    let rounds = [Delivery::Whole]
        .into_iter()
        .chain((total > 0).then_some(Delivery::Bytewise))
        .chain((1..total).map(Delivery::PauseAfter))
        .chain((0..total).map(Delivery::EndAfter))
        .chain((0..total).map(Delivery::ErrorAfter));
    let mut played = 0;
    for delivery in rounds {
        let round = round(link, script, delivery, &operation, &check);
        let ended = timeout(link.limit, round).await;
        ended
            .unwrap_or(Err(Fault::Stuck(link.limit)))
            .map_err(|fault| DeliveryError { delivery, fault })?;
        played += 1;
    }
    Ok(played)
}

async fn round<T>(
    link: Link,
    script: &[Step<'_>],
    delivery: Delivery,
    operation: impl AsyncFn(Stream) -> T,
    check: impl Fn(Delivery, T),
) -> Result<(), Fault> {
    let (near, far) = duplex(link.capacity.get());
    let (read, write) = split(near);
    // What a read finds once the peer has closed: the end, or first an error.
    let after = match delivery {
        Delivery::ErrorAfter(_) => Builder::new()
            .read_error(ErrorKind::ConnectionReset.into())
            .build(),
        _ => Builder::new().build(),
    };
    let stream = join(read.chain(after), write);
    // Inside the block, so that a panic before the operation's first await is caught too.
    let operation = AssertUnwindSafe(async { operation(stream).await }).catch_unwind();
    let operation = async { operation.await.map_err(broken) };
    let peer = async {
        match play(far, script, delivery, link.pause).await {
            // Why it closed early is in its outcome: that is looked at first.
            Err(Fault::Differs { got, at, expected }) if got.is_empty() => {
                Ok(Err(Fault::Differs { got, at, expected }))
            }
            played => played.map(Ok),
        }
    };
    let (outcome, played) = tokio::try_join!(operation, peer)?;
    catch_unwind(AssertUnwindSafe(|| check(delivery, outcome))).map_err(broken)?;
    played
}

/// The peer's side. Returning closes the connection.
async fn play(
    mut peer: DuplexStream,
    script: &[Step<'_>],
    delivery: Delivery,
    pause: Duration,
) -> Result<(), Fault> {
    use Delivery::{Bytewise, EndAfter, ErrorAfter, PauseAfter};
    let mut at = 0;
    for step in script {
        if *step == Step::Shutdown {
            peer.shutdown().await.unwrap_or_default(); // that of a `duplex` cannot fail
        }
        let mut rest = step.bytes();
        while !rest.is_empty() {
            match delivery {
                EndAfter(place) | ErrorAfter(place) if place == at => return Ok(()),
                PauseAfter(place) if place == at => sleep(pause).await,
                Bytewise if at > 0 => sleep(pause).await,
                _ => {}
            }
            let most = match delivery {
                Bytewise => 1,
                PauseAfter(place) | EndAfter(place) | ErrorAfter(place) if place > at => place - at,
                _ => rest.len(),
            };
            let (piece, _) = rest.split_at(most.min(rest.len()));
            let moved = if let Step::Expect(_) = step {
                expect(&mut peer, piece, at).await?
            } else {
                // Refused once the operation has closed: whether it might is for `check` to say.
                peer.write_all(piece).await.unwrap_or_default();
                piece.len()
            };
            at += moved;
            rest = rest.get(moved..).unwrap_or_default();
        }
    }
    peer.shutdown().await.unwrap_or_default();
    expect(&mut peer, &[], at).await.map(drop)
}

/// Reads some of `expected`, or the end if it is empty, and returns how much.
async fn expect(peer: &mut DuplexStream, expected: &[u8], at: usize) -> Result<usize, Fault> {
    let mut got = Vec::new();
    let most = if expected.is_empty() {
        64
    } else {
        expected.len()
    };
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let read = peer.take(most).read_buf(&mut got).await;
    let read = read.unwrap_or_default(); // that of a `duplex` cannot fail
    if expected.starts_with(&got) && (read > 0 || expected.is_empty()) {
        return Ok(read);
    }
    let expected = expected.to_vec();
    Err(Fault::Differs { at, expected, got })
}

fn broken(panic: Box<dyn Any + Send>) -> Fault {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::Broken(text.unwrap_or("no message").to_owned())
}
