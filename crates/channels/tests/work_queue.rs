//! What the work queue promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use channels::work_queue::{Closed, Limits, Outcomes, Queue, TryPushError, work_queue};
use futures_util::FutureExt;
use testing::every_await_point::{Outcome as Round, every_await_point};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

fn limits(workers: usize, capacity: usize) -> Limits {
    let at_least_one = |number: usize| NonZeroUsize::MIN.saturating_add(number - 1);
    Limits {
        workers: at_least_one(workers),
        capacity: at_least_one(capacity),
    }
}

/// A queue whose jobs take 100 ms each and come back as they are.
fn slow_queue(workers: usize, capacity: usize) -> (Queue<u32>, Outcomes<u32>) {
    work_queue(limits(workers, capacity), async |job| {
        sleep(TAKES).await;
        job
    })
}

/// Reads to the end; the results by job number.
async fn drain<R>(outcomes: &mut Outcomes<R>) -> Vec<(u64, Result<R, String>)> {
    let mut all = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        all.push((
            outcome.job,
            outcome.result.map_err(|panicked| panicked.to_string()),
        ));
    }
    all.sort_by_key(|(job, _)| *job);
    all
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

fn two_threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn handlers_that_never_await_run_on_several_threads_at_once() {
    let meeting = Arc::new(Meeting::default());
    two_threads().block_on(async {
        let (queue, mut outcomes) = work_queue(limits(2, 2), move |()| {
            let meeting = Arc::clone(&meeting);
            async move { meeting.another_comes() }
        });
        // A few may: tokio promises no other thread where one is blocked.
        let mut missed = 0;
        for round in 0..200 {
            for _ in 0..2 {
                queue.push(()).await.unwrap(); // both workers wait, one for the other
            }
            for _ in 0..2 {
                let outcome = outcomes.next().await.unwrap();
                missed += u32::from(!outcome.result.unwrap());
            }
            assert!(missed < 10, "of {} rounds", round + 1);
        }
    });
}

#[tokio::test]
async fn a_worker_that_nobody_waits_behind_does_one_job_after_the_other() {
    let done = Arc::new(AtomicUsize::new(0));
    let its_done = Arc::clone(&done);
    let (queue, _outcomes) = work_queue(limits(1, 20), move |()| {
        its_done.fetch_add(1, Ordering::SeqCst);
        async {}
    });
    for _ in 0..20 {
        queue.try_push(()).unwrap();
    }
    let at_the_next_turn = tokio::spawn(async move { done.load(Ordering::SeqCst) });
    assert_eq!(at_the_next_turn.await.unwrap(), 20);
}

/// Two workers that share a receiver, each letting go of the lock before the work, as one reads it.
#[test]
fn harm_workers_that_only_let_go_of_the_lock_do_not_always_run_at_once() {
    let meeting = Arc::new(Meeting::default());
    let has_missed = two_threads().block_on(async {
        let (sender, jobs) = mpsc::channel(2);
        let (outcome, mut outcomes) = mpsc::channel(2);
        let jobs = Arc::new(tokio::sync::Mutex::new(jobs));
        for _ in 0..2 {
            let (jobs, meeting) = (Arc::clone(&jobs), Arc::clone(&meeting));
            let outcome = outcome.clone();
            tokio::spawn(async move {
                while let Some(()) = {
                    let mut jobs = jobs.lock().await;
                    jobs.recv().await
                } {
                    outcome.send(meeting.another_comes()).await.unwrap();
                }
            });
        }
        for _ in 0..200 {
            for _ in 0..2 {
                sender.send(()).await.unwrap();
            }
            for _ in 0..2 {
                if !outcomes.recv().await.unwrap() {
                    return true;
                }
            }
        }
        false
    });
    assert!(has_missed, "they have always worked at once");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_the_sender_wait() {
    let (queue, mut outcomes) = slow_queue(1, 1);
    let reader = tokio::spawn(async move { drain(&mut outcomes).await });
    let started = Instant::now();
    let mut pushed_at = Vec::new();
    for job in 0..4 {
        queue.push(job).await.unwrap();
        pushed_at.push(started.elapsed().as_millis());
    }
    // One runs, one waits; from then on a place is free each time that a job is done.
    assert_eq!(pushed_at, [0, 0, 100, 200]);
    drop(queue);
    assert_eq!(reader.await.unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn unread_outcomes_hold_the_workers_and_so_the_producers() {
    let (queue, mut outcomes) = slow_queue(2, 1);
    let mut pushed = 0;
    while timeout(LIMIT, queue.push(pushed)).await.is_ok() {
        pushed += 1;
    }
    // One outcome waits to be read, two workers hold one each, one job waits.
    assert_eq!(pushed, 4);
    outcomes.next().await.unwrap();
    timeout(LIMIT, queue.push(pushed))
        .await
        .expect("reading one makes room for one")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_workers_work_at_the_same_time_and_no_more_than_asked_for() {
    let running = Arc::new(AtomicUsize::new(0));
    let peak = Arc::new(AtomicUsize::new(0));
    let (now, most) = (Arc::clone(&running), Arc::clone(&peak));
    let (queue, mut outcomes) = work_queue(limits(3, 10), move |()| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(TAKES).await;
            now.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let started = Instant::now();
    for _ in 0..9 {
        queue.push(()).await.unwrap();
    }
    drop(queue);
    assert_eq!(drain(&mut outcomes).await.len(), 9);
    assert_eq!(peak.load(Ordering::Relaxed), 3);
    assert_eq!(started.elapsed(), 3 * TAKES, "nine jobs, three at a time");
}

#[tokio::test(start_paused = true)]
async fn outcomes_end_only_after_every_producer_is_gone() {
    let (queue, mut outcomes) = slow_queue(2, 2);
    let kept = queue.clone();
    queue.push(1).await.unwrap();
    drop(queue);
    assert_eq!(outcomes.next().await.unwrap().result, Ok(1));
    timeout(LIMIT, outcomes.next())
        .await
        .expect_err("a producer is left, so more may come");
    kept.push(2).await.unwrap();
    drop(kept);
    assert_eq!(outcomes.next().await.unwrap().result, Ok(2));
    assert!(outcomes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_panicking_handler_loses_no_other_job_and_is_reported() {
    // One worker, so that the jobs after the panic need the worker that it hit. The first panics
    // before the handler returns its future, the third after an await.
    let (queue, mut outcomes) = work_queue(limits(1, 10), |job: u32| {
        assert_ne!(job, 0, "no zero");
        async move {
            sleep(TAKES).await;
            assert_ne!(job, 2, "no two");
            job
        }
    });
    for job in 0..4 {
        assert_eq!(queue.push(job).await, Ok(u64::from(job)));
    }
    drop(queue);
    let results = drain(&mut outcomes).await;
    let message = |index: usize| results[index].1.as_ref().unwrap_err();
    assert_eq!(results.len(), 4);
    assert!(message(0).contains("the handler panicked: ") && message(0).contains("no zero"));
    assert_eq!(results[1], (1, Ok(1)));
    assert!(message(2).contains("no two"), "{}", message(2));
    assert_eq!(results[3], (3, Ok(3)));
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_new_jobs_and_drains_the_queued_ones() {
    let (queue, mut outcomes) = slow_queue(1, 2);
    for job in 0..3 {
        queue.push(job).await.unwrap(); // one is running, two wait
    }
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.push(3).await }
    });
    sleep(TAKES / 2).await;
    outcomes.close();
    assert_eq!(
        drain(&mut outcomes).await,
        [(0, Ok(0)), (1, Ok(1)), (2, Ok(2))]
    );
    assert_eq!(queue.push(4).await, Err(Closed(4)));
    assert_eq!(
        waiting.await.unwrap(),
        Err(Closed(3)),
        "it waited for room when the queue closed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_push_right_after_the_close_is_refused_though_there_is_room() {
    let (queue, outcomes) = slow_queue(1, 2);
    outcomes.close();
    // No other task has had a turn since.
    assert_eq!(queue.try_push(0), Err(TryPushError::Closed(0)));
    assert_eq!(queue.push(1).now_or_never(), Some(Err(Closed(1))));
}

#[tokio::test(start_paused = true)]
async fn closing_an_idle_queue_ends_it_at_once_although_producers_live_on() {
    let (queue, mut outcomes) = slow_queue(2, 1);
    let started = Instant::now();
    sleep(TAKES).await; // both workers wait by now
    outcomes.close();
    assert!(
        timeout(LIMIT, outcomes.next())
            .await
            .expect("the workers wait on")
            .is_none()
    );
    assert_eq!(started.elapsed(), TAKES);
    drop(queue);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_a_queue_that_is_never_empty() {
    let (queue, mut outcomes) = work_queue(limits(2, 4), async |()| sleep(TAKES).await);
    let producer = tokio::spawn(async move {
        let mut pushed = 0;
        while queue.push(()).await.is_ok() {
            pushed += 1;
        }
        pushed
    });
    for _ in 0..10 {
        outcomes.next().await.unwrap().result.unwrap();
    }
    outcomes.close();
    let rest = timeout(LIMIT, drain(&mut outcomes))
        .await
        .expect("it goes on taking jobs")
        .len();
    assert_eq!(
        10 + rest,
        producer.await.unwrap(),
        "what was pushed came out"
    );
}

#[tokio::test(start_paused = true)]
async fn from_the_moment_of_the_close_or_the_drop_every_push_gets_its_job_back() {
    for drop_it in [false, true] {
        let (queue, outcomes) = slow_queue(1, 1);
        queue.push(0).await.unwrap();
        sleep(TAKES / 2).await; // the worker is busy, and will be when the next push comes
        let waiting = tokio::spawn({
            let queue = queue.clone();
            queue.push(1).await.unwrap();
            async move { queue.push(2).await }
        });
        tokio::task::yield_now().await;
        let closed_at = Instant::now();
        let kept = if drop_it {
            drop(outcomes);
            None
        } else {
            outcomes.close();
            Some(outcomes)
        };
        assert_eq!(queue.push(3).await, Err(Closed(3)));
        assert_eq!(queue.try_push(4), Err(TryPushError::Closed(4)));
        assert_eq!(waiting.await.unwrap(), Err(Closed(2)), "it waited for room");
        assert_eq!(closed_at.elapsed(), Duration::ZERO);
        if let Some(mut outcomes) = kept {
            assert_eq!(drain(&mut outcomes).await, [(0, Ok(0)), (1, Ok(1))]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_push_gets_its_job_back_though_a_handler_never_awaits() {
    for drop_it in [false, true] {
        let (begins, mut begun) = mpsc::channel(1);
        let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
        let released = std::sync::Mutex::new(released);
        let (queue, outcomes) = work_queue(limits(1, 1), move |job: u32| {
            begins.try_send(job).unwrap_or_default();
            released.lock().unwrap().recv().unwrap_or_default(); // until the test lets go
            async move { job }
        });
        queue.push(0).await.unwrap();
        begun.recv().await.unwrap();
        queue.push(1).await.unwrap();
        let mut waiting = std::pin::pin!(queue.push(2));
        assert_eq!(waiting.as_mut().now_or_never(), None, "there is no room");
        let kept = if drop_it {
            drop(outcomes);
            None
        } else {
            outcomes.close();
            Some(outcomes)
        };
        let returned = timeout(LIMIT / 6, waiting).await;
        drop(release); // before any assertion: a failed test has to end as well
        assert_eq!(returned, Ok(Err(Closed(2))), "it waits for the handler");
        drop(kept);
    }
}

#[tokio::test(start_paused = true)]
async fn try_push_gives_the_job_back_when_there_is_no_room() {
    let (queue, mut outcomes) = slow_queue(1, 1);
    assert_eq!(queue.try_push(0), Ok(0));
    assert_eq!(queue.try_push(1), Err(TryPushError::Full(1)));
    outcomes.next().await.unwrap();
    assert_eq!(queue.try_push(1), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn handlers_that_push_into_their_own_queue_stand_still_until_it_is_closed() {
    let own = Arc::new(std::sync::OnceLock::<Queue<u32>>::new());
    let handle = Arc::clone(&own);
    let (queue, mut outcomes) = work_queue(limits(2, 2), move |depth: u32| {
        let own = Arc::clone(&handle);
        async move {
            for _ in 0..if depth > 0 { 4 } else { 0 } {
                if let Some(queue) = own.get() {
                    queue.push(depth - 1).await.ok();
                }
            }
        }
    });
    drop(own.set(queue.clone()));
    queue.push(4).await.unwrap();
    timeout(LIMIT, outcomes.next())
        .await
        .expect_err("each worker waits for room");
    outcomes.close();
    let ended = timeout(LIMIT, drain(&mut outcomes))
        .await
        .expect("the close does not end it");
    assert_eq!(ended.len(), 4, "two that ran, two that waited");
}

#[tokio::test(start_paused = true)]
async fn what_a_panic_left_half_changed_under_a_lock_is_there_for_the_next_job() {
    let account = Arc::new(tokio::sync::Mutex::new((100, 0)));
    let (queue, mut outcomes) = work_queue(limits(1, 2), move |panics: bool| {
        let account = Arc::clone(&account);
        async move {
            let mut account = account.lock().await;
            account.0 -= 10;
            assert!(!panics, "half way");
            account.1 += 10;
            account.0 + account.1
        }
    });
    queue.push(true).await.unwrap();
    queue.push(false).await.unwrap();
    drop(queue);
    let results = drain(&mut outcomes).await;
    assert!(results[0].1.is_err());
    assert_eq!(results[1].1, Ok(90), "no poison, and ten are gone");
}

#[tokio::test]
async fn a_panic_with_any_payload_is_reported() {
    let (queue, mut outcomes) = work_queue(limits(1, 3), |job: u8| async move {
        match job {
            0 => panic!("a literal"),
            1 => panic!("formatted: {job}"),
            _ => std::panic::panic_any(7),
        }
    });
    for job in 0..3 {
        queue.push(job).await.unwrap();
    }
    drop(queue);
    let messages: Vec<_> = drain(&mut outcomes)
        .await
        .into_iter()
        .map(|(_, result): (_, Result<(), _>)| result.unwrap_err())
        .collect();
    let prefix = "the handler panicked: ";
    let expected =
        ["a literal", "formatted: 1", "no message"].map(|text| format!("{prefix}{text}"));
    assert_eq!(messages, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_every_pushed_job_comes_out_once_though_closed_half_way() {
    for round in 0..50 {
        let (queue, mut outcomes) = work_queue(limits(3, 2), async |job: u32| job);
        let producers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut accepted = Vec::new();
                    while let Ok(job) = queue.push(0).await {
                        accepted.push(job);
                    }
                    accepted
                })
            })
            .collect();
        let mut done = Vec::new();
        for _ in 0..round {
            done.push(outcomes.next().await.unwrap().job);
        }
        outcomes.close();
        done.extend(drain(&mut outcomes).await.into_iter().map(|(job, _)| job));
        let mut accepted = Vec::new();
        for producer in producers {
            accepted.extend(producer.await.unwrap());
        }
        done.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(done, accepted, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_outcomes_stops_running_jobs_and_hands_new_ones_back() {
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let (queue, outcomes) = work_queue(limits(2, 10), move |()| {
        let alive = alive.clone();
        async move {
            let _alive = alive;
            sleep(10 * LIMIT).await;
        }
    });
    for _ in 0..5 {
        queue.push(()).await.unwrap();
    }
    sleep(TAKES).await;
    drop(outcomes);
    assert_eq!(
        timeout(TAKES, ended.recv()).await,
        Ok(None),
        "a job or its handler lives on"
    );
    assert_eq!(queue.push(()).await, Err(Closed(())));
}

#[tokio::test(start_paused = true)]
async fn pushing_everything_before_reading_anything_waits_for_ever() {
    let (queue, mut outcomes) = slow_queue(2, 2);
    let push_all = async {
        for job in 0..100 {
            queue.push(job).await.unwrap();
        }
    };
    timeout(LIMIT, push_all)
        .await
        .expect_err("the first outcome is read after the last push");
    outcomes.close();
    assert_eq!(
        drain(&mut outcomes).await.len(),
        6,
        "two waiting, two running, two unread"
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_locks_in_its_head_works_on_one_job_at_a_time() {
    let (sender, receiver) = mpsc::channel(10);
    let jobs = Arc::new(tokio::sync::Mutex::new(receiver));
    for job in 0..4 {
        sender.send(job).await.unwrap();
    }
    drop(sender);
    let started = Instant::now();
    let worker = async || {
        while let Some(_job) = jobs.lock().await.recv().await {
            sleep(TAKES).await;
        }
    };
    tokio::join!(worker(), worker());
    assert_eq!(
        started.elapsed(),
        4 * TAKES,
        "two workers, and no faster than one"
    );
}

#[tokio::test(start_paused = true)]
async fn an_enormous_capacity_is_no_panic() {
    let (queue, mut outcomes) = slow_queue(1, usize::MAX);
    queue.push(1).await.unwrap();
    drop(queue);
    assert_eq!(drain(&mut outcomes).await, [(0, Ok(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_push_has_queued_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (queue, outcomes) = slow_queue(1, 1);
            queue.push(0).await.unwrap();
            (queue, outcomes)
        },
        async |(queue, _)| {
            queue.push(1).await.unwrap(); // there is room for it
            queue.push(2).await.unwrap(); // it waits for the first job's end
        },
        async |(queue, mut outcomes), round| {
            drop(queue);
            let results = drain(&mut outcomes).await;
            let queued = results.len() - 1;
            // Numbers without a gap: a push that did not happen has used none.
            assert_eq!(results.last().unwrap().0, queued as u64);
            match round {
                Round::Completed(()) => assert_eq!(queued, 2),
                Round::Dropped(_) => assert!(queued <= 1, "the dropped push is in the queue"),
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_no_outcome() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (queue, outcomes) = slow_queue(2, 3);
            for job in 0..3 {
                queue.push(job).await.unwrap();
            }
            (outcomes, 0)
        },
        async |(outcomes, read)| {
            while outcomes.next().await.is_some() {
                *read += 1;
            }
        },
        async |(mut outcomes, read), _| {
            assert_eq!(
                read + drain(&mut outcomes).await.len(),
                3,
                "an outcome is lost"
            );
        },
    )
    .await;
    assert!(points.unwrap() >= 3);
}
