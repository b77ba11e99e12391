//! # Retry HTTP: statuses, `Retry-After` and broken connections
//!
//! An HTTP request fails in more ways than one: the connection is refused, reset or silent, the
//! answer breaks off in its body, or says 503, or 429 and when to come back. Some of these may be
//! tried again, some only if the request does no harm when done twice, some never. This sends a
//! request until there is a whole answer that will not change by waiting.
//!
//! ## Use it when
//! - the server is yours or a service of others, and short faults should not reach the caller.
//!
//! ## Use something else when
//! - it is not HTTP: `backoff`, with errors that are `retryable`;
//! - the answer is too long for memory: take a stream, and resume it with a range request;
//! - no wait between the tries is needed: `reqwest::retry`, which has a budget for each host.
//!
//! ## Add to your project
//! ```console
//! cargo add backon
//! cargo add bytes
//! cargo add httpdate
//! cargo add reqwest
//! cargo add thiserror
//! cargo add tokio --features time
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `reqwest::Client::new()` waits for ever: it has no limit for an answer. And a client for each
//!   request opens a connection for each, since the pool belongs to the client.
//! - `send` returns when the headers are there. A connection that breaks in the body is an error of
//!   `bytes`, after a retry around `send` alone has taken the request for done.
//! - A POST that timed out may have been done (`paid_twice`). It is tried again here only if nothing
//!   can have been done, or if it has an `Idempotency-Key`, which the server must know.
//! - `Retry-After` may be a date, and the clocks may differ: it is read against the answer's `Date`.
//! - A client that follows redirects, as reqwest's own do, tells of the last page only. If a POST was
//!   done and sent on to a page that is busy, it looks as if nothing had been done. [`client`]
//!   follows none; build yours with `redirect::Policy::none()`.
//! - All clients get the same `Retry-After`. Without a random part on top they return together.

use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::{Bytes, BytesMut};
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::redirect;
use reqwest::{Client, ClientBuilder, Request, StatusCode};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// The limits of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection stands.
    pub connect: Duration,
    /// From the start of the try to the last byte of the answer.
    pub answer: Duration,
}

/// How long to wait, how often to try, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The shortest first wait. It doubles with each further one, and each is lengthened by up to as
    /// much again at random.
    pub base: Duration,
    /// No wait is above this, unless the server asks for more.
    pub cap: Duration,
    /// Requests in all, the first one included.
    pub tries: NonZeroU32,
    /// Time in all, waits and tries together.
    pub total: Duration,
    /// A longer body is an error, in bytes. Of a busy server's, the rest is left unread.
    pub longest_body: usize,
}

/// A whole answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status. Not necessarily a success: 404 is an answer, too.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why one try has no answer to keep.
#[derive(Debug, Error)]
pub enum TryError {
    /// The server answers, and cannot help at the moment. The body is what came of it, up to
    /// [`Policy::longest_body`].
    #[error("the server answers {}", .0.status)]
    Busy(Answer),
    /// No whole answer came.
    #[error("no answer")]
    NoAnswer(#[source] reqwest::Error),
    /// The body is longer than [`Policy::longest_body`].
    #[error("the body of the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The request's body is a stream, which could not be sent twice. Nothing was sent.
    #[error("the body of the request is a stream and cannot be sent twice")]
    Stream,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum SendError {
    /// The last try failed, and there was no other.
    #[error("no answer after {tries} tries")]
    Failed {
        /// Tries made.
        tries: u32,
        /// How the last one ended.
        source: TryError,
    },
    /// The time was over during a try. Nobody knows whether that one was done.
    #[error("no answer within {total:?}, after {tries} tries")]
    OutOfTime {
        /// Tries begun.
        tries: u32,
        /// The time that the policy allows.
        total: Duration,
    },
}

impl Policy {
    /// The waits between the tries, before what the server asks for, in backon's terms.
    #[must_use]
    pub fn waits(&self) -> ExponentialBuilder {
        let most = self.cap / 2; // jitter doubles it
        ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.base.min(most))
            .with_max_delay(most)
            .with_max_times(usize::try_from(self.tries.get() - 1).unwrap_or(usize::MAX))
    }
}

/// The builder of a client with time limits. Build one and keep it: the connections that a client can
/// use again are its own.
///
/// It follows no redirect: that is an [`Answer`], whose `Location` tells where to go on. If the client
/// followed it, a failure there would be taken for one of the request.
pub fn client(limits: Limits) -> ClientBuilder {
    let builder = Client::builder().redirect(redirect::Policy::none());
    let builder = builder.connect_timeout(limits.connect);
    builder.timeout(limits.answer)
}

/// Sends `request` until there is an answer to keep, or the limits of `policy` are reached. Each
/// error that is tried again is told in an event.
///
/// | A try ends with | It is sent again |
/// | --- | --- |
/// | no connection; 429 or 503, whatever its body | yes, after `Retry-After` if there is one |
/// | a reset, a time-out, a body cut short; 408, 502 or 504 | if the method is idempotent or the request has an `Idempotency-Key` |
/// | any other status | no: it is the answer |
///
/// A `Retry-After` that ends after [`Policy::total`] is not waited for.
///
/// # Errors
///
/// [`SendError`].
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O or timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it closes the connection of the try under way and makes no other; the
/// server may have done what was asked.
pub async fn send(
    client: &Client,
    request: &Request,
    policy: &Policy,
) -> Result<Answer, SendError> {
    let key = request.headers().contains_key("idempotency-key");
    let idempotent = key || request.method().is_idempotent();
    let end = Instant::now().checked_add(policy.total).filter(can_come);
    let mut tries = 0;
    let one_try = || {
        tries += 1;
        send_once(client, request, policy.longest_body)
    };
    let calls = one_try
        .retry(policy.waits())
        .adjust(|error, wait| {
            let wait = wait?.saturating_add(error.wait_at_least(idempotent)?);
            let next = Instant::now().checked_add(wait).filter(can_come)?;
            end.is_none_or(|end| next < end).then_some(wait)
        })
        .notify(|error, wait| {
            let cause = error.source().map(tracing::field::display);
            tracing::debug!(%error, cause, ?wait, "the request is sent again");
        });
    let ended = match end {
        Some(end) => timeout_at(end, calls).await.ok(),
        None => Some(calls.await),
    };
    match ended {
        Some(ended) => ended.map_err(|source| SendError::Failed { tries, source }),
        None => Err(SendError::OutOfTime {
            tries,
            total: policy.total,
        }),
    }
}

/// A timer rounds up to a millisecond, and panics if the clock cannot count that far.
fn can_come(at: &Instant) -> bool {
    at.checked_add(Duration::from_millis(1)).is_some()
}

async fn send_once(client: &Client, request: &Request, longest: usize) -> Result<Answer, TryError> {
    let request = request.try_clone().ok_or(TryError::Stream)?;
    let mut response = client.execute(request).await.map_err(TryError::NoAnswer)?;
    let busy = matches!(
        response.status(),
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let mut body = BytesMut::new();
    loop {
        let mut chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(_) if busy => break, // the status and the headers say all
            Err(error) => return Err(TryError::NoAnswer(error)),
        };
        let room = longest - body.len();
        if chunk.len() <= room {
            body.extend_from_slice(&chunk);
        } else if busy {
            chunk.truncate(room);
            body.extend_from_slice(&chunk);
            break;
        } else {
            return Err(TryError::TooLong(longest));
        }
    }
    let answer = Answer {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        body: body.freeze(),
    };
    if busy {
        Err(TryError::Busy(answer))
    } else {
        Ok(answer)
    }
}

impl TryError {
    /// How long to wait at least before the next try, or `None` if there must not be one.
    fn wait_at_least(&self, idempotent: bool) -> Option<Duration> {
        let (nothing_was_done, wait) = match self {
            Self::Busy(answer) => {
                let refused = [
                    StatusCode::TOO_MANY_REQUESTS,
                    StatusCode::SERVICE_UNAVAILABLE,
                ];
                let wait = retry_after(&answer.headers).unwrap_or_default();
                (refused.contains(&answer.status), wait)
            }
            Self::NoAnswer(error) if error.is_builder() || error.is_redirect() => return None,
            Self::NoAnswer(error) => (error.is_connect(), Duration::ZERO),
            Self::TooLong(_) | Self::Stream => return None,
        };
        (nothing_was_done || idempotent).then_some(wait)
    }
}

/// `Retry-After` in seconds, or as a date beside the answer's own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| httpdate::parse_http_date(text).ok();
    let (then, now) = (date(after)?, date(text(DATE)?)?);
    Some(then.duration_since(now).unwrap_or_default()) // in the past: now
}
