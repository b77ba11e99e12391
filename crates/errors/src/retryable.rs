//! # Retryable errors: the error knows whether to try again
//!
//! Whether a failed call may be made again depends on what failed, and only the code that saw it
//! knows. A caller that guesses, by the error's text or by trying everything three times, repeats
//! what cannot succeed and does twice what was done already. Here each error answers the question
//! itself, with three answers instead of two: the third is "nobody knows whether it was done".
//!
//! ## Use it when
//! - an error type of yours goes to code that retries: `backoff`, `retry_http`.
//!
//! ## Use something else when
//! - nobody retries, and the error only has to be read: `context`;
//! - the question is how long to wait and how often to try: `backoff`, `retry_budget`.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - A call that timed out, or whose connection broke, may have been carried out. Made again, a
//!   payment is paid twice, as shown in `paid_twice`. Give the request a key by which the other side
//!   knows it again; then it is idempotent.
//! - An error in `io::Error::other` loses its kind. Keep it as a variant of its own, and delegate.
//! - A retry around a retry multiplies: three tries of three tries are nine calls (`retry_storm`).
//!   Retry in one place, and answer [`Retry::Never`] above it.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::error::Elapsed;

/// What an error says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call will fail again: the fault is in the request, or it lasts.
    Never,
    /// Nothing was done, and later it may succeed. `after` is how long the other side wants to be
    /// left alone, if it said so.
    Later {
        /// At least this long.
        after: Option<Duration>,
    },
    /// It may have been done, and the answer lost. Try again if doing it twice is as good as once.
    IfIdempotent,
}

impl Retry {
    /// Nothing was done, and nobody said how long to wait.
    pub const LATER: Self = Self::Later { after: None };

    /// How long to wait at least before the next try, or `None` if there must not be one.
    /// `idempotent` is what the caller knows of its request: done twice, it is as if done once.
    #[must_use]
    pub fn wait_at_least(self, idempotent: bool) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Later { after } => Some(after.unwrap_or_default()),
            Self::IfIdempotent => idempotent.then_some(Duration::ZERO),
        }
    }
}

/// An error that knows whether to try again.
///
/// ```
/// # use errors::retryable::{Retry, Retryable};
/// # use std::{io, time::Duration};
/// enum PayError {
///     NoMoney,
///     Busy { for_seconds: u64 },
///     Io(io::Error),
/// }
///
/// impl Retryable for PayError {
///     fn retry(&self) -> Retry {
///         match self {
///             Self::NoMoney => Retry::Never,
///             Self::Busy { for_seconds } => Retry::Later {
///                 after: Some(Duration::from_secs(*for_seconds)),
///             },
///             Self::Io(error) => error.retry(),
///         }
///     }
/// }
/// # assert_eq!(PayError::NoMoney.retry(), Retry::Never);
/// # assert_eq!(PayError::Io(io::ErrorKind::ConnectionRefused.into()).retry(), Retry::LATER);
/// # let busy = PayError::Busy { for_seconds: 3 };
/// # assert_eq!(busy.retry().wait_at_least(false), Some(Duration::from_secs(3)));
/// ```
pub trait Retryable {
    /// Whether to try again.
    fn retry(&self) -> Retry;
}

/// By its kind. What is not known to pass by itself, or is not known at all, is [`Retry::Never`].
///
/// A kind that comes both before and after a request was sent counts as after: an unreachable host,
/// or [`ErrorKind::WouldBlock`], which on Unix is also the read timeout of a blocking socket. Code
/// that knows that it was only connecting can answer [`Retry::LATER`] itself.
impl Retryable for io::Error {
    fn retry(&self) -> Retry {
        match self.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::AddrNotAvailable // no port left
            | ErrorKind::Interrupted
            | ErrorKind::ResourceBusy => Retry::LATER,
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable // an established connection may end so, too
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NotConnected
            | ErrorKind::TimedOut
            | ErrorKind::UnexpectedEof
            | ErrorKind::WouldBlock // on Unix, the read timeout of a blocking socket
            | ErrorKind::WriteZero => Retry::IfIdempotent,
            _ => Retry::Never,
        }
    }
}

/// The time was over; what the call had done by then, nobody knows.
impl Retryable for Elapsed {
    fn retry(&self) -> Retry {
        Retry::IfIdempotent
    }
}

impl<E: Retryable + ?Sized> Retryable for &E {
    fn retry(&self) -> Retry {
        E::retry(self)
    }
}

impl<E: Retryable + ?Sized> Retryable for Box<E> {
    fn retry(&self) -> Retry {
        E::retry(self)
    }
}

impl<E: Retryable + ?Sized> Retryable for Arc<E> {
    fn retry(&self) -> Retry {
        E::retry(self)
    }
}

/// For an error without a type, as in `anyhow`: the answer of the first `io::Error` or [`Elapsed`]
/// among the error and its sources, and [`Retry::Never`] if there is none.
#[must_use]
pub fn retry_of(error: &(dyn Error + 'static)) -> Retry {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.retry();
        }
        if let Some(error) = error.downcast_ref::<Elapsed>() {
            return error.retry();
        }
        next = error.source();
    }
    Retry::Never
}
