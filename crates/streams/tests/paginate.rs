//! What the pages promise: on virtual time, and against a real server.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use streams::paginate::{Page, PageError, paginate};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The page at a token of a list of four pages of two items each, the third of them empty.
fn page(token: Option<u32>) -> Page<u32, u32> {
    let number = token.unwrap_or(0);
    let items = if number == 2 {
        vec![]
    } else {
        vec![number * 10, number * 10 + 1]
    };
    let next = (number < 3).then_some(number + 1);
    Page { items, next }
}

const ALL: [u32; 6] = [0, 1, 10, 11, 30, 31];

#[tokio::test(start_paused = true)]
async fn items_come_in_order_through_an_empty_page_to_the_last() {
    let mut items = paginate(None, LIMIT, async |token| Ok::<_, &str>(page(token)));
    let all: Vec<_> = items.by_ref().try_collect().await.unwrap();
    assert_eq!(all, ALL);
    assert_eq!(items.next().await, None, "the end is repeated");
}

#[tokio::test(start_paused = true)]
async fn a_page_is_fetched_when_its_first_item_is_wanted_and_not_before() {
    let fetched = RefCell::new(Vec::new());
    let mut items = paginate(None, LIMIT, async |token| {
        fetched.borrow_mut().push(token);
        Ok::<_, &str>(page(token))
    });
    assert_eq!(format!("{items:?}"), "Paginate { .. }");
    assert_eq!(*fetched.borrow(), []);
    assert_eq!(items.next().await, Some(Ok(0)));
    assert_eq!(items.next().await, Some(Ok(1)));
    assert_eq!(*fetched.borrow(), [None], "two of two items, one page");
    assert_eq!(items.next().await, Some(Ok(10)));
    assert_eq!(*fetched.borrow(), [None, Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn reading_resumes_at_a_token() {
    let items = paginate(Some(2), LIMIT, async |token| Ok::<_, &str>(page(token)));
    let rest: Vec<_> = items.try_collect().await.unwrap();
    assert_eq!(rest, [30, 31]);
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_in_the_place_of_its_page_which_is_asked_for_again() {
    let calls = RefCell::new(Vec::new());
    let mut items = paginate(None, LIMIT, async |token| {
        calls.borrow_mut().push(token);
        if token == Some(1) && calls.borrow().len() < 4 {
            return Err("503");
        }
        Ok(page(token))
    });
    let mut seen = Vec::new();
    while let Some(item) = items.next().await {
        seen.push(item);
    }
    let failed = || {
        Err(PageError::Fetch {
            token: Some(1),
            source: "503",
        })
    };
    let expected = [
        Ok(0),
        Ok(1),
        failed(),
        failed(),
        Ok(10),
        Ok(11),
        Ok(30),
        Ok(31),
    ];
    assert_eq!(seen, expected);
    let expected = [None, Some(1), Some(1), Some(1), Some(2), Some(3)];
    assert_eq!(*calls.borrow(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_hangs_is_dropped_at_its_limit_and_asked_for_again() {
    struct Dropped<'a>(&'a Cell<u32>);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let (calls, hung) = (Cell::new(0), Cell::new(0));
    let mut items = paginate(None, ms(100), async |token| {
        calls.set(calls.get() + 1);
        if calls.get() == 2 {
            let _dropped = Dropped(&hung);
            pending::<()>().await;
        }
        sleep(ms(30)).await;
        Ok::<_, &str>(page(token))
    });
    let started = Instant::now();
    let at = || started.elapsed().as_millis();
    assert_eq!((items.next().await, at()), (Some(Ok(0)), 30));
    assert_eq!((items.next().await, at()), (Some(Ok(1)), 30));
    let (token, limit) = (Some(1), ms(100));
    let error = PageError::TimedOut { token, limit };
    assert_eq!((items.next().await, at()), (Some(Err(error.clone())), 130));
    assert_eq!(hung.get(), 1);
    assert_eq!(error.to_string(), "no page at Some(1) within 100ms");
    assert_eq!((items.next().await, at()), (Some(Ok(10)), 160));
}

#[tokio::test(start_paused = true)]
async fn each_page_has_the_whole_limit_however_slow_the_body_is() {
    let items = paginate(None, ms(100), async |token| {
        sleep(ms(90)).await;
        Ok::<_, &str>(page(token))
    });
    let mut items = pin!(items);
    let started = Instant::now();
    let mut all = Vec::new();
    while let Some(item) = items.next().await {
        all.push(item.unwrap());
        sleep(ms(1_000)).await;
    }
    assert_eq!(all, ALL);
    assert_eq!(started.elapsed(), ms(4 * 90 + 6_000));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_comes_again_ends_the_stream_with_an_error_after_its_items() {
    // It names itself, the one before it, the first by its token.
    for (cycle, expected) in [(2, vec![0, 1, 2]), (1, vec![0, 1, 2]), (7, vec![0, 1, 2])] {
        let calls = Cell::new(0);
        let start = (cycle == 7).then_some(7);
        let mut items = paginate(start, LIMIT, async |token| {
            calls.set(calls.get() + 1);
            let (item, next) = match token {
                None | Some(7) => (0, 1),
                Some(1) => (1, 2),
                Some(_) => (2, cycle),
            };
            let (items, next) = (vec![item], Some(next));
            Ok::<_, &str>(Page { items, next })
        });
        let mut all = Vec::new();
        let error = loop {
            match items.next().await.unwrap() {
                Ok(item) => all.push(item),
                Err(error) => break error,
            }
        };
        assert_eq!((all, calls.get()), (expected, 3), "no item comes twice");
        assert_eq!(error, PageError::Cycle { token: cycle });
        assert_eq!(items.next().await, None, "and no further page is asked for");
        assert_eq!(calls.get(), 3);
        let text = format!("the pages repeat: the page at {cycle} comes again");
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn during_the_body_the_next_page_is_fetched_and_no_more_than_that() {
    let fetched = RefCell::new(Vec::new());
    let started = Instant::now();
    let mut items = paginate(None, LIMIT, async |token| {
        fetched
            .borrow_mut()
            .push((token, started.elapsed().as_millis()));
        sleep(ms(80)).await;
        Ok::<_, &str>(page(token))
    });
    assert_eq!(items.next().await, Some(Ok(0)));
    assert_eq!(fetched.borrow().len(), 1);
    items.during(sleep(ms(1_000))).await;
    assert_eq!(*fetched.borrow(), [(None, 0), (Some(1), 80)], "one ahead");
    assert_eq!(items.next().now_or_never(), Some(Some(Ok(1))));
    assert_eq!(items.next().now_or_never(), Some(Some(Ok(10))));
    // A body that is shorter than the fetch: it goes on with the next one, or with `next`.
    items.during(sleep(ms(50))).await;
    items.during(sleep(ms(20))).await;
    assert_eq!(items.next().now_or_never(), Some(Some(Ok(11))));
    assert!(items.next().now_or_never().is_none());
    assert_eq!(items.next().await, Some(Ok(30)));
    let expected = [(None, 0), (Some(1), 80), (Some(2), 1_080), (Some(3), 1_160)];
    assert_eq!(*fetched.borrow(), expected);
    assert_eq!(started.elapsed(), ms(1_240));
    items.during(sleep(ms(1_000))).await;
    assert_eq!(items.next().await, Some(Ok(31)));
    assert_eq!(items.next().await, None);
    assert_eq!(
        fetched.borrow().len(),
        4,
        "after the last there is none to fetch"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_fetch_during_the_body_comes_in_its_place_and_is_not_repeated_unasked() {
    let calls = Cell::new(0);
    let mut items = paginate(None, LIMIT, async |token| {
        calls.set(calls.get() + 1);
        if calls.get() == 2 {
            Err("503")
        } else {
            Ok(page(token))
        }
    });
    assert_eq!(items.next().await, Some(Ok(0)));
    items.during(sleep(ms(100))).await;
    items.during(sleep(ms(100))).await;
    assert_eq!(calls.get(), 2);
    assert_eq!(items.next().await, Some(Ok(1)));
    let (token, source) = (Some(1), "503");
    let error = PageError::Fetch { token, source };
    assert_eq!(items.next().await, Some(Err(error)));
    assert_eq!(calls.get(), 2);
    assert_eq!(items.next().await, Some(Ok(10)));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_reaches_the_reader_and_can_be_repeated() {
    let calls = Cell::new(0);
    let mut items = paginate(None, LIMIT, async |token| {
        calls.set(calls.get() + 1);
        yield_now().await;
        assert_ne!(calls.get(), 2, "bad luck");
        Ok::<_, &str>(page(token))
    });
    assert_eq!(items.next().await, Some(Ok(0)));
    assert_eq!(items.next().await, Some(Ok(1)));
    let panicked = std::panic::AssertUnwindSafe(items.next()).catch_unwind();
    assert!(panicked.await.is_err());
    assert_eq!(items.next().await, Some(Ok(10)));
}

#[tokio::test(start_paused = true)]
async fn harm_a_loop_that_only_logs_errors_asks_a_dead_server_as_fast_as_it_can() {
    let calls = Cell::new(0);
    let items = paginate(None::<u32>, LIMIT, async |_| {
        calls.set(calls.get() + 1);
        Err::<Page<u32, u32>, _>("connection refused")
    });
    let mut logged = 0;
    let mut items = items.take(1_000); // or for ever
    let started = Instant::now();
    while let Some(item) = items.next().await {
        logged += u32::from(item.is_err());
    }
    assert_eq!(
        (logged, calls.get(), started.elapsed()),
        (1_000, 1_000, Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn harm_try_unfold_ends_after_an_error_as_if_that_were_all() {
    let failed = Cell::new(false);
    let pages = stream::try_unfold(Some(None), async |state: Option<Option<u32>>| {
        let Some(token) = state else { return Ok(None) };
        if token == Some(1) && !failed.replace(true) {
            return Err("503");
        }
        let page = page(token);
        Ok(Some((page.items, page.next.map(Some))))
    });
    let mut pages = pin!(pages);
    let (mut items, mut logged) = (Vec::new(), 0);
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => items.extend(page),
            Err(_) => logged += 1,
        }
    }
    assert_eq!(
        (items, logged),
        (vec![0, 1], 1),
        "two items of six, and the loop ended well"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_an_offset_skips_an_item_when_an_earlier_one_is_deleted() {
    let list = RefCell::new(vec![1, 2, 3, 4, 5, 6]);
    let by_offset = async |offset: Option<usize>| {
        let offset = offset.unwrap_or(0);
        let items: Vec<_> = list.borrow().iter().skip(offset).take(2).copied().collect();
        let next = (items.len() == 2).then_some(offset + 2);
        Ok::<_, &str>(Page { items, next })
    };
    let mut items = paginate(None, LIMIT, by_offset);
    let mut seen = Vec::new();
    while let Some(item) = items.next().await {
        let item = item.unwrap();
        list.borrow_mut().retain(|it| *it != item); // handled, so deleted
        seen.push(item);
    }
    assert_eq!(seen, [1, 2, 5, 6]);

    list.replace(vec![1, 2, 3, 4, 5, 6]);
    let after_key = async |last: Option<i32>| {
        let list = list.borrow();
        let rest = list
            .iter()
            .filter(|item| last.is_none_or(|last| **item > last));
        let items: Vec<_> = rest.take(2).copied().collect();
        let next = items.last().copied();
        Ok::<_, &str>(Page { items, next })
    };
    let mut items = paginate(None, LIMIT, after_key);
    let mut seen = Vec::new();
    while let Some(item) = items.next().await {
        let item = item.unwrap();
        list.borrow_mut().retain(|it| *it != item);
        seen.push(item);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn harm_a_fetch_stands_still_in_a_body_outside_of_during_and_its_limit_runs_out() {
    let two_steps = async |token| {
        sleep(ms(30)).await;
        sleep(ms(30)).await;
        Ok::<_, &str>(page(token))
    };
    let mut items = paginate(None, ms(100), two_steps);
    assert_eq!(items.next().await, Some(Ok(0)));
    items.during(sleep(ms(10))).await; // the fetch of the next page has begun
    assert_eq!(items.next().await, Some(Ok(1)));
    sleep(ms(500)).await;
    let (token, limit) = (Some(1), ms(100));
    let timed_out = PageError::TimedOut { token, limit };
    assert_eq!(items.next().await, Some(Err(timed_out)), "60 ms of work");
    assert_eq!(
        items.next().await,
        Some(Ok(10)),
        "it costs time, and no item"
    );

    let mut items = paginate(None, ms(100), two_steps);
    assert_eq!(items.next().await, Some(Ok(0)));
    items.during(sleep(ms(10))).await;
    assert_eq!(items.next().await, Some(Ok(1)));
    items.during(sleep(ms(500))).await;
    assert_eq!(items.next().now_or_never(), Some(Some(Ok(10))));
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_point_of_the_loop_no_item_is_lost_or_comes_twice() {
    let points = every_await_point(
        LIMIT,
        async || {
            let items = paginate(None, LIMIT, async |token| {
                sleep(ms(10)).await;
                Ok::<_, &str>(page(token))
            });
            (Box::pin(items), Vec::new())
        },
        async |(items, read)| {
            while let Some(item) = items.next().await {
                read.push(item.unwrap());
                items.during(sleep(ms(7))).await;
            }
        },
        async |(items, mut read), outcome| {
            let rest: Vec<_> = items.map(Result::unwrap).collect().await;
            if let Outcome::Completed(()) = outcome {
                assert!(rest.is_empty());
            }
            read.extend(rest);
            assert_eq!(read, ALL);
        },
    )
    .await;
    assert!(
        points.as_ref().is_ok_and(|points| *points >= 8),
        "{points:?}"
    );
}

// ------------------------------------------------------------------------------- a real server

#[derive(Deserialize)]
struct Asked {
    after: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    items: Vec<u32>,
    next: Option<String>,
}

/// Answers each request with what the script says, and writes down what was asked for.
#[derive(Clone)]
struct Server {
    script: fn(token: Option<&str>, request: usize) -> Result<Body, StatusCode>,
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

async fn answer(
    State(server): State<Server>,
    Query(asked): Query<Asked>,
) -> Result<Json<Body>, StatusCode> {
    let request = {
        let mut all = server.asked.lock().unwrap();
        all.push(asked.after.clone());
        all.len()
    };
    (server.script)(asked.after.as_deref(), request).map(Json)
}

impl Server {
    /// The server, where it listens, and what keeps it alive.
    async fn start(
        script: fn(Option<&str>, usize) -> Result<Body, StatusCode>,
    ) -> (Self, SocketAddr, JoinSet<()>) {
        let asked = Arc::default();
        let server = Self { script, asked };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/items", get(answer));
        let routes = routes.with_state(server.clone());
        let mut alive = JoinSet::new();
        alive.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (server, address, alive)
    }

    fn asked(&self) -> Vec<Option<String>> {
        self.asked.lock().unwrap().clone()
    }
}

async fn fetch(
    client: reqwest::Client,
    address: SocketAddr,
    token: Option<String>,
) -> Result<Page<u32, String>, reqwest::Error> {
    let request = client.get(format!("http://{address}/items"));
    let request = match token {
        Some(token) => request.query(&[("after", token)]),
        None => request,
    };
    let body: Body = request.send().await?.error_for_status()?.json().await?;
    let (items, next) = (body.items, body.next);
    Ok(Page { items, next })
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Three items a page, six pages, the fourth of them empty.
fn six_pages(token: Option<&str>, _: usize) -> Result<Body, StatusCode> {
    let number: u32 = token.map_or(0, |token| token.parse().unwrap());
    let items = if number == 3 {
        vec![]
    } else {
        (number * 3..number * 3 + 3).collect()
    };
    let next = (number < 5).then(|| (number + 1).to_string());
    Ok(Body { items, next })
}

#[tokio::test]
async fn a_reader_who_takes_three_items_makes_the_server_answer_one_request() {
    let (server, address, _alive) = Server::start(six_pages).await;
    let client = client();
    let items = paginate(None, LIMIT, |token| fetch(client.clone(), address, token));
    let items: Vec<_> = items.take(3).try_collect().await.unwrap();
    assert_eq!(items, [0, 1, 2]);
    assert_eq!(server.asked(), [None]);
}

#[tokio::test]
async fn all_pages_of_a_server_are_read_each_by_one_request() {
    let (server, address, _alive) = Server::start(six_pages).await;
    let client = client();
    let items = paginate(None, LIMIT, |token| fetch(client.clone(), address, token));
    let items: Vec<_> = items.try_collect().await.unwrap();
    assert_eq!(items, [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17]);
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn a_server_s_error_in_the_middle_costs_no_item() {
    let (server, address, _alive) = Server::start(|token, request| {
        if token == Some("2") && request == 3 {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        six_pages(token, request)
    })
    .await;
    let client = client();
    let mut items = paginate(None, LIMIT, |token| fetch(client.clone(), address, token));
    let before: Vec<_> = items.by_ref().take(6).try_collect().await.unwrap();
    let error = items.next().await.unwrap().unwrap_err();
    let PageError::Fetch { token, source } = error else {
        panic!("{error}");
    };
    assert_eq!(token.as_deref(), Some("2"));
    assert_eq!(source.status(), Some(StatusCode::INTERNAL_SERVER_ERROR));
    let after: Vec<_> = items.try_collect().await.unwrap();
    assert_eq!(before, [0, 1, 2, 3, 4, 5]);
    assert_eq!(after, [6, 7, 8, 12, 13, 14, 15, 16, 17]);
    let asked: Vec<_> = server.asked().into_iter().flatten().collect();
    assert_eq!(asked, ["1", "2", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_server_that_repeats_its_token_for_ever_is_asked_no_more() {
    let (server, address, _alive) = Server::start(|token, _| {
        let items = vec![u32::from(token.is_some())];
        let next = Some("again".to_owned());
        Ok(Body { items, next })
    })
    .await;
    let client = client();
    let mut items = paginate(None, LIMIT, |token| fetch(client.clone(), address, token));
    assert_eq!(items.next().await.unwrap().unwrap(), 0);
    assert_eq!(items.next().await.unwrap().unwrap(), 1);
    let error = items.next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, PageError::Cycle { token } if token == "again"),
        "{error}"
    );
    assert!(items.next().await.is_none());
    assert_eq!(server.asked(), [None, Some("again".to_owned())]);
}

#[tokio::test]
async fn during_the_body_a_server_is_asked_for_one_page_ahead() {
    let (server, address, _alive) = Server::start(six_pages).await;
    let client = client();
    let mut items = paginate(None, LIMIT, |token| fetch(client.clone(), address, token));
    assert_eq!(items.next().await.unwrap().unwrap(), 0);
    let until_asked = async {
        while server.asked().len() < 2 {
            yield_now().await;
        }
    };
    let asked = timeout(LIMIT, items.during(until_asked)).await;
    asked.expect("the next page is not asked for");
    drop(items);
    assert_eq!(server.asked(), [None, Some("1".to_owned())]);
}
