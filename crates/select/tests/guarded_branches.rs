//! What a pump with a buffer of its own order promises, and what guards do and do not.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::{pending, ready};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use select::guarded_branches::{TargetClosed, Waiting, pump};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);
const ONE: NonZeroUsize = NonZeroUsize::MIN;
const MANY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_000);

/// A channel that holds these items, without a sender.
fn ended<T>(items: impl IntoIterator<Item = T>) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel(1_000);
    for item in items {
        sender.try_send(item).ok().unwrap();
    }
    receiver
}

fn drain<T>(receiver: &mut mpsc::Receiver<T>) -> Vec<T> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

/// Pumps in a task until the channel ends.
fn spawn_pump<T: Send + 'static>(
    mut from: mpsc::Receiver<T>,
    to: mpsc::Sender<T>,
    mut waiting: impl Waiting<T> + Send + 'static,
    limit: NonZeroUsize,
) -> JoinHandle<Result<(), TargetClosed>> {
    tokio::spawn(async move { pump(&mut from, &to, &mut waiting, limit).await })
}

// ------------------------------------------------------------------------------------- the pump

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_in_the_order_of_the_buffer() {
    for (sorted, expected) in [(false, [3, 1, 5, 2, 4]), (true, [5, 4, 3, 2, 1])] {
        let (to, mut target) = mpsc::channel(5);
        let mut from = ended([3, 1, 5, 2, 4]);
        let pumped = if sorted {
            pump(&mut from, &to, &mut BinaryHeap::new(), MANY).await
        } else {
            pump(&mut from, &to, &mut VecDeque::new(), MANY).await
        };
        assert_eq!(pumped, Ok(()));
        assert_eq!(drain(&mut target), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_comes_late_overtakes_those_that_wait_and_not_those_in_the_target() {
    let (source, from) = mpsc::channel(10);
    let (to, mut target) = mpsc::channel(2);
    let pumping = spawn_pump(from, to, BinaryHeap::new(), MANY);
    for item in [1, 2, 3, 4] {
        source.send(item).await.unwrap();
        sleep(TAKES).await; // 1 and 2 fill the target, 3 and 4 wait
    }
    source.send(9).await.unwrap();
    drop(source);
    sleep(TAKES).await;
    let mut order = Vec::new();
    while let Some(item) = target.recv().await {
        order.push(item);
    }
    assert_eq!(order, [1, 2, 9, 4, 3]);
    assert_eq!(pumping.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn it_reads_on_while_the_target_is_full_and_no_further_than_the_limit() {
    for limit in [1, 2, 10] {
        let (source, from) = mpsc::channel(1);
        let (to, mut target) = mpsc::channel(1);
        let limit = NonZeroUsize::new(limit).unwrap();
        let _pumping = spawn_pump(from, to, VecDeque::new(), limit);
        let mut accepted = 0;
        while timeout(TAKES, source.send(accepted)).await.is_ok() {
            accepted += 1;
        }
        assert_eq!(accepted, 1 + limit.get() + 1, "target, buffer, source");
        target.recv().await.unwrap();
        timeout(TAKES, source.send(accepted))
            .await
            .expect("one that leaves makes room for one")
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_every_sender_is_gone_and_everything_is_moved() {
    let (source, from) = mpsc::channel(10);
    let (to, mut target) = mpsc::channel(1);
    let pumping = spawn_pump(from, to, VecDeque::new(), MANY);
    let clone = source.clone();
    for item in 0..3 {
        source.send(item).await.unwrap();
    }
    drop(source);
    for item in 0..3 {
        assert_eq!(target.recv().await, Some(item));
    }
    sleep(LIMIT).await;
    assert!(!pumping.is_finished(), "a sender is left");
    let dropped = Instant::now();
    drop(clone);
    assert_eq!(target.recv().await, None);
    assert_eq!(pumping.await.unwrap(), Ok(()));
    assert_eq!(dropped.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_closed_target_is_told_at_once_whatever_it_waits_for_and_what_is_left_is_there() {
    for pushed in [0, 2, 3, 20] {
        let (source, mut from) = mpsc::channel(100);
        let (to, mut target) = mpsc::channel(2);
        for item in 0..pushed {
            source.send(item).await.unwrap();
        }
        let mut waiting = VecDeque::new();
        let close = async {
            sleep(TAKES).await;
            target.close();
        };
        let started = Instant::now();
        let limit = NonZeroUsize::new(5).unwrap();
        let pumping = timeout(LIMIT, pump(&mut from, &to, &mut waiting, limit));
        let (pumped, ()) = tokio::join!(pumping, close);
        assert_eq!(pumped.expect("it waits on"), Err(TargetClosed));
        assert_eq!(started.elapsed(), TAKES);
        let mut all = drain(&mut target);
        all.extend(waiting);
        all.extend(drain(&mut from));
        assert_eq!(all, (0..pushed).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn with_nothing_left_to_move_a_closed_target_is_no_error() {
    let (to, target) = mpsc::channel::<u32>(1);
    drop(target);
    for _ in 0..50 {
        // As often as this, or a choice at random might hit it.
        let pumped = pump(&mut ended([]), &to, &mut VecDeque::new(), ONE).await;
        assert_eq!(pumped, Ok(()));
    }
    let pumped = pump(&mut ended([1]), &to, &mut VecDeque::new(), ONE).await;
    let message =
        "the target channel is closed; what was not moved still waits, or is in the source";
    assert_eq!(pumped.unwrap_err().to_string(), message);
}

#[tokio::test(start_paused = true)]
async fn it_keeps_its_place_in_the_line_for_the_target_while_items_come() {
    // A reserve that is begun anew with each item queues behind the others each time.
    async fn rebuilt(from: &mut mpsc::Receiver<u32>, to: &mpsc::Sender<u32>) {
        let mut waiting = VecDeque::new();
        loop {
            select! {
                biased;
                Some(item) = from.recv(), if waiting.len() < MANY.get() => waiting.push_back(item),
                place = to.reserve(), if !waiting.is_empty() => {
                    place.unwrap().send(waiting.pop_front().unwrap());
                }
                else => return,
            }
        }
    }
    async fn kept(from: &mut mpsc::Receiver<u32>, to: &mpsc::Sender<u32>) {
        pump(from, to, &mut VecDeque::new(), MANY).await.unwrap();
    }
    async fn moved_in_a_second(
        pump: impl AsyncFn(&mut mpsc::Receiver<u32>, &mpsc::Sender<u32>),
    ) -> usize {
        let (source, mut from) = mpsc::channel(1);
        let (to, mut target) = mpsc::channel(1);
        let items = async {
            loop {
                source.send(1).await.unwrap();
                sleep(TAKES / 20).await;
            }
        };
        let other_sender = async || {
            loop {
                to.send(0).await.unwrap();
            }
        };
        let two_senders = async { tokio::join!(other_sender(), other_sender()) };
        let mut arrived = 0;
        let count = async {
            while let Some(item) = target.recv().await {
                arrived += usize::from(item == 1);
                sleep(TAKES).await;
            }
        };
        let all = async { tokio::join!(pump(&mut from, &to), items, two_senders, count) };
        timeout(10 * TAKES, all).await.map(drop).unwrap_err();
        arrived
    }
    assert_eq!(moved_in_a_second(kept).await, 3, "every third");
    assert_eq!(moved_in_a_second(rebuilt).await, 0);
}

#[tokio::test(start_paused = true)]
async fn idle_it_keeps_no_place_of_the_target() {
    let (source, from) = mpsc::channel(1);
    let (to, _target) = mpsc::channel(2);
    let _pumping = spawn_pump(from, to.clone(), VecDeque::new(), ONE);
    source.send(1).await.unwrap();
    sleep(TAKES).await;
    assert_eq!(to.capacity(), 1, "the item's, and no other");
}

/// The latest number of each key. The first key leaves first.
#[derive(Default)]
struct Latest(BTreeMap<char, u32>);

impl Waiting<(char, u32)> for Latest {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn put(&mut self, (key, number): (char, u32)) {
        self.0.insert(key, number);
    }
    fn take(&mut self) -> Option<(char, u32)> {
        self.0.pop_first()
    }
}

#[tokio::test(start_paused = true)]
async fn a_buffer_may_replace_what_waits_until_the_limit_is_reached() {
    for (limit, expected) in [
        (3, vec![('a', 5), ('b', 4)]),
        // Two keys wait, so the third item has to stay outside until one of them has left.
        (2, vec![('a', 1), ('a', 3), ('a', 5), ('b', 4)]),
        (1, vec![('a', 1), ('b', 2), ('a', 3), ('b', 4), ('a', 5)]),
    ] {
        let (to, mut target) = mpsc::channel(10);
        let mut from = ended([('a', 1), ('b', 2), ('a', 3), ('b', 4), ('a', 5)]);
        let limit = NonZeroUsize::new(limit).unwrap();
        pump(&mut from, &to, &mut Latest::default(), limit)
            .await
            .unwrap();
        assert_eq!(drain(&mut target), expected, "limit {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_rests_does_not_shut_out_the_target() {
    let (source, from) = mpsc::channel(1_000);
    let (to, mut target) = mpsc::channel(1);
    let _pumping = spawn_pump(from, to, Latest::default(), MANY);
    let mut last = 0;
    for turn in 1..=10 {
        // More than a task can take in a turn: tokio's budget is 128.
        while source.try_send(('a', last + 1)).is_ok() {
            last += 1;
        }
        yield_now().await;
        let arrived = target.try_recv();
        assert!(arrived.is_ok(), "{arrived:?} in turn {turn}, {last} sent");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_target_is_full_a_source_that_never_rests_is_read_and_each_item_replaces_one() {
    let (source, from) = mpsc::channel(1_000);
    let (to, mut target) = mpsc::channel(1);
    let _pumping = spawn_pump(from, to, Latest::default(), ONE.saturating_add(1));
    for number in 0..10_000 {
        source.send(('a', number)).await.unwrap();
    }
    sleep(TAKES).await;
    let (_, first) = target.try_recv().unwrap();
    assert!(
        first < 1_000,
        "it has been there since the beginning: {first}"
    );
    let next = timeout(LIMIT, target.recv()).await;
    assert_eq!(next, Ok(Some(('a', 9_999))));
}

#[tokio::test(start_paused = true)]
async fn items_that_come_at_the_same_moment_as_the_place_take_part_in_the_choice() {
    let (source, from) = mpsc::channel(1_000);
    let (to, mut target) = mpsc::channel(1);
    let _pumping = spawn_pump(from, to, BinaryHeap::new(), MANY);
    for item in [0, 1] {
        source.send(item).await.unwrap();
        sleep(TAKES).await; // 0 is in the target, and 1 waits for its place
    }
    // No other task has a turn between.
    assert_eq!(target.try_recv(), Ok(0));
    for item in 2..=300 {
        source.try_send(item).unwrap();
    }
    assert_eq!(target.recv().await, Some(300));
}

#[tokio::test(start_paused = true)]
async fn items_that_come_while_others_are_taken_in_wait_for_the_next_choice() {
    /// Each item that it takes in is followed by another: the source is never empty.
    struct Followed(VecDeque<u32>, Option<mpsc::Sender<u32>>);
    impl Waiting<u32> for Followed {
        fn count(&self) -> usize {
            self.0.len()
        }
        fn put(&mut self, item: u32) {
            self.0.push_back(item);
            let source = self.1.take_if(|_| item == 999);
            if let Some(source) = source.as_ref().or(self.1.as_ref()) {
                source.try_send(item + 1).unwrap();
            }
        }
        fn take(&mut self) -> Option<u32> {
            assert!(self.count() <= 2, "{} were taken in", self.count());
            self.0.pop_front()
        }
    }
    let (source, mut from) = mpsc::channel(1);
    let (to, mut target) = mpsc::channel(2_000);
    source.try_send(0).unwrap();
    let mut waiting = Followed(VecDeque::new(), Some(source));
    let pumping = pump(&mut from, &to, &mut waiting, NonZeroUsize::MAX).await;
    assert_eq!(pumping, Ok(()));
    assert!(drain(&mut target).into_iter().eq(0..=1_000));
}

#[tokio::test(start_paused = true)]
async fn equals_do_not_leave_a_heap_in_the_order_in_which_they_came() {
    #[derive(Debug)]
    struct Job(u32);
    impl Ord for Job {
        fn cmp(&self, _: &Self) -> Ordering {
            Ordering::Equal
        }
    }
    impl PartialOrd for Job {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }
    impl PartialEq for Job {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }
    impl Eq for Job {}
    let (to, mut target) = mpsc::channel(5);
    let mut from = ended((0..5).map(Job));
    pump(&mut from, &to, &mut BinaryHeap::new(), MANY)
        .await
        .unwrap();
    let order: Vec<_> = drain(&mut target).iter().map(|job| job.0).collect();
    assert_ne!(order, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_enormous_limit_is_no_panic() {
    let (to, mut target) = mpsc::channel(1);
    let pumping = pump(
        &mut ended([1]),
        &to,
        &mut VecDeque::new(),
        NonZeroUsize::MAX,
    )
    .await;
    assert_eq!((pumping, target.recv().await), (Ok(()), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_buffer_that_panics_loses_the_item_that_it_was_given_and_no_other() {
    struct Fragile(VecDeque<u32>);
    impl Waiting<u32> for Fragile {
        fn count(&self) -> usize {
            self.0.len()
        }
        fn put(&mut self, item: u32) {
            assert_ne!(item, 2, "no two");
            self.0.push_back(item);
        }
        fn take(&mut self) -> Option<u32> {
            self.0.pop_front()
        }
    }
    let (to, mut target) = mpsc::channel(10);
    let (mut from, mut waiting) = (ended(0..5), Fragile(VecDeque::new()));
    let pumping = AssertUnwindSafe(pump(&mut from, &to, &mut waiting, MANY));
    pumping.catch_unwind().await.unwrap_err();
    pump(&mut from, &to, &mut waiting, MANY).await.unwrap();
    assert_eq!(drain(&mut target), [0, 1, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn cancelled_a_thousand_times_it_loses_nothing() {
    let (source, mut from) = mpsc::channel(4);
    let (to, mut target) = mpsc::channel(4);
    let mut waiting = VecDeque::new();
    let mut cancelled = 0;
    let cancel_again_and_again = async {
        let limit = NonZeroUsize::new(3).unwrap();
        while timeout(TAKES / 20, pump(&mut from, &to, &mut waiting, limit))
            .await
            .is_err()
        {
            cancelled += 1;
        }
        drop(to);
    };
    let send = async move {
        for number in 0..5_001 {
            source.send(number).await.unwrap();
        }
    };
    let receive_slowly = async {
        let mut arrived = Vec::new();
        while let Some(item) = target.recv().await {
            arrived.push(item);
            sleep(TAKES / 100).await;
        }
        arrived
    };
    let ((), (), arrived) = tokio::join!(cancel_again_and_again, send, receive_slowly);
    assert!(cancelled >= 900, "{cancelled}");
    assert_eq!(arrived, (0..5_001).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pump_has_lost_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (source, from) = mpsc::channel(1);
            let (to, mut target) = mpsc::channel(1);
            let sending = tokio::spawn(async move {
                for number in 0..5 {
                    source.send(number).await.unwrap();
                    sleep(TAKES).await;
                }
            });
            let receiving = tokio::spawn(async move {
                let mut arrived = Vec::new();
                while let Some(number) = target.recv().await {
                    arrived.push(number);
                    sleep(3 * TAKES).await;
                }
                arrived
            });
            (from, to, VecDeque::new(), sending, receiving)
        },
        async |(from, to, waiting, ..)| pump(from, to, waiting, ONE).await,
        async |(mut from, to, mut waiting, sending, receiving), outcome| {
            if let Outcome::Completed(result) = outcome {
                assert_eq!(result, Ok(()));
            }
            pump(&mut from, &to, &mut waiting, ONE).await.unwrap();
            drop(to);
            sending.await.unwrap();
            assert_eq!(receiving.await.unwrap(), [0, 1, 2, 3, 4]);
        },
    )
    .await;
    assert!(points.unwrap() >= 6, "an item, or a place, five times");
}

// ------------------------------------------------------------------------- the guards of `select!`

#[tokio::test(start_paused = true)]
async fn a_false_precondition_evaluates_its_expression_each_time_and_never_polls_it() {
    let (built, polled) = (Cell::new(0), Cell::new(0));
    let start = || {
        built.set(built.get() + 1);
        async { polled.set(polled.get() + 1) }
    };
    for _ in 0..3 {
        select! {
            () = start(), if false => unreachable!(),
            () = ready(()) => {}
        }
    }
    assert_eq!((built.get(), polled.get()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_precondition_is_looked_at_once_a_turn() {
    let allowed = Cell::new(false);
    let started = Instant::now();
    let mut turns = Vec::new();
    for _ in 0..2 {
        select! {
            biased;
            () = ready(()), if allowed.get() => turns.push(("guarded", started.elapsed())),
            () = async {
                sleep(TAKES).await;
                allowed.set(true); // from here on the branch above would be ready
                sleep(TAKES).await;
            } => turns.push(("other", started.elapsed())),
        }
    }
    assert_eq!(turns, [("other", 2 * TAKES), ("guarded", 2 * TAKES)]);
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_is_refuted_drops_the_value_and_waits_for_the_others() {
    let (_sender, mut receiver) = mpsc::channel::<u32>(1);
    let started = Instant::now();
    let failing = async { Err::<u32, _>("the disk is full") };
    let seen = select! {
        Ok(number) = failing => Some(number),
        number = receiver.recv() => number,
        () = sleep(LIMIT) => None, // nobody will ever hear of the disk
    };
    assert_eq!((seen, started.elapsed()), (None, LIMIT));
}

#[tokio::test(start_paused = true)]
async fn every_branch_disabled_without_an_else_is_a_panic() {
    const MESSAGE: &str = "all branches are disabled and there is no else branch";
    let by_precondition = tokio::spawn(async {
        select! {
            () = ready(()), if false => {}
            () = pending(), if false => {}
        }
    });
    let by_pattern = tokio::spawn(async {
        let mut ended = ended::<u32>([]);
        select! {
            Some(_) = ended.recv() => {}
            () = pending(), if false => {}
        }
    });
    for task in [by_precondition, by_pattern] {
        let panic = task.await.unwrap_err().into_panic();
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        assert!(message.as_deref().unwrap().contains(MESSAGE), "{message:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_branch_disabled_with_an_else_takes_it() {
    let mut receiver = ended([1, 2]);
    let mut sum = 0;
    loop {
        select! {
            Some(number) = receiver.recv() => sum += number,
            () = pending(), if false => {}
            else => break,
        }
    }
    assert_eq!(sum, 3);
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_never_ends_keeps_the_else_from_coming() {
    let (to, _target) = mpsc::channel::<u32>(1);
    let mut from = ended([1, 2]);
    let mut sum = 0;
    let turns = async {
        loop {
            select! {
                Some(number) = from.recv() => sum += number,
                () = to.closed() => break,
                else => break,
            }
        }
    };
    timeout(LIMIT, turns).await.expect_err("it ends");
    assert_eq!(sum, 3);
}

#[tokio::test(start_paused = true)]
async fn without_its_preconditions_a_pump_reads_without_limit_and_reserves_for_nothing() {
    let (source, mut from) = mpsc::channel(1);
    let (to, _target) = mpsc::channel(2);
    let mut waiting = VecDeque::new();
    let unguarded = async {
        loop {
            select! {
                biased;
                Some(item) = from.recv() => waiting.push_back(item),
                place = to.reserve() => if let Some(item) = waiting.pop_front() {
                    place.unwrap().send(item);
                } else {
                    yield_now().await; // it comes back at once, for nothing
                },
            }
        }
    };
    let send = async {
        for number in 0..10_000 {
            source.send(number).await.unwrap();
        }
    };
    let (sent, sending) = oneshot::channel();
    let all = async {
        tokio::join!(unguarded, async {
            send.await;
            sent.send(()).unwrap();
            pending::<()>().await;
        })
    };
    select! {
        _ = all => unreachable!(),
        sent = sending => sent.unwrap(),
    }
    assert!(waiting.len() >= 9_990, "{}", waiting.len());
}
