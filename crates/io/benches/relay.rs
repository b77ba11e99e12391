//! The relay against bare `copy_bidirectional`, which has no idle limit, no stop and no counts on
//! failure: round trips of a message through it to an echo and back, all on one thread.
//!
//! Each row is made of pairs, one run right after the other and in alternating order, so that what
//! else the machine does hits both. The ratio is the median of the pairs' ratios. In-memory streams
//! make no system calls and so show the difference at its largest.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use ::io::relay::{Limits, relay};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes, duplex,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const BUFFER: usize = 8 * 1024;
const IDLE: Duration = Duration::from_secs(60);

fn main() -> io::Result<()> {
    let trial = std::env::args().any(|argument| argument == "--test");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    println!("| Streams | Message | Bare | Relay | Ratio | Middle half |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (message, name, trips) in [(64, "64 B", 5_000), (64 * 1024, "64 KiB", 500)] {
        let (pairs, trips) = if trial { (1, 2) } else { (101, trips) };
        for streams in ["TCP", "memory"] {
            let mut samples = Vec::new();
            for pair in 0..pairs {
                let mut times = [Duration::ZERO; 2];
                for turn in 0..2 {
                    let which = (pair + turn) % 2;
                    let relayed = which == 1;
                    let time = runtime.block_on(async {
                        if streams == "TCP" {
                            let (a, b) = (connection().await?, connection().await?);
                            round_trips(a, b, relayed, message, trips).await
                        } else {
                            let (a, b) = (duplex(BUFFER), duplex(BUFFER));
                            round_trips(a, b, relayed, message, trips).await
                        }
                    })?;
                    if let Some(place) = times.get_mut(which) {
                        *place = time / trips;
                    }
                }
                let [bare, relay] = times;
                samples.push((relay.as_secs_f64() / bare.as_secs_f64(), bare, relay));
            }
            samples.sort_by(|one, other| one.0.total_cmp(&other.0));
            let at = |quarter: usize| samples.get(samples.len() * quarter / 4);
            if let (Some(low), Some((ratio, bare, relay)), Some(high)) =
                (at(1), at(2), at(3).or(at(2)))
            {
                let (low, high) = (low.0, high.0);
                println!(
                    "| {streams} | {name} | {bare:.1?} | {relay:.1?} | {ratio:.3} | {low:.3} to {high:.3} |"
                );
            }
        }
    }
    Ok(())
}

/// How long the round trips take, through the relay or the bare copying.
async fn round_trips<S>(
    (mut client, mut near): (S, S),
    (mut far, mut server): (S, S),
    relayed: bool,
    message: usize,
    trips: u32,
) -> io::Result<Duration>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let middle = tokio::spawn(async move {
        if relayed {
            let limits = Limits {
                idle: IDLE,
                buffer: NonZeroUsize::new(BUFFER).unwrap_or(NonZeroUsize::MIN),
            };
            drop(relay(&mut near, &mut far, limits, &CancellationToken::new()).await);
        } else {
            let copy = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER);
            copy.await.ok(); // a failure shows at the client
        }
    });
    let echo = tokio::spawn(async move {
        let mut bytes = vec![0; BUFFER];
        loop {
            let count = server.read(&mut bytes).await?;
            if count == 0 {
                return server.shutdown().await;
            }
            server
                .write_all(bytes.get(..count).unwrap_or_default())
                .await?;
        }
    });
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let (sent, mut received) = (vec![7; message], vec![0; message]);
    let started = Instant::now();
    for _ in 0..trips {
        tokio::try_join!(writer.write_all(&sent), reader.read_exact(&mut received))?;
    }
    let time = started.elapsed();
    client.shutdown().await?;
    middle.await?;
    echo.await??;
    Ok(time)
}

async fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (near, (far, _)) = tokio::try_join!(TcpStream::connect(address), listener.accept())?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}
