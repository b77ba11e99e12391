//! What signals do to a program that waits for Ctrl-C, in child processes that are sent real ones.
#![cfg(test)] // so that the lints take the helpers for what they are
#![cfg(unix)]

use std::env;
use std::io::{BufRead, BufReader, Read, Write, stdin};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio, exit};
use std::time::Duration;

use antipatterns::ctrl_c_only::run;
use rustix::process::{Pid, Signal, kill_process};
use shutdown::signals::ShutdownSignals;
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const MENDED: &str = "CTRL_C_ONLY_TEST";

/// The program. What it does is told on its standard error; its cleanup waits for a line of input.
#[test]
fn child_process() {
    let Ok(mended) = env::var(MENDED) else {
        return; // this is the test
    };
    let serve = async {
        yield_now().await; // until it listens for signals
        eprintln!("serving");
        sleep(Duration::from_secs(60)).await; // and then the parent is gone
        exit(9);
    };
    let clean_up = async {
        eprintln!("cleaning up");
        stdin().read_exact(&mut [0]).unwrap();
        eprintln!("clean");
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if mended == "true" {
            let token = CancellationToken::new();
            let signals = ShutdownSignals::install(token.clone()).unwrap();
            token.run_until_cancelled(serve).await;
            assert!(signals.received().is_some());
            clean_up.await;
        } else {
            run(serve, clean_up).await.unwrap();
        }
    });
    exit(0);
}

struct Program(Child, BufReader<ChildStderr>);

impl Program {
    fn start(mended: bool) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_process", "--nocapture"])
            .env(MENDED, mended.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stderr.take().unwrap());
        let mut program = Self(child, says);
        program.says("serving\n");
        program
    }

    fn says(&mut self, expected: &str) {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Lets the cleanup go on, if there is one, and waits for the end.
    fn ends(mut self) -> (String, ExitStatus) {
        self.0.stdin.take().unwrap().write_all(b"\n").ok();
        let mut rest = String::new();
        self.1.read_to_string(&mut rest).unwrap();
        (rest, self.0.wait().unwrap())
    }
}

#[test]
fn harm_it_cleans_up_after_ctrl_c_and_a_sigterm_kills_it() {
    let mut program = Program::start(false);
    program.send(Signal::INT);
    program.says("cleaning up\n");
    let (rest, status) = program.ends();
    assert_eq!((rest.as_str(), status.code()), ("clean\n", Some(0)));

    let program = Program::start(false);
    program.send(Signal::TERM);
    let (rest, status) = program.ends();
    assert_eq!((rest.as_str(), status.signal()), ("", Some(15)));
    assert_eq!(status.to_string(), "signal: 15 (SIGTERM)");
}

#[test]
fn harm_a_second_ctrl_c_does_not_end_a_cleanup_that_hangs() {
    let mut program = Program::start(false);
    program.send(Signal::INT);
    program.says("cleaning up\n");
    program.send(Signal::INT);
    let (rest, status) = program.ends();
    assert_eq!(
        (rest.as_str(), status.code()),
        ("clean\n", Some(0)),
        "it went on"
    );
}

#[test]
fn mended_it_cleans_up_after_either_and_the_second_ends_it() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut program = Program::start(true);
        program.send(signal);
        program.says("cleaning up\n");
        let (rest, status) = program.ends();
        assert_eq!((rest.as_str(), status.code()), ("clean\n", Some(0)));

        let mut program = Program::start(true);
        program.send(signal);
        program.says("cleaning up\n");
        let stdin = program.0.stdin.take(); // or `wait` closes it, which ends the cleanup as well
        program.send(Signal::INT);
        assert_eq!(program.0.wait().unwrap().code(), Some(130));
        drop(stdin);
    }
}
