//! What a server at a path promises, among threads, processes and what these leave behind.
#![cfg(test)] // so that the lints take the helpers for what they are
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::num::NonZeroU32;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener as StdListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, LazyLock, Mutex, PoisonError, RwLock};
use std::time::Duration;
use std::{env, process, thread};

use ::io::unix_socket::{Access, BindError, ConnectError, Listener, bind, connect};
use rustix::process::geteuid;
use tempfile::TempDir;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixDatagram, UnixSocket};
use tokio::runtime::Builder;
use tokio::time::timeout;
use tracing::field::Field;
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Metadata, Subscriber, span};

/// For what takes milliseconds, on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);
const ONE: NonZeroU32 = NonZeroU32::MIN;
const MANY: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
const ROLE: &str = "UNIX_SOCKET_TEST_ROLE";
const SOCKET: &str = "UNIX_SOCKET_TEST_PATH";

#[tokio::test]
async fn a_dead_servers_file_is_replaced_and_a_log_line_tells() {
    let (_folder, path) = folder();
    leave_stale(&path);
    let (log, _guard) = Log::install();
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
    echo_once(&server, &path).await;
    let log = log.read();
    assert!(log.contains("replaced a dead server's socket"), "{log}");
}

#[tokio::test]
async fn a_living_servers_file_is_not_replaced() {
    let (_folder, path) = folder();
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
    for _ in 0..3 {
        let error = bind(&path, Access::Owner, MANY).await.unwrap_err();
        assert!(matches!(&error, BindError::AlreadyServed(at) if *at == path));
        let message = format!(
            "a server runs at {}: stop it, or use another path",
            path.display()
        );
        assert_eq!(error.to_string(), message);
    }
    echo_once(&server, &path).await;
}

#[tokio::test]
async fn a_living_server_of_another_kind_is_found_though_its_queue_is_full() {
    let (_folder, path) = folder();
    let other = UnixSocket::new_stream().unwrap();
    other.bind(&path).unwrap();
    let other = other.listen(1).unwrap();
    let mut queued = Vec::new();
    loop {
        let error = bind(&path, Access::Owner, MANY).await.unwrap_err();
        assert!(matches!(error, BindError::AlreadyServed(_)), "{error}");
        match connect(&path, SHORT).await {
            Ok(client) => queued.push(client),
            Err(error) => {
                assert_eq!(error.error.kind(), ErrorKind::TimedOut);
                break;
            }
        }
    }
    assert!(!queued.is_empty());
    let error = bind(&path, Access::Owner, MANY).await.unwrap_err();
    assert!(matches!(error, BindError::AlreadyServed(_)), "{error}");
    timeout(LIMIT, other.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_living_datagram_socket_is_not_replaced() {
    let (_folder, path) = folder();
    let other = UnixDatagram::bind(&path).unwrap();
    let error = bind(&path, Access::Owner, MANY).await.unwrap_err();
    assert!(
        error.to_string().contains("tell whether a server lives"),
        "{error}"
    );
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"x", &path).await.unwrap();
    assert_eq!(other.recv(&mut [0; 8]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_has_bound_and_does_not_listen_yet_is_taken_for_dead() {
    let (_folder, path) = folder();
    let other = UnixSocket::new_stream().unwrap();
    other.bind(&path).unwrap();
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
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
    message(bind(&path, Access::Owner, MANY).await.unwrap_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    message(bind(&path, Access::Owner, MANY).await.unwrap_err());
    assert!(path.is_dir());
    fs::remove_dir(&path).unwrap();

    symlink("nowhere", &path).unwrap();
    message(bind(&path, Access::Owner, MANY).await.unwrap_err());
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
    let error = bind(&path, Access::Owner, MANY).await.unwrap_err();
    assert!(matches!(error, BindError::AlreadyServed(_)), "{error}");

    child.kill().unwrap(); // SIGKILL: no destructor runs
    child.wait().unwrap();
    let error = connect(&path, LIMIT).await.unwrap_err();
    assert_failed(
        &error,
        &path,
        ErrorKind::ConnectionRefused,
        "start it again",
    );
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
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
                    let bound = bind(&path, Access::Owner, MANY).await;
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
        let server = bind(&path, Access::Owner, MANY).await.unwrap();
        assert!(path.exists());
        let serving = tokio::spawn(async move { server.accept().await.map(drop) });
        tokio::task::yield_now().await;
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        let error = connect(&path, LIMIT).await.unwrap_err();
        assert_failed(&error, &path, ErrorKind::NotFound, "or start the server");
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "the lock's file alone: {left:?}");
}

#[tokio::test]
async fn another_file_in_its_place_outlives_the_listener_and_a_log_line_tells() {
    let (_folder, path) = folder();
    let (log, _guard) = Log::install();
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
    fs::remove_file(&path).unwrap();
    let other = StdListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
    assert!(
        log.read()
            .contains("left the socket's path to another file")
    );
    drop(other);
}

#[tokio::test]
async fn a_server_whose_file_was_removed_keeps_the_path_by_its_lock() {
    let (_folder, path) = folder();
    let (log, _guard) = Log::install();
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
    fs::remove_file(&path).unwrap();
    let error = bind(&path, Access::Owner, MANY).await.unwrap_err();
    assert!(matches!(error, BindError::AlreadyServed(_)), "{error}");
    drop(server);
    assert!(log.read().contains("the socket is gone"));
    bind(&path, Access::Owner, MANY).await.unwrap();
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
                drop(bind(&path, Access::Owner, MANY).await?);
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
    for (access, mode) in [
        (Access::Owner, 0o600),
        (Access::Group, 0o660),
        (Access::Everyone, 0o666),
    ] {
        let (_folder, path) = folder();
        let _server = bind(&path, access, MANY).await.unwrap();
        assert_eq!(mode_of(&path), mode);
    }
}

#[test]
fn nobody_connects_before_the_mode_is_right() {
    let (_folder, path) = folder();
    const SERVERS: usize = 2_000;
    let (looked, dropped) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let until_more = |count: &AtomicUsize, number| {
        while count.load(Ordering::SeqCst) <= number {
            thread::yield_now();
        }
    };
    let wrong = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut wrong = 0;
            for number in 0..SERVERS {
                while std::os::unix::net::UnixStream::connect(&path).is_err() {}
                wrong += usize::from(mode_of(&path) != 0o600);
                looked.fetch_add(1, Ordering::SeqCst);
                until_more(&dropped, number);
            }
            wrong
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for number in 0..SERVERS {
                let server = bind(&path, Access::Owner, MANY).await.unwrap();
                until_more(&looked, number);
                drop(server);
                dropped.fetch_add(1, Ordering::SeqCst);
            }
        });
        watcher.join().unwrap()
    });
    assert_eq!(wrong, 0, "connected while the mode was still the umask's");
}

#[tokio::test]
async fn a_user_whom_the_mode_keeps_out_is_told_so() {
    let (folder, path) = folder();
    let _server = bind(&path, Access::Owner, MANY).await.unwrap();
    if geteuid().is_root() {
        // Root is never kept out. A child of another user must find its way to the program, too.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("program");
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
        let mut command = child_command_of(&program, "be denied", &path);
        let mut child = spawn(command.uid(65_534));
        assert!(child.wait().unwrap().success());
    } else {
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        assert_denied(&path).await;
    }
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_is_refused_with_the_limit() {
    let (folder, _) = folder();
    let room = if cfg!(target_os = "linux") { 107 } else { 103 };
    let name = |length: usize| "x".repeat(length - folder.path().as_os_str().len() - 1);
    let longest = folder.path().join(name(room));
    let server = bind(&longest, Access::Owner, MANY).await.unwrap();
    echo_once(&server, &longest).await;
    let too_long = folder.path().join(name(room + 5));
    for path in [
        &too_long,
        Path::new(""),
        Path::new("\0abstract"),
        Path::new("a\0b"),
    ] {
        let refused = bind(path, Access::Owner, MANY).await.unwrap_err();
        assert!(refused.to_string().contains("1 to 107"), "{refused}");
        let refused = connect(path, LIMIT).await.unwrap_err();
        assert_failed(&refused, path, ErrorKind::InvalidInput, "take another");
        assert!(refused.to_string().contains("1 to 107"), "{refused}");
    }
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
        let error = bind(&path, Access::Owner, MANY).await.unwrap_err();
        let BindError::Io {
            path: at, error, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(*at, path);
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_lock_that_cannot_be_opened_is_told() {
    let (_folder, path) = folder();
    fs::create_dir(path.with_added_extension("lock")).unwrap();
    let error = bind(&path, Access::Owner, MANY).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot open the lock beside "),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_of_a_full_queue_gets_in_once_another_is_accepted() {
    let (_folder, path) = folder();
    let server = bind(&path, Access::Owner, ONE).await.unwrap();
    let mut queued = 0;
    let error = loop {
        match connect(&path, SHORT).await {
            Ok(_) => queued += 1, // the queue keeps those that have left, too
            Err(error) => break error,
        }
    };
    assert!(queued >= 1, "{error}");
    assert_failed(
        &error,
        &path,
        ErrorKind::TimedOut,
        "the server accepts too slowly",
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
async fn no_time_and_an_enormous_queue_are_no_panic() {
    let (_folder, path) = folder();
    let server = bind(&path, Access::Owner, NonZeroU32::MAX).await.unwrap();
    let connected = connect(&path, Duration::ZERO).await;
    match connected {
        Ok(_) => drop(server.accept().await.unwrap()),
        Err(error) => assert_failed(&error, &path, ErrorKind::TimedOut, "raise the limit"),
    }
    echo_once(&server, &path).await;
}

#[tokio::test]
async fn the_kernel_vouches_for_the_client() {
    let (_folder, path) = folder();
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
    let (client, accepted) = tokio::join!(connect(&path, LIMIT), server.accept());
    drop(client);
    let (_, client) = accepted.unwrap();
    assert_eq!(client.uid(), geteuid().as_raw());
    assert_eq!(client.pid().map(i32::cast_unsigned), Some(process::id()));
}

#[tokio::test]
async fn a_client_is_connected_before_it_is_accepted_and_reset_if_it_never_is() {
    let (_folder, path) = folder();
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
    let mut client = connect(&path, LIMIT).await.unwrap();
    client.write_all(b"nobody reads this").await.unwrap();
    drop(server);
    let error = client.read_u8().await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    ));
}

#[tokio::test]
async fn a_relative_path_works_and_is_told_as_an_absolute_one() {
    // In this process's own folder, since the folder is everybody's.
    let folder = tempfile::tempdir_in(".").unwrap();
    let path = Path::new(folder.path().file_name().unwrap()).join("app.sock");
    let server = bind(&path, Access::Owner, MANY).await.unwrap();
    assert!(server.path().is_absolute());
    echo_once(&server, &path).await;
    drop(server);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_dropped_bind_has_removed_nothing_and_keeps_no_lock() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (folder, path) = folder();
            let other = StdListener::bind(&path).unwrap();
            (folder, path, other)
        },
        async |(_, path, _)| bind(path, Access::Owner, MANY).await.unwrap_err(),
        async |(folder, path, other), _| {
            assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
            drop(other);
            fs::remove_file(&path).unwrap();
            bind(&path, Access::Owner, MANY).await.unwrap();
            drop(folder);
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test]
async fn a_dropped_accept_leaves_the_client_to_the_next() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (folder, path) = folder();
            let server = bind(&path, Access::Owner, MANY).await.unwrap();
            let client = connect(&path, LIMIT).await.unwrap();
            (folder, server, client, 0)
        },
        async |(_, server, _, accepted)| {
            server.accept().await.unwrap();
            *accepted += 1;
        },
        async |(_folder, server, _client, accepted), outcome| {
            assert_eq!(accepted == 1, matches!(outcome, Outcome::Completed(())));
            if accepted == 0 {
                timeout(LIMIT, server.accept())
                    .await
                    .expect("the client is lost")
                    .unwrap();
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test]
async fn a_dropped_connect_leaves_no_connection() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (folder, path) = folder();
            let server = bind(&path, Access::Owner, MANY).await.unwrap();
            (folder, path, server)
        },
        async |(_, path, _)| connect(path, LIMIT).await.unwrap(),
        async |(_folder, path, server), outcome| {
            if let Outcome::Dropped(_) = outcome {
                let (mut stream, _) = server.accept().await.unwrap();
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is still open");
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
                let server = bind(&path, Access::Owner, MANY).await.unwrap();
                eprintln!("ready");
                loop {
                    let (mut stream, _) = server.accept().await.unwrap();
                    let byte = stream.read_u8().await;
                    stream.write_all(&[byte.unwrap_or(0)]).await.unwrap();
                }
            }
            "be denied" => {
                eprintln!("ready");
                assert_denied(&path).await;
            }
            _ => {
                eprintln!("ready");
                std::future::pending::<()>().await;
            }
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

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

async fn assert_denied(path: &Path) {
    let error = connect(path, LIMIT).await.unwrap_err();
    assert_failed(
        &error,
        path,
        ErrorKind::PermissionDenied,
        "give the server a wider Access",
    );
}

#[track_caller]
fn assert_failed(error: &ConnectError, path: &Path, kind: ErrorKind, advice: &str) {
    assert_eq!((&*error.path, error.error.kind()), (path, kind), "{error}");
    assert!(error.to_string().contains(advice), "{error}");
}

async fn echo_once(server: &Listener, path: &Path) {
    let serve = async {
        let (mut stream, _) = server.accept().await.unwrap();
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

/// Keeps the events' fields, one line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    /// While there is but one subscriber, an event that first happens on a thread without it is taken
    /// to interest nobody, ever. So there is a second one.
    fn install() -> (Self, DefaultGuard) {
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Log::default()));
        LazyLock::force(&SECOND);
        let log = Self::default();
        let guard = tracing::subscriber::set_default(log.clone());
        (log, guard)
    }

    fn read(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        event.record(&mut |field: &Field, value: &dyn std::fmt::Debug| {
            log.push_str(&format!("{field}={value:?} "));
        });
        log.push('\n');
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
