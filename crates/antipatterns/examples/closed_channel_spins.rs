//! cargo run --example closed_channel_spins
//!
//! A connection that has ended, and another task on the same thread that has a hundred turns: how
//! often is the connection asked meanwhile?

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::closed_channel_spins::serve;
use futures_util::stream::poll_fn;
use select::event_loop::{Settings, ZeroPeriod, event_loop};
use tokio::sync::mpsc::channel;
use tokio::task::yield_now;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), ZeroPeriod> {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let spinning = tokio::spawn(async move {
        let (_, mut messages) = channel::<()>(1);
        let connection = poll_fn(|cx| {
            counter.fetch_add(1, Ordering::Relaxed);
            messages.poll_recv(cx)
        });
        let mut ticks = interval_at(Instant::now() + HOUR, HOUR);
        serve(connection, &mut ticks, drop, || ()).await;
    });
    for _ in 0..100 {
        yield_now().await;
    }
    println!("if let Some: asked {} times", asked.load(Ordering::Relaxed));
    spinning.abort();

    let (_, mut messages) = channel::<()>(1);
    let (period, grace) = (HOUR, HOUR);
    let (settings, stop) = (Settings { period, grace }, CancellationToken::new());
    let ended = event_loop(settings, &mut messages, &stop, async |()| (), async || ()).await?;
    println!("event_loop:  ended, since {:?}", ended.reason);
    Ok(())
}
