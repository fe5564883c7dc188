//! The live screen: the cell's status and its processes, once a second.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use comfy_table::{Cell, Color};
use shingle_proto::message::CellStatus;
use shingle_seam::rpc::Peers;

use crate::failure::Failure;
use crate::status::ask::cell_status;
use crate::status::redraw::Redraw;
use crate::status::view::{self, Counters};
use crate::units;
use crate::up::events::Events;
use crate::up::space::Space;
use crate::up::supervisor::{ChildView, State, Supervisor};

const EVERY: Duration = Duration::from_secs(1);

/// Shows the screen until it is dropped.
pub async fn show(
    supervisor: &Supervisor,
    peers: &Peers,
    control: SocketAddr,
    headline: &str,
    space: &Space,
    events: &Rc<Events>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut redraw = Redraw::new();
    let mut earlier: Option<(Counters, Instant)> = None;
    events.set_on_screen(true);
    loop {
        let status = cell_status(peers, control).await;
        let mut traffic = None;
        if let Ok(status) = &status {
            let now = (Counters::of(status), Instant::now());
            traffic = earlier.map(|(counters, then)| now.0.traffic(&counters, then.elapsed()));
            earlier = Some(now);
        }
        let title = console::style(format!("Shingle  {headline}  up {}", units::duration(started.elapsed()))).bold();
        let mut lines = vec![String::new(), title.to_string()];
        lines.extend(body(status.as_ref(), traffic));
        lines.push(String::new());
        lines.extend(processes(&supervisor.views()).lines().map(str::to_string));
        lines.push(String::new());
        lines.extend(space.warning().map(|warning| console::style(warning).red().bold().to_string()));
        lines.extend(events.recent());
        lines.push(console::style("Ctrl-C stops the cell").dim().to_string());
        redraw.draw(&lines)?;
        tokio::time::sleep(EVERY).await;
    }
}

fn body(status: Result<&CellStatus, &Failure>, traffic: Option<String>) -> Vec<String> {
    match status {
        Ok(status) => crate::status::command::lines(status, traffic),
        Err(failure) => vec![console::style(failure.to_string()).red().to_string()],
    }
}

/// One row per child.
fn processes(children: &[ChildView]) -> String {
    let mut table = view::new_table(&["process", "pid", "state", "restarts"]);
    for child in children {
        let state = match child.state {
            State::Serving => Cell::new("serving").fg(Color::Green),
            State::Starting => Cell::new("starting").fg(Color::Yellow),
            State::Resting => Cell::new("restarting").fg(Color::Red),
            State::Ended => Cell::new("ended"),
        };
        let restarts = view::right(child.restarts);
        let restarts = if child.restarts > 0 { restarts.fg(Color::Yellow) } else { restarts };
        table.add_row(vec![Cell::new(&child.name), view::right(child.pid), state, restarts]);
    }
    table.to_string()
}
