//! cargo run --example unbounded_queue
//!
//! A job comes each 10 ms and takes 20. After a minute: how many are held in memory, and how long
//! after it was made is the last one done?

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use antipatterns::unbounded_queue::start_worker;
use channels::work_queue::{Closed, Limits, work_queue};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);
/// The jobs of a minute.
const MINUTE: u32 = 6_000;

/// Stands for the 100 KiB of a job.
type Memory = Arc<()>;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Closed<Memory>> {
    let memory = Memory::default();
    let jobs = start_worker(|_held: Memory| sleep(20 * MS));
    for _ in 0..MINUTE {
        if jobs.send(Arc::clone(&memory)).is_err() {
            break;
        }
        sleep(10 * MS).await;
    }
    let (ended, held) = (Instant::now(), Arc::strong_count(&memory) - 1);
    while Arc::strong_count(&memory) > 1 {
        sleep(10 * MS).await;
    }
    let late = ended.elapsed().as_secs_f32();
    println!("unbounded:  {held:>5} jobs held, the last is done {late:.1} s after it was made");

    let limits = Limits {
        workers: NonZeroUsize::MIN,
        capacity: NonZeroUsize::new(100).unwrap_or(NonZeroUsize::MIN),
    };
    let (queue, mut outcomes) = work_queue(limits, |_held: Memory| sleep(20 * MS));
    let reader = tokio::spawn(async move { while outcomes.next().await.is_some() {} });
    for _ in 0..MINUTE {
        queue.push(Arc::clone(&memory)).await?;
        sleep(10 * MS).await;
    }
    let (ended, held) = (Instant::now(), Arc::strong_count(&memory) - 1);
    drop(queue);
    reader.await.ok();
    let late = ended.elapsed().as_secs_f32();
    println!("work_queue: {held:>5} jobs held, the last is done {late:.1} s after it was made");
    Ok(())
}
