//! What the event loop promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use select::event_loop::{Ended, Reason, Settings, ZeroPeriod, event_loop};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::mpsc;
use tokio::time::{
    Instant, Interval, MissedTickBehavior, advance, interval, sleep, sleep_until, timeout,
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
const SETTINGS: Settings = Settings {
    period: ms(100),
    grace: ms(200),
};

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// The virtual milliseconds at which something happened.
struct Times {
    started: Instant,
    at: RefCell<Vec<u128>>,
}

impl Times {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            at: RefCell::default(),
        }
    }
    fn note(&self) {
        let now = self.started.elapsed().as_millis();
        self.at.borrow_mut().push(now);
    }
    fn taken(&self) -> Vec<u128> {
        self.at.take()
    }
}

/// A channel with these commands in it. Drop the sender to have it end.
fn channel<C>(commands: impl IntoIterator<Item = C>) -> (mpsc::Sender<C>, mpsc::Receiver<C>) {
    let (sender, receiver) = mpsc::channel(300);
    for command in commands {
        sender.try_send(command).ok().unwrap();
    }
    (sender, receiver)
}

/// A token that is cancelled at that time.
fn stop_at(at: Duration) -> CancellationToken {
    let token = CancellationToken::new();
    let (cancelled, at) = (token.clone(), Instant::now() + at);
    tokio::spawn(async move {
        sleep_until(at).await;
        cancelled.cancel();
    });
    token
}

fn never() -> CancellationToken {
    CancellationToken::new()
}

fn ended(reason: Reason, interrupted: bool, left: usize) -> Ended {
    Ended {
        reason,
        interrupted,
        left,
    }
}

async fn rest<C>(commands: &mut mpsc::Receiver<C>) -> Vec<C> {
    let mut all = Vec::new();
    while let Some(command) = commands.recv().await {
        all.push(command);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_delays_no_heartbeat_and_commands_are_handled_in_turn() {
    let (sender, mut commands) = channel([1, 2]);
    drop(sender);
    let (beats, done) = (Times::new(), Times::new());
    let mut order = Vec::new();
    let handler = async |command| {
        sleep(ms(230)).await;
        order.push(command);
        done.note();
    };
    let heartbeat = async || beats.note();
    let end = event_loop(SETTINGS, &mut commands, &never(), handler, heartbeat).await;
    assert_eq!(end, Ok(ended(Reason::Closed, false, 0)));
    assert_eq!(beats.taken(), [0, 100, 200, 300, 400]);
    assert_eq!((order, done.taken()), (vec![1, 2], vec![230, 460]));
    assert_eq!(beats.started.elapsed(), ms(460));
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_awaits_the_handler_in_its_branch_beats_late_in_bursts_and_hears_no_stop() {
    let (_sender, mut commands) = channel([(), ()]);
    let (beats, stop) = (Times::new(), stop_at(ms(50)));
    let mut ticks = interval(ms(100));
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => beats.note(),
            Some(()) = commands.recv() => sleep(ms(330)).await,
        }
    }
    assert_eq!(beats.taken(), [0]);
    assert_eq!(beats.started.elapsed(), ms(330), "stopped at 50");

    let beats = Times::new();
    let mut ticks = interval(ms(100));
    let naive = async {
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => beats.note(),
                Some(()) = commands.recv() => sleep(ms(330)).await,
            }
        }
    };
    timeout(ms(450), naive).await.unwrap_err();
    assert_eq!(beats.taken(), [0, 330, 330, 330, 400]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_running_handler_and_begins_nothing_new() {
    let (_sender, mut commands) = channel([1, 2, 3]);
    let beats = Times::new();
    let mut handled = Vec::new();
    let handler = async |command| {
        sleep(ms(250)).await;
        handled.push(command);
    };
    let heartbeat = async || beats.note();
    let end = event_loop(
        SETTINGS,
        &mut commands,
        &stop_at(ms(130)),
        handler,
        heartbeat,
    )
    .await;
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 2)));
    assert_eq!(beats.started.elapsed(), ms(250));
    assert_eq!(beats.taken(), [0, 100, 200], "they go on while it waits");
    assert_eq!((handled, rest(&mut commands).await), (vec![1], vec![2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_not_done_within_the_grace_is_dropped_and_told_of() {
    for grace in [Duration::ZERO, ms(200)] {
        let (_sender, mut commands) = channel([1, 2]);
        let (started, settings) = (Instant::now(), Settings { grace, ..SETTINGS });
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let handler = async move |_| {
            let _held = Arc::clone(&held);
            pending::<()>().await;
        };
        let stop = stop_at(ms(130));
        let run = event_loop(settings, &mut commands, &stop, handler, async || {});
        let end = timeout(LIMIT, run).await.expect("it waits for ever");
        assert_eq!(end, Ok(ended(Reason::Stopped, true, 1)));
        assert_eq!(started.elapsed(), ms(130) + grace);
        assert_eq!(Arc::strong_count(&alive), 1, "the handler lives on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_done_at_the_last_moment_is_not_interrupted() {
    let (_sender, mut commands) = channel([()]);
    let started = Instant::now();
    let handler = async |()| sleep(ms(130) + SETTINGS.grace).await;
    let stop = stop_at(ms(130));
    let end = event_loop(SETTINGS, &mut commands, &stop, handler, async || {}).await;
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 0)));
    assert_eq!(started.elapsed(), ms(330));
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_an_idle_loop_ends_it_at_once() {
    let (_sender, mut commands) = channel::<()>([]);
    let started = Instant::now();
    let run = async {
        let stop = stop_at(ms(130));
        event_loop(SETTINGS, &mut commands, &stop, async |()| {}, async || {}).await
    };
    let end = timeout(LIMIT, run).await.expect("it hears no stop");
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 0)));
    assert_eq!(started.elapsed(), ms(130));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_cancelled_from_the_start_lets_nothing_begin() {
    let (_sender, mut commands) = channel([1]);
    let begun = Cell::new(0);
    let count = || begun.set(begun.get() + 1);
    let (handler, heartbeat) = (async |_| count(), async || count());
    let stop = CancellationToken::new();
    stop.cancel();
    let end = event_loop(SETTINGS, &mut commands, &stop, handler, heartbeat).await;
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 1)));
    assert_eq!(begun.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_channel_ends_an_idle_loop_at_once() {
    let (sender, mut commands) = channel::<()>([]);
    let started = Instant::now();
    tokio::spawn(async move {
        sleep(ms(70)).await;
        drop(sender);
    });
    let stop = never();
    let run = event_loop(SETTINGS, &mut commands, &stop, async |()| {}, async || {});
    let end = timeout(LIMIT, run).await.expect("it lives on");
    assert_eq!(end, Ok(ended(Reason::Closed, false, 0)));
    assert_eq!(started.elapsed(), ms(70));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_for_some_lives_on_after_the_last_sender_and_one_in_the_body_spins() {
    let (sender, mut commands) = channel([()]);
    drop(sender);
    let mut ticks = interval(ms(100));
    let (mut beats, mut handled) = (0, 0);
    let lives_on = async {
        loop {
            tokio::select! {
                Some(()) = commands.recv() => handled += 1,
                _ = ticks.tick() => beats += 1,
            }
        }
    };
    timeout(LIMIT, lives_on).await.unwrap_err();
    assert_eq!(handled, 1);
    assert!(
        beats > 500,
        "{beats} heartbeats of a loop without a purpose"
    );

    let mut ticks = interval(ms(100));
    ticks.tick().await;
    let mut turns = 0;
    while turns < 10_000 {
        turns += 1;
        tokio::select! {
            command = commands.recv() => if let Some(()) = command { break },
            _ = ticks.tick() => break,
        }
    }
    assert_eq!(turns, 10_000, "not even the clock gets on");
}

#[tokio::test(start_paused = true)]
async fn from_the_stop_on_senders_get_their_commands_back_and_accepted_ones_stay() {
    let (sender, mut commands) = mpsc::channel(2);
    for command in [1, 2] {
        sender.send(command).await.unwrap();
    }
    let others = async {
        sleep(ms(10)).await; // the first is being handled
        let permit = sender.reserve().await.unwrap();
        let waiting = sender.send(4); // there is no room for it
        let sending = async {
            let refused = waiting.await.unwrap_err().0;
            assert_eq!(refused, 4);
            Instant::now()
        };
        let refused_at = sending.await;
        assert_eq!(
            sender.try_send(5),
            Err(mpsc::error::TrySendError::Closed(5))
        );
        sleep(SETTINGS.grace).await;
        permit.send(3); // after the loop's end
        refused_at
    };
    let started = Instant::now();
    let (stop, handler) = (stop_at(ms(130)), async |_| sleep(ms(250)).await);
    let run = event_loop(SETTINGS, &mut commands, &stop, handler, async || {});
    let (end, refused_at) = tokio::join!(timeout(LIMIT, run), others);
    assert_eq!(end.unwrap(), Ok(ended(Reason::Stopped, false, 1)));
    assert_eq!(
        refused_at - started,
        ms(130),
        "not only when the handler is done"
    );
    assert_eq!(rest(&mut commands).await, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_reserved_before_the_stop_can_be_used_after_it() {
    let (sender, mut commands) = mpsc::channel(4);
    let place = sender.reserve().await.unwrap();
    let stop = stop_at(Duration::ZERO);
    let result = event_loop(
        SETTINGS,
        &mut commands,
        &stop,
        async |_: u32| {},
        async || {},
    );
    assert_eq!(result.await.unwrap(), ended(Reason::Stopped, false, 0));
    sender.try_send(1).unwrap_err();
    let send = async {
        sleep(ms(100)).await;
        place.send(7);
    };
    let (left, ()) = tokio::join!(rest(&mut commands), send);
    assert_eq!(left, [7]);
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_left_can_be_handled_by_another_call() {
    let (_sender, mut commands) = channel([1, 2, 3]);
    let mut handled = Vec::new();
    let mut handler = async |command| {
        sleep(ms(100)).await;
        handled.push(command);
    };
    let stop = stop_at(ms(50));
    let end = event_loop(SETTINGS, &mut commands, &stop, &mut handler, async || {}).await;
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 2)));
    let stop = never();
    let run = event_loop(SETTINGS, &mut commands, &stop, handler, async || {});
    let end = timeout(LIMIT, run).await.expect("the sender keeps it");
    assert_eq!(end, Ok(ended(Reason::Closed, false, 0)));
    assert_eq!(handled, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_followed_by_one_late_heartbeat_and_then_by_regular_ones() {
    let (_sender, mut commands) = channel([()]);
    let beats = Times::new();
    let handler = async |()| {
        sleep(ms(150)).await;
        advance(ms(380)).await; // to a timer, a clock that leaps is a thread that was blocked
    };
    let (stop, heartbeat) = (stop_at(ms(750)), async || beats.note());
    let end = event_loop(SETTINGS, &mut commands, &stop, handler, heartbeat).await;
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 0)));
    assert_eq!(beats.taken(), [0, 100, 530, 630, 730]);

    let (_sender, mut commands) = channel([()]);
    let beats = Times::new();
    let handler = async |()| {
        sleep(ms(150)).await;
        advance(ms(140)).await; // less than a period late: the next is no sooner for that
    };
    let (stop, heartbeat) = (stop_at(ms(450)), async || beats.note());
    let end = event_loop(SETTINGS, &mut commands, &stop, handler, heartbeat).await;
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 0)));
    assert_eq!(beats.taken(), [0, 100, 290, 390]);

    let beats = Times::new();
    let mut ticks = interval(ms(100));
    for _ in 0..2 {
        ticks.tick().await;
    }
    advance(ms(430)).await;
    timeout(ms(90), tick(&mut ticks, &beats)).await.unwrap_err();
    assert_eq!(beats.taken(), [530, 530, 530, 530, 600], "a new interval");
}

async fn tick(ticks: &mut Interval, beats: &Times) {
    loop {
        ticks.tick().await;
        beats.note();
    }
}

#[tokio::test(start_paused = true)]
async fn periods_of_a_few_milliseconds_come_in_no_burst_either() {
    let (_sender, mut commands) = channel([()]);
    let settings = Settings {
        period: ms(1),
        ..SETTINGS
    };
    let beats = Times::new();
    let handler = async |()| {
        sleep(Duration::from_micros(1_500)).await; // it wakes at 2 ms
        advance(ms(5)).await;
    };
    let (stop, heartbeat) = (stop_at(ms(9)), async || beats.note());
    let end = event_loop(settings, &mut commands, &stop, handler, heartbeat).await;
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 0)));
    assert_eq!(beats.taken()[..5], [0, 1, 2, 7, 8]);

    let beats = Times::new();
    let mut ticks = interval(ms(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    advance(ms(5)).await;
    timeout(Duration::ZERO, tick(&mut ticks, &beats))
        .await
        .unwrap_err();
    assert_eq!(beats.taken(), [5, 5, 5, 5, 5], "whatever it is set to");
}

#[tokio::test(start_paused = true)]
async fn a_slow_heartbeat_delays_no_command_and_is_followed_by_the_next_at_once() {
    let (sender, mut commands) = channel([1, 2, 3]);
    drop(sender);
    let (beats, done) = (Times::new(), Times::new());
    let running = Cell::new(false);
    let handler = async |_| {
        sleep(ms(160)).await;
        done.note();
    };
    let heartbeat = async || {
        assert!(!running.replace(true), "two at once");
        beats.note();
        sleep(ms(130)).await;
        running.set(false);
    };
    let end = event_loop(SETTINGS, &mut commands, &never(), handler, heartbeat).await;
    assert_eq!(end, Ok(ended(Reason::Closed, false, 0)));
    assert_eq!(done.taken(), [160, 320, 480]);
    assert_eq!(beats.taken(), [0, 130, 260, 390]);
    assert!(running.get(), "the last was dropped where it waited");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_never_ends_holds_up_neither_commands_nor_the_stop() {
    let (_sender, mut commands) = channel([1, 2]);
    let done = Times::new();
    let (stop, handler) = (stop_at(ms(350)), async |_| {
        sleep(ms(100)).await;
        done.note();
    });
    let run = event_loop(SETTINGS, &mut commands, &stop, handler, async || {
        pending::<()>().await;
    });
    let end = timeout(LIMIT, run)
        .await
        .expect("it waits for the heartbeat");
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 0)));
    assert_eq!(done.started.elapsed(), ms(350));
    assert_eq!(done.taken(), [100, 200]);
}

#[tokio::test(start_paused = true)]
async fn the_heart_beats_on_beside_a_handler_that_waits_for_ever() {
    let (_sender, mut commands) = channel([()]);
    let beats = Times::new();
    let (stop, heartbeat) = (never(), async || beats.note());
    let handler = async |()| pending().await;
    let run = event_loop(SETTINGS, &mut commands, &stop, handler, heartbeat);
    timeout(ms(99_950), run).await.unwrap_err();
    assert_eq!(beats.taken().len(), 1_000);
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "it is about a handler that blocks"
)]
async fn handlers_that_never_wait_hold_up_the_heartbeat_for_no_more_than_128_commands() {
    let (sender, mut commands) = channel(0..300);
    drop(sender);
    let settings = Settings {
        period: ms(1),
        ..SETTINGS
    };
    let handled = Cell::new(0_usize);
    let at_beats = RefCell::new(Vec::new());
    let handler = async |_| {
        std::thread::sleep(ms(1));
        handled.set(handled.get() + 1);
    };
    let heartbeat = async || at_beats.borrow_mut().push(handled.get());
    let end = event_loop(settings, &mut commands, &never(), handler, heartbeat).await;
    assert_eq!(end, Ok(ended(Reason::Closed, false, 0)));
    let at_beats = at_beats.take();
    let longest = at_beats.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(at_beats.len() >= 3 && longest <= Some(128), "{at_beats:?}");
    assert!(
        longest >= Some(100),
        "they delay it less than is said: {at_beats:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    reason = "it is about a heartbeat that blocks"
)]
async fn a_heartbeat_that_blocks_for_longer_than_its_period_leaves_the_handler_its_turn() {
    let (sender, mut commands) = channel(0..200);
    drop(sender);
    let settings = Settings {
        period: ms(1),
        ..SETTINGS
    };
    let others = tokio::spawn(async {
        let mut ticks = interval(ms(1));
        loop {
            ticks.tick().await; // on the other thread, which so keeps tokio's timers up to date
        }
    });
    let in_a_row = Arc::new(AtomicUsize::new(0));
    let beats = Arc::clone(&in_a_row);
    let heartbeat = async move || {
        assert!(beats.fetch_add(1, Ordering::Relaxed) < 5, "no turn");
        std::thread::sleep(ms(3));
    };
    let handler = async move |_| {
        in_a_row.store(0, Ordering::Relaxed);
        tokio::task::yield_now().await;
    };
    let task =
        async move { event_loop(settings, &mut commands, &never(), handler, heartbeat).await };
    let end = tokio::spawn(task).await.unwrap();
    others.abort();
    assert_eq!(end, Ok(ended(Reason::Closed, false, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_handler_ends_the_loop_and_is_told_with_what_is_left() {
    let (sender, mut commands) = channel([1, 2, 3]);
    let handler = async |command| {
        sleep(ms(10)).await;
        assert_ne!(command, 2, "no two");
    };
    let end = event_loop(SETTINGS, &mut commands, &never(), handler, async || {}).await;
    let Ended {
        reason: Reason::HandlerPanicked(message),
        interrupted: false,
        left: 1,
    } = end.unwrap()
    else {
        panic!("another end")
    };
    assert!(message.contains("no two"), "{message}");
    sender.send(4).await.unwrap_err();
    assert_eq!(rest(&mut commands).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn panics_before_the_first_await_with_any_payload_and_during_the_grace_are_told() {
    let told = async |command: u8, stop: CancellationToken| {
        let (_sender, mut commands) = channel([command]);
        let handler = |command| {
            assert_ne!(command, 0, "not even a future");
            async move {
                match command {
                    1 => panic!("a literal"),
                    2 => std::panic::panic_any(7),
                    _ => sleep(ms(50)).await,
                }
                panic!("during the grace");
            }
        };
        let end = event_loop(SETTINGS, &mut commands, &stop, handler, async || {}).await;
        match end.unwrap().reason {
            Reason::HandlerPanicked(message) => message,
            other => panic!("{other:?}"),
        }
    };
    assert!(told(0, never()).await.contains("not even a future"));
    assert_eq!(told(1, never()).await, "a literal");
    assert_eq!(told(2, never()).await, "no message");
    assert_eq!(told(3, stop_at(ms(20))).await, "during the grace");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_heartbeat_ends_the_loop_and_a_running_handler_is_told_of() {
    for busy in [false, true] {
        let (_sender, mut commands) = channel((0..2).filter(|_| busy));
        let started = Instant::now();
        let heartbeat = || {
            assert!(started.elapsed() < ms(100), "no more");
            async {}
        };
        let (stop, handler) = (never(), async |_| sleep(ms(150)).await);
        let run = event_loop(SETTINGS, &mut commands, &stop, handler, heartbeat);
        let end = timeout(LIMIT, run).await.expect("it goes on").unwrap();
        let reason = Reason::HeartbeatPanicked("no more".to_owned());
        assert_eq!(end, ended(reason, busy, usize::from(busy)));
        assert_eq!(started.elapsed(), ms(100));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_sends_to_its_own_channel_stands_still_until_the_stop_and_keeps_it_open() {
    let (sender, mut commands) = mpsc::channel(1);
    sender.send(3).await.unwrap();
    let own = sender.clone();
    let begun = Cell::new(0);
    let handler = async |command: u32| {
        begun.set(begun.get() + 1);
        for _ in 0..command {
            own.send(command - 1).await.ok();
        }
    };
    drop(sender);
    let stop = stop_at(LIMIT);
    let started = Instant::now();
    let run = event_loop(SETTINGS, &mut commands, &stop, handler, async || {});
    let end = timeout(2 * LIMIT, run)
        .await
        .expect("not even the stop helps");
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 1)));
    assert_eq!((begun.get(), started.elapsed()), (1, LIMIT));

    let (sender, mut commands) = channel([()]);
    let handler = async move |()| drop(sender.clone());
    let stop = never();
    let run = event_loop(SETTINGS, &mut commands, &stop, handler, async || {});
    timeout(LIMIT, run)
        .await
        .expect_err("the only sender is the handler's");
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_is_refused_and_enormous_durations_are_no_panic() {
    let (sender, mut commands) = channel([1]);
    drop(sender);
    let (stop, beats) = (never(), Cell::new(0));
    let period = Duration::ZERO;
    let settings = Settings { period, ..SETTINGS };
    let heartbeat = async || beats.set(beats.get() + 1);
    let end = event_loop(settings, &mut commands, &stop, async |_| {}, heartbeat).await;
    assert_eq!(end, Err(ZeroPeriod));
    assert_eq!((beats.get(), commands.len()), (0, 1));
    assert_eq!(
        ZeroPeriod.to_string(),
        "the heartbeat's period is zero: set it to a millisecond or more"
    );

    let settings = Settings {
        period: Duration::MAX,
        grace: Duration::MAX,
    };
    let (handler, stop) = (async |_| sleep(100 * LIMIT).await, stop_at(LIMIT));
    let end = event_loop(settings, &mut commands, &stop, handler, heartbeat).await;
    assert_eq!(end, Ok(ended(Reason::Stopped, false, 0)));
    assert_eq!(beats.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_every_command_is_handled_left_or_given_back() {
    for round in 0..100 {
        let (sender, mut commands) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let handled = Arc::new(AtomicUsize::new(0));
        let (token, count) = (stop.clone(), Arc::clone(&handled));
        let task = tokio::spawn(async move {
            let handler = async move |_| {
                if count.fetch_add(1, Ordering::Relaxed) == round {
                    token.cancel();
                }
                tokio::task::yield_now().await;
            };
            let end = event_loop(SETTINGS, &mut commands, &stop, handler, async || {}).await;
            (end.unwrap(), rest(&mut commands).await.len())
        });
        let producers: Vec<_> = (0..3)
            .map(|_| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let mut accepted = 0;
                    while sender.send(()).await.is_ok() {
                        accepted += 1;
                    }
                    accepted
                })
            })
            .collect();
        drop(sender);
        let mut accepted = 0;
        for producer in producers {
            accepted += producer.await.unwrap();
        }
        let (end, left) = task.await.unwrap();
        assert_eq!((end.reason, end.interrupted), (Reason::Stopped, false));
        assert_eq!(handled.load(Ordering::Relaxed), round + 1);
        assert_eq!(accepted, round + 1 + left, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_loop_drops_at_most_the_running_handler_and_its_command() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (sender, commands) = channel(0..4);
            drop(sender);
            (commands, Cell::new(0), Cell::new(0))
        },
        async |(commands, begun, done)| {
            let handler = async |_| {
                begun.set(begun.get() + 1);
                sleep(ms(60)).await;
                done.set(done.get() + 1);
            };
            let heartbeat = async || sleep(ms(30)).await;
            event_loop(SETTINGS, commands, &never(), handler, heartbeat).await
        },
        async |(mut commands, begun, done), outcome| {
            let left = rest(&mut commands).await.len();
            assert!(begun.get() - done.get() <= 1, "two at once");
            assert!(done.get() + left >= 3, "more than one is lost");
            assert!(begun.get() + left <= 4, "one is handled twice");
            if let Outcome::Completed(end) = outcome {
                assert_eq!(end, Ok(ended(Reason::Closed, false, 0)));
                assert_eq!(done.get(), 4);
            }
        },
    )
    .await;
    assert!(
        points.unwrap() >= 8,
        "a wait in each handler, and heartbeats"
    );
}
