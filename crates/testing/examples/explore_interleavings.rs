//! cargo run --example explore_interleavings
//!
//! A flag that a task waits for. Checked first and registered afterwards, it is raised unseen in
//! some order of events, and the task sleeps for ever; the other way round, in none.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::task::{Poll, Waker};

use primitives::sync::atomic::{AtomicBool, Ordering};
use primitives::sync::{Arc, Mutex};
use testing::explore_interleavings::{ExploreError, Explored, Strategy, explore, replay};

mod primitives {
    pub(crate) use shuttle::sync; // in a crate of yours, std's unless it is explored
}

#[derive(Default)]
struct Flag {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Flag {
    fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().ok().and_then(|mut waker| waker.take()) {
            waker.wake();
        }
    }

    fn register(&self, waker: &Waker) {
        if let Ok(mut place) = self.waker.lock() {
            *place = Some(waker.clone());
        }
    }

    async fn wait(&self, register_first: bool) {
        poll_fn(|cx| {
            if register_first {
                self.register(cx.waker());
            }
            if self.raised.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            self.register(cx.waker());
            Poll::Pending
        })
        .await;
    }
}

/// One thread waits, another raises the flag.
fn scenario(register_first: bool) -> impl Fn() + Send + Sync {
    move || {
        let flag = Arc::new(Flag::default());
        let raised = Arc::clone(&flag);
        shuttle::thread::spawn(move || raised.raise());
        shuttle::future::block_on(flag.wait(register_first));
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the error tells of the panic; once is enough
    let at_most = NonZeroUsize::MIN.saturating_add(10_000);
    let all = Strategy::All { at_most };
    for (name, register_first) in [
        ("check, then register", false),
        ("register, then check", true),
    ] {
        println!("{name}:");
        match explore(all, scenario(register_first)) {
            Ok(Explored { schedules }) => println!("  holds in all {schedules} orders of events"),
            Err(ExploreError::Failed {
                message,
                schedule,
                run,
            }) => {
                println!("  run {run}: {message}\n  schedule: {schedule}");
                let again = replay(&schedule, scenario(register_first));
                println!("  the same schedule fails again: {}", again.is_err());
            }
            Err(other) => println!("  {other}"),
        }
    }
}
