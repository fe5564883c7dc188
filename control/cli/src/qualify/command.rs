//! `shingle qualify`: the command line of the qualification suite.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use shingle_hw::qualify::plan::Plan;
use shingle_hw::qualify::report::{Host, Report, RunHead};
use shingle_hw::qualify::run::{self, Event, Options};
use shingle_hw::qualify::subject::Subject;
use shingle_hw::qualify::{diff, fit, html, negative, registry};
use tokio::signal::unix::{SignalKind, signal};

use super::files::{self, State};
use super::progress::Progress;
use super::target;
use crate::failure::Failure;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  shingle qualify model:ci --plan ci                   a modelled drive in memory, in seconds
  shingle qualify /dev/sdx --plan smoke --i-own SERIAL a drive whose data may be destroyed
  shingle qualify --resume qualify-SERIAL-1700000000   go on with an interrupted run
  shingle qualify --negative-controls                  does the suite catch planted device bugs?
  shingle qualify diff runs/base runs/candidate        is B worse than A? --html FILE for a page
  shingle qualify fit runs/base > emulator.toml        a modelled drive with this one's latencies
  shingle qualify list                                 every test, and what it would prove

Mounted, held or partitioned devices and disks with a Shingle label are refused. The run's directory
holds report.json, report.html, junit.xml, latency.hlog, drive.toml and emulator.toml. The exit code
is 1 when the drive is not qualified. hw/QUALIFY.md in the source tree explains every step.";

/// Decide whether a drive may join the fleet
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct QualifyArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Device, file of an emulated drive, or model:NAME (ci, smr, hamr, zns) or model:FILE.toml
    #[arg(required_unless_present_any = ["negative_controls", "resume"])]
    device: Option<String>,
    /// How much to test
    #[arg(long, value_enum, default_value = "smoke")]
    plan: PlanName,
    /// The device's serial number: everything on it may be destroyed
    #[arg(long, value_name = "SERIAL")]
    i_own: Option<String>,
    /// Directory for the reports [default: ./qualify-SERIAL-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Decides everything random; the same seed repeats a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these tests: ids or beginnings of ids, as in C,F-01
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    only: Vec<String>,
    /// Go on with the interrupted run in this directory
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Run the ci plan against planted device bugs instead
    #[arg(long)]
    negative_controls: bool,
    /// Print the report, or the outcome, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Compare two reports, or two comma-separated lists of them, one report per drive
    Diff {
        a: String,
        b: String,
        /// Print the comparison as JSON
        #[arg(long)]
        json: bool,
        /// Write the comparison as a page here
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Print the emulator profile that behaves like the drive of a report
    Fit { report: PathBuf },
    /// Print a report's summary, or write it as HTML
    Show {
        report: PathBuf,
        /// Write report.html here
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// List every test
    List,
}

/// The plans of the suite.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlanName {
    /// At most 5 minutes
    Smoke,
    /// Everything that means something on an emulated drive, small
    Ci,
    /// About two hours
    Quick,
    /// 7 to 10 days
    Qual,
}

impl PlanName {
    fn plan(self) -> Plan {
        match self {
            Self::Smoke => Plan::Smoke,
            Self::Ci => Plan::Ci,
            Self::Quick => Plan::Quick,
            Self::Qual => Plan::Qual,
        }
    }
}

/// Runs the command.
pub fn run(args: &QualifyArgs) -> Result<(), Failure> {
    match &args.what {
        Some(What::Diff { a, b, json, html }) => compare(a, b, *json, html.as_deref()),
        Some(What::Fit { report }) => {
            let profile = fit::fit(&files::read_report(report)?).and_then(|profile| profile.to_toml());
            output::line(profile.map_err(|error| Failure::failed(error.to_string(), ""))?.trim_end())
        }
        Some(What::Show { report, html: None }) => output::line(files::read_report(report)?.summary()),
        Some(What::Show { report, html: Some(file) }) => {
            files::write(file, &html::render(&files::read_report(report)?))
        }
        Some(What::List) => list(),
        None if args.negative_controls => controls(args),
        None => qualify(args),
    }
}

fn list() -> Result<(), Failure> {
    for test in registry::all() {
        let state = if test.run.is_some() { "" } else { "  (not run by this version, or only with its equipment)" };
        let plan = test.plan.name();
        output::line(format_args!(
            "{:5} {plan:6} {:6} {}: {}{state}",
            test.id, test.applies, test.title, test.criterion
        ))?;
    }
    Ok(())
}

fn controls(args: &QualifyArgs) -> Result<(), Failure> {
    let found = negative::run_controls(args.seed, &mut |control| {
        if !args.json {
            let caught = control.caught_by.as_deref().unwrap_or("MISSED");
            output::remark(format_args!("{caught:7} {:22} {}", control.bug, control.what));
        }
    });
    if args.json {
        output::json(&found)?;
    } else {
        output::line(found.summary())?;
    }
    for id in &found.false_alarms {
        output::remark(format_args!("false alarm: {id} fails on the sound drive"));
    }
    let missed = found.controls.len() - found.caught();
    match found.hold() {
        true => Ok(()),
        false => Err(Failure::Some { failed: missed as u64, total: found.controls.len() as u64 }),
    }
}

fn compare(a: &str, b: &str, json: bool, page: Option<&Path>) -> Result<(), Failure> {
    let read =
        |list: &str| list.split(',').map(|path| files::read_report(Path::new(path))).collect::<Result<Vec<_>, _>>();
    let found = diff::compare(&read(a)?, &read(b)?);
    if let Some(file) = page {
        files::write(file, &html::render_comparison(&found))?;
    }
    if json { output::json(&found) } else { output::line(found.text()) }
}

fn qualify(args: &QualifyArgs) -> Result<(), Failure> {
    let resumed = args.resume.as_deref().map(State::load).transpose()?;
    let (device, seed) = match &resumed {
        Some(state) => (state.device.clone(), state.seed),
        None => (args.device.clone().unwrap_or_default(), args.seed),
    };
    let claimed = args.i_own.clone().or_else(|| resumed.as_ref().map(|state| state.serial.clone()));
    let subject = target::open(&device, claimed.as_deref(), seed)?;
    let mut state = resumed.unwrap_or_else(|| State {
        device,
        serial: subject.passport.serial.clone(),
        plan: args.plan.plan(),
        seed,
        only: args.only.clone(),
        started_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        results: Vec::new(),
    });
    if state.serial != subject.passport.serial {
        let what = format!("the run was about {}, the device is {}", state.serial, subject.passport.serial);
        return Err(Failure::unfit(what, "name the device of the run"));
    }
    let unnamed = || PathBuf::from(format!("qualify-{}-{}", state.serial, state.started_s));
    let directory = args.resume.clone().or_else(|| args.out.clone()).unwrap_or_else(unnamed);
    fs::create_dir_all(&directory).map_err(Failure::io(format!("make {}", directory.display())))?;
    if run_plan(args, &subject, &mut state, &directory)? {
        output::remark(format_args!("go on with: shingle qualify --resume {}", directory.display()));
        return Err(Failure::Interrupted);
    }
    conclude(args, subject, state, &directory)
}

/// Runs what is left of the plan; whether it was interrupted.
fn run_plan(args: &QualifyArgs, subject: &Subject, state: &mut State, directory: &Path) -> Result<bool, Failure> {
    let options = Options {
        destructive: true,
        only: state.only.clone(),
        done: state.results.clone(),
        ..Options::new(state.plan, state.seed)
    };
    let (stop, progress) = (interrupted()?, Progress::new(args.json));
    let mut unsaved = None;
    let outcome = run::run(subject, &options, &mut |event| {
        progress.show(event);
        if let Event::Finished { result, .. } = event {
            state.results.push((*result).clone());
            unsaved = state.save(directory).err().or(unsaved.take());
        }
        unsaved.is_none() && !stop.load(Ordering::Relaxed)
    });
    progress.end();
    state.results = outcome.results;
    match unsaved {
        Some(failure) => Err(failure),
        None => Ok(outcome.interrupted),
    }
}

fn conclude(args: &QualifyArgs, subject: Subject, state: State, directory: &Path) -> Result<(), Failure> {
    let head = RunHead {
        id: format!("{}-{}", state.serial, state.started_s),
        plan: state.plan,
        tool: format!("shingle {}", env!("CARGO_PKG_VERSION")),
        seed: state.seed,
        started_s: state.started_s,
        clock: if subject.virtual_time { "virtual" } else { "mono" }.to_owned(),
        command: format!("shingle qualify {} --plan {} --seed {}", state.device, state.plan.name(), state.seed),
    };
    let report = Report::new(head, host(), subject.passport, state.results);
    let written = files::write_reports(directory, &report)?;
    State::remove(directory)?;
    if args.json {
        output::json(&report)?;
    } else {
        output::line(report.summary())?;
        let names: Vec<String> =
            written.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into())).collect();
        output::line(format_args!("{}: {}", directory.display(), names.join(", ")))?;
    }
    let (failed, total) = (report.verdict.blocking.len() as u64, report.tests.len() as u64);
    if report.verdict.qualified { Ok(()) } else { Err(Failure::Some { failed, total }) }
}

fn host() -> Host {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    Host {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: cpu.unwrap_or("unknown").trim().to_owned(),
        processors: std::thread::available_parallelism().map_or(0, |count| count.get() as u32),
    }
}

/// A flag that Ctrl-C raises. The second Ctrl-C ends the process. Returns when Ctrl-C is caught: before that it would end
/// the process half-way.
fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let (armed, wait_armed) = std::sync::mpsc::sync_channel(1);
    let wait = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            armed.send(()).map_err(std::io::Error::other)?;
            while interrupt.recv().await.is_some() {
                if raised.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(Failure::Interrupted.exit_code()));
                }
                output::remark("stopping after the command in hand");
            }
            Ok(())
        })
    };
    let (failed, wait_failed) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        if let Err(error) = wait() {
            drop(failed.send(error)); // the receiver waits only until Ctrl-C is caught
        }
    });
    if wait_armed.recv().is_ok() {
        return Ok(flag);
    }
    let cause = wait_failed.recv().unwrap_or_else(std::io::Error::other);
    Err(Failure::Io { what: "catch Ctrl-C".into(), source: cause })
}
