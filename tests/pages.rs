//! The pages of symptoms, errata and practices: what they name is there, each message is what a test
//! produces, and a search for it finds the recipe.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::any::Any;
use std::fs;
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::thread;
use std::time::Duration;

use cookbook::Catalog;
use cookbook::search::Index;
use futures_util::FutureExt;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, interval, sleep, timeout};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

// ------------------------------------------------------------------------------------- the page

/// A row of a page's tables.
#[derive(Default)]
struct Row {
    /// The first cell.
    seen: String,
    /// What is set as code in it.
    messages: Vec<String>,
    /// What is set as code in the last cell, outside of links.
    last: Vec<String>,
    recipes: Vec<String>,
    /// The name of a test, and its file.
    tests: Vec<(String, String)>,
}

fn rows(page: &str) -> Vec<Row> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let mut rows = Vec::new();
    let (mut row, mut cell) = (Row::default(), 0);
    let mut link: Option<(String, String)> = None;
    for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::TableRow) => (row, cell) = (Row::default(), 0),
            Event::End(TagEnd::TableRow) => rows.push(std::mem::take(&mut row)),
            Event::Start(Tag::TableCell) => row.last.clear(),
            Event::End(TagEnd::TableCell) => cell += 1,
            Event::Start(Tag::Link { dest_url, .. }) => {
                link = Some((String::new(), dest_url.to_string()));
            }
            Event::End(TagEnd::Link) => match link.take() {
                Some((name, file)) if file.contains("tests/") => row.tests.push((name, file)),
                Some((_, file)) => row.recipes.push(file),
                None => {}
            },
            Event::Text(text) | Event::Code(text) if link.is_some() => {
                link.as_mut().unwrap().0.push_str(&text);
            }
            Event::Text(text) if cell == 0 => row.seen.push_str(&text),
            Event::Code(code) => {
                if cell == 0 {
                    row.seen.push_str(&code);
                    row.messages.push(code.to_string());
                }
                row.last.push(code.to_string());
            }
            _ => {}
        }
    }
    rows
}

/// The text of a test's file, and what the compiler said of the cases beside it.
fn proof(file: &str) -> String {
    let file = root().join(file);
    let mut proof = fs::read_to_string(&file).unwrap();
    let cases = file.parent().unwrap().join("ui");
    let cases = fs::read_dir(cases).into_iter().flatten();
    let said = cases.map(|case| case.unwrap().path());
    for file in said.filter(|file: &PathBuf| file.extension().is_some_and(|it| it == "stderr")) {
        proof += &fs::read_to_string(file).unwrap();
    }
    proof
}

/// The tests' files of the row, which must have its tests.
fn proofs(row: &Row) -> String {
    assert!(!row.recipes.is_empty(), "no recipe: {}", row.seen);
    assert!(!row.tests.is_empty(), "no test: {}", row.seen);
    let mut proofs = String::new();
    for (name, file) in &row.tests {
        let proof = proof(file);
        let is_there = proof.contains(&format!("fn {name}("));
        assert!(is_there, "{file} has no test {name}: {}", row.seen);
        proofs += &proof;
    }
    proofs
}

#[test]
fn every_symptom_names_a_recipe_and_a_test_that_quotes_its_message() {
    let rows = rows("SYMPTOMS.md");
    assert!(rows.len() >= 40, "{} rows", rows.len());
    for row in rows {
        // In the source of a test a quotation mark has a backslash.
        let said = proofs(&row).replace('\\', "");
        for message in row.messages.iter().filter(|text| text.contains(' ')) {
            assert!(said.contains(message), "no test of it quotes {message:?}");
        }
    }
}

#[test]
fn every_erratum_names_a_recipe_and_a_test() {
    let rows = rows("ERRATA.md");
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for row in &rows {
        proofs(row);
    }
}

#[test]
fn every_practice_names_a_recipe_a_test_and_only_lints_that_are_on() {
    let page = "PRACTICES.md";
    let rows = rows(page);
    assert_eq!(rows.len(), 10);
    for row in &rows {
        proofs(row);
    }
    let on = fs::read_to_string(root().join("Cargo.toml")).unwrap()
        + &fs::read_to_string(root().join("clippy.toml")).unwrap();
    let mut count = 0;
    for lint in rows.iter().flat_map(|row| &row.last) {
        let is_on = if lint.contains("::") {
            on.contains(&format!("path = \"{lint}\""))
        } else {
            on.contains(&format!("\n{lint} = \"warn\"")) || on.contains(&format!("\n{lint} = {{"))
        };
        assert!(is_on, "the lint `{lint}` is not on");
        count += 1;
    }
    assert!(count >= 8, "{count} lints");
}

#[test]
fn a_search_for_a_symptom_finds_what_its_row_names() {
    let catalog = Catalog::load(root()).unwrap();
    let index = Index::new(&catalog).unwrap();
    let look = |row: &Row| {
        let query = [row.seen.clone()];
        let hits = index.search(&query);
        let best: Vec<_> = hits.iter().take(3).map(|hit| &hit.recipe.source).collect();
        assert!(
            best.iter().any(|source| row.recipes.contains(source)),
            "{}: found {best:?}",
            row.seen
        );
    };
    let rows = rows("SYMPTOMS.md");
    thread::scope(|scope| {
        for row in &rows {
            scope.spawn(|| look(row));
        }
    });
}

// ---------------------------------------------------------------------------------- the messages

fn text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[track_caller]
fn panics<T>(with: &str, body: impl FnOnce() -> T) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(body()))) else {
        panic!("no panic with {with:?}");
    };
    let said = text(panic);
    assert!(said.contains(with), "{said:?}");
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "that it panics is the claim")]
fn what_tokio_says_of_the_wrong_place() {
    let runtime = one_thread();
    panics("Cannot start a runtime from within a runtime", || {
        runtime.block_on(async { Handle::current().block_on(ready(())) });
    });
    panics(
        "Cannot block the current thread from within a runtime",
        || {
            let (sender, _receiver) = mpsc::channel(1);
            runtime.block_on(async { sender.blocking_send(()) })
        },
    );
    panics(
        "Cannot drop a runtime in a context where blocking is not allowed",
        || {
            let inner = one_thread();
            runtime.block_on(async { drop(inner) });
        },
    );
    panics(
        "there is no reactor running, must be called from the context of a Tokio 1.x runtime",
        || tokio::spawn(ready(())),
    );
    panics(
        "can call blocking only when running on the multi-threaded runtime",
        || {
            runtime.block_on(async { tokio::task::block_in_place(|| ()) });
        },
    );
    panics(
        "`spawn_local` called from outside of a `task::LocalSet` or `runtime::LocalRuntime`",
        || runtime.block_on(async { drop(tokio::task::spawn_local(ready(()))) }),
    );
}

#[test]
fn what_tokio_says_of_a_runtime_that_lacks_something() {
    let bare = Builder::new_current_thread().build().unwrap();
    panics(
        "A Tokio 1.x context was found, but timers are disabled",
        || bare.block_on(async { sleep(Duration::ZERO).await }),
    );
    panics("A Tokio 1.x context was found, but IO is disabled", || {
        bare.block_on(TcpListener::bind("127.0.0.1:0"))
    });
    panics(
        "`time::pause()` requires the `current_thread` Tokio runtime",
        || {
            let many = Builder::new_multi_thread().enable_all().build().unwrap();
            many.block_on(async { tokio::time::pause() });
        },
    );
    panics("time is not frozen", || {
        one_thread().block_on(async { tokio::time::advance(Duration::from_secs(1)).await });
    });
    panics(
        "A Tokio 1.x context was found, but it is being shutdown.",
        || {
            let gone = one_thread();
            let handle = gone.handle().clone();
            drop(gone);
            handle.block_on(async { sleep(Duration::from_secs(1)).await });
        },
    );
}

#[test]
fn what_tokio_says_of_an_argument() {
    let runtime = one_thread();
    let _inside = runtime.enter();
    panics("`period` must be non-zero.", || interval(Duration::ZERO));
    panics("overflow when adding duration to instant", || {
        Instant::now() + Duration::MAX
    });
    panics("mpsc bounded channel requires buffer > 0", || {
        mpsc::channel::<()>(0)
    });
    panics("broadcast channel capacity cannot be zero", || {
        broadcast::channel::<()>(0)
    });
    panics(
        "a semaphore may not have more than MAX_PERMITS permits",
        || tokio::sync::Semaphore::new(usize::MAX),
    );
}

#[test]
fn what_is_said_of_a_future_that_has_ended() {
    let runtime = one_thread();
    panics("`async fn` resumed after completion", || {
        let mut ended = pin!(async {});
        runtime.block_on(ended.as_mut());
        runtime.block_on(ended);
    });
    panics("JoinHandle polled after completion", || {
        runtime.block_on(async {
            let mut handle = tokio::spawn(ready(()));
            (&mut handle).await.unwrap();
            handle.await
        })
    });
    panics("called after complete", || {
        runtime.block_on(async {
            let (sender, mut receiver) = oneshot::channel();
            sender.send(()).unwrap();
            (&mut receiver).await.unwrap();
            receiver.await
        })
    });
    panics(
        "all branches are disabled and there is no else branch",
        || {
            runtime.block_on(async {
                tokio::select! { Some(()) = ready(None) => {} }
            });
        },
    );
}

#[tokio::test]
async fn what_the_errors_of_tokio_say() {
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(1).unwrap();
    assert_eq!(
        sender.try_send(2).unwrap_err().to_string(),
        "no available capacity"
    );
    drop(receiver);
    assert_eq!(
        sender.send(3).await.unwrap_err().to_string(),
        "channel closed"
    );

    let (events, mut subscriber) = broadcast::channel(2);
    for event in 0..6 {
        events.send(event).unwrap();
    }
    let lagged = subscriber.recv().await.unwrap_err();
    assert_eq!(lagged.to_string(), "channel lagged by 4");

    let late = timeout(Duration::ZERO, pending::<()>()).await;
    assert_eq!(late.unwrap_err().to_string(), "deadline has elapsed");

    let cancelled = tokio::spawn(pending::<()>());
    cancelled.abort();
    let cancelled = cancelled.await.unwrap_err().to_string();
    assert!(cancelled.ends_with(" was cancelled"), "{cancelled}");
    let panicked = tokio::spawn(async { panic!("at work") });
    let panicked = panicked.await.unwrap_err().to_string();
    assert!(
        panicked.ends_with(" panicked with message \"at work\""),
        "{panicked}"
    );
    let caught = AssertUnwindSafe(async { panic!("in place") })
        .catch_unwind()
        .await;
    assert_eq!(text(caught.unwrap_err()), "in place");
}

#[tokio::test]
async fn what_the_system_says_of_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let twice = TcpListener::bind(address).await.unwrap_err().to_string();
    assert!(twice.starts_with("Address already in use"), "{twice}");
    let mut near = TcpStream::connect(address).await.unwrap();
    drop(listener.accept().await.unwrap());
    let broken = loop {
        // The peer's system answers the first with a reset; the next fails.
        if let Err(error) = tokio::io::AsyncWriteExt::write_all(&mut near, b"x").await {
            break error.to_string();
        }
        yield_now().await;
    };
    assert_eq!(broken, "Broken pipe (os error 32)");
    drop(listener);
    let refused = TcpStream::connect(address).await.unwrap_err().to_string();
    assert!(refused.starts_with("Connection refused"), "{refused}");

    let (mut near, far) = tokio::io::duplex(8);
    drop(far);
    let early = tokio::io::AsyncReadExt::read_exact(&mut near, &mut [0; 4]).await;
    assert_eq!(early.unwrap_err().to_string(), "early eof");
    let broken = tokio::io::AsyncWriteExt::write_all(&mut near, b"x").await;
    assert_eq!(broken.unwrap_err().to_string(), "broken pipe");
}
