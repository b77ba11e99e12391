//! cargo run --example actors_in_a_circle
//!
//! Two orders of seven, with ten in stock and five returned: for the second, the stock has to ask
//! the orders.

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::actors_in_a_circle::{ToOrders, orders, stock};
use channels::request_reply::actor;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!("each waits in its handler:");
    let (to_orders, orders_inbox) = mpsc::channel(1_000);
    let (to_stock, stock_inbox) = mpsc::channel(1_000);
    tokio::spawn(orders(orders_inbox, to_stock));
    tokio::spawn(stock(stock_inbox, to_orders.clone()));
    for order in 1..=2 {
        let (reply, answer) = oneshot::channel();
        to_orders.send(ToOrders::Place(7, reply)).await.ok();
        let answer = timeout(24 * 60 * LIMIT, answer).await.is_ok();
        println!(
            "  order {order}: {}",
            if answer {
                "accepted"
            } else {
                "no answer after a day"
            }
        );
    }

    println!("request_reply:");
    let (orders, orders_inbox) = actor(NonZeroUsize::MIN);
    let (stock, stock_inbox) = actor(NonZeroUsize::MIN);
    let overlapping = orders_inbox.serve_overlapping(NonZeroUsize::MAX, move |request| {
        let stock = stock.clone();
        async move {
            match request {
                Some(items) => stock.call(items, LIMIT).await.unwrap_or(0),
                None => 5, // returned
            }
        }
    });
    let (mut left, back) = (10, orders.clone());
    tokio::spawn(overlapping);
    tokio::spawn(stock_inbox.serve(async move |items: u32| {
        if items > left {
            left += back.call(None, LIMIT).await.unwrap_or(0);
        }
        left -= items.min(left);
        items
    }));
    for order in 1..=2 {
        let answer = orders.call(Some(7), LIMIT).await.is_ok();
        println!(
            "  order {order}: {}",
            if answer { "accepted" } else { "no answer" }
        );
    }
}
