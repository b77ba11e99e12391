//! What `forward` promises, and what the two-line form does.

use std::future::pending;
use std::time::Duration;

use channels::forward::{TargetClosed, forward};
use testing::every_await_point::every_await_point;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// The form that people write: an item is in neither channel while `send` waits.
async fn naive(from: &mut Receiver<u32>, to: &Sender<u32>) {
    while let Some(item) = from.recv().await {
        if to.send(item).await.is_err() {
            return;
        }
    }
}

/// Sends 0..10,000 through a mover that is cancelled 1,000 times on the way, after 1 to 7 ms each
/// time; the reader takes one item a millisecond. Returns what arrived.
async fn after_a_thousand_cancellations(
    mover: impl AsyncFn(&mut Receiver<u32>, &Sender<u32>),
) -> Vec<u32> {
    let (source, mut from) = mpsc::channel(4);
    let (to, mut target) = mpsc::channel(4);
    tokio::spawn(async move {
        for item in 0..10_000 {
            if source.send(item).await.is_err() {
                return;
            }
        }
    });
    let reader = tokio::spawn(async move {
        let mut arrived = Vec::new();
        while let Some(item) = target.recv().await {
            arrived.push(item);
            sleep(MS).await;
        }
        arrived
    });
    for round in 0..1_000 {
        let cancelled = timeout(MS * (1 + round * 5 % 7), mover(&mut from, &to)).await;
        assert!(cancelled.is_err(), "it was done before round {round}");
    }
    mover(&mut from, &to).await;
    drop(to);
    reader.await.unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cancellations_lose_nothing_and_keep_the_order() {
    let arrived = after_a_thousand_cancellations(async |from, to| {
        forward(from, to, |item| item).await.unwrap();
    })
    .await;
    assert!(arrived.into_iter().eq(0..10_000));
}

#[tokio::test(start_paused = true)]
async fn the_naive_form_loses_an_item_with_almost_every_cancellation() {
    let arrived = after_a_thousand_cancellations(naive).await;
    let lost = 10_000 - arrived.len();
    assert!(
        (900..=1_000).contains(&lost),
        "{lost} lost in 1,000 cancellations"
    );
}

#[tokio::test(start_paused = true)]
async fn at_no_await_point_is_an_item_outside_of_both_channels() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (source, from) = mpsc::channel(3);
            let (to, mut target) = mpsc::channel(1);
            for item in 0..3 {
                source.send(item).await.unwrap();
            }
            let reader = tokio::spawn(async move {
                let mut arrived = Vec::new();
                while let Some(item) = target.recv().await {
                    sleep(MS).await;
                    arrived.push(item);
                }
                arrived
            });
            (from, to, reader)
        },
        async |(from, to, _)| forward(from, to, |item| item).await.unwrap(),
        async |(mut from, to, reader), _| {
            let mut left = Vec::new();
            while let Ok(item) = from.try_recv() {
                left.push(item);
            }
            drop(to);
            let mut all: Vec<i32> = reader.await.unwrap();
            all.extend(left);
            assert_eq!(all, [0, 1, 2]);
        },
    )
    .await;
    assert!(points.unwrap() >= 5, "each reserve and each recv");
}

#[tokio::test(start_paused = true)]
async fn a_full_target_holds_the_source_back() {
    let (source, mut from) = mpsc::channel(2);
    let (to, _target) = mpsc::channel(3);
    let fill = async {
        let mut sent = 0;
        while timeout(MS, source.send(sent)).await.is_ok() {
            sent += 1;
        }
        sent
    };
    let sent = tokio::select! {
        sent = fill => sent,
        ended = forward(&mut from, &to, |item: u32| item) => panic!("{ended:?}"),
    };
    assert_eq!(sent, 2 + 3, "both channels full, and none in between");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_every_sender_is_gone_and_everything_is_moved_and_converted() {
    let (source, mut from) = mpsc::channel(8);
    let (to, mut target) = mpsc::channel(8);
    for item in [1, 2, 3] {
        source.send(item).await.unwrap();
    }
    let clone = source.clone();
    drop(source);
    let early = timeout(LIMIT, forward(&mut from, &to, |item: i32| item.to_string())).await;
    assert!(early.is_err(), "a sender is left");
    drop(clone);
    assert_eq!(
        forward(&mut from, &to, |item: i32| item.to_string()).await,
        Ok(())
    );
    drop(to);
    let mut arrived = Vec::new();
    while let Some(item) = target.recv().await {
        arrived.push(item);
    }
    assert_eq!(arrived, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_place_was_reserved_before_the_close_is_moved() {
    let (source, mut from) = mpsc::channel(2);
    let (to, mut target) = mpsc::channel(2);
    let place = source.reserve().await.unwrap();
    from.close();
    let late = async {
        sleep(MS).await;
        place.send(1);
    };
    let (moved, ()) = tokio::join!(forward(&mut from, &to, |item| item), late);
    assert_eq!((moved, target.try_recv()), (Ok(()), Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_closed_source_has_ended_although_its_senders_live_on() {
    let (source, mut from) = mpsc::channel(2);
    let (to, mut target) = mpsc::channel(2);
    source.send(1).await.unwrap();
    from.close();
    let ended = timeout(LIMIT, forward(&mut from, &to, |item| item)).await;
    assert_eq!((ended, target.try_recv()), (Ok(Ok(())), Ok(1)));
    assert!(source.send(2).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn while_the_target_is_full_the_end_of_the_source_is_noticed_only_once_there_is_room() {
    let (source, mut from) = mpsc::channel(1);
    let (to, mut target) = mpsc::channel(1);
    source.send(1).await.unwrap();
    let mut forwarding = std::pin::pin!(forward(&mut from, &to, |item| item));
    timeout(MS, &mut forwarding)
        .await
        .expect_err("the source is open");
    drop(source);
    timeout(LIMIT, &mut forwarding)
        .await
        .expect_err("it waits for room");
    assert_eq!(target.recv().await, Some(1));
    assert_eq!(timeout(MS, forwarding).await, Ok(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_ended_and_is_empty_needs_no_room() {
    let (source, mut from) = mpsc::channel(3);
    let (to, mut target) = mpsc::channel(3);
    for item in [1, 2, 3] {
        source.send(item).await.unwrap();
    }
    drop(source);
    let ended = timeout(LIMIT, forward(&mut from, &to, |item| item)).await;
    assert_eq!(ended, Ok(Ok(())), "it waits for room that it does not need");
    let mut arrived = Vec::new();
    assert_eq!(target.recv_many(&mut arrived, 10).await, 3);
}

#[tokio::test(start_paused = true)]
async fn idle_forwarders_keep_a_busy_one_out_of_a_target_with_no_place_for_it() {
    for (capacity, gets_through) in [(2, false), (3, true)] {
        let (to, mut target) = mpsc::channel(capacity);
        let mut idle_sources = Vec::new();
        for _ in 0..2 {
            let (source, mut from) = mpsc::channel::<u32>(1);
            let to = to.clone();
            tokio::spawn(async move { forward(&mut from, &to, |item| item).await });
            idle_sources.push(source);
        }
        tokio::task::yield_now().await;
        let (busy, mut from) = mpsc::channel(1);
        busy.send(7).await.unwrap();
        tokio::spawn(async move { forward(&mut from, &to, |item| item).await });
        let received = timeout(LIMIT, target.recv()).await;
        assert_eq!(
            received == Ok(Some(7)),
            gets_through,
            "with a capacity of {capacity}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_target_ends_it_at_once_and_what_was_not_moved_stays_in_the_source() {
    for _ in 0..50 {
        // Again and again, so that a choice at random would be seen.
        let (source, mut from) = mpsc::channel(8);
        let (to, target) = mpsc::channel::<u32>(8);
        let started = Instant::now();
        let close = async {
            sleep(MS).await;
            source.send(1).await.unwrap(); // comes at the same moment as the close
            drop(target);
            pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = timeout(LIMIT, forward(&mut from, &to, |item| item)) => ended,
            () = close => unreachable!(),
        };
        assert_eq!(
            ended,
            Ok(Err(TargetClosed)),
            "it waits for an item that nobody wants"
        );
        assert_eq!(started.elapsed(), MS);
        assert_eq!(from.try_recv(), Ok(1));
        assert_eq!(
            forward(&mut from, &to, |item| item).await,
            Err(TargetClosed)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_for_an_item_it_keeps_one_place_of_the_target() {
    let (_source, mut from) = mpsc::channel::<u32>(1);
    let (to, _target) = mpsc::channel(2);
    let ended = timeout(MS, forward(&mut from, &to, |item| item));
    let look = async {
        tokio::task::yield_now().await;
        to.capacity()
    };
    let (ended, capacity) = tokio::join!(ended, look);
    assert!(ended.is_err());
    assert_eq!(capacity, 1, "of 2, while nothing is in it");
    assert_eq!(to.capacity(), 2, "given back when the future is dropped");
}
