//! cargo run --example simulate_network
//!
//! A client asks a bank to add 5, once. The bank does, and its answer is lost in a partition. With a
//! time limit the client tries again, and 5 is added twice, unless the bank knows the request by its
//! key. The clock is virtual, so it ends at once.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use testing::simulate_network::{Fault, Log, Network, SERVER, simulate};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use turmoil::net::{TcpListener, TcpStream};

const PORT: u16 = 80;

/// The code under test takes the function that connects: turmoil's here, tokio's in production.
async fn add<S: AsyncRead + AsyncWrite + Unpin>(
    connect: impl AsyncFn() -> io::Result<S>,
    key: u8,
    amount: u8,
) -> io::Result<u8> {
    let mut stream = connect().await?;
    stream.write_all(&[key, amount]).await?;
    stream.read_u8().await
}

async fn bank(log: Log, knows_keys: bool) -> turmoil::Result {
    let (listener, mut balance) = (TcpListener::bind(("0.0.0.0", PORT)).await?, 0);
    let mut answered = HashMap::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (key, amount) = (stream.read_u8().await?, stream.read_u8().await?);
        let known = answered.get(&key).filter(|_| knows_keys).copied();
        if known.is_none() {
            balance += amount;
            log.note(format!("the bank adds {amount}: {balance}"));
        }
        let answer = known.unwrap_or(balance);
        answered.insert(key, answer);
        stream.write_u8(answer).await?;
    }
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = Network {
        seed: 1,
        latency: millis(10),
        jitter: Duration::ZERO,
        faults: vec![
            (millis(25), Fault::PartitionAnswers),
            (millis(60), Fault::Repair),
        ],
        limit: Duration::from_secs(1),
    };
    for knows_keys in [false, true] {
        println!("a bank that knows keys: {knows_keys}");
        let server = async move |log| bank(log, knows_keys).await;
        let run = simulate(&network, server, async |log: Log| {
            let connect = async || TcpStream::connect((SERVER, PORT)).await;
            for _ in 0..3 {
                match timeout(millis(100), add(connect, 1, 5)).await {
                    Ok(Ok(balance)) => return log.note(format!("the answer: {balance}")),
                    Ok(Err(error)) => log.note(format!("try again: {error}")),
                    Err(late) => log.note(format!("try again: {late}")),
                }
            }
        })?;
        for event in run.events {
            println!("{:>5} ms  {}", event.at.as_millis(), event.what);
        }
    }
    Ok(())
}
