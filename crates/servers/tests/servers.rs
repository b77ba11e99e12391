//! That servers start, do what is asked, and never outlive the process that started them.
#![cfg(test)] // so that the lints take the helpers for what they are
#![cfg(unix)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use servers::{Postgres, Redis, ServerError};

const LIMIT: Duration = Duration::from_secs(30);
/// For an answer that never comes.
const SHORT: Duration = Duration::from_millis(500);

fn redis_says(url: &str, command: &str) -> std::io::Result<String> {
    redis_says_within(LIMIT, url, command)
}

fn redis_says_within(limit: Duration, url: &str, command: &str) -> std::io::Result<String> {
    let (password, address) = password_and_address(url);
    let commands = format!("AUTH {password}\r\n{command}");
    let answer = redis_says_without(limit, address, &commands, 2)?;
    Ok(answer.strip_prefix("+OK\r\n").unwrap().to_owned())
}

fn password_and_address(url: &str) -> (&str, &str) {
    let both = url.strip_prefix("redis://:").unwrap();
    both.split_once('@').unwrap()
}

/// So many lines, without the last one's end, that the server says to these commands.
fn redis_says_without(
    limit: Duration,
    address: &str,
    commands: &str,
    lines: usize,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(format!("{commands}\r\n").as_bytes())?;
    let (mut all, mut stream) = (String::new(), BufReader::new(stream));
    for _ in 0..lines {
        stream.read_line(&mut all)?;
    }
    if all.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(all.trim_end().to_owned())
}

fn socket_folder(url: &str) -> PathBuf {
    let host = url.strip_prefix("host=").unwrap();
    host.split(' ').next().unwrap().into()
}

/// The first byte of the answer to a client that starts a session: `R`, if it may.
fn postgres_answers(folder: &Path) -> std::io::Result<u8> {
    postgres_answers_within(LIMIT, folder)
}

fn postgres_answers_within(limit: Duration, folder: &Path) -> std::io::Result<u8> {
    let mut answer = [0];
    ask_postgres(limit, folder, "postgres")?.read_exact(&mut answer)?;
    Ok(answer[0])
}

fn ask_postgres(limit: Duration, folder: &Path, user: &str) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(folder.join(".s.PGSQL.5432"))?;
    stream.set_read_timeout(Some(limit))?;
    let body = format!("\0\x03\0\0user\0{user}\0database\0postgres\0\0");
    let length = u32::try_from(body.len() + 4).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], body.as_bytes()].concat())?;
    Ok(stream)
}

fn within_limit(mut holds: impl FnMut() -> bool) -> bool {
    (0..LIMIT.as_millis() / 10).any(|_| {
        #[expect(clippy::disallowed_methods, reason = "no async code")]
        thread::sleep(Duration::from_millis(10));
        holds()
    })
}

#[test]
fn redis_answers_is_empty_stops_and_starts_again() {
    let redis = Redis::start().unwrap();
    assert_eq!(redis_says(redis.url(), "DBSIZE").unwrap(), ":0");
    assert_eq!(redis_says(redis.url(), "SET key value").unwrap(), "+OK");
    redis.stop().unwrap();
    redis_says(redis.url(), "PING").unwrap_err();
    redis.restart().unwrap();
    assert_eq!(redis_says(redis.url(), "DBSIZE").unwrap(), ":0");
    let url = redis.url().to_owned();
    drop(redis);
    redis_says(&url, "PING").unwrap_err();
}

#[test]
fn a_server_that_runs_is_started_again_and_not_lost() {
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    assert_eq!(redis_says(redis.url(), "SET key value").unwrap(), "+OK");
    redis.restart().unwrap();
    assert_eq!(redis_says(redis.url(), "DBSIZE").unwrap(), ":0", "another");
    redis.pause().unwrap();
    redis.restart().unwrap();
    assert_eq!(redis_says(redis.url(), "PING").unwrap(), "+PONG");
    let url = redis.url().to_owned();
    drop(redis);
    redis_says(&url, "PING").unwrap_err();

    postgres.restart().unwrap();
    let folder = socket_folder(postgres.url());
    assert_eq!(postgres_answers(&folder).unwrap(), b'R');
    drop(postgres);
    assert!(!folder.exists());
}

/// Other users of the machine could run programs in their user's name.
#[test]
fn nobody_else_comes_to_the_servers() {
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    let (_, address) = password_and_address(redis.url());
    let said = redis_says_without(LIMIT, address, "CONFIG GET dir", 1).unwrap();
    assert_eq!(said, "-NOAUTH Authentication required.");
    let configured = redis_says(redis.url(), "CONFIG GET dir").unwrap();
    assert_eq!(configured, "*2");
    let folder = std::fs::metadata(socket_folder(postgres.url())).unwrap();
    assert_eq!(folder.mode() & 0o077, 0);
}

#[test]
fn a_paused_redis_accepts_and_does_not_answer() {
    let redis = Redis::start().unwrap();
    redis.pause().unwrap();
    let error = redis_says_within(SHORT, redis.url(), "PING").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    redis.resume().unwrap();
    assert_eq!(redis_says(redis.url(), "PING").unwrap(), "+PONG");
    redis.pause().unwrap();
    drop(redis); // and this does not take for ever
}

#[test]
fn two_servers_do_not_know_each_other() {
    let (one, two) = (Redis::start().unwrap(), Redis::start().unwrap());
    assert_eq!(redis_says(one.url(), "SET key value").unwrap(), "+OK");
    assert_eq!(redis_says(two.url(), "DBSIZE").unwrap(), ":0");
}

#[test]
fn postgres_answers_stops_and_starts_again_with_its_data() {
    let postgres = Postgres::start().unwrap();
    let folder = socket_folder(postgres.url());
    assert_eq!(postgres_answers(&folder).unwrap(), b'R');
    // Refused, which the server logs as FATAL. That does not make the next start a failed one.
    let mut refusal = Vec::new();
    let mut nobody = ask_postgres(LIMIT, &folder, "nobody").unwrap();
    nobody.read_to_end(&mut refusal).unwrap();
    let refusal = String::from_utf8_lossy(&refusal);
    assert!(refusal.contains("FATAL"), "{refusal}");
    postgres.stop().unwrap();
    postgres_answers(&folder).unwrap_err();
    postgres.restart().unwrap();
    assert_eq!(postgres_answers(&folder).unwrap(), b'R');
    postgres.pause().unwrap();
    let error = postgres_answers_within(SHORT, &folder).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    postgres.resume().unwrap();
    assert_eq!(postgres_answers(&folder).unwrap(), b'R');
    drop(postgres);
    assert!(!folder.exists());
}

/// What the child processes of the next test do. Alone, it does nothing.
#[test]
fn start_servers_and_wait_to_be_killed() {
    if std::env::var_os("SERVERS_TEST_CHILD").is_none() {
        return;
    }
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    println!("\n{}\n{}", redis.url(), postgres.url());
    #[expect(clippy::disallowed_methods, reason = "no async code")]
    thread::sleep(LIMIT);
}

#[test]
fn servers_do_not_outlive_a_process_that_is_killed() {
    for signal in ["KILL", "INT", "TERM"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "start_servers_and_wait_to_be_killed",
                "--nocapture",
            ])
            .env("SERVERS_TEST_CHILD", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut urls = lines
            .map(Result::unwrap)
            .skip_while(|line| !line.starts_with("redis:"));
        let (redis, postgres) = (urls.next().unwrap(), urls.next().unwrap());
        let folder = socket_folder(&postgres);
        assert_eq!(redis_says(&redis, "PING").unwrap(), "+PONG");
        assert_eq!(postgres_answers(&folder).unwrap(), b'R');

        let kill = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        child.wait().unwrap();
        assert!(
            within_limit(|| redis_says(&redis, "PING").is_err()),
            "after SIG{signal}"
        );
        assert!(within_limit(|| !folder.exists()), "after SIG{signal}");
    }
}

#[test]
fn a_server_that_a_variable_names_is_not_stopped() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "shared_servers_are_not_ours", "--nocapture"]);
    child
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .env("DATABASE_URL", "host=nowhere");
    let output = child.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// What the child process of the last test does.
#[test]
fn shared_servers_are_not_ours() {
    if std::env::var("REDIS_URL").as_deref() != Ok("redis://127.0.0.1:1") {
        return;
    }
    let (redis, postgres) = (Redis::shared().unwrap(), Postgres::shared().unwrap());
    assert_eq!(
        (redis.url(), postgres.url()),
        ("redis://127.0.0.1:1", "host=nowhere")
    );
    for error in [
        redis.stop(),
        redis.pause(),
        postgres.stop(),
        postgres.pause(),
    ] {
        assert!(matches!(error, Err(ServerError::NotOurs { .. })));
    }
}
