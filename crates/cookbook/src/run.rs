//! Building examples, running them under a deadline, and comparing what they print with what was
//! recorded.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use similar::TextDiff;

use crate::catalog::{Catalog, Example};
use crate::error::{Error, Result};
use crate::files;
use crate::process::{self, End, Interrupt, MAX_OUTPUT};

/// How examples are built and run.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The time that each example gets.
    pub deadline: Duration,
    /// Raised, it stops the build and whatever runs.
    pub interrupt: Interrupt,
    /// Whether what cargo and a single example write to standard error goes to ours, or into the
    /// verdict.
    pub echo: bool,
    /// Where cargo builds, if not where it would by itself.
    pub target_dir: Option<PathBuf>,
}

/// What running an example showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It printed what was recorded.
    AsRecorded,
    /// It printed something else: the difference, and what it printed.
    Differs(String, String),
    /// It ended well, printed this, and has no recording to compare with.
    NoRecording(String),
    /// It failed: how, and what it wrote to standard error.
    Failed(String, String),
    /// It was not built; what cargo said, unless that went to standard error.
    NotBuilt(String),
    /// The interrupt came first.
    Interrupted,
}

/// An example that has been run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The example.
    pub example: Example,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it ran.
    pub took: Duration,
}

/// What `record` did about an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The recording was true already.
    Unchanged,
    /// The recording was written.
    Changed,
    /// Nothing was written, because of this.
    Not(Verdict),
}

impl Verdict {
    /// Whether the example did what was recorded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::AsRecorded
    }

    /// A word or two for a table.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::AsRecorded => "as recorded",
            Self::Differs(..) => "DIFFERENT",
            Self::NoRecording(_) => "NO RECORDING",
            Self::Failed(..) => "FAILED",
            Self::NotBuilt(_) => "NOT BUILT",
            Self::Interrupted => "interrupted",
        }
    }

    /// What a reader has to know to mend it; empty where nothing is wrong.
    #[must_use]
    pub fn details(&self, example: &Example) -> String {
        let Example {
            name,
            source,
            output,
            ..
        } = example;
        match self {
            Self::AsRecorded | Self::Interrupted => String::new(),
            Self::Differs(diff, _) => format!(
                "{diff}if this is right, `cargo cookbook record {name}` makes it the recording\n"
            ),
            Self::NoRecording(_) => {
                format!("there is no {output}: `cargo cookbook record {name}` writes it\n")
            }
            Self::Failed(how, stderr) if stderr.trim_end().is_empty() => format!("{how}\n"),
            Self::Failed(how, stderr) => format!("{how}\n{}\n", stderr.trim_end()),
            Self::NotBuilt(stderr) if stderr.is_empty() => {
                format!(
                    "{source} was not built: write it if it is missing, else see what cargo said\n"
                )
            }
            Self::NotBuilt(stderr) => format!("{source} was not built\n{stderr}"),
        }
    }
}

impl Runner {
    /// Builds the example, if need be, and runs it; what it prints is given to `on_stdout` as it
    /// comes.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] if a program cannot be started, [`Error::Output`] if `on_stdout` fails,
    /// [`Error::Interrupted`].
    pub fn run_one(
        &self,
        catalog: &Catalog,
        example: &Example,
        on_stdout: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Report> {
        let built = self.build(catalog, std::slice::from_ref(example))?;
        let stderr = if self.echo {
            Stdio::inherit()
        } else {
            Stdio::piped()
        };
        let report = self.execute(catalog, example, &built, stderr, on_stdout)?;
        match report.verdict {
            Verdict::Interrupted => Err(Error::Interrupted),
            _ => Ok(report),
        }
    }

    /// Builds the examples with one cargo command and runs them, twice as many at a time as there are
    /// processors, since most of them wait; `on_report` hears of each as it ends. The reports are in
    /// the order of `examples`.
    ///
    /// # Errors
    ///
    /// As [`run_one`](Self::run_one); an interrupt while examples run is in their reports.
    pub fn run_all(
        &self,
        catalog: &Catalog,
        examples: &[Example],
        mut on_report: impl FnMut(&Report) -> io::Result<()>,
    ) -> Result<Vec<Report>> {
        let built = self.build(catalog, examples)?;
        let next = AtomicUsize::new(0);
        let workers = 2 * thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut reports = thread::scope(|scope| {
            let (sender, finished) = mpsc::sync_channel(workers);
            for _ in 0..workers.min(examples.len()) {
                let (sender, next, built) = (sender.clone(), &next, &built);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(example) = examples.get(index) else {
                            break;
                        };
                        let stderr = Stdio::piped();
                        let report = self.execute(catalog, example, built, stderr, |_| Ok(()));
                        if sender.send((index, report)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut reports = Vec::new();
            for (index, report) in finished {
                let told = report.and_then(|report| {
                    on_report(&report).map_err(Error::Output)?;
                    Ok(report)
                });
                match told {
                    Ok(report) => reports.push((index, report)),
                    Err(error) => {
                        // The workers see it after what they run now, and start nothing else.
                        next.store(examples.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(reports)
        })?;
        reports.sort_by_key(|(index, _)| *index);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// Runs the examples and makes what they print their recordings. An example that fails keeps the
    /// recording it has. `on_recorded` hears of each as it ends.
    ///
    /// # Errors
    ///
    /// As [`run_all`](Self::run_all), and [`Error::File`] if a recording cannot be written.
    pub fn record(
        &self,
        catalog: &Catalog,
        examples: &[Example],
        mut on_recorded: impl FnMut(&Example, &Recorded) -> io::Result<()>,
    ) -> Result<()> {
        for report in self.run_all(catalog, examples, |_| Ok(()))? {
            let Report {
                example, verdict, ..
            } = report;
            let recorded = match verdict {
                Verdict::AsRecorded => Recorded::Unchanged,
                Verdict::Differs(_, printed) | Verdict::NoRecording(printed) => {
                    files::replace(&catalog.root.join(&example.output), printed.as_bytes())?;
                    Recorded::Changed
                }
                other => Recorded::Not(other),
            };
            on_recorded(&example, &recorded).map_err(Error::Output)?;
        }
        self.interrupt.check()
    }

    /// Builds the examples with one cargo command, which goes on past the ones that do not compile.
    fn build(&self, catalog: &Catalog, examples: &[Example]) -> Result<Built> {
        let there = |example: &&Example| catalog.root.join(&example.source).is_file();
        let mut build = process::cargo();
        // The whole workspace, so that features are what `cargo test` and `cargo run --example`
        // make them: whatever one of them has built, the others need not build again.
        build
            .current_dir(&catalog.root)
            .args(["build", "--workspace", "--keep-going"]);
        build.arg("--message-format=json-render-diagnostics");
        for example in examples.iter().filter(there) {
            build.args(["--example", &example.name]);
        }
        if !examples.iter().any(|example| there(&example)) {
            return Ok(Built::default());
        }
        if !self.echo {
            build.arg("--quiet").stderr(Stdio::piped());
        }
        if let Some(folder) = &self.target_dir {
            build.arg("--target-dir").arg(folder);
        }
        let mut messages = Vec::new();
        let collect = |chunk: &[u8]| {
            messages.extend_from_slice(chunk);
            Ok(())
        };
        let finished = process::run(build, None, &self.interrupt, collect)?;
        if finished.end == End::Interrupted {
            return Err(Error::Interrupted);
        }
        let lines = messages.split(|byte| *byte == b'\n');
        let artifacts = lines.filter_map(|line| serde_json::from_slice::<Message>(line).ok());
        let executables =
            artifacts.filter_map(|message| Some((message.target?, message.executable?)));
        Ok(Built {
            executables: executables
                .filter(|(target, _)| target.kind.iter().any(|kind| kind == "example"))
                .map(|(target, executable)| (target.name, executable))
                .collect(),
            stderr: String::from_utf8_lossy(&finished.stderr).into_owned(),
        })
    }

    fn execute(
        &self,
        catalog: &Catalog,
        example: &Example,
        built: &Built,
        stderr: Stdio,
        on_stdout: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Report> {
        let report = |verdict, took| Report {
            example: example.clone(),
            verdict,
            took,
        };
        if self.interrupt.is_raised() {
            return Ok(report(Verdict::Interrupted, Duration::ZERO));
        }
        let Some(executable) = built.executables.get(&example.name) else {
            return Ok(report(
                Verdict::NotBuilt(built.stderr.clone()),
                Duration::ZERO,
            ));
        };
        let mut command = Command::new(executable);
        command.current_dir(&catalog.root).stderr(stderr);
        let finished = process::run(command, Some(self.deadline), &self.interrupt, on_stdout)?;
        let stderr = String::from_utf8_lossy(&finished.stderr).into_owned();
        let failed = |how: String| Verdict::Failed(how, stderr);
        let verdict = match finished.end {
            End::Interrupted => Verdict::Interrupted,
            End::TimedOut => failed(format!(
                "still running after {:?}: killed, with its children",
                self.deadline
            )),
            End::TooMuchOutput => failed(format!("printed more than {MAX_OUTPUT} bytes: killed")),
            End::Exited(status) if !status.success() => failed(format!("ended with {status}")),
            End::Exited(_) => match String::from_utf8(finished.stdout) {
                Err(_) => failed("what it printed is not UTF-8".to_owned()),
                Ok(printed) => compare(catalog, example, &printed.replace("\r\n", "\n"))?,
            },
        };
        Ok(report(verdict, finished.took))
    }
}

fn compare(catalog: &Catalog, example: &Example, printed: &str) -> Result<Verdict> {
    let path = catalog.root.join(&example.output);
    let recorded = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).replace("\r\n", "\n"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Verdict::NoRecording(printed.to_owned()));
        }
        Err(error) => return Err(Error::file("read", &path)(error)),
    };
    if recorded == printed {
        return Ok(Verdict::AsRecorded);
    }
    let diff = TextDiff::from_lines(recorded.as_str(), printed);
    let diff = diff
        .unified_diff()
        .header(&example.output, "this run")
        .to_string();
    Ok(Verdict::Differs(diff, printed.to_owned()))
}

/// What cargo built.
#[derive(Debug, Default)]
struct Built {
    executables: HashMap<String, PathBuf>,
    /// Empty where it was not captured.
    stderr: String,
}

/// The part of cargo's messages that says where an executable is.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}
