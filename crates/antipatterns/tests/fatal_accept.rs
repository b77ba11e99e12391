//! What one failed accept does to a server, in processes of their own that run out of descriptors.
#![cfg(test)] // so that the lints take the helpers for what they are
#![cfg(unix)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use ::io::tcp_server::{self, Limits};
use antipatterns::fatal_accept::serve;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

/// Runs `server_and_clients` in a process of its own, which is this test's.
fn in_own_process(test: &str, server_and_clients: impl Future<Output = ()>) {
    const MARK: &str = "FATAL_ACCEPT_TEST";
    if std::env::var_os(MARK).is_some() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(async {
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, server_and_clients)
                .await
                .expect("it hangs");
        });
    }
    let this_test = std::env::current_exe().unwrap();
    let child = Command::new(this_test)
        .args([test, "--exact"])
        .env(MARK, "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

/// Connects thirty clients, and then leaves room for twenty more descriptors.
async fn clients(server: SocketAddr) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(TcpStream::connect(server).await.unwrap());
    }
    let next = File::open("/dev/null").unwrap().as_raw_fd(); // the lowest that is free
    let limit = Rlimit {
        current: Some(u64::try_from(next).unwrap() + 20),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    clients
}

/// Each in turn asks, and leaves. How many were answered.
async fn answered(clients: Vec<TcpStream>) -> usize {
    let mut answered = 0;
    for mut client in clients {
        if client.write_all(b"x").await.is_ok() && client.read_u8().await.is_ok() {
            answered += 1;
        }
    }
    answered
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = stream.split();
    copy(&mut from, &mut to).await.map(drop)
}

#[test]
fn harm_one_failed_accept_ends_the_server_for_all_who_come_later() {
    in_own_process(
        "harm_one_failed_accept_ends_the_server_for_all_who_come_later",
        async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let clients = clients(address).await;
            let error = serve(listener, echo).await.unwrap_err();
            assert!(
                error.to_string().starts_with("Too many open files"),
                "{error}"
            );
            assert_eq!(answered(clients).await, 20);
            let refused = TcpStream::connect(address).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        },
    );
}

#[test]
fn harm_to_continue_fails_again_without_a_wait() {
    in_own_process("harm_to_continue_fails_again_without_a_wait", async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clients = clients(listener.local_addr().unwrap()).await;
        let mut accepted = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            accepted.push(stream);
        }
        for _ in 0..1000 {
            let again = tokio::task::unconstrained(listener.accept());
            let again = futures_util::FutureExt::now_or_never(again);
            assert!(again.expect("it waits").is_err());
        }
        assert_eq!((accepted.len(), clients.len()), (20, 30));
    });
}

#[test]
fn mended_all_thirty_are_answered_and_so_is_who_comes_later() {
    in_own_process(
        "mended_all_thirty_are_answered_and_so_is_who_comes_later",
        async {
            let listener = tcp_server::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let clients = clients(address).await;
            let limits = Limits {
                connections: NonZeroUsize::new(1000).unwrap(),
                idle: Duration::MAX,
                write: Duration::MAX,
                lifetime: Duration::MAX,
                drain: Duration::from_secs(1),
            };
            let stop = CancellationToken::new();
            let handle = |stream, _, stop| tcp_server::echo(stream, stop);
            let server = tokio::spawn(tcp_server::serve(listener, limits, stop.clone(), handle));
            assert_eq!(answered(clients).await, 30);
            let later = TcpStream::connect(address).await.unwrap();
            assert_eq!(answered(vec![later]).await, 1);
            stop.cancel();
            let report = server.await.unwrap();
            assert!(
                report.failed_accepts > 0 && report.served == 31,
                "{report:?}"
            );
        },
    );
}
