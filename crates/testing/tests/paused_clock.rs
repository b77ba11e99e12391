//! What the tools of the paused clock promise, and what tokio's own do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::io::Write;
use std::net::TcpStream as StdTcpStream;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use futures_util::FutureExt;
use testing::every_await_point::every_await_point;
use testing::paused_clock::{NotSettled, Timeline, WrongTime, hold_clock, run_for, settle, takes};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{Instant, advance, interval, pause, resume, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const YEAR: u64 = 365 * 24 * 60 * 60 * 1000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Blocks the thread for `duration` of real time.
fn real_pause(duration: Duration) {
    let (_sender, receiver) = sync_channel::<()>(0);
    receiver.recv_timeout(duration).unwrap_err();
}

/// Reads the real clock.
#[expect(clippy::disallowed_methods, reason = "to show what is not paused")]
fn real_now() -> std::time::Instant {
    std::time::Instant::now()
}

fn real_since(start: std::time::Instant) -> Duration {
    real_now().duration_since(start)
}

/// The code under test: a job that runs three times, once a period.
async fn job_three_times(period: Duration, timeline: &Timeline<&'static str>) {
    let mut interval = interval(period);
    for _ in 0..3 {
        interval.tick().await;
        timeline.note("job");
    }
}

/// The same as a task that never ends.
fn spawn_job(period: Duration) -> Timeline<&'static str> {
    let timeline = Timeline::start();
    let notes = timeline.clone();
    tokio::spawn(async move {
        loop {
            job_three_times(period, &notes).await;
            sleep(period).await;
        }
    });
    timeline
}

// ------------------------------------------------------------------------------------ vacuity

#[tokio::test(start_paused = true)]
async fn harm_three_ticks_come_with_any_period_and_the_history_tells_them_apart() {
    let three_times = || [(0, "job"), (100, "job"), (200, "job")];
    for (period, is_right) in [
        (1, false),
        (99, false),
        (100, true),
        (101, false),
        (YEAR, false),
    ] {
        let timeline = Timeline::start();
        job_three_times(ms(period), &timeline).await;
        // The vacuous test: it came three times.
        assert_eq!(timeline.history().len(), 3);
        // The mended one.
        assert_eq!(
            timeline.check(three_times()).is_ok(),
            is_right,
            "{period} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_lower_bound_passes_with_any_longer_duration_and_takes_does_not() {
    for (millis, is_right) in [(99, false), (100, true), (101, false), (YEAR, false)] {
        let started = Instant::now();
        sleep(ms(millis)).await;
        assert_eq!(
            started.elapsed() >= ms(100),
            millis >= 100,
            "the vacuous test"
        );
        let outcome = takes(ms(100), sleep(ms(millis))).await;
        assert_eq!(outcome.is_ok(), is_right, "{millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn harm_an_expected_timeout_comes_with_any_limit_and_takes_asks_which() {
    for (limit, is_right) in [(1, false), (100, true), (YEAR, false)] {
        let never = || timeout(ms(limit), pending::<()>());
        assert!(never().await.is_err(), "the vacuous test");
        let outcome = takes(ms(100), never()).await;
        assert_eq!(outcome.is_ok(), is_right, "{limit} ms: {outcome:?}");
    }
}

// ----------------------------------------------------------------------------------- timeline

#[tokio::test(start_paused = true)]
async fn events_of_all_tasks_are_in_one_history_with_their_instants() {
    sleep(ms(7)).await; // so that the zero is not the runtime's
    let timeline = Timeline::start();
    let tasks = [("a", 10), ("b", 25), ("c", 40)].map(|(name, period)| {
        let timeline = timeline.clone();
        tokio::spawn(async move {
            for _ in 0..2 {
                sleep(ms(period)).await;
                timeline.note(name);
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    let expected = [
        (10, "a"),
        (20, "a"),
        (25, "b"),
        (40, "c"),
        (50, "b"),
        (80, "c"),
    ];
    timeline.check(expected).unwrap();
    let history = timeline.history();
    assert_eq!(history, expected.map(|(millis, event)| (ms(millis), event)));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_event_a_missing_one_and_one_too_many_are_mismatches() {
    let timeline = Timeline::start();
    sleep(ms(100)).await;
    timeline.note('a');
    timeline.check([(100, 'a')]).unwrap();
    timeline.check([(100, 'b')]).unwrap_err();
    timeline.check([(101, 'a')]).unwrap_err();
    timeline.check([(100, 'a'), (100, 'a')]).unwrap_err();
    timeline.check([]).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_mismatch_shows_the_histories_side_by_side() {
    let timeline = Timeline::start();
    timeline.note("start");
    sleep(ms(150)).await;
    timeline.note("tick");
    sleep(ms(50)).await;
    timeline.note("second");
    timeline.note("first");
    advance(Duration::from_micros(1500)).await;
    timeline.note("end");
    let expected = [
        (0, "start"),
        (100, "tick"),
        (200, "first"),
        (200, "second"),
        (300, "more"),
    ];
    let mismatch = timeline.check(expected).unwrap_err();
    let shown = "\
the history differs (- expected, + happened):
         0ns  \"start\"
  -    100ms  \"tick\"
  +    150ms  \"tick\"
  -    200ms  \"first\"
       200ms  \"second\"
  +    200ms  \"first\"
  +  201.5ms  \"end\"
  -    300ms  \"more\"
";
    assert_eq!(mismatch.to_string(), shown);
    assert_eq!(format!("{mismatch:?}"), shown, "what unwrap prints");

    let one_too_many = Timeline::start();
    for event in ["begin", "start"] {
        one_too_many.note(event);
    }
    let mismatch = one_too_many.check([(0, "start")]).unwrap_err();
    let lines: Vec<_> = mismatch.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines[1], "  +      0ns  \"begin\"");
    assert_eq!(lines[2], "         0ns  \"start\"");

    timeline.note("other");
    let mismatch = timeline.check([(0, "start"), (0, "begin")]).unwrap_err();
    let lines: Vec<_> = mismatch.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines[2], "  -      0ns  \"begin\"");
    assert_eq!(lines.len(), 8, "the rest of what happened follows");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_thread_has_the_virtual_instant_although_that_thread_has_the_real_clock()
 {
    let timeline = Timeline::start();
    let started = Instant::now();
    sleep(ms(YEAR)).await;
    let notes = timeline.clone();
    let seen = std::thread::spawn(move || {
        notes.note("from afar");
        Instant::now().duration_since(started)
    });
    let seen = seen.join().unwrap();
    assert!(seen < LIMIT, "a year has passed, the thread saw {seen:?}");
    timeline.check([(YEAR, "from afar")]).unwrap();
    let seen = spawn_blocking(move || started.elapsed()).await.unwrap();
    assert_eq!(seen, ms(YEAR), "a thread of the runtime has its clock");
}

// -------------------------------------------------------------------------------------- takes

#[tokio::test(start_paused = true)]
async fn takes_gives_the_value_or_tells_what_it_took() {
    let job = |millis| async move {
        sleep(ms(millis)).await;
        millis
    };
    let expected = ms(100);
    assert_eq!(takes(expected, job(100)).await, Ok(100));
    for millis in [0, 99, 101, 250] {
        let took = ms(millis);
        let error = WrongTime::Took { expected, took };
        assert_eq!(takes(expected, job(millis)).await, Err(error));
    }
    let error = takes(expected, job(250)).await.unwrap_err();
    assert_eq!(error.to_string(), "took 250ms, not 100ms");
}

#[tokio::test(start_paused = true)]
async fn takes_gives_a_future_up_that_never_ends() {
    let started = Instant::now();
    let error = takes(ms(100), pending::<()>()).await.unwrap_err();
    let after = Duration::from_secs(61);
    let expected = ms(100);
    assert_eq!(error, WrongTime::StillRunning { expected, after });
    assert_eq!(started.elapsed(), after);
    assert_eq!(
        error.to_string(),
        "still running after 61s, expected to take 100ms"
    );
    let forever = takes(Duration::MAX, async {}).await.unwrap_err();
    assert!(matches!(forever, WrongTime::Took { .. }), "no overflow");
}

// --------------------------------------------------------------------------- advance, run_for

#[tokio::test(start_paused = true)]
async fn harm_advance_shows_a_task_all_its_ticks_at_the_end() {
    let timeline = spawn_job(ms(100));
    settle().await.unwrap();
    advance(ms(250)).await;
    settle().await.unwrap();
    timeline
        .check([(0, "job"), (250, "job"), (250, "job")])
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn run_for_shows_each_tick_at_its_instant_those_at_the_last_instant_included() {
    let timeline = spawn_job(ms(100));
    run_for(ms(99)).await.unwrap();
    timeline.check([(0, "job")]).unwrap();
    run_for(ms(1)).await.unwrap();
    timeline.check([(0, "job"), (100, "job")]).unwrap();
    run_for(ms(250)).await.unwrap();
    timeline
        .check([(0, "job"), (100, "job"), (200, "job"), (300, "job")])
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn harm_when_advance_returns_what_it_woke_has_not_run() {
    let timeline = spawn_job(ms(100));
    settle().await.unwrap();
    advance(ms(100)).await;
    timeline.check([(0, "job")]).unwrap();
    yield_now().await;
    timeline.check([(0, "job"), (100, "job")]).unwrap();
}

#[tokio::test(start_paused = true)]
async fn run_for_outlasts_a_chain_of_tasks_that_begins_at_its_last_instant() {
    let (timeline, started) = (Timeline::start(), Instant::now());
    let (first, mut previous) = mpsc::channel::<()>(1);
    for hop in 1..=300 {
        let (sender, receiver) = mpsc::channel(1);
        let mut from = std::mem::replace(&mut previous, receiver);
        let timeline = timeline.clone();
        tokio::spawn(async move {
            from.recv().await.unwrap();
            for _ in 0..3 {
                yield_now().await;
            }
            timeline.note(hop);
            sender.send(()).await.ok();
        });
    }
    let sleeper = async move {
        sleep(ms(50)).await;
        first.send(()).await.unwrap();
    };
    let run = run_for(ms(50));
    let ((), ran) = tokio::join!(sleeper, run);
    ran.unwrap();
    timeline.check((1..=300).map(|hop| (50, hop))).unwrap();
    assert_eq!(started.elapsed(), ms(50));
}

// ------------------------------------------------------------------------------------- settle

#[tokio::test(start_paused = true)]
async fn settle_lets_all_that_is_ready_run_and_leaves_the_clock_where_it_is() {
    let timeline = Timeline::start();
    let notes = timeline.clone();
    tokio::spawn(async move {
        for _ in 0..2000 {
            yield_now().await;
        }
        notes.note("ready");
        sleep(ms(1)).await;
        notes.note("waited");
    });
    yield_now().await;
    timeline.check([]).expect("one yield is not enough");
    for _ in 0..3 {
        settle().await.unwrap();
        timeline.check([(0, "ready")]).unwrap();
    }
    sleep(ms(2)).await;
    timeline.check([(0, "ready"), (1, "waited")]).unwrap();
}

#[tokio::test(start_paused = true)]
async fn settle_gives_up_on_a_task_that_yields_in_a_loop() {
    tokio::spawn(async {
        loop {
            yield_now().await;
        }
    });
    let (started, real) = (Instant::now(), real_now());
    assert_eq!(settle().await, Err(NotSettled::Busy));
    let waited = real_since(real);
    assert!(
        waited > Duration::from_secs(3) && waited < LIMIT,
        "{waited:?}"
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_local_runtime_is_settled_like_any_other_of_one_thread() {
    let timeline = Timeline::start();
    let notes = timeline.clone();
    tokio::task::spawn_local(async move {
        yield_now().await;
        notes.note("ready");
    });
    settle().await.unwrap();
    timeline.check([(0, "ready")]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_multi_thread_runtime_cannot_be_settled() {
    assert_eq!(settle().await, Err(NotSettled::NotCurrentThread));
    assert_eq!(run_for(ms(1)).await, Err(NotSettled::NotCurrentThread));
}

// ---------------------------------------------------------- auto-advance, and what holds it

#[tokio::test(start_paused = true)]
async fn the_clock_stands_still_while_any_task_is_ready() {
    let started = Instant::now();
    let sleeper = tokio::spawn(sleep(ms(1)));
    for _ in 0..10_000 {
        yield_now().await;
    }
    assert!(!sleeper.is_finished());
    assert_eq!(started.elapsed(), Duration::ZERO);
    sleeper.await.unwrap();
    assert_eq!(started.elapsed(), ms(1));
}

/// A listener, and a peer that connects and answers after 50 ms of real time.
async fn slow_peer() -> (TcpListener, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = std::thread::spawn(move || {
        let mut stream = StdTcpStream::connect(address).unwrap();
        real_pause(ms(50));
        drop(stream.write_all(b"answer")); // it may be gone by now
    });
    (listener, peer)
}

/// With a real socket, so that its wait is no task of the runtime's.
async fn answer(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn harm_a_timeout_around_a_real_socket_fires_at_once() {
    let (listener, peer) = slow_peer().await;
    let (started, real) = (Instant::now(), real_now());
    timeout(ms(YEAR), answer(&listener)).await.unwrap_err();
    assert_eq!(started.elapsed(), ms(YEAR));
    let waited = real_since(real);
    assert!(waited < LIMIT, "a year took {waited:?}");
    peer.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_the_clock_is_held_real_input_arrives_and_no_timer_fires() {
    let (listener, peer) = slow_peer().await;
    let started = Instant::now();
    let timer = tokio::spawn(sleep(ms(1)));
    let hold = hold_clock();
    let answer = timeout(ms(1), answer(&listener)).await;
    assert_eq!(answer.as_deref(), Ok("answer"));
    assert!(!timer.is_finished());
    assert_eq!(started.elapsed(), Duration::ZERO);
    advance(ms(1)).await; // by hand it moves
    timer.await.unwrap();
    drop(hold);
    assert_eq!(takes(ms(9), sleep(ms(9))).await, Ok(()), "it is free again");
    peer.join().unwrap();
}

#[test]
fn harm_a_hold_that_is_leaked_keeps_the_runtime_from_ending() {
    for (is_leaked, limit) in [(false, LIMIT), (true, ms(100))] {
        let runtime = Builder::new_current_thread().build().unwrap();
        let hold = runtime.block_on(async { hold_clock() });
        if is_leaked {
            std::mem::forget(hold);
        } else {
            drop(hold);
        }
        let real = real_now();
        runtime.shutdown_timeout(limit);
        let waited = real_since(real);
        assert_eq!(waited >= limit, is_leaked, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_blocking_closure_runs_the_clock_stands_still() {
    let started = Instant::now();
    let real = real_now();
    let blocking = timeout(ms(1), spawn_blocking(|| real_pause(ms(50)))).await;
    blocking
        .expect("the timeout waits for the closure")
        .unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(real_since(real) >= ms(50));
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_std_is_not_paused() {
    let (virtual_start, real) = (Instant::now(), real_now());
    sleep(ms(YEAR)).await;
    assert_eq!(virtual_start.elapsed(), ms(YEAR));
    let (virtual_start, so_far) = (Instant::now(), real_since(real));
    assert!(so_far < LIMIT, "it has seen nothing of the year");
    real_pause(ms(20));
    assert_eq!(virtual_start.elapsed(), Duration::ZERO);
    assert!(real_since(real) >= so_far + ms(20), "and goes on by itself");
}

// ------------------------------------------------------------------ milliseconds and their grid

#[tokio::test(start_paused = true)]
async fn harm_half_a_millisecond_makes_sleeps_of_ten_take_eleven() {
    let ten = || takes(ms(10), sleep(ms(10)));
    assert_eq!(ten().await, Ok(()), "from the whole millisecond");
    let started = Instant::now();
    advance(Duration::from_micros(500)).await;
    assert_eq!(started.elapsed(), Duration::from_micros(500), "exactly");
    for _ in 0..2 {
        let (expected, took) = (ms(10), ms(11));
        assert_eq!(ten().await, Err(WrongTime::Took { expected, took }));
    }
    advance(Duration::from_micros(500)).await;
    assert_eq!(ten().await, Ok(()), "on the grid again");
    assert_eq!(
        takes(ms(1), sleep(Duration::from_micros(10))).await,
        Ok(()),
        "rounded up"
    );
}

#[tokio::test]
async fn harm_a_clock_that_is_paused_in_the_middle_makes_sleeps_of_ten_take_eleven() {
    pause(); // some microseconds after the runtime's start
    let outcome = takes(ms(10), sleep(ms(10))).await;
    let (expected, took) = (ms(10), ms(11));
    assert_eq!(outcome, Err(WrongTime::Took { expected, took }));
}

#[tokio::test(start_paused = true)]
async fn a_resumed_clock_is_the_real_one_until_it_is_paused_again() {
    let started = Instant::now();
    sleep(ms(YEAR)).await;
    resume();
    let real = real_now();
    sleep(ms(20)).await;
    assert!(real_since(real) >= ms(20));
    pause();
    let paused = started.elapsed();
    assert!(paused >= ms(YEAR + 20), "it went on from where it stood");
    real_pause(ms(5));
    assert_eq!(started.elapsed(), paused);
}

// ------------------------------------------------------------------------------------- panics

async fn panic_of(code: impl Future<Output = ()>) -> String {
    let panic = AssertUnwindSafe(code).catch_unwind().await.unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[tokio::test]
async fn harm_misuse_of_the_clock_is_a_panic() {
    let running = "time is not frozen";
    assert_eq!(panic_of(async { resume() }).await, running);
    assert_eq!(panic_of(advance(ms(1))).await, running);
    pause();
    assert_eq!(panic_of(async { pause() }).await, "time is already frozen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn harm_a_multi_thread_runtime_cannot_be_paused() {
    let needs = "`time::pause()` requires the `current_thread` Tokio runtime.";
    let message = panic_of(async { pause() }).await;
    assert!(message.starts_with(needs), "{message}");
    let built = std::thread::spawn(|| Builder::new_multi_thread().start_paused(true).build());
    let panic = built.join().unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.starts_with(needs), "{message}");
}

#[test]
fn outside_of_a_runtime_there_is_no_timeline_and_no_hold() {
    std::panic::catch_unwind(|| drop(Timeline::<()>::start())).unwrap_err();
    std::panic::catch_unwind(|| drop(hold_clock())).unwrap_err();
    std::panic::catch_unwind(|| settle().now_or_never()).unwrap_err();
}

// ------------------------------------------------------------------------------- cancel safety

/// Drops `operation` at each of its await points, and sees that the clock is free and at one of
/// `instants` afterwards.
async fn leaves_the_clock(operation: impl AsyncFn(), instants: &[u64]) -> usize {
    let points = every_await_point(
        LIMIT,
        async || Instant::now(),
        async |_: &mut Instant| operation().await,
        async |started, _| {
            let now = started.elapsed();
            assert!(instants.iter().any(|at| now == ms(*at)), "{now:?}");
            takes(ms(10), sleep(ms(10))).await.unwrap();
        },
    );
    points.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_dropped_settle_leaves_the_clock_where_it_was_and_free() {
    let points = leaves_the_clock(async || settle().await.unwrap(), &[0]).await;
    assert_eq!(points, 2);
}

#[test]
fn a_dropped_settle_does_not_hold_up_the_end_of_its_runtime() {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let real = real_now();
    runtime.block_on(async { assert_eq!(settle().now_or_never(), None) });
    drop(runtime);
    let waited = real_since(real);
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_for_leaves_the_clock_where_it_has_got_to_and_free() {
    let points = leaves_the_clock(async || run_for(ms(20)).await.unwrap(), &[0, 20]).await;
    assert_eq!(points, 4);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_takes_has_dropped_its_future_and_left_the_clock_free() {
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let work = async |_: &mut ()| {
        let alive = alive.clone();
        let work = async move {
            sleep(ms(20)).await;
            drop(alive);
        };
        takes(ms(20), work).await.unwrap();
    };
    let still = async |(), _| takes(ms(10), sleep(ms(10))).await.unwrap();
    let points = every_await_point(LIMIT, async || (), work, still).await;
    assert_eq!(points.unwrap(), 2);
    drop(alive);
    assert_eq!(ended.recv().await, None, "a future lives on");
}
