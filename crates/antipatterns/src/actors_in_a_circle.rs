//! # Actors in a circle: each waits for the other's answer
//!
//! Two tasks own their state and are asked through channels. To place an order, the orders ask the
//! stock. Later the stock learns to ask the orders for what was returned, when it is short. On the
//! first day that it is short, both stand still: each waits in its handler for an answer, and
//! neither reads its inbox.
//!
//! ## You have it when
//! - a service stops answering altogether, without an error, a panic or CPU, and a restart helps
//!   until the same case comes up again;
//! - an actor awaits the answer of another in its handler, and there is a way back.
//!
//! ## What it does to you
//! - The one order that the stock is short for is not answered after a day, and no order after it
//!   is.
//! - Inboxes of 1,000 instead of 1 change nothing: there is room for the question, and nobody
//!   reads.
//! - Orders within the stock are answered at once, so its test passes.
//!
//! ## Use instead
//! - `request_reply`: `serve_overlapping` goes on reading while an answer is waited for, and each
//!   call has a deadline, so that what is still a circle is an error and no standstill.

use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;

/// What the orders are asked.
#[derive(Debug)]
pub enum ToOrders {
    /// To place an order for so many: is it accepted?
    Place(u32, oneshot::Sender<bool>),
    /// How many have been returned.
    Returned(oneshot::Sender<u32>),
}

/// What the stock is asked: to reserve so many. Are there enough?
pub type ToStock = (u32, oneshot::Sender<bool>);

/// Owns the orders.
pub async fn orders(mut inbox: Receiver<ToOrders>, stock: Sender<ToStock>) {
    while let Some(request) = inbox.recv().await {
        match request {
            ToOrders::Place(items, reply) => {
                let (question, answer) = oneshot::channel();
                stock.send((items, question)).await.ok();
                reply.send(answer.await.unwrap_or(false)).ok(); // reads no inbox meanwhile
            }
            ToOrders::Returned(reply) => drop(reply.send(5)),
        }
    }
}

/// Owns the stock, of which ten are left.
pub async fn stock(mut inbox: Receiver<ToStock>, orders: Sender<ToOrders>) {
    let mut left = 10;
    while let Some((items, reply)) = inbox.recv().await {
        if items > left {
            let (question, answer) = oneshot::channel();
            orders.send(ToOrders::Returned(question)).await.ok();
            left += answer.await.unwrap_or(0); // of one who waits for this one
        }
        let enough = items <= left;
        left -= if enough { items } else { 0 };
        reply.send(enough).ok();
    }
}
