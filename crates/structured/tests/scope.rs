//! What a scope promises, and what tasks without one do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::fmt::Debug;
use std::future::pending;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use futures_util::poll;
use structured::scope::{Ended, Outcome, Panicked, Scope, StopLimits, Stopping, scope};
use testing::every_await_point::{Outcome as Round, every_await_point};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::Field;
use tracing::{Event, Metadata, Subscriber, span};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const STOP: StopLimits = StopLimits {
    finish: Duration::from_secs(10),
    abort: Duration::from_secs(1),
};
/// For tests on real time.
const SHORT: StopLimits = StopLimits {
    finish: Duration::from_millis(20),
    abort: Duration::from_millis(50),
};

type Error = &'static str;
type Report = Vec<(Arc<str>, Outcome<Error>)>;

async fn takes(time: Duration) -> Result<(), Error> {
    sleep(time).await;
    Ok(())
}

/// Ends when asked, after `time`.
async fn polite(token: CancellationToken, time: Duration) -> Result<(), Error> {
    token.cancelled().await;
    takes(time).await
}

/// Holds `held` for ever.
async fn holds(held: Arc<()>) -> Result<(), Error> {
    pending::<()>().await;
    drop(held);
    Ok(())
}

fn report<const N: usize>(children: [(&str, Outcome<Error>); N]) -> Report {
    let named = |(name, outcome): (&str, _)| (Arc::from(name), outcome);
    children.into_iter().map(named).collect()
}

/// A parent that never stops.
fn root() -> &'static CancellationToken {
    static ROOT: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);
    &ROOT
}

// What becomes of the children

#[tokio::test(start_paused = true)]
async fn the_report_says_of_each_child_what_became_of_it() {
    let started = Instant::now();
    let ended = scope(root(), STOP, async |scope| {
        scope.spawn("finished before", |_| takes(SECOND)).unwrap();
        scope
            .spawn("finished when asked", |token| polite(token, SECOND))
            .unwrap();
        scope.spawn("hangs", |_| takes(LIMIT)).unwrap();
        let fails = async |_| Err::<(), _>("no room");
        scope.spawn("failed", fails).unwrap();
        let panics = async |token: CancellationToken| {
            token.cancelled().await;
            panic!("stopped: {}", token.is_cancelled())
        };
        scope.spawn::<(), _>("panicked", panics).unwrap();
        sleep(2 * SECOND).await;
        7
    })
    .await;
    assert_eq!(started.elapsed(), 2 * SECOND + STOP.finish);
    let children = report([
        ("finished before", Outcome::Finished),
        ("finished when asked", Outcome::Finished),
        ("hangs", Outcome::Aborted),
        ("failed", Outcome::Failed("no room")),
        ("panicked", Outcome::Panicked("stopped: true".to_owned())),
    ]);
    assert_eq!(
        ended,
        Ended {
            body: Ok(7),
            children
        }
    );
}

#[tokio::test(start_paused = true)]
async fn the_scope_waits_for_the_last_child_and_no_longer() {
    let started = Instant::now();
    let ended = scope(root(), STOP, async |scope| {
        for seconds in [3, 7, 5] {
            scope
                .spawn("child", move |token| polite(token, seconds * SECOND))
                .unwrap();
        }
    })
    .await;
    assert_eq!(started.elapsed(), 7 * SECOND);
    let finished = |_| ("child", Outcome::Finished);
    assert_eq!(ended.children, report([1, 2, 3].map(finished)));
    let nothing: Ended<_, Error> = scope(root(), STOP, async |_| "done").await;
    assert_eq!(
        nothing,
        Ended {
            body: Ok("done"),
            children: vec![]
        }
    );
    assert_eq!(started.elapsed(), 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_an_aborted_child_owned_is_dropped_when_the_scope_returns() {
    let held = Arc::new(());
    let ended = scope(root(), STOP, async |scope| {
        for _ in 0..300 {
            let held = Arc::clone(&held);
            scope.spawn("holds", |_| holds(held)).unwrap();
        }
    })
    .await;
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(
        ended
            .children
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Aborted)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_no_child_is_left_and_none_is_miscounted() {
    for round in 0..300 {
        let held = Arc::new(());
        let ended = scope(root(), STOP, async |scope| {
            for child in 0..8 {
                let held = Arc::clone(&held);
                let work = move |token: CancellationToken| async move {
                    token.cancelled().await;
                    drop(held);
                    if child % 2 == 0 { Ok(()) } else { Err("odd") }
                };
                scope.spawn("child", work).unwrap();
            }
            for _ in 0..round % 8 {
                yield_now().await;
            }
        })
        .await;
        let expected = [0, 1, 2, 3, 4, 5, 6, 7].map(|child| match child % 2 {
            0 => ("child", Outcome::Finished),
            _ => ("child", Outcome::Failed("odd")),
        });
        assert_eq!(ended.children, report(expected), "round {round}");
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_aborted_childs_destructor_is_in_the_report() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("cannot be dropped");
        }
    }
    let ended = scope(root(), STOP, async |scope| {
        let work = async |_| {
            let _bomb = Bomb;
            pending::<Result<(), Error>>().await
        };
        scope.spawn("bomb", work).unwrap();
        scope.spawn("after", |_| takes(LIMIT)).unwrap();
        yield_now().await;
    })
    .await;
    let panicked = Outcome::Panicked("cannot be dropped".to_owned());
    assert_eq!(
        ended.children,
        report([("bomb", panicked), ("after", Outcome::Aborted)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_with_any_payload_and_in_the_closure_itself_is_in_the_report() {
    let ended = scope(root(), STOP, async |scope| {
        let any = async |_| -> Result<(), Error> { std::panic::panic_any(7) };
        scope.spawn("any", any).unwrap();
        let closure = |_| {
            if true {
                panic!("not even begun")
            } else {
                takes(SECOND)
            }
        };
        scope.spawn("closure", closure).unwrap();
        scope.idle().await;
    })
    .await;
    let expected = report([
        ("any", Outcome::Panicked("no message".to_owned())),
        ("closure", Outcome::Panicked("not even begun".to_owned())),
    ]);
    assert_eq!(ended.children, expected);
}

// However the body ends

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_body_stops_the_children_and_is_returned() {
    let held = Arc::new(());
    let started = Instant::now();
    let ended: Ended<(), Error> = scope(root(), STOP, async |scope| {
        let (of_child, _of_body) = (Arc::clone(&held), Arc::clone(&held));
        let work = async move |token| {
            polite(token, SECOND).await?;
            drop(of_child);
            Ok(())
        };
        scope.spawn("polite", work).unwrap();
        yield_now().await;
        panic!("half way")
    })
    .await;
    let panicked = ended.body.unwrap_err();
    assert_eq!(
        panicked.to_string(),
        "the body of the scope panicked: half way"
    );
    assert_eq!(ended.children, report([("polite", Outcome::Finished)]));
    assert_eq!((Arc::strong_count(&held), started.elapsed()), (1, SECOND));

    let at_once = |_: Scope<Error>| {
        if true {
            panic!("at {}", "once")
        } else {
            async {}
        }
    };
    let message = "at once".to_owned();
    assert_eq!(
        scope(root(), STOP, at_once).await.body,
        Err(Panicked { message })
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_early_leaves_no_child_behind() {
    let held = Arc::new(());
    let ended = scope(root(), STOP, async |scope| {
        let kept = Arc::clone(&held);
        let other = scope.spawn("other", |_| holds(kept)).unwrap();
        let fails = async |_| Err::<u32, _>("no answer");
        let value = scope.spawn("fails", fails).unwrap();
        let value = value.await.map_err(|_| "a child failed")?;
        other.await.map_err(|_| "unreachable")?;
        Ok::<_, Error>(value)
    })
    .await;
    assert_eq!(ended.body, Ok(Err("a child failed")));
    let fails = ("fails", Outcome::Failed("no answer"));
    assert_eq!(ended.children, report([("other", Outcome::Aborted), fails]));
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(start_paused = true)]
async fn the_body_may_borrow_and_gets_the_values_of_its_children() {
    let mut words = vec!["two".to_owned()];
    let ended: Ended<_, Error> = scope(root(), STOP, async |scope| {
        let length = scope.spawn("length", async |_| Ok("three".len())).unwrap();
        let blocking = scope
            .spawn_blocking("blocking", |_| Ok("four".to_owned()))
            .unwrap();
        words.push(blocking.await.unwrap());
        length.await.unwrap()
    })
    .await;
    assert_eq!(ended.body, Ok(5));
    assert_eq!(words, ["two", "four"]);
}

#[tokio::test(start_paused = true)]
async fn the_future_of_a_scope_can_be_spawned() {
    let task = tokio::spawn(async {
        let ended = scope(root(), STOP, async |scope: Scope<Error>| {
            scope.spawn("child", async |_| Ok(7)).unwrap().await
        });
        ended.await.body
    });
    assert_eq!(task.await.unwrap(), Ok(Ok(7)));
}

// Tokens

#[tokio::test(start_paused = true)]
async fn the_parents_token_asks_children_and_body_and_no_child_starts_after_it() {
    let parent = CancellationToken::new();
    let (canceller, started) = (parent.clone(), Instant::now());
    tokio::spawn(async move {
        sleep(3 * SECOND).await;
        canceller.cancel();
    });
    let ended = scope(&parent, STOP, async |scope| {
        scope
            .spawn("polite", |token| polite(token, SECOND))
            .unwrap();
        scope.token().cancelled().await;
        scope.spawn("late", |_| takes(SECOND)).map(drop)
    })
    .await;
    assert_eq!(
        (ended.body, started.elapsed()),
        (Ok(Err(Stopping)), 4 * SECOND)
    );
    assert_eq!(ended.children, report([("polite", Outcome::Finished)]));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_cancels_its_token_and_a_scope_that_ends_stop_nobody_else() {
    let parent = CancellationToken::new();
    let ended = scope(&parent, STOP, async |scope| {
        let selfish = async |token: CancellationToken| {
            token.cancel();
            Ok(())
        };
        scope.spawn("selfish", selfish).unwrap();
        scope
            .spawn("other", async |token: CancellationToken| {
                let cut_off = token.run_until_cancelled(sleep(SECOND)).await.is_none();
                if cut_off {
                    Err("was asked to stop")
                } else {
                    Ok(())
                }
            })
            .unwrap();
        scope.idle().await;
    })
    .await;
    let finished = Outcome::Finished;
    assert_eq!(
        ended.children,
        report([("selfish", finished.clone()), ("other", finished)])
    );
    assert!(!parent.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn the_outer_stop_reaches_the_children_of_an_inner_scope_at_once() {
    let started = Instant::now();
    let outer = scope(root(), STOP, async |outer| {
        let inner = async |token: CancellationToken| {
            let ended = scope(&token, STOP, async |inner| {
                inner
                    .spawn("grandchild", |token| polite(token, SECOND))
                    .unwrap();
                inner.token().cancelled().await;
            })
            .await;
            assert_eq!(ended.children, report([("grandchild", Outcome::Finished)]));
            Ok(())
        };
        outer.spawn("inner", inner).unwrap();
        sleep(2 * SECOND).await;
    })
    .await;
    assert_eq!(outer.children, report([("inner", Outcome::Finished)]));
    assert_eq!(started.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_child_may_start_others_which_the_scope_owns_as_well() {
    let started = Instant::now();
    let ended = scope(root(), STOP, async |scope| {
        let starter = scope.clone();
        let work = async move |token: CancellationToken| {
            starter.spawn("younger", |_| takes(5 * SECOND)).unwrap();
            token.cancelled().await;
            let late = starter.spawn("too late", |_| takes(SECOND));
            late.map(drop).map_err(|_| "refused")
        };
        scope.spawn("elder", work).unwrap();
        yield_now().await;
    })
    .await;
    let elder = ("elder", Outcome::Failed("refused"));
    assert_eq!(
        ended.children,
        report([elder, ("younger", Outcome::Finished)])
    );
    assert_eq!(started.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_scope_kept_past_its_end_starts_nothing() {
    let mut kept = None;
    let ended: Ended<(), Error> = scope(root(), STOP, async |scope| kept = Some(scope)).await;
    assert_eq!(ended.children, []);
    let kept = kept.unwrap();
    assert_eq!(
        kept.spawn("late", |_| takes(SECOND)).map(drop),
        Err(Stopping)
    );
    assert_eq!(
        kept.spawn_blocking("late", |_| Ok(())).map(drop),
        Err(Stopping)
    );
}

#[tokio::test(start_paused = true)]
async fn idle_waits_for_all_children_and_they_are_not_asked_to_stop() {
    let started = Instant::now();
    let ended = scope(root(), STOP, async |scope| {
        scope.idle().await;
        assert_eq!(started.elapsed(), Duration::ZERO, "there is none");
        let starter = scope.clone();
        let work = async move |token: CancellationToken| {
            sleep(20 * SECOND).await;
            starter.spawn("younger", |_| takes(20 * SECOND)).unwrap();
            if token.is_cancelled() {
                Err("asked")
            } else {
                Ok(())
            }
        };
        scope.spawn("elder", work).unwrap();
        scope.idle().await;
    })
    .await;
    let finished = Outcome::Finished;
    assert_eq!(
        ended.children,
        report([("elder", finished.clone()), ("younger", finished)])
    );
    assert_eq!(
        started.elapsed(),
        40 * SECOND,
        "past the limit for those that are asked"
    );
}

// What cannot be stopped

/// Ends when `end` is set; real time passes meanwhile.
fn spin(end: &AtomicBool) {
    while !end.load(Ordering::SeqCst) {
        spin_loop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_never_awaits_and_blocking_tasks_are_told_as_still_running() {
    let end = Arc::new(AtomicBool::new(false));
    let (of_spin, of_blocking) = (Arc::clone(&end), Arc::clone(&end));
    let ended = scope(root(), SHORT, async |scope| {
        let begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&begun);
        let spins = async move |_| {
            begins.store(true, Ordering::SeqCst);
            spin(&of_spin);
            Ok(())
        };
        scope.spawn("never awaits", spins).unwrap();
        let blocks = move |_| {
            spin(&of_blocking);
            Ok(())
        };
        scope.spawn_blocking("blocks", blocks).unwrap();
        let listens = |token: CancellationToken| {
            while !token.is_cancelled() {
                spin_loop();
            }
            Ok(())
        };
        scope.spawn_blocking("listens", listens).unwrap();
        for _ in 0..300 {
            scope
                .spawn("fails", async |_| Err::<(), _>("at once"))
                .unwrap();
        }
        while !begun.load(Ordering::SeqCst) {
            yield_now().await;
        }
    });
    let ended = timeout(LIMIT, ended)
        .await
        .expect("it waits past its limits");
    assert!(!end.swap(true, Ordering::SeqCst), "they run on meanwhile");
    let (first, others) = ended.children.split_at(3);
    let still = Outcome::StillRunning;
    let expected = report([
        ("never awaits", still.clone()),
        ("blocks", still),
        ("listens", Outcome::Finished),
    ]);
    assert_eq!(first, expected);
    let failed = Outcome::Failed("at once");
    assert!(
        others.iter().all(|(_, outcome)| *outcome == failed),
        "300 are told all the same"
    );
    assert_eq!(others.len(), 300);
}

#[test]
fn a_blocking_child_that_has_not_begun_never_does() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let (end, ends) = mpsc::sync_channel::<()>(1);
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let ended = runtime.block_on(scope(root(), SHORT, async |scope| {
        let first = move |_| ends.recv().map_err(|_| "gone");
        scope.spawn_blocking("first", first).unwrap();
        let second = move |_| {
            begins.store(true, Ordering::SeqCst);
            Ok(())
        };
        scope.spawn_blocking("second", second).unwrap();
    }));
    let still = Outcome::StillRunning;
    let expected = report([("first", still.clone()), ("second", still)]);
    assert_eq!(ended.children, expected, "there is no thread to tell");
    end.send(()).unwrap();
    drop(runtime); // waits for the first
    assert!(!begun.load(Ordering::SeqCst));
}

#[test]
fn harm_on_the_only_thread_a_child_that_never_awaits_makes_the_scope_late() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let took = runtime.block_on(async {
        let started = Instant::now();
        let ended = scope(root(), SHORT, async |scope| {
            let hogs = async |_| {
                let began = Instant::now();
                while began.elapsed() < 5 * (SHORT.finish + SHORT.abort) {
                    spin_loop();
                }
                Ok::<_, Error>(())
            };
            scope.spawn("hogs", hogs).unwrap();
        })
        .await;
        assert_eq!(ended.children, report([("hogs", Outcome::Finished)]));
        started.elapsed()
    });
    assert!(took >= 5 * (SHORT.finish + SHORT.abort), "{took:?}");
}

// Dropping

#[tokio::test(start_paused = true)]
async fn harm_a_dropped_scope_aborts_its_children_and_cannot_wait_for_them() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let held = Arc::new(());
    let kept = Arc::clone(&held);
    let ended = timeout(
        SECOND,
        scope(root(), STOP, async |scope| {
            scope.spawn("holds", |_| holds(kept)).unwrap();
            scope.spawn("finished", async |_| Ok(())).unwrap();
            scope
                .spawn("failed", async |_| Err::<(), _>("no room"))
                .unwrap();
            scope
                .spawn("polite", |token| polite(token, SECOND))
                .unwrap();
            pending::<()>().await;
        }),
    );
    ended.await.unwrap_err();
    assert_eq!(Arc::strong_count(&held), 2, "it is still there");
    yield_now().await;
    assert_eq!(Arc::strong_count(&held), 1);
    let text = "a scope was dropped before its children ended";
    let expected = [
        format!("{text} holds StillRunning\n"),
        format!("{text} failed Failed(\"no room\")\n"),
        format!("{text} polite StillRunning\n"),
    ];
    assert_eq!(log.read(), expected.concat());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_scope_asks_its_blocking_children_and_starts_no_others() {
    let (begins, begun) = oneshot::channel();
    let (told, tells) = oneshot::channel();
    let mut kept = None;
    let mut dropped = Box::pin(scope(root(), STOP, async |scope: Scope<Error>| {
        let listens = move |token: CancellationToken| {
            begins.send(()).unwrap();
            while !token.is_cancelled() {
                spin_loop();
            }
            told.send(()).map_err(|()| "nobody listens")
        };
        scope.spawn_blocking("listens", listens).unwrap();
        kept = Some(scope);
        pending::<()>().await;
    }));
    assert!(poll!(dropped.as_mut()).is_pending());
    begun.await.unwrap();
    drop(dropped);
    let late = kept.unwrap().spawn("late", |_| takes(SECOND));
    assert_eq!(late.map(drop), Err(Stopping));
    assert_eq!(tells.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn harm_an_inner_scope_that_is_still_waiting_is_aborted_with_its_child() {
    let inner_limits = |finish| StopLimits { finish, ..STOP };
    for (finish, waited) in [(2 * STOP.finish, false), (STOP.finish / 2, true)] {
        let held = Arc::new(());
        let of_grandchild = Arc::clone(&held);
        let outer = scope(root(), STOP, async |outer| {
            let inner = async move |token: CancellationToken| {
                let ended: Ended<(), Error> = scope(&token, inner_limits(finish), async |inner| {
                    inner.spawn("grandchild", |_| holds(of_grandchild)).unwrap();
                })
                .await;
                assert_eq!(ended.children, report([("grandchild", Outcome::Aborted)]));
                Ok(())
            };
            outer.spawn("inner", inner).unwrap();
            yield_now().await; // it begins
        })
        .await;
        let outcome = if waited {
            Outcome::Finished
        } else {
            Outcome::Aborted
        };
        assert_eq!(outer.children, report([("inner", outcome)]));
        yield_now().await;
        assert_eq!(
            Arc::strong_count(&held),
            1,
            "it is gone a moment later all the same"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_dropped_at_any_await_leaves_no_child() {
    let points = every_await_point(
        LIMIT,
        async || Arc::new(()),
        async |held| {
            let ended = scope(root(), STOP, async |scope| {
                for _ in 0..3 {
                    let (for_ever, polite_one) = (Arc::clone(held), Arc::clone(held));
                    scope.spawn("hangs", |_| holds(for_ever)).unwrap();
                    let work = async move |token| {
                        polite(token, SECOND).await?;
                        drop(polite_one);
                        Ok(())
                    };
                    scope.spawn("polite", work).unwrap();
                }
                sleep(SECOND).await;
            });
            ended.await.children.len()
        },
        async |held, round| {
            if let Round::Completed(children) = round {
                assert_eq!((children, Arc::strong_count(&held)), (6, 1));
            }
            yield_now().await;
            assert_eq!(Arc::strong_count(&held), 1, "a child lives on");
        },
    )
    .await;
    assert!(points.unwrap() >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_idle_has_changed_nothing() {
    let points = every_await_point(
        LIMIT,
        async || (),
        async |()| {
            let ended = scope(root(), STOP, async |scope| {
                scope.spawn("child", |_| takes(SECOND)).unwrap();
                let idle = timeout(SECOND / 2, scope.idle()).await;
                assert!(idle.is_err());
                scope.idle().await;
            });
            ended.await
        },
        async |(), round| {
            if let Round::Completed(ended) = round {
                assert_eq!(ended.body, Ok(()));
                assert_eq!(ended.children, report([("child", Outcome::Finished)]));
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 2);
}

#[test]
fn a_runtime_that_shuts_down_is_told_as_an_abort() {
    let first = Builder::new_current_thread().enable_time().build().unwrap();
    let second = Builder::new_current_thread().enable_time().build().unwrap();
    let ended = scope(root(), SHORT, async |scope: Scope<Error>| {
        {
            let _of_first = first.enter();
            scope.spawn("child", |_| takes(LIMIT)).unwrap();
        }
        first.shutdown_background();
    });
    let ended = second.block_on(ended);
    assert_eq!(ended.children, report([("child", Outcome::Aborted)]));
}

// Without a scope

#[tokio::test(start_paused = true)]
async fn harm_what_a_child_spawns_by_itself_outlives_the_scope() {
    let held = Arc::new(());
    let kept = Arc::clone(&held);
    let ended = scope(root(), STOP, async |scope| {
        scope
            .spawn("child", async move |_| {
                tokio::spawn(holds(kept));
                Ok::<_, Error>(())
            })
            .unwrap();
    })
    .await;
    assert_eq!(ended.children, report([("child", Outcome::Finished)]));
    sleep(LIMIT).await;
    assert_eq!(Arc::strong_count(&held), 2);
}

#[tokio::test(start_paused = true)]
async fn harm_a_task_tracker_aborts_nothing_when_dropped_and_tells_no_panic() {
    let held = Arc::new(());
    let tracker = TaskTracker::new();
    tracker.spawn(holds(Arc::clone(&held)));
    drop(tracker);
    sleep(LIMIT).await;
    assert_eq!(Arc::strong_count(&held), 2);

    let tracker = TaskTracker::new();
    tracker.spawn(async { panic!("unseen") });
    tracker.close();
    let () = tracker.wait().await;
}

#[tokio::test(start_paused = true)]
async fn harm_a_child_that_waits_for_all_waits_for_itself() {
    let ended = scope(root(), STOP, async |scope| {
        let of_child = scope.clone();
        let work = async move |_| {
            of_child.idle().await;
            Ok::<_, Error>(())
        };
        scope.spawn("child", work).unwrap();
        sleep(LIMIT).await;
    })
    .await;
    assert_eq!(ended.children, report([("child", Outcome::Aborted)]));
}

#[tokio::test(start_paused = true)]
async fn without_time_to_finish_children_are_aborted_at_once() {
    let limits = StopLimits {
        finish: Duration::ZERO,
        ..STOP
    };
    let started = Instant::now();
    let ended = scope(root(), limits, async |scope| {
        scope.spawn("child", |token| polite(token, SECOND)).unwrap();
        yield_now().await;
    })
    .await;
    assert_eq!(ended.children, report([("child", Outcome::Aborted)]));
    assert!(
        started.elapsed() <= Duration::from_millis(1),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_never_polled_does_nothing() {
    let body = async |scope: Scope<Error>| scope.spawn("child", |_| takes(SECOND)).map(drop);
    drop(scope(root(), STOP, body));
    let mut polled = Box::pin(scope(root(), STOP, body));
    assert!(poll!(polled.as_mut()).is_pending());
    advance(SECOND).await;
    assert_eq!(
        polled.await.children,
        report([("child", Outcome::Finished)])
    );
}

/// Collects events as text.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn read(&self) -> String {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("structured")
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = Vec::new();
        event.record(&mut |_: &Field, value: &dyn Debug| line.push(format!("{value:?}")));
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&(line.join(" ") + "\n"));
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
