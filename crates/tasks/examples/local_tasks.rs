//! cargo run --example local_tasks
//!
//! A cache in an `Rc`, on a thread of its own, used by the tasks of a multi-thread runtime. The
//! first caller for a page loads it while the second waits for it; a malformed name panics, and the
//! cache goes on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::rc::Rc;

use tasks::local_tasks::{LocalTasks, local_tasks};
use tokio::sync::OnceCell;

/// Neither `Send` nor `Sync`, and no lock in it.
type Cache = RefCell<HashMap<String, Rc<OnceCell<usize>>>>;

async fn length(cache: &Cache, page: String) -> usize {
    assert!(!page.is_empty(), "a page without a name");
    let entry = Rc::clone(cache.borrow_mut().entry(page.clone()).or_default());
    // The borrow ends with the line above: other tasks use the cache during this await.
    let load = async || {
        println!("loading {page}");
        tokio::task::yield_now().await;
        page.len() * 100
    };
    *entry.get_or_init(load).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the answer tells of the panic; once is enough
    let ten = NonZeroUsize::MIN.saturating_add(9);
    let (cache, thread) = local_tasks(ten, Cache::default, length).await?;

    let ask = |cache: &LocalTasks<String, usize>, page: &str| {
        let (cache, page) = (cache.clone(), page.to_owned());
        tokio::spawn(async move { cache.call(page).await })
    };
    let callers = ["news", "news", "", "news"].map(|page| (page, ask(&cache, page)));
    for (page, answer) in callers {
        match answer.await? {
            Ok(length) => println!("{page}: {length} bytes"),
            Err(error) => println!("{error}"),
        }
    }

    thread.stop().await?;
    if let Err(error) = cache.call("late".to_owned()).await {
        println!("{error}");
    }
    Ok(())
}
