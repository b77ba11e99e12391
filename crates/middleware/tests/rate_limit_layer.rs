//! At which instants requests are sent, with tower's windows and with short ones.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use middleware::rate_limit_layer::{Rate, rate_limited};
use testing::every_await_point::{Cut, Outcome, every_await_point};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tower::limit::RateLimit;
use tower::limit::rate::Rate as Window;
use tower::{BoxError, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
    Rate {
        burst: NonZeroU32::new(burst).unwrap(),
        ..Rate::new(NonZeroU32::new(requests).unwrap(), per)
    }
}

fn places(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// A service that answers with the time at which it was called, in milliseconds.
fn clock()
-> impl Service<(), Response = u128, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let started = Instant::now();
    service_fn(move |()| async move { Ok(started.elapsed().as_millis()) })
}

/// `number` requests at once; when each was sent.
async fn all_at_once<S>(service: &S, number: usize) -> Vec<u128>
where
    S: Service<(), Response = u128, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut calls = JoinSet::new();
    for _ in 0..number {
        calls.spawn(service.clone().oneshot(()));
    }
    let mut sent: Vec<_> = calls
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    sent.sort_unstable();
    sent
}

/// The most that were sent within any `per`, of requests sent at these times.
fn most_within(sent: &[u128], per: Duration) -> usize {
    let within = |from: &u128| {
        let until = from + per.as_millis();
        sent.iter()
            .filter(|at| (*from..until).contains(*at))
            .count()
    };
    sent.iter().map(within).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn harm_towers_window_lets_twice_as_many_through_around_its_border() {
    let mut service = RateLimit::new(clock(), Window::new(10, SECOND));
    let mut sent = Vec::new();
    for _ in 0..10 {
        sent.push(service.ready().await.unwrap().call(()).await.unwrap());
    }
    // It is ready in the second window, and the requests come at the end of that.
    service.ready().await.unwrap();
    sleep(SECOND - MS).await;
    for _ in 0..20 {
        sent.push(service.ready().await.unwrap().call(()).await.unwrap());
    }
    assert_eq!(sent[..10], [0; 10]);
    assert_eq!(sent[10..20], [1999; 10]);
    assert_eq!(sent[20..], [2000; 10]);
}

#[tokio::test(start_paused = true)]
async fn harm_nor_need_the_service_be_ready_beforehand_for_all_but_one_of_them() {
    let mut service = RateLimit::new(clock(), Window::new(10, SECOND));
    let mut sent = vec![service.ready().await.unwrap().call(()).await.unwrap()];
    sleep(SECOND - MS).await;
    for _ in 0..19 {
        sent.push(service.ready().await.unwrap().call(()).await.unwrap());
    }
    assert_eq!(most_within(&sent, 2 * MS), 19);
}

#[tokio::test(start_paused = true)]
async fn without_bursts_requests_are_sent_at_equal_distances_after_a_pause_too() {
    let ten = Rate::new(NonZeroU32::new(10).unwrap(), SECOND);
    let service = rate_limited(clock(), ten, places(100));
    assert_eq!(all_at_once(&service, 5).await, [0, 100, 200, 300, 400]);
    sleep(10 * SECOND).await;
    assert_eq!(all_at_once(&service, 3).await, [10_400, 10_500, 10_600]);
    sleep(50 * MS).await; // in the midst of a window
    assert_eq!(all_at_once(&service, 2).await, [10_700, 10_800]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_sent_at_once_and_then_its_time_passes() {
    let service = rate_limited(clock(), rate(10, SECOND, 3), places(100));
    let sent = all_at_once(&service, 7).await;
    assert_eq!(sent, [0, 0, 0, 300, 300, 300, 600]);
}

#[tokio::test(start_paused = true)]
async fn bursts_around_a_border_add_no_more_than_two_of_them_to_the_rate() {
    for (burst, expected) in [(1, 10), (2, 11), (5, 14), (10, 19)] {
        let service = rate_limited(clock(), rate(10, SECOND, burst), places(100));
        let mut sent = all_at_once(&service, 1).await;
        // One before the end of the first window.
        sleep(burst * 100 * MS - MS).await;
        sent.extend(all_at_once(&service, 60).await);
        let most = most_within(&sent, SECOND);
        assert_eq!(most, expected, "burst {burst}: {sent:?}");
        assert!(most < 10 + 2 * burst as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_rate_and_services_of_their_own_do_not() {
    let one = rate_limited(clock(), rate(10, SECOND, 1), places(100));
    let clone = one.clone();
    let (a, b) = tokio::join!(all_at_once(&one, 2), all_at_once(&clone, 2));
    assert_eq!([a, b].concat(), [0, 100, 200, 300]);

    let inner = clock();
    let one = rate_limited(inner.clone(), rate(10, SECOND, 1), places(100));
    let other = rate_limited(inner, rate(10, SECOND, 1), places(100));
    let (a, b) = tokio::join!(all_at_once(&one, 2), all_at_once(&other, 2));
    assert_eq!([a, b].concat(), [0, 100, 0, 100], "twice the rate");
}

#[tokio::test(start_paused = true)]
async fn harm_windows_shorter_than_a_timer_can_count_are_longer_than_asked_for() {
    let last = async |burst| {
        let service = rate_limited(clock(), rate(10_000, SECOND, burst), places(1000));
        all_at_once(&service, 1000).await.pop().unwrap()
    };
    assert_eq!(last(1).await, 999, "1,000 per second");
    assert_eq!(last(100).await, 90, "10,000 per second");
}

#[tokio::test(start_paused = true)]
async fn who_has_given_up_leaves_the_queue_and_uses_nothing_of_the_rate() {
    let service = rate_limited(clock(), rate(10, SECOND, 1), places(100));
    assert_eq!(all_at_once(&service, 1).await, [0]);
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        waiting.spawn(timeout(50 * MS, service.clone().oneshot(())));
    }
    let given_up = waiting.join_all().await;
    assert!(given_up.iter().all(Result::is_err));
    assert_eq!(all_at_once(&service, 2).await, [100, 200]);
}

#[tokio::test(start_paused = true)]
async fn harm_neither_the_wait_in_the_queue_nor_that_for_a_place_in_it_has_an_end() {
    let service = rate_limited(clock(), rate(1, LONG, 1), places(1));
    let started = Instant::now();
    assert_eq!(all_at_once(&service, 1).await, [0]);
    // One is in the worker's hand, one in the queue, one waits for a place in the queue.
    let sent = all_at_once(&service, 3).await;
    assert_eq!(sent, [1, 2, 3].map(|hours: u128| hours * LONG.as_millis()));
    assert_eq!(started.elapsed(), 3 * LONG);
}

#[tokio::test(start_paused = true)]
async fn the_queue_holds_as_many_as_asked_for_and_one_more() {
    let mut service = rate_limited(clock(), rate(1, LONG, 1), places(3));
    let mut kept = Vec::new();
    for _ in 0..5 {
        // One is sent, one in the worker's hand, three in the queue.
        let ready = timeout(SECOND, service.ready()).await.expect("no place");
        kept.push(ready.unwrap().call(()));
        yield_now().await;
    }
    timeout(SECOND, service.ready())
        .await
        .map(drop)
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn harm_tries_of_a_retry_below_are_not_counted() {
    use tower::retry::{Policy, RetryLayer};
    #[derive(Clone)]
    struct Thrice(u8);
    impl Policy<(), u128, BoxError> for Thrice {
        type Future = std::future::Ready<()>;
        fn retry(&mut self, (): &mut (), _: &mut Result<u128, BoxError>) -> Option<Self::Future> {
            self.0 += 1;
            (self.0 < 3).then(|| std::future::ready(()))
        }
        fn clone_request(&mut self, (): &()) -> Option<()> {
            Some(())
        }
    }
    for (below, expected) in [(true, [0, 0, 0]), (false, [0, 100, 200])] {
        let (tries, mut sent) = mpsc::channel(3);
        let started = Instant::now();
        let service = service_fn(move |()| {
            let tries = tries.clone();
            async move {
                let at = started.elapsed().as_millis();
                tries.send(at).await?;
                Ok::<_, BoxError>(at)
            }
        });
        let (retry, rate) = (RetryLayer::new(Thrice(0)), rate(10, SECOND, 1));
        if below {
            let service = tower::Layer::layer(&retry, service);
            rate_limited(service, rate, places(9))
                .oneshot(())
                .await
                .unwrap();
        } else {
            let service = rate_limited(service, rate, places(9));
            tower::Layer::layer(&retry, service)
                .oneshot(())
                .await
                .unwrap();
        }
        let mut times = Vec::new();
        sent.recv_many(&mut times, 3).await;
        assert_eq!(times, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_panic_in_one_call_ends_it_for_all() {
    let service = service_fn(|fail: bool| {
        assert!(!fail, "as asked");
        async { Ok::<_, BoxError>(()) }
    });
    let service = rate_limited(service, rate(10, SECOND, 1), places(9));
    service.clone().oneshot(false).await.unwrap();
    service.clone().oneshot(true).await.unwrap_err();
    let error = service.oneshot(false).await.unwrap_err();
    assert!(error.is::<tower::buffer::error::Closed>());
}

#[tokio::test(start_paused = true)]
async fn the_worker_sends_what_is_awaited_and_ends_with_the_last_clone() {
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let inner = service_fn(move |()| {
        let _alive = alive.clone();
        async { Ok::<_, BoxError>(()) }
    });
    let mut service = rate_limited(inner, rate(1, SECOND, 1), places(9));
    let mut awaited = Vec::new();
    for _ in 0..3 {
        awaited.push(service.ready().await.unwrap().call(()));
    }
    let started = Instant::now();
    drop(service);
    for call in awaited {
        call.await.unwrap();
    }
    assert_eq!(started.elapsed(), 2 * SECOND);
    assert_eq!(ended.recv().await, None);
    assert_eq!(started.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn rates_of_nothing_and_of_ever_are_no_panic() {
    let all = NonZeroU32::MAX;
    for per in [
        Duration::ZERO,
        Duration::from_nanos(1),
        SECOND,
        Duration::MAX,
    ] {
        for (requests, burst) in [(all, all), (all, NonZeroU32::MIN), (NonZeroU32::MIN, all)] {
            let rate = Rate {
                requests,
                per,
                burst,
            };
            let service = rate_limited(clock(), rate, NonZeroUsize::MAX);
            service.oneshot(()).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_in_ever_is_one_in_thirty_years() {
    let rate = Rate::new(NonZeroU32::MIN, Duration::MAX);
    let service = rate_limited(clock(), rate, places(9));
    let years = 30 * 365 * 24 * SECOND * 3_600;
    assert_eq!(all_at_once(&service, 2).await, [0, years.as_millis()]);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_before_its_turn_is_not_sent() {
    let points = every_await_point(
        LONG,
        async || {
            let (calls, sent) = mpsc::channel(10);
            let inner = service_fn(move |name: &str| {
                let sent = calls.try_send(name.to_owned());
                async move { sent.map_err(BoxError::from) }
            });
            let service = rate_limited(inner, rate(10, SECOND, 1), places(9));
            service.clone().oneshot("first").await.unwrap();
            (service, sent)
        },
        async |(service, _)| service.clone().oneshot("second").await.unwrap(),
        async |(service, mut sent), outcome| {
            let before = Instant::now();
            service.oneshot("third").await.unwrap();
            let mut names = Vec::new();
            sent.recv_many(&mut names, 10).await;
            match outcome {
                Outcome::Completed(()) => {
                    assert_eq!(names, ["first", "second", "third"]);
                    assert_eq!(before.elapsed(), 100 * MS);
                }
                // Woken from its wait it has had its turn.
                Outcome::Dropped(Cut::Woken(_)) if names.len() == 3 => {
                    assert_eq!(before.elapsed(), 100 * MS);
                }
                Outcome::Dropped(cut) => {
                    assert_eq!(names, ["first", "third"], "{cut}");
                    assert!(before.elapsed() <= 100 * MS, "{cut}");
                }
            }
        },
    )
    .await;
    assert_eq!(points.unwrap(), 3);
}
