//! # Paginate: a paged API as a stream
//!
//! An API gives its list a page at a time, each with the token of the next. Its reader wants items one
//! by one, and no page fetched that nobody reads. And a page can fail in the middle, hang, be empty
//! without being the last, or name itself as the next.
//!
//! ## Use it when
//! - the answer names what to ask for next: a token, a cursor, a `Link`, the last key, an offset;
//! - reading may stop early, or resume later at a token.
//!
//! ## Use something else when
//! - all pages are known beforehand, by number: `concurrent_map` fetches several at once.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features macros,time
//! ```
//!
//! ## Watch out
//! - After an error the stream is not at its end: polled again, it asks for the same page again, at
//!   once. A loop that only logs errors asks a dead server as fast as it can: leave it, or wait.
//! - `try_unfold` ends after an error. Whoever logs it and reads on takes a part for the whole.
//! - An empty page is not the last. The last is the one without a next token.
//! - With an offset, the next page begins one item too late if an earlier item is deleted meanwhile,
//!   as shown in `offset_paging`. Ask for what comes after the last key.
//! - A fetch that `during` has begun stands still in a body that is awaited outside of it, and its
//!   limit runs out. Await every body in `during`, or none.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::vec;

use futures_util::Stream;
use thiserror::Error;
use tokio::select;
use tokio::time::{Timeout, timeout};

/// What a fetch returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The items, in their order. There may be none.
    pub items: Vec<T>,
    /// The token of the next page; `None` if this is the last.
    pub next: Option<K>,
}

/// Why a page's items are not there. `token` is that of the page, `None` for the first.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PageError<K, E> {
    /// The fetch failed. Polled again, the stream repeats it.
    #[error("could not fetch the page at {token:?}")]
    Fetch {
        /// Which page.
        token: Option<K>,
        /// What the fetch returned.
        source: E,
    },
    /// The fetch took too long, and was dropped. Polled again, the stream repeats it.
    #[error("no page at {token:?} within {limit:?}")]
    TimedOut {
        /// Which page.
        token: Option<K>,
        /// How long it was given.
        limit: Duration,
    },
    /// A page named one as its next that was read before. The stream ends with this.
    #[error("the pages repeat: the page at {token:?} comes again")]
    Cycle {
        /// The page that was named again.
        token: K,
    },
}

/// Reads a list page by page, from the page at `start` on (`None`: the first), as a stream of items.
///
/// `fetch` gets a page by its token. It is called when an item is wanted and the page before has none
/// left, has `limit` for each page, and may be called again with the same token, so it must be safe
/// to repeat. An error comes in the place of its page: no item is skipped, none comes twice. The
/// stream remembers the token of every page, to know one that comes again. It panics if it is polled
/// outside of a Tokio runtime with timers, or if `fetch` does.
pub fn paginate<T, K, E, F, P>(
    start: Option<K>,
    limit: Duration,
    fetch: F,
) -> Paginate<T, K, E, F, P>
where
    K: Clone + Eq + Hash,
    F: FnMut(Option<K>) -> P,
    P: Future<Output = Result<Page<T, K>, E>>,
{
    Paginate {
        limit,
        fetch,
        items: Vec::new().into_iter(),
        seen: start.iter().cloned().collect(),
        next: Some(start),
        request: None,
        ahead: None,
    }
}

/// What [`paginate`] returns. Dropping it drops the fetch under way, dropping `next` loses nothing.
#[must_use = "streams do nothing unless polled"]
pub struct Paginate<T, K, E, F, P> {
    limit: Duration,
    fetch: F,
    /// What is left of the page that is being read.
    items: vec::IntoIter<T>,
    seen: HashSet<K>,
    /// The token of the next page, if there is a next page.
    next: Option<Option<K>>,
    /// The fetch of it.
    request: Option<Pin<Box<Timeout<P>>>>,
    /// What that gave, or what comes instead, until the items before it are read.
    ahead: Option<Answer<T, K, E>>,
}

type Answer<T, K, E> = Result<Page<T, K>, PageError<K, E>>;

impl<T, K, E, F, P> Paginate<T, K, E, F, P>
where
    K: Clone + Eq + Hash,
    F: FnMut(Option<K>) -> P,
    P: Future<Output = Result<Page<T, K>, E>>,
{
    /// Awaits the body of the loop that reads the items, and fetches the next page meanwhile, one
    /// page ahead at most. Without it no page is fetched before its first item is wanted.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has dropped the body where it was; the fetch goes on with the
    /// next call, and no item is lost.
    pub async fn during<B: Future>(&mut self, body: B) -> B::Output {
        let fetch = poll_fn(|cx| {
            if self.ahead.is_none()
                && let Poll::Ready(answer) = self.poll_page(cx)
            {
                self.ahead = answer;
            }
            Poll::<Infallible>::Pending
        });
        select! {
            output = body => output,
            never = fetch => match never {},
        }
    }

    /// The next page, or `None` if there is none to ask for.
    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer<T, K, E>>> {
        let Some(token) = &self.next else {
            return Poll::Ready(None);
        };
        // Taken out, so that one which panics is gone: the next poll asks anew.
        let request = self.request.take();
        let mut request =
            request.unwrap_or_else(|| Box::pin(timeout(self.limit, (self.fetch)(token.clone()))));
        let Poll::Ready(answer) = request.as_mut().poll(cx) else {
            self.request = Some(request);
            return Poll::Pending;
        };
        let (token, limit) = (token.clone(), self.limit);
        Poll::Ready(Some(match answer {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(source)) => Err(PageError::Fetch { token, source }),
            Err(_) => Err(PageError::TimedOut { token, limit }),
        }))
    }
}

impl<T, K, E, F, P> Stream for Paginate<T, K, E, F, P>
where
    K: Clone + Eq + Hash,
    F: FnMut(Option<K>) -> P,
    P: Future<Output = Result<Page<T, K>, E>>,
{
    type Item = Result<T, PageError<K, E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.items.next() {
                return Poll::Ready(Some(Ok(item)));
            }
            let answer = match this.ahead.take() {
                Some(answer) => Some(answer),
                None => ready!(this.poll_page(cx)),
            };
            let page = match answer {
                Some(Ok(page)) => page,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            this.items = page.items.into_iter();
            this.next = match page.next {
                Some(token) if !this.seen.insert(token.clone()) => {
                    this.ahead = Some(Err(PageError::Cycle { token }));
                    None
                }
                next => next.map(Some),
            };
        }
    }
}

impl<T, K, E, F, P> Unpin for Paginate<T, K, E, F, P> {} // the fetch is pinned on the heap

/// By hand, so that items, futures and closures need not implement `Debug`.
impl<T, K, E, F, P> fmt::Debug for Paginate<T, K, E, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paginate").finish_non_exhaustive()
    }
}
