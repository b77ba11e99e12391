//! # Guard across await: a std MutexGuard that lives while its task waits
//!
//! A value that tasks share stands behind a `std::sync::Mutex`. A function locks it, finds that it
//! has to await something first, and goes on with the guard in its hand. `tokio::spawn` refuses
//! such a future. Where nothing is spawned it compiles, and works as long as one caller comes at a
//! time.
//!
//! ## You have it when
//! - the compiler once said `future cannot be sent between threads safely`, and `spawn_local`,
//!   `join!` or a runtime of one thread made it content;
//! - the process answers nobody and uses no CPU, and the stack of its only thread ends in
//!   `std::sync::Mutex::lock`;
//! - clippy says ``this `MutexGuard` is held across an await point`` (`await_holding_lock`).
//!
//! ## What it does to you
//! - Two calls in one `join!` never end, though both could: the second blocks the thread that the
//!   first needs to give its guard back. The same for two tasks of a `LocalSet`.
//! - So it is with `block_on` of a runtime of four workers: no worker runs what `join!` polls.
//! - A timer of 1 ms on the same thread does not come any more, and no `timeout` ends the calls.
//! - Where it would be spawned it does not compile:
//!
//!   ```compile_fail,E0277
//!   # use antipatterns::guard_across_await::Tokens;
//!   fn may_be_spawned(_: impl Future + Send) {}
//!   may_be_spawned(Tokens::default().token(async || String::new()));
//!   ```
//!
//! ## Use instead
//! - `short_lock`: look in one closure, await outside of it, change in another;
//! - `async_lock` if nobody else may come in between, and then `single_flight` if all want the
//!   same.

use std::sync::Mutex;

/// A token for a service, fetched when it is first asked for.
#[derive(Debug, Default)]
pub struct Tokens {
    cached: Mutex<Option<String>>,
}

impl Tokens {
    /// The token, fetched by `fetch` if there is none yet.
    ///
    /// # Panics
    ///
    /// If a caller panicked before.
    #[expect(
        clippy::await_holding_lock,
        clippy::unwrap_used,
        reason = "the first lint is right; the second is how everybody writes it"
    )]
    pub async fn token(&self, fetch: impl AsyncFnOnce() -> String) -> String {
        let mut cached = self.cached.lock().unwrap();
        if let Some(token) = &*cached {
            return token.clone();
        }
        let token = fetch().await; // whoever asks for the lock now stops the thread that we need
        *cached = Some(token.clone());
        token
    }
}
