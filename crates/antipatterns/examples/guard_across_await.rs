//! cargo run --example guard_across_await
//!
//! Two callers want the same token, which takes a moment to fetch: with the guard kept while one
//! fetches, and with the lock taken twice for a moment.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use antipatterns::guard_across_await::Tokens;
use sync::short_lock::{Poisoned, Shared};
use tokio::task::yield_now;

async fn fetch() -> String {
    yield_now().await; // a request, in a real program
    "s3cr3t".to_owned()
}

async fn token(cached: &Shared<Option<String>>) -> Result<String, Poisoned> {
    if let Some(token) = cached.with(|cached| cached.clone())? {
        return Ok(token);
    }
    let token = fetch().await; // nothing is locked
    cached.with(|cached| cached.get_or_insert(token).clone())
}

#[tokio::main(flavor = "current_thread")]
async fn two_with_a_guard() -> (String, String) {
    let tokens = Tokens::default();
    tokio::join!(tokens.token(fetch), tokens.token(fetch))
}

#[tokio::main(flavor = "current_thread")]
async fn two_with_short_locks() -> Result<(String, String), Poisoned> {
    let cached = Shared::new(None);
    tokio::try_join!(token(&cached), token(&cached))
}

fn main() -> Result<(), Poisoned> {
    let (end, ended) = sync_channel(1);
    thread::spawn(move || end.send(two_with_a_guard())); // it ends with the process
    match ended.recv_timeout(Duration::from_secs(1)) {
        Ok(tokens) => println!("guard kept:  {tokens:?}"),
        Err(RecvTimeoutError::Timeout) => println!("guard kept:  no caller has a token after 1 s"),
        Err(RecvTimeoutError::Disconnected) => println!("guard kept:  a panic"),
    }
    println!("short locks: {:?}", two_with_short_locks()?);
    Ok(())
}
