//! What a stream with its own producer promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt, future, stream};
use streams::from_channel::{Produced, ProducerError, produce, produce_blocking};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::select;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream, WatchStream};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the source failed")]
struct SourceFailed(#[source] std::fmt::Error);

fn places(capacity: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(capacity - 1)
}

/// Sends 0, 1, 2 and so on until nobody takes them.
async fn count(sender: mpsc::Sender<u32>) -> Result<(), Infallible> {
    for number in 0.. {
        if sender.send(number).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Held by a producer: tells when it is gone, and whether by a panic.
struct Held(Option<oneshot::Sender<bool>>);

fn held() -> (Held, oneshot::Receiver<bool>) {
    let (gone, is_gone) = oneshot::channel();
    (Held(Some(gone)), is_gone)
}

impl Drop for Held {
    fn drop(&mut self) {
        let gone = self.0.take().unwrap();
        gone.send(std::thread::panicking()).ok();
    }
}

/// Reads to the end; the items, and the failure if there is one.
async fn read<T, E>(produced: &mut Produced<T, E>) -> (Vec<T>, Option<ProducerError<E>>) {
    let (mut items, mut failure) = (Vec::new(), None);
    while let Some(item) = timeout(2 * LIMIT, produced.next()).await.expect("no end") {
        assert!(failure.is_none(), "something follows the failure");
        match item {
            Ok(item) => items.push(item),
            Err(error) => failure = Some(error),
        }
    }
    (items, failure)
}

#[tokio::test(start_paused = true)]
async fn items_come_in_their_order_and_an_end_without_failure_stays_the_end() {
    let mut produced = produce(places(2), async |sender: mpsc::Sender<u32>| {
        for number in 0..10 {
            sender.send(number).await.unwrap();
        }
        Ok::<_, Infallible>(())
    });
    let (items, failure) = read(&mut produced).await;
    assert_eq!(items, (0..10).collect::<Vec<_>>());
    assert_eq!(failure, None);
    assert_eq!(produced.next().await, None);
    assert_eq!(produced.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_holds_the_producer_at_the_full_channel() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&sent);
    let mut produced = produce(places(3), async move |sender: mpsc::Sender<u32>| {
        for number in 0..10 {
            sender.send(number).await.unwrap();
            counts.fetch_add(1, Ordering::SeqCst);
        }
        Ok::<_, Infallible>(())
    });
    let mut ahead = Vec::new();
    for read in 1..=10 {
        produced.next().await.unwrap().unwrap();
        sleep(TAKES).await;
        ahead.push(sent.load(Ordering::SeqCst) - read);
    }
    assert_eq!(ahead, [3, 3, 3, 3, 3, 3, 3, 2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn filter_map_and_take_work_and_an_early_end_stops_the_producer_without_a_panic() {
    let (held, is_gone) = held();
    let produced = produce(places(1), async move |sender| {
        let _held = held;
        count(sender).await
    });
    let squares: Vec<u32> = produced
        .try_filter(|number| future::ready(number % 2 == 1))
        .map_ok(|number| number * number)
        .take(3)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(squares, [1, 9, 25]);
    // `try_collect` has dropped the stream.
    let started = Instant::now();
    assert_eq!(timeout(LIMIT, is_gone).await, Ok(Ok(false)), "panicked");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_stops_a_producer_that_sends_nothing() {
    let (held, is_gone) = held();
    let produced = produce::<u32, Infallible, _>(places(1), async move |_sender| {
        let _held = held;
        sleep(LIMIT).await;
        panic!("the producer outlived its stream");
    });
    sleep(TAKES).await;
    let started = Instant::now();
    drop(produced);
    assert_eq!(is_gone.await, Ok(false));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn after_a_close_what_was_sent_is_read_and_the_producer_has_seen_the_channel_closed() {
    let mut produced = produce(places(2), async |sender: mpsc::Sender<u32>| {
        for number in 0.. {
            if sender.send(number).await.is_err() {
                sleep(TAKES).await; // it has time to wind up
                return Err(SourceFailed(std::fmt::Error));
            }
        }
        Ok(())
    });
    sleep(TAKES).await;
    produced.close();
    let started = Instant::now();
    let failed = ProducerError::Failed(SourceFailed(std::fmt::Error));
    assert_eq!(read(&mut produced).await, (vec![0, 1], Some(failed)));
    assert_eq!(started.elapsed(), TAKES);
}

#[tokio::test(start_paused = true)]
async fn a_close_is_unseen_by_a_producer_that_waits_for_something_else_unless_it_asks() {
    let mut produced = produce(places(1), async |sender: mpsc::Sender<u32>| {
        sleep(LIMIT).await;
        drop(sender);
        Ok::<_, Infallible>(())
    });
    produced.close();
    let started = Instant::now();
    assert_eq!(read(&mut produced).await, (vec![], None));
    assert_eq!(started.elapsed(), LIMIT);

    let mut produced = produce(places(1), async |sender: mpsc::Sender<u32>| {
        select! {
            () = sender.closed() => {}
            () = sleep(LIMIT) => {}
        }
        Ok::<_, Infallible>(())
    });
    produced.close();
    let started = Instant::now();
    assert_eq!(read(&mut produced).await, (vec![], None));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_after_all_items_and_is_the_last() {
    let mut produced = produce(places(4), async |sender: mpsc::Sender<u32>| {
        for number in 0..3 {
            sender.send(number).await.unwrap();
        }
        Err(SourceFailed(std::fmt::Error))
    });
    sleep(TAKES).await; // it has ended long before anything is read
    let failed = ProducerError::Failed(SourceFailed(std::fmt::Error));
    assert_eq!(
        read(&mut produced).await,
        (vec![0, 1, 2], Some(failed.clone()))
    );
    assert_eq!(produced.next().await, None);
    let failed: Box<dyn Error> = failed.into();
    assert_eq!(failed.to_string(), "the source failed");
    assert!(failed.source().is_some(), "its source is lost");
}

#[tokio::test(start_paused = true)]
async fn a_panic_comes_after_all_items_with_its_message() {
    let mut produced = produce(places(4), async |sender: mpsc::Sender<u32>| {
        for number in 0..2 {
            sender.send(number).await.unwrap();
        }
        sleep(TAKES).await;
        if sender.is_closed() {
            return Ok::<_, Infallible>(());
        }
        panic!("row {} is malformed", 2);
    });
    let panicked = ProducerError::Panicked("row 2 is malformed".to_owned());
    assert_eq!(read(&mut produced).await, (vec![0, 1], Some(panicked)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_producers_future_is_there_is_told_like_any_other() {
    let mut produced = produce(places(1), |sender: mpsc::Sender<u32>| {
        assert!(sender.is_closed(), "too early");
        future::ok::<_, Infallible>(())
    });
    let panicked = ProducerError::Panicked("too early".to_owned());
    assert_eq!(read(&mut produced).await, (vec![], Some(panicked)));
}

#[tokio::test]
async fn the_end_of_the_runtime_is_told_and_not_taken_for_the_end_of_the_items() {
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let mut produced = {
        let _entered = other.enter();
        produce(places(1), count)
    };
    assert_eq!(produced.next().await, Some(Ok(0)));
    other.shutdown_background();
    let (_items, failure) = read(&mut produced).await;
    assert_eq!(failure, Some(ProducerError::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_clone_of_the_sender_left_in_another_task_does_not_keep_the_stream_open() {
    let (left, was_left) = oneshot::channel();
    let mut produced = produce(places(1), async |sender: mpsc::Sender<u32>| {
        left.send(sender.clone()).unwrap();
        sleep(TAKES).await;
        Err(SourceFailed(std::fmt::Error))
    });
    let clone = was_left.await.unwrap();
    let started = Instant::now();
    let failed = ProducerError::Failed(SourceFailed(std::fmt::Error));
    assert_eq!(read(&mut produced).await, (vec![], Some(failed)));
    assert_eq!(started.elapsed(), TAKES);
    assert!(clone.send(1).await.is_err(), "taken, and read by nobody");
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_place_was_taken_before_the_producers_end_is_waited_for() {
    let mut produced = produce(places(1), async |sender: mpsc::Sender<u32>| {
        let place = sender.reserve_owned().await.unwrap();
        tokio::spawn(async move {
            sleep(TAKES).await;
            drop(place.send(7));
        });
        Ok::<_, Infallible>(())
    });
    let started = Instant::now();
    assert_eq!(read(&mut produced).await, (vec![7], None));
    assert_eq!(started.elapsed(), TAKES);
}

#[tokio::test(start_paused = true)]
async fn an_enormous_capacity_is_no_panic() {
    let mut produced = produce(NonZeroUsize::MAX, count);
    assert_eq!(produced.next().await, Some(Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let produced = produce(places(2), async |sender: mpsc::Sender<u32>| {
                for number in 0..3 {
                    sleep(TAKES).await;
                    sender.send(number).await.unwrap();
                }
                Err(SourceFailed(std::fmt::Error))
            });
            (produced, Vec::new())
        },
        async |(produced, items)| {
            while let Some(item) = produced.next().await {
                items.push(item);
            }
        },
        async |(mut produced, mut items), round| {
            if round == Outcome::Completed(()) {
                assert_eq!(items.len(), 4);
            }
            while let Some(item) = produced.next().await {
                items.push(item);
            }
            let failed = ProducerError::Failed(SourceFailed(std::fmt::Error));
            assert_eq!(items, [Ok(0), Ok(1), Ok(2), Err(failed)]);
        },
    );
    let points = points.await.unwrap();
    assert!(points >= 4, "{points}");
}

#[tokio::test]
async fn a_blocking_producer_sends_fails_and_panics_like_any_other() {
    let mut produced = produce_blocking(places(1), |sender: mpsc::Sender<u32>| {
        for number in 0..3 {
            sender.blocking_send(number).unwrap();
        }
        Err(SourceFailed(std::fmt::Error))
    });
    let failed = ProducerError::Failed(SourceFailed(std::fmt::Error));
    let all = timeout(LIMIT, read(&mut produced)).await.unwrap();
    assert_eq!(all, (vec![0, 1, 2], Some(failed)));

    let mut produced = produce_blocking(places(1), |sender: mpsc::Sender<u32>| {
        assert!(sender.is_closed(), "not read");
        Ok::<_, Infallible>(())
    });
    let panicked = ProducerError::Panicked("not read".to_owned());
    let all = timeout(LIMIT, read(&mut produced)).await.unwrap();
    assert_eq!(all, (vec![], Some(panicked)));
}

#[tokio::test]
async fn a_blocking_producer_outlives_its_stream_until_its_next_send() {
    let (go_on, may_go_on) = sync_channel::<()>(1);
    let (ended, has_ended) = sync_channel(1);
    let mut produced = produce_blocking(places(1), move |sender| {
        sender.blocking_send(0).unwrap();
        may_go_on.recv_timeout(LIMIT).unwrap();
        ended.send(sender.blocking_send(1).is_err()).unwrap();
        Ok::<_, Infallible>(())
    });
    let first = timeout(LIMIT, produced.next()).await.unwrap();
    assert_eq!(first, Some(Ok(0)));
    drop(produced);
    let still_running = has_ended.recv_timeout(Duration::from_millis(20));
    assert_eq!(still_running, Err(RecvTimeoutError::Timeout));
    go_on.send(()).unwrap();
    assert_eq!(has_ended.recv_timeout(LIMIT), Ok(true), "its send succeeds");
}

// ------------------------------------------------------------------------------------- Watch out

#[tokio::test(start_paused = true)]
async fn harm_a_finished_take_holds_its_producer_until_it_is_dropped() {
    let (held, mut is_gone) = held();
    let produced = produce(places(1), async move |sender| {
        let _held = held;
        count(sender).await
    });
    let mut three = produced.take(3);
    while three.next().await.is_some() {}
    assert!(timeout(LIMIT, &mut is_gone).await.is_err(), "it is gone");
    drop(three);
    assert_eq!(is_gone.await, Ok(false));
}

#[tokio::test(start_paused = true)]
async fn harm_a_receiver_stream_takes_a_panic_for_the_end() {
    let (sender, receiver) = mpsc::channel(1);
    let task = tokio::spawn(async move {
        sender.send(1).await.unwrap();
        assert!(sender.is_closed(), "half way");
    });
    let items: Vec<i32> = ReceiverStream::new(receiver).collect().await;
    assert_eq!(items, [1], "and nothing says that there should be more");
    assert!(task.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn harm_a_producer_behind_a_receiver_stream_works_on_until_it_sends() {
    let (sender, receiver) = mpsc::channel::<u32>(1);
    let task = tokio::spawn(async move {
        sleep(LIMIT).await; // a long query
        sender.send(1).await.is_err()
    });
    drop(ReceiverStream::new(receiver));
    let started = Instant::now();
    assert!(task.await.unwrap());
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn harm_a_broadcast_stream_without_its_errors_hides_what_was_lost() {
    let lagging = || {
        let (sender, receiver) = broadcast::channel(4);
        for number in 0..10 {
            sender.send(number).unwrap();
        }
        BroadcastStream::new(receiver) // the sender is dropped here, so the stream ends
    };
    let naive: Vec<u32> = lagging()
        .filter_map(|item| future::ready(item.ok()))
        .collect()
        .await;
    assert_eq!(naive, [6, 7, 8, 9]);
    let all: Vec<_> = lagging().collect().await;
    assert_eq!(all[0], Err(BroadcastStreamRecvError::Lagged(6)));
    assert_eq!(all[1..], [6, 7, 8, 9].map(Ok));
}

#[tokio::test(start_paused = true)]
async fn a_watch_stream_gives_what_is_there_and_of_ten_changes_the_last() {
    let (sender, receiver) = watch::channel(0);
    let mut values = WatchStream::new(receiver.clone());
    let mut changes = WatchStream::from_changes(receiver);
    assert_eq!(values.next().await, Some(0));
    for value in 1..=10 {
        sender.send(value).unwrap();
    }
    drop(sender);
    assert_eq!(values.collect::<Vec<_>>().await, [10]);
    assert_eq!(changes.next().await, Some(10), "without the first one");
}

#[tokio::test(start_paused = true)]
async fn harm_what_was_sent_and_not_read_is_dropped_with_the_stream() {
    let shared = Arc::new(());
    let clone = Arc::clone(&shared);
    let mut produced = produce(places(3), async move |sender: mpsc::Sender<Arc<()>>| {
        while sender.send(Arc::clone(&clone)).await.is_ok() {}
        Ok::<_, Infallible>(())
    });
    produced.next().await.unwrap().unwrap();
    sleep(TAKES).await;
    // Ours, the producer's, three in the channel and the one in its hands.
    assert_eq!(Arc::strong_count(&shared), 2 + 3 + 1);
    drop(produced);
    sleep(TAKES).await;
    assert_eq!(Arc::strong_count(&shared), 1);
}

#[test]
fn harm_a_producer_that_never_awaits_is_not_stopped() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let (begun, has_begun) = sync_channel(1);
    let (go_on, may_go_on) = sync_channel::<()>(1);
    let (ended, has_ended) = sync_channel(1);
    let produced = {
        let _entered = runtime.enter();
        produce(places(1), async move |_sender: mpsc::Sender<u32>| {
            begun.send(()).unwrap();
            may_go_on.recv_timeout(LIMIT).unwrap();
            ended.send(()).unwrap();
            Ok::<_, Infallible>(())
        })
    };
    has_begun.recv_timeout(LIMIT).unwrap();
    drop(produced);
    let still_running = has_ended.recv_timeout(Duration::from_millis(20));
    assert_eq!(still_running, Err(RecvTimeoutError::Timeout));
    go_on.send(()).unwrap();
    assert_eq!(has_ended.recv_timeout(LIMIT), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_in_the_consumers_own_task_makes_nothing_in_advance() {
    async fn made_ahead(made: &AtomicUsize, mut items: impl Stream<Item = usize> + Unpin) -> usize {
        items.next().await.unwrap();
        sleep(TAKES).await;
        made.load(Ordering::SeqCst) - 1
    }
    let made = AtomicUsize::new(0);
    let unfolded = stream::unfold((), async |()| {
        Some((made.fetch_add(1, Ordering::SeqCst), ()))
    });
    assert_eq!(made_ahead(&made, Box::pin(unfolded)).await, 0);
    let made = &AtomicUsize::new(0);
    let yielded = async_stream::stream! {
        loop {
            yield made.fetch_add(1, Ordering::SeqCst);
        }
    };
    assert_eq!(made_ahead(made, Box::pin(yielded)).await, 0);
}
