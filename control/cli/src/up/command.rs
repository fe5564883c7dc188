//! `shingle up`: prepare the directory, start the children, wait until they serve, watch them, stop them.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::LogFlags;
use crate::config::sections::UpSection;
use crate::failure::Failure;
use crate::s3::client::Client;
use crate::s3::endpoint::{Endpoint, default_dir, process_variables};
use crate::s3::retry::Retry;
use crate::status::ask::peers;
use crate::up::cell_file::CellFile;
use crate::up::child::Kind;
use crate::up::directory::Directory;
use crate::up::env_file::write_private;
use crate::up::events::Events;
use crate::up::space::Space;
use crate::up::supervisor::Supervisor;
use crate::up::wish::Shape;
use crate::up::{create, health, leftovers, ports, screen};
use crate::{log, output};

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let failed = || Failure::io("cannot catch signals");
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed())?,
            terminate: signal(SignalKind::terminate()).map_err(failed())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs the command until it is told to stop.
pub async fn run(wish: UpSection, flags: LogFlags) -> Result<(), Failure> {
    log::start(&flags, "warn")?;
    let mut signals = Signals::new()?;
    let directory = Directory::new(&wish.dir.clone().unwrap_or_else(|| default_dir(&process_variables)))?;
    if !directory.is_cell() {
        // A wish that cannot be had leaves nothing behind.
        Shape::decide(&wish, None)?;
    }
    let events = Rc::new(Events::default());
    let lock = directory.open()?;
    if let Some(path) = &wish.ready_file {
        remove(path)?;
    }
    let say = |text: &str| events.say(text);
    tokio::select! {
        gone = leftovers::wait_until_gone(&directory, &say) => gone?,
        () = signals.next() => return Ok(()),
    }
    let cell = create::prepare(&directory, &wish, &say)?;
    ports::check_free(&cell.ports)?;
    let kinds = Kind::all(cell.shape.hosts);
    for kind in &kinds {
        kind.write_config(&directory, &cell)?;
    }
    let supervisor = Supervisor::start(kinds, &directory, child_flags(&flags), &events);
    let result = tokio::select! {
        result = serve(&wish, &directory, &cell, &supervisor, &events) => result,
        () = signals.next() => Ok(()),
    };
    events.set_on_screen(false);
    if let Some(path) = &wish.ready_file {
        remove(path)?;
    }
    events.say("stopping");
    let kill = supervisor.killer();
    let stopping = supervisor.stop();
    tokio::pin!(stopping);
    tokio::select! {
        () = &mut stopping => {}
        () = signals.next() => {
            kill();
            stopping.await;
        }
    }
    events.say("stopped");
    drop(lock);
    result
}

/// Logging is the same in the children.
fn child_flags(flags: &LogFlags) -> Vec<String> {
    let level = flags.log_level.iter().flat_map(|level| ["--log-level".to_string(), level.clone()]);
    level.chain(flags.log_json.then(|| "--log-json".to_string())).collect()
}

/// From the children's start to the end of the world.
async fn serve(
    wish: &UpSection,
    directory: &Directory,
    cell: &CellFile,
    supervisor: &Supervisor,
    events: &Rc<Events>,
) -> Result<(), Failure> {
    let peers = peers();
    let control = SocketAddr::from(([127, 0, 0, 1], cell.ports.control));
    let client = Client::new(Endpoint::from_dir(directory.root())?, Retry::NEVER);
    let degraded = wish.degraded.unwrap_or(false);
    let space = Space::new(directory);
    let healthy = health::wait_until_healthy(supervisor, &peers, control, &client, degraded, directory, events);
    tokio::select! {
        healthy = healthy => healthy?,
        () = space.watch(events) => {}
    }
    if let Some(path) = &wish.ready_file {
        let ready = serde_json::json!({
            "dir": directory.root(),
            "endpoint": client.endpoint().url.as_str().trim_end_matches('/'),
            "control": control,
            "pid": std::process::id(),
        });
        write_private(path, format!("{ready}\n").as_bytes())?;
    }
    welcome(directory, cell)?;
    if output::on_terminal() && !wish.no_tui.unwrap_or(false) {
        let headline = format!("S3 http://127.0.0.1:{}", cell.ports.s3);
        let screen = screen::show(supervisor, &peers, control, &headline, &space, events);
        return tokio::select! {
            result = screen => result,
            () = space.watch(events) => Ok(()),
        };
    }
    events.say("the cell serves; SIGTERM or Ctrl-C stops it");
    space.watch(events).await;
    Ok(())
}

/// What a newcomer needs next.
fn welcome(directory: &Directory, cell: &CellFile) -> Result<(), Failure> {
    let is_default = Directory::new(&default_dir(&process_variables)).is_ok_and(|dir| dir.root() == directory.root());
    let flag = if is_default { String::new() } else { format!(" --dir {}", directory.root().display()) };
    let env = directory.env_file();
    let bold = |text: &str| console::style(text.to_string()).bold();
    output::line(format!(
        "\n{} at {}\n\n  access key  {}\n  secret key  {}\n  both, and the endpoint, are in {}\n\nTry, in another terminal:\n  \
         shingle cp -r{flag} ~/.cargo/registry sh://demo/registry\n  \
         shingle ls{flag} sh://demo/registry/\n  \
         source {} && aws s3 ls\n",
        bold("The cell serves S3"),
        bold(&format!("http://127.0.0.1:{}", cell.ports.s3)),
        cell.access_key,
        cell.secret_key,
        env.display(),
        env.display(),
    ))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io(path.display().to_string())(error))
        }
        _ => Ok(()),
    }
}
