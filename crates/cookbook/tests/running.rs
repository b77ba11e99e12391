//! `run` and `record`, driven as a user would.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::{Command, Output};

mod support;

use support::{Planted, hang_with_a_child};

const EXAMPLE: &str = "crates/demo/examples/greet.rs";
const OUTPUT: &str = "crates/demo/examples/greet.out";

fn cookbook(planted: &Planted, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cookbook"));
    command
        .current_dir(planted.root())
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        .env("CARGO_TARGET_DIR", planted.path("target"));
    command
}

fn output(planted: &Planted, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = cookbook(planted, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Makes the recipe's example do this.
fn example(planted: &Planted, path: &str, main: &str) {
    planted.write(
        path,
        format!("//! cargo run --example\nfn main() {{{main}}}\n"),
    );
}

#[test]
fn one_example_prints_what_it_prints_and_nothing_else() {
    let planted = Planted::sound();
    let (code, stdout, stderr) = output(&planted, &["run", "greet"]);
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), "hello, you\n"),
        "{stderr}"
    );
    let (code, stdout, _) = output(&planted, &["run", "joined"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "hello, all\n"));
}

#[test]
fn one_example_that_differs_says_so_beside_its_output_and_exits_1() {
    let planted = Planted::sound();
    planted.write(OUTPUT, "hello, me\n");
    let (code, stdout, stderr) = output(&planted, &["run", "greet"]);
    assert_eq!((code, stdout.as_str()), (Some(1), "hello, you\n"));
    assert!(
        stderr.contains("-hello, me\n+hello, you\n") && stderr.contains("record greet"),
        "{stderr}"
    );
}

#[test]
fn one_example_that_fails_shows_its_standard_error_once_and_exits_1() {
    let planted = Planted::sound();
    example(
        &planted,
        EXAMPLE,
        "println!(\"out\"); eprintln!(\"the reason\"); std::process::exit(3)",
    );
    let (code, stdout, stderr) = output(&planted, &["run", "greet"]);
    assert_eq!((code, stdout.as_str()), (Some(1), "out\n"));
    assert_eq!(stderr.matches("the reason").count(), 1, "{stderr}");
    assert!(
        stderr.contains("FAILED") && stderr.contains('3'),
        "{stderr}"
    );
}

#[test]
fn several_have_a_line_each_the_difference_and_a_table_that_counts_them() {
    let planted = Planted::sound();
    planted.add_recipe("other", "wave", "Wave");
    planted.add_recipe("other", "bow", "Bow");
    planted.write("crates/other/examples/wave.out", "hello, me\n");
    let (code, stdout, stderr) = output(&planted, &["run", "--all"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stdout.contains("as recorded\n") && stdout.contains("    -hello, me\n    +hello, you\n"),
        "{stdout}"
    );
    let table: Vec<_> = stdout
        .lines()
        .rev()
        .take(5)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        table,
        [
            "all 3 1",
            "(root) 1 0",
            "other 1 1",
            "demo 1 0",
            "section as recorded DIFFERENT"
        ],
        "{stdout}"
    );

    let (code, stdout, _) = output(&planted, &["run", "demo", "greet", "joined"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        stdout.matches("as recorded\n").count(),
        3,
        "greet, joined and the table's head: {stdout}"
    );
    let (code, _, _) = output(&planted, &["run", "other"]);
    assert_eq!(code, Some(1));
}

#[test]
fn an_example_that_does_not_compile_does_not_keep_the_others_from_running() {
    let planted = Planted::sound();
    example(&planted, EXAMPLE, "nothing");
    let (code, stdout, stderr) = output(&planted, &["run", "--all"]);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("NOT BUILT") && stdout.contains("joined"),
        "{stdout}"
    );
    assert!(stderr.contains("cannot find value `nothing`"), "{stderr}");
    let (code, stdout, _) = output(&planted, &["run", "greet"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
}

#[test]
fn a_hung_example_ends_at_the_deadline_that_was_given() {
    let planted = Planted::sound();
    let port = planted.path("port");
    example(&planted, EXAMPLE, &hang_with_a_child(&port));
    let (code, stdout, stderr) = output(&planted, &["run", "greet", "--deadline", "1"]);
    assert_eq!((code, stdout.as_str()), (Some(1), "before it hangs\n"));
    assert!(stderr.contains("still running after 1s"), "{stderr}");
    assert!(!support::lives(&port));
}

#[test]
fn record_rewrites_what_differs_says_so_and_leaves_no_other_file() {
    let planted = Planted::sound();
    planted.write(OUTPUT, "old\n");
    planted.remove("examples/joined.out");
    planted.write("examples/joined.out", "hello, all\n");
    let (code, stdout, stderr) = output(&planted, &["record"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        stdout,
        format!("recorded {OUTPUT}\n1 changed, 1 as they were\n")
    );
    assert_eq!(planted.read(OUTPUT), "hello, you\n");
    let mut names: Vec<_> = std::fs::read_dir(planted.path("crates/demo/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["greet.out", "greet.rs"]);
    let (_, stdout, _) = output(&planted, &["record"]);
    assert_eq!(stdout, "0 changed, 2 as they were\n");
}

#[test]
fn record_makes_the_first_recording_and_keeps_that_of_an_example_that_fails() {
    let planted = Planted::sound();
    planted.remove(OUTPUT);
    let (code, _, _) = output(&planted, &["run", "greet"]);
    assert_eq!(code, Some(1), "no recording");
    assert_eq!(output(&planted, &["record", "greet"]).0, Some(0));
    assert_eq!(planted.read(OUTPUT), "hello, you\n");
    example(
        &planted,
        EXAMPLE,
        "println!(\"half\"); std::process::exit(1)",
    );
    let (code, stdout, stderr) = output(&planted, &["record", "greet", "joined"]);
    assert_eq!(
        (code, stdout.as_str()),
        (Some(1), "0 changed, 1 as they were\n")
    );
    assert!(
        stderr.contains("FAILED") && stderr.contains("recording kept"),
        "{stderr}"
    );
    assert_eq!(planted.read(OUTPUT), "hello, you\n");
}

#[cfg(unix)]
mod interrupted {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    use std::time::Duration;

    /// Starts the command, sends it this signal once the file is there and it has told of `told`, and
    /// waits for its end.
    fn interrupt(planted: &Planted, arguments: &[&str], once: &Path, told: Option<&str>) -> Output {
        let mut command = cookbook(planted, arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let appears = |_: &u32| {
            #[expect(clippy::disallowed_methods, reason = "waits for another process")]
            std::thread::sleep(Duration::from_millis(20));
            once.exists()
        };
        let tries = (0..3000).find(appears);
        let mut text = String::new();
        while told.is_some_and(|told| !text.contains(told)) {
            assert_ne!(stdout.read_line(&mut text).unwrap(), 0, "{text}");
        }
        let signal = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap();
        stdout.read_to_string(&mut text).unwrap();
        let mut output = child.wait_with_output().unwrap();
        output.stdout = text.into_bytes();
        assert!(tries.is_some() && signal.success(), "{output:?}");
        output
    }

    #[test]
    fn ctrl_c_kills_what_runs_reports_what_has_run_and_exits_130() {
        let planted = Planted::sound();
        let port = planted.path("port");
        example(&planted, "examples/joined.rs", &hang_with_a_child(&port));
        for arguments in [&["run", "--all"][..], &["run", "joined"], &["record"]] {
            let _first = std::fs::remove_file(&port);
            // They run side by side, and it may come to hang before the other is done.
            let told = (arguments == ["run", "--all"]).then_some("greet");
            let output = interrupt(&planted, arguments, &port, told);
            let stdout = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(130), "{arguments:?}");
            assert!(!support::lives(&port), "{arguments:?}");
            if arguments == ["run", "--all"] {
                assert!(
                    stdout.contains("greet") && stdout.contains("as recorded"),
                    "{stdout}"
                );
            }
        }
        assert_eq!(planted.read("examples/joined.out"), "hello, all\n");
    }

    #[test]
    fn ctrl_c_stops_the_build() {
        let planted = Planted::sound();
        planted.edit(
            "crates/demo/Cargo.toml",
            "[package]\n",
            "[package]\nbuild = \"build.rs\"\n",
        );
        let port = planted.path("port");
        planted.write(
            "crates/demo/build.rs",
            format!("fn main() {{{}}}\n", hang_with_a_child(&port)),
        );
        let output = interrupt(&planted, &["run", "greet"], &port, None);
        assert_eq!(output.status.code(), Some(130));
        assert!(!support::lives(&port), "the build goes on");
    }
}
