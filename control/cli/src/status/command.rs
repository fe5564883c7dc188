//! `shingle status`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use shingle_proto::message::CellStatus;
use shingle_seam::rpc::Peers;

use crate::failure::Failure;
use crate::output;
use crate::s3::endpoint::{default_dir, process_variables};
use crate::status::ask::{cell_status, peers};
use crate::status::document::{FindingDocument, StatusDocument};
use crate::status::extents;
use crate::status::findings;
use crate::status::redraw::Redraw;
use crate::status::view::{self, Counters};
use crate::up::cell_file::CellFile;
use crate::up::directory::Directory;

pub const EXAMPLES: &str = "\
Examples:
  shingle status
  shingle status --watch
  shingle status --json | jq .dedup_ratio
  shingle status --extents 20
  shingle status --findings --json | jq '.[].detail'
  shingle status --control 127.0.0.1:7001";

/// Show hosts, disks, volumes and what is stored
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// The cell's directory, as given to `shingle up` [default: SHINGLE_DIR, then $XDG_DATA_HOME/shingle]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Address of the control plane [default: the one in DIR/cell.toml]
    #[arg(long, value_name = "IP:PORT", conflicts_with = "dir")]
    pub control: Option<SocketAddr>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
    /// Show it again every second, with rates
    #[arg(short, long)]
    pub watch: bool,
    /// Show the N extents of every disk that were verified longest ago
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10", conflicts_with = "watch")]
    pub extents: Option<usize>,
    /// Show every finding: bytes that are not what was written, with their owner and state
    #[arg(long, conflicts_with_all = ["watch", "extents"])]
    pub findings: bool,
}

/// Runs the command.
pub async fn run(args: StatusArgs) -> Result<(), Failure> {
    let control = match args.control {
        Some(control) => control,
        None => control_of(args.dir.clone())?,
    };
    let peers = peers();
    if args.watch {
        return watch(&peers, control, args.json).await;
    }
    let status = cell_status(&peers, control).await?;
    if let Some(count) = args.extents {
        let document = extents::oldest(&peers, &status, count).await;
        return match args.json {
            true => output::json(&document),
            false => extents::lines(&document).iter().try_for_each(output::line),
        };
    }
    if args.findings {
        let found = findings::all(&peers, control).await?;
        return match args.json {
            true => output::json(&found.iter().map(FindingDocument::from).collect::<Vec<_>>()),
            false => found.iter().map(|record| view::finding(record, now_ms())).try_for_each(output::line),
        };
    }
    if args.json {
        return output::json(&StatusDocument::from(&status));
    }
    lines(&status, None).iter().try_for_each(output::line)
}

/// Unix time.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The control plane of the cell in a directory.
fn control_of(dir: Option<PathBuf>) -> Result<SocketAddr, Failure> {
    let directory = Directory::new(&dir.unwrap_or_else(|| default_dir(&process_variables)))?;
    let path = directory.cell_file();
    let cell = CellFile::load(&path)?.ok_or_else(|| Failure::Unreachable {
        what: format!("no cell is known: there is no {}", path.display()),
        advice: "start one with `shingle up`, or name one with --dir or --control".into(),
    })?;
    Ok(SocketAddr::from(([127, 0, 0, 1], cell.ports.control)))
}

async fn watch(peers: &Peers, control: SocketAddr, json: bool) -> Result<(), Failure> {
    let mut redraw = Redraw::new();
    let mut earlier: Option<(Counters, Instant)> = None;
    loop {
        let status = cell_status(peers, control).await?;
        let now = (Counters::of(&status), Instant::now());
        let traffic = earlier.map(|(counters, then)| now.0.traffic(&counters, then.elapsed()));
        earlier = Some(now);
        match (json, output::on_terminal()) {
            (true, _) => output::json(&StatusDocument::from(&status))?,
            (false, true) => redraw.draw(&lines(&status, traffic))?,
            (false, false) => lines(&status, traffic).iter().try_for_each(output::line)?,
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// The whole status as lines of text.
pub fn lines(status: &CellStatus, traffic: Option<String>) -> Vec<String> {
    let mut lines = view::summary(status);
    if let Some(traffic) = traffic {
        lines.push(format!("{}{traffic}", console::style("traffic  ").dim()));
    }
    lines.extend(view::problems(status));
    lines.push(String::new());
    lines.extend(view::disks(status).lines().map(str::to_string));
    lines.extend(view::findings(status, now_ms()));
    lines
}
