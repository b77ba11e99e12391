//! # One key twice: StreamMap::insert drops the stream that was there
//!
//! Devices connect, each with an id, and a `StreamMap` joins their readings. A device reconnects
//! before its old connection was read to its end, or two have the same id by mistake. `insert` puts
//! the new stream in the place of the old one, which is dropped with all that was in it.
//!
//! ## You have it when
//! - after each reconnect some readings are missing, those of the last moments before it;
//! - of two devices with one id the one that came first is silent, and its sender gets
//!   `channel closed`;
//! - the result of `insert` is not looked at: it is the old stream, and nothing warns of that but
//!   rustc's `unused_results`, which is off unless you turn it on.
//!
//! ## What it does to you
//! - 100 readings that lay in the first connection's channel: 0 of them are handled.
//! - `collect` into a `StreamMap` does so too; `extend` keeps both under the one key, where
//!   `remove` finds only one of them.
//!
//! ## Use instead
//! - `merge`: for a key that is taken `insert` gives the new stream back as an error, and each end
//!   is told with its key.

use futures_util::{Stream, StreamExt};
use tokio::select;
use tokio::sync::mpsc::Receiver;
use tokio_stream::StreamMap;

/// Handles the readings of all devices that connect.
pub async fn follow_all<S: Stream + Unpin>(
    mut connections: Receiver<(String, S)>,
    mut handle: impl FnMut(&str, S::Item),
) {
    let mut devices = StreamMap::new();
    loop {
        select! {
            biased; // new connections first
            Some((id, readings)) = connections.recv() => {
                devices.insert(id, readings); // the old one is returned, and dropped
            }
            Some((id, reading)) = devices.next() => handle(&id, reading),
            else => return,
        }
    }
}
