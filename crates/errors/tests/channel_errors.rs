//! That nothing unsent is lost, and that full, closed and lagged are told apart.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::error::Error;
use std::future::{pending, ready};
use std::time::Duration;

use errors::channel_errors::{NotReceived, Reason, Unsent, answered, send_unless};
use testing::every_await_point::{Outcome, every_await_point};
use thiserror::Error;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// Neither `Debug` nor an error. `Clone` is for the broadcast channel.
#[derive(Clone, PartialEq, Eq)]
struct Item(u32);

fn closed(item: u32) -> Unsent<Item> {
    let reason = Reason::Closed;
    Unsent {
        item: Item(item),
        reason,
    }
}

fn full(item: u32) -> Unsent<Item> {
    let reason = Reason::Full;
    Unsent {
        item: Item(item),
        reason,
    }
}

fn full_channel() -> (mpsc::Sender<Item>, Receiver<Item>) {
    let (sender, receiver) = mpsc::channel(1);
    assert!(sender.try_send(Item(0)).is_ok());
    (sender, receiver)
}

#[tokio::test(start_paused = true)]
async fn every_send_that_fails_gives_the_item_and_the_reason() {
    let (sender, receiver) = full_channel();
    assert_eq!(Unsent::from(sender.try_send(Item(1)).unwrap_err()), full(1));
    let late = sender.send_timeout(Item(2), MS).await;
    assert_eq!(Unsent::from(late.unwrap_err()), full(2));
    drop(receiver);
    assert_eq!(
        Unsent::from(sender.try_send(Item(3)).unwrap_err()),
        closed(3)
    );
    assert_eq!(
        Unsent::from(sender.send(Item(4)).await.unwrap_err()),
        closed(4)
    );
    let gone = sender.send_timeout(Item(5), MS).await;
    assert_eq!(Unsent::from(gone.unwrap_err()), closed(5));

    let (sender, receiver) = oneshot::channel();
    drop(receiver);
    assert_eq!(answered(sender.send(Item(6))), Err(closed(6)));
    let (sender, receiver) = watch::channel(Item(0));
    drop(receiver);
    assert_eq!(Unsent::from(sender.send(Item(7)).unwrap_err()), closed(7));
    let (sender, receiver) = broadcast::channel(1);
    drop(receiver);
    let Err(error) = sender.send(Item(8)) else {
        panic!("nobody receives")
    };
    assert_eq!(Unsent::from(error), closed(8));
}

#[tokio::test(start_paused = true)]
async fn every_receive_that_fails_gives_the_reason() {
    let (sender, mut receiver) = mpsc::channel::<u32>(1);
    assert_eq!(
        NotReceived::from(receiver.try_recv().unwrap_err()),
        NotReceived::Empty
    );
    drop(sender);
    assert_eq!(
        NotReceived::from(receiver.try_recv().unwrap_err()),
        NotReceived::Closed
    );

    let (sender, mut receiver) = oneshot::channel::<u32>();
    assert_eq!(
        NotReceived::from(receiver.try_recv().unwrap_err()),
        NotReceived::Empty
    );
    drop(sender);
    assert_eq!(
        NotReceived::from(receiver.try_recv().unwrap_err()),
        NotReceived::Closed
    );
    let (sender, receiver) = oneshot::channel::<u32>();
    drop(sender);
    assert_eq!(
        NotReceived::from(receiver.await.unwrap_err()),
        NotReceived::Closed
    );

    let (sender, mut receiver) = watch::channel(0);
    drop(sender);
    assert_eq!(
        NotReceived::from(receiver.changed().await.unwrap_err()),
        NotReceived::Closed
    );

    let (sender, mut receiver) = broadcast::channel(1);
    assert_eq!(
        NotReceived::from(receiver.try_recv().unwrap_err()),
        NotReceived::Empty
    );
    for number in 0..4 {
        sender.send(number).unwrap();
    }
    assert_eq!(
        NotReceived::from(receiver.try_recv().unwrap_err()),
        NotReceived::Missed(3)
    );
    assert_eq!(receiver.try_recv(), Ok(3));
    for number in 4..6 {
        sender.send(number).unwrap();
    }
    assert_eq!(
        NotReceived::from(receiver.recv().await.unwrap_err()),
        NotReceived::Missed(1)
    );
    assert_eq!(receiver.recv().await, Ok(5));
    drop(sender);
    assert_eq!(
        NotReceived::from(receiver.try_recv().unwrap_err()),
        NotReceived::Closed
    );
    assert_eq!(
        NotReceived::from(receiver.recv().await.unwrap_err()),
        NotReceived::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn giving_up_returns_the_item_at_that_instant() {
    let (sender, _receiver) = full_channel();
    let started = Instant::now();
    let unsent = send_unless(&sender, Item(1), sleep(5 * MS)).await;
    assert_eq!(unsent, Err(full(1)));
    assert_eq!(started.elapsed(), 5 * MS);
}

#[tokio::test(start_paused = true)]
async fn with_room_the_item_is_sent_though_it_could_give_up_as_well() {
    for _ in 0..100 {
        let (sender, mut receiver) = mpsc::channel(1);
        assert_eq!(send_unless(&sender, Item(1), ready(())).await, Ok(()));
        assert!(receiver.try_recv().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_comes_in_time_is_taken_and_a_receiver_that_leaves_ends_the_wait() {
    for (leaves, expected) in [(false, Ok(())), (true, Err(closed(1)))] {
        let (sender, mut receiver) = full_channel();
        let receive = async {
            sleep(2 * MS).await;
            if leaves {
                drop(receiver);
            } else {
                receiver.recv().await.unwrap();
                assert!(receiver.recv().await == Some(Item(1)));
            }
        };
        let started = Instant::now();
        let (sent, ()) = tokio::join!(send_unless(&sender, Item(1), sleep(LIMIT)), receive);
        assert_eq!(sent, expected);
        assert_eq!(started.elapsed(), 2 * MS);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_send_sends_nothing_and_takes_no_room() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (sender, mut receiver) = full_channel();
            let room = tokio::spawn(async move {
                sleep(MS).await;
                receiver.recv().await;
                receiver
            });
            (sender, room)
        },
        async |(sender, _)| send_unless(sender, Item(1), pending::<()>()).await,
        async |(sender, room), outcome| {
            let mut receiver = room.await.unwrap();
            let was_sent = matches!(outcome, Outcome::Completed(Ok(())));
            assert_eq!(receiver.try_recv().is_ok(), was_sent);
            assert_eq!(sender.capacity(), 1);
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn harm_a_timeout_around_a_send_drops_the_item() {
    let (sender, mut receiver) = full_channel();
    timeout(MS, sender.send(Item(1))).await.unwrap_err();
    assert!(receiver.recv().await == Some(Item(0)));
    assert!(receiver.try_recv().is_err(), "neither sent nor given back");
}

#[tokio::test]
async fn harm_a_receiver_that_is_dropped_takes_what_was_sent_with_it() {
    let (sender, receiver) = mpsc::channel(1);
    let (answer, answered) = oneshot::channel::<()>();
    assert!(sender.send(answer).await.is_ok());
    drop(receiver);
    let gone = answered.await.unwrap_err();
    assert_eq!(NotReceived::from(gone), NotReceived::Closed);
}

#[tokio::test]
async fn harm_a_loop_over_ok_ends_at_the_first_lag() {
    let (sender, mut receiver) = broadcast::channel(1);
    sender.send(0).unwrap();
    sender.send(1).unwrap();
    let mut seen = Vec::new();
    while let Ok(number) = receiver.recv().await {
        seen.push(number);
    }
    assert!(seen.is_empty(), "the sender is there, and so is 1");
    assert_eq!(receiver.try_recv(), Ok(1));
}

#[test]
fn a_broadcast_without_subscribers_is_closed_for_the_moment() {
    let sender = broadcast::Sender::new(1);
    let refused = sender.send(1).map_err(Unsent::from);
    assert_eq!(refused.unwrap_err().reason, Reason::Closed);
    let _receiver = sender.subscribe();
    assert!(sender.send(1).is_ok());
}

#[derive(Debug, Error)]
enum OrderError {
    #[error("the order was not taken")]
    Queue(#[from] Reason),
    #[error("the order was not answered")]
    Answer(#[from] NotReceived),
}

#[tokio::test]
async fn they_become_the_callers_error_by_a_question_mark() {
    async fn order(sender: &mpsc::Sender<oneshot::Sender<u32>>) -> Result<u32, OrderError> {
        let (answer, answered) = oneshot::channel();
        let sent = sender.try_send(answer).map_err(Unsent::from);
        sent.map_err(|unsent| unsent.reason)?;
        Ok(answered.await.map_err(NotReceived::from)?)
    }
    let (sender, mut receiver) = mpsc::channel(1);
    let (ordered, ()) = tokio::join!(order(&sender), async { drop(receiver.recv().await) });
    assert!(matches!(
        ordered,
        Err(OrderError::Answer(NotReceived::Closed))
    ));
    drop(receiver);
    let error = order(&sender).await.unwrap_err();
    assert!(matches!(error, OrderError::Queue(Reason::Closed)));
    assert_eq!(
        error.source().unwrap().to_string(),
        "nobody receives from the channel"
    );
}

#[test]
fn the_error_shows_the_reason_and_not_the_item() {
    fn any_error(_: &(impl Error + Send + Sync + 'static)) {}
    any_error(&full(1));
    let secret = Unsent {
        item: "secret",
        reason: Reason::Full,
    };
    assert_eq!(format!("{secret:?}"), "Unsent { reason: Full, .. }");
    assert!(secret.to_string().contains("slower than its senders"));
    assert_eq!(
        NotReceived::Missed(3).to_string(),
        "3 messages were overwritten before they were received"
    );
}
