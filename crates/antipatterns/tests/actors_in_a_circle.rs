//! What two actors do that wait for each other.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::actors_in_a_circle::{ToOrders, orders, stock};
use channels::request_reply::{CallError, Handle, actor};
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const LIMIT: Duration = Duration::from_secs(60);

fn start(capacity: usize) -> Sender<ToOrders> {
    let (to_orders, orders_inbox) = channel(capacity);
    let (to_stock, stock_inbox) = channel(capacity);
    tokio::spawn(orders(orders_inbox, to_stock));
    tokio::spawn(stock(stock_inbox, to_orders.clone()));
    to_orders
}

/// `None`: there is no answer after a day.
async fn place(orders: &Sender<ToOrders>, items: u32) -> Option<bool> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        orders.send(ToOrders::Place(items, reply)).await.unwrap();
        answer.await.unwrap()
    };
    timeout(DAY, asked).await.ok()
}

#[tokio::test(start_paused = true)]
async fn harm_the_order_that_the_stock_is_short_for_stops_both_for_ever() {
    for capacity in [1, 1_000] {
        let orders = start(capacity);
        assert_eq!(place(&orders, 7).await, Some(true), "so its test passes");
        assert_eq!(place(&orders, 7).await, None, "a capacity of {capacity}");
        assert_eq!(place(&orders, 1).await, None, "nor any other");
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Ask {
    Place(u32),
    Returned,
}

/// The same two actors; whether the orders read their inbox while the stock is asked.
fn start_with_recipe(overlapping: bool) -> Handle<Ask, u32> {
    let (orders, orders_inbox) = actor(NonZeroUsize::MIN);
    let (stock, stock_inbox) = actor(NonZeroUsize::MIN);
    let handle = move |request| {
        let stock = stock.clone();
        async move {
            match request {
                Ask::Place(items) => stock.call(items, 2 * LIMIT).await.unwrap(),
                Ask::Returned => 5,
            }
        }
    };
    if overlapping {
        let limit = NonZeroUsize::new(100).unwrap();
        tokio::spawn(orders_inbox.serve_overlapping(limit, handle));
    } else {
        tokio::spawn(orders_inbox.serve(handle));
    }
    let (mut left, back) = (10, orders.clone());
    tokio::spawn(stock_inbox.serve(async move |items| {
        if items > left {
            left += back.call(Ask::Returned, LIMIT).await.unwrap_or(0);
        }
        let taken = if items <= left { items } else { 0 };
        left -= taken;
        taken
    }));
    orders
}

#[tokio::test(start_paused = true)]
async fn mended_the_orders_answer_while_they_wait() {
    let orders = start_with_recipe(true);
    for _ in 0..2 {
        assert_eq!(orders.call(Ask::Place(7), LIMIT).await, Ok(7));
    }
    assert_eq!(orders.call(Ask::Place(1), LIMIT).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn mended_with_deadlines_the_circle_is_an_error_and_goes_on() {
    let orders = start_with_recipe(false);
    assert_eq!(orders.call(Ask::Place(7), LIMIT).await, Ok(7));
    let short = orders.call(Ask::Place(7), LIMIT / 2).await;
    assert_eq!(short, Err(CallError::Unanswered));
    assert_eq!(orders.call(Ask::Place(1), LIMIT).await, Ok(1));
}
