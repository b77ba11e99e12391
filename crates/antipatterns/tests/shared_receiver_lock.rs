//! How many of several workers work.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use antipatterns::shared_receiver_lock::start_workers;
use channels::work_queue::{Limits, work_queue};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const TAKES: Duration = Duration::from_millis(100);

/// How many are at work, and the most that ever were.
#[derive(Debug, Clone, Default)]
struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    async fn work(self) {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        sleep(TAKES).await;
        now.fetch_sub(1, Ordering::Relaxed);
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::Relaxed)
    }
}

fn eight_jobs(gauge: &Gauge) -> Receiver<Gauge> {
    let (sender, jobs) = channel(8);
    (0..8).for_each(|_| sender.try_send(gauge.clone()).ok().unwrap());
    jobs
}

#[tokio::test(start_paused = true)]
async fn harm_four_workers_work_one_at_a_time() {
    let (gauge, started) = (Gauge::default(), Instant::now());
    let workers = start_workers(4, eight_jobs(&gauge), Gauge::work);
    workers.join_all().await;
    assert_eq!((started.elapsed(), gauge.most()), (8 * TAKES, 1));
}

#[tokio::test(start_paused = true)]
async fn mended_in_a_line_of_its_own_the_lock_is_held_for_the_receiving_only() {
    let (gauge, started) = (Gauge::default(), Instant::now());
    let jobs = Arc::new(Mutex::new(eight_jobs(&gauge)));
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let jobs = Arc::clone(&jobs);
        workers.spawn(async move {
            loop {
                let job = jobs.lock().await.recv().await;
                let Some(job) = job else { return };
                job.work().await;
            }
        });
    }
    workers.join_all().await;
    assert_eq!((started.elapsed(), gauge.most()), (2 * TAKES, 4));
}

#[tokio::test(start_paused = true)]
async fn mended_four_workers_of_a_work_queue_work_at_once() {
    let (gauge, started) = (Gauge::default(), Instant::now());
    let limits = Limits {
        workers: NonZeroUsize::new(4).unwrap(),
        capacity: NonZeroUsize::new(8).unwrap(),
    };
    let (queue, mut outcomes) = work_queue(limits, Gauge::work);
    for _ in 0..8 {
        queue.push(gauge.clone()).await.unwrap();
    }
    drop(queue);
    while let Some(outcome) = outcomes.next().await {
        outcome.result.unwrap();
    }
    assert_eq!((started.elapsed(), gauge.most()), (2 * TAKES, 4));
}
