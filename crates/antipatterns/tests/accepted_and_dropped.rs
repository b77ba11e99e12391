//! What becomes of requests that are under way when the server returns, and then `main`.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as Client};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use antipatterns::accepted_and_dropped::serve;
use shutdown::graceful_shutdown::{StopLimits, Workers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A request under way: it was read, and needs 20 ms more when the fifth has been read, too, and the
/// program is told to stop.
#[derive(Clone, Default)]
struct Requests {
    read: Arc<AtomicUsize>,
    stop: CancellationToken,
    completed: Arc<AtomicUsize>,
}

impl Requests {
    async fn handle(self, mut client: TcpStream) -> io::Result<()> {
        client.read_u8().await?;
        if self.read.fetch_add(1, Relaxed) == 4 {
            self.stop.cancel();
        }
        self.stop.cancelled().await;
        sleep(Duration::from_millis(20)).await;
        client.write_all(b"the answer").await?;
        self.completed.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// `main`: five clients ask, `server` runs until it returns, and the runtime is dropped. The answers.
fn run<F>(server: impl FnOnce(TcpListener) -> F) -> Vec<String>
where
    F: Future<Output = ()>,
{
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut clients = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..5)
            .map(|_| {
                let mut client = Client::connect(address).unwrap();
                client.write_all(b"?").unwrap();
                client
            })
            .collect();
        server(listener).await;
        clients
    });
    drop(runtime); // main returns
    let answers = clients.iter_mut().map(|client| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    answers.collect()
}

#[test]
fn harm_none_of_five_accepted_requests_is_answered() {
    let requests = Requests::default();
    let answers = run(async |listener| {
        let stop = requests.stop.clone();
        let handle = |client| requests.clone().handle(client);
        serve(listener, stop.cancelled_owned(), handle)
            .await
            .unwrap();
    });
    assert_eq!(requests.read.load(Relaxed), 5);
    assert_eq!(requests.completed.load(Relaxed), 0);
    assert_eq!(
        answers,
        ["", "", "", "", ""],
        "the end of the stream, and no error"
    );
}

#[test]
fn mended_all_that_was_accepted_is_answered() {
    let requests = Requests::default();
    let answers = run(async |listener| {
        let workers = Workers::new(&requests.stop);
        let intake = workers.intake();
        while let Some(accepted) = requests.stop.run_until_cancelled(listener.accept()).await {
            let (client, address) = accepted.unwrap();
            let requests = requests.clone();
            let handle = async |client, _| drop(requests.handle(client).await);
            intake.spawn(address, client, handle).unwrap();
        }
        let limits = StopLimits {
            finish: Duration::from_secs(60),
            abort: Duration::from_secs(1),
        };
        let report = workers.shutdown(limits).await;
        assert_eq!((report.finished, report.aborted), (5, vec![]));
    });
    assert_eq!(requests.completed.load(Relaxed), 5);
    assert_eq!(answers, ["the answer"; 5]);
}
