use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ServerError;
use crate::error::Doing;

/// A server process and its folder. Both are gone after the drop, and after the end of this process.
///
/// The parent-death signal of Linux would not do: it comes when the thread that spawned ends.
#[derive(Debug)]
pub(crate) struct Keeper {
    program: PathBuf,
    folder: PathBuf,
    shell: Mutex<Shell>,
}

#[derive(Debug)]
struct Shell {
    process: Child,
    orders: Option<ChildStdin>,
    answers: Option<BufReader<ChildStdout>>,
}

/// Who runs the server, if not this process's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Keeper {
    /// Starts the server, which writes its log to `log` in the folder; `signal` is the one that stops it.
    pub(crate) fn start(
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        folder: TempDir,
        signal: &str,
        user: Option<User>,
    ) -> Result<Self, ServerError> {
        let mut command = Command::new("sh");
        command
            .args(["-c", include_str!("keeper.sh"), "keeper"])
            .arg(folder.path())
            .arg(signal)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        plain_environment(&mut command);
        run_as(&mut command, user);
        apart(&mut command);
        let mut process = command.spawn().doing(|| "cannot run `sh`".to_owned())?;
        let shell = Mutex::new(Shell {
            orders: process.stdin.take(),
            answers: process.stdout.take().map(BufReader::new),
            process,
        });
        let keeper = Self {
            program: program.to_owned(),
            folder: folder.keep(), // removed by the shell from now on
            shell,
        };
        keeper.order("start")?;
        Ok(keeper)
    }

    /// Sends `start`, `stop`, `pause` or `resume`, and waits until it is done.
    pub(crate) fn order(&self, order: &str) -> Result<(), ServerError> {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = || -> io::Result<()> {
            let Shell {
                orders, answers, ..
            } = &mut *shell;
            let (Some(orders), Some(answers)) = (orders, answers) else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            writeln!(orders, "{order}")?;
            let mut answer = String::new();
            answers.read_line(&mut answer)?;
            if answer.trim_end() == order {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        done().doing(|| format!("cannot {order} {}", self.program.display()))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The last lines that the server wrote since it was started last.
    pub(crate) fn log(&self) -> String {
        last_lines(&self.folder.join("log"))
    }

    /// Calls `is_ready` until it says yes.
    #[expect(
        clippy::disallowed_methods,
        reason = "no async code: it blocks as documented"
    )]
    pub(crate) fn wait(
        &self,
        limit: Duration,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<(), ServerError> {
        const PAUSE: Duration = Duration::from_millis(5);
        let started = Instant::now();
        while started.elapsed() < limit {
            if is_ready() {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(self.not_started(format!("it was not ready within {limit:?}")))
    }

    pub(crate) fn not_started(&self, reason: String) -> ServerError {
        ServerError::NotStarted {
            program: self.program.clone(),
            reason,
            log: self.log(),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let shell = self.shell.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(shell.orders.take()); // the end of the pipe
        shell.process.wait().ok(); // it has ended then, and that is all we wanted
    }
}

/// A folder in `place` which only its owner can enter.
pub(crate) fn private_folder(prefix: &str, place: &Path) -> Result<TempDir, ServerError> {
    let mut folder = tempfile::Builder::new();
    folder.prefix(prefix);
    #[cfg(unix)]
    folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let folder = folder.tempdir_in(place);
    folder.doing(|| format!("no folder in {}", place.display()))
}

/// What is said about a server elsewhere, or the language of this terminal, is not for this one.
pub(crate) fn plain_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("PG") || name_text.starts_with("LC_") || name_text == "LANGUAGE" {
            command.env_remove(&name);
        }
    }
    command.env("LANG", "C").env("LC_ALL", "C");
    command.current_dir("/");
}

#[cfg(unix)]
pub(crate) fn run_as(command: &mut Command, user: Option<User>) {
    use std::os::unix::process::CommandExt;
    if let Some(User { user, group }) = user {
        command.gid(group).uid(user);
    }
}

#[cfg(not(unix))]
pub(crate) fn run_as(_: &mut Command, _: Option<User>) {}

#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn apart(_: &mut Command) {}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let first = lines.len().saturating_sub(10);
    lines.get(first..).unwrap_or_default().join("\n")
}
