//! What the pool promises. Its threads are real: the tests wait for what happens, with a limit that
//! only a failure reaches.
#![cfg(test)]

use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use runtime::cpu_offload::{CpuPool, JobError};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

fn pool(jobs: usize) -> CpuPool {
    CpuPool::new(NonZeroUsize::new(jobs).unwrap())
}

/// Computes until it is told to stop; whether it was, or `LIMIT` passed.
fn compute_until(stop: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !stop() {
        if began.elapsed() > LIMIT {
            return false;
        }
    }
    true
}

/// A job that tells when it has begun and runs until the sender is gone, its flag ignored.
fn stubborn() -> (
    SyncSender<()>,
    oneshot::Receiver<()>,
    impl FnOnce(&CancellationToken) + Send,
) {
    let (release, released) = sync_channel::<()>(0);
    let (tell, begun) = oneshot::channel();
    let job = move |_: &CancellationToken| {
        tell.send(()).unwrap();
        released.recv_timeout(LIMIT).ok();
    };
    (release, begun, job)
}

#[tokio::test]
async fn results_and_panics_come_back() {
    let pool = pool(1);
    assert_eq!(pool.run(|_| 6 * 7).await, Ok(42));
    let number = 7;
    for _ in 0..3 {
        let panicked: Result<(), _> = pool.run(move |_| panic!("no {number}")).await;
        assert_eq!(panicked, Err(JobError::Panicked("no 7".to_owned())));
    }
    let after = timeout(LIMIT, pool.run(|_| 1)).await;
    assert_eq!(after.expect("a panic kept the only place"), Ok(1));
}

/// The job ends when a timer has fired, many times over: where it held timers up, it would not.
async fn compute_until_a_timer_has_fired() -> bool {
    let fired = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&fired);
    let timer = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(1)).await;
            fired.fetch_add(1, Ordering::Relaxed);
        }
    });
    let job = move |_: &CancellationToken| compute_until(|| seen.load(Ordering::Relaxed) >= 20);
    let in_time = pool(1).run(job).await.unwrap();
    timer.abort();
    in_time
}

#[test]
fn timers_fire_while_a_job_computes() {
    for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let test = runtime.spawn(compute_until_a_timer_has_fired());
        assert!(runtime.block_on(test).unwrap());
    }
}

#[tokio::test]
async fn the_same_computation_on_the_runtime_holds_timers_up() {
    let began = Instant::now();
    let timer = tokio::spawn(async move {
        sleep(Duration::from_millis(1)).await;
        began.elapsed()
    });
    yield_now().await; // the timer runs
    assert!(compute_until(|| began.elapsed() >= 2 * SHORT));
    assert!(timer.await.unwrap() >= 2 * SHORT);
}

/// Counts how many run at once, and holds them until the gate is open.
#[derive(Default)]
struct Counter {
    now: AtomicUsize,
    peak: AtomicUsize,
    done: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Counter {
    fn job(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs 2,000 jobs by `start`. How many had begun before one could end, and how many ended.
    async fn count(most: usize, start: impl Fn(Arc<Self>, &mut JoinSet<()>)) -> (usize, usize) {
        let counter = Arc::new(Self::default());
        let mut jobs = JoinSet::new();
        for _ in 0..2_000 {
            start(Arc::clone(&counter), &mut jobs);
        }
        let began = Instant::now();
        while counter.now.load(Ordering::SeqCst) < most && began.elapsed() < LIMIT {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(SHORT).await; // more would begin now
        let peak = counter.peak.load(Ordering::SeqCst);
        #[cfg(target_os = "linux")]
        assert!(threads_of_this_process() > peak);
        *counter.open.lock().unwrap() = true;
        counter.opened.notify_all();
        jobs.join_all().await;
        (
            peak.max(counter.peak.load(Ordering::SeqCst)),
            counter.done.load(Ordering::SeqCst),
        )
    }
}

#[cfg(target_os = "linux")]
fn threads_of_this_process() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test]
async fn two_thousand_jobs_run_no_more_at_once_than_asked_for() {
    let pool = pool(3);
    let counted = Counter::count(3, |counter, jobs| {
        let pool = pool.clone();
        jobs.spawn(async move { pool.run(move |_| counter.job()).await.unwrap() });
    });
    assert_eq!(counted.await, (3, 2_000));
}

#[tokio::test]
async fn two_thousand_bare_closures_run_on_512_threads() {
    let counted = Counter::count(512, |counter, jobs| {
        jobs.spawn_blocking(move || counter.job());
    });
    assert_eq!(counted.await, (512, 2_000));
}

#[tokio::test]
async fn per_core_runs_as_many_as_there_are_cores() {
    let cores = thread::available_parallelism().unwrap().get();
    let pool = CpuPool::per_core();
    let counted = Counter::count(cores, |counter, jobs| {
        let pool = pool.clone();
        jobs.spawn(async move { pool.run(move |_| counter.job()).await.unwrap() });
    });
    assert_eq!(counted.await, (cores, 2_000));
}

#[tokio::test]
async fn an_enormous_limit_is_no_panic() {
    assert_eq!(pool(usize::MAX).run(|_| 7).await, Ok(7));
}

#[tokio::test]
async fn a_job_whose_caller_has_left_is_told_to_stop() {
    let (tell, told) = oneshot::channel();
    let (begin, begun) = oneshot::channel();
    let pool = pool(1);
    let job = pool.run(move |cancelled| {
        begin.send(()).unwrap();
        tell.send(compute_until(|| cancelled.is_cancelled()))
            .unwrap();
    });
    tokio::select! {
        _ = job => panic!("nobody told it to stop"),
        begun = begun => begun.unwrap(),
    }
    assert!(
        timeout(2 * LIMIT, told).await.unwrap().unwrap(),
        "its flag was not set"
    );
    assert_eq!(timeout(LIMIT, pool.run(|_| 7)).await.unwrap(), Ok(7));
}

#[tokio::test]
async fn a_job_whose_caller_waits_is_not_told_to_stop() {
    let flag = pool(1).run(CancellationToken::is_cancelled).await;
    assert_eq!(flag, Ok(false));
}

#[tokio::test]
async fn abort_does_not_stop_a_closure_that_runs() {
    let (release, begun, job) = stubborn();
    let (tell, ended) = oneshot::channel();
    let closure = spawn_blocking(move || {
        job(&CancellationToken::new());
        tell.send(()).unwrap();
    });
    begun.await.unwrap();
    closure.abort();
    drop(release);
    timeout(LIMIT, ended)
        .await
        .unwrap()
        .expect("it was stopped");
    closure.await.expect("it was not cancelled either");
}

#[tokio::test]
async fn a_job_keeps_its_place_until_it_returns_though_its_caller_has_left() {
    let pool = pool(1);
    let (release, begun, job) = stubborn();
    tokio::select! {
        _ = pool.run(job) => panic!("it ended"),
        begun = begun => begun.unwrap(),
    }
    let second = pool.run(|_| 7);
    tokio::pin!(second);
    timeout(SHORT, &mut second)
        .await
        .expect_err("two jobs run in one place");
    drop(release);
    assert_eq!(timeout(LIMIT, second).await.unwrap(), Ok(7));
}

#[tokio::test]
async fn a_permit_in_the_callers_hands_is_free_while_its_closure_still_runs() {
    let permits = Semaphore::new(1);
    let (release, begun, job) = stubborn();
    let naive = async {
        let _permit = permits.acquire().await.unwrap();
        spawn_blocking(move || job(&CancellationToken::new()))
            .await
            .unwrap();
    };
    tokio::select! {
        () = naive => panic!("it ended"),
        begun = begun => begun.unwrap(),
    }
    assert_eq!(permits.available_permits(), 1);
    drop(release);
}

#[tokio::test]
async fn a_job_that_waits_for_its_place_in_vain_is_never_run() {
    let pool = pool(1);
    let (release, begun, job) = stubborn();
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.run(job).await }
    });
    begun.await.unwrap();
    let (ran, told) = sync_channel::<()>(1);
    let waiting = pool.run(move |_| ran.send(()));
    timeout(SHORT, waiting)
        .await
        .expect_err("there is no place");
    drop(release);
    first.await.unwrap().unwrap();
    assert_eq!(told.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_job_that_waits_for_a_thread_in_vain_is_never_run() {
    let mut builder = Builder::new_current_thread();
    let runtime = builder
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, released) = sync_channel::<()>(0);
    let busy = runtime.spawn_blocking(move || released.recv_timeout(LIMIT).is_ok());
    let (ran, told): (_, Receiver<()>) = sync_channel(1);
    runtime.block_on(async {
        let waiting = async { pool(1).run(move |_| ran.send(())).await };
        timeout(SHORT, waiting)
            .await
            .expect_err("there is no thread");
        drop(release);
        busy.await.unwrap();
    });
    assert_eq!(
        told.recv_timeout(LIMIT),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[tokio::test]
async fn jobs_run_in_the_order_in_which_they_were_awaited() {
    let pool = pool(1);
    let (tell, mut order) = mpsc::channel(10);
    let jobs: Vec<_> = (0..10)
        .map(|number| {
            let (pool, tell) = (pool.clone(), tell.clone());
            async move { pool.run(move |_| tell.blocking_send(number)).await }
        })
        .map(tokio::spawn)
        .collect();
    for job in jobs {
        job.await.unwrap().unwrap().unwrap();
    }
    drop(tell);
    let mut seen = Vec::new();
    order.recv_many(&mut seen, 10).await;
    assert_eq!(seen, Vec::from_iter(0..10));
}

#[tokio::test]
async fn a_job_that_waits_for_another_of_its_pool_can_wait_for_ever() {
    let pool = pool(1);
    let (inner, runtime) = (pool.clone(), Handle::current());
    let nested = pool.run(move |_| runtime.block_on(timeout(SHORT, inner.run(|_| 7))));
    nested.await.unwrap().expect_err("there was a second place");
}

#[tokio::test]
async fn a_job_is_an_error_when_its_runtime_has_shut_down() {
    let gone = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let handle = gone.handle().clone();
    gone.shutdown_background();
    let _entered = handle.enter();
    assert_eq!(pool(1).run(|_| 7).await, Err(JobError::RuntimeGone));
}

#[test]
fn a_runtime_that_shuts_down_tells_its_jobs_to_stop() {
    let runtime = Runtime::new().unwrap();
    let (begin, begun) = sync_channel(0);
    let (tell, told) = sync_channel(1);
    drop(runtime.spawn(async move {
        let job = move |cancelled: &CancellationToken| {
            begin.send(()).unwrap();
            tell.send(compute_until(|| cancelled.is_cancelled()))
                .unwrap();
        };
        pool(1).run(job).await
    }));
    begun.recv_timeout(LIMIT).unwrap();
    drop(runtime); // waits for the job
    assert_eq!(told.try_recv(), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_advance_while_a_job_runs() {
    let (release, released) = sync_channel::<()>(0);
    let began = Instant::now();
    let pool = pool(1);
    let job = pool.run(move |_| released.recv_timeout(2 * SHORT));
    let ended = timeout(Duration::from_millis(1), job).await;
    assert_eq!(
        ended.expect("the time limit fired"),
        Ok(Err(RecvTimeoutError::Timeout))
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    drop(release);
    timeout(Duration::from_millis(1), pending::<()>())
        .await
        .unwrap_err(); // now it advances
    assert_eq!(began.elapsed(), Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_leaves_no_place_taken_and_no_job_half_done() {
    let points = every_await_point(
        LIMIT,
        async || (pool(1), Arc::new(AtomicUsize::new(0))),
        async |(pool, steps)| {
            for _ in 0..2 {
                let steps = Arc::clone(steps);
                let job = move |_: &CancellationToken| {
                    steps.fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                    steps.fetch_add(1, Ordering::SeqCst)
                };
                pool.run(job).await.unwrap();
            }
        },
        async |(pool, steps), round| {
            // With one place, this job comes after whatever became of the others.
            let steps = pool
                .run(move |_| steps.load(Ordering::SeqCst))
                .await
                .unwrap();
            match round {
                Outcome::Completed(()) => assert_eq!(steps, 4),
                Outcome::Dropped(_) => assert!([0, 2, 4].contains(&steps), "{steps} steps"),
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 2);
}
