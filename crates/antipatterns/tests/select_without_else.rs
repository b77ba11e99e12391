//! What a `select!` does that has no branch left.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use antipatterns::select_without_else::buffer;
use select::guarded_branches::{TargetClosed, pump};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinError;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);
const TEN: NonZeroUsize = NonZeroUsize::new(10).unwrap();

/// A hundred items, without a sender, each of which counts as long as it is somewhere.
fn items(item: &Arc<()>) -> Receiver<Arc<()>> {
    let (sender, items) = channel(100);
    (0..100).for_each(|_| sender.try_send(Arc::clone(item)).unwrap());
    items
}

fn assert_panicked(ended: Result<(), JoinError>) {
    let panic = ended.unwrap_err().into_panic();
    let message = panic.downcast_ref::<&str>().copied().unwrap_or_default();
    assert_eq!(
        message,
        "all branches are disabled and there is no else branch"
    );
}

#[tokio::test]
async fn harm_a_regular_end_is_a_panic() {
    let (to, mut target) = channel(100);
    let ended = tokio::spawn(buffer(items(&Arc::default()), to, 10)).await;
    assert_panicked(ended);
    assert_eq!(target.len(), 100, "everything was moved");
    target.recv().await.unwrap();
}

#[tokio::test]
async fn harm_a_closed_target_is_a_panic_that_takes_the_buffer_along() {
    let item = Arc::new(());
    let (to, target) = channel(100);
    let mut from = items(&item);
    from.close();
    drop(target);
    assert_panicked(tokio::spawn(buffer(from, to, 10)).await);
    assert_eq!(
        Arc::strong_count(&item),
        1,
        "of 100, these in the buffer and those behind it"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_with_a_sender_left_it_goes_on_so_its_test_passes() {
    let (sender, from) = channel(10);
    let (to, mut target) = channel(10);
    let task = tokio::spawn(buffer(from, to, 10));
    for item in 0..100 {
        sender.send(item).await.unwrap();
        assert_eq!(target.recv().await, Some(item));
    }
    timeout(LIMIT, task).await.unwrap_err();
}

#[tokio::test]
async fn mended_the_end_is_an_end_and_a_closed_target_an_error() {
    let item = Arc::new(());
    let (to, target) = channel(100);
    let mut waiting = VecDeque::new();
    assert_eq!(
        pump(&mut items(&item), &to, &mut waiting, TEN).await,
        Ok(())
    );
    assert_eq!(target.len(), 100);
    drop(target);

    let mut from = items(&item);
    let ended = pump(&mut from, &to, &mut waiting, TEN).await;
    assert_eq!(ended, Err(TargetClosed));
    assert_eq!(from.len() + waiting.len(), 100, "nothing is lost");
}
