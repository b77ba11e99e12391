//! # Local tasks: !Send state shared by Rc on a thread of its own
//!
//! State that must stay on one thread, such as an `Rc` or an embedded interpreter, and many tasks
//! that share it. A thread with a `LocalRuntime` owns the state; jobs come from any task of any
//! runtime, each becomes a local task, and its answer goes back. Between two awaits a task has the
//! state to itself: no locks.
//!
//! ## Use it when
//! - the state "cannot be sent between threads safely", as the compiler puts it (`!Send`), its users
//!   are many, and their work waits more than it computes.
//!
//! ## Use something else when
//! - the whole program fits on one thread: `#[tokio::main(flavor = "local")]` and `spawn_local`, as
//!   in `current_thread`;
//! - the state is `Send`: `request_reply` keeps it in a task, `short_lock` shares it;
//! - jobs compute for long: each keeps all others waiting, so `cpu_offload`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features macros,rt,sync
//! ```
//!
//! ## Watch out
//! - A `RefCell` borrowed across an await panics in the next task that borrows it. Clippy's
//!   `await_holding_refcell_ref` finds it; switch it on.
//! - After a panic the state is as the panicked task left it, perhaps half changed.
//! - A job that blocks or never awaits stops all the others.
//! - A bare `LocalSet` runs its tasks only while the set is awaited: see `stalled_local_set`.

use std::any::Any;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::runtime::LocalRuntime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// The way to the thread and its state. Clone it for each caller.
#[derive(Debug)]
pub struct LocalTasks<J, R> {
    jobs: mpsc::Sender<Job<J, R>>,
}

/// Owns the thread. **Dropping it stops the thread and its tasks** at their next await.
#[derive(Debug)]
pub struct LocalThread {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<io::Result<()>>,
}

/// Why a job has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The work panicked. Other jobs go on, with the state as this one left it.
    #[error("the local task panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The thread was stopped.
    #[error("the thread for local tasks has stopped")]
    Stopped,
}

/// A job, and the way back to its caller.
type Job<J, R> = (J, oneshot::Sender<Result<R, CallError>>);

/// Starts a thread, makes the state there, and runs `work` with the state for each job, no more
/// than `limit` jobs at once.
///
/// # Errors
///
/// If the system refuses the thread or its runtime, or `state` panics.
///
/// # Cancel safety
///
/// Dropped before it is done, it stops the thread.
pub async fn local_tasks<S: 'static, J: Send + 'static, R: Send + 'static>(
    limit: NonZeroUsize,
    state: impl FnOnce() -> S + Send + 'static,
    work: impl AsyncFn(&S, J) -> R + Send + 'static,
) -> io::Result<(LocalTasks<J, R>, LocalThread)> {
    let (jobs, job_receiver) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel();
    let (started, has_started) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let serve = move || {
        let runtime = LocalRuntime::new()?;
        let state = runtime.block_on(async {
            let state = Rc::new(state());
            started.send(()).ok(); // if nobody waits for it, `stopped` is ready too
            tokio::select! {
                _ = stopped => {}
                () = serve(limit, Rc::clone(&state), Rc::new(work), job_receiver) => {}
            }
            state
        });
        drop(runtime); // and the tasks with it: the state goes last
        drop(state);
        Ok(())
    };
    let thread = thread::Builder::new().name("local-tasks".to_owned());
    thread.spawn(move || {
        let served = catch_unwind(AssertUnwindSafe(serve));
        let panicked = |panic| Err(io::Error::other(message(panic)));
        end.send(served.unwrap_or_else(panicked)).ok(); // nobody has to wait for the end
    })?;
    let thread = LocalThread { stop, ended };
    if has_started.await.is_ok() {
        return Ok((LocalTasks { jobs }, thread));
    }
    let ended = thread.stop().await.err();
    Err(ended.unwrap_or_else(|| io::Error::other("the thread ended at once")))
}

/// Makes each job a local task until nobody is left to send one.
async fn serve<S: 'static, J: 'static, R: 'static>(
    limit: NonZeroUsize,
    state: Rc<S>,
    work: Rc<impl AsyncFn(&S, J) -> R + 'static>,
    mut jobs: mpsc::Receiver<Job<J, R>>,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            job = jobs.recv(), if tasks.len() < limit.get() => match job {
                Some(job) => {
                    tasks.spawn_local(run(Rc::clone(&state), Rc::clone(&work), job));
                }
                None => return, // no caller is left, so no task has anybody to answer to
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn run<S, J, R>(state: Rc<S>, work: Rc<impl AsyncFn(&S, J) -> R>, job: Job<J, R>) {
    let (input, mut reply) = job;
    let answer = AssertUnwindSafe(async { work(&state, input).await }).catch_unwind();
    tokio::select! {
        biased; // a job whose caller has gone does not even start
        () = reply.closed() => {}
        answer = answer => {
            let panicked = |panic| CallError::Panicked { message: message(panic) };
            reply.send(answer.map_err(panicked)).ok(); // the caller may go at the last moment
        }
    }
}

impl<J, R> LocalTasks<J, R> {
    /// Sends a job to the thread and waits for its answer; while as many jobs as the limit allows
    /// are under way, it waits for its turn.
    ///
    /// # Errors
    ///
    /// [`CallError`], if the work panicked or the thread was stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it stops the job at its next await, or it is never begun.
    pub async fn call(&self, input: J) -> Result<R, CallError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.jobs.send((input, reply)).await;
        sent.map_err(|_| CallError::Stopped)?;
        answer.await.unwrap_or(Err(CallError::Stopped))
    }
}

impl<J, R> Clone for LocalTasks<J, R> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
        }
    }
}

impl LocalThread {
    /// Stops the thread and waits until its tasks and its state are dropped. A job that never
    /// awaits makes it wait: bound it by a timeout.
    ///
    /// # Errors
    ///
    /// If the state's destructor panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, the thread stops all the same.
    pub async fn stop(self) -> io::Result<()> {
        drop(self.stop);
        self.ended.await.unwrap_or(Ok(()))
    }
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
