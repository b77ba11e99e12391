//! What becomes of a `sleep` that each turn of a loop makes anew.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::time::Duration;

use antipatterns::rebuilt_sleep::{limited_session, session};
use timers::deadline::Deadline;
use timers::schedule_at::IdleTimeout;
use tokio::select;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, interval, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A message each `period`, without end.
fn messages_each(period: Duration) -> Receiver<()> {
    let (sender, messages) = channel(1);
    tokio::spawn(async move {
        loop {
            sleep(period).await;
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    messages
}

#[tokio::test(start_paused = true)]
async fn harm_a_ping_keeps_a_silent_session_open_for_ever() {
    let (_silent, mut messages) = channel::<()>(1);
    let (mut pings, mut sent) = (interval(20 * SECOND), 0);
    let session = session(&mut messages, 60 * SECOND, &mut pings, drop, || sent += 1);
    timeout(DAY - SECOND, session).await.unwrap_err();
    assert_eq!(sent, 4_320);
}

#[tokio::test(start_paused = true)]
async fn harm_without_a_ping_it_is_right_so_its_test_passes() {
    let (_silent, mut messages) = channel::<()>(1);
    let (mut never, started) = (interval(DAY), Instant::now());
    never.tick().await;
    session(&mut messages, 60 * SECOND, &mut never, drop, || ()).await;
    assert_eq!(started.elapsed(), 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn harm_a_limit_on_the_whole_lasts_as_long_as_messages_come() {
    let mut handled = 0;
    let mut messages = messages_each(60 * SECOND);
    let session = limited_session(&mut messages, 300 * SECOND, |()| handled += 1);
    timeout(DAY + SECOND, session).await.unwrap_err();
    assert_eq!(handled, 1_440);
}

#[tokio::test(start_paused = true)]
async fn mended_the_idle_timeout_comes_beside_the_pings() {
    let (_silent, mut messages) = channel::<()>(1);
    let (mut pings, mut sent, started) = (interval(20 * SECOND), 0, Instant::now());
    let idle = IdleTimeout::new(59 * SECOND);
    loop {
        select! {
            Some(()) = messages.recv() => idle.touch(),
            _ = pings.tick() => sent += 1,
            () = idle.expired() => break,
        }
    }
    assert_eq!((started.elapsed(), sent), (59 * SECOND, 3));
}

#[tokio::test(start_paused = true)]
async fn mended_a_deadline_ends_a_session_in_which_messages_come() {
    let mut messages = messages_each(60 * SECOND);
    let (mut handled, started) = (0, Instant::now());
    let whole = Deadline::within("session", 299 * SECOND);
    let session = async {
        while messages.recv().await.is_some() {
            handled += 1;
        }
    };
    whole.run("messages", session).await.unwrap_err();
    assert_eq!((started.elapsed(), handled), (299 * SECOND, 4));
}
