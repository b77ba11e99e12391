//! What makes a future large and what keeps it small, and that a stored one is polled, replaced and
//! dropped as it should be.
#![cfg(test)] // so that the lints take the helpers for what they are
#![expect(
    clippy::large_futures,
    clippy::drop_non_drop,
    clippy::redundant_async_block,
    reason = "what makes a future large is what is tested"
)]

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::hint::black_box;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use traits::pinning::{Running, Stored, at_most, future_size};

const KIB: usize = 1_024;

/// 16 KiB, and no `Copy`.
struct Buffer([u8; 16 * KIB]);

impl Buffer {
    fn new() -> Self {
        Self([1; 16 * KIB])
    }
}

/// So many buffers, and little beside them: the compiler decides what that is.
#[track_caller]
fn assert_buffers(number: usize, size: usize) {
    let buffers = number * size_of::<Buffer>();
    assert!((buffers..buffers + KIB).contains(&size), "{size} bytes");
}

/// Suspends once.
async fn wait() {
    let mut waited = false;
    poll_fn(|cx| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Uses the buffer, so that none is there for nothing.
fn length(buffer: &Buffer) -> usize {
    black_box(&buffer.0).len()
}

async fn holds() -> usize {
    let buffer = Buffer::new();
    wait().await;
    length(&buffer)
}

#[test]
fn harm_a_buffer_is_in_the_future_also_when_it_was_last_used_or_dropped_before_the_await() {
    async fn used_before() -> usize {
        let buffer = Buffer::new();
        let length = length(&buffer);
        wait().await;
        length
    }
    async fn dropped_before() -> usize {
        let buffer = Buffer::new();
        let length = length(&buffer);
        drop(buffer);
        wait().await;
        length
    }
    assert_buffers(1, future_size(|()| holds()));
    assert_buffers(1, future_size(|()| used_before()));
    assert_buffers(1, future_size(|()| dropped_before()));
}

#[test]
fn a_buffer_that_ended_with_its_block_or_is_on_the_heap_is_not_in_the_future() {
    async fn block() -> usize {
        let length = {
            let buffer = Buffer::new();
            length(&buffer)
        };
        wait().await;
        length
    }
    async fn heap() -> usize {
        let buffer = vec![1; 16 * KIB];
        wait().await;
        black_box(&buffer).len()
    }
    assert_buffers(0, future_size(|()| block()));
    assert_buffers(0, future_size(|()| heap()));
}

#[test]
fn a_call_inside_takes_the_room_once_and_calls_in_turn_share_it() {
    async fn calls() -> usize {
        holds().await
    }
    async fn calls_both() -> usize {
        holds().await + calls().await
    }
    assert_buffers(1, future_size(|()| calls()));
    assert_buffers(1, future_size(|()| calls_both()));
}

async fn layer<T>(work: impl Future<Output = T>) -> T {
    work.await
}

#[test]
fn harm_an_argument_is_kept_twice_and_each_layer_doubles_it_again() {
    async fn takes(buffer: Buffer) -> usize {
        wait().await;
        length(&buffer)
    }
    assert_buffers(2, future_size(takes));
    let block_around = |()| {
        let work = holds();
        async move { work.await }
    };
    assert_buffers(2, future_size(block_around));
    assert_buffers(2, future_size(|()| layer(holds())));
    assert_buffers(4, future_size(|()| layer(layer(holds()))));
    assert_buffers(8, future_size(|()| layer(layer(layer(holds())))));
}

#[test]
fn a_future_that_is_made_where_it_is_awaited_or_is_boxed_is_not_kept_twice() {
    async fn made<T>(make: impl AsyncFnOnce() -> T) -> T {
        make().await
    }
    assert_buffers(1, future_size(|()| made(holds)));
    let layers = |()| made(async || made(async || made(holds).await).await);
    assert_buffers(1, future_size(layers));
    assert_buffers(0, future_size(|()| layer(layer(Box::pin(holds())))));
    async fn boxed() -> usize {
        Box::pin(holds()).await
    }
    assert_buffers(0, future_size(|()| boxed()));
    assert_eq!(size_of_val(&Box::pin(holds())), size_of::<usize>());
}

#[test]
fn a_pin_on_the_stack_of_an_async_fn_is_in_its_future_once() {
    async fn pinned() -> usize {
        let work = pin!(holds());
        work.await
    }
    assert_buffers(1, future_size(|()| pinned()));
}

#[test]
fn harm_an_enum_of_a_future_or_its_box_has_room_for_the_future() {
    enum BoxedIfLarge<F> {
        Inline(F),
        Boxed(Pin<Box<F>>),
    }
    fn boxed_if_large<F: Future>(future: F) -> BoxedIfLarge<F> {
        if size_of::<F>() > KIB {
            BoxedIfLarge::Boxed(Box::pin(future))
        } else {
            BoxedIfLarge::Inline(future)
        }
    }
    let either = boxed_if_large(holds());
    assert_buffers(1, size_of_val(&either));
    match either {
        BoxedIfLarge::Boxed(future) => assert_eq!(block_on(future), 16 * KIB),
        BoxedIfLarge::Inline(_) => panic!("it is large"),
    }
    match boxed_if_large(wait()) {
        BoxedIfLarge::Inline(future) => block_on(future),
        BoxedIfLarge::Boxed(_) => panic!("it is small"),
    }
}

#[test]
fn a_generic_function_can_choose_where_it_stores() {
    fn store<F: Future + 'static>(future: F) -> Pin<Box<dyn Future<Output = F::Output>>> {
        if size_of::<F>() > KIB {
            Box::pin(async move { Box::pin(future).await })
        } else {
            Box::pin(future)
        }
    }
    assert_eq!(block_on(store(holds())), 16 * KIB);
    assert_eq!(block_on(store(async { 7 })), 7);
}

#[test]
fn a_size_is_told_without_a_call_and_with_arguments_that_borrow() {
    async fn borrows(text: &str, bytes: &mut [u8]) -> usize {
        wait().await;
        text.len() + bytes.len()
    }
    let called = Cell::new(false);
    let size = future_size(|(text, bytes)| {
        called.set(true);
        borrows(text, bytes)
    });
    assert_eq!(size, size_of_val(&borrows("", &mut [])));
    assert!(!called.get());
    assert_eq!(future_size(|()| pending::<Buffer>()), 0);
}

#[test]
fn at_most_gives_the_future_back_as_it_is() {
    const SIZE: usize = 17 * KIB;
    assert_eq!(
        size_of_val(&at_most::<SIZE, _>(holds())),
        size_of_val(&holds())
    );
    assert_eq!(block_on(at_most::<SIZE, _>(holds())), 16 * KIB);
    // The limit itself is allowed.
    assert_eq!(block_on(at_most::<1, _>(OneByte(7))), 7);
}

/// Of one byte, and ready.
struct OneByte(u8);

impl Future for OneByte {
    type Output = u8;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
        Poll::Ready(self.0)
    }
}

#[test]
fn an_async_fn_that_calls_itself_boxes_the_call() {
    async fn count_down(from: u32) -> u32 {
        if from == 0 {
            wait().await;
            return 0;
        }
        Box::pin(count_down(from - 1)).await + 1
    }
    assert_eq!(block_on(count_down(100)), 100);
    assert_buffers(0, future_size(count_down));
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..100 {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("it does not end");
}

fn poll<T: 'static>(stored: &mut Stored<T>) -> Poll<Option<T>> {
    stored.poll(&mut Context::from_waker(Waker::noop()))
}

/// Tells how many are there.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Suspends once, and drops what it holds only when it is dropped itself.
struct Hand {
    was_polled: bool,
    _held: Alive,
}

impl Hand {
    fn holding(count: &Arc<AtomicUsize>) -> Self {
        Self {
            was_polled: false,
            _held: Alive::one_more(count),
        }
    }
}

impl Future for Hand {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<usize> {
        if mem::replace(&mut self.was_polled, true) {
            Poll::Ready(0)
        } else {
            Poll::Pending
        }
    }
}

#[test]
fn a_stored_future_goes_on_at_each_poll_and_ends_once() {
    let mut stored = Stored::default();
    assert_eq!(poll(&mut stored), Poll::Ready(None));
    let steps = async {
        wait().await;
        wait().await;
        "done"
    };
    stored.start(steps).unwrap();
    assert!(stored.is_running());
    assert_eq!(poll(&mut stored), Poll::Pending);
    assert_eq!(poll(&mut stored), Poll::Pending);
    assert!(stored.is_running());
    assert_eq!(poll(&mut stored), Poll::Ready(Some("done")));
    assert!(!stored.is_running());
    assert_eq!(poll(&mut stored), Poll::Ready(None));
}

#[test]
fn while_one_runs_another_is_given_back_or_takes_its_place() {
    let mut stored = Stored::new();
    let alive = Arc::new(AtomicUsize::new(0));
    let held = Alive::one_more(&alive);
    let first = async move {
        pending::<()>().await;
        drop(held);
        1
    };
    stored.start(first).unwrap();
    assert_eq!(poll(&mut stored), Poll::Pending);
    let Err(refused) = stored.start(async { 2 }) else {
        panic!("there are two of them");
    };
    assert!(refused.to_string().contains("has not ended"));
    let Running(second) = refused;
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    assert!(stored.replace(second), "the first had not ended");
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert_eq!(poll(&mut stored), Poll::Ready(Some(2)));
    assert!(!stored.replace(async { 3 }), "the second had ended");
    assert_eq!(poll(&mut stored), Poll::Ready(Some(3)));
}

#[test]
fn one_that_is_cancelled_or_whose_owner_is_dropped_is_dropped() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut stored = Stored::new();
    let hand = || Hand::holding(&alive);
    stored.start(hand()).unwrap();
    assert_eq!(poll(&mut stored), Poll::Pending);
    assert!(stored.cancel());
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert!(!stored.is_running() && !stored.cancel());
    assert_eq!(poll(&mut stored), Poll::Ready(None));

    stored.start(hand()).unwrap();
    drop(stored);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn one_that_has_ended_stays_until_the_next_and_an_async_fn_holds_nothing_then() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut stored = Stored::new();
    stored.start(Hand::holding(&alive)).unwrap();
    assert_eq!(poll(&mut stored), Poll::Pending);
    assert!(poll(&mut stored).is_ready());
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    assert!(!stored.cancel());
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    let held = Alive::one_more(&alive);
    let block = async move { Arc::strong_count(&held.0) };
    stored.start(block).unwrap();
    assert_eq!(poll(&mut stored), Poll::Ready(Some(2)));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn futures_of_one_size_take_the_same_allocation() {
    let places = Arc::new(Mutex::new(Vec::new()));
    let note_place = || {
        let places = Arc::clone(&places);
        async move {
            let here = 7_u8;
            places.lock().unwrap().push(&raw const here as usize);
            wait().await;
            here
        }
    };
    let mut stored = Stored::new();
    for _ in 0..3 {
        stored.start(note_place()).unwrap();
        assert_eq!(poll(&mut stored), Poll::Pending);
        stored.replace(note_place()); // while the other is there
        assert_eq!(poll(&mut stored), Poll::Pending);
        assert_eq!(poll(&mut stored), Poll::Ready(Some(7)));
    }
    let places = places.lock().unwrap();
    assert_eq!(*places, [places[0]; 6]);
}

#[test]
fn one_that_panics_has_ended() {
    let mut stored = Stored::new();
    let panics = async {
        wait().await;
        panic!("half way")
    };
    stored.start(panics).unwrap();
    assert_eq!(poll(&mut stored), Poll::Pending);
    catch_unwind(AssertUnwindSafe(|| poll(&mut stored))).unwrap_err();
    assert!(!stored.is_running());
    assert_eq!(poll(&mut stored), Poll::Ready(None));
    stored.start(async { 7 }).unwrap();
    assert_eq!(poll(&mut stored), Poll::Ready(Some(7)));
}

#[test]
fn one_whose_drop_panics_has_ended_when_it_is_cancelled_or_replaced() {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("in the drop");
        }
    }
    for replace in [false, true] {
        let mut stored = Stored::new();
        let panics = PanicsWhenDropped;
        let future = async move {
            let _panics = panics;
            pending::<u8>().await
        };
        stored.start(future).unwrap();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            if replace {
                stored.replace(async { 1 })
            } else {
                stored.cancel()
            }
        }));
        ended.unwrap_err();
        assert!(!stored.is_running());
        assert_eq!(poll(&mut stored), Poll::Ready(None));
        stored.start(async { 7 }).unwrap();
        assert_eq!(poll(&mut stored), Poll::Ready(Some(7)));
    }
}

#[test]
fn the_waker_is_passed_on() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut stored = Stored::new();
    stored.start(wait()).unwrap();
    assert!(stored.poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
}

#[test]
fn it_can_be_shared_and_moved_although_its_future_cannot() {
    fn is<T: Send + Sync + Unpin>(_: &T) {}
    let mut stored = Stored::new();
    is(&stored);
    stored
        .start(async {
            let not_sync = Cell::new(1);
            wait().await;
            not_sync.get()
        })
        .unwrap();
    assert_eq!(poll(&mut stored), Poll::Pending);
    let mut moved = vec![stored];
    assert_eq!(poll(&mut moved[0]), Poll::Ready(Some(1)));
    assert_eq!(format!("{moved:?}"), "[Stored { is_running: false, .. }]");
    assert_eq!(format!("{:?}", Running(wait())), "Running(..)");
}
