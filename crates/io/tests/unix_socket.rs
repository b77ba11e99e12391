//! What a server at a path promises, among threads, processes and what these leave behind.
#![cfg(test)] // so that the lints take the helpers for what they are
#![cfg(unix)]

use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener as StdListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, PoisonError, RwLock};
use std::time::Duration;
use std::{env, process, thread};

use ::io::tcp_server;
use ::io::unix_socket::{BindError, Listener, bind, connect};
use rustix::process::geteuid;
use tempfile::TempDir;
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixDatagram, UnixSocket, UnixStream};
use tokio::runtime::Builder;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// For what takes milliseconds, on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);
const ROLE: &str = "UNIX_SOCKET_TEST_ROLE";
const SOCKET: &str = "UNIX_SOCKET_TEST_PATH";

#[tokio::test]
async fn a_dead_servers_file_is_replaced_and_a_log_line_tells() {
    let (_folder, path) = folder();
    leave_stale(&path);
    let log = Capture::of("io::unix_socket");
    let _guard = log.start();
    let server = bind(&path, mine()).await.unwrap();
    echo_once(&server, &path).await;
    let line = format!(
        "INFO replaced a dead server's socket path={}",
        path.display()
    );
    assert_eq!(log.lines(), [line]);
}

#[tokio::test]
async fn a_living_servers_file_is_not_replaced() {
    let (_folder, path) = folder();
    let server = bind(&path, mine()).await.unwrap();
    for _ in 0..3 {
        let error = bind(&path, mine()).await.unwrap_err();
        assert!(matches!(&error, BindError::AlreadyServed(at) if *at == path));
        let message = format!(
            "a server runs at {}: stop it, or use another path",
            path.display()
        );
        assert_eq!(error.to_string(), message);
    }
    echo_once(&server, &path).await;
}

#[cfg(target_os = "linux")] // others refuse those for whom there is no place
#[tokio::test]
async fn a_living_server_of_another_kind_is_found_though_its_queue_is_full() {
    let (_folder, path) = folder();
    let other = UnixSocket::new_stream().unwrap();
    other.bind(&path).unwrap();
    let other = other.listen(1).unwrap();
    let mut queued = Vec::new();
    loop {
        let error = bind(&path, mine()).await.unwrap_err();
        assert!(matches!(error, BindError::AlreadyServed(_)), "{error}");
        match connect(&path, SHORT).await {
            Ok(client) => queued.push(client),
            Err(error) => {
                assert_eq!(error.error.kind(), ErrorKind::TimedOut, "{error}");
                break;
            }
        }
    }
    assert!(!queued.is_empty());
    let error = bind(&path, mine()).await.unwrap_err();
    assert!(matches!(error, BindError::AlreadyServed(_)), "{error}");
    timeout(LIMIT, other.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_living_datagram_socket_is_not_replaced() {
    let (_folder, path) = folder();
    let other = UnixDatagram::bind(&path).unwrap();
    let error = bind(&path, mine()).await.unwrap_err();
    assert!(matches!(error, BindError::Io(..)), "{error}");
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"x", &path).await.unwrap();
    assert_eq!(other.recv(&mut [0; 8]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_has_bound_and_does_not_listen_yet_is_taken_for_dead() {
    let (_folder, path) = folder();
    let other = UnixSocket::new_stream().unwrap();
    other.bind(&path).unwrap();
    let server = bind(&path, mine()).await.unwrap();
    let other = other.listen(8).unwrap(); // no error, and no client will ever come
    echo_once(&server, &path).await;
    timeout(SHORT, other.accept()).await.unwrap_err();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone_and_nothing_put_beside_it() {
    let (folder, path) = folder();
    let message = |error: BindError| {
        assert!(matches!(&error, BindError::NotASocket(at) if *at == path));
        assert!(
            error
                .to_string()
                .contains("is no socket and was left alone: use")
        );
    };
    fs::write(&path, "precious").unwrap();
    message(bind(&path, mine()).await.unwrap_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    message(bind(&path, mine()).await.unwrap_err());
    assert!(path.is_dir());
    fs::remove_dir(&path).unwrap();

    symlink("nowhere", &path).unwrap();
    message(bind(&path, mine()).await.unwrap_err());
    assert!(path.is_symlink());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn another_process_keeps_its_path_while_it_lives_and_no_longer() {
    let (_folder, path) = folder();
    let mut child = spawn(&mut child_command("serve", &path));
    let mut client = connect(&path, LIMIT).await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    let error = bind(&path, mine()).await.unwrap_err();
    assert!(matches!(error, BindError::AlreadyServed(_)), "{error}");

    child.kill().unwrap(); // SIGKILL: no destructor runs
    child.wait().unwrap();
    let error = connect(&path, LIMIT).await.unwrap_err();
    assert_eq!(
        (&error.path, error.error.kind()),
        (&path, ErrorKind::ConnectionRefused)
    );
    assert!(
        error.to_string().contains(if cfg!(target_os = "linux") {
            "nobody listens: start the server again"
        } else {
            "nobody listens, or its queue is full: see the server"
        }),
        "{error}"
    );
    let server = bind(&path, mine()).await.unwrap();
    echo_once(&server, &path).await;
}

#[test]
fn of_servers_that_start_at_once_exactly_one_wins_and_the_rest_are_told() {
    const SERVERS: usize = 4;
    for round in 0..100 {
        let (_folder, path) = folder();
        if round % 2 == 0 {
            leave_stale(&path);
        }
        let (start, end) = (Barrier::new(SERVERS), Barrier::new(SERVERS));
        let won: usize = thread::scope(|scope| {
            let server = || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    start.wait();
                    let bound = bind(&path, mine()).await;
                    end.wait(); // the winner lives until all have tried
                    match bound {
                        Ok(server) => {
                            echo_once(&server, &path).await;
                            1
                        }
                        Err(BindError::AlreadyServed(_)) => 0,
                        Err(error) => panic!("{error}"),
                    }
                })
            };
            let servers: Vec<_> = (0..SERVERS).map(|_| scope.spawn(server)).collect();
            servers
                .into_iter()
                .map(|server| server.join().unwrap())
                .sum()
        });
        assert_eq!(won, 1, "round {round}");
    }
}

#[tokio::test]
async fn the_file_goes_with_the_listener_though_the_servers_future_is_dropped() {
    let (folder, path) = folder();
    for _ in 0..50 {
        let server = bind(&path, mine()).await.unwrap();
        assert!(path.exists());
        let serving = tokio::spawn(async move { server.get_ref().accept().await.map(drop) });
        tokio::task::yield_now().await;
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        let error = connect(&path, LIMIT).await.unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::NotFound);
        assert!(
            error
                .to_string()
                .contains("start the server, or correct the path")
        );
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "the lock's file alone: {left:?}");
}

#[tokio::test]
async fn another_file_in_its_place_outlives_the_listener_and_a_log_line_tells() {
    let (_folder, path) = folder();
    let log = Capture::of("io::unix_socket");
    let _guard = log.start();
    let server = bind(&path, mine()).await.unwrap();
    fs::remove_file(&path).unwrap();
    let other = StdListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("WARN "), "{lines:?}");
    assert!(lines[0].contains("another file in its place"), "{lines:?}");
    drop(other);
}

#[tokio::test]
async fn a_server_whose_file_was_removed_keeps_the_path_by_its_lock() {
    let (_folder, path) = folder();
    let log = Capture::of("io::unix_socket");
    let _guard = log.start();
    let server = bind(&path, mine()).await.unwrap();
    fs::remove_file(&path).unwrap();
    let error = bind(&path, mine()).await.unwrap_err();
    assert!(matches!(error, BindError::AlreadyServed(_)), "{error}");
    drop(server);
    let lines = log.lines();
    assert!(
        lines.len() == 1 && lines[0].starts_with("WARN cannot remove the socket path="),
        "{lines:?}"
    );
    bind(&path, mine()).await.unwrap();
}

#[test]
fn a_dropped_listeners_path_is_free_at_once_though_children_are_being_started() {
    // Until its program begins, a child has every open file of this process, locks included.
    let (_folder, path) = folder();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let starting = scope.spawn(|| {
            let mut children = 0;
            while !stop.load(Ordering::Relaxed) {
                let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
                assert!(Command::new("true").status().unwrap().success());
                children += 1;
            }
            children
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let bound = runtime.block_on(async {
            for _ in 0..2_000 {
                drop(bind(&path, mine()).await?);
            }
            Ok::<_, BindError>(())
        });
        stop.store(true, Ordering::Relaxed);
        assert!(starting.join().unwrap() > 0);
        bound.unwrap();
    });
}

#[tokio::test]
async fn the_file_has_the_mode_asked_for() {
    for mode in [0o600, 0o660, 0o666] {
        let (_folder, path) = folder();
        let _server = bind(&path, Permissions::from_mode(mode)).await.unwrap();
        assert_eq!(mode_of(&path), mode);
        assert_eq!(mode_of(&path.with_added_extension("lock")), 0o600);
    }
}

#[test]
fn nobody_connects_before_the_mode_is_right() {
    const ROUNDS: usize = 2_000;
    let (_folder, path) = folder();
    let stop = AtomicBool::new(false);
    let (connected, wrong) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut connected, mut wrong) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let Ok(mut client) = std::os::unix::net::UnixStream::connect(&path) else {
                    continue;
                };
                connected += 1;
                wrong += usize::from(mode_of(&path) != 0o600);
                client.write_all(b"x").unwrap(); // it has looked: this server may go
                client.read_to_end(&mut Vec::new()).unwrap(); // and has gone
            }
            (connected, wrong)
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let rounds = runtime.block_on(async {
            for _ in 0..ROUNDS {
                let server = bind(&path, mine()).await?;
                let (mut client, _) = timeout(LIMIT, server.get_ref().accept()).await??;
                timeout(LIMIT, client.read_u8()).await??;
                drop(server); // before the client's end, so that no client meets two servers
            }
            Ok::<_, Box<dyn Error>>(())
        });
        stop.store(true, Ordering::Relaxed);
        rounds.unwrap();
        watcher.join().unwrap()
    });
    assert_eq!((connected, wrong), (ROUNDS, 0));
}

#[tokio::test]
async fn a_user_whom_the_mode_keeps_out_is_told_so() {
    let (folder, path) = folder();
    let _server = bind(&path, mine()).await.unwrap();
    if geteuid().is_root() {
        // Root is never kept out. A child of another user must find its way to the program, too.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("program");
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
        let mut command = child_command_of(&program, "be denied", &path);
        let mut child = spawn(command.uid(65_534));
        assert!(child.wait().unwrap().success());
    } else {
        fs::set_permissions(&path, Permissions::from_mode(0o0)).unwrap();
        assert_denied(&path).await;
    }
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_is_refused_with_the_limit() {
    let (folder, _) = folder();
    let room = if cfg!(target_os = "linux") { 107 } else { 103 };
    let name = |length: usize| "x".repeat(length - folder.path().as_os_str().len() - 1);
    let longest = folder.path().join(name(room));
    let server = bind(&longest, mine()).await.unwrap();
    echo_once(&server, &longest).await;
    let too_long = folder.path().join(name(room + 1));
    for path in [&too_long, Path::new(""), Path::new("a\0b")] {
        let refused = bind(path, mine()).await.unwrap_err();
        assert!(
            matches!(&refused, BindError::BadPath(at) if at == path),
            "{refused}"
        );
        assert!(
            refused.to_string().contains("use 1 to 107 bytes"),
            "{refused}"
        );
        let refused = connect(path, LIMIT).await.unwrap_err();
        assert_eq!(refused.error.kind(), ErrorKind::InvalidInput, "{refused}");
        assert!(
            refused.to_string().contains("use 1 to 107 bytes"),
            "{refused}"
        );
    }
    let refused = bind(Path::new("\0abstract"), mine()).await.unwrap_err();
    assert!(matches!(refused, BindError::BadPath(_)), "{refused}");
    assert!(
        fs::read_dir(folder.path()).unwrap().count() == 2,
        "the longest and its lock"
    );
}

#[tokio::test]
async fn a_missing_folder_or_a_file_in_its_place_is_told() {
    let (folder, path) = folder();
    fs::write(&path, "").unwrap();
    for path in [folder.path().join("none/app.sock"), path.join("app.sock")] {
        let error = bind(&path, mine()).await.unwrap_err();
        assert!(
            matches!(&error, BindError::NoFolder(at) if *at == path),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("create it, for the server's user only")
        );
    }
}

#[tokio::test]
async fn a_lock_that_cannot_be_opened_is_told() {
    let (_folder, path) = folder();
    fs::create_dir(path.with_added_extension("lock")).unwrap();
    let error = bind(&path, mine()).await.unwrap_err();
    assert!(
        matches!(&error, BindError::Io(at, _) if *at == path),
        "{error}"
    );
    assert!(error.to_string().contains("or its lock"), "{error}");
    assert!(!path.exists());
}

#[cfg(target_os = "linux")] // others refuse those for whom there is no place
#[tokio::test]
async fn a_client_of_a_full_queue_gets_in_once_another_is_accepted() {
    let (_folder, path) = folder();
    let server = UnixSocket::new_stream().unwrap();
    server.bind(&path).unwrap();
    let server = server.listen(1).unwrap();
    let mut queued = 0;
    let error = loop {
        match connect(&path, SHORT).await {
            Ok(_) => queued += 1, // the queue keeps those that have left, too
            Err(error) => break error,
        }
    };
    assert!(queued >= 1, "{error}");
    assert_eq!(error.error.kind(), ErrorKind::TimedOut);
    assert!(
        error.to_string().contains("its queue is full: see why"),
        "{error}"
    );
    let accept = async {
        tokio::time::sleep(SHORT).await;
        server.accept().await
    };
    let (client, accepted) = tokio::join!(connect(&path, Duration::MAX), accept);
    client.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn no_time_at_all_is_no_panic() {
    let (_folder, path) = folder();
    let server = bind(&path, mine()).await.unwrap();
    if let Err(error) = connect(&path, Duration::ZERO).await {
        assert_eq!(error.error.kind(), ErrorKind::TimedOut);
    }
    connect(&path, LIMIT).await.unwrap();
    drop(server);
}

#[tokio::test]
async fn the_tcp_servers_accept_loop_serves_this_listener() {
    struct Accepting(Listener);
    impl tcp_server::Listener for Accepting {
        type Stream = UnixStream;
        type Client = SocketAddr;

        async fn accept(&mut self) -> std::io::Result<(UnixStream, SocketAddr)> {
            self.0.get_ref().accept().await
        }
    }

    let (_folder, path) = folder();
    let listener = Accepting(bind(&path, mine()).await.unwrap());
    let stop = CancellationToken::new();
    let limits = tcp_server::Limits {
        connections: NonZeroUsize::MIN,
        idle: LIMIT,
        write: LIMIT,
        lifetime: LIMIT,
        drain: LIMIT,
    };
    let handler = |connection, _client, stop| tcp_server::echo(connection, stop);
    let server = tokio::spawn(tcp_server::serve(listener, limits, stop.clone(), handler));
    let mut client = connect(&path, LIMIT).await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    drop(client);
    stop.cancel();
    let report = timeout(LIMIT, server).await.unwrap().unwrap();
    assert_eq!(report.served, 1);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_client_is_connected_before_it_is_accepted_and_reset_if_it_never_is() {
    let (_folder, path) = folder();
    let server = bind(&path, mine()).await.unwrap();
    let mut client = connect(&path, LIMIT).await.unwrap();
    client.write_all(b"nobody reads this").await.unwrap();
    drop(server);
    let error = client.read_u8().await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    ));
}

#[test]
fn a_relative_paths_file_goes_although_the_process_changes_its_folder() {
    let (folder, path) = folder();
    let mut command = child_command("change folder", &path);
    let mut child = spawn(command.current_dir(folder.path()));
    assert!(child.wait().unwrap().success());
    assert!(path.with_added_extension("lock").exists());
    assert!(!path.exists());
}

#[test]
fn a_dropped_bind_has_removed_nothing_and_keeps_no_lock() {
    let _no_child = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let points = runtime.block_on(every_await_point(
        LIMIT,
        async || {
            let (folder, path) = folder();
            let other = StdListener::bind(&path).unwrap();
            (folder, path, other)
        },
        async |(_, path, _)| bind(path, mine()).await.map(drop),
        async |(folder, path, other), _| {
            assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
            drop(other);
            fs::remove_file(&path).unwrap();
            bind(&path, mine()).await.unwrap();
            drop(folder);
        },
    ));
    assert!(points.unwrap() >= 1);
}

#[tokio::test]
async fn a_dropped_connect_leaves_no_connection() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (folder, path) = folder();
            let server = bind(&path, mine()).await.unwrap();
            (folder, path, server)
        },
        async |(_, path, _)| connect(path, LIMIT).await.unwrap(),
        async |(_folder, path, server), outcome| {
            if let Outcome::Dropped(_) = outcome {
                let (mut stream, _) = server.get_ref().accept().await.unwrap();
                let end = timeout(Duration::from_secs(20), stream.read(&mut [0])).await;
                assert_eq!(end.expect("it is still open").unwrap(), 0);
            }
            drop(outcome);
            drop(connect(&path, LIMIT).await.unwrap());
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

// The child processes.

/// Children and the files that they would inherit: what is open while a child is started is open in
/// the child, too, until its program begins.
static STARTING: RwLock<()> = RwLock::new(());

#[test]
fn child_process() {
    let (Ok(role), Some(path)) = (env::var(ROLE), env::var_os(SOCKET)) else {
        return; // this is the test, not a child
    };
    let path = PathBuf::from(path);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "serve" => {
                let server = bind(&path, mine()).await.unwrap();
                eprintln!("ready");
                loop {
                    let (mut stream, _) = server.get_ref().accept().await.unwrap();
                    let byte = stream.read_u8().await;
                    stream.write_all(&[byte.unwrap_or(0)]).await.unwrap();
                }
            }
            "change folder" => {
                let server = bind(Path::new("app.sock"), mine()).await.unwrap();
                assert!(path.exists());
                env::set_current_dir("/").unwrap();
                drop(server);
                eprintln!("ready");
            }
            "be denied" => {
                eprintln!("ready");
                assert_denied(&path).await;
            }
            other => panic!("no such role: {other}"),
        }
    });
    process::exit(0);
}

fn spawn(command: &mut Command) -> Child {
    let mut child = {
        let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let said = BufReader::new(child.stderr.take().unwrap()).lines().next();
    assert_eq!(said.unwrap().unwrap(), "ready");
    child
}

fn child_command(role: &str, path: &Path) -> Command {
    child_command_of(&env::current_exe().unwrap(), role, path)
}

fn child_command_of(program: &Path, role: &str, path: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", "child_process", "--nocapture"]);
    command
        .env(ROLE, role)
        .env(SOCKET, path)
        .stdout(Stdio::null());
    command
}

/// What is left of a server that was killed: its file, and nobody behind it.
fn leave_stale(path: &Path) {
    let _no_child = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    drop(StdListener::bind(path).unwrap());
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    (folder, path)
}

fn mine() -> Permissions {
    Permissions::from_mode(0o600)
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

async fn assert_denied(path: &Path) {
    let error = connect(path, LIMIT).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("run as its owner"), "{error}");
}

async fn echo_once(server: &Listener, path: &Path) {
    let serve = async {
        let (mut stream, _) = server.get_ref().accept().await.unwrap();
        let byte = stream.read_u8().await.unwrap();
        stream.write_all(&[byte]).await.unwrap();
    };
    let ask = async {
        let mut stream = connect(path, LIMIT).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    };
    timeout(LIMIT, async { tokio::join!(serve, ask) })
        .await
        .expect("nobody serves");
}
