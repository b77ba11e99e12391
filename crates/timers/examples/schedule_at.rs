//! cargo run --example schedule_at
//!
//! A session with a lease of 300 ms, renewed twice, and an idle timeout of 200 ms, put off by each
//! message. Then a report that is due at a time of day, while somebody puts the clock forward. The
//! clock is virtual.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use timers::schedule_at::{Alarm, IdleTimeout, sleep_until_time};
use tokio::time::{Instant, interval_at, sleep};
use tokio::{join, select};

const MS: Duration = Duration::from_millis(1);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let say = |what: &str| println!("{:>6} ms  {what}", started.elapsed().as_millis());

    let mut lease = Alarm::new();
    lease.set(started + 300 * MS);
    let idle = IdleTimeout::new(200 * MS);
    let mut messages = interval_at(started + 150 * MS, 110 * MS);
    let mut renewals = 2;
    let mut left = 4;
    loop {
        select! {
            _ = messages.tick(), if left > 0 => {
                left -= 1;
                idle.touch();
                say("a message");
            }
            _ = lease.ring() => {
                if renewals > 0 {
                    renewals -= 1;
                    lease.set_after(300 * MS);
                    say("the lease is renewed");
                }
            }
            () = idle.expired() => {
                say("nothing happened for 200 ms: the session ends");
                break;
            }
        }
    }

    let forward = Cell::new(Duration::ZERO);
    let clock = || SystemTime::UNIX_EPOCH + started.elapsed() + forward.get();
    let at_three = SystemTime::UNIX_EPOCH + Duration::from_secs(3 * 3_600);
    let report = async {
        sleep_until_time(clock, at_three, Duration::from_secs(60)).await;
        say("the report that is due at three");
    };
    let jump = async {
        sleep(Duration::from_secs(90)).await;
        forward.set(Duration::from_secs(3 * 3_600));
        say("the clock is put forward by three hours");
    };
    join!(report, jump);
}
