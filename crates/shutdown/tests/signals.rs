//! What the handling of signals promises, in child processes that are sent real ones.
//!
//! A child is this test's own binary, told by a variable to play a role. It says on its standard error
//! how far it has come, so that nothing here waits for "long enough".
#![cfg(test)] // so that the lints take the helpers for what they are
#![cfg(unix)]

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use std::{env, io, process, thread};

use rustix::process::{
    Pid, Resource, Rlimit, Signal as Kill, WaitOptions, getpid, getrlimit, kill_process,
    kill_process_group, setrlimit, waitpid,
};
use shutdown::signals::{InstallError, ShutdownSignals, Signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// For what takes milliseconds, on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const ROLE: &str = "SIGNALS_TEST_ROLE";
const BOTH: [(Kill, Signal); 2] = [
    (Kill::INT, Signal::Interrupt),
    (Kill::TERM, Signal::Terminate),
];

// The child processes.

#[test]
fn child_process() {
    let Ok(role) = env::var(ROLE) else {
        return; // this is the test, not a child
    };
    let token = CancellationToken::new();
    if role == "no descriptors" {
        install_with_few_descriptors(&token);
        process::exit(0);
    }
    let runtime = runtime();
    match role.as_str() {
        "not yet installed" => {
            say("ready");
            runtime.block_on(async { sleep(HOUR).await });
        }
        "finish" => {
            let signals = ready(&token);
            runtime.block_on(stop(&token, &signals));
            wait_for_input(); // what is under way ends when the test says so
            process::exit(0);
        }
        "interrupted" => {
            let signals = ready(&token);
            runtime.block_on(stop(&token, &signals));
            process::exit(signals.received().unwrap().exit_code().into());
        }
        "drain for an hour" => {
            let signals = ready(&token);
            runtime.block_on(async {
                stop(&token, &signals).await;
                sleep(HOUR).await;
            });
        }
        "signal itself" => {
            let signals = ShutdownSignals::install(token.clone()).unwrap();
            assert_eq!(signals.received(), None);
            kill_process(getpid(), Kill::TERM).unwrap(); // no runtime has run yet
            runtime.block_on(stop(&token, &signals));
            process::exit(0);
        }
        "drop everything" => {
            let other = Builder::new_multi_thread().enable_all().build().unwrap();
            drop(other.block_on(async { ShutdownSignals::install(token.clone()).unwrap() }));
            drop(other);
            say("ready");
            runtime.block_on(token.cancelled());
            process::exit(0);
        }
        "tell when cancelled" => {
            let tell = Arc::new(Tell(OnceLock::new()));
            let mut cancelled = Box::pin(token.cancelled());
            let waker = Waker::from(Arc::clone(&tell));
            let polled = cancelled.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            let signals = ShutdownSignals::install(token.clone()).unwrap();
            tell.0.set(signals).unwrap();
            say("ready");
            runtime.block_on(async { sleep(HOUR).await });
        }
        "cancelled from inside" => {
            let signals = ShutdownSignals::install(token.clone()).unwrap();
            token.cancel();
            assert_eq!(signals.received(), None);
            say("ready");
            while signals.received().is_none() {
                thread::yield_now();
            }
            say("heard");
            runtime.block_on(async { sleep(HOUR).await });
        }
        "never yield" => {
            let signals = ready(&token);
            runtime.block_on(async {
                while signals.received().is_none() {
                    std::hint::spin_loop();
                }
                say("heard");
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        "never yield beside a listening task" => runtime.block_on(async {
            let mut interrupts = signal(SignalKind::interrupt()).unwrap();
            tokio::spawn(async move {
                interrupts.recv().await;
                interrupts.recv().await;
                process::exit(130);
            });
            tokio::task::yield_now().await; // it listens
            say("ready");
            wait_for_input();
            process::exit(7);
        }),
        "read in the background" => {
            let signals = ready(&token);
            runtime.block_on(async {
                tokio::task::spawn_blocking(wait_for_input);
                stop(&token, &signals).await;
            });
            drop(runtime); // waits for the read
            process::exit(0);
        }
        "read in the background beside a listening task" => {
            runtime.block_on(async {
                let mut interrupts = signal(SignalKind::interrupt()).unwrap();
                tokio::task::spawn_blocking(wait_for_input);
                tokio::spawn(async move {
                    interrupts.recv().await;
                    interrupts.recv().await;
                    process::exit(130);
                });
                tokio::task::yield_now().await; // it listens
            });
            say("ready");
            drop(runtime); // waits for the read
            process::exit(7);
        }
        "hold the output" => {
            let signals = ready(&token);
            let (locked, is_locked) = std::sync::mpsc::sync_channel(1);
            thread::spawn(move || {
                let mut output = io::stdout().lock();
                locked.send(()).unwrap();
                while output.write_all(&[b'.'; 1 << 16]).is_ok() {} // nobody reads the pipe
            });
            is_locked.recv().unwrap();
            runtime.block_on(async {
                stop(&token, &signals).await;
                sleep(HOUR).await;
            });
        }
        "temporary folder" => {
            let signals = ready(&token);
            let folder = tempfile::tempdir().unwrap();
            say(folder.path().to_str().unwrap());
            runtime.block_on(stop(&token, &signals));
            wait_for_input();
            drop(folder);
            process::exit(0);
        }
        "children" => {
            let mut cat = process::Command::new("cat");
            cat.stdin(Stdio::piped()); // it ends with this process at the latest
            let mut with_it = cat.spawn().unwrap();
            let mut apart = cat.process_group(0).spawn().unwrap();
            let signals = ready(&token);
            runtime.block_on(stop(&token, &signals));
            let _input = with_it.stdin.take(); // or `wait` would close it, and so end it
            say(&format!("with it: {:?}", with_it.wait().unwrap().signal()));
            say(&format!("apart: {:?}", apart.try_wait().unwrap()));
            apart.kill().unwrap();
            apart.wait().unwrap();
            process::exit(0);
        }
        "listened once" => {
            let interrupts = runtime.block_on(async { signal(SignalKind::interrupt()).unwrap() });
            drop(interrupts);
            say("ready");
            wait_for_input();
            process::exit(7);
        }
        "no descriptors in async code" => {
            let all = getrlimit(Resource::Nofile).maximum;
            let few = Rlimit {
                current: Some(3),
                maximum: all,
            };
            setrlimit(Resource::Nofile, few).unwrap();
            let installed = runtime.block_on(async { ShutdownSignals::install(token.clone()) });
            say(&installed.unwrap_err().to_string());
            process::exit(0);
        }
        unknown => panic!("no role {unknown}"),
    }
}

/// With one descriptor more each time. No runtime has run before, which would have made what
/// `install` finds missing.
fn install_with_few_descriptors(token: &CancellationToken) {
    std::panic::set_hook(Box::new(|_| {})); // tokio's, which becomes an error
    let all = getrlimit(Resource::Nofile).maximum;
    let descriptors = |current| {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current,
                maximum: all,
            },
        )
    };
    for some in 3.. {
        descriptors(Some(some)).unwrap();
        let installed = ShutdownSignals::install(token.clone());
        descriptors(all).unwrap();
        match installed {
            Ok(_) => break,
            Err(error) => say(&error.to_string()),
        }
    }
}

/// Tells of the signal while the token is being cancelled, by which it is woken.
struct Tell(OnceLock<ShutdownSignals>);

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        say(&format!("{:?}", self.0.get().unwrap().received()));
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn say(line: &str) {
    eprintln!("{line}");
}

fn ready(token: &CancellationToken) -> ShutdownSignals {
    let signals = ShutdownSignals::install(token.clone()).unwrap();
    say("ready");
    signals
}

async fn stop(token: &CancellationToken, signals: &ShutdownSignals) {
    token.cancelled().await;
    say(&format!("stop: {}", signals.received().unwrap()));
}

fn wait_for_input() {
    io::stdin().read_exact(&mut [0]).unwrap();
}

// The tests.

/// A child process that is killed when the test fails.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn start(role: &str) -> Self {
        Self::start_by(Command::new(env::current_exe().unwrap()), role)
    }

    fn start_by(mut command: Command, role: &str) -> Self {
        let mut child = command
            .args(["--exact", "child_process", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()) // and not read
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    fn pid(&self) -> Pid {
        let pid = self.child.id().expect("it was waited for");
        Pid::from_raw(pid.try_into().unwrap()).unwrap()
    }

    fn send(&self, signal: Kill) {
        kill_process(self.pid(), signal).unwrap();
    }

    async fn line(&mut self) -> Option<String> {
        let line = timeout(LIMIT, self.lines.next_line()).await;
        line.expect("it says nothing").unwrap()
    }

    async fn says(&mut self, expected: &str) {
        assert_eq!(self.line().await.as_deref(), Some(expected));
    }

    async fn hears(&mut self, kill: Kill, signal: Signal) {
        self.send(kill);
        self.says(&format!("stop: {signal}")).await;
    }

    async fn go_on(&mut self) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(b"\n").await.unwrap();
    }

    async fn ends(&mut self) -> ExitStatus {
        // Its `wait` would close the input, and with it what the child waits for.
        let _input = self.child.stdin.take();
        timeout(LIMIT, self.child.wait())
            .await
            .expect("it runs on")
            .unwrap()
    }

    async fn exits_with(&mut self, code: u8) {
        assert_eq!(self.ends().await.code(), Some(code.into()));
    }
}

#[tokio::test]
async fn one_signal_starts_the_stop_and_the_exit_code_is_the_programs() {
    for (kill, signal) in BOTH {
        let mut program = Program::start("finish");
        program.says("ready").await;
        program.hears(kill, signal).await;
        program.go_on().await;
        program.exits_with(0).await;

        let mut program = Program::start("interrupted");
        program.says("ready").await;
        program.hears(kill, signal).await;
        program.exits_with(signal.exit_code()).await;
    }
}

#[tokio::test]
async fn a_second_signal_of_either_kind_ends_a_stop_of_an_hour_at_once_with_its_code() {
    for (first, signal) in BOTH {
        for (second, code) in [(Kill::INT, 130), (Kill::TERM, 143)] {
            let mut program = Program::start("drain for an hour");
            program.says("ready").await;
            program.hears(first, signal).await;
            program.send(second);
            program.exits_with(code).await;
        }
    }
}

#[tokio::test]
async fn both_signals_are_heard_while_the_only_worker_never_yields() {
    let mut program = Program::start("never yield");
    program.says("ready").await;
    program.send(Kill::TERM);
    program.says("heard").await;
    program.send(Kill::INT);
    program.exits_with(130).await;
}

#[tokio::test]
async fn a_task_that_listens_hears_no_second_signal_beside_one_that_never_yields() {
    let mut program = Program::start("never yield beside a listening task");
    program.says("ready").await;
    program.send(Kill::INT);
    program.send(Kill::INT);
    program.go_on().await;
    program.exits_with(7).await;
}

#[tokio::test]
async fn a_runtime_that_waits_for_a_blocking_read_in_its_drop_is_ended_by_the_second_signal() {
    let mut program = Program::start("read in the background");
    program.says("ready").await;
    program.hears(Kill::INT, Signal::Interrupt).await;
    program.send(Kill::INT);
    program.exits_with(130).await;
}

#[tokio::test]
async fn a_task_that_listens_hears_nothing_while_its_runtime_waits_for_a_blocking_read() {
    let mut program = Program::start("read in the background beside a listening task");
    program.says("ready").await;
    program.send(Kill::INT);
    program.send(Kill::INT);
    program.go_on().await;
    program.exits_with(7).await;
}

#[tokio::test]
async fn an_output_that_nobody_reads_does_not_hold_up_the_second_signal() {
    let mut program = Program::start("hold the output");
    program.says("ready").await;
    program.hears(Kill::INT, Signal::Interrupt).await;
    program.send(Kill::INT);
    program.exits_with(130).await;
}

#[tokio::test]
async fn a_signal_sent_once_install_has_returned_is_heard_although_no_runtime_has_run() {
    let mut program = Program::start("signal itself");
    program.says("stop: SIGTERM").await;
    program.exits_with(0).await;
}

#[tokio::test]
async fn signals_are_heard_after_the_handle_and_the_runtime_around_it_are_dropped() {
    let mut program = Program::start("drop everything");
    program.says("ready").await;
    program.send(Kill::INT);
    program.exits_with(0).await;
}

#[tokio::test]
async fn the_signal_is_known_before_the_token_is_cancelled() {
    let mut program = Program::start("tell when cancelled");
    program.says("ready").await;
    program.send(Kill::TERM);
    program.says("Some(Terminate)").await;
}

#[tokio::test]
async fn a_stop_from_inside_is_told_apart_and_counts_as_no_signal() {
    let mut program = Program::start("cancelled from inside");
    program.says("ready").await;
    program.send(Kill::INT);
    program.says("heard").await;
    program.send(Kill::INT);
    program.exits_with(130).await;
}

#[tokio::test]
async fn a_signal_before_the_installation_ends_the_process() {
    for (kill, _) in BOTH {
        let mut program = Program::start("not yet installed");
        program.says("ready").await;
        program.send(kill);
        assert_eq!(program.ends().await.signal(), Some(kill.as_raw()));
    }
}

#[tokio::test]
async fn other_signals_do_what_they_did() {
    let mut program = Program::start("finish");
    program.says("ready").await;
    program.send(Kill::HUP);
    assert_eq!(program.ends().await.signal(), Some(Kill::HUP.as_raw()));
}

/// Starts the child, and stops it as Ctrl-Z does, so that it gets to no signal.
async fn suspended(role: &str) -> Program {
    let mut program = Program::start(role);
    program.says("ready").await;
    program.send(Kill::STOP);
    let pid = program.pid();
    let stopped = move || waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(
        tokio::task::spawn_blocking(stopped)
            .await
            .unwrap()
            .1
            .stopped()
    );
    program
}

#[tokio::test]
async fn the_same_signal_twice_before_it_is_heard_counts_as_one() {
    let mut program = suspended("finish").await;
    program.send(Kill::TERM);
    program.send(Kill::TERM);
    program.hears(Kill::CONT, Signal::Terminate).await;
    program.go_on().await;
    program.exits_with(0).await;
}

#[tokio::test]
async fn both_signals_before_one_is_heard_count_as_two() {
    let mut program = suspended("finish").await;
    program.send(Kill::TERM);
    program.send(Kill::INT);
    program.send(Kill::CONT);
    let code = program.ends().await.code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
}

#[tokio::test]
async fn the_second_signal_runs_no_destructors() {
    for forced in [false, true] {
        let mut program = Program::start("temporary folder");
        program.says("ready").await;
        let folder = program.line().await.unwrap();
        program.hears(Kill::INT, Signal::Interrupt).await;
        if forced {
            program.send(Kill::INT);
        } else {
            program.go_on().await;
        }
        program.exits_with(if forced { 130 } else { 0 }).await;
        let is_left = std::fs::remove_dir(&folder).is_ok();
        assert_eq!(is_left, forced, "{folder}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_child_processes_in_the_same_group() {
    let mut program = Program::start("children");
    program.says("ready").await;
    kill_process_group(program.pid(), Kill::INT).unwrap(); // as the terminal does
    program.says("stop: SIGINT").await;
    program.says("with it: Some(2)").await;
    program.says("apart: None").await;
    program.exits_with(0).await;
}

#[tokio::test]
async fn a_dropped_tokio_signal_does_not_give_ctrl_c_back() {
    let mut program = Program::start("listened once");
    program.says("ready").await;
    program.send(Kill::INT);
    program.go_on().await;
    program.exits_with(7).await;
}

#[tokio::test]
async fn a_signal_that_was_ignored_when_the_program_started_is_heard() {
    let ignoring = |role| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#"trap "" INT; exec "$0" "$@""#])
            .arg(env::current_exe().unwrap());
        Program::start_by(shell, role)
    };
    let mut program = ignoring("not yet installed");
    program.says("ready").await;
    program.send(Kill::INT);
    program.send(Kill::TERM);
    let ended_by = program.ends().await.signal();
    assert_eq!(ended_by, Some(Kill::TERM.as_raw()), "the SIGINT is ignored");

    let mut program = ignoring("finish");
    program.says("ready").await;
    program.hears(Kill::INT, Signal::Interrupt).await;
    program.go_on().await;
    program.exits_with(0).await;
}

#[tokio::test]
async fn without_descriptors_the_installation_fails_says_what_to_do_and_can_be_tried_again() {
    let mut program = Program::start("no descriptors");
    let mut errors = 0;
    while let Some(error) = program.line().await {
        assert!(error.starts_with("cannot listen for signals: "), "{error}");
        assert!(error.contains("install it first in main"), "{error}");
        errors += 1;
    }
    assert!(
        errors >= 3,
        "{errors}: each of its descriptors was missing once"
    );
    program.exits_with(0).await;

    let mut program = Program::start("no descriptors in async code");
    let error = program.line().await.unwrap();
    assert!(error.contains("Too many open files"), "{error}");
    program.exits_with(0).await;
}

#[test]
fn the_exit_code_is_what_a_shell_says_of_a_program_that_the_signal_has_killed() {
    for (kill, signal) in [("INT", Signal::Interrupt), ("TERM", Signal::Terminate)] {
        let killed = format!("sh -c 'kill -{kill} $$'; echo $?");
        let shell = process::Command::new("sh").args(["-c", &killed]).output();
        let said = String::from_utf8(shell.unwrap().stdout).unwrap();
        assert_eq!(said.trim(), signal.exit_code().to_string());
        assert_eq!(signal.to_string(), format!("SIG{kill}"));
    }
}

#[test]
fn handle_and_error_can_go_to_other_threads() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<ShutdownSignals>();
    is_shared::<InstallError>();
}
