//! The files of a run: its state while it runs, its reports afterwards.
//!
//! Invariant: a state file is replaced whole or not at all, so a run can go on after a kill at any moment.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shingle_hw::qualify::findings::Status;
use shingle_hw::qualify::latency::Latency;
use shingle_hw::qualify::plan::Plan;
use shingle_hw::qualify::profile::MeasuredProfile;
use shingle_hw::qualify::report::{Report, ReportError, TestResult};
use shingle_hw::qualify::{fit, html, junit};

use crate::failure::Failure;

const STATE: &str = "state.json";

/// What a run needs to go on.
#[derive(Serialize, Deserialize)]
pub struct State {
    pub device: String,
    pub serial: String,
    pub plan: Plan,
    pub seed: u64,
    pub only: Vec<String>,
    pub started_s: u64,
    pub results: Vec<TestResult>,
}

impl State {
    pub fn load(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(STATE);
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::usage(
                format!("{}: {error}", path.display()),
                "name the directory of a run that was interrupted; a run that ended has none left",
            )
        })?;
        serde_json::from_str(&text).map_err(|error| Failure::unfit(format!("{}: {error}", path.display()), ""))
    }

    pub fn save(&self, directory: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string(self).map_err(|error| Failure::failed(error.to_string(), ""))?;
        let draft = directory.join("state.json.new");
        write(&draft, &text)?;
        fs::rename(&draft, directory.join(STATE)).map_err(Failure::io("replace the state of the run"))
    }

    /// The run has ended.
    pub fn remove(directory: &Path) -> Result<(), Failure> {
        match fs::remove_file(directory.join(STATE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::Io { what: "remove the state of the run".into(), source: error })
            }
            _ => Ok(()),
        }
    }
}

/// Writes every document of a run; the names of the files.
pub fn write_reports(directory: &Path, report: &Report) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: ReportError| Failure::failed(error.to_string(), "");
    let toml = |error: toml::ser::Error| Failure::failed(error.to_string(), "");
    let mut hlog = Latency::hlog_header().to_owned();
    for latency in report.tests.iter().flat_map(|test| &test.findings.latencies) {
        hlog.push_str(&latency.hlog);
        hlog.push('\n');
    }
    let mut documents = vec![
        ("report.json", report.to_json().map_err(failed)?),
        ("report.html", html::render(report)),
        ("junit.xml", junit::render(report)),
        ("latency.hlog", hlog),
        ("drive.toml", toml::to_string(&MeasuredProfile::of(report)).map_err(toml)?),
    ];
    if report.tests.iter().any(|test| test.id == "P-03" && test.status == Status::Pass) {
        let model = fit::fit(report).and_then(|profile| profile.to_toml());
        documents.push(("emulator.toml", model.map_err(|error| Failure::failed(error.to_string(), ""))?));
    }
    documents
        .into_iter()
        .map(|(name, text)| {
            let path = directory.join(name);
            write(&path, &text)?;
            Ok(path)
        })
        .collect()
}

/// Reads a report: the document itself, or the directory of its run.
pub fn read_report(path: &Path) -> Result<Report, Failure> {
    let path = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
    let text = fs::read_to_string(&path).map_err(Failure::io(format!("read {}", path.display())))?;
    Report::parse(&text).map_err(|error| Failure::unfit(format!("{}: {error}", path.display()), ""))
}

pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(Failure::io(format!("write {}", path.display())))
}
