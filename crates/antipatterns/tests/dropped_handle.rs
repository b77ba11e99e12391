//! What goes on when the handle of a task is dropped.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::dropped_handle::call_with_limit;
use shutdown::abort_tasks::{End, stop};
use tokio::time::{Instant, sleep, timeout};

const TAKES: Duration = Duration::from_millis(250);
const LIMIT: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(60);

/// Counts payments: how many were made, and how many are under way.
#[derive(Default)]
struct Server {
    paid: AtomicU32,
    now: AtomicU32,
    most: AtomicU32,
}

/// Leaves when it is dropped, too.
struct UnderWay(Arc<Server>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn pay(server: Arc<Server>) {
    let now = server.now.fetch_add(1, Ordering::Relaxed) + 1;
    server.most.fetch_max(now, Ordering::Relaxed);
    let under_way = UnderWay(server);
    sleep(TAKES).await;
    under_way.0.paid.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test(start_paused = true)]
async fn harm_a_call_that_was_given_up_three_times_is_done_three_times() {
    let server = Arc::new(Server::default());
    let call = || pay(Arc::clone(&server));
    assert_eq!(call_with_limit(LIMIT, 3, call).await, None, "it failed?");
    assert_eq!(server.most.load(Ordering::Relaxed), 3, "at once");
    sleep(LATER).await;
    assert_eq!(server.paid.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn harm_a_call_that_was_slow_once_is_done_twice() {
    let server = Arc::new(Server::default());
    let tries = AtomicU32::new(0);
    let call = || {
        let server = Arc::clone(&server);
        let is_slow = tries.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_slow {
                pay(server).await;
            } else {
                server.paid.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    assert_eq!(call_with_limit(LIMIT, 3, call).await, Some(()));
    sleep(LATER).await;
    assert_eq!(server.paid.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn harm_a_loser_of_select_goes_on() {
    let server = Arc::new(Server::default());
    tokio::select! {
        biased;
        _ = tokio::spawn(pay(Arc::clone(&server))) => panic!("it takes 250 ms"),
        () = sleep(LIMIT) => {}
    }
    sleep(LATER).await;
    assert_eq!(server.paid.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn mended_what_was_given_up_is_stopped_before_the_next_begins() {
    let server = Arc::new(Server::default());
    let started = Instant::now();
    for _ in 0..3 {
        let mut task = tokio::spawn(pay(Arc::clone(&server)));
        timeout(LIMIT, &mut task).await.unwrap_err();
        let end = stop(task, LIMIT).await.unwrap();
        assert!(matches!(end, End::Cancelled), "{end:?}");
    }
    assert_eq!(started.elapsed(), 3 * LIMIT);
    sleep(LATER).await;
    assert_eq!(server.most.load(Ordering::Relaxed), 1, "at once");
    assert_eq!(server.paid.load(Ordering::Relaxed), 0);
}
