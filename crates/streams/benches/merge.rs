//! cargo bench -p streams --bench merge
//!
//! What one item costs out of many merged channels, by how many there are: the table of the section
//! page, as it stands there. *One ready*: the consumer waits, one channel gets an item, the consumer is
//! polled and waits again. *All ready*: every channel has an item, the consumer takes them all. A figure
//! is the fastest of 51 repeats, in which all rows take turns.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use futures_util::stream::SelectAll;
use streams::merge::Merged;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamMap;
use tokio_stream::wrappers::ReceiverStream;

const COUNTS: [usize; 8] = [1, 2, 4, 8, 16, 64, 256, 1024];

type Channel = ReceiverStream<u64>;
/// By how many channels there are and how many rounds: nanoseconds an item, one ready and all.
type Run = fn(usize, usize) -> Option<(f64, f64)>;

fn take<S: Stream + Unpin>(merged: &mut S) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let polled = Pin::new(merged).poll_next(&mut cx);
    matches!(black_box(polled), Poll::Ready(Some(_)))
}

/// Nanoseconds an item.
fn measure<S: Stream + Unpin>(
    count: usize,
    rounds: usize,
    make: fn(Vec<Channel>) -> S,
) -> Option<(f64, f64)> {
    let one = NonZeroUsize::MIN;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| mpsc::channel(one.get()))
        .map(|(sender, receiver)| (sender, ReceiverStream::new(receiver)))
        .unzip();
    let mut merged = make(receivers);
    if take(&mut merged) {
        return None; // nothing was sent yet
    }
    let per_item = |started: Instant, items: usize| {
        u32::try_from(items)
            .ok()
            .map(|items| started.elapsed().as_secs_f64() * 1e9 / f64::from(items))
    };

    let started = Instant::now();
    // A step that is prime to the counts: each channel in its turn, no two neighbours in a row.
    for sender in (0..rounds).filter_map(|round| senders.get(round * 7 % count)) {
        sender.try_send(1).ok()?;
        if !take(&mut merged) || take(&mut merged) {
            return None;
        }
    }
    let one_ready = per_item(started, rounds)?;

    let rounds = (rounds / count).max(1);
    let started = Instant::now();
    for _ in 0..rounds {
        for sender in &senders {
            sender.try_send(1).ok()?;
        }
        for _ in &senders {
            if !take(&mut merged) {
                return None;
            }
        }
    }
    Some((one_ready, per_item(started, rounds * count)?))
}

/// The repeat that other programs disturbed least.
fn fastest(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}

fn main() {
    // `cargo bench -- --test` and `cargo test --benches` only see that it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let is_test = std::env::args().any(|argument| argument == "--test") || !is_bench;
    let (repeats, polls) = if is_test { (1, 100) } else { (51, 100_000) };
    let rows: [(&str, Run); 3] = [
        ("`StreamMap`", |count, rounds| {
            measure(count, rounds, |channels| {
                StreamMap::from_iter(channels.into_iter().enumerate())
            })
        }),
        ("`SelectAll`", |count, rounds| {
            measure(count, rounds, SelectAll::from_iter)
        }),
        ("[`merge`]", |count, rounds| {
            measure(count, rounds, |channels| {
                let mut merged = Merged::new();
                for (key, channel) in channels.into_iter().enumerate() {
                    merged.insert(key, channel).ok();
                }
                merged
            })
        }),
    ];
    let heads = COUNTS.map(|count| count.to_string());
    println!("| Nanoseconds an item, streams: | {} |", heads.join(" | "));
    println!("| --- {}|", "| ---: ".repeat(COUNTS.len()));
    let mut figures = [(); 3].map(|()| [(); COUNTS.len()].map(|()| (Vec::new(), Vec::new())));
    for _ in 0..repeats {
        for ((_, run), row) in rows.iter().zip(&mut figures) {
            for (count, (one_ready, all_ready)) in COUNTS.into_iter().zip(row) {
                match run(count, (polls / count).clamp(20, 4_000)) {
                    Some((one, all)) => {
                        one_ready.push(one);
                        all_ready.push(all);
                    }
                    None => println!("an item is missing"),
                }
            }
        }
    }
    for (case, pick) in [("one ready", 0), ("all ready", 1)] {
        for ((name, _), row) in rows.iter().zip(&figures) {
            print!("| {name}, {case} |");
            for (one_ready, all_ready) in row {
                let figure = fastest(if pick == 0 { one_ready } else { all_ready });
                print!(" {figure:.0} |");
            }
            println!();
        }
    }
}
