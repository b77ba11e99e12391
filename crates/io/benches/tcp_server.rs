//! cargo bench -p io --bench tcp_server
//!
//! What the limits cost. The recipe's echo with all of them set, against the barest loop that
//! accepts, reads and writes with tokio, and against one thread for each connection with the
//! standard library. The target is at least 0.95 of the barest loop.
//!
//! *Throughput*: each client sends a message, waits until it is back, and sends the next. The three
//! servers take turns, so that a noisy machine is noisy for all of them. A cell is the median of
//! the rounds, a ratio the median of the rounds' ratios.
//!
//! *Memory* (Linux): what a server's resident set grows by for each connection that has exchanged
//! one message and is idle, in a process of its own on one thread. The kernel's part is not in it.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::io::{self, Read, Write};
use std::net::{self, SocketAddr};
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use ::io::tcp_server::{Limits, Report, bind, echo, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const BUFFER: usize = 16 * 1024; // the recipe's

const LIMITS: Limits = Limits {
    connections: NonZeroUsize::MIN.saturating_add(9_999),
    idle: Duration::from_secs(60),
    write: Duration::from_secs(10),
    lifetime: Duration::from_secs(3_600),
    drain: Duration::from_secs(1),
};

fn main() -> io::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    #[cfg(target_os = "linux")]
    if let [name, kind] = arguments.as_slice()
        && name == memory::ARGUMENT
    {
        return memory::serve_and_tell(kind);
    }
    let tiny = arguments.iter().any(|argument| argument == "--test");
    if tiny {
        println!("This only shows that it runs. The numbers mean nothing.\n");
    }
    throughput(tiny)?;
    #[cfg(target_os = "linux")]
    memory::compare(if tiny { 10 } else { 4_000 })?;
    Ok(())
}

// The servers

async fn recipe(listener: TcpListener) {
    let handler = |connection, _client, stop| echo(connection, stop);
    let Report { .. } = serve(listener, LIMITS, CancellationToken::new(), handler).await;
}

async fn bare(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(BUFFER);
            while stream.read_buf(&mut buffer).await? > 0 {
                stream.write_all(&buffer).await?;
                buffer.clear();
            }
            io::Result::Ok(())
        });
    }
}

fn threads(listener: &net::TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        thread::spawn(move || {
            let mut buffer = vec![0; BUFFER];
            loop {
                let length = stream.read(&mut buffer)?;
                match buffer.get(..length) {
                    Some(bytes) if length > 0 => stream.write_all(bytes)?,
                    _ => return io::Result::Ok(()),
                }
            }
        });
    }
}

// Throughput

fn throughput(tiny: bool) -> io::Result<()> {
    let (connections, rounds, round) = match tiny {
        true => (2, 1, Duration::from_millis(1)),
        false => (64, 240, Duration::from_millis(30)),
    };
    let server = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let clients = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (for_bare, for_recipe) = (
        server.block_on(bind("127.0.0.1:0"))?,
        server.block_on(bind("127.0.0.1:0"))?,
    );
    let for_threads = net::TcpListener::bind("127.0.0.1:0")?;
    let addresses = [
        for_bare.local_addr()?,
        for_recipe.local_addr()?,
        for_threads.local_addr()?,
    ];
    server.spawn(bare(for_bare));
    server.spawn(recipe(for_recipe));
    thread::spawn(move || threads(&for_threads));

    println!(
        "| {connections} connections | bare loop, messages/s | recipe | threads | recipe / bare | threads / bare |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, size) in [("64 bytes", 64), ("64 KiB", 64 * 1024)] {
        let mut loads = Vec::new();
        for address in addresses {
            loads.push(Load::connect(&clients, address, connections, size)?);
        }
        let mut rates = Vec::new();
        // Every order, so that nobody always comes after the same one.
        let orders = [
            [0, 1, 2],
            [2, 1, 0],
            [1, 2, 0],
            [0, 2, 1],
            [2, 0, 1],
            [1, 0, 2],
        ];
        for (number, order) in orders.iter().cycle().take(rounds + 1).enumerate() {
            let mut rate = [0.0; 3];
            for &index in order {
                if let (Some(load), Some(rate)) = (loads.get_mut(index), rate.get_mut(index)) {
                    *rate = load.run(&clients, round)?;
                }
            }
            if number > 0 || tiny {
                rates.push(rate); // the first round only warms up
            }
        }
        let of = |value: fn(&[f64; 3]) -> f64| median(rates.iter().map(value).collect());
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.3} | {:.3} |",
            of(|[bare, _, _]| *bare),
            of(|[_, recipe, _]| *recipe),
            of(|[_, _, threads]| *threads),
            of(|[bare, recipe, _]| recipe / bare),
            of(|[bare, _, threads]| threads / bare),
        );
    }
    server.shutdown_background();
    Ok(())
}

/// The clients of one server.
struct Load {
    streams: Vec<TcpStream>,
    message: Vec<u8>,
}

impl Load {
    fn connect(
        runtime: &Runtime,
        address: SocketAddr,
        connections: usize,
        size: usize,
    ) -> io::Result<Self> {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = runtime.block_on(TcpStream::connect(address))?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let message = vec![7; size];
        Ok(Self { streams, message })
    }

    /// All clients at once for this long. Messages per second.
    fn run(&mut self, runtime: &Runtime, round: Duration) -> io::Result<f64> {
        let streams = std::mem::take(&mut self.streams);
        let message = &self.message;
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            let started = Instant::now();
            for mut stream in streams {
                let message = message.clone();
                clients.spawn(async move {
                    let (mut exchanged, mut answer) = (0_u32, message.clone());
                    while started.elapsed() < round {
                        stream.write_all(&message).await?;
                        stream.read_exact(&mut answer).await?;
                        exchanged += 1;
                    }
                    io::Result::Ok((stream, exchanged))
                });
            }
            let mut exchanged = 0.0;
            while let Some(client) = clients.join_next().await {
                let (stream, messages) = client.map_err(io::Error::other)??;
                exchanged += f64::from(messages);
                self.streams.push(stream);
            }
            Ok(exchanged / started.elapsed().as_secs_f64())
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(target_os = "linux")]
mod memory {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    pub(super) const ARGUMENT: &str = "--serve-and-tell-memory";

    pub(super) fn compare(connections: usize) -> io::Result<()> {
        allow_many_descriptors()?;
        println!("\n| {connections} idle connections | bytes each |");
        println!("|---|---:|");
        for kind in ["bare loop", "recipe", "threads"] {
            println!("| {kind} | {:.0} |", measure(kind, connections)?);
        }
        Ok(())
    }

    fn measure(kind: &str, connections: usize) -> io::Result<f64> {
        let mut server = Command::new(std::env::current_exe()?)
            .args([ARGUMENT, kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(mut ask), Some(answers)) = (server.stdin.take(), server.stdout.take()) else {
            return Err(io::Error::other("no pipes to the server"));
        };
        let mut answers = BufReader::new(answers).lines();
        let mut next = || answers.next().ok_or(io::ErrorKind::UnexpectedEof)?;
        let address: SocketAddr = next()?.parse().map_err(io::Error::other)?;
        let mut grown = Vec::new();
        let mut clients = Vec::new();
        // What the first connections allocate for all is not counted.
        for number in [10, connections] {
            for _ in 0..number {
                let mut client = net::TcpStream::connect(address)?;
                client.write_all(&[7; 64])?;
                client.read_exact(&mut [0; 64])?;
                clients.push(client);
            }
            ask.write_all(b"?")?;
            grown.push(next()?.parse::<f64>().map_err(io::Error::other)?);
        }
        drop(ask); // which ends the server
        server.wait()?;
        match grown[..] {
            [before, after] => {
                Ok((after - before) / u32::try_from(connections).map_or(f64::NAN, f64::from))
            }
            _ => Ok(f64::NAN),
        }
    }

    /// Prints the address, then the bytes of the resident set for each byte of the input.
    pub(super) fn serve_and_tell(kind: &str) -> io::Result<()> {
        allow_many_descriptors()?;
        let listener = net::TcpListener::bind("127.0.0.1:0")?;
        println!("{}", listener.local_addr()?);
        let kind = kind.to_owned();
        thread::spawn(move || {
            if kind == "threads" {
                return threads(&listener);
            }
            listener.set_nonblocking(true)?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                if kind == "recipe" {
                    recipe(listener).await;
                    return Ok(());
                }
                bare(listener).await
            })
        });
        for asked in io::stdin().lock().bytes() {
            asked?;
            let memory = std::fs::read_to_string("/proc/self/smaps_rollup")?;
            let resident = memory.lines().find_map(|line| line.strip_prefix("Rss:"));
            let resident = resident.and_then(|rest| rest.trim().strip_suffix("kB"));
            let kibibytes: u64 = resident
                .unwrap_or_default()
                .trim()
                .parse()
                .map_err(io::Error::other)?;
            println!("{}", kibibytes * 1024);
        }
        Ok(())
    }

    fn allow_many_descriptors() -> io::Result<()> {
        let limit = getrlimit(Resource::Nofile);
        let current = limit.maximum;
        Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
    }
}
