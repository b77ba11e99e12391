//! What one read makes of answers that come in parts, together, long, or not at all.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::one_read_one_message::ask;
use futures_util::StreamExt;
use io::framed_lines::read_lines;
use io::tcp_client::{Client, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

/// A server that sends these parts, a millisecond apart, and then closes.
fn server(parts: impl IntoIterator<Item = Vec<u8>>) -> DuplexStream {
    let (near, mut far) = duplex(64 * 1024);
    let parts: Vec<_> = parts.into_iter().collect();
    tokio::spawn(async move {
        for part in parts {
            far.write_all(&part).await.unwrap();
            sleep(MS).await;
        }
    });
    near
}

fn text(parts: &[&str]) -> DuplexStream {
    server(parts.iter().map(|part| part.as_bytes().to_vec()))
}

#[tokio::test(start_paused = true)]
async fn harm_an_answer_in_two_parts_is_cut_and_its_rest_answers_the_next_question() {
    let mut server = text(&["{\"price\": 1", "0000}\n", "{\"price\": 7}\n"]);
    assert_eq!(ask(&mut server, "rent\n").await.unwrap(), "{\"price\": 1");
    assert_eq!(ask(&mut server, "food\n").await.unwrap(), "0000}\n");
}

#[tokio::test(start_paused = true)]
async fn harm_a_long_answer_is_cut_at_the_size_of_the_buffer() {
    let mut server = server([vec![b'x'; 5000]]);
    assert_eq!(ask(&mut server, "").await.unwrap().len(), 1024);
}

#[tokio::test(start_paused = true)]
async fn harm_two_answers_that_arrive_together_are_one() {
    let mut server = text(&["one\ntwo\n"]);
    assert_eq!(ask(&mut server, "").await.unwrap(), "one\ntwo\n");
}

#[tokio::test(start_paused = true)]
async fn harm_a_peer_that_dies_at_the_question_answers_with_nothing() {
    let (mut server, mut far) = duplex(64);
    tokio::spawn(async move { far.read_u8().await }); // and then it is gone
    assert_eq!(ask(&mut server, "?").await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn harm_a_character_that_is_split_is_lost() {
    let mut server = server([b"M\xc3".to_vec(), b"\xbcnchen\n".to_vec()]);
    assert_eq!(ask(&mut server, "").await.unwrap(), "M\u{fffd}");
    assert_eq!(ask(&mut server, "").await.unwrap(), "\u{fffd}nchen\n");
}

#[tokio::test(start_paused = true)]
async fn mended_an_answer_behind_its_length_comes_whole_in_any_parts() {
    let limits = Limits {
        connect: 1000 * MS,
        request: 60_000 * MS,
        message: NonZeroUsize::new(10_000).unwrap(),
    };
    let answer = [&5000_u32.to_be_bytes()[..], &[b'x'; 5000]].concat();
    let next = b"\0\0\0\x03two".to_vec();
    let mut parts: Vec<_> = answer.chunks(7).map(<[u8]>::to_vec).collect();
    parts.push(next);
    let mut client = Client::new(server(parts), limits);
    assert_eq!(client.request(b"one").await.unwrap(), [b'x'; 5000]);
    sleep(MS).await;
    assert_eq!(client.request(b"two").await.unwrap(), b"two");
    client.request(b"gone").await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn mended_lines_end_where_they_end() {
    let parts = ["one\ntw", "o\nM\u{fc}nchen\n"].concat();
    let parts = parts.as_bytes().chunks(4).map(<[u8]>::to_vec); // in the middle of the umlaut, too
    let lines = read_lines(server(parts), NonZeroUsize::new(100).unwrap());
    let lines: Vec<_> = lines.map(|line| line.unwrap().unwrap()).collect().await;
    assert_eq!(lines, ["one", "two", "M\u{fc}nchen"]);
}
