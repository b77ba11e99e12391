//! What a periodic job promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::pending;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use testing::every_await_point::{Outcome, every_await_point};
use timers::periodic::{Ended, Failure, Schedule, ZeroPeriod, periodic};
use tokio::select;
use tokio::time::MissedTickBehavior::{self, Burst, Delay, Skip};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);

const EVERY_100_MS: Schedule = Schedule {
    period: ms(100),
    first_after: Duration::ZERO,
    missed: Skip,
    grace: Duration::ZERO,
};

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn go_on<T>(_: T) -> ControlFlow<Infallible> {
    Continue(())
}

/// Cancels the token after `delay`; to be joined before the schedule.
async fn stop_after(stop: &CancellationToken, delay: Duration) {
    sleep_until(Instant::now() + delay).await; // `sleep` sleeps for 30 years at most
    stop.cancel();
}

/// When each run was due and when it started, in milliseconds, until `stop_at`; run N takes the Nth
/// of `takes` milliseconds, later ones none.
async fn runs(schedule: Schedule, takes: &[u64], stop_at: Duration) -> Vec<(u128, u128)> {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let runs = RefCell::new(Vec::new());
    let job = async |due: Instant| {
        let run = ((due - started).as_millis(), started.elapsed().as_millis());
        runs.borrow_mut().push(run);
        let takes = takes.get(runs.borrow().len() - 1).copied();
        sleep(ms(takes.unwrap_or(0))).await;
        Ok::<_, Infallible>(())
    };
    let (_, ended) = tokio::join!(
        biased;
        stop_after(&stop, stop_at),
        periodic(schedule, &stop, job, go_on)
    );
    ended.unwrap();
    assert_eq!(started.elapsed(), stop_at);
    runs.into_inner()
}

#[tokio::test(start_paused = true)]
async fn the_first_run_comes_when_it_is_asked_for_and_the_others_a_period_apart() {
    for (first_after, expected) in [
        (0, [(0, 0), (100, 100), (200, 200), (300, 300)]),
        (100, [(100, 100), (200, 200), (300, 300), (400, 400)]),
        (30, [(30, 30), (130, 130), (230, 230), (330, 330)]),
    ] {
        let first_after = ms(first_after);
        let schedule = Schedule {
            first_after,
            ..EVERY_100_MS
        };
        let runs = runs(schedule, &[], first_after + ms(350)).await;
        assert_eq!(runs, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_sleeps_between_its_runs_drifts_and_the_schedule_does_not() {
    let runs = runs(EVERY_100_MS, &[30; 4], ms(390)).await;
    assert_eq!(runs, [(0, 0), (100, 100), (200, 200), (300, 300)]);

    let started = Instant::now();
    let mut drifting = Vec::new();
    for _ in 0..4 {
        drifting.push(started.elapsed().as_millis());
        sleep(ms(30)).await;
        sleep(ms(100)).await;
    }
    assert_eq!(drifting, [0, 130, 260, 390]);
}

#[tokio::test(start_paused = true)]
async fn after_a_slow_run_the_next_come_as_the_caller_chose() {
    for (missed, expected) in [
        (
            Burst,
            &[(0, 0), (100, 350), (200, 350), (300, 350), (400, 400)][..],
        ),
        (Delay, &[(0, 0), (100, 350), (450, 450)][..]),
        (Skip, &[(0, 0), (100, 350), (400, 400)][..]),
    ] {
        let schedule = Schedule {
            missed,
            ..EVERY_100_MS
        };
        assert_eq!(runs(schedule, &[350], ms(499)).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn five_milliseconds_late_counts_as_on_time() {
    let schedule = Schedule {
        missed: Delay,
        ..EVERY_100_MS
    };
    let on_time = runs(schedule, &[105], ms(299)).await;
    assert_eq!(on_time, [(0, 0), (100, 105), (200, 200)]);
    let late = runs(schedule, &[106], ms(299)).await;
    assert_eq!(late, [(0, 0), (100, 106), (206, 206)]);
}

#[tokio::test(start_paused = true)]
async fn runs_never_overlap() {
    for missed in [Burst, Delay, Skip] {
        let schedule = Schedule {
            missed,
            ..EVERY_100_MS
        };
        let (running, overlaps) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let job = async |_| {
            overlaps.fetch_add(running.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            sleep(ms(250)).await;
            running.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        };
        let (_, ended) = tokio::join!(
            stop_after(&stop, ms(2_600)),
            periodic(schedule, &stop, job, go_on)
        );
        assert!(matches!(ended, Ok(Ended::CutOff { .. })));
        assert_eq!(overlaps.into_inner(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn every_result_goes_to_the_owner_and_neither_an_error_nor_a_panic_ends_the_schedule() {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let runs = Cell::new(0);
    let mut results = Vec::new();
    let job = async |_| {
        let run = runs.get() + 1;
        runs.set(run);
        assert!(run != 2, "run {run} panics before its first await");
        sleep(ms(10)).await;
        match run {
            3 => panic!("run 3 panics after it"),
            4 => std::panic::panic_any(4),
            5 => Err("run 5 fails"),
            _ => Ok(run),
        }
    };
    let after_run = |result: Result<u32, Failure<&str>>| {
        let result = result.map_err(|failure| failure.to_string());
        results.push((started.elapsed().as_millis(), result));
        Continue::<Infallible>(())
    };
    let (_, ended) = tokio::join!(
        stop_after(&stop, ms(550)),
        periodic(EVERY_100_MS, &stop, job, after_run)
    );
    assert_eq!(ended, Ok(Ended::Stopped));
    let failed = |text: &str| Err(text.to_owned());
    assert_eq!(
        results,
        [
            (10, Ok(1)),
            (100, failed("panicked: run 2 panics before its first await")),
            (210, failed("panicked: run 3 panics after it")),
            (310, failed("panicked: no message")),
            (410, failed("run 5 fails")),
            (510, Ok(6)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_closure_before_it_has_made_a_future_is_a_result_too() {
    let job = |_| {
        assert!(Cell::new(0).get() > 0, "no future yet");
        async { Ok::<(), Infallible>(()) }
    };
    let ended = periodic(EVERY_100_MS, &CancellationToken::new(), job, Break).await;
    let panicked = Err(Failure::Panicked("no future yet".to_owned()));
    assert_eq!(ended, Ok(Ended::Broke(panicked)));
}

#[tokio::test(start_paused = true)]
async fn a_spawned_loop_ends_with_the_first_panic_and_nobody_hears_of_it() {
    let runs = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&runs);
    let _not_awaited = tokio::spawn(async move {
        let mut ticks = interval(ms(100));
        loop {
            ticks.tick().await;
            let run = count.fetch_add(1, Ordering::Relaxed);
            assert_ne!(run, 1, "the second run panics");
        }
    });
    sleep(LIMIT).await;
    assert_eq!(runs.load(Ordering::Relaxed), 2, "of 600");
}

#[tokio::test(start_paused = true)]
async fn the_owner_ends_the_schedule_and_gets_back_what_it_broke_with() {
    let started = Instant::now();
    let runs = Cell::new(0);
    let job = async |_| {
        let run = runs.get() + 1;
        runs.set(run);
        if [4, 8, 9, 10].contains(&run) {
            return Err(run);
        }
        Ok(())
    };
    let mut in_a_row = 0;
    let three_in_a_row = |result: Result<(), Failure<u32>>| {
        in_a_row = if result.is_ok() { 0 } else { in_a_row + 1 };
        match result {
            Err(failure) if in_a_row == 3 => Break(failure),
            _ => Continue(()),
        }
    };
    let ended = periodic(EVERY_100_MS, &CancellationToken::new(), job, three_in_a_row).await;
    assert_eq!(ended, Ok(Ended::Broke(Failure::Failed(10))));
    assert_eq!(started.elapsed(), ms(900), "it waits for no further tick");
    assert_eq!(runs.get(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_it_waits_ends_it_at_once() {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let job = async |_| Ok::<_, Infallible>(());
    let schedule = Schedule {
        grace: LIMIT,
        ..EVERY_100_MS
    };
    let (_, ended) = tokio::join!(
        stop_after(&stop, ms(130)),
        periodic(schedule, &stop, job, go_on)
    );
    assert_eq!((ended, started.elapsed()), (Ok(Ended::Stopped), ms(130)));
}

#[tokio::test(start_paused = true)]
async fn no_run_starts_after_a_stop() {
    let runs = Cell::new(0);
    let job = async |_| {
        runs.set(runs.get() + 1);
        Ok::<_, Infallible>(())
    };
    let stop = CancellationToken::new();
    stop.cancel();
    let ended = periodic(EVERY_100_MS, &stop, job, go_on).await;
    assert_eq!(ended, Ok(Ended::Stopped));
    let together = CancellationToken::new();
    let (_, ended) = tokio::join!(
        biased;
        stop_after(&together, ms(200)),
        periodic(EVERY_100_MS, &together, job, go_on)
    );
    assert_eq!(ended, Ok(Ended::Stopped));
    assert_eq!(
        runs.get(),
        2,
        "at 0 and at 100 ms, not at 200 with the stop"
    );
}

/// A run that starts at 100 ms and takes `takes`, and a stop at 120 ms. How the schedule ended,
/// when, and the results.
async fn stopped_in_a_run(grace: Duration, takes: Duration) -> (Ended<u32>, Duration, Vec<u32>) {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let owned = Arc::new(());
    let mut results = Vec::new();
    let schedule = Schedule {
        first_after: ms(100),
        grace,
        ..EVERY_100_MS
    };
    let job = async |_| {
        let _held = Arc::clone(&owned);
        sleep(takes).await;
        Ok::<_, Infallible>(7)
    };
    let after_run = |result: Result<u32, Failure<Infallible>>| {
        results.extend(result);
        if takes == ms(33) {
            Break(33)
        } else {
            Continue(())
        }
    };
    let (_, ended) = tokio::join!(
        stop_after(&stop, ms(120)),
        periodic(schedule, &stop, job, after_run)
    );
    let elapsed = started.elapsed();
    sleep(LIMIT).await;
    assert_eq!(Arc::strong_count(&owned), 1, "a run lives on");
    (ended.unwrap(), elapsed, results)
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_a_run_gives_it_the_grace_and_then_drops_it() {
    let cut_off = Ended::CutOff {
        due: Instant::now() + ms(100),
    };
    let (ended, elapsed, results) = stopped_in_a_run(ms(30), ms(51)).await;
    assert_eq!((ended, elapsed, results), (cut_off, ms(150), vec![]));

    let done = stopped_in_a_run(ms(30), ms(49)).await;
    assert_eq!(done, (Ended::Stopped, ms(149), vec![7]), "and handed over");

    let broke = stopped_in_a_run(ms(30), ms(33)).await;
    assert_eq!(broke, (Ended::Broke(33), ms(133), vec![7]), "both are told");

    let (ended, elapsed, results) = stopped_in_a_run(Duration::ZERO, ms(51)).await;
    assert!(matches!(ended, Ended::CutOff { .. }));
    assert_eq!((elapsed, results), (ms(120), vec![]));

    let done = stopped_in_a_run(Duration::MAX, LIMIT).await;
    assert_eq!(done, (Ended::Stopped, ms(100) + LIMIT, vec![7]));
}

#[tokio::test(start_paused = true)]
async fn a_job_in_a_branch_of_a_select_with_the_stop_is_dropped_half_way() {
    let stop = CancellationToken::new();
    let (mut begun, mut done) = (0, 0);
    let schedule = async {
        loop {
            let run = async {
                begun += 1;
                sleep(ms(50)).await;
                done += 1;
                sleep(ms(50)).await;
            };
            select! {
                () = stop.cancelled() => break,
                () = run => {}
            }
        }
    };
    tokio::join!(stop_after(&stop, ms(120)), schedule);
    assert_eq!((begun, done), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_is_refused_before_the_first_run() {
    let schedule = Schedule {
        period: Duration::ZERO,
        ..EVERY_100_MS
    };
    let stop = CancellationToken::new();
    let job = async |_| -> Result<(), Infallible> { panic!("it ran") };
    let refused = periodic(schedule, &stop, job, go_on).await;
    assert_eq!(refused, Err(ZeroPeriod));
    let message = ZeroPeriod.to_string();
    assert!(message.contains("give the time from one run"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn enormous_durations_are_no_panic_and_thirty_years() {
    let years = Duration::from_secs(30 * 365 * 86_400);
    for missed in [Burst, Delay, Skip] {
        let schedule = Schedule {
            period: Duration::MAX,
            first_after: Duration::ZERO,
            missed,
            grace: Duration::MAX,
        };
        let runs_until = years + ms(10);
        let at = years.as_millis();
        let on_time = runs(schedule, &[], runs_until).await;
        assert_eq!(on_time, [(0, 0), (at, at)]);
    }
    let late_start = Schedule {
        first_after: Duration::MAX,
        ..EVERY_100_MS
    };
    assert_eq!(runs(late_start, &[], years - ms(10)).await, []);
    let once = runs(late_start, &[], years + ms(10)).await;
    assert_eq!(once, [(years.as_millis(), years.as_millis())]);
}

#[tokio::test(start_paused = true)]
async fn a_period_below_a_millisecond_is_kept_on_average() {
    let schedule = Schedule {
        period: Duration::from_micros(250),
        ..EVERY_100_MS
    };
    let runs = runs_without_sleep(schedule, ms(10)).await;
    assert_eq!(runs[..6], [0, 1, 1, 1, 1, 2]);
    assert_eq!(runs.len(), 1 + 4 * 9, "the stop comes before the tenth");
}

/// When runs that take no time and do not wait started, in milliseconds.
async fn runs_without_sleep(schedule: Schedule, stop_at: Duration) -> Vec<u128> {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let runs = RefCell::new(Vec::new());
    let job = async |_| {
        runs.borrow_mut().push(started.elapsed().as_millis());
        Ok::<_, Infallible>(())
    };
    let (_, ended) = tokio::join!(
        biased;
        stop_after(&stop, stop_at),
        periodic(schedule, &stop, job, go_on)
    );
    assert_eq!(ended, Ok(Ended::Stopped));
    runs.into_inner()
}

#[tokio::test]
async fn a_stop_is_heard_although_the_runs_never_catch_up() {
    let schedule = Schedule {
        period: Duration::from_nanos(1),
        missed: Burst,
        ..EVERY_100_MS
    };
    let runs = timeout(LIMIT, runs_without_sleep(schedule, ms(20))).await;
    assert!(runs.expect("no other task gets a turn").len() > 1);
}

#[tokio::test(start_paused = true)]
async fn after_an_hours_stall_burst_runs_3600_times_without_a_pause() {
    let hour = Duration::from_secs(3_600);
    let second = Schedule {
        period: Duration::from_secs(1),
        ..EVERY_100_MS
    };
    let at_the_end = async |missed: MissedTickBehavior| {
        let schedule = Schedule { missed, ..second };
        let runs = runs_that_stall(schedule, hour).await;
        runs.iter().filter(|at| **at == hour).count()
    };
    assert_eq!(at_the_end(Burst).await, 3_600);
    assert_eq!(at_the_end(Delay).await, 1);
    assert_eq!(at_the_end(Skip).await, 1);
}

/// When the runs started of which the first takes `stall`, until half a second later.
async fn runs_that_stall(schedule: Schedule, stall: Duration) -> Vec<Duration> {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let runs = RefCell::new(Vec::new());
    let job = async |_| {
        runs.borrow_mut().push(started.elapsed());
        if started.elapsed().is_zero() {
            sleep(stall).await;
        }
        Ok::<_, Infallible>(())
    };
    let (_, ended) = tokio::join!(
        stop_after(&stop, stall + ms(500)),
        periodic(schedule, &stop, job, go_on)
    );
    assert_eq!(ended, Ok(Ended::Stopped));
    runs.into_inner()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_never_ends_is_the_last_one_until_the_stop() {
    let stop = CancellationToken::new();
    let runs = Cell::new(0);
    let job = async |_| {
        runs.set(runs.get() + 1);
        pending::<Result<(), Infallible>>().await
    };
    let started = Instant::now();
    let (_, ended) = tokio::join!(
        stop_after(&stop, 60 * LIMIT),
        periodic(EVERY_100_MS, &stop, job, go_on)
    );
    assert!(matches!(ended, Ok(Ended::CutOff { due }) if due == started));
    assert_eq!(runs.get(), 1, "of 36,000");
    assert_eq!(started.elapsed(), 60 * LIMIT);
}

#[tokio::test(start_paused = true)]
async fn copies_that_start_together_run_together_unless_they_are_told_otherwise() {
    let first_runs = async |spread: Duration| {
        let mut first_runs = Vec::new();
        for copy in 0..10 {
            let schedule = Schedule {
                first_after: spread * copy,
                ..EVERY_100_MS
            };
            first_runs.push(runs(schedule, &[], ms(100)).await[0].1);
        }
        first_runs
    };
    assert_eq!(first_runs(Duration::ZERO).await, [0; 10]);
    let spread = first_runs(ms(10)).await;
    assert_eq!(spread, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
}

#[tokio::test(start_paused = true)]
async fn what_a_panic_left_half_changed_is_there_for_the_next_run() {
    let (from, to) = (Cell::new(100), Cell::new(0));
    let job = async |_| {
        from.set(from.get() - 10);
        assert_ne!(from.get(), 90, "half way");
        to.set(to.get() + 10);
        Ok::<_, Infallible>(from.get() + to.get())
    };
    let first_sum = |result: Result<i32, Failure<Infallible>>| match result {
        Ok(sum) => Break(sum),
        Err(_) => Continue(()),
    };
    let ended = periodic(EVERY_100_MS, &CancellationToken::new(), job, first_sum).await;
    assert_eq!(ended, Ok(Ended::Broke(90)), "ten are gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_spawned_with_a_job_that_has_a_state() {
    let stop = CancellationToken::new();
    let schedule = Schedule {
        period: ms(1),
        ..EVERY_100_MS
    };
    let task = tokio::spawn(async move {
        let runs = AtomicU64::new(0);
        let job = async |_| {
            sleep(ms(1)).await;
            Ok::<_, Infallible>(runs.fetch_add(1, Ordering::Relaxed) + 1)
        };
        let until_five = |result| match result {
            Ok(5) => Break(5),
            _ => Continue(()),
        };
        periodic(schedule, &stop, job, until_five).await
    });
    assert_eq!(task.await.unwrap(), Ok(Ended::Broke(5)));
}

#[tokio::test(start_paused = true)]
async fn dropped_it_drops_the_run_under_way_and_starts_no_other() {
    let points = every_await_point(
        LIMIT,
        async || (Arc::new(()), AtomicUsize::new(0), AtomicUsize::new(0)),
        async |(owned, begun, done)| {
            let job = async |_| {
                let _held = Arc::clone(owned);
                begun.fetch_add(1, Ordering::Relaxed);
                sleep(ms(30)).await;
                done.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(())
            };
            let three = |_| match done.load(Ordering::Relaxed) {
                3 => Break(()),
                _ => Continue(()),
            };
            periodic(EVERY_100_MS, &CancellationToken::new(), job, three).await
        },
        async |(owned, begun, done), outcome| {
            let before = (begun.into_inner(), done.load(Ordering::Relaxed));
            assert_eq!(Arc::strong_count(&owned), 1, "a run is still there");
            sleep(LIMIT).await;
            assert_eq!(done.into_inner(), before.1, "a run goes on");
            if let Outcome::Completed(ended) = outcome {
                assert_eq!((ended, before), (Ok(Ended::Broke(())), (3, 3)));
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 6, "three ticks and three runs");
}
