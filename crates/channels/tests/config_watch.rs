//! What the config watch promises. Real files on a paused clock: the clock stands still while a
//! file is read, so every poll has its exact instant.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::Duration;

use channels::config_watch::{ConfigReader, ConfigWatch, LoadError};
use tempfile::TempDir;
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome as Round, every_await_point};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::MAX;

/// A file in a folder of its own.
struct Conf(TempDir);

impl Conf {
    fn new(text: &str) -> Self {
        let conf = Self(tempfile::tempdir().unwrap());
        conf.write(text);
        conf
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("service.conf")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn remove(&self) {
        fs::remove_file(self.path()).unwrap();
    }

    async fn start(&self, every: Duration) -> ConfigWatch<u32> {
        ConfigWatch::start(self.path(), every, parse).await.unwrap()
    }
}

type Parsed = Result<u32, Box<dyn Error + Send + Sync>>;

/// The number in the last line.
fn parse(content: &[u8]) -> Parsed {
    let text = std::str::from_utf8(content)?;
    assert_ne!(text, "panic", "not that");
    Ok(text.lines().last().ok_or("empty")?.parse()?)
}

/// Waits for the next value. Bounded: with nothing to wake it, a paused clock would stand for ever.
async fn next(reader: &mut ConfigReader<u32>) -> Option<u32> {
    let value = timeout(LIMIT, reader.next()).await;
    value.expect("no value").map(|value| *value)
}

/// For a minute, in which the file is polled 60 times.
async fn assert_undisturbed(reader: &mut ConfigReader<u32>) {
    let woken = timeout(LIMIT, reader.next()).await;
    assert!(woken.is_err(), "woken with {woken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_given_the_first_value_at_once_and_once() {
    let conf = Conf::new("1");
    let started = Instant::now();
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    assert_eq!(next(&mut reader).await, Some(1));
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_undisturbed(&mut reader).await;
    assert_eq!(next(&mut config.reader()).await, Some(1), "a late reader");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_when_the_file_is_polled_next() {
    let conf = Conf::new("1");
    let started = Instant::now();
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    next(&mut reader).await;
    let mut seen = Vec::new();
    for (number, wait) in [(2, 300), (3, 200), (4, 1_900)] {
        sleep(Duration::from_millis(wait)).await;
        conf.write(&number.to_string());
        seen.push((next(&mut reader).await, started.elapsed().as_millis()));
    }
    assert_eq!(seen, [(Some(2), 1_000), (Some(3), 2_000), (Some(4), 4_000)]);
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn renames_swapped_links_and_equal_times_are_seen() {
    let conf = Conf::new("1");
    let at = |name: &str| conf.0.path().join(name);
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    next(&mut reader).await;

    fs::write(at("new"), "2").unwrap();
    fs::rename(at("new"), conf.path()).unwrap();
    assert_eq!(next(&mut reader).await, Some(2));

    let before = fs::metadata(conf.path()).unwrap().modified().unwrap();
    conf.write("3");
    File::options()
        .write(true)
        .open(conf.path())
        .and_then(|file| file.set_modified(before))
        .unwrap();
    assert_eq!(next(&mut reader).await, Some(3), "same time, same length");

    // As Kubernetes mounts a ConfigMap: service.conf -> data/service.conf, data -> version4.
    for (version, text) in [("version4", "4"), ("version5", "5")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("service.conf"), text).unwrap();
    }
    std::os::unix::fs::symlink("version4", at("data")).unwrap();
    conf.remove();
    std::os::unix::fs::symlink("data/service.conf", conf.path()).unwrap();
    assert_eq!(next(&mut reader).await, Some(4));
    std::os::unix::fs::symlink("version5", at("swap")).unwrap();
    fs::rename(at("swap"), at("data")).unwrap();
    assert_eq!(next(&mut reader).await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_file_with_the_same_value_wakes_nobody() {
    let conf = Conf::new("1");
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    next(&mut reader).await;
    conf.write("1"); // a newer time
    assert_undisturbed(&mut reader).await;
    conf.write("# a comment\n1");
    assert_undisturbed(&mut reader).await;
    assert!(!config.reload().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_bad_file_keeps_the_last_good_value_and_is_reported_until_it_is_good_again() {
    let conf = Conf::new("1");
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    next(&mut reader).await;
    assert!(config.problem().is_none());

    for (good, bad, message) in [
        ("2", Some("many"), "invalid digit found in string"),
        ("3", Some(""), "empty"),
        ("4", None, "os error 2"),
        ("5", Some("panic"), "not that"),
    ] {
        match bad {
            Some(text) => conf.write(text),
            None => conf.remove(),
        }
        assert_undisturbed(&mut reader).await;
        let problem = config.problem().unwrap();
        assert_eq!(problem.path, conf.path());
        let text = problem.to_string();
        assert!(text.starts_with(&format!("cannot load {}: ", conf.path().display())));
        assert!(text.contains(message), "{text}");
        let reloaded = config.reload().await.unwrap_err().to_string();
        assert!(reloaded.contains(message), "{reloaded}");

        conf.write(good);
        assert_eq!(next(&mut reader).await, good.parse().ok());
        assert!(config.problem().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_shown_by_its_path() {
    let conf = Conf::new("1");
    let shown = format!("{:?}", conf.start(EVERY).await);
    assert_eq!(shown, format!("ConfigWatch({})", conf.path().display()));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_good_at_the_start_is_an_error_with_its_path_and_cause() {
    let start = |conf: &Conf| ConfigWatch::start(conf.path(), EVERY, parse);
    let conf = Conf::new("many");
    let error: LoadError = start(&conf).await.unwrap_err();
    assert!(error.cause.is::<std::num::ParseIntError>(), "{error}");
    conf.write("panic");
    let error = start(&conf).await.unwrap_err();
    assert!(error.cause.is::<tokio::task::JoinError>(), "{error}");
    conf.remove();
    let error = start(&conf).await.unwrap_err();
    let cause = error.cause.downcast_ref::<io::Error>().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::NotFound);
    assert_eq!(error.path, conf.path());
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_problem_is_logged_once_and_the_next_one_too() {
    let log = Capture::of("channels::config_watch");
    let _guard = log.start();
    let conf = Conf::new("1");
    let config = conf.start(EVERY).await;
    for text in ["many", "2", "more", "", "3"] {
        conf.write(text);
        sleep(LIMIT).await; // 60 polls
    }
    let path = conf.path().display().to_string();
    let warned = |cause: &str| {
        format!("WARN the configuration stays as it was error=cannot load {path}: {cause}")
    };
    let bad = "invalid digit found in string";
    let reloaded = format!("INFO configuration reloaded path={path}");
    let expected = [
        warned(bad),
        reloaded.clone(),
        warned(bad),
        warned("empty"),
        reloaded,
    ];
    assert_eq!(log.lines(), expected);
    drop(config);
}

#[tokio::test(start_paused = true)]
async fn reload_takes_a_change_at_once_and_says_whether_there_is_one() {
    let conf = Conf::new("1");
    let started = Instant::now();
    let config = conf.start(NEVER).await;
    let mut reader = config.reader();
    next(&mut reader).await;
    assert!(!config.reload().await.unwrap());
    conf.write("2");
    assert_undisturbed(&mut reader).await; // an endless interval polls nothing
    assert!(config.reload().await.unwrap());
    assert_eq!(next(&mut reader).await, Some(2));
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn no_interval_at_all_is_one_of_a_millisecond() {
    let conf = Conf::new("1");
    let config = conf.start(Duration::ZERO).await;
    let mut reader = config.reader();
    next(&mut reader).await;
    conf.write("2");
    let started = Instant::now();
    assert_eq!(next(&mut reader).await, Some(2));
    assert_eq!(started.elapsed(), Duration::from_millis(1));
}

#[test]
fn a_runtime_without_timers_panics_in_the_caller_and_not_unseen_in_the_task() {
    let conf = Conf::new("1");
    let runtime = Builder::new_current_thread().build().unwrap();
    let started = runtime.block_on(async {
        let path = conf.path();
        tokio::spawn(async { ConfigWatch::start(path, EVERY, parse).await.is_ok() }).await
    });
    assert!(started.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn values_in_between_are_skipped() {
    let conf = Conf::new("1");
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    for number in 2..=5 {
        conf.write(&number.to_string());
        assert!(config.reload().await.unwrap());
    }
    assert_eq!(*reader.current(), 5);
    assert_eq!(next(&mut reader).await, Some(5));
    assert_undisturbed(&mut reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_is_given_twice() {
    let conf = Conf::new("0");
    let config = Arc::new(conf.start(NEVER).await);
    let mut reader = config.reader();
    let changes = 200_000;
    let sender = std::thread::spawn(move || {
        for _ in 0..changes {
            config.modify(|number| *number += 1);
        }
    });
    let mut last = None;
    while let Some(number) = next(&mut reader).await {
        assert!(Some(number) > last, "{number} came after {last:?}");
        last = Some(number);
    }
    assert_eq!(last, Some(changes), "the last value comes before the end");
    sender.join().unwrap();
}

/// Real time: while one producer is at work on the value, the other one gets its chance.
#[tokio::test]
async fn several_producers_lose_no_update() {
    let conf = Conf::new("0");
    let config = conf.start(NEVER).await;
    let (at_work, other_may_start) = std_mpsc::sync_channel(1);
    let (other_done, done) = std_mpsc::sync_channel(1);
    std::thread::scope(|threads| {
        let (config, done) = (&config, &done);
        threads.spawn(move || {
            other_may_start.recv().unwrap();
            config.modify(|number| *number += 1);
            other_done.send(()).unwrap();
        });
        config.modify(|number| {
            at_work.send(()).unwrap();
            let overtaken = done.recv_timeout(Duration::from_millis(200));
            overtaken.expect_err("the other one waits");
            *number += 1;
        });
    });
    assert_eq!(*config.reader().current(), 2);
}

#[test]
fn to_borrow_change_and_send_loses_an_update() {
    let sender = watch::Sender::new(0);
    let _reader = sender.subscribe();
    let (first, second) = (*sender.borrow(), *sender.borrow());
    sender.send(first + 1).unwrap();
    sender.send(second + 1).unwrap();
    assert_eq!(*sender.borrow(), 1, "two have added one each");
}

#[tokio::test(start_paused = true)]
async fn what_modify_sets_holds_until_the_file_has_a_new_value() {
    let conf = Conf::new("1");
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    next(&mut reader).await;
    config.modify(|number| *number = 7);
    assert_eq!(next(&mut reader).await, Some(7));
    for same in ["many", "1", "# a comment\n1"] {
        conf.write(same);
        assert_undisturbed(&mut reader).await;
    }
    assert_eq!(*reader.current(), 7);
    conf.write("2");
    assert_eq!(next(&mut reader).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_panics_changes_nothing() {
    let conf = Conf::new("1");
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    next(&mut reader).await;
    let half_way = |number: &mut u32| {
        *number = 2;
        panic!("half way");
    };
    let panicked = catch_unwind(AssertUnwindSafe(|| config.modify(half_way)));
    panicked.unwrap_err();
    assert_undisturbed(&mut reader).await;
    assert_eq!(*reader.current(), 1);
    config.modify(|number| *number = 3);
    assert_eq!(next(&mut reader).await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn dropping_it_stops_the_polling_and_ends_the_readers_after_the_last_value() {
    let conf = Conf::new("1");
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let config = ConfigWatch::start(conf.path(), EVERY, move |content| {
        counted.fetch_add(1, Ordering::Relaxed);
        parse(content)
    })
    .await
    .unwrap();
    let mut reader = config.reader();
    sleep(EVERY * 3 + EVERY / 2).await;
    assert_eq!(loads.load(Ordering::Relaxed), 1 + 3);
    drop(config);
    assert_eq!(next(&mut reader).await, Some(1));
    assert_eq!(next(&mut reader).await, None);
    sleep(LIMIT).await;
    assert_eq!(loads.load(Ordering::Relaxed), 1 + 3);
    assert_eq!(Arc::strong_count(&loads), 1, "the parser lives on");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

/// Real time: the parser blocks a real thread.
#[tokio::test]
async fn an_older_read_does_not_come_after_a_newer_one() {
    let conf = Conf::new("1");
    let has_read = Arc::new(Notify::new());
    let (go_on, gate) = std_mpsc::sync_channel(1);
    let (at_gate, gate) = (Arc::clone(&has_read), Mutex::new(gate));
    let config = ConfigWatch::start(conf.path(), NEVER, move |content| {
        if content == b"2" {
            at_gate.notify_one();
            gate.lock().unwrap().recv()?;
        }
        parse(content)
    })
    .await
    .unwrap();
    conf.write("2");
    let (older, newer) = (config.reload(), config.reload());
    tokio::pin!(older, newer);
    tokio::select! {
        _ = &mut older => panic!("it is held at the gate"),
        () = has_read.notified() => conf.write("3"),
    }
    let overtaken = timeout(Duration::from_millis(200), &mut newer).await;
    overtaken.expect_err("the newer one waits for the older one");
    go_on.send(()).unwrap();
    let (older, newer) = tokio::join!(older, newer);
    assert!(older.unwrap() && newer.unwrap());
    assert_eq!(*config.reader().current(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_read_half_written_may_be_taken() {
    let conf = Conf::new("8080");
    let config = conf.start(EVERY).await;
    let mut reader = config.reader();
    next(&mut reader).await;
    let file = File::create(conf.path()).unwrap(); // in place: it is empty now
    let write = |text: &str| io::Write::write_all(&mut &file, text.as_bytes()).unwrap();
    write("90");
    assert_eq!(next(&mut reader).await, Some(90), "nobody wrote a port 90");
    write("90");
    assert_eq!(next(&mut reader).await, Some(9090));
}

#[tokio::test(start_paused = true)]
async fn a_bare_receiver_is_not_given_the_first_value_and_with_borrow_a_later_one_twice() {
    let sender = watch::Sender::new(1);
    let mut receiver = sender.subscribe();
    timeout(LIMIT, receiver.changed())
        .await
        .expect_err("the first value");
    sender.send(2).unwrap();
    let mut handled = Vec::new();
    receiver.changed().await.unwrap();
    sender.send(3).unwrap(); // between the two
    handled.push(*receiver.borrow());
    while timeout(LIMIT, receiver.changed()).await.is_ok() {
        handled.push(*receiver.borrow());
    }
    assert_eq!(handled, [3, 3]);
}

/// Real time, since the thread that deadlocks is lost.
#[test]
fn a_ref_kept_across_an_await_can_stop_its_own_thread() {
    let ends = |keep_ref: bool, within: Duration| {
        let (done, ended) = std_mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let sender = watch::Sender::new(1);
                let receiver = sender.subscribe();
                let use_it = async {
                    let value = receiver.borrow();
                    let copy = *value;
                    let kept = keep_ref.then_some(value);
                    yield_now().await;
                    drop(kept);
                    copy
                };
                tokio::join!(use_it, async { sender.send(2).unwrap() });
            });
            done.send(()).unwrap();
        });
        ended.recv_timeout(within).is_ok()
    };
    assert!(ends(false, LIMIT));
    assert!(!ends(true, Duration::from_millis(500)));
}

/// Real time: a paused clock stands still while the pipe is read.
#[cfg(unix)]
#[test]
fn a_read_that_never_ends_holds_up_the_caller_and_the_end_of_the_runtime() {
    let conf = Conf::new("1");
    conf.remove();
    let mkfifo = std::process::Command::new("mkfifo")
        .arg(conf.path())
        .status();
    assert!(mkfifo.unwrap().success());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let start = ConfigWatch::start(conf.path(), EVERY, parse);
    let started = runtime.block_on(async { timeout(Duration::from_millis(100), start).await });
    started.expect_err("nobody writes to the pipe");
    let writer = File::options().write(true).open(conf.path()).unwrap(); // waits for the reader

    let (done, ended) = std_mpsc::sync_channel(1);
    std::thread::spawn(move || {
        drop(runtime);
        done.send(()).unwrap();
    });
    let short = ended.recv_timeout(Duration::from_millis(500));
    short.expect_err("the runtime waits for the read");
    drop(writer); // the pipe is at its end
    ended.recv_timeout(LIMIT).unwrap();
}

/// A parser that counts its calls. In one of them it waits until it is let go: else it could be done
/// before it is awaited for the first time, and there would be no await point.
fn waits_in_call(number: usize) -> (impl Fn(&[u8]) -> Parsed, Arc<AtomicUsize>, SyncSender<()>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (let_go, gate) = std_mpsc::sync_channel(1);
    let (counted, gate) = (Arc::clone(&calls), Mutex::new(gate));
    let parser = move |content: &[u8]| {
        if counted.fetch_add(1, Ordering::Relaxed) + 1 == number {
            gate.lock().unwrap().recv()?;
        }
        parse(content)
    };
    (parser, calls, let_go)
}

/// Lets the parser go once the caller has suspended for want of it, and not just for a new budget.
fn let_go_later(let_go: &SyncSender<()>) {
    let let_go = let_go.clone();
    tokio::spawn(async move {
        for _ in 0..1_000 {
            yield_now().await;
        }
        let_go.send(()).unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_dropped_start_polls_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (parser, calls, let_go) = waits_in_call(1);
            (Conf::new("1"), Some(parser), calls, let_go)
        },
        async |(conf, parser, _, let_go)| {
            let_go_later(let_go);
            let start = ConfigWatch::start(conf.path(), EVERY, parser.take().unwrap());
            start.await.unwrap()
        },
        async |(_conf, _, calls, _), round| {
            sleep(EVERY * 9 + EVERY / 2).await;
            let calls = calls.load(Ordering::Relaxed);
            match round {
                Round::Completed(_config) => assert_eq!(calls, 1 + 9),
                Round::Dropped(_) => assert_eq!(calls, 1, "polled after it was dropped"),
            }
        },
    )
    .await;
    assert_eq!(points.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_reload_has_changed_nothing() {
    for (text, good) in [("2", true), ("many", false)] {
        let points = every_await_point(
            LIMIT,
            async || {
                let conf = Conf::new("1");
                let (parser, _, let_go) = waits_in_call(2);
                let config = ConfigWatch::start(conf.path(), NEVER, parser);
                let config = config.await.unwrap();
                conf.write(text);
                (conf, config, let_go)
            },
            async |(_, config, let_go)| {
                let_go_later(let_go);
                drop(config.reload().await);
            },
            async |(_conf, config, _), round| {
                let now = || (*config.reader().current(), config.problem().is_some());
                if let Round::Dropped(_) = round {
                    assert_eq!(now(), (1, false));
                    assert_eq!(config.reload().await.is_ok_and(|changed| changed), good);
                }
                assert_eq!(now(), if good { (2, false) } else { (1, true) });
            },
        )
        .await;
        assert_eq!(
            points.unwrap(),
            3,
            "for budgets before and after the lock, then for the file"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_seen_no_value() {
    let points = every_await_point(
        LIMIT,
        async || {
            let conf = Conf::new("1");
            let config = conf.start(NEVER).await;
            let reader = config.reader();
            tokio::spawn(async move {
                for _ in 0..3 {
                    sleep(EVERY).await;
                    config.modify(|number| *number += 1);
                }
                sleep(EVERY).await;
            });
            (reader, Vec::new())
        },
        async |(reader, seen)| {
            while let Some(number) = next(reader).await {
                seen.push(number);
            }
        },
        async |(mut reader, mut seen), _| {
            while let Some(number) = next(&mut reader).await {
                seen.push(number);
            }
            assert_eq!(seen, [1, 2, 3, 4]);
        },
    )
    .await;
    assert!(points.unwrap() >= 5);
}
