//! The `cargo cookbook` command: reads its arguments, calls the library, prints.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use cookbook::catalog::{Catalog, Example};
use cookbook::copy::{Copy, CopyOptions};
use cookbook::run::{Recorded, Report, Runner};
use cookbook::{Error, Interrupt, Result, page, search};
use indicatif::{ProgressBar, ProgressStyle};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

const EXAMPLES: &str = "Examples:
  cargo cookbook list                            what there is
  cargo cookbook search channel closed           a job, an API name, a whole error message
  cargo cookbook show every_await_point          read one
  cargo cookbook run every_await_point           see it work
  cargo cookbook copy every_await_point --to ../my-app";

/// Find, read, run and copy the recipes of the async Rust cookbook.
#[derive(Parser)]
#[command(name = "cookbook", bin_name = "cargo cookbook", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name the recipes, section by section, in reading order
    #[command(after_help = "Examples:
  cargo cookbook list
  cargo cookbook list channels
  cargo cookbook list --json | jq -r '.[].name'")]
    List {
        /// Only this section
        section: Option<String>,
        /// Print an array of objects; its fields are documented in the crate
        #[arg(long)]
        json: bool,
    },
    /// Find recipes by job, API name or error message, best first
    #[command(after_help = "Examples:
  cargo cookbook search drain connections
  cargo cookbook search 'Cannot start a runtime from within a runtime'")]
    Search {
        /// What you know: punctuation and case do not matter
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Show a recipe: prose, code, recorded output, and what its tests guarantee
    #[command(after_help = "Examples:
  cargo cookbook show every_await_point
  cargo cookbook show every_await_point --code > src/every_await_point.rs")]
    Show {
        /// The recipe
        name: String,
        /// Print the file alone, byte for byte
        #[arg(long)]
        code: bool,
    },
    /// Run examples and compare what they print with what was recorded
    #[command(after_help = "Examples:
  cargo cookbook run every_await_point
  cargo cookbook run channels tasks
  cargo cookbook run --all --deadline 60")]
    Run {
        /// Recipes, programs of the root's examples/, or whole sections
        #[arg(required_unless_present = "all", value_name = "NAME|SECTION")]
        names: Vec<String>,
        /// Everything there is
        #[arg(long, conflicts_with = "names")]
        all: bool,
        #[command(flatten)]
        deadline: Deadline,
    },
    /// Copy a recipe into your package, with the dependencies that it needs
    ///
    /// Puts the file into src/, runs the recipe's `cargo add` lines, and prints the `mod` line for
    /// you to add. If any step fails, everything is as it was before.
    #[command(after_help = "Examples:
  cargo cookbook copy every_await_point --to ../my-app
  cargo cookbook copy every_await_point --to ../my-app --dry-run")]
    Copy {
        /// The recipe
        name: String,
        /// The package's folder [default: the package that the current folder is in]
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Overwrite the recipe's file if it is there
        #[arg(long)]
        force: bool,
        /// Say what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Let cargo use only what it has downloaded before
        #[arg(long)]
        offline: bool,
    },
    /// Run examples and make what they print their recordings
    #[command(after_help = "Examples:
  cargo cookbook record every_await_point
  cargo cookbook record")]
    Record {
        /// Recipes, programs of the root's examples/, or whole sections [default: all]
        #[arg(value_name = "NAME|SECTION")]
        names: Vec<String>,
        #[command(flatten)]
        deadline: Deadline,
    },
    /// Print a script that completes this command's arguments
    #[command(after_help = "Example:
  cargo cookbook completions bash > ~/.local/share/bash-completion/completions/cookbook")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(clap::Args)]
struct Deadline {
    /// Kill an example that runs longer, with its children
    #[arg(long = "deadline", value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `cookbook list | head -1`: the reader has what it wants.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{BAD}error{BAD:#}: {error}\n"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Does what was asked for; false if it found nothing, or something else than what should be.
fn execute(command: Command) -> Result<bool> {
    let cwd = env::current_dir().map_err(|source| Error::File {
        action: "read",
        path: PathBuf::from("."),
        source,
    })?;
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "cookbook", &mut script);
        return print_bytes(&script).map(|()| true);
    }
    let catalog = Catalog::find(&cwd)?;
    match command {
        Command::List { section, json } => list(&catalog, section.as_deref(), json),
        Command::Search { words } => find(&catalog, &words),
        Command::Show { name, code } => {
            let recipe = catalog.recipe(&name)?;
            if code {
                print_bytes(catalog.read(&recipe.source)?.as_bytes())?;
            } else {
                print(page::page(&catalog, recipe)?)?;
            }
            Ok(true)
        }
        Command::Run {
            names,
            all,
            deadline,
        } => {
            let examples = if all {
                catalog.examples().collect()
            } else {
                catalog.examples_named(&names)?
            };
            let runner = runner(&deadline)?;
            match examples.as_slice() {
                [example] if !all => run_one(&runner, &catalog, example),
                examples => run_all(&runner, &catalog, examples),
            }
        }
        Command::Copy {
            name,
            to,
            force,
            dry_run,
            offline,
        } => {
            let recipe = catalog.recipe(&name)?;
            let nearest = || {
                cwd.ancestors()
                    .find(|folder| folder.join("Cargo.toml").is_file())
            };
            let folder = to.unwrap_or_else(|| nearest().unwrap_or(&cwd).to_owned());
            let interrupt = interrupt()?;
            let options = CopyOptions { force, offline };
            let copy = Copy::plan(&catalog, recipe, &folder, options, &interrupt)?;
            make_copy(&copy, dry_run, &interrupt)
        }
        Command::Record { names, deadline } => {
            let examples = if names.is_empty() {
                catalog.examples().collect()
            } else {
                catalog.examples_named(&names)?
            };
            record(&runner(&deadline)?, &catalog, &examples)
        }
        Command::Completions { .. } => Ok(true),
    }
}

fn list(catalog: &Catalog, section: Option<&str>, json: bool) -> Result<bool> {
    let sections = match section {
        Some(name) => std::slice::from_ref(catalog.section(name)?),
        None => &catalog.sections,
    };
    if json {
        let json = catalog.json(sections)?;
        return print_bytes(format!("{json}\n").as_bytes()).map(|()| true);
    }
    let width = catalog
        .recipes()
        .map(|recipe| recipe.name.len())
        .max()
        .unwrap_or(0);
    let mut page = String::new();
    for section in sections
        .iter()
        .filter(|section| !section.recipes.is_empty())
    {
        let space = if page.is_empty() { "" } else { "\n" };
        page += &format!("{space}{BOLD}{}{BOLD:#}\n", section.name);
        for recipe in &section.recipes {
            page += &format!("  {GOOD}{:width$}{GOOD:#}  {}\n", recipe.name, recipe.title);
        }
    }
    print(page)?;
    Ok(true)
}

fn find(catalog: &Catalog, words: &[String]) -> Result<bool> {
    let hits = search::search(catalog, words)?;
    for hit in &hits {
        let recipe = hit.recipe;
        print(format_args!(
            "{GOOD}{}{GOOD:#}  {}\n  {DIM}{}:{}{DIM:#}  {}\n",
            recipe.name, recipe.title, hit.file, hit.line_number, hit.line
        ))?;
    }
    if hits.is_empty() {
        complain(format_args!(
            "nothing matches: try fewer or other words, or see `cargo cookbook list`\n"
        ));
    }
    Ok(!hits.is_empty())
}

fn run_one(runner: &Runner, catalog: &Catalog, example: &Example) -> Result<bool> {
    let mut stdout = io::stdout();
    let report = runner.run_one(catalog, example, |chunk| {
        stdout.write_all(chunk)?;
        stdout.flush()
    })?;
    if !report.verdict.is_success() {
        let label = report.verdict.label();
        complain(format_args!(
            "{BAD}{label}{BAD:#}: {}\n{}",
            example.name,
            report.verdict.details(example)
        ));
    }
    Ok(report.verdict.is_success())
}

fn run_all(runner: &Runner, catalog: &Catalog, examples: &[Example]) -> Result<bool> {
    let width = examples
        .iter()
        .map(|example| example.name.len())
        .max()
        .unwrap_or(0);
    let bar = progress(examples.len());
    let reports = runner.run_all(catalog, examples, |report| {
        let Report {
            example,
            verdict,
            took,
        } = report;
        bar.inc(1);
        let style = if verdict.is_success() { GOOD } else { BAD };
        let seconds = took.as_secs_f64();
        let line = format!(
            "{:width$}  {seconds:5.2} s  {style}{}{style:#}",
            example.name,
            verdict.label()
        );
        let details = verdict.details(example);
        let indented: String = details
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect();
        bar.suspend(|| write!(anstream::stdout(), "{line}\n{indented}"))
    })?;
    bar.finish_and_clear();
    print(table(&reports))?;
    if runner.interrupt.is_raised() {
        return Err(Error::Interrupted);
    }
    Ok(reports.iter().all(|report| report.verdict.is_success()))
}

/// A line for each section: how many examples were run, and how many of them did what.
fn table(reports: &[Report]) -> String {
    let mut columns: Vec<&str> = reports
        .iter()
        .map(|report| report.verdict.label())
        .collect();
    columns.sort_by_key(|label| (*label != "as recorded", *label));
    columns.dedup();
    let mut sections: Vec<&str> = Vec::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for report in reports {
        let section = report.example.section.as_deref().unwrap_or("(root)");
        if !sections.contains(&section) {
            sections.push(section);
        }
        *counts.entry((section, report.verdict.label())).or_default() += 1;
        *counts.entry(("all", report.verdict.label())).or_default() += 1;
    }
    sections.push("all");
    let width = sections
        .iter()
        .map(|section| section.len())
        .max()
        .unwrap_or(0);
    let heads: String = columns
        .iter()
        .map(|label| format!("  {label:>12}"))
        .collect();
    let mut table = format!("\n{BOLD}{:width$}{heads}{BOLD:#}\n", "section");
    for section in sections {
        let cells = columns
            .iter()
            .map(|label| counts.get(&(section, label)).copied().unwrap_or(0));
        let cells: String = cells.map(|count| format!("  {count:>12}")).collect();
        table += &format!("{section:width$}{cells}\n");
    }
    table
}

fn record(runner: &Runner, catalog: &Catalog, examples: &[Example]) -> Result<bool> {
    let mut all_well = true;
    let (mut changed, mut unchanged) = (0, 0);
    runner.record(catalog, examples, |example, recorded| match recorded {
        Recorded::Unchanged => {
            unchanged += 1;
            Ok(())
        }
        Recorded::Changed => {
            changed += 1;
            writeln!(
                anstream::stdout(),
                "{GOOD}recorded{GOOD:#} {}",
                example.output
            )
        }
        Recorded::Not(verdict) => {
            all_well = false;
            let (label, details) = (verdict.label(), verdict.details(example));
            complain(format_args!(
                "{BAD}{label}{BAD:#}: {}, recording kept\n{details}",
                example.name
            ));
            Ok(())
        }
    })?;
    print(format_args!(
        "{changed} changed, {unchanged} as they were\n"
    ))?;
    Ok(all_well)
}

fn make_copy(copy: &Copy, dry_run: bool, interrupt: &Interrupt) -> Result<bool> {
    let file = copy.file.display();
    if dry_run {
        for command in copy.commands() {
            print(format_args!("would run    {command}\n"))?;
        }
        print(format_args!("would write  {file}\n"))?;
    } else {
        copy.make(interrupt).inspect_err(|error| {
            if !matches!(error, Error::NotRestored { .. }) {
                complain("nothing was changed: everything is as it was\n");
            }
        })?;
        print(format_args!("wrote {file}\n"))?;
    }
    print(format_args!(
        "To make it part of the crate, add to {}:\n\n{}\n",
        copy.mod_file.display(),
        copy.mod_line
    ))?;
    Ok(true)
}

fn runner(deadline: &Deadline) -> Result<Runner> {
    Ok(Runner {
        deadline: Duration::from_secs(deadline.seconds),
        interrupt: interrupt()?,
        echo: true,
        target_dir: None,
    })
}

/// Raised by Ctrl-C. The commands that start processes use it; the others die of the signal.
fn interrupt() -> Result<Interrupt> {
    let interrupt = Interrupt::default();
    let raised = interrupt.clone();
    ctrlc::set_handler(move || raised.raise()).map_err(|error| Error::Spawn {
        program: "the handler for Ctrl-C".to_owned(),
        source: io::Error::other(error),
    })?;
    Ok(interrupt)
}

/// A bar on standard error if that is a terminal; else nothing.
fn progress(length: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}");
    ProgressBar::new(length as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Prints with colours where standard output is a terminal that wants them.
fn print(text: impl Display) -> Result<()> {
    let mut stdout = anstream::stdout().lock();
    write!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(Error::Output)
}

/// Prints exactly these bytes.
fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(Error::Output)
}

/// Says it on standard error. If even that is closed, the exit code has to do.
fn complain(text: impl Display) {
    let _closed = write!(anstream::stderr(), "{text}");
}
