//! What the circuit breaker promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::{pending, ready};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use retry::circuit_breaker::{CallError, CircuitBreaker, Refused, Settings, Status};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::time::{Instant, advance, timeout};

const SECOND: Duration = Duration::from_secs(1);
const OPEN: Duration = Duration::from_secs(10);

/// Opens when three of the last five calls have failed; two probes close it.
const SETTINGS: Settings = Settings {
    window: NonZeroUsize::new(5).unwrap(),
    failures: NonZeroUsize::new(3).unwrap(),
    open: OPEN,
    probes: NonZeroU32::new(2).unwrap(),
};

fn breaker() -> CircuitBreaker {
    CircuitBreaker::new(SETTINGS)
}

/// Makes calls that end as told: `.` for well, `x` for a failure.
fn calls(breaker: &CircuitBreaker, ends: &str) {
    for end in ends.chars() {
        let permit = breaker.try_acquire().unwrap();
        match end {
            '.' => permit.succeeded(),
            _ => permit.failed(),
        }
    }
}

fn opened() -> CircuitBreaker {
    let breaker = breaker();
    calls(&breaker, "xxx");
    breaker
}

/// As it is once it has been open for its time.
async fn probing() -> CircuitBreaker {
    let breaker = opened();
    advance(OPEN).await;
    breaker
}

async fn call(breaker: &CircuitBreaker, result: Result<u8, &str>) -> Result<u8, String> {
    let counts = |error: &&str| *error != "my fault";
    let ended = breaker.call(SECOND, counts, ready(result)).await;
    ended.map_err(|error| match error {
        CallError::Failed(error) => error.to_owned(),
        other => other.to_string(),
    })
}

#[tokio::test(start_paused = true)]
async fn it_opens_when_so_many_of_the_last_calls_have_failed() {
    for (ends, expected) in [
        ("xx", Status::Closed),
        ("xxx", Status::Open { retry_in: OPEN }),
        ("x.x.x", Status::Open { retry_in: OPEN }),
        ("x..x.x", Status::Closed), // the first has left the window
        ("xx.....xx", Status::Closed),
        ("xx.....xx.x", Status::Open { retry_in: OPEN }),
    ] {
        let breaker = breaker();
        calls(&breaker, ends);
        assert_eq!(breaker.status(), expected, "{ends}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_failures_than_the_window_holds_are_as_many_as_it_holds() {
    let failures = NonZeroUsize::MAX;
    let breaker = CircuitBreaker::new(Settings {
        failures,
        ..SETTINGS
    });
    calls(&breaker, "xxxx");
    assert_eq!(breaker.status(), Status::Closed);
    calls(&breaker, "x");
    assert_eq!(breaker.status(), Status::Open { retry_in: OPEN });
}

#[tokio::test(start_paused = true)]
async fn while_open_it_refuses_without_calling_and_says_how_long() {
    let breaker = opened();
    advance(3 * SECOND).await;
    let mut called = false;
    let refused = breaker
        .call(SECOND, |()| true, async {
            called = true;
            Ok::<(), ()>(())
        })
        .await;
    let retry_in = 7 * SECOND;
    assert_eq!(refused, Err(CallError::Refused(Refused { retry_in })));
    assert!(!called);
    advance(retry_in - Duration::from_millis(1)).await;
    let retry_in = Duration::from_millis(1);
    assert_eq!(breaker.status(), Status::Open { retry_in });
    breaker.try_acquire().unwrap_err();
    advance(retry_in).await;
    assert_eq!(breaker.status(), Status::HalfOpen);
    drop(breaker.try_acquire().unwrap());
}

#[tokio::test(start_paused = true)]
async fn one_probe_is_under_way_at_a_time() {
    let breaker = probing().await;
    let other = breaker.clone();
    let probe = breaker.try_acquire().unwrap();
    let retry_in = Duration::ZERO;
    assert_eq!(breaker.try_acquire().unwrap_err(), Refused { retry_in });
    assert_eq!(other.try_acquire().unwrap_err(), Refused { retry_in });
    probe.succeeded();
    let second = other.try_acquire().unwrap();
    assert_eq!(breaker.try_acquire().unwrap_err(), Refused { retry_in });
    second.succeeded();
    assert_eq!(breaker.status(), Status::Closed);
    let (_one, _two) = (
        breaker.try_acquire().unwrap(),
        breaker.try_acquire().unwrap(),
    );
}

#[tokio::test(start_paused = true)]
async fn probes_that_succeed_close_it_and_what_was_before_is_forgotten() {
    let breaker = probing().await;
    calls(&breaker, ".");
    assert_eq!(breaker.status(), Status::HalfOpen);
    calls(&breaker, ".");
    assert_eq!(breaker.status(), Status::Closed);
    calls(&breaker, "xx");
    assert_eq!(breaker.status(), Status::Closed);
    calls(&breaker, "x");
    assert_eq!(breaker.status(), Status::Open { retry_in: OPEN });
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_opens_it_again_for_the_whole_time() {
    let breaker = probing().await;
    calls(&breaker, ".x");
    assert_eq!(breaker.status(), Status::Open { retry_in: OPEN });
    advance(OPEN).await;
    calls(&breaker, ".");
    assert_eq!(
        breaker.status(),
        Status::HalfOpen,
        "the earlier success counts on"
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_makes_room_for_the_next_and_proves_nothing() {
    let breaker = probing().await;
    for _ in 0..3 {
        let call = breaker.call(SECOND, |()| true, pending::<Result<(), ()>>());
        timeout(SECOND / 2, call).await.unwrap_err();
        assert_eq!(breaker.status(), Status::HalfOpen);
    }
    calls(&breaker, "..");
    assert_eq!(breaker.status(), Status::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_counts_as_a_failure() {
    let breaker = probing().await;
    let panics = {
        let breaker = breaker.clone();
        async move {
            let call = async { panic!("in the call") };
            breaker.call::<(), ()>(SECOND, |()| true, call).await
        }
    };
    assert!(tokio::spawn(panics).await.unwrap_err().is_panic());
    assert_eq!(breaker.status(), Status::Open { retry_in: OPEN });
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_in_time_counts_as_a_failure() {
    let (breaker, started) = (breaker(), Instant::now());
    for _ in 0..3 {
        let hangs = pending::<Result<(), ()>>();
        let ended = breaker.call(SECOND, |()| true, hangs).await;
        assert_eq!(ended, Err(CallError::TimedOut(SECOND)));
    }
    assert_eq!(started.elapsed(), 3 * SECOND);
    assert_eq!(breaker.status(), Status::Open { retry_in: OPEN });
}

#[tokio::test(start_paused = true)]
async fn harm_with_the_time_limit_around_it_a_server_that_hangs_never_opens_it() {
    let breaker = breaker();
    for _ in 0..100 {
        let hangs = pending::<Result<(), ()>>();
        let call = breaker.call(Duration::MAX, |()| true, hangs);
        timeout(SECOND, call).await.unwrap_err();
    }
    assert_eq!(breaker.status(), Status::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_no_failure_is_returned_and_counts_as_a_success() {
    let breaker = breaker();
    for _ in 0..10 {
        assert_eq!(
            call(&breaker, Err("my fault")).await,
            Err("my fault".to_owned())
        );
    }
    assert_eq!(breaker.status(), Status::Closed);
    for _ in 0..3 {
        assert_eq!(
            call(&breaker, Err("broken")).await,
            Err("broken".to_owned())
        );
    }
    let refused = call(&breaker, Ok(7)).await.unwrap_err();
    assert_eq!(refused, "the circuit is open: not before 10s");

    advance(OPEN).await;
    assert_eq!(
        call(&breaker, Err("my fault")).await,
        Err("my fault".to_owned())
    );
    assert_eq!(call(&breaker, Ok(7)).await, Ok(7));
    assert_eq!(breaker.status(), Status::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_began_before_it_opened_is_old_news_when_it_ends() {
    let breaker = breaker();
    let early: Vec<_> = (0..4).map(|_| breaker.try_acquire().unwrap()).collect();
    calls(&breaker, "xxx");
    let [one, two, three, four] = <[_; 4]>::try_from(early).unwrap();
    one.failed();
    assert_eq!(breaker.status(), Status::Open { retry_in: OPEN });

    advance(OPEN).await;
    let probe = breaker.try_acquire().unwrap();
    two.failed();
    three.succeeded();
    drop(four);
    assert_eq!(
        breaker.status(),
        Status::HalfOpen,
        "only the probe may open it"
    );
    breaker.try_acquire().unwrap_err(); // and none of them gave the probe's place away
    probe.succeeded();
    assert_eq!(breaker.status(), Status::HalfOpen, "or close it");
}

#[tokio::test(start_paused = true)]
async fn open_for_longer_than_the_clock_counts_is_open_for_ever() {
    let open = Duration::MAX;
    let breaker = CircuitBreaker::new(Settings { open, ..SETTINGS });
    calls(&breaker, "xxx");
    advance(Duration::from_secs(1_000_000_000)).await;
    assert_eq!(breaker.try_acquire().unwrap_err().retry_in, open);
}

#[tokio::test(start_paused = true)]
async fn dropped_anywhere_a_call_gives_its_place_back() {
    let points = every_await_point(
        Duration::from_secs(60),
        probing,
        async |breaker| {
            let slow = async {
                tokio::time::sleep(SECOND / 2).await;
                Ok::<(), ()>(())
            };
            breaker.call(SECOND, |()| true, slow).await
        },
        async |breaker, outcome| {
            assert_eq!(breaker.status(), Status::HalfOpen);
            let probe = breaker.try_acquire().expect("a place is lost");
            probe.succeeded();
            let closed = breaker.status() == Status::Closed;
            assert_eq!(closed, matches!(outcome, Outcome::Completed(Ok(()))));
        },
    )
    .await;
    assert_eq!(points.unwrap(), 2);
}
