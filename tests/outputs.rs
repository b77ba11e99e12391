//! What a reader sees beside an example is what it prints: every example is run and compared.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::Duration;

use cookbook::run::{Recorded, Runner, Verdict};
use cookbook::{Catalog, Interrupt};

#[path = "../crates/cookbook/tests/support/mod.rs"]
mod support;

use support::{Planted, hang_with_a_child, lives};

const EXAMPLE: &str = "crates/demo/examples/greet.rs";
const OUTPUT: &str = "crates/demo/examples/greet.out";

/// Builds and runs all examples of the workspace in `root`. Returns what is wrong with each that
/// does not do what was recorded, and how many were run.
fn check(root: &Path, runner: &Runner) -> (Vec<(String, Verdict)>, usize) {
    let catalog = Catalog::load(root).unwrap();
    let examples: Vec<_> = catalog.examples().collect();
    let reports = runner.run_all(&catalog, &examples, |_| Ok(())).unwrap();
    assert_eq!(reports.len(), examples.len());
    let wrong = reports
        .into_iter()
        .filter(|report| !report.verdict.is_success());
    (
        wrong
            .map(|report| (report.example.source, report.verdict))
            .collect(),
        examples.len(),
    )
}

#[test]
fn every_example_prints_what_was_recorded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runner = Runner {
        deadline: Duration::from_secs(30),
        interrupt: Interrupt::default(),
        echo: false,
        // Where `cargo test` has just built them, so there is nothing left to build.
        target_dir: None,
    };
    let catalog = Catalog::load(root).unwrap();
    let (wrong, run) = check(root, &runner);
    assert!(run > 0, "no example was found");
    let examples: Vec<_> = catalog.examples().collect();
    let details = wrong.iter().map(|(source, verdict)| {
        let example = examples
            .iter()
            .find(|example| example.source == *source)
            .unwrap();
        format!(
            "\n{source}: {}\n{}",
            verdict.label(),
            verdict.details(example)
        )
    });
    let details: String = details.collect();
    assert!(
        wrong.is_empty(),
        "{} of {run} examples:{details}",
        wrong.len()
    );
}

/// Builds into the planted workspace's own folder.
fn runner(planted: &Planted) -> Runner {
    Runner {
        deadline: Duration::from_secs(30),
        interrupt: Interrupt::default(),
        echo: false,
        target_dir: Some(planted.path("target")),
    }
}

#[test]
fn examples_that_print_what_was_recorded_pass_and_those_of_the_root_are_run_too() {
    let planted = Planted::sound();
    // As git may check it out on Windows.
    planted.write(OUTPUT, "hello, you\r\n");
    assert_eq!(check(planted.root(), &runner(&planted)), (vec![], 2));
    // And as a program may print it there.
    planted.edit(EXAMPLE, "println!(\"{}\"", "print!(\"{}\\r\\n\"");
    assert_eq!(check(planted.root(), &runner(&planted)), (vec![], 2));
    planted.write("examples/joined.out", "hello\n");
    let (wrong, _) = check(planted.root(), &runner(&planted));
    assert!(
        matches!(wrong.as_slice(), [(source, Verdict::Differs(..))] if source == "examples/joined.rs"),
        "{wrong:?}"
    );
}

#[test]
fn one_run_finds_each_way_in_which_an_example_can_be_wrong() {
    let planted = Planted::sound();
    let body = "println!(\"{}\", demo::greet::words(\"you\"));";
    for (name, main) in [
        ("differs", body.to_owned()),
        ("unrecorded", body.to_owned()),
        (
            "fails",
            format!("{body} eprintln!(\"why\"); std::process::exit(7);"),
        ),
        ("does_not_compile", "let x: u8 = \"text\";".to_owned()),
        (
            "prints_for_ever",
            "loop { println!(\"{}\", \"y\".repeat(9999)); }".to_owned(),
        ),
        (
            "prints_no_text",
            "std::io::Write::write_all(&mut std::io::stdout(), &[255]).unwrap();".to_owned(),
        ),
    ] {
        planted.add_recipe("demo", name, name);
        planted.write(
            &format!("crates/demo/examples/{name}.rs"),
            format!("//! cargo run --example {name}\nfn main() {{ {main} }}\n"),
        );
    }
    planted.write("crates/demo/examples/differs.out", "hello, me\n");
    planted.remove("crates/demo/examples/unrecorded.out");
    planted.add_recipe("demo", "without_example", "Without");
    planted.remove("crates/demo/examples/without_example.rs");

    let (wrong, run) = check(planted.root(), &runner(&planted));
    assert_eq!(run, 9);
    let verdict = |name: &str| {
        let source = format!("crates/demo/examples/{name}.rs");
        let found = wrong.iter().find(|(it, _)| *it == source);
        found
            .map(|(_, verdict)| verdict)
            .unwrap_or_else(|| panic!("{name} was not found: {wrong:?}"))
    };
    assert_eq!(wrong.len(), 7, "{wrong:?}");
    let Verdict::Differs(diff, printed) = verdict("differs") else {
        panic!("{wrong:?}")
    };
    assert!(diff.contains("\n-hello, me\n+hello, you\n"), "{diff}");
    assert_eq!(printed, "hello, you\n");
    assert_eq!(
        *verdict("unrecorded"),
        Verdict::NoRecording("hello, you\n".to_owned())
    );
    let Verdict::Failed(how, stderr) = verdict("fails") else {
        panic!("{wrong:?}")
    };
    assert!(how.contains('7') && stderr == "why\n", "{how}: {stderr}");
    let Verdict::Failed(how, _) = verdict("prints_for_ever") else {
        panic!("{wrong:?}")
    };
    assert!(how.contains("printed more than"), "{how}");
    let Verdict::Failed(how, _) = verdict("prints_no_text") else {
        panic!("{wrong:?}")
    };
    assert!(how.contains("not UTF-8"), "{how}");
    for (name, said) in [
        ("does_not_compile", "expected `u8`"),
        ("without_example", ""),
    ] {
        let Verdict::NotBuilt(stderr) = verdict(name) else {
            panic!("{wrong:?}")
        };
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn a_hung_example_is_killed_with_its_child_and_its_recording_kept() {
    let planted = Planted::sound();
    let port = planted.path("port");
    planted.write(
        EXAMPLE,
        format!("//! hangs\nfn main() {{{}}}\n", hang_with_a_child(&port)),
    );
    let runner = Runner {
        deadline: Duration::from_secs(1),
        ..runner(&planted)
    };
    let (wrong, _) = check(planted.root(), &runner);
    let [(source, Verdict::Failed(how, _))] = wrong.as_slice() else {
        panic!("{wrong:?}")
    };
    assert_eq!(source, EXAMPLE);
    assert!(how.contains("still running after 1s"), "{how}");
    assert!(!lives(&port), "its child lives on");

    let catalog = Catalog::load(planted.root()).unwrap();
    let mut heard = Vec::new();
    let examples: Vec<_> = catalog.examples().collect();
    runner
        .record(&catalog, &examples, |example, recorded| {
            heard.push((example.name.clone(), recorded.clone()));
            Ok(())
        })
        .unwrap();
    assert!(
        matches!(heard.as_slice(), [(a, Recorded::Not(Verdict::Failed(..))), (b, Recorded::Unchanged)] if a == "greet" && b == "joined"),
        "{heard:?}"
    );
    assert_eq!(planted.read(OUTPUT), "hello, you\n");
}

#[test]
fn a_child_that_outlives_its_parent_is_killed_when_that_ends() {
    let planted = Planted::sound();
    let port = planted.path("port");
    let hang = hang_with_a_child(&port);
    let leave = format!(
        "    if env::args().count() == 1 {{ while !std::path::Path::new({port:?}).exists() {{}} return; }}\n    sleep("
    );
    let main = hang.replacen("    sleep(", &leave, 1);
    planted.write(EXAMPLE, format!("//! leaves\nfn main() {{{main}}}\n"));
    planted.write(OUTPUT, "before it hangs\n");
    let (wrong, _) = check(planted.root(), &runner(&planted));
    assert_eq!(wrong, []);
    assert!(!lives(&port), "the child lives on");
}
