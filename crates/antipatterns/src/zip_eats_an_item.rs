//! # An item eaten by zip: a stream paced with ticks
//!
//! Items are to go out one each second: `items.zip(ticks)` says it in a line. It asks both sides
//! first, so it holds an item while it waits for the tick. When the ticks end, or the `zip` is
//! dropped, that item is gone, and it belonged to a queue that somebody reads on from.
//!
//! ## You have it when
//! - at each stop, pause or change of pace one item is missing, never two, and no error is told;
//! - what goes out is a period old: a price, a position, a measured value.
//!
//! ## What it does to you
//! - 10 shifts of 10 items: 100 go out, 110 are gone from the queue.
//! - An item that is made when it is taken is 1 s old when it goes out, with a tick each second.
//! - Until the last tick all come and in order, so its test passes. To swap the two sides changes
//!   nothing.
//!
//! ## Use instead
//! - `from_iter_and_interval`: `paced` waits for the tick, and takes the item then;
//! - `limit_rate` when it is calls that are limited, and from more than one place.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::time::interval;
use tokio_stream::wrappers::IntervalStream;

/// Sends an item each `period`, until `stop`.
pub async fn send_paced<T>(
    items: impl Stream<Item = T>,
    period: Duration,
    stop: impl Future<Output = ()>,
    mut send: impl FnMut(T),
) {
    let ticks = IntervalStream::new(interval(period)).take_until(stop);
    let mut paced = pin!(items.zip(ticks)); // takes an item at once, and keeps it until its tick
    while let Some((item, _)) = paced.next().await {
        send(item);
    }
}
