//! cargo run --example ignored_half_close
//!
//! A client sends a question through a proxy, says that this was all, and reads the answer, which is
//! a million bytes long. The server answers once the question has ended. The clock is virtual.

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::ignored_half_close::{until_both_end, until_one_ends};
use io::relay::{Limits, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LIMITS: Limits = Limits {
    idle: Duration::from_secs(30),
    buffer: NonZeroUsize::MIN.saturating_add(8 * 1024 - 1),
};

async fn ask(name: &str, proxy: impl AsyncFnOnce(DuplexStream, DuplexStream)) {
    let (mut client, near) = duplex(1024);
    let (far, mut server) = duplex(1024);
    let serve = async {
        let mut question = String::new();
        server.read_to_string(&mut question).await.ok();
        server.write_all(&vec![b'x'; 1_000_000]).await.ok();
        server.shutdown().await.ok();
    };
    let ask = async {
        let mut answer = Vec::new();
        client.write_all(b"the question").await.ok();
        client.shutdown().await.ok();
        client.read_to_end(&mut answer).await.ok();
        println!("{name} an answer of {} bytes", answer.len());
    };
    let all = async { tokio::join!(ask, serve, proxy(near, far)) };
    if timeout(Duration::from_secs(3600), all).await.is_err() {
        println!("{name} an hour later nobody has an answer");
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    ask("select!:  ", async |a, b| drop(until_one_ends(a, b).await)).await;
    ask("try_join!:", async |a, b| drop(until_both_end(a, b).await)).await;
    ask("relay:    ", async |mut a, mut b| {
        drop(relay(&mut a, &mut b, LIMITS, &CancellationToken::new()).await);
    })
    .await;
}
