//! What the pipeline promises, and what bare channels do instead.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::hint::spin_loop;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use structured::pipeline::{Cause, Pipeline, StageFailed};
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome as Round, every_await_point};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

type Error = &'static str;

fn n(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// Where two threads wait for each other, again and again.
#[derive(Default)]
struct Meeting {
    came: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    /// Blocks the thread until another has come. `false` if none does within a second.
    fn another_comes(&self) -> bool {
        let mut came = self.came.lock().unwrap();
        *came += 1;
        let both = came.next_multiple_of(2);
        self.changed.notify_all();
        let alone = |came: &mut usize| *came < both;
        let waited = self
            .changed
            .wait_timeout_while(came, Duration::from_secs(1), alone);
        !waited.unwrap().1.timed_out()
    }
}

/// A pipeline without stages over the numbers below `end`.
fn numbers(capacity: usize, end: usize) -> Pipeline<usize, Error> {
    Pipeline::new("numbers", n(capacity), stream::iter(0..end).map(Ok))
}

/// The same, and how many were taken from the source.
fn counted(capacity: usize, end: usize) -> (Pipeline<usize, Error>, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let source = stream::iter(0..end).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let pipeline = Pipeline::new("numbers", n(capacity), source.map(Ok));
    (pipeline, taken)
}

async fn slowly(item: usize) -> Result<usize, Error> {
    sleep(TAKES).await;
    Ok(item)
}

async fn at_once(item: usize) -> Result<usize, Error> {
    Ok(item)
}

fn failed(stage: &str, cause: Error) -> StageFailed<Error> {
    StageFailed {
        stage: stage.into(),
        cause: Cause::Failed(cause),
    }
}

fn panicked(stage: &str, message: &str) -> StageFailed<Error> {
    StageFailed {
        stage: stage.into(),
        cause: Cause::Panicked(message.to_owned()),
    }
}

async fn rest<T: Send + 'static>(
    pipeline: &mut Pipeline<T, Error>,
) -> (Vec<T>, Result<(), StageFailed<Error>>) {
    let mut items = Vec::new();
    loop {
        match pipeline.next().await {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, Ok(())),
            Err(error) => return (items, Err(error)),
        }
    }
}

// A clean end

#[test]
fn work_that_never_awaits_is_done_on_several_threads_at_once() {
    let meeting = Arc::new(Meeting::default());
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).build().unwrap().block_on(async {
        let (sender, mut items) = mpsc::channel(2);
        let items = stream::poll_fn(move |cx| items.poll_recv(cx)).map(Ok);
        let stage = move |()| {
            let meeting = Arc::clone(&meeting);
            async move { Ok::<_, Error>(meeting.another_comes()) }
        };
        let meetings = Pipeline::new("items", n(2), items);
        let mut meetings = meetings.concurrent_stage("meet", n(2), stage);
        // A few may: tokio promises no other thread where one is blocked.
        let mut missed = 0;
        for round in 0..200 {
            for _ in 0..2 {
                sender.send(()).await.unwrap(); // both workers wait, one for the other
            }
            for _ in 0..2 {
                let met = meetings.next().await.unwrap().unwrap();
                missed += u32::from(!met);
            }
            assert!(missed < 10, "of {} rounds", round + 1);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn every_item_that_entered_leaves_through_stages_of_different_types_in_order() {
    let mut pipeline = numbers(2, 100)
        .stage("text", async |item| Ok(format!("no. {item}")))
        .stage("length", async |text: String| Ok((text.len(), text)));
    let (items, end) = rest(&mut pipeline).await;
    let text = |item| format!("no. {item}");
    let expected: Vec<_> = (0..100)
        .map(|item| (text(item).len(), text(item)))
        .collect();
    assert_eq!((items, end), (expected, Ok(())));
    assert_eq!(pipeline.next().await, Ok(None), "it stays at its end");
}

#[tokio::test(start_paused = true)]
async fn finish_counts_what_came_out() {
    let pipeline = numbers(2, 100).concurrent_stage("work", n(7), slowly);
    assert_eq!(pipeline.finish().await, Ok(100));
    assert_eq!(numbers(1, 0).stage("work", slowly).finish().await, Ok(0));
    assert_eq!(numbers(1, 3).finish().await, Ok(3), "without stages");
}

#[tokio::test(start_paused = true)]
async fn a_stage_may_keep_state() {
    let mut sum = 0;
    let mut pipeline = numbers(1, 5).stage("sum", move |item| {
        sum += item;
        async move { Ok(sum) }
    });
    assert_eq!(rest(&mut pipeline).await, (vec![0, 1, 3, 6, 10], Ok(())));
}

#[tokio::test(start_paused = true)]
async fn ending_the_source_with_a_token_drains_what_has_entered() {
    let (token, taken) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&taken);
    let source = stream::iter(0..).take_until(token.clone().cancelled_owned());
    let source = source.inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut pipeline = Pipeline::new("numbers", n(3), source.map(Ok))
        .stage("first", slowly)
        .concurrent_stage("second", n(2), slowly);
    for _ in 0..5 {
        pipeline.next().await.unwrap().unwrap();
    }
    token.cancel();
    let (items, end) = rest(&mut pipeline).await;
    assert_eq!(
        (5 + items.len(), end),
        (taken.load(Ordering::SeqCst), Ok(()))
    );
    assert_eq!(
        items.len(),
        5,
        "they were in the channels and in the stages"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_every_item_leaves_once() {
    for round in 1..40 {
        let mut pipeline = numbers(round % 4 + 1, 500)
            .concurrent_stage("first", n(round % 3 + 1), async |item| {
                yield_now().await;
                Ok(item)
            })
            .concurrent_stage("second", n(round % 5 + 1), at_once);
        let (mut items, end) = rest(&mut pipeline).await;
        items.sort_unstable();
        assert_eq!((items, end), ((0..500).collect(), Ok(())), "round {round}");
    }
}

// Backpressure

#[tokio::test(start_paused = true)]
async fn the_source_is_exactly_the_limit_ahead_of_a_consumer_that_does_not_read() {
    for (capacity, workers) in [(1, 1), (1, 4), (5, 1), (3, 2), (64, 3)] {
        let (pipeline, taken) = counted(capacity, 1_000);
        assert_eq!(pipeline.limit(), capacity);
        let mut pipeline = pipeline
            .stage("one", slowly)
            .concurrent_stage("several", n(workers), slowly)
            .stage("last", at_once);
        assert_eq!(pipeline.limit(), 4 * capacity + workers + 2);
        sleep(LIMIT).await;
        assert_eq!(taken.load(Ordering::SeqCst), pipeline.limit());
        for read in 1..=300 {
            pipeline.next().await.unwrap().unwrap();
            sleep(LIMIT).await; // all have moved up
            assert_eq!(taken.load(Ordering::SeqCst) - read, pipeline.limit());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_gap_between_source_and_consumer_never_passes_the_limit() {
    let gap = Arc::new(AtomicUsize::new(0));
    let peak = Arc::new(AtomicUsize::new(0));
    let (of_source, at_most) = (Arc::clone(&gap), Arc::clone(&peak));
    let source = stream::iter(0..2_000).inspect(move |_| {
        at_most.fetch_max(
            of_source.fetch_add(1, Ordering::SeqCst) + 1,
            Ordering::SeqCst,
        );
    });
    // Every stage is the slowest now and then.
    let uneven = |prime: u64| {
        move |item: u64| async move {
            sleep(Duration::from_millis(item * prime % 11)).await;
            Ok::<_, Error>(item)
        }
    };
    let mut pipeline = Pipeline::new("numbers", n(2), source.map(Ok))
        .stage("one", uneven(3))
        .concurrent_stage("several", n(3), uneven(5));
    let mut read = 0;
    while let Some(item) = pipeline.next().await.unwrap() {
        gap.fetch_sub(1, Ordering::SeqCst);
        read += 1;
        sleep(Duration::from_millis(item * 7 % 23)).await;
    }
    assert_eq!(read, 2_000);
    assert_eq!((pipeline.limit(), peak.load(Ordering::SeqCst)), (10, 10));
}

#[tokio::test]
async fn of_a_million_items_no_more_than_the_limit_exist_at_once() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static PEAK: AtomicUsize = AtomicUsize::new(0);
    struct Item;
    impl Drop for Item {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let source = stream::iter(0..1_000_000).map(|_| {
        PEAK.fetch_max(ALIVE.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok::<_, Error>(Item)
    });
    let pipeline = Pipeline::new("numbers", n(64), source).stage("pass", async |item| Ok(item));
    let limit = pipeline.limit();
    assert_eq!(pipeline.finish().await, Ok(1_000_000));
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
    let peak = PEAK.load(Ordering::Relaxed);
    assert!((limit / 2..=limit).contains(&peak), "{peak} of {limit}");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_reserved_before_the_source_is_asked() {
    let (pipeline, taken) = counted(2, 10);
    let mut pipeline = pipeline;
    sleep(TAKES).await;
    assert_eq!(taken.load(Ordering::SeqCst), 2, "and no third in the hand");
    pipeline.next().await.unwrap();
    yield_now().await;
    assert_eq!(taken.load(Ordering::SeqCst), 3);
}

// Concurrency

#[tokio::test(start_paused = true)]
async fn a_worker_that_nobody_waits_behind_does_one_item_after_the_other() {
    let done = Arc::new(AtomicUsize::new(0));
    let its_done = Arc::clone(&done);
    let _pipeline = numbers(20, 20).concurrent_stage("work", n(1), move |item| {
        its_done.fetch_add(1, Ordering::SeqCst);
        async move { Ok(item) }
    });
    let at_the_next_turn = tokio::spawn(async move { done.load(Ordering::SeqCst) });
    assert_eq!(at_the_next_turn.await.unwrap(), 20);
}

#[tokio::test(start_paused = true)]
async fn all_stages_work_at_the_same_time() {
    let started = Instant::now();
    let pipeline = numbers(1, 10)
        .stage("first", slowly)
        .stage("second", slowly)
        .stage("third", slowly);
    pipeline.finish().await.unwrap();
    assert_eq!(started.elapsed(), (10 + 2) * TAKES, "not 30");
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_stage_works_on_as_many_items_as_it_has_workers() {
    let started = Instant::now();
    let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let at_most = Arc::clone(&peak);
    let pipeline = numbers(1, 20).concurrent_stage("work", n(4), move |item| {
        let (running, peak) = (Arc::clone(&running), Arc::clone(&at_most));
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(TAKES).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(item)
        }
    });
    assert_eq!(pipeline.finish().await, Ok(20));
    assert_eq!(started.elapsed(), 5 * TAKES);
    assert_eq!(peak.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn harm_items_overtake_each_other_in_a_concurrent_stage() {
    let uneven = async |item: usize| {
        sleep(TAKES * if item == 0 { 5 } else { 2 }).await;
        Ok(item)
    };
    let mut pipeline = numbers(1, 4).concurrent_stage("work", n(2), uneven);
    assert_eq!(rest(&mut pipeline).await, (vec![1, 2, 0, 3], Ok(())));
    let mut pipeline = numbers(1, 4).stage("work", uneven);
    assert_eq!(rest(&mut pipeline).await, (vec![0, 1, 2, 3], Ok(())));
}

// Failure

#[tokio::test(start_paused = true)]
async fn an_error_ends_the_whole_and_is_returned_with_the_name_of_its_stage() {
    let held = Arc::new(());
    let holds = |held: &Arc<()>| {
        let held = Arc::clone(held);
        move |item| {
            let held = Arc::clone(&held);
            async move {
                sleep(TAKES / 2).await;
                drop(held);
                Ok(item)
            }
        }
    };
    let of_source = Arc::clone(&held);
    // Idle after 5 items: nothing but a stop from outside ends it.
    let source = stream::iter(0..5).chain(stream::once(async move {
        pending::<()>().await;
        drop(of_source);
        5
    }));
    let mut pipeline = Pipeline::new("source", n(2), source.map(Ok))
        .concurrent_stage("before", n(3), holds(&held))
        .stage("in the middle", async |item| {
            sleep(TAKES).await;
            if item == 2 { Err("no two") } else { Ok(item) }
        })
        .stage("after", holds(&held));
    assert!(Arc::strong_count(&held) > 1);
    let started = Instant::now();
    let (items, end) = rest(&mut pipeline).await;
    assert_eq!(started.elapsed(), TAKES / 2 + 3 * TAKES);
    assert_eq!(
        (items, &end),
        (vec![0, 1], &Err(failed("in the middle", "no two")))
    );
    let message = end.unwrap_err().to_string();
    assert_eq!(message, "stage in the middle failed: no two");
    assert_eq!(Arc::strong_count(&held), 1, "a stage lives on");
    assert_eq!(pipeline.next().await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_whole_wherever_it_happens() {
    let in_future = async |item: usize| {
        sleep(TAKES).await;
        assert!(item != 1, "no one");
        Ok(item)
    };
    let pipeline = numbers(1, 9).stage("work", in_future).stage("next", slowly);
    assert_eq!(pipeline.finish().await, Err(panicked("work", "no one")));

    let in_closure = |item: usize| {
        assert!(item != 1, "item {item} is out of place");
        at_once(item)
    };
    let pipeline = numbers(1, 9).concurrent_stage("work", n(3), in_closure);
    let expected = panicked("work", "item 1 is out of place");
    assert_eq!(pipeline.finish().await, Err(expected));

    let source = stream::iter(0..9).map(|item| if item < 3 { Ok(item) } else { panic!("torn") });
    let pipeline = Pipeline::new("source", n(1), source).stage("work", slowly);
    let message = pipeline.finish().await.unwrap_err().to_string();
    assert_eq!(message, "stage source panicked: torn");

    let other = async |_| -> Result<(), Error> { std::panic::panic_any(7) };
    let pipeline = numbers(1, 9).stage("work", other);
    assert_eq!(pipeline.finish().await, Err(panicked("work", "no message")));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_source_ends_the_whole() {
    let source = stream::iter([Ok(0), Ok(1), Err("cut off"), Ok(2)]);
    let mut pipeline = Pipeline::new("source", n(8), source);
    assert_eq!(
        rest(&mut pipeline).await,
        (vec![0, 1], Err(failed("source", "cut off")))
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_all_stages_stop_though_nobody_asks() {
    for panics in [false, true] {
        let held = Arc::new(());
        let of_stage = Arc::clone(&held);
        let mut pipeline = numbers(1, 9)
            .stage("fails", move |item| async move {
                slowly(item).await?;
                assert!(!(panics && item == 2), "third");
                if item == 2 { Err("third") } else { Ok(item) }
            })
            .concurrent_stage("hangs", n(3), move |_: usize| {
                let held = Arc::clone(&of_stage);
                async move {
                    pending::<()>().await;
                    drop(held);
                    Ok(())
                }
            });
        yield_now().await;
        sleep(3 * TAKES).await;
        yield_now().await;
        assert_eq!(Arc::strong_count(&held), 1, "a stage works on");
        let failure = if panics {
            panicked("fails", "third")
        } else {
            failed("fails", "third")
        };
        assert_eq!(pipeline.next().await, Err(failure));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_is_added_after_a_failure_is_stopped_as_well() {
    let source = stream::iter([Ok(0), Err("cut off")]);
    let pipeline = Pipeline::new("source", n(1), source).stage("passes", at_once);
    sleep(TAKES).await;
    let mut pipeline = pipeline.stage("hangs", async |_| pending::<Result<(), _>>().await);
    let ended = timeout(LIMIT, rest(&mut pipeline)).await.unwrap();
    assert_eq!(ended, (vec![], Err(failed("source", "cut off"))));
}

#[tokio::test(start_paused = true)]
async fn items_that_had_passed_the_last_stage_come_before_the_error() {
    let mut pipeline = numbers(8, 9).stage("work", async |item| {
        sleep(TAKES).await;
        if item == 3 { Err("no three") } else { Ok(item) }
    });
    sleep(LIMIT).await;
    let expected = (vec![0, 1, 2], Err(failed("work", "no three")));
    assert_eq!(rest(&mut pipeline).await, expected);
}

#[tokio::test(start_paused = true)]
async fn harm_a_failure_drops_items_that_an_earlier_stage_has_acted_on() {
    let acted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&acted);
    let mut pipeline = numbers(4, 100)
        .stage("act", move |item| {
            count.fetch_add(1, Ordering::SeqCst);
            at_once(item)
        })
        .stage("check", async |item| {
            sleep(TAKES).await;
            if item == 2 { Err("no two") } else { Ok(item) }
        });
    let (items, end) = rest(&mut pipeline).await;
    assert_eq!((items, end), (vec![0, 1], Err(failed("check", "no two"))));
    assert_eq!(
        acted.load(Ordering::SeqCst),
        8,
        "2 came out, 1 failed, 5 are lost"
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_failures_the_first_is_returned_and_the_second_is_an_event() {
    let log = Capture::of("structured");
    let _guard = log.start();
    // The second fails as it is stopped: its destructor panics.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("cannot be dropped");
        }
    }
    let pipeline = numbers(4, 9)
        .stage("first", async |item| {
            sleep(TAKES).await;
            if item == 1 { Err("no one") } else { Ok(item) }
        })
        .stage("second", async |_| {
            let _bomb = Bomb;
            pending().await
        });
    let ended: Result<u64, _> = pipeline.stage("third", async |()| Ok(())).finish().await;
    assert_eq!(ended, Err(failed("first", "no one")));
    let expected = "ERROR a further stage failed stage=second cause=panicked: cannot be dropped";
    assert_eq!(log.lines(), [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harm_a_stage_that_never_awaits_holds_up_the_report_of_a_failure() {
    let go_on = Arc::new(AtomicBool::new(false));
    let (spins, began) = (Arc::clone(&go_on), Arc::new(AtomicBool::new(false)));
    let begins = Arc::clone(&began);
    let mut pipeline = numbers(1, 2)
        .stage("fails", move |item| {
            let began = Arc::clone(&began);
            async move {
                while item == 1 && !began.load(Ordering::SeqCst) {
                    yield_now().await;
                }
                if item == 1 { Err("no one") } else { Ok(item) }
            }
        })
        .stage("spins", move |item| {
            begins.store(true, Ordering::SeqCst);
            while !spins.load(Ordering::SeqCst) {
                spin_loop();
            }
            at_once(item)
        });
    let wait = Duration::from_millis(50);
    let early = timeout(wait, pipeline.next()).await;
    go_on.store(true, Ordering::SeqCst); // before any assertion: a failed test has to end as well
    early.expect_err("it waits for the one that spins");
    let (_, end) = timeout(LIMIT, rest(&mut pipeline)).await.unwrap();
    assert_eq!(end, Err(failed("fails", "no one")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stages_before_the_one_that_failed_are_awaited_as_well() {
    let go_on = Arc::new(AtomicBool::new(false));
    let (spins, began) = (Arc::clone(&go_on), Arc::new(AtomicBool::new(false)));
    let begins = Arc::clone(&began);
    let mut pipeline = numbers(1, 2)
        .stage("spins", move |item| {
            while item == 1 && !spins.load(Ordering::SeqCst) {
                begins.store(true, Ordering::SeqCst);
                spin_loop();
            }
            at_once(item)
        })
        .stage("fails", move |_: usize| {
            let began = Arc::clone(&began);
            async move {
                while !began.load(Ordering::SeqCst) {
                    yield_now().await;
                }
                Err::<(), _>("no luck")
            }
        });
    let wait = Duration::from_millis(50);
    let early = timeout(wait, pipeline.next()).await;
    go_on.store(true, Ordering::SeqCst); // before any assertion: a failed test has to end as well
    early.expect_err("it waits for the one that spins");
    let ended = timeout(LIMIT, pipeline.next()).await.unwrap();
    assert_eq!(ended, Err(failed("fails", "no luck")));
}

#[tokio::test(start_paused = true)]
async fn harm_a_stage_that_hangs_stops_all_and_next_with_them() {
    let mut pipeline =
        numbers(1, 9).stage(
            "hangs",
            async |item| {
                if item == 1 { pending().await } else { Ok(item) }
            },
        );
    assert_eq!(pipeline.next().await, Ok(Some(0)));
    timeout(LIMIT, pipeline.next())
        .await
        .expect_err("nothing ends it");
}

#[tokio::test(start_paused = true)]
async fn harm_bare_channels_take_a_panic_for_the_end() {
    let (sender, mut numbers) = mpsc::channel(1);
    let (output, mut items) = mpsc::channel(1);
    tokio::spawn(async move {
        for item in 0..100 {
            sender.send(item).await.unwrap_or_default();
        }
    });
    tokio::spawn(async move {
        while let Some(item) = numbers.recv().await {
            assert!(item != 3, "no three");
            output.send(item).await.unwrap();
        }
    });
    let mut all = Vec::new();
    while let Some(item) = items.recv().await {
        all.push(item);
    }
    assert_eq!(all, [0, 1, 2], "3 of 100, and all seems well");
}

// Stopping

#[tokio::test(start_paused = true)]
async fn dropping_the_pipeline_stops_all_stages() {
    let held = Arc::new(());
    let (a, b, c) = (Arc::clone(&held), Arc::clone(&held), Arc::clone(&held));
    let source = stream::iter(0..).inspect(move |_| drop(Arc::clone(&a)));
    let pipeline = Pipeline::new("numbers", n(2), source.map(Ok::<_, Error>))
        .stage("one", move |item| {
            let held = Arc::clone(&b);
            async move {
                sleep(TAKES).await;
                drop(held);
                Ok(item)
            }
        })
        .concurrent_stage("several", n(2), move |_| {
            let held = Arc::clone(&c);
            async move {
                pending::<()>().await;
                drop(held);
                Ok(())
            }
        });
    sleep(5 * TAKES / 2).await;
    assert_eq!(Arc::strong_count(&held), 1 + 3 + 3);
    drop(pipeline);
    yield_now().await;
    assert_eq!(Arc::strong_count(&held), 1, "a stage lives on");
}

#[test]
fn a_runtime_that_shuts_down_is_not_taken_for_the_end() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let mut pipeline = runtime.block_on(async { numbers(1, 9).stage("work", slowly) });
    drop(runtime);
    let runtime = Builder::new_current_thread().build().unwrap();
    let (items, end) = runtime.block_on(rest(&mut pipeline));
    assert_eq!((items, end.unwrap_err().cause), (vec![], Cause::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn an_enormous_capacity_is_no_panic() {
    let pipeline = numbers(usize::MAX, 9).stage("work", at_once);
    assert!(pipeline.limit() > 9);
    assert_eq!(pipeline.finish().await, Ok(9));
}

#[test]
fn an_enormous_number_of_workers_overflows_no_sum() {
    // They are not to be spawned: outside of a runtime, the first one panics.
    let runtime = Builder::new_current_thread().build().unwrap();
    let pipeline = runtime.block_on(async { numbers(usize::MAX, 9) });
    let stage = AssertUnwindSafe(|| pipeline.concurrent_stage("work", NonZeroUsize::MAX, at_once));
    let panic = catch_unwind(stage).expect_err("it has a runtime");
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let message = text
        .or_else(|| panic.downcast_ref().cloned())
        .unwrap_or_default();
    assert!(message.contains("no reactor running"), "{message}");
}

// Cancel safety

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_no_item_and_no_error() {
    let points = every_await_point(
        LIMIT,
        async || {
            let pipeline = numbers(1, 9).stage("work", async |item| {
                slowly(item).await?;
                if item == 4 { Err("no four") } else { Ok(item) }
            });
            (pipeline, Vec::new(), Ok(()))
        },
        async |(pipeline, items, end)| loop {
            match pipeline.next().await {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return,
                Err(error) => {
                    *end = Err(error);
                    return;
                }
            }
        },
        async |(mut pipeline, mut items, end), round| {
            let (more, later) = rest(&mut pipeline).await;
            items.extend(more);
            assert_eq!(items, [0, 1, 2, 3], "an item is lost");
            let (told, untold) = match round {
                Round::Completed(()) => (end, later),
                Round::Dropped(_) => (later, end),
            };
            assert_eq!(told, Err(failed("work", "no four")));
            assert_eq!(untold, Ok(()));
        },
    )
    .await;
    assert!(points.unwrap() >= 6);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_finish_stops_all_stages() {
    let points = every_await_point(
        LIMIT,
        async || Arc::new(()),
        async |held| {
            let held = Arc::clone(held);
            let pipeline = numbers(1, 5).stage("work", move |item| {
                let held = Arc::clone(&held);
                async move {
                    slowly(item).await?;
                    drop(held);
                    Ok(item)
                }
            });
            assert_eq!(pipeline.finish().await, Ok(5));
        },
        async |held, _| {
            yield_now().await;
            assert_eq!(Arc::strong_count(&held), 1, "a stage lives on");
        },
    )
    .await;
    assert!(points.unwrap() >= 6);
}
