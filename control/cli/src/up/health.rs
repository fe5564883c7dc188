//! Whether the cell serves: every child said READY, the control plane says so, and a signed S3 request is answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shingle_seam::rpc::Peers;

use crate::failure::Failure;
use crate::s3::client::Client;
use crate::status::ask::cell_status;
use crate::up::directory::Directory;
use crate::up::events::Events;
use crate::up::supervisor::Supervisor;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While waiting, say what is missing this often.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// A cell that does not serve by then will not.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Waits until the cell serves. `degraded`: hosts that cannot start are done without.
pub async fn wait_until_healthy(
    supervisor: &Supervisor,
    peers: &Peers,
    control: SocketAddr,
    client: &Client,
    degraded: bool,
    directory: &Directory,
    events: &Events,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut said = start;
    loop {
        let hopeless = supervisor.hopeless();
        if let Some(child) = hopeless.iter().find(|child| !(degraded && child.is_host())) {
            let advice = if child.is_host() { "mend it, or start without this host: --degraded" } else { "mend it" };
            return Err(Failure::failed(
                format!("{} ends again and again: {}", child.name, child.last_words),
                format!("{advice}; the whole story is in {}", directory.log(&child.name).display()),
            ));
        }
        let without: Vec<_> = hopeless.iter().map(|child| child.name.as_str()).collect();
        let Some(missing) = missing(supervisor, peers, control, client, &without).await else {
            if !without.is_empty() {
                events.say(&format!("serving without {}", without.join(", ")));
            }
            return Ok(());
        };
        if start.elapsed() > START_LIMIT {
            return Err(Failure::failed(
                format!("the cell does not serve: {missing}"),
                format!("see the logs in {}", directory.logs().display()),
            ));
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            events.say(&format!("still waiting: {missing}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is not there yet; `None` when everything is.
async fn missing(
    supervisor: &Supervisor,
    peers: &Peers,
    control: SocketAddr,
    client: &Client,
    without: &[&str],
) -> Option<String> {
    let mut silent = supervisor.missing();
    silent.retain(|name| !without.contains(&name.as_str()));
    if !silent.is_empty() {
        return Some(format!("{} not ready", silent.join(", ")));
    }
    match cell_status(peers, control).await {
        Err(failure) => return Some(failure.to_string()),
        // Ready means that any one more host may fail, which a cell that lacks one cannot promise.
        Ok(status) if !status.ready && without.is_empty() => {
            return Some("the control plane has not opened volumes for every host yet".into());
        }
        Ok(_) => {}
    }
    client.list_buckets().await.err().map(|error| format!("S3: {error}"))
}
