//! # Unseen first value: a watch loop that begins with changed()
//!
//! A task follows a configuration in a watch channel: wait for a change, apply it, wait again. The
//! value that is there when it subscribes counts as seen, so it runs with its built-in defaults
//! until somebody changes the file, which may be never.
//!
//! ## You have it when
//! - a setting has no effect after a restart, and has as soon as the file is touched;
//! - it depends on the start: a task that subscribes before the file is read gets the value, the
//!   same task after it does not;
//! - a loop over `watch::Receiver` begins with `changed().await`.
//!
//! ## What it does to you
//! - Over a whole life without a change the value is applied 0 times, though it was there from the
//!   start.
//! - The 1st value is lost to each of 10 subscribers; the 2nd reaches them all, and so its test
//!   passes.
//! - A clone of a receiver that has seen the value has seen it too.
//!
//! ## Use instead
//! - `config_watch`, whose reader begins with the value that is there;
//! - in your own loop `receiver.mark_changed()` before it, and then `borrow_and_update` in it.

use tokio::sync::watch::Receiver;

/// Applies the configuration, whenever it changes, until its sender is gone.
pub async fn follow<C: Clone>(mut config: Receiver<C>, mut apply: impl FnMut(C)) {
    while config.changed().await.is_ok() {
        let value = config.borrow_and_update().clone(); // the second one, at the earliest
        apply(value);
    }
}
