//! cargo run --example link_check
//!
//! Checks a list of URLs, one a line, and prints what is wrong with them. Without a list it serves a
//! small site on this machine and checks that. What it is built from:
//!
//! | | |
//! | --- | --- |
//! | `from_channel` | the list is read on a thread that may block, and no faster than it is worked on |
//! | `fan_out` | so many checks at once, on all threads; results as they come |
//! | `limit_concurrency` | so many requests in all, and so many for each host |
//! | `backoff`, `retry_budget` | what may pass is tried again, and an outage does not multiply the load |
//! | `circuit_breaker` | a host that is down is left alone |
//! | `signals` | Ctrl-C ends it, with a report of what was done |

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::sync::limit_concurrency::{Limiter, Limits as Permits};
use clap::Parser;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode, Url, redirect};
use retry::backoff::{Policy, RetryError, retry};
use retry::circuit_breaker::{CallError, CircuitBreaker, Settings};
use retry::retry_budget::{RetryBudget, Settings as Share};
use retry::retry_http::{Limits as Time, client};
use shutdown::signals::ShutdownSignals;
use streams::from_channel::produce_blocking;
use structured::fan_out::{Limits as Workers, Order, fan_out};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Checks URLs: one a line, blank lines and lines that begin with # are passed over.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 all are fine; 1 some are not; 2 the list cannot be read; 130 or 143 stopped by a signal"
)]
struct Options {
    /// The list; - for standard input; without it, a small site of its own
    list: Option<PathBuf>,
    /// Requests at once
    #[arg(long, value_name = "N", default_value = "64")]
    at_once: NonZeroUsize,
    /// Requests at once to the same host
    #[arg(long, value_name = "N", default_value = "8")]
    per_host: NonZeroUsize,
    /// Requests for one URL
    #[arg(long, value_name = "N", default_value = "3")]
    tries: NonZeroU32,
    /// Seconds for one request
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    time: NonZeroU32,
    /// Print a line of JSON for each URL, as they are done, instead of a table
    #[arg(long)]
    json: bool,
}

/// What became of one line of the list.
#[derive(Debug)]
struct Checked {
    line: usize,
    url: String,
    end: End,
}

#[derive(Debug)]
enum End {
    Fine,
    BadLine(String),
    Broken(StatusCode),
    NoAnswer(String),
    HostDown,
}

impl End {
    fn word(&self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::BadLine(_) => "bad line",
            Self::Broken(_) => "broken",
            Self::NoAnswer(_) => "no answer",
            Self::HostDown => "not asked",
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Fine => String::new(),
            Self::BadLine(why) | Self::NoAnswer(why) => why.clone(),
            Self::Broken(status) => status.to_string(),
            Self::HostDown => "the host has not answered for a while".to_owned(),
        }
    }
}

/// Why one request has no good answer.
#[derive(Debug)]
enum Failure {
    Status {
        status: StatusCode,
        after: Option<Duration>,
    },
    Transport(reqwest::Error),
}

impl Failure {
    /// How long to wait at least, if it may pass. Every request is a GET, so doing it twice is fine.
    fn passes_after(&self) -> Option<Duration> {
        match self {
            Self::Status { status, after } => matches!(status.as_u16(), 408 | 429 | 502..=504)
                .then_some(after.unwrap_or_default()),
            Self::Transport(error) => {
                (!error.is_builder() && !error.is_redirect()).then_some(Duration::ZERO)
            }
        }
    }

    /// Whether it says that the host is down. One that answers is not, whatever it says.
    fn is_the_hosts(&self) -> bool {
        matches!(self, Self::Transport(error) if !error.is_builder() && !error.is_redirect())
    }
}

struct Checker {
    client: Client,
    policy: Policy,
    time: Duration,
    requests: Limiter,
    per_host: NonZeroUsize,
    budget: RetryBudget,
    /// As many as there are hosts in the list.
    hosts: Mutex<HashMap<String, Host>>,
}

#[derive(Clone)]
struct Host {
    requests: Limiter,
    breaker: CircuitBreaker,
}

impl Checker {
    fn new(options: &Options, site: Option<SocketAddr>) -> Result<Self, reqwest::Error> {
        let time = Duration::from_secs(options.time.get().into());
        let limits = Time {
            connect: time,
            answer: time,
        };
        // A page that has moved is fine if the new one is.
        let follow = redirect::Policy::default();
        let mut client = client(limits).redirect(follow).user_agent("link_check");
        if let Some(site) = site {
            client = client.no_proxy().resolve(SITE, site);
        }
        Ok(Self {
            client: client.build()?,
            policy: Policy {
                base: Duration::from_millis(200),
                cap: Duration::from_secs(10),
                tries: options.tries,
                total: (time + Duration::from_secs(10)).saturating_mul(options.tries.get()),
            },
            time,
            requests: limiter(options.at_once),
            per_host: options.per_host,
            budget: RetryBudget::new(Share {
                percent: 20,
                per_second: 2,
                saved: 50,
            }),
            hosts: Mutex::default(),
        })
    }

    async fn check(&self, url: &str) -> End {
        let url = match Url::parse(url) {
            Ok(url) if url.has_host() && ["http", "https"].contains(&url.scheme()) => url,
            Ok(_) => return End::BadLine("neither http nor https".to_owned()),
            Err(error) => return End::BadLine(error.to_string()),
        };
        let host = self.host(&url);
        self.budget.request();
        let judge = |error: &CallError<Failure>| {
            let wait = match error {
                CallError::Refused(_) => None,
                CallError::TimedOut(_) => Some(Duration::ZERO),
                CallError::Failed(failure) => failure.passes_after(),
            };
            wait.filter(|_| self.budget.try_retry())
        };
        let one_try = async |_| {
            // First among those for the host: who waits there takes no place from other hosts.
            let _for_the_host = host.requests.acquire().await;
            let _in_all = self.requests.acquire().await;
            let get = self.get(url.clone());
            host.breaker
                .call(self.time, Failure::is_the_hosts, get)
                .await
        };
        let ended = retry(&self.policy, fastrand::Rng::new(), judge, one_try).await;
        match ended {
            Ok(()) => End::Fine,
            Err(
                RetryError::Permanent { source, .. }
                | RetryError::Exhausted { source, .. }
                | RetryError::OutOfTime {
                    source: Some(source),
                    ..
                },
            ) => match source {
                CallError::Refused(_) => End::HostDown,
                CallError::TimedOut(time) => End::NoAnswer(silence(time)),
                CallError::Failed(Failure::Status { status, .. }) => End::Broken(status),
                CallError::Failed(Failure::Transport(error)) => {
                    End::NoAnswer(why(&error, self.time))
                }
            },
            Err(RetryError::OutOfTime {
                total,
                source: None,
                ..
            }) => End::NoAnswer(silence(total)),
        }
    }

    /// The status is enough; the body is dropped, and the connection with it if the body is long.
    async fn get(&self, url: Url) -> Result<(), Failure> {
        let response = self.client.get(url).send().await;
        let response = response.map_err(Failure::Transport)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let after = retry_after(&response);
        Err(Failure::Status { status, after })
    }

    fn host(&self, url: &Url) -> Host {
        let name = format!("{}:{:?}", url.host_str().unwrap_or_default(), url.port());
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(name).or_insert_with(|| Host {
            requests: limiter(self.per_host),
            breaker: CircuitBreaker::new(Settings {
                window: NonZeroUsize::MIN.saturating_add(19),
                failures: NonZeroUsize::MIN.saturating_add(9),
                open: Duration::from_secs(10),
                probes: NonZeroU32::MIN,
            }),
        });
        host.clone()
    }
}

fn limiter(running: NonZeroUsize) -> Limiter {
    Limiter::new(Permits {
        running,
        waiting: usize::MAX,
    })
}

fn retry_after(response: &Response) -> Option<Duration> {
    let after = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    after.parse().ok().map(Duration::from_secs)
}

fn silence(limit: Duration) -> String {
    format!("nothing within {limit:?}")
}

/// Reqwest's own words, "error sending request for url (…)", say less than what is behind them.
fn why(error: &reqwest::Error, limit: Duration) -> String {
    if error.is_timeout() {
        return silence(limit); // the client has the same limit as the breaker, and either may strike
    }
    if error.is_connect() {
        return "no connection".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A line of the list, without its end; an error if it is no text.
type Line = (usize, Result<String, String>);

/// A longer line is no URL, and not kept.
const LONGEST_LINE: u64 = 16 * 1024;

/// Sends the lines on, and stops when nobody takes them.
fn read_lines(mut list: impl BufRead, mut send: impl FnMut(Line) -> bool) -> io::Result<()> {
    for number in 1.. {
        let mut line = Vec::new();
        if list
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?
            == 0
        {
            break;
        }
        let text = if line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
            list.skip_until(b'\n')?;
            Err(format!("longer than {LONGEST_LINE} bytes"))
        } else {
            String::from_utf8(line).map_err(|_| "not UTF-8".to_owned())
        };
        let text = text.map(|text| text.trim().to_owned());
        let is_url = !matches!(&text, Ok(text) if text.is_empty() || text.starts_with('#'));
        if is_url && !send((number, text)) {
            break;
        }
    }
    Ok(())
}

/// What all the checks came to.
#[derive(Default)]
struct Summary {
    counts: HashMap<&'static str, usize>,
    /// All that is not fine. What is fine is only counted.
    wrong: Vec<Checked>,
}

impl Summary {
    fn add(&mut self, checked: Checked) {
        *self.counts.entry(checked.end.word()).or_default() += 1;
        if !matches!(checked.end, End::Fine) {
            self.wrong.push(checked);
        }
    }

    fn print_table(&mut self, mut out: impl Write) -> io::Result<()> {
        self.wrong.sort_by_key(|checked| checked.line);
        for Checked { line, url, end } in &self.wrong {
            writeln!(
                out,
                "{line:>6}  {:9}  {url}  ({})",
                end.word(),
                end.details()
            )?;
        }
        let count = |word| self.counts.get(word).copied().unwrap_or(0);
        let words = ["fine", "broken", "no answer", "not asked", "bad line"];
        let counts = words.map(|word| format!("{} {word}", count(word)));
        writeln!(out, "{}", counts.join(", "))
    }
}

fn print_json(mut out: impl Write, checked: &Checked) -> io::Result<()> {
    let Checked { line, url, end } = checked;
    let value = serde_json::json!({
        "line": line, "url": url, "result": end.word(), "details": end.details(),
    });
    writeln!(out, "{value}")
}

fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} checked, {per_sec}, {elapsed}");
    // On standard error, and only if that is a terminal.
    let bar = ProgressBar::new_spinner();
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

async fn run(
    options: Options,
    list: impl BufRead + Send + 'static,
    site: Option<SocketAddr>,
    stop: CancellationToken,
) -> Result<Summary, Box<dyn Error>> {
    let checker = Arc::new(Checker::new(&options, site)?);
    let lines = produce_blocking(options.at_once, move |lines| {
        read_lines(list, |line| lines.blocking_send(line).is_ok())
    });
    // More tasks than requests, so that those that wait for a slow host hold up no other.
    let workers = options
        .at_once
        .saturating_mul(NonZeroUsize::MIN.saturating_add(3));
    let workers = Workers { workers, buffer: 0 };
    let lines = lines.take_until(stop.clone().cancelled_owned());
    let mut checks = fan_out(workers, Order::AsFinished, lines, move |line| {
        let checker = Arc::clone(&checker);
        async move {
            let (line, url) = line.map_err(|error| error.to_string())?;
            let (url, end) = match url {
                Ok(url) => (url.clone(), checker.check(&url).await),
                Err(why) => (String::new(), End::BadLine(why)),
            };
            Ok::<_, String>(Checked { line, url, end })
        }
    });
    let (mut summary, bar) = (Summary::default(), progress());
    let mut out = io::stdout().lock();
    // Checks under way are dropped at a stop: what is reported is what is done.
    while let Some(Some(checked)) = stop.run_until_cancelled(checks.next()).await {
        let checked = checked??;
        bar.inc(1);
        if options.json {
            bar.suspend(|| print_json(&mut out, &checked))?;
        }
        summary.add(checked);
    }
    bar.finish_and_clear();
    Ok(summary)
}

/// What is checked without a list.
const SITE: &str = "site.example";
const SITES_LIST: &str = "\
# A page, one that has moved, one that is not there, and one with a fault
http://site.example/
http://site.example/moved
http://site.example/404
http://site.example/500
# Busy at first, then fine; cut off each time; no server at this port
http://site.example/busy
http://site.example/cut
http://site.example:1/
# Not for this program
mailto:somebody@site.example
site.example/no-scheme
";

/// Serves it.
async fn serve(listener: TcpListener) {
    let mut busy = 2;
    while let Ok((stream, _)) = listener.accept().await {
        let mut stream = tokio::io::BufReader::new(stream);
        let (mut request, mut line) = (String::new(), String::new());
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
            request.push_str(&line);
            line.clear();
        }
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        let head = match path {
            "/cut" => continue,
            "/busy" if busy > 0 => {
                busy -= 1;
                "503 Service Unavailable"
            }
            "/moved" => "301 Moved Permanently\r\nlocation: /",
            "/404" => "404 Not Found",
            "/500" => "500 Internal Server Error",
            _ => "200 OK",
        };
        let answer = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok();
    }
}

async fn check_list(options: Options, stop: CancellationToken) -> Result<Summary, Box<dyn Error>> {
    match &options.list {
        Some(path) if path.as_os_str() == "-" => {
            run(options, BufReader::new(io::stdin()), None, stop).await
        }
        Some(path) => {
            let list = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            run(options, BufReader::new(list), None, stop).await
        }
        None => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let site = listener.local_addr()?;
            let _server = AbortOnDropHandle::new(tokio::spawn(serve(listener)));
            run(options, SITES_LIST.as_bytes(), Some(site), stop).await
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    let (stop, json) = (CancellationToken::new(), options.json);
    let shows_itself = options.list.is_none();
    let signals = ShutdownSignals::install(stop.clone())?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(check_list(options, stop));
    // Not dropped: that would wait for the thread that reads standard input, perhaps for ever.
    runtime.shutdown_background();
    let mut summary = match ended {
        Ok(summary) => summary,
        Err(error) => {
            eprintln!("link_check: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    if !json {
        summary.print_table(io::stdout())?;
    }
    Ok(match signals.received() {
        Some(signal) => {
            eprintln!("link_check: stopped by {signal}; what was not checked is not in the report");
            ExitCode::from(signal.exit_code())
        }
        None => ExitCode::from(u8::from(!summary.wrong.is_empty() && !shows_itself)),
    })
}
