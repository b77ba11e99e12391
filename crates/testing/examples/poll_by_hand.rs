//! cargo run --example poll_by_hand
//!
//! Three futures by hand wait for the same bell. Each is right when one task awaits it and nothing
//! else happens; polled by hand, two are found out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use testing::poll_by_hand::check_wakeups;

#[derive(Default)]
struct Bell {
    rung: bool,
    waker: Option<Waker>,
}

/// What it does with its waker while it waits.
type Store = fn(&mut Option<Waker>, &Waker);

struct Rings {
    bell: Arc<Mutex<Bell>>,
    store: Store,
}

impl Future for Rings {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        if bell.rung {
            return Poll::Ready(());
        }
        (self.store)(&mut bell.waker, cx.waker());
        Poll::Pending
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let ways: [(&str, Store); 3] = [
        ("wakes itself", |_, waker| waker.wake_by_ref()),
        ("keeps the first waker", |stored, waker| {
            stored.get_or_insert_with(|| waker.clone());
        }),
        ("keeps the last waker", |stored, waker| {
            *stored = Some(waker.clone());
        }),
    ];
    for (name, store) in ways {
        let setup = || {
            let bell = Arc::<Mutex<Bell>>::default();
            let rung = Arc::clone(&bell);
            (Rings { bell, store }, rung)
        };
        let ring = async |bell: Arc<Mutex<Bell>>| {
            let waker = {
                let mut bell = bell.lock().unwrap_or_else(PoisonError::into_inner);
                bell.rung = true;
                bell.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake(); // without the lock
            }
        };
        match check_wakeups(setup, ring).await {
            Ok(counted) => println!("{name}: {counted:?}"),
            Err(fault) => println!("{name}: {fault}"),
        }
    }
}
