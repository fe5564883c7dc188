//! Whether the cell serves: every child said READY, the control plane says so, and a signed S3 request is answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shingle_seam::rpc::Peers;

use crate::failure::Failure;
use crate::s3::client::Client;
use crate::status::ask::cell_status;
use crate::up::events::Events;
use crate::up::supervisor::Supervisor;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While waiting, say what is missing this often.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// A cell that does not serve by then will not.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Waits until the cell serves.
pub async fn wait_until_healthy(
    supervisor: &Supervisor,
    peers: &Peers,
    control: SocketAddr,
    client: &Client,
    events: &Events,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut said = start;
    loop {
        let Some(missing) = missing(supervisor, peers, control, client).await else { return Ok(()) };
        if let Some(child) = supervisor.hopeless() {
            return Err(Failure::failed(
                format!("{child} ends again and again"),
                format!("its log says why: DIR/log/{child}.log"),
            ));
        }
        if start.elapsed() > START_LIMIT {
            return Err(Failure::failed(format!("the cell does not serve: {missing}"), "see the logs in DIR/log"));
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            events.say(&format!("still waiting: {missing}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is not there yet; `None` when everything is.
async fn missing(supervisor: &Supervisor, peers: &Peers, control: SocketAddr, client: &Client) -> Option<String> {
    let silent = supervisor.missing();
    if !silent.is_empty() {
        return Some(format!("{} not ready", silent.join(", ")));
    }
    match cell_status(peers, control).await {
        Err(failure) => return Some(failure.to_string()),
        Ok(status) if !status.ready => {
            return Some("the control plane has not opened volumes for every host yet".into());
        }
        Ok(_) => {}
    }
    client.list_buckets().await.err().map(|error| format!("S3: {error}"))
}
