//! That a future by hand completes, wakes the right task, and once.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use traits::delay::{CountPolls, Delay, End, Trigger, delay};

/// Counts its wake-ups.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn waker() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

fn poll(delay: &mut Delay, waker: &Waker) -> Poll<End> {
    Pin::new(delay).poll(&mut Context::from_waker(waker))
}

#[test]
fn it_is_pending_until_the_trigger_is_pulled_and_then_ready_as_often_as_asked() {
    let (trigger, mut delay) = delay();
    let (woken, waker) = waker();
    assert_eq!(poll(&mut delay, &waker), Poll::Pending);
    assert_eq!(
        poll(&mut delay, &waker),
        Poll::Pending,
        "polled without a reason"
    );
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    trigger.pull();
    assert_eq!(
        woken.0.load(Ordering::SeqCst),
        1,
        "once, though it was polled twice"
    );
    assert_eq!(poll(&mut delay, &waker), Poll::Ready(End::Pulled));
    assert_eq!(poll(&mut delay, &waker), Poll::Ready(End::Pulled));
}

#[test]
fn a_dropped_trigger_ends_it_too() {
    let (trigger, mut delay) = delay();
    let (woken, waker) = waker();
    assert_eq!(poll(&mut delay, &waker), Poll::Pending);
    drop(trigger);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(&mut delay, &waker), Poll::Ready(End::Dropped));
}

#[test]
fn a_trigger_that_was_pulled_before_the_first_poll_wakes_nobody() {
    let (trigger, mut delay) = delay();
    trigger.pull();
    let (woken, waker) = waker();
    assert_eq!(poll(&mut delay, &waker), Poll::Ready(End::Pulled));
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
}

#[test]
fn it_wakes_whoever_polled_last() {
    let (trigger, mut delay) = delay();
    let ((first, one), (second, two)) = (waker(), waker());
    assert_eq!(poll(&mut delay, &one), Poll::Pending);
    assert_eq!(
        poll(&mut delay, &two),
        Poll::Pending,
        "moved to another task"
    );
    trigger.pull();
    let woken = [first, second].map(|count| count.0.load(Ordering::SeqCst));
    assert_eq!(woken, [0, 1]);
}

#[test]
fn a_dropped_delay_is_no_harm_to_its_trigger() {
    let (trigger, mut delay) = delay();
    let (woken, waker) = waker();
    assert_eq!(poll(&mut delay, &waker), Poll::Pending);
    drop(delay);
    trigger.pull();
    assert_eq!(
        woken.0.load(Ordering::SeqCst),
        1,
        "of a task that is there still, perhaps"
    );
    assert_eq!(
        Arc::strong_count(&woken),
        2,
        "ours and `waker`: the delay keeps none"
    );
}

/// A task that keeps the trigger: the delay's waker may be the last that has it.
struct Keeps {
    _trigger: Mutex<Option<Trigger>>,
}

impl Wake for Keeps {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn the_waker_that_is_replaced_may_be_the_last_owner_of_the_trigger() {
    let (done, ended) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (trigger, mut delay) = delay();
        let first = Waker::from(Arc::new(Keeps {
            _trigger: Mutex::new(Some(trigger)),
        }));
        assert_eq!(poll(&mut delay, &first), Poll::Pending);
        drop(first);
        let (woken, second) = waker();
        // Its drop ends the delay, and so there is a reason to be polled again.
        assert_eq!(poll(&mut delay, &second), Poll::Pending);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        done.send(poll(&mut delay, &second)).unwrap();
    });
    let polled = ended.recv_timeout(Duration::from_secs(60));
    assert_eq!(polled, Ok(Poll::Ready(End::Dropped)));
}

/// Polls on this thread, and sleeps between two polls.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn from_another_thread_no_end_is_missed() {
    for _ in 0..if cfg!(miri) { 5 } else { 1_000 } {
        let (trigger, delay) = delay();
        let puller = thread::spawn(|| trigger.pull());
        assert_eq!(block_on(delay), End::Pulled);
        puller.join().unwrap();
    }
}

#[test]
fn the_combinator_counts_polls_and_passes_the_waker_on() {
    let (trigger, delay) = delay();
    let (woken, waker) = waker();
    let mut context = Context::from_waker(&waker);
    let mut counted = pin!(CountPolls::new(delay));
    assert_eq!(counted.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(counted.as_mut().poll(&mut context), Poll::Pending);
    trigger.pull();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(
        counted.as_mut().poll(&mut context),
        Poll::Ready((End::Pulled, 3))
    );
}

#[test]
fn the_combinator_takes_futures_that_must_not_move() {
    let future = async {
        let text = String::from("borrowed across an await");
        let borrowed = &text;
        let (trigger, delay) = delay();
        thread::spawn(|| trigger.pull());
        delay.await;
        borrowed.len()
    };
    let (length, polls) = block_on(CountPolls::new(future));
    assert_eq!(length, 24);
    assert!(polls >= 1);
}

/// The fault of many futures by hand.
struct KeepsTheFirstWaker {
    delay: Delay,
    first: Option<Waker>,
}

impl Future for KeepsTheFirstWaker {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let first = self.first.get_or_insert_with(|| cx.waker().clone()).clone();
        Pin::new(&mut self.delay).poll(&mut Context::from_waker(&first))
    }
}

#[test]
fn harm_a_future_that_keeps_the_first_waker_wakes_a_task_that_has_left() {
    let (trigger, delay) = delay();
    let ((first, one), (second, two)) = (waker(), waker());
    let mut faulty = KeepsTheFirstWaker { delay, first: None };
    for waker in [&one, &two] {
        let mut context = Context::from_waker(waker);
        assert_eq!(Pin::new(&mut faulty).poll(&mut context), Poll::Pending);
    }
    trigger.pull();
    let woken = [first, second].map(|count| count.0.load(Ordering::SeqCst));
    assert_eq!(woken, [1, 0], "the one that waits is not woken");
}
