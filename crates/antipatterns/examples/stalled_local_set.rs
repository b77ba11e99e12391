//! cargo run --example stalled_local_set
//!
//! A counter in an `Rc`, which counts changes: 100 during the start, 100 while serving. In a
//! `LocalSet` that is awaited during the start only, and on a thread of its own.

use std::cell::Cell;
use std::error::Error;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use antipatterns::stalled_local_set::with_local_state;
use tasks::local_tasks::local_tasks;
use tokio::sync::mpsc::Sender;
use tokio::task::yield_now;
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn in_a_local_set() {
    let (applied, sent) = (Rc::new(Cell::new(0)), Cell::new(0));
    let send = async |changes: &Sender<()>| {
        for _ in 0..100 {
            if changes.send(()).await.is_ok() {
                sent.set(sent.get() + 1);
            }
        }
        while changes.capacity() < changes.max_capacity() {
            yield_now().await; // until all are taken
        }
    };
    let apply = |applied: &mut Rc<Cell<u32>>, ()| applied.set(applied.get() + 1);
    let all = with_local_state(Rc::clone(&applied), apply, &send, &send);
    let ended = timeout(Duration::from_secs(60 * 60), all).await;
    let (sent, applied) = (sent.get(), applied.get());
    let ended = ended.map_or("no end after an hour", |()| "all sent");
    println!("LocalSet:    {sent} sent, {applied} applied, {ended}");
}

#[tokio::main]
async fn on_a_thread_of_its_own() -> Result<(), Box<dyn Error>> {
    let apply = async |applied: &Rc<Cell<u32>>, ()| applied.replace(applied.get() + 1) + 1;
    let (state, thread) = local_tasks(NonZeroUsize::MIN, Rc::default, apply).await?;
    let mut applied = 0;
    for _ in 0..200 {
        applied = state.call(()).await?;
    }
    println!("local_tasks: 200 sent, {applied} applied, all sent");
    Ok(thread.stop().await?)
}

fn main() -> Result<(), Box<dyn Error>> {
    in_a_local_set();
    on_a_thread_of_its_own()
}
