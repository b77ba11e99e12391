//! The program `examples/link_check.rs`, driven as a user would, against servers on this machine.
#![cfg(test)] // so that the lints take the helpers for what they are
#![expect(
    clippy::disallowed_methods,
    reason = "the server has a thread for each connection, which may sleep"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Built once: `cargo test --test link_check` alone does not build the examples.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "link_check"]);
    assert!(build.status().unwrap().success());
    let tests = std::env::current_exe().unwrap();
    let debug = tests.parent().and_then(|deps| deps.parent()).unwrap();
    debug.join("examples").join("link_check")
});

/// Answers by the path of the request, on a thread for each connection.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<HashMap<String, usize>>,
    running: AtomicUsize,
    peak: AtomicUsize,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&shared);
                thread::spawn(move || serve(&stream.unwrap(), &seen));
            }
        });
        Self { address, seen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self, path: &str) -> usize {
        let requests = self.seen.requests.lock().unwrap();
        requests.get(path).copied().unwrap_or(0)
    }
}

fn serve(stream: &TcpStream, seen: &Seen) {
    let mut lines = BufReader::new(stream).lines();
    let mut answer = stream;
    while let Some(Ok(first)) = lines.next() {
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        let path = first.split(' ').nth(1).unwrap();
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            let number = requests.entry(path.to_owned()).or_default();
            *number += 1;
            *number
        };
        let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
        seen.peak.fetch_max(running, Ordering::SeqCst);
        let status = match path {
            "/silent" => return thread::park(), // until the process ends
            "/slow" => {
                thread::sleep(Duration::from_millis(50));
                "200 OK"
            }
            "/same" => {
                thread::sleep(Duration::from_millis(1)); // so that some are there at once
                "200 OK"
            }
            "/cut" => return,
            "/busy" if number < 3 => "503 Service Unavailable\r\nretry-after: 0",
            "/later" if number < 2 => "429 Too Many Requests\r\nretry-after: 1",
            "/moved" => "302 Found\r\nlocation: /",
            "/round" => "302 Found\r\nlocation: /round",
            "/404" => "404 Not Found",
            "/401" => "401 Unauthorized",
            "/500" => "500 Internal Server Error",
            "/502" => "502 Bad Gateway",
            _ => "200 OK",
        };
        seen.running.fetch_sub(1, Ordering::SeqCst);
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if answer.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn start(options: &[&str], list: &[String]) -> (Child, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for line in list {
        writeln!(file, "{line}").unwrap();
    }
    let mut program = program();
    program.args(options).arg(file.path()).stdin(Stdio::null());
    (program.spawn().unwrap(), file)
}

/// Without the proxy that the environment may name, and would be asked for these servers.
fn program() -> Command {
    let mut program = Command::new(&*PROGRAM);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        program.env_remove(proxy);
    }
    program.stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

fn check(options: &[&str], list: &[String]) -> Output {
    let (program, _list) = start(options, list);
    program.wait_with_output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// By line: the result, and what is said about it.
fn results(output: &Output) -> HashMap<usize, (String, String)> {
    let said = text(&output.stdout);
    let results = said.lines().map(|line| {
        let value: Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| value[key].as_str().unwrap().to_owned();
        (
            usize::try_from(value["line"].as_u64().unwrap()).unwrap(),
            (word("result"), word("details")),
        )
    });
    results.collect()
}

#[test]
fn each_kind_of_failure_is_told_apart_and_only_what_may_pass_is_tried_again() {
    let server = Server::start();
    let refused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let list = [
        server.url("/"),
        server.url("/moved"),
        server.url("/busy"),
        server.url("/later"),
        server.url("/404"),
        server.url("/401"),
        server.url("/500"),
        server.url("/502"),
        server.url("/round"),
        server.url("/cut"),
        format!("http://{refused}/"),
        "   ".to_owned(),
        "# a comment".to_owned(),
        "no url".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://".to_owned(),
        "x".repeat(100_000),
        server.url("/"),
    ];
    let output = check(&["--json", "--time", "30"], &list);
    assert_eq!(output.status.code(), Some(1));
    let results = results(&output);
    let expected = [
        (1, "fine", "", 0),
        (2, "fine", "", 1),
        (3, "fine", "", 3),
        (4, "fine", "", 2),
        (5, "broken", "404 Not Found", 1),
        (6, "broken", "401 Unauthorized", 1),
        (7, "broken", "500 Internal Server Error", 1),
        (8, "broken", "502 Bad Gateway", 3),
        (9, "no answer", "too many redirects", 11),
        (
            10,
            "no answer",
            "connection closed before message completed",
            3,
        ),
        (11, "no answer", "no connection", 0),
        (14, "bad line", "relative URL without a base", 0),
        (15, "bad line", "neither http nor https", 0),
        (16, "bad line", "empty host", 0),
        (17, "bad line", "longer than 16384 bytes", 0),
        (18, "fine", "", 0),
    ];
    assert_eq!(results.len(), expected.len(), "{results:?}");
    for (line, result, details, requests) in expected {
        let (word, said) = &results[&line];
        assert_eq!(word, result, "line {line}: {said}");
        assert!(said.starts_with(details), "line {line}: {said}");
        if requests > 0 {
            let path = list[line - 1].rsplit('/').next().unwrap();
            assert_eq!(
                server.requests(&format!("/{path}")),
                requests,
                "line {line}"
            );
        }
    }
    assert_eq!(
        server.requests("/"),
        3,
        "two lines, and the one that has moved"
    );
}

#[test]
fn a_server_that_says_nothing_is_asked_three_times_for_the_time_given() {
    let server = Server::start();
    let output = check(&["--json", "--time", "1"], &[server.url("/silent")]);
    assert_eq!(output.status.code(), Some(1));
    let (result, said) = &results(&output)[&1];
    assert_eq!(
        (result.as_str(), said.as_str()),
        ("no answer", "nothing within 1s")
    );
    assert_eq!(server.requests("/silent"), 3);
}

#[test]
fn the_table_has_what_is_wrong_in_the_order_of_the_list_and_the_exit_code_says_so() {
    let server = Server::start();
    let list = [
        server.url("/404"),
        "no url".to_owned(),
        server.url("/"),
        server.url("/500"),
    ];
    let output = check(&[], &list);
    let expected = format!(
        "     1  broken     {}  (404 Not Found)\n     \
              2  bad line   no url  (relative URL without a base)\n     \
              4  broken     {}  (500 Internal Server Error)\n\
         1 fine, 2 broken, 0 no answer, 0 not asked, 1 bad line\n",
        list[0], list[3]
    );
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        check(&[], &list[2..3]).status.code(),
        Some(0),
        "all are fine"
    );
    assert_eq!(check(&[], &[]).status.code(), Some(0), "an empty list");
}

#[test]
fn a_list_that_cannot_be_read_is_exit_code_2() {
    let mut program = Command::new(&*PROGRAM);
    let output = program.arg("/nonexistent/list").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("/nonexistent/list: "),
        "{output:?}"
    );
    let mut program = Command::new(&*PROGRAM);
    let folder = program.arg("/").output().unwrap(); // opens, but cannot be read
    assert_eq!(folder.status.code(), Some(2), "{folder:?}");
}

#[test]
fn ten_thousand_lines_are_checked_within_both_limits() {
    let (one, two) = (Server::start(), Server::start());
    let list: Vec<_> = (0..5_000)
        .flat_map(|page| [one.url(&format!("/page/{page}")), two.url("/same")])
        .collect();
    let output = check(&["--at-once", "6", "--per-host", "4"], &list);
    assert_eq!(
        text(&output.stdout),
        "10000 fine, 0 broken, 0 no answer, 0 not asked, 0 bad line\n"
    );
    assert_eq!(two.requests("/same"), 5_000);
    assert_eq!(one.seen.requests.lock().unwrap().len(), 5_000);
    let peaks = [&one, &two].map(|server| server.seen.peak.load(Ordering::SeqCst));
    assert!(
        peaks.iter().all(|peak| *peak <= 4),
        "{peaks:?} at once to one host"
    );
    assert!(peaks[1] > 1, "{peaks:?}: nothing at once");
}

#[test]
fn no_more_requests_than_allowed_run_at_once_whatever_a_host_may_have() {
    let server = Server::start();
    let list = vec![server.url("/slow"); 30];
    let output = check(&["--at-once", "3", "--per-host", "30"], &list);
    assert_eq!(output.status.code(), Some(0));
    let peak = server.seen.peak.load(Ordering::SeqCst);
    assert!((2..=3).contains(&peak), "{peak}");
}

#[test]
fn a_slow_host_holds_up_no_other() {
    let (slow, quick) = (Server::start(), Server::start());
    let mut list = vec![slow.url("/slow"); 40];
    list.extend(vec![quick.url("/"); 10]);
    let options = ["--json", "--at-once", "16", "--per-host", "1"];
    let output = check(&options, &list);
    let order = text(&output.stdout);
    let lines: Vec<_> = order.lines().collect();
    let is_quick = |line: &&str| !line.contains("/slow");
    let last_quick = lines.iter().rposition(is_quick).unwrap();
    // One after another the slow ones take two seconds; the quick ones wait for none of them.
    assert!(last_quick < 20, "{order}");
}

#[test]
fn a_host_that_is_down_is_not_asked_on() {
    let refused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = Server::start();
    let mut list = vec![format!("http://{refused}/"); 200];
    list.push(server.url("/"));
    let output = check(&["--json", "--tries", "1"], &list);
    let results = results(&output);
    let count = |word| results.values().filter(|(it, _)| it == word).count();
    assert_eq!(count("fine"), 1);
    // Ten failures open its circuit; as many as are under way at once may come on top.
    assert!(
        (10..=18).contains(&count("no answer")),
        "{}",
        count("no answer")
    );
    assert_eq!(count("no answer") + count("not asked"), 200);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_it_at_once_with_a_report_of_what_was_done() {
    let server = Server::start();
    let list = [server.url("/404"), server.url("/silent"), server.url("/")];
    let (program, _list) = start(&[], &list);
    while server.requests("/silent") == 0 || server.requests("/404") == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(200)); // for what has been answered to be counted
    let id = Pid::from_child(&program);
    kill_process(id, Signal::INT).unwrap();
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(
        text(&output.stdout).ends_with("1 fine, 1 broken, 0 no answer, 0 not asked, 0 bad line\n"),
        "{output:?}"
    );
    assert!(
        text(&output.stderr).contains("stopped by SIGINT"),
        "{output:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_list_from_standard_input_is_checked_as_it_comes_and_need_not_end_for_a_stop() {
    let server = Server::start();
    let mut program = program();
    program.args(["--json", "-"]).stdin(Stdio::piped());
    let mut program = program.spawn().unwrap();
    let mut list = program.stdin.take().unwrap();
    writeln!(list, "{}", server.url("/404")).unwrap();
    let mut said = BufReader::new(program.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&said.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["result"], "broken", "while the list is still open");
    kill_process(Pid::from_child(&program), Signal::TERM).unwrap();
    assert_eq!(program.wait().unwrap().code(), Some(143));
    drop(list);
}
