//! # Config watch: watch
//!
//! A service must take up a changed configuration file without a restart, and must not go down
//! over a bad one. The file is read at an interval and on demand. A good version becomes the value
//! that all tasks see; a bad one is reported, and the last good value stays.
//!
//! Polling reads what the path names at that moment, be it written in place, replaced by a rename
//! (editors) or behind a link that was swapped (Kubernetes). It compares values: times repeat.
//!
//! ## Use it when
//! - many tasks read a value that changes rarely, and only its latest version matters;
//! - it comes from a small file, and perhaps from an operator's commands as well.
//!
//! ## Use something else when
//! - every change must be seen, not only the latest: `event_bus`;
//! - a change must be seen within milliseconds, or in many files: a file notification library.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,sync,time
//! cargo add tokio-util --features rt
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - Replace the file by a rename (`durable_write`). One that is written in place can be read half
//!   written, and half a file may be a valid one.
//! - A new version of the file replaces what [`ConfigWatch::modify`] has set.
//! - To borrow, change and `send` loses updates when two do it: use [`ConfigWatch::modify`].
//! - `watch::Receiver::changed` does not return for the first value: a loop that begins with it
//!   runs unconfigured until the first change, as shown in `unseen_first_value`.
//!   [`ConfigReader::next`] begins with that value.
//! - A `watch::Ref` is a lock. Kept across an await, it stops the thread that sends, which may be
//!   its own. It is not `Send`, so `tokio::spawn` refuses it; `block_on` does not. Here readers get
//!   an [`Arc`].
//! - A read that never ends (a pipe, a dead network disk) cannot be aborted. Polling stops with it,
//!   [`ConfigWatch::reload`] waits as long as you let it, and so does dropping the runtime.
//!
//! ```compile_fail,E0277
//! fn may_be_kept_across_an_await<T: Send>() {}
//! may_be_kept_across_an_await::<tokio::sync::watch::Ref<'_, u8>>();
//! ```

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// Keeps a value up to date with a file. **Dropping it stops that**: its readers come to an end.
pub struct ConfigWatch<C> {
    source: Arc<Source<C>>,
    _polling: AbortOnDropHandle<()>,
}

/// Sees the value. Clone it for each task.
#[derive(Debug, Clone)]
pub struct ConfigReader<C> {
    value: watch::Receiver<Arc<C>>,
}

/// The file was not taken. The message names the path and the cause.
#[derive(Debug, Error)]
#[error("cannot load {}: {cause}", path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// The [`std::io::Error`] of reading it, the parser's error, or the [`JoinError`] of its panic.
    ///
    /// [`JoinError`]: tokio::task::JoinError
    pub cause: Box<dyn StdError + Send + Sync>,
}

struct Source<C> {
    path: PathBuf,
    parse: Arc<Parse<C>>,
    /// The file's last good value. Locked while reading, so that no older read comes last.
    loaded: Mutex<C>,
    value: watch::Sender<Arc<C>>,
    problem: watch::Sender<Option<Arc<LoadError>>>,
}

type Parse<C> = dyn Fn(&[u8]) -> Result<C, Box<dyn StdError + Send + Sync>> + Send + Sync;

impl<C: Clone + PartialEq + Send + Sync + 'static> ConfigWatch<C> {
    /// Loads the file, then again each time that `every` has passed since: at least 1 ms, and with
    /// [`Duration::MAX`] only when [`reload`](Self::reload) is called. `parse` may block.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the file is not good now: there is no last good value yet.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it polls nothing.
    pub async fn start<E: Into<Box<dyn StdError + Send + Sync>>>(
        path: impl Into<PathBuf>,
        every: Duration,
        parse: impl Fn(&[u8]) -> Result<C, E> + Send + Sync + 'static,
    ) -> Result<Self, LoadError> {
        let path = path.into();
        let parse: Arc<Parse<C>> = Arc::new(move |content| parse(content).map_err(Into::into));
        let first = load(&path, &parse).await?;
        let source = Arc::new(Source {
            path,
            parse,
            value: watch::Sender::new(Arc::new(first.clone())),
            loaded: Mutex::new(first),
            problem: watch::Sender::new(None),
        });
        let every = every.max(Duration::from_millis(1)); // the timer's tick: less is no pause
        let mut pause = Box::pin(sleep(every)); // here: in the task, its panic would go unseen
        let polled = Arc::clone(&source);
        let polling = tokio::spawn(async move {
            loop {
                pause.as_mut().await;
                drop(polled.load().await); // an error has been reported
                pause.set(sleep(every));
            }
        });
        Ok(Self {
            source,
            _polling: AbortOnDropHandle::new(polling),
        })
    }

    /// Loads the file now, for instance on SIGHUP. Returns whether it holds a new value.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the file is not good. The value stays as it is.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has changed nothing.
    pub async fn reload(&self) -> Result<bool, Arc<LoadError>> {
        self.source.load().await
    }

    /// Changes the value, until the file holds a new one. Calls from several tasks are made one
    /// after the other, each on the result of the last.
    ///
    /// `change` runs under a lock: **using the `ConfigWatch` or a reader in it is a deadlock.**
    ///
    /// # Panics
    ///
    /// If `change` does. The value is then as it was.
    pub fn modify(&self, change: impl FnOnce(&mut C)) {
        self.source.value.send_modify(|value| {
            let mut changed = C::clone(value);
            change(&mut changed);
            *value = Arc::new(changed);
        });
    }

    /// A reader that has not seen any value yet.
    #[must_use]
    pub fn reader(&self) -> ConfigReader<C> {
        let mut value = self.source.value.subscribe();
        value.mark_changed();
        ConfigReader { value }
    }

    /// What was wrong with the file when it was last loaded, for a health check.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<LoadError>> {
        self.source.problem.borrow().clone()
    }
}

impl<C> ConfigReader<C> {
    /// The value as it is now, whether [`next`](Self::next) has given it or not.
    #[must_use]
    pub fn current(&self) -> Arc<C> {
        Arc::clone(&self.value.borrow())
    }

    /// Waits for a value that this reader has not seen, the first one included, and gives the
    /// latest: those in between are skipped. `None` once the [`ConfigWatch`] is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has seen no value: the next call gives it.
    pub async fn next(&mut self) -> Option<Arc<C>> {
        self.value.changed().await.ok()?;
        // Not `borrow`: a value that came after `changed` would be given now and once more.
        Some(Arc::clone(&self.value.borrow_and_update()))
    }
}

impl<C: Clone + PartialEq + Send + 'static> Source<C> {
    async fn load(&self) -> Result<bool, Arc<LoadError>> {
        let mut loaded = self.loaded.lock().await;
        let result = load(&self.path, &self.parse).await.map_err(Arc::new);
        // Nothing below awaits: what was read is dealt with as a whole or not at all.
        let before = self.problem.send_replace(result.as_ref().err().cloned());
        let value = result.inspect_err(|error| {
            if before.is_none_or(|before| before.to_string() != error.to_string()) {
                tracing::warn!(%error, "the configuration stays as it was");
            }
        })?;
        if value == *loaded {
            return Ok(false); // and what `modify` has set stays
        }
        loaded.clone_from(&value);
        self.value.send_replace(Arc::new(value));
        tracing::info!(path = %self.path.display(), "configuration reloaded");
        Ok(true)
    }
}

async fn load<C: Send + 'static>(path: &Path, parse: &Arc<Parse<C>>) -> Result<C, LoadError> {
    let (file, parse) = (path.to_owned(), Arc::clone(parse));
    let loading = spawn_blocking(move || parse(&std::fs::read(file)?));
    // A panic of the parser is one more cause: it must not end the polling.
    let loaded = loading.await.map_err(Into::into).flatten();
    let path = path.to_owned();
    loaded.map_err(|cause| LoadError { path, cause })
}

impl<C> fmt::Debug for ConfigWatch<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigWatch({})", self.source.path.display())
    }
}
