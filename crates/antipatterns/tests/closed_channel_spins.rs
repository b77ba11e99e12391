//! What a loop does after the end that it does not see.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use antipatterns::closed_channel_spins::serve;
use futures_util::stream::poll_fn;
use select::event_loop::{Reason, Settings, event_loop};
use tokio::sync::mpsc::channel;
use tokio::task::yield_now;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3_600);

/// Counts how often it is asked, for the test and for the loop.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU32>);

impl Count {
    fn up(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn harm_a_closed_channel_is_asked_128_times_for_each_turn_of_another_task() {
    let (asked, count) = (Count::default(), Count::default());
    let counter = asked.clone();
    tokio::spawn(async move {
        let (_, mut messages) = channel::<()>(1);
        let connection = poll_fn(|cx| {
            counter.up();
            messages.poll_recv(cx)
        });
        let mut ticks = interval_at(Instant::now() + HOUR, HOUR);
        serve(connection, &mut ticks, drop, || ()).await;
    });
    for _ in 0..100 {
        count.up();
        yield_now().await;
    }
    assert_eq!((count.get(), asked.get()), (100, 12_800));
}

#[tokio::test]
async fn harm_an_end_that_is_no_channels_lets_no_other_task_run() {
    let mut ticks = interval_at(Instant::now() + HOUR, HOUR);
    let (asked, turns) = (Count::default(), Count::default());
    let (counter, other) = (asked.clone(), turns.clone());
    let other = tokio::spawn(async move {
        loop {
            other.up();
            yield_now().await;
        }
    });
    let mut turns_meanwhile = None;
    let connection = poll_fn(|_| match counter.up() {
        ..1_000_000 => Poll::Ready(None::<()>),
        _ => {
            turns_meanwhile.get_or_insert(turns.get());
            Poll::Pending // or it would be for ever
        }
    });
    let served = serve(connection, &mut ticks, drop, || ());
    timeout(Duration::from_millis(1), served).await.unwrap_err();
    other.abort();
    assert_eq!(turns_meanwhile, Some(0));
}

#[tokio::test(start_paused = true)]
async fn mended_the_loop_ends_with_the_channel() {
    let (sender, mut messages) = channel(1);
    sender.try_send(()).unwrap();
    drop(sender);
    let settings = Settings {
        period: HOUR,
        grace: HOUR,
    };
    let (handled, beats, stop) = (Count::default(), Count::default(), CancellationToken::new());
    let handle = async |()| {
        handled.up();
    };
    let beat = async || {
        beats.up();
    };
    let ended = event_loop(settings, &mut messages, &stop, handle, beat).await;
    assert_eq!(ended.unwrap().reason, Reason::Closed);
    assert_eq!((handled.get(), beats.get()), (1, 1));
}
