//! cargo run --example current_thread
//!
//! A tool on one thread: three tasks count words into one table behind an `Rc`, no `Send` and no
//! lock. A question that nobody answers still blocks a thread at the end, and keeps nobody.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use runtime::current_thread::{RunError, run};
use tokio::task::{spawn_blocking, spawn_local};

const TEXTS: [&str; 3] = ["to be or not to be", "let it be", "not to worry"];

fn main() -> Result<(), RunError> {
    let (_keyboard, typed) = sync_channel::<String>(0);
    let words = run(Duration::from_millis(50), async {
        let question = spawn_blocking(move || typed.recv());
        let words = Rc::new(RefCell::new(BTreeMap::new()));
        let tasks = TEXTS.map(|text| spawn_local(count(text, Rc::clone(&words))));
        for (task, text) in tasks.into_iter().zip(TEXTS) {
            match task.await {
                Ok(number) => println!("{number} words in {text:?}"),
                Err(error) => println!("lost {text:?}: {error}"),
            }
        }
        println!("question answered: {}", question.is_finished());
        words.take()
    })?;
    println!("{words:?}");
    Ok(())
}

/// Counts the words of `text` into the shared table, and lets the other tasks run in between.
async fn count(text: &'static str, words: Rc<RefCell<BTreeMap<&'static str, u32>>>) -> usize {
    for word in text.split(' ') {
        *words.borrow_mut().entry(word).or_default() += 1; // the borrow ends before the await
        tokio::task::yield_now().await;
    }
    text.split(' ').count()
}
