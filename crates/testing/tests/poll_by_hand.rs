//! Faults of futures by hand, planted and found; and that sound ones pass.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use testing::every_await_point::every_await_point;
use testing::poll_by_hand::{WakeFault, Wakeups, check_wakeups};
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready, assert_ready_eq};

const LIMIT: Duration = Duration::from_secs(60);

/// Something that is opened once, and the wakers of those who wait for it.
#[derive(Default)]
struct Gate {
    open: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Gate {
    fn open(&self) {
        self.open.set(true);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }
}

/// Waits for a gate, in a way that may be wrong. Counts its polls.
struct Wait<P> {
    gate: Rc<Gate>,
    polls: usize,
    poll: P,
}

impl<P: Fn(&Gate, usize, &Waker) -> Poll<()> + Unpin> Future for Wait<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls += 1;
        (self.poll)(&self.gate, self.polls, cx.waker())
    }
}

/// What is found in a future that does this in its polls.
async fn found(
    poll: impl Fn(&Gate, usize, &Waker) -> Poll<()> + Copy + Unpin,
) -> Result<Wakeups, WakeFault> {
    let setup = || {
        let gate = Rc::new(Gate::default());
        let future = Wait {
            gate: Rc::clone(&gate),
            polls: 0,
            poll,
        };
        (future, gate)
    };
    check_wakeups(setup, async |gate: Rc<Gate>| gate.open()).await
}

fn counts(wakeups: Wakeups) -> (usize, usize, usize) {
    (wakeups.polls, wakeups.wakeups, wakeups.left_by_drop)
}

fn ready_if(open: bool) -> Poll<()> {
    if open { Poll::Ready(()) } else { Poll::Pending }
}

#[tokio::test]
async fn a_sound_future_is_polled_twice_and_woken_once() {
    let sound = |gate: &Gate, _: usize, waker: &Waker| {
        *gate.wakers.borrow_mut() = vec![waker.clone()];
        ready_if(gate.open.get())
    };
    // It leaves its waker in the gate when it is dropped.
    assert_eq!(counts(found(sound).await.unwrap()), (2, 1, 1));
}

#[tokio::test]
async fn a_lost_wakeup_is_found() {
    let forgets = |gate: &Gate, _: usize, _: &Waker| ready_if(gate.open.get());
    let fault = found(forgets).await.unwrap_err();
    assert_eq!(fault, WakeFault::LostWakeup { polls: 1 });
    assert_eq!(
        fault.to_string(),
        "the event came, the future was pending at poll 1, and no task was woken"
    );
}

#[tokio::test]
async fn a_waker_kept_from_the_first_poll_is_found() {
    let keeps = |gate: &Gate, poll: usize, waker: &Waker| {
        if poll == 1 {
            gate.wakers.borrow_mut().push(waker.clone());
        }
        ready_if(gate.open.get())
    };
    let fault = found(keeps).await.unwrap_err();
    assert_eq!(fault, WakeFault::StaleWaker { woken: 1, last: 3 });
    assert_eq!(
        fault.to_string(),
        "the event woke task 1, and not task 3, which was the last to poll"
    );
}

#[tokio::test]
async fn a_waker_that_is_gone_after_a_second_poll_by_the_same_task_is_found() {
    let takes_it_out = |gate: &Gate, _: usize, waker: &Waker| {
        let mut wakers = gate.wakers.borrow_mut();
        match wakers.pop() {
            Some(last) if last.will_wake(waker) => {} // "registered already", and not put back
            _ => wakers.push(waker.clone()),
        }
        ready_if(gate.open.get())
    };
    let fault = found(takes_it_out).await.unwrap_err();
    assert_eq!(fault, WakeFault::LostWakeup { polls: 2 });
}

#[tokio::test]
async fn a_future_that_wakes_itself_for_ever_is_found() {
    let spins = |gate: &Gate, _: usize, waker: &Waker| {
        waker.wake_by_ref();
        ready_if(gate.open.get())
    };
    let fault = found(spins).await.unwrap_err();
    assert_eq!(fault, WakeFault::BusyLoop { polls: 100 });
    assert_eq!(
        fault.to_string(),
        "pending and woken by itself, 100 polls in a row"
    );
}

#[tokio::test]
async fn one_that_wakes_itself_for_ever_after_the_event_is_found() {
    let never_ready = |gate: &Gate, _: usize, waker: &Waker| {
        gate.wakers.borrow_mut().push(waker.clone());
        if gate.open.get() {
            waker.wake_by_ref();
        }
        Poll::Pending
    };
    let fault = found(never_ready).await.unwrap_err();
    assert_eq!(fault, WakeFault::BusyLoop { polls: 100 });
}

#[tokio::test]
async fn a_future_that_yields_first_passes_with_its_wakeups_counted() {
    let yields = |gate: &Gate, poll: usize, waker: &Waker| {
        gate.wakers.borrow_mut().push(waker.clone());
        if poll <= 3 {
            waker.wake_by_ref();
        }
        ready_if(gate.open.get())
    };
    let (polls, wakeups, _) = counts(found(yields).await.unwrap());
    assert_eq!((polls, wakeups), (5, 4));
}

#[tokio::test]
async fn a_wakeup_of_its_own_is_not_taken_for_one_by_the_event() {
    let yields_and_forgets = |gate: &Gate, poll: usize, waker: &Waker| {
        if poll == 1 {
            waker.wake_by_ref();
        }
        ready_if(gate.open.get())
    };
    let fault = found(yields_and_forgets).await.unwrap_err();
    assert_eq!(fault, WakeFault::LostWakeup { polls: 2 });
}

#[tokio::test]
async fn a_future_that_takes_its_second_poll_for_the_event_is_found() {
    let trusting = |gate: &Gate, poll: usize, waker: &Waker| {
        gate.wakers.borrow_mut().push(waker.clone());
        ready_if(poll > 1 || gate.open.get())
    };
    let fault = found(trusting).await.unwrap_err();
    assert_eq!(fault, WakeFault::TooEarly { poll: 2 });
    assert_eq!(
        fault.to_string(),
        "ready at poll 2, and the event had not come"
    );
}

#[tokio::test]
async fn an_event_before_the_first_poll_that_is_missed_is_found() {
    let setup = || {
        let (sender, receiver) = watch::channel(false);
        let unseen = async move {
            let mut receiver = receiver;
            receiver.mark_unchanged(); // what was there before does not count
            receiver.changed().await.is_ok()
        };
        (unseen, sender)
    };
    let event = async |sender: watch::Sender<bool>| {
        sender.send_replace(true);
        std::mem::forget(sender); // its end would be an event too
    };
    let fault = check_wakeups(setup, event).await.unwrap_err();
    assert_eq!(fault, WakeFault::LostWakeup { polls: 1 });
}

#[tokio::test]
async fn a_combinator_that_polls_only_one_of_two_is_found() {
    let setup = || {
        let (first, second) = (oneshot::channel::<()>(), oneshot::channel::<()>());
        let (mut one, mut two) = (first.1, second.1);
        let either = poll_fn(move |cx| {
            if Pin::new(&mut one).poll(cx).is_ready() {
                return Pin::new(&mut two).poll(cx); // too late: it was never asked before
            }
            Poll::Pending
        });
        (either, (first.0, second.0))
    };
    let second = async |(first, second): (oneshot::Sender<()>, oneshot::Sender<()>)| {
        second.send(()).ok();
        std::mem::forget(first);
    };
    let fault = check_wakeups(setup, second).await.unwrap_err();
    assert_eq!(fault, WakeFault::LostWakeup { polls: 1 });
}

#[tokio::test(start_paused = true)]
async fn the_futures_of_tokio_pass_and_take_their_wakers_back() {
    let mut all = Vec::new();
    let sent = check_wakeups(
        || {
            let (sender, receiver) = oneshot::channel();
            (receiver, sender)
        },
        async |sender: oneshot::Sender<()>| {
            sender.send(()).ok();
        },
    );
    all.push(counts(sent.await.unwrap()));
    let notified = check_wakeups(
        || {
            let notify = Rc::new(Notify::new());
            let waits = Rc::clone(&notify);
            (async move { waits.notified().await }, notify)
        },
        async |notify: Rc<Notify>| notify.notify_one(),
    );
    all.push(counts(notified.await.unwrap()));
    let permit = check_wakeups(
        || {
            let semaphore = Rc::new(Semaphore::new(0));
            let waits = Rc::clone(&semaphore);
            (async move { waits.acquire().await.is_ok() }, semaphore)
        },
        async |semaphore: Rc<Semaphore>| semaphore.add_permits(1),
    );
    all.push(counts(permit.await.unwrap()));
    let slept = check_wakeups(
        || (sleep(Duration::from_secs(1)), ()),
        async |()| advance(Duration::from_secs(1)).await,
    );
    all.push(counts(slept.await.unwrap()));
    assert_eq!(all, [(2, 1, 0); 4]);
}

/// The rationing of the task that runs the check is not the future's.
#[tokio::test]
async fn a_future_is_not_taken_for_a_busy_loop_when_its_task_has_used_its_budget_up() {
    let greedy = || {
        let (sender, receiver) = oneshot::channel();
        let lock = Mutex::new(());
        let work = async move {
            for _ in 0..1_000 {
                drop(lock.lock().await);
            }
            receiver.await
        };
        (work, sender)
    };
    let event = async |sender: oneshot::Sender<()>| {
        sender.send(()).ok();
    };
    let (polls, wakeups, _) = counts(check_wakeups(greedy, event).await.unwrap());
    assert_eq!((polls, wakeups), (2, 1));
}

#[tokio::test]
#[should_panic = "the receiver is gone"]
async fn an_event_that_panics_once_the_future_is_gone_is_seen() {
    let setup = || {
        let (sender, receiver) = oneshot::channel();
        (receiver, sender)
    };
    let event = async |sender: oneshot::Sender<()>| sender.send(()).expect("the receiver is gone");
    check_wakeups(setup, event).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_check_drops_its_future_and_makes_no_other() {
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let made = Cell::new(0);
    let points = every_await_point(
        LIMIT,
        async || (),
        async |()| {
            let setup = || {
                made.set(made.get() + 1);
                let held = alive.clone();
                let (sender, receiver) = oneshot::channel();
                let future = async move {
                    let _held = held;
                    receiver.await
                };
                (future, sender)
            };
            let event = async |sender: oneshot::Sender<()>| {
                sleep(Duration::ZERO).await;
                sender.send(()).ok();
            };
            check_wakeups(setup, event).await.unwrap();
        },
        async |(), _| {
            let before = made.get();
            sleep(LIMIT).await;
            assert_eq!(made.get(), before, "another was made");
            assert_eq!(alive.strong_count(), 1, "a future lives on");
        },
    )
    .await;
    assert_eq!(points.unwrap(), 5, "one for each event");
    drop(alive);
    assert_eq!(ended.recv().await, None);
}

// ------------------------------------------------------------------------------ tokio_test::task

#[test]
fn a_spawn_polls_step_by_step_and_tells_whether_it_was_woken() {
    let (sender, receiver) = oneshot::channel();
    let mut task = spawn(receiver);
    assert_pending!(task.poll());
    assert!(!task.is_woken());
    assert_eq!(task.waker_ref_count(), 2, "its own, and the channel's");
    sender.send(7).unwrap();
    assert!(task.is_woken());
    assert_ready_eq!(task.poll(), Ok(7));
}

#[test]
fn harm_a_spawn_polls_with_the_same_waker_so_one_that_keeps_the_first_passes() {
    let gate = Rc::new(Gate::default());
    let mut task = spawn(Wait {
        gate: Rc::clone(&gate),
        polls: 0,
        poll: |gate: &Gate, poll: usize, waker: &Waker| {
            if poll == 1 {
                gate.wakers.borrow_mut().push(waker.clone());
            }
            ready_if(gate.open.get())
        },
    });
    assert_pending!(task.poll());
    assert_pending!(task.poll());
    gate.open();
    assert!(task.is_woken());
    assert_ready!(task.poll());
}

#[test]
fn harm_two_wakeups_are_one_and_the_next_poll_forgets_it() {
    let mut task = spawn(pending::<()>());
    let waker = task.enter(|cx, _| cx.waker().clone());
    waker.wake_by_ref();
    waker.wake_by_ref();
    assert!(task.is_woken());
    assert_pending!(task.poll());
    assert!(!task.is_woken());
}

#[test]
fn harm_a_loop_without_end_is_polled_150_times() {
    let polls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&polls);
    let mut task = spawn(poll_fn(move |cx| {
        counted.set(counted.get() + 1);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        task.poll_until_idle().is_ready()
    }));
    assert!(polled.is_err());
    assert_eq!(polls.get(), 150);
}

#[tokio::test(start_paused = true)]
async fn harm_a_spawn_that_is_awaited_is_never_woken() {
    let started = Instant::now();
    let mut task = spawn(sleep(Duration::from_secs(1)));
    timeout(LIMIT, &mut task).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    assert!(!task.is_woken());
}

#[test]
#[should_panic = "resumed after completion"]
fn harm_an_async_fn_that_is_polled_after_its_end_panics() {
    let mut task = spawn(async { ready(()).await });
    assert_ready!(task.poll());
    assert_ready!(task.poll());
}
