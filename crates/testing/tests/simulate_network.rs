//! What the simulation does, what it does to code under test, and where it differs from a real network.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use testing::simulate_network::{Event, Fault, Log, Network, SERVER, SimulationError, simulate};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream, UdpSocket};

const PORT: u16 = 80;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Ten milliseconds each way, and these faults, in milliseconds.
fn network(faults: &[(u64, Fault)]) -> Network {
    Network {
        seed: 1,
        latency: ms(10),
        jitter: Duration::ZERO,
        faults: faults.iter().map(|(at, fault)| (ms(*at), *fault)).collect(),
        limit: ms(2_000),
    }
}

fn lines(events: &[Event]) -> Vec<String> {
    let lines = events.iter();
    lines
        .map(|event| format!("{} {}", event.at.as_millis(), event.what))
        .collect()
}

// ------------------------------------------------------- code under test: it knows no turmoil

/// Asks for `amount` to be added. The server answers with a line.
async fn ask<S>(stream: S, key: u32, amount: u32) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::new(stream);
    stream
        .write_all(format!("{key} {amount}\n").as_bytes())
        .await?;
    let mut answer = String::new();
    if stream.read_line(&mut answer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.trim_end().to_owned())
}

/// Connects anew for each try, which takes no longer than `limit`.
async fn ask_until_answered<S>(
    connect: impl AsyncFn() -> io::Result<S>,
    limit: Duration,
    tries: u32,
    amount: u32,
) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut last = Err(io::ErrorKind::TimedOut.into());
    for attempt in 0..tries {
        if attempt > 0 {
            sleep(limit / 10).await;
        }
        let once = async { ask(connect().await?, 7, amount).await };
        last = timeout(limit, once)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if last.is_ok() {
            break;
        }
    }
    last
}

/// The server's balance, and the answers it has given. They are on its disk.
#[derive(Default)]
struct Account {
    balance: RefCell<u32>,
    answered: RefCell<HashMap<u32, String>>,
    remembers: bool,
}

impl Account {
    fn add(&self, key: u32, amount: u32) -> String {
        if let Some(answer) = self.answered.borrow().get(&key).filter(|_| self.remembers) {
            return answer.clone();
        }
        *self.balance.borrow_mut() += amount;
        let answer = format!("balance {}", self.balance.borrow());
        self.answered.borrow_mut().insert(key, answer.clone());
        answer
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 0 {
            let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
            let (Some(key), Some(amount)) = (numbers.next(), numbers.next()) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let answer = self.add(key, amount) + "\n";
            stream.write_all(answer.as_bytes()).await?;
            line.clear();
        }
        Ok(())
    }
}

// ------------------------------------------------------- and how it comes into the simulation

async fn connect() -> io::Result<TcpStream> {
    TcpStream::connect((SERVER, PORT)).await
}

/// A server with this account, which notes what it executes.
fn bank(account: &Rc<Account>) -> impl AsyncFn(Log) -> turmoil::Result + 'static {
    let account = Rc::clone(account);
    async move |log| {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (account, log) = (Rc::clone(&account), log.clone());
            tokio::task::spawn_local(async move {
                let ended = account.serve(stream).await;
                log.note(format!("server: {:?}", ended.map_err(|error| error.kind())));
            });
        }
    }
}

fn account(remembers: bool) -> Rc<Account> {
    Rc::new(Account {
        remembers,
        ..Account::default()
    })
}

#[test]
fn each_message_takes_the_latency_and_computing_takes_no_time() {
    let account = account(true);
    let run = simulate(&network(&[]), bank(&account), async |log| {
        let stream = connect().await.unwrap();
        log.note("connected");
        let answer = ask(stream, 1, 5).await.unwrap();
        log.note(answer);
    });
    let expected = ["10 connected", "30 balance 5"];
    assert_eq!(lines(&run.unwrap().events), expected);
}

#[test]
fn harm_a_client_without_a_time_limit_hangs_in_a_partition_although_it_is_repaired() {
    let faults = [(15, Fault::Partition), (200, Fault::Repair)];
    let run = simulate(&network(&faults), bank(&account(true)), async |log| {
        let stream = connect().await.unwrap();
        log.note("connected");
        ask(stream, 1, 5).await
    });
    let Err(SimulationError::Unfinished { limit, events }) = run else {
        panic!("it got an answer: {run:?}");
    };
    assert_eq!(limit, ms(2_000));
    assert_eq!(
        lines(&events),
        ["10 connected", "15 Partition", "200 Repair"]
    );
}

#[test]
fn with_a_time_limit_a_partition_is_an_error_at_that_very_instant() {
    let faults = [(15, Fault::Partition)];
    let run = simulate(&network(&faults), bank(&account(true)), async |log| {
        let answer = ask_until_answered(async || connect().await, ms(100), 1, 5).await;
        log.note(format!("{:?}", answer.map_err(|error| error.kind())));
    });
    assert_eq!(
        lines(&run.unwrap().events),
        ["15 Partition", "100 Err(TimedOut)"]
    );
}

#[test]
fn a_client_that_connects_anew_succeeds_once_the_link_is_repaired() {
    let account = account(true);
    let faults = [(15, Fault::Partition), (150, Fault::Repair)];
    let run = simulate(&network(&faults), bank(&account), async |log| {
        let connect = async || {
            log.note("connects");
            let connected = connect().await;
            log.note(format!(
                "{:?}",
                connected.as_ref().map(drop).map_err(io::Error::kind)
            ));
            connected
        };
        let answer = ask_until_answered(connect, ms(100), 10, 5).await.unwrap();
        log.note(answer);
    });
    let events = lines(&run.unwrap().events);
    let expected = [
        "0 connects",
        "10 Ok(())",
        "15 Partition", // the request is lost
        "110 connects",
        "110 Err(ConnectionRefused)", // turmoil's way to lose the attempt
        "120 connects",
        "120 Err(ConnectionRefused)",
        "130 connects",
        "130 Err(ConnectionRefused)",
        "140 connects",
        "140 Err(ConnectionRefused)",
        "150 Repair",
        "150 connects",
        "160 Ok(())",
        "180 balance 5",
    ];
    assert_eq!(events, expected);
}

#[test]
fn harm_a_retry_after_a_lost_answer_is_executed_twice_unless_it_has_a_key() {
    // The request arrives at 20; its answer, under way until 30, is lost.
    let faults = [(25, Fault::PartitionAnswers), (90, Fault::Repair)];
    for (remembers, balance) in [(false, 10), (true, 5)] {
        let account = account(remembers);
        let run = simulate(&network(&faults), bank(&account), async |_: Log| {
            ask_until_answered(async || connect().await, ms(100), 2, 5).await
        });
        let answer = run.unwrap().output.unwrap();
        assert_eq!(answer, format!("balance {balance}"), "asked for 5 once");
        assert_eq!(*account.balance.borrow(), balance);
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_another_seed_another() {
    let run = |seed| {
        let network = Network {
            seed,
            jitter: ms(100),
            ..network(&[(200, Fault::PartitionAnswers), (500, Fault::Repair)])
        };
        let run = simulate(&network, bank(&account(true)), async |log| {
            for amount in 0..10 {
                let answer = ask_until_answered(async || connect().await, ms(250), 9, amount).await;
                log.note(format!("{:?}", answer.map_err(|error| error.kind())));
            }
        });
        run.unwrap()
    };
    let runs = [run(1), run(2), run(3)];
    assert_eq!(runs, [run(1), run(2), run(3)]);
    assert!(runs[0] != runs[1] && runs[1] != runs[2] && runs[0] != runs[2]);
    assert!(runs[0].events.len() > 20, "{:?}", lines(&runs[0].events));
}

#[test]
fn harm_the_seed_does_not_reach_an_unbiased_select() {
    let run = || {
        let run = simulate(
            &network(&[]),
            async |_| Ok(()),
            async |_: Log| {
                let mut picks = String::new();
                for _ in 0..64 {
                    picks += tokio::select! {
                        () = async {} => "a",
                        () = async {} => "b",
                    };
                }
                picks
            },
        );
        run.unwrap().output
    };
    assert_ne!(run(), run());
}

#[tokio::test]
async fn the_same_code_runs_over_real_sockets() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let account = account(true);
    let server = async { account.serve(listener.accept().await.unwrap().0).await };
    let connect = async || tokio::net::TcpStream::connect(address).await;
    let client = ask_until_answered(connect, Duration::from_secs(10), 1, 5);
    let (served, answer) = tokio::join!(server, client);
    assert_eq!(
        (served.unwrap(), answer.unwrap().as_str()),
        ((), "balance 5")
    );
}

/// A connection that lost a message, and what became of it.
async fn second_request(log: &Log, stream: &mut TcpStream) {
    let written = stream
        .write_all(b"2 2\n")
        .await
        .map_err(|error| error.kind());
    log.note(format!("wrote: {written:?}"));
    let read = timeout(ms(500), stream.read(&mut [0; 99])).await;
    let read = read.map(|read| read.map_err(|error| error.kind()));
    log.note(format!("read: {read:?}"));
}

#[test]
fn harm_a_connection_that_lost_a_segment_stays_silent_after_the_repair() {
    let faults = [(15, Fault::PartitionRequests), (40, Fault::Repair)];
    let run = simulate(&network(&faults), bank(&account(true)), async |log| {
        let mut stream = connect().await.unwrap();
        stream.write_all(b"1 1\n").await.unwrap();
        sleep(ms(90)).await;
        second_request(&log, &mut stream).await;
    });
    let expected = [
        "15 PartitionRequests",
        "40 Repair",
        "100 wrote: Ok(())",
        "600 read: Err(Elapsed(()))",
    ];
    assert_eq!(lines(&run.unwrap().events), expected);
}

/// Tries to connect, half a second at most, 20 ms after the start.
fn connects(faults: &[(u64, Fault)], account: &Rc<Account>) -> Vec<String> {
    let run = simulate(&network(faults), bank(account), async |log| {
        sleep(ms(20)).await;
        let connected = timeout(ms(500), connect()).await;
        let connected = connected.map(|it| it.map(drop).map_err(|error| error.kind()));
        log.note(format!("{connected:?}"));
    });
    let mut events = lines(&run.unwrap().events);
    events.retain(|line| line.contains("Ok(") || line.contains("Err("));
    events
}

#[test]
fn harm_to_connect_takes_one_message_and_no_answer() {
    let account = account(true);
    let connects = |fault| connects(&[(0, fault)], &account);
    assert_eq!(connects(Fault::PartitionAnswers)[0], "30 Ok(Ok(()))");
    let refused = "20 Ok(Err(ConnectionRefused))"; // at once, and nobody did
    assert_eq!(connects(Fault::Partition), [refused]);
    assert_eq!(connects(Fault::PartitionRequests), [refused]);
    assert_eq!(connects(Fault::Hold), ["520 Err(Elapsed(()))"]);
    assert_eq!(connects(Fault::Repair)[0], "30 Ok(Ok(()))");
}

#[test]
fn harm_a_crashed_server_lets_connections_wait_for_its_restart() {
    let account = account(true);
    let waits = connects(&[(0, Fault::Crash)], &account);
    assert_eq!(waits, ["520 Err(Elapsed(()))"]);
    let refused = connects(&[(0, Fault::Crash), (100, Fault::Restart)], &account);
    assert_eq!(
        refused,
        ["100 Ok(Err(ConnectionRefused))"],
        "before it listens"
    );
}

#[test]
fn a_crash_closes_connections_and_a_loss_of_power_does_not() {
    let killed = [(100, Fault::Crash), (200, Fault::Restart)];
    let run = |faults: &[(u64, Fault)]| {
        let run = simulate(&network(faults), bank(&account(true)), async |log| {
            let mut stream = connect().await.unwrap();
            let read = timeout(ms(290), stream.read(&mut [0; 99])).await;
            log.note(format!("read: {read:?}"));
            sleep(ms(300) - turmoil::sim_elapsed().unwrap()).await;
            second_request(&log, &mut stream).await;
        });
        let mut events = lines(&run.unwrap().events);
        events.retain(|line| line.contains("read") || line.contains("wrote"));
        events
    };
    // The crash comes before the network's clock moves, hence 109.
    assert_eq!(
        run(&killed),
        [
            "109 read: Ok(Ok(0))",
            "300 wrote: Ok(())",
            "300 read: Ok(Ok(0))"
        ]
    );
    let power = [
        (100, Fault::Partition),
        (100, Fault::Crash),
        (200, Fault::Repair),
        (200, Fault::Restart),
    ];
    let expected = [
        "300 read: Err(Elapsed(()))",
        "300 wrote: Ok(())",
        "320 read: Ok(Err(ConnectionReset))",
    ];
    assert_eq!(run(&power), expected);
}

#[test]
fn the_server_is_called_again_at_a_restart_and_keeps_what_its_closure_owns() {
    let account = account(true);
    let faults = [
        (50, Fault::Crash),
        (100, Fault::Restart),
        (200, Fault::Restart),
    ];
    let bank = bank(&account);
    let server = async move |log: Log| {
        log.note("starts");
        bank(log).await
    };
    let run = simulate(&network(&faults), server, async |_: Log| {
        for at in [0, 110, 210] {
            sleep(ms(at).saturating_sub(turmoil::sim_elapsed().unwrap())).await;
            ask(connect().await.unwrap(), u32::try_from(at).unwrap(), 5)
                .await
                .unwrap();
        }
    });
    let mut events = lines(&run.unwrap().events);
    events.retain(|line| !line.contains("server:"));
    let expected = [
        "0 starts",
        "50 Crash",
        "100 Restart",
        "100 starts",
        "200 Restart",
        "200 starts",
    ];
    assert_eq!(events, expected);
    assert_eq!(*account.balance.borrow(), 15);
}

#[test]
fn what_is_held_arrives_whole_and_in_order_when_it_is_released() {
    let faults = [(15, Fault::Hold), (300, Fault::Release)];
    let server = async |log: Log| {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let mut stream = BufReader::new(listener.accept().await?.0).lines();
        while let Some(line) = stream.next_line().await? {
            log.note(line);
        }
        Ok(())
    };
    let run = simulate(&network(&faults), server, async |_: Log| {
        let mut stream = connect().await.unwrap();
        for word in ["a\n", "b\n", "c\n"] {
            stream.write_all(word.as_bytes()).await.unwrap();
            sleep(ms(10)).await;
        }
        sleep(ms(500)).await;
    });
    // `a`, sent at 10, was under way.
    let expected = ["15 Hold", "300 Release", "300 a", "300 b", "300 c"];
    assert_eq!(lines(&run.unwrap().events), expected);
}

#[test]
fn faults_come_in_order_even_after_the_client_is_done_and_not_after_the_limit() {
    let faults = [
        (70, Fault::Repair),
        (30, Fault::Hold),
        (70, Fault::Partition),
        (50, Fault::Release),
    ];
    let idle = async |_| pending().await;
    let run = simulate(&network(&faults), idle, async |_: Log| 1).unwrap();
    let expected = ["30 Hold", "50 Release", "70 Repair", "70 Partition"];
    assert_eq!(
        (run.output, lines(&run.events)),
        (1, expected.map(String::from).into())
    );
    let late = Network {
        limit: ms(70),
        ..network(&faults)
    };
    let run = simulate(&late, idle, async |_: Log| 1);
    let Err(SimulationError::Unfinished { events, .. }) = run else {
        panic!("{run:?}");
    };
    assert_eq!(lines(&events), ["30 Hold", "50 Release"]);
}

#[test]
fn many_faults_at_one_instant_keep_the_order_they_are_given_in() {
    let kinds = [Fault::Hold, Fault::Release, Fault::Repair];
    let faults: Vec<_> = (0..90)
        .map(|number| {
            (
                10 * (number % 2),
                kinds[usize::try_from(number / 2 % 3).unwrap()],
            )
        })
        .collect();
    let run = simulate(&network(&faults), async |_| Ok(()), async |_: Log| ()).unwrap();
    let expected: Vec<_> = [0, 10]
        .iter()
        .flat_map(|at| faults.iter().filter(move |(when, _)| when == at))
        .map(|(at, fault)| format!("{at} {fault:?}"))
        .collect();
    assert_eq!(lines(&run.events), expected);
}

#[test]
fn the_limit_counts_simulated_time_to_the_millisecond() {
    let takes = |sleeps| {
        let client = async move |_: Log| sleep(ms(sleeps)).await;
        simulate(&network(&[]), async |_| pending().await, client)
    };
    assert!(takes(1_999).is_ok());
    assert_eq!(
        takes(2_000).unwrap_err().to_string(),
        "not done after 2s of simulated time"
    );
}

/// Sends numbered datagrams, one each millisecond; what arrives, and when.
fn datagrams(network: &Network) -> Vec<(u64, u8)> {
    let arrived = Rc::new(RefCell::new(Vec::new()));
    let arrives = Rc::clone(&arrived);
    let server = async move |_: Log| {
        let socket = UdpSocket::bind(("0.0.0.0", PORT)).await?;
        let mut datagram = [0];
        loop {
            socket.recv_from(&mut datagram).await?;
            let now = turmoil::sim_elapsed().unwrap().as_millis();
            arrives
                .borrow_mut()
                .push((u64::try_from(now).unwrap(), datagram[0]));
        }
    };
    let run = simulate(network, server, async |_: Log| {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).await.unwrap();
        for number in 0..20 {
            socket.send_to(&[number], (SERVER, PORT)).await.unwrap();
            sleep(ms(1)).await;
        }
        sleep(ms(500)).await;
    });
    run.unwrap();
    arrived.take()
}

#[test]
fn datagrams_are_lost_without_an_error_those_under_way_too() {
    let arrived = datagrams(&network(&[(15, Fault::Partition)]));
    assert_eq!(
        arrived,
        Vec::from_iter((0..5).map(|sent| (10 + u64::from(sent), sent)))
    );
}

#[test]
fn a_repair_leaves_what_is_held_to_the_release() {
    let faults = [(5, Fault::Hold), (10, Fault::Repair), (100, Fault::Release)];
    let arrived = datagrams(&network(&faults));
    let after_the_repair = (10..20).map(|sent| (10 + u64::from(sent), sent));
    let held = (0..10).map(|sent| (100, sent));
    assert_eq!(arrived, Vec::from_iter(after_the_repair.chain(held)));
}

#[test]
fn a_hold_and_a_release_end_a_partition_too() {
    let at_once = |from| (from..20).map(|sent| (10 + u64::from(sent), sent));
    let held = (8..14).map(|sent| (14, sent));
    let faults = [
        (4, Fault::PartitionRequests),
        (8, Fault::Hold),
        (14, Fault::Release),
    ];
    let arrived = datagrams(&network(&faults));
    assert_eq!(arrived, Vec::from_iter(held.chain(at_once(14))));
    let faults = [(4, Fault::Partition), (8, Fault::Release)];
    assert_eq!(datagrams(&network(&faults)), Vec::from_iter(at_once(8)));
}

#[test]
fn harm_a_server_that_returns_is_frozen_and_even_a_crash_does_not_close_its_connections() {
    let server = async |log: Log| {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let mut stream = listener.accept().await?.0;
        let in_a_task = log.clone();
        tokio::task::spawn_local(async move {
            in_a_task.note("serves");
            let read = stream.read(&mut [0; 99]).await;
            in_a_task.note(format!("server read: {read:?}"));
        });
        sleep(ms(5)).await; // the task has begun
        log.note("returns");
        Ok(())
    };
    let run = simulate(
        &network(&[(100, Fault::Crash)]),
        server,
        async |log: Log| {
            let mut stream = connect().await.unwrap();
            sleep(ms(50)).await;
            second_request(&log, &mut stream).await;
        },
    );
    let expected = [
        "10 serves",
        "15 returns",
        "60 wrote: Ok(())",
        "100 Crash",
        "560 read: Err(Elapsed(()))",
    ];
    assert_eq!(lines(&run.unwrap().events), expected);
}

#[test]
fn a_partition_of_requests_lets_the_server_speak() {
    let server = async |_: Log| {
        let mut stream = TcpListener::bind(("0.0.0.0", PORT))
            .await?
            .accept()
            .await?
            .0;
        sleep(ms(100)).await;
        stream.write_all(b"!").await?;
        Ok(stream.read_exact(&mut [0]).await.map(drop)?)
    };
    let faults = [(50, Fault::PartitionRequests)];
    let run = simulate(&network(&faults), server, async |log: Log| {
        let mut stream = connect().await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        log.note("heard it");
    });
    let expected = ["50 PartitionRequests", "120 heard it"];
    assert_eq!(lines(&run.unwrap().events), expected);
}

#[test]
fn datagrams_change_their_order_if_there_is_jitter_and_stay_within_it() {
    let steady = datagrams(&network(&[]));
    assert_eq!(
        steady,
        Vec::from_iter((0..20).map(|sent| (10 + u64::from(sent), sent)))
    );
    let jitter = Network {
        jitter: ms(100),
        ..network(&[])
    };
    let arrived = datagrams(&jitter);
    let delays: Vec<_> = arrived
        .iter()
        .map(|(at, sent)| at - u64::from(*sent))
        .collect();
    assert!(
        delays.iter().all(|delay| (10..=110).contains(delay)),
        "{delays:?}"
    );
    let order: Vec<_> = arrived.iter().map(|(_, sent)| *sent).collect();
    assert_eq!(order.len(), 20);
    assert!(!order.is_sorted(), "{order:?}");
}

#[test]
fn tcp_keeps_its_order_whatever_the_jitter() {
    let jitter = Network {
        jitter: ms(100),
        ..network(&[])
    };
    let server = async |_: Log| {
        let mut stream = TcpListener::bind(("0.0.0.0", PORT))
            .await?
            .accept()
            .await?
            .0;
        for number in 0..50 {
            stream.write_all(&[number]).await?;
        }
        Ok(())
    };
    let run = simulate(&jitter, server, async |_: Log| {
        let mut received = Vec::new();
        connect()
            .await
            .unwrap()
            .read_to_end(&mut received)
            .await
            .unwrap();
        received
    });
    assert_eq!(run.unwrap().output, Vec::from_iter(0..50));
}

#[test]
fn harm_ten_mebibytes_are_one_message_that_takes_the_latency() {
    const SIZE: usize = 10 << 20;
    let server = async |log: Log| {
        let mut stream = TcpListener::bind(("0.0.0.0", PORT))
            .await?
            .accept()
            .await?
            .0;
        let read = stream.read(&mut vec![0; 2 * SIZE]).await?;
        log.note(format!("{read} bytes in one read"));
        Ok(())
    };
    let run = simulate(&network(&[]), server, async |_: Log| {
        let mut stream = connect().await.unwrap();
        stream.write_all(&vec![0; SIZE]).await.unwrap();
        sleep(ms(100)).await;
    });
    assert_eq!(
        lines(&run.unwrap().events),
        ["20 10485760 bytes in one read"]
    );
}

#[test]
fn an_error_of_the_server_and_a_panic_of_either_end_the_simulation_with_what_happened() {
    let fails = async |log: Log| {
        log.note("begins");
        sleep(ms(5)).await;
        Err("out of disk")?
    };
    let panics = async |_: Log| panic!("a bug");
    let waits = async |_: Log| sleep(ms(100)).await;
    for (run, expected) in [
        (simulate(&network(&[]), fails, waits), "out of disk"),
        (simulate(&network(&[]), panics, waits), "a bug"),
        (
            simulate(
                &network(&[]),
                async |_| pending().await,
                async |log: Log| {
                    log.note("begins");
                    panic!("a wrong answer")
                },
            ),
            "a wrong answer",
        ),
    ] {
        let Err(SimulationError::Failed { message, events }) = run else {
            panic!("{run:?}");
        };
        assert!(message.contains(expected), "{message}");
        assert_eq!(lines(&events).len(), usize::from(expected != "a bug"));
    }
}

#[test]
fn harm_a_panic_in_a_task_that_nobody_joins_is_lost() {
    let server = async |log: Log| {
        drop(tokio::spawn(async move {
            log.note("begins"); // from any task, also one that must be `Send`
            panic!("unseen")
        }));
        pending().await
    };
    let run = simulate(&network(&[]), server, async |_: Log| sleep(ms(10)).await);
    assert_eq!(lines(&run.unwrap().events), ["0 begins"]);
}

#[tokio::test]
#[should_panic(expected = "Cannot start a runtime from within a runtime")]
async fn within_a_runtime_it_panics() {
    drop(simulate(&network(&[]), async |_| Ok(()), async |_: Log| ()));
}
