//! One suite for every pool of PostgreSQL connections, over a real server and with real faults. To
//! try another pool, implement [`Subject`] for it and call each function in a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use servers::Postgres;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// What no test waits for: what it is about is much shorter.
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const SHORT: Duration = Duration::from_millis(100);
/// Longer than any machine takes for what has the limit `SHORT`, and shorter than `LONG`.
const SOON: Duration = Duration::from_secs(20);

/// One for all tests of a file, but for those that stop it.
static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::start().unwrap_or_else(|error| panic!("{error}")));

/// The settings that both recipes have.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) name: String,
    pub(crate) size: u16,
    pub(crate) wait: Duration,
    pub(crate) connect: Duration,
    pub(crate) create: Duration,
    pub(crate) recycle: Duration,
    pub(crate) lifetime: Duration,
    pub(crate) statement: Duration,
}

impl Limits {
    /// Each as long as no test takes.
    pub(crate) fn long(name: &str, size: u16) -> Self {
        Self {
            name: name.to_owned(),
            size,
            wait: LONG,
            connect: LONG,
            create: LONG,
            recycle: LONG,
            lifetime: LONG,
            statement: LONG,
        }
    }
}

/// The status that both recipes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) max_size: usize,
    pub(crate) size: usize,
    pub(crate) idle: usize,
    pub(crate) waiting: usize,
}

/// The errors that both recipes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    Exhausted { limit: Duration, status: Status },
    TimedOut { limit: Duration },
    Unreachable,
    Rejected { code: String },
    Other(String),
}

/// A pool to try.
pub(crate) trait Subject: Clone + Send + Sync + 'static {
    type Connection: Debug + Send + Sync + 'static;
    /// Whether an error comes only when [`Limits::wait`] is over.
    const WAITS: bool;

    fn open(url: &str, limits: &Limits) -> Self;
    fn get(&self) -> impl Future<Output = Result<Self::Connection, Refused>> + Send;
    fn client(connection: &Self::Connection) -> &Client;
    fn status(&self) -> Status;
}

pub(crate) fn url() -> &'static str {
    SERVER.url()
}

fn folder() -> &'static str {
    let words = SERVER.url().split(' ');
    let host = words.filter_map(|word| word.strip_prefix("host=")).next();
    host.expect("a folder")
}

/// A connection that is in no pool.
pub(crate) async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(url(), NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, wait).await.expect("it never came");
}

/// The number of the server's process behind the connection, from the server.
pub(crate) async fn pid(client: &Client) -> Result<i32, tokio_postgres::Error> {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await?;
    row.try_get(0)
}

pub(crate) async fn ask<S: Subject>(pool: &S) -> i32 {
    let connection = pool.get().await.unwrap();
    pid(S::client(&connection)).await.unwrap()
}

/// The reason for which there is no connection. A pool that waits may find that it had no time to
/// hear of one, on a busy machine.
pub(crate) async fn refused<S: Subject>(pool: &S, limits: &Limits) -> Refused {
    let limit = limits.wait;
    loop {
        let refused = pool.get().await.unwrap_err();
        if refused != (Refused::TimedOut { limit }) {
            return refused;
        }
    }
}

/// Takes as many connections as there may be, all at once, and uses each.
pub(crate) async fn all<S: Subject>(pool: &S, size: usize) -> Vec<S::Connection> {
    let mut tasks = JoinSet::new();
    for _ in 0..size {
        let pool = pool.clone();
        tasks.spawn(async move {
            let connection = pool.get().await.unwrap();
            pid(S::client(&connection)).await.unwrap();
            connection
        });
    }
    tasks.join_all().await
}

/// Asks in many tasks at once. Returns which processes answered, and how often each.
pub(crate) async fn crowd<S: Subject>(pool: &S, tasks: usize) -> BTreeMap<i32, usize> {
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        let pool = pool.clone();
        set.spawn(async move { ask(&pool).await });
    }
    let mut pids = BTreeMap::new();
    for pid in set.join_all().await {
        *pids.entry(pid).or_default() += 1;
    }
    pids
}

// ------------------------------------------------------------------------------------- the faults

/// Accepts, as the system does for it, and never answers.
pub(crate) async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    (listener, url)
}

/// Stands between a pool and the server. Connections that were muted, or made while it was mute,
/// are never heard of again, and stay open.
pub(crate) struct Proxy {
    pub(crate) url: String,
    mute: watch::Sender<bool>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    muted: AtomicUsize,
    closed: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let (listener, url) = silent().await;
        let mute = watch::Sender::new(false);
        let counts = Arc::<Counts>::default();
        let (subscribe, count) = (mute.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(relay(client, subscribe.subscribe(), Arc::clone(&count)));
            }
        });
        Self { url, mute, counts }
    }

    /// All connections there are, and those to come until `unmute`.
    pub(crate) async fn mute(&self) {
        self.mute.send_replace(true);
        let muted = || self.counts.muted.load(Ordering::Relaxed);
        until(async || muted() == self.accepted()).await;
    }

    pub(crate) fn unmute(&self) {
        self.mute.send_replace(false);
    }

    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections that the pool's side has not closed.
    pub(crate) fn open(&self) -> usize {
        self.accepted() - self.counts.closed.load(Ordering::Relaxed)
    }
}

async fn relay(mut client: TcpStream, mut mute: watch::Receiver<bool>, counts: Arc<Counts>) {
    let socket = format!("{}/.s.PGSQL.5432", folder());
    let mut server = UnixStream::connect(socket).await.unwrap();
    let is_muted = tokio::select! {
        biased;
        _ = mute.wait_for(|mute| *mute) => true,
        _ = copy_bidirectional(&mut client, &mut server) => false,
    };
    counts.muted.fetch_add(1, Ordering::Relaxed); // or gone: there is nothing to mute
    let mut unheard = [0; 1024];
    while is_muted && client.read(&mut unheard).await.is_ok_and(|read| read > 0) {}
    counts.closed.fetch_add(1, Ordering::Relaxed);
}

/// Ends the processes of all connections with this name, and waits until these are gone. There may
/// be new ones by then: bb8 goes on opening what somebody has asked for.
pub(crate) async fn kill(admin: &Client, name: &str) -> usize {
    // Its own way of waiting is 100 ms for each.
    let kill = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = $1";
    let rows = admin.query(kill, &[&name]).await.unwrap();
    let pids: Vec<i32> = rows.iter().map(|row| row.get("pid")).collect();
    until(async || {
        let left = "SELECT FROM pg_stat_activity WHERE pid = ANY($1)";
        admin.query(left, &[&pids]).await.unwrap().is_empty()
    })
    .await;
    pids.len()
}

// ------------------------------------------------------------------------------------- the suite

/// Eight connections are held, and 92 tasks wait. No I/O takes place until one is given back, so the
/// clock can be virtual for this, and the instants exact.
pub(crate) async fn exhausted<S: Subject>() {
    let limits = Limits {
        wait: SOON,
        ..Limits::long("exhausted", 8)
    };
    let pool = S::open(url(), &limits);
    let held = all(&pool, 8).await;
    tokio::time::pause();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..92 {
        let pool = pool.clone();
        tasks.spawn(async move { (pool.get().await.unwrap_err(), started.elapsed()) });
    }
    for (refused, waited) in tasks.join_all().await {
        let Refused::Exhausted { limit, status } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(limit, SOON);
        assert_eq!((status.size, status.idle), (8, 0));
        // Timers are kept in whole milliseconds, and the pause began within one.
        let late = waited.checked_sub(SOON).expect("before the limit");
        assert!(late <= Duration::from_millis(1), "{late:?}");
    }
    tokio::time::resume();
    drop(held);
    assert_eq!(crowd(&pool, 100).await.values().sum::<usize>(), 100);
    assert_eq!(pool.status().waiting, 0);
}

pub(crate) async fn a_waiter_gets_the_connection_that_comes_back<S: Subject>() {
    let pool = S::open(url(), &Limits::long("waiter", 1));
    let held = pool.get().await.unwrap();
    let expected = pid(S::client(&held)).await.unwrap();
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool).await }
    });
    yield_now().await;
    assert!(!waiter.is_finished());
    drop(held);
    assert_eq!(waiter.await.unwrap(), expected);
}

pub(crate) async fn never_more_than_asked_for<S: Subject>() {
    let pool = S::open(url(), &Limits::long("crowd", 8));
    let pids = crowd(&pool, 100).await;
    assert_eq!(pids.values().sum::<usize>(), 100);
    assert!((2..=8).contains(&pids.len()), "{pids:?}");
    let again = crowd(&pool, 100).await;
    // One that was opened for the first crowd may come to be used by the second only.
    let all: BTreeSet<_> = pids.keys().chain(again.keys()).collect();
    assert!(all.len() <= 8, "{pids:?}, then {again:?}");
    assert!(pool.status().size <= 8);
}

pub(crate) async fn status<S: Subject>() {
    let pool = S::open(url(), &Limits::long("status", 8));
    let is = |size, idle, waiting| {
        let max_size = 8;
        let status = Status {
            max_size,
            size,
            idle,
            waiting,
        };
        assert_eq!(pool.status(), status);
    };
    is(0, 0, 0);
    let mut held = all(&pool, 8).await;
    is(8, 0, 0);
    let mut tasks = JoinSet::new();
    for _ in 0..92 {
        let pool = pool.clone();
        tasks.spawn(async move { drop(pool.get().await.unwrap()) });
    }
    until(async || pool.status().waiting == 92).await;
    is(8, 0, 92);
    tasks.abort_all(); // as callers do that lose patience
    while tasks.join_next().await.is_some() {}
    is(8, 0, 0);
    held.truncate(5);
    is(8, 3, 0);
    drop(held);
    is(8, 8, 0);
    crowd(&pool, 100).await;
    is(8, 8, 0);
}

pub(crate) async fn a_silent_server<S: Subject>() {
    let (_listener, url) = silent().await;
    let limits = Limits {
        create: SHORT,
        wait: if S::WAITS { 3 * SHORT } else { LONG },
        ..Limits::long("silent", 2)
    };
    let pool = S::open(&url, &limits);
    let started = Instant::now();
    let limit = SHORT;
    assert_eq!(refused(&pool, &limits).await, Refused::TimedOut { limit });
    let waited = started.elapsed();
    assert!(waited >= SHORT && waited < SOON, "{waited:?}");
    assert_eq!(pool.status().size, 0);
}

/// Attempts to connect that will never be answered must not keep their places.
pub(crate) async fn a_silent_server_that_comes_back<S: Subject>() {
    let proxy = Proxy::start().await;
    proxy.mute().await;
    let limits = Limits {
        create: SHORT,
        wait: if S::WAITS { 3 * SHORT } else { LONG },
        ..Limits::long("comes-back", 2)
    };
    let pool = S::open(&proxy.url, &limits);
    for _ in 0..2 {
        let refused = pool.get().await.unwrap_err();
        assert!(matches!(refused, Refused::TimedOut { .. }), "{refused:?}");
    }
    proxy.unmute();
    until(async || pool.get().await.is_ok()).await;
}

/// All the connections go silent, and are found out one by one.
pub(crate) async fn silent_connections_are_closed_in_time<S: Subject>() {
    let proxy = Proxy::start().await;
    let limits = Limits {
        recycle: SHORT,
        ..Limits::long("mute", 3)
    };
    let pool = S::open(&proxy.url, &limits);
    let held = all(&pool, 3).await;
    drop(held);
    assert_eq!(pool.status().idle, 3);
    proxy.mute().await;
    proxy.unmute();
    let started = Instant::now();
    let connections = all(&pool, 3).await;
    let waited = started.elapsed();
    assert!(waited >= SHORT && waited < SOON, "{waited:?}");
    assert_eq!(connections.len(), 3);
    assert_eq!(pool.status().size, 3);
    assert_eq!(proxy.accepted(), 6, "three went silent, three are new");
}

/// A host that takes no connections must leave time for the next.
pub(crate) async fn the_next_address<S: Subject>() {
    // The queue of those who wait to be accepted is full, and the system drops what comes.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = timeout(SHORT, TcpStream::connect(address)).await {
        queue.push(stream.unwrap());
        assert!(queue.len() < 100, "the queue is never full");
    }
    let (folder, port) = (folder(), address.port());
    let hosts = format!("host=127.0.0.1,{folder} port={port},5432 user=postgres dbname=postgres");
    let limits = Limits {
        connect: SHORT,
        ..Limits::long("next-address", 1)
    };
    let started = Instant::now();
    ask(&S::open(&hosts, &limits)).await;
    let waited = started.elapsed();
    assert!(waited >= SHORT && waited < SOON, "{waited:?}");
}

pub(crate) async fn drop_and_panic_give_it_back<S: Subject>() {
    let pool = S::open(url(), &Limits::long("panic", 1));
    let first = ask(&pool).await;
    for _ in 0..10 {
        let panicking = tokio::spawn({
            let pool = pool.clone();
            async move {
                let connection = pool.get().await.unwrap();
                let row = S::client(&connection)
                    .query_one("SELECT NULL::int", &[])
                    .await
                    .unwrap();
                row.get::<_, i32>(0) // the way that panics
            }
        });
        assert!(panicking.await.unwrap_err().is_panic());
        assert_eq!(ask(&pool).await, first);
    }
}

/// Of a pool of one, so that a connection that is lost is missed.
pub(crate) async fn dropped_anywhere<S: Subject>() {
    for (is_open, least) in [(false, 2), (true, 2)] {
        let setup = async || {
            let pool = S::open(url(), &Limits::long("dropped", 1));
            if is_open {
                ask(&pool).await;
            }
            pool
        };
        let points = every_await_point(
            LONG,
            setup,
            async |pool| ask(pool).await,
            async |pool, outcome| {
                if let Outcome::Completed(seen) = outcome {
                    assert!(seen > 0);
                }
                for _ in 0..2 {
                    ask(&pool).await;
                }
                let status = pool.status();
                assert_eq!((status.size, status.idle, status.waiting), (1, 1, 0));
            },
        );
        let points = points.await.unwrap();
        assert!(points >= least, "{points} await points");
    }
}

/// By aborts at random moments of real time, with 100 tasks.
pub(crate) async fn aborted_at_any_time<S: Subject>() {
    let pool = S::open(url(), &Limits::long("aborted", 8));
    for round in 0..20 {
        let mut tasks = JoinSet::new();
        for _ in 0..100 {
            let pool = pool.clone();
            tasks.spawn(async move { ask(&pool).await });
        }
        for _ in 0..round {
            tasks.join_next().await.unwrap().unwrap();
        }
        tasks.shutdown().await;
        assert_eq!(pool.status().waiting, 0);
    }
    drop(all(&pool, 8).await);
    let status = pool.status();
    assert_eq!((status.size, status.idle), (8, 8));
}

/// The next caller must not wait for a query that somebody else has given up.
pub(crate) async fn a_busy_connection_is_not_handed_out<S: Subject>() {
    let limits = Limits {
        recycle: SHORT,
        ..Limits::long("busy", 1)
    };
    let pool = S::open(url(), &limits);
    let connection = pool.get().await.unwrap();
    let busy = pid(S::client(&connection)).await.unwrap();
    let slow = S::client(&connection).query_one("SELECT pg_sleep(50)", &[]);
    timeout(SHORT, slow).await.unwrap_err();
    drop(connection);
    let started = Instant::now();
    assert_ne!(ask(&pool).await, busy);
    let waited = started.elapsed();
    assert!(waited >= SHORT && waited < SOON, "{waited:?}");
    let query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
    let row = admin().await.query_one(query, &[&busy]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1, "it goes on in the server");
}

/// Fifty times, half of them in the middle of a query.
pub(crate) async fn every_backend_killed<S: Subject>() {
    let name = "killed";
    let pool = S::open(url(), &Limits::long(name, 8));
    let admin = admin().await;
    let busy = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = $1 AND state = 'active' AND wait_event = 'PgSleep'";
    for round in 0..50 {
        let mut connections = all(&pool, 8).await;
        let mut asking = JoinSet::new();
        for connection in connections.drain(..4) {
            asking.spawn(async move {
                let query = "SELECT pg_sleep(50)";
                S::client(&connection).query_one(query, &[]).await
            });
        }
        drop(connections); // four idle ones
        until(async || {
            let row = admin.query_one(busy, &[&name]).await.unwrap();
            row.get::<_, i64>(0) == 4
        })
        .await;
        assert_eq!(kill(&admin, name).await, 8, "round {round}");
        for ended in asking.join_all().await {
            let error = ended.unwrap_err();
            let code = error.code().map(SqlState::code);
            assert!(code == Some("57P01") || error.is_closed(), "{error:?}");
        }
        // Not one of a hundred hears of it.
        assert_eq!(crowd(&pool, 100).await.values().sum::<usize>(), 100);
    }
    drop(all(&pool, 8).await);
    let status = pool.status();
    assert_eq!((status.size, status.idle, status.waiting), (8, 8, 0));
}

/// Down before the first connection, up, down and up again.
pub(crate) async fn the_server_down_and_up<S: Subject>() {
    let server = Postgres::start().unwrap();
    let limits = Limits {
        wait: if S::WAITS { 3 * SHORT } else { LONG },
        ..Limits::long("down", 8)
    };
    server.stop().unwrap();
    let pool = S::open(server.url(), &limits);
    for _ in 0..2 {
        let mut tasks = JoinSet::new();
        for _ in 0..100 {
            let pool = pool.clone();
            let limits = limits.clone();
            tasks.spawn(async move { refused(&pool, &limits).await });
        }
        let started = Instant::now();
        for refused in tasks.join_all().await {
            assert_eq!(refused, Refused::Unreachable);
        }
        assert!(started.elapsed() < SOON);
        assert_eq!(pool.status().size, 0);
        // It takes a client that comes too early, which its log calls FATAL, for a failure to start.
        server.restart().ok();
        until(async || pool.get().await.is_ok()).await;
        let mut held = Vec::new();
        until(async || {
            held.extend(pool.get().await);
            held.len() == 8
        })
        .await;
        for connection in &held {
            pid(S::client(connection)).await.unwrap();
        }
        assert_eq!((pool.status().size, pool.status().idle), (8, 0));
        drop(held);
        server.stop().unwrap();
    }
}

pub(crate) async fn a_refused_login<S: Subject>() {
    let limits = Limits {
        wait: if S::WAITS { 3 * SHORT } else { LONG },
        ..Limits::long("refused", 2)
    };
    let code = |refused: Refused| match refused {
        Refused::Rejected { code } => code,
        other => panic!("{other:?}"),
    };
    let folder = folder();
    let no_database = format!("host={folder} user=postgres dbname=nowhere");
    let pool = S::open(&no_database, &limits);
    assert_eq!(code(refused(&pool, &limits).await), "3D000");

    let role = "CREATE ROLE just_one LOGIN CONNECTION LIMIT 1";
    admin().await.batch_execute(role).await.unwrap();
    let just_one = format!("host={folder} user=just_one dbname=postgres");
    let pool = S::open(&just_one, &limits);
    let mut held = pool.get().await;
    until(async || {
        if held.is_err() {
            held = pool.get().await;
        }
        held.is_ok()
    })
    .await;
    assert_eq!(code(refused(&pool, &limits).await), "53300");
    drop(held);
    until(async || pool.get().await.is_ok()).await;

    // Nothing to connect to.
    let pool = S::open("user=postgres", &limits);
    assert_eq!(refused(&pool, &limits).await, Refused::Unreachable);
}

/// Refuses each connection with this code.
async fn refusing(code: &'static str) -> String {
    let (listener, url) = silent().await;
    let body = format!("SFATAL\0C{code}\0Mnot now\0\0");
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    let answer = [&b"E"[..], &length, body.as_bytes()].concat();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut startup = [0; 1024];
            drop(stream.read(&mut startup).await);
            drop(stream.write_all(&answer).await);
        }
    });
    url
}

/// A server that is starting or stopping also answers, and is to be told from one that refuses.
pub(crate) async fn a_server_that_is_starting<S: Subject>() {
    let limits = Limits {
        wait: if S::WAITS { SHORT } else { LONG },
        ..Limits::long("starting", 2)
    };
    for code in ["57P01", "57P02", "57P03"] {
        let pool = S::open(&refusing(code).await, &limits);
        assert_eq!(refused(&pool, &limits).await, Refused::Unreachable);
    }
    let pool = S::open(&refusing("28P01").await, &limits);
    let code = "28P01".to_owned();
    assert_eq!(refused(&pool, &limits).await, Refused::Rejected { code });
}

pub(crate) async fn nulls_and_other_types<S: Subject>() {
    let pool = S::open(url(), &Limits::long("types", 1));
    let connection = pool.get().await.unwrap();
    let query = "SELECT NULL::int AS nothing, 'seven' AS word, 7::bigint AS seven";
    let row = S::client(&connection).query_one(query, &[]).await.unwrap();
    assert_eq!(row.try_get::<_, Option<i32>>("nothing").unwrap(), None);
    assert_eq!(row.try_get::<_, i64>("seven").unwrap(), 7);
    for column in ["nothing", "word", "seven", "missing"] {
        assert!(row.try_get::<_, i32>(column).is_err(), "{column}");
        // The other way is the harmful one.
        let panics = catch_unwind(AssertUnwindSafe(|| row.get::<_, i32>(column)));
        assert!(panics.is_err(), "{column}");
    }
    let parameter = S::client(&connection).query_one("SELECT $1::int", &[&"seven"]);
    parameter.await.unwrap_err();
    pid(S::client(&connection)).await.unwrap();
}

pub(crate) async fn the_session_is_set_up<S: Subject>() {
    let show = async |options: &str, statement| {
        let limits = Limits {
            statement,
            ..Limits::long("set-up", 1)
        };
        let pool = S::open(&format!("{}{options}", url()), &limits);
        let connection = pool.get().await.unwrap();
        let client = S::client(&connection);
        // As a user of the connection may, and its clean-up.
        client
            .batch_execute("SET statement_timeout = 0")
            .await
            .unwrap();
        client.batch_execute("RESET ALL").await.unwrap();
        let query = "SELECT current_setting('application_name') AS name,
            current_setting('statement_timeout') AS statement, current_setting('work_mem') AS memory";
        let row = client.query_one(query, &[]).await.unwrap();
        let text = |column| row.get::<_, String>(column);
        [text("name"), text("statement"), text("memory")]
    };
    let is = ["set-up", "1500ms", "4MB"];
    assert_eq!(show("", Duration::from_millis(1500)).await, is);
    // Endless time is no error.
    let is = ["set-up", "2147483647ms", "4MB"];
    assert_eq!(show("", Duration::MAX).await, is);
    // What else the caller has set is kept.
    let given = " options='-c work_mem=8MB' application_name=other connect_timeout=1";
    let is = ["set-up", "1s", "8MB"];
    assert_eq!(show(given, Duration::from_secs(1)).await, is);
}

pub(crate) async fn a_slow_statement_is_ended_by_the_server<S: Subject>() {
    let limits = Limits {
        statement: Duration::ZERO, // which is not no limit
        ..Limits::long("statement", 1)
    };
    let pool = S::open(url(), &limits);
    let connection = pool.get().await.unwrap();
    let error = S::client(&connection).query_one("SELECT pg_sleep(50)", &[]);
    let error = error.await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));

    let limits = Limits {
        statement: SHORT,
        ..Limits::long("statement", 1)
    };
    let pool = S::open(url(), &limits);
    let connection = pool.get().await.unwrap();
    let client = S::client(&connection);
    let started = Instant::now();
    let error = client.query_one("SELECT pg_sleep(50)", &[]).await;
    assert_eq!(error.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    let waited = started.elapsed();
    assert!(waited >= SHORT && waited < SOON, "{waited:?}");
    pid(client).await.unwrap();
}

/// The statement's limit is the server's, and a silent server keeps none.
pub(crate) async fn a_query_on_a_silent_server_waits_for_ever<S: Subject>() {
    let proxy = Proxy::start().await;
    let limits = Limits {
        statement: SHORT,
        recycle: SHORT,
        ..Limits::long("silent-query", 1)
    };
    let pool = S::open(&proxy.url, &limits);
    let connection = pool.get().await.unwrap();
    proxy.mute().await;
    let query = pid(S::client(&connection));
    timeout(5 * SHORT, query)
        .await
        .expect_err("no limit but the caller's");
    drop(connection);
    proxy.unmute();
    ask(&pool).await; // with the caller's limit, the pool gets over it
}

pub(crate) async fn old_connections_are_replaced<S: Subject>() {
    let limits = Limits {
        lifetime: SHORT,
        ..Limits::long("old", 1)
    };
    for (limits, is_same) in [(limits, false), (Limits::long("young", 1), true)] {
        let pool = S::open(url(), &limits);
        let connection = pool.get().await.unwrap();
        let first = pid(S::client(&connection)).await.unwrap();
        sleep(SHORT).await;
        pid(S::client(&connection))
            .await
            .expect("not while it is used");
        drop(connection);
        assert_eq!(ask(&pool).await == first, is_same);
    }
}

pub(crate) async fn no_time_and_endless_time<S: Subject>() {
    let endless = Limits {
        wait: Duration::MAX,
        connect: Duration::MAX,
        create: Duration::MAX,
        recycle: Duration::MAX,
        lifetime: Duration::MAX,
        statement: Duration::MAX,
        ..Limits::long("endless", 2)
    };
    let pool = S::open(url(), &endless);
    drop(all(&pool, 2).await);
    let none = Limits {
        wait: Duration::ZERO,
        connect: Duration::ZERO,
        create: Duration::ZERO,
        recycle: Duration::ZERO,
        lifetime: Duration::ZERO,
        statement: Duration::ZERO,
        ..Limits::long("none", u16::MAX)
    };
    let (_listener, url) = silent().await;
    let refused = S::open(&url, &none).get().await.unwrap_err();
    assert!(
        matches!(refused, Refused::TimedOut { .. } | Refused::Unreachable),
        "{refused:?}"
    );
}

/// Of a pool on several threads, to find what a single thread cannot.
pub(crate) async fn on_several_threads<S: Subject>() {
    let pool = S::open(url(), &Limits::long("threads", 8));
    let admin = admin().await;
    for _ in 0..5 {
        let pids = crowd(&pool, 100).await;
        assert!(pids.len() <= 8, "{pids:?}");
        kill(&admin, "threads").await;
    }
    let seen: BTreeSet<i32> = crowd(&pool, 100).await.into_keys().collect();
    assert!(seen.len() <= 8);
    assert_eq!(pool.status().waiting, 0);
}
