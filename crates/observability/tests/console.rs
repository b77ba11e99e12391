//! What the console says without the flag; and, in a build with it, what a client of it sees. The
//! latter is run by `.ci/console`.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use observability::console::{ConsoleError, console, spawn_named};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const KEPT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_task_with_a_name_runs_in_any_build_and_goes_on_without_its_handle() {
    let (told, heard) = tokio::sync::oneshot::channel();
    let task = spawn_named("task", async { told.send(7).unwrap() }).unwrap();
    drop(task);
    assert_eq!(heard.await, Ok(7));
    let task = spawn_named("task", async { "returned" }).unwrap();
    assert_eq!(task.await.unwrap(), "returned");
}

#[cfg(not(tokio_unstable))]
#[test]
fn without_the_flag_it_is_an_error_that_names_the_flag_and_nothing_listens() {
    // An address that is taken: it is not even tried.
    let taken = TcpListener::bind(LOCAL).unwrap();
    let error = console::<Registry>(taken.local_addr().unwrap(), KEPT)
        .err()
        .unwrap();
    assert!(matches!(error, ConsoleError::FlagMissing), "{error}");
    assert!(
        error
            .to_string()
            .contains("RUSTFLAGS=\"--cfg tokio_unstable\""),
        "{error}"
    );
    // For a program that goes on without: no layer is one as well.
    let none = console(LOCAL, KEPT).ok().map(|(layer, _)| layer);
    let subscriber = tracing_subscriber::registry().with(none);
    tracing::subscriber::with_default(subscriber, || tracing::info!("heard by nobody"));
}

#[cfg(tokio_unstable)]
mod with_the_flag {
    use std::sync::mpsc::sync_channel;

    use console_api::field::Value;
    use console_api::instrument::InstrumentRequest;
    use console_api::instrument::instrument_client::InstrumentClient;
    use tokio::time::timeout;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::Layer;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Connects as tokio-console does, and reads updates until one tells of a task with this name;
    /// so many at the most.
    async fn sees(address: SocketAddr, name: &str, updates: usize) -> bool {
        let read = async {
            let mut client = loop {
                // The thread that listens has only just been started.
                match InstrumentClient::connect(format!("http://{address}")).await {
                    Ok(client) => break client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            let updates_to_come = client.watch_updates(InstrumentRequest {});
            let mut to_come = updates_to_come.await.unwrap().into_inner();
            for _ in 0..updates {
                let update = to_come.message().await.unwrap().unwrap();
                let tasks = update.task_update.unwrap_or_default().new_tasks;
                let mut values = tasks
                    .into_iter()
                    .flat_map(|it| it.fields)
                    .map(|it| it.value);
                let is_it = |value: Option<Value>| match value {
                    Some(Value::StrVal(text) | Value::DebugVal(text)) => text == name,
                    _ => false,
                };
                if values.any(is_it) {
                    return true;
                }
            }
            false
        };
        timeout(LIMIT, read).await.unwrap()
    }

    #[tokio::test]
    async fn a_client_sees_the_task_by_its_name_beside_a_log_of_any_level() {
        let (layer, address) = console(LOCAL, KEPT).unwrap();
        assert_ne!(address.port(), 0);
        let log = tracing_subscriber::fmt::layer().with_filter(LevelFilter::OFF);
        let _guard =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(layer).with(log));
        let task = spawn_named("the-task", std::future::pending::<()>()).unwrap();
        assert!(sees(address, "the-task", 20).await);
        assert!(!sees(address, "another", 2).await);
        task.abort();
    }

    #[tokio::test]
    async fn a_task_that_has_ended_is_told_of_for_as_long_as_asked() {
        for (retention, is_told) in [(KEPT, true), (Duration::from_millis(1), false)] {
            let (layer, address) = console(LOCAL, retention).unwrap();
            let _guard =
                tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
            let ended = spawn_named("ended", async {}).unwrap();
            ended.await.unwrap();
            // What is late is a moment's matter: the updates come once a second.
            for _ in 0..10 {
                if sees(address, "ended", 1).await == is_told {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            assert_eq!(sees(address, "ended", 1).await, is_told);
        }
    }

    #[tokio::test]
    async fn harm_a_filter_of_the_whole_registry_hides_every_task() {
        let (layer, address) = console(LOCAL, KEPT).unwrap();
        let subscriber = tracing_subscriber::registry()
            .with(layer)
            .with(LevelFilter::INFO);
        let _guard = tracing::subscriber::set_default(subscriber);
        let task = spawn_named("the-task", std::future::pending::<()>()).unwrap();
        assert!(!sees(address, "the-task", 3).await);
        task.abort();
    }

    #[test]
    fn a_taken_address_is_an_error() {
        let taken = TcpListener::bind(LOCAL).unwrap();
        let asked = taken.local_addr().unwrap();
        let error = console::<Registry>(asked, KEPT).err().unwrap();
        assert!(
            matches!(error, ConsoleError::Address { address, .. } if address == asked),
            "{error}"
        );
    }

    #[test]
    fn harm_by_itself_the_layer_panics_in_a_thread_where_nobody_hears() {
        let taken = TcpListener::bind(LOCAL).unwrap();
        let (told, panics) = sync_channel(10);
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current().name().map(str::to_owned);
            told.send((thread, panic.to_string())).ok();
        }));
        let layer = console_subscriber::ConsoleLayer::builder();
        let layer = layer
            .server_addr(taken.local_addr().unwrap())
            .spawn::<Registry>();
        let (_, panic) = std::iter::from_fn(|| panics.recv_timeout(LIMIT).ok())
            .find(|(thread, _)| thread.as_deref() == Some("console_subscriber"))
            .unwrap();
        assert!(
            panic.contains("console subscriber server failed"),
            "{panic}"
        );
        drop(layer); // which had been returned as if nothing were
    }
}
