//! A child process that cannot outlive its deadline, nor leave children of its own behind.

use std::fmt;
use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use process_wrap::std::{ChildWrapper, CommandWrap};

use crate::error::{Error, Result};

/// Output beyond this is a runaway program, not something to compare.
pub(crate) const MAX_OUTPUT: usize = 4 << 20;

/// How long the pipes of a process that has ended may stay open.
const PIPES_AFTER_THE_END: Duration = Duration::from_secs(1);

/// A wish to stop, as by Ctrl-C. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks all that run with this interrupt to stop. Safe to call from a signal handler's thread.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// An error once somebody has asked.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_raised() {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// Killed at its deadline.
    TimedOut,
    /// Killed because its output had no end.
    TooMuchOutput,
    /// Killed because of the interrupt.
    Interrupted,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) end: End,
    pub(crate) stdout: Vec<u8>,
    /// Empty where it was not captured.
    pub(crate) stderr: Vec<u8>,
    pub(crate) took: Duration,
}

/// Which of a process's streams a chunk came from.
enum Chunk {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

/// Runs `command` to its end, or until `interrupt`, and then kills what is left of it and its
/// children. With a `deadline`, it is held to that and to [`MAX_OUTPUT`]. Its standard output is
/// captured and given to `on_stdout` as it comes; its standard error is captured if the caller
/// piped it.
pub(crate) fn run(
    mut command: Command,
    deadline: Option<Duration>,
    interrupt: &Interrupt,
    mut on_stdout: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Finished> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut group = CommandWrap::from(command);
    #[cfg(unix)]
    group.wrap(process_wrap::std::ProcessGroup::leader());
    #[cfg(windows)]
    group.wrap(process_wrap::std::JobObject);
    let failed = |source| Error::Spawn {
        program: program.clone(),
        source,
    };
    let mut child = Group(group.spawn().map_err(failed)?);

    let (sender, chunks) = mpsc::sync_channel(16);
    if let Some(stdout) = child.0.stdout().take() {
        forward(stdout, Chunk::Stdout, sender.clone());
    }
    if let Some(stderr) = child.0.stderr().take() {
        forward(stderr, Chunk::Stderr, sender.clone());
    }
    drop(sender);

    let clock = Stopwatch::start();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut ended: Option<(End, Duration)> = None;
    let mut pipes_open = true;
    loop {
        match chunks.recv_timeout(Duration::from_millis(5)) {
            Ok(Chunk::Stdout(chunk)) => {
                on_stdout(&chunk).map_err(Error::Output)?;
                stdout.extend(chunk);
            }
            Ok(Chunk::Stderr(chunk)) => stderr.extend(chunk),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                if pipes_open {
                    pipes_open = false;
                } else {
                    pause();
                }
            }
        }
        let now = clock.elapsed();
        if let Some((end, at)) = ended {
            if !pipes_open || now > at + PIPES_AFTER_THE_END {
                return Ok(Finished {
                    end,
                    stdout,
                    stderr,
                    took: at,
                });
            }
            continue;
        }
        let end = if let Some(status) = child.0.try_wait().map_err(failed)? {
            End::Exited(status)
        } else if interrupt.is_raised() {
            End::Interrupted
        } else if deadline.is_some_and(|deadline| now >= deadline) {
            End::TimedOut
        } else if deadline.is_some() && stdout.len().max(stderr.len()) > MAX_OUTPUT {
            End::TooMuchOutput
        } else {
            continue;
        };
        child.kill();
        ended = Some((end, now));
    }
}

/// Waits a moment for a process that has closed its pipes and not yet ended.
fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "no runtime here: this thread has nothing else to do"
    )]
    thread::sleep(Duration::from_millis(1));
}

/// Kills the whole group when it goes, however this function is left.
struct Group(Box<dyn ChildWrapper>);

impl Group {
    fn kill(&mut self) {
        // Both fail only where there is nothing left to kill or to wait for.
        let _gone = self.0.start_kill();
        let _reaped = self.0.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the pipe on a thread of its own, so that a full pipe never stops the child. The thread
/// ends with the pipe, or when nobody listens any more.
fn forward(
    mut pipe: impl Read + Send + 'static,
    chunk: fn(Vec<u8>) -> Chunk,
    sender: SyncSender<Chunk>,
) {
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            if sender.send(chunk(bytes.to_vec())).is_err() {
                break;
            }
        }
    });
}

/// The real clock: what is measured here are processes, not tasks.
#[derive(Debug, Clone, Copy)]
struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "processes run on real time")]
    fn start() -> Self {
        Self(Instant::now())
    }

    #[expect(clippy::disallowed_methods, reason = "processes run on real time")]
    fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A command as one would type it, for messages.
pub(crate) struct Typed<'command>(pub(crate) &'command Command);

impl fmt::Display for Typed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo")?;
        for argument in self.0.get_args() {
            write!(f, " {}", argument.to_string_lossy())?;
        }
        Ok(())
    }
}

/// The cargo that called this, or the one on the path.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
