//! The random scenario: clients work while processes die, disks stall and the store conflicts; then everything is
//! healed and every promise is checked.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::sim::cell::{CellShape, SimCell};
use crate::sim::workload::{Client, create_bucket};

/// How hard a run is.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    pub seed: u64,
    pub clients: u64,
    /// Operations of each client, spread over the rounds.
    pub operations: u64,
    /// Rounds of trouble; after each the cell is healed.
    pub rounds: u64,
    /// Small extents on many disks, so that volumes fill up.
    pub small_extents: bool,
}

/// What a run did; equal for equal seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoakReport {
    pub trace_hash: u64,
    pub acknowledged: u64,
    pub failed: u64,
    pub objects: u64,
    pub copies: u64,
}

/// Virtual time that no run needs.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// Runs one seed.
///
/// # Panics
/// When an invariant does not hold.
pub fn run(soak: Soak) -> SoakReport {
    let shape = if soak.small_extents { CellShape::of_small_extents(8) } else { CellShape::default() };
    let cell = SimCell::new(soak.seed, shape);
    let executor = cell.executor.clone();
    let report = executor.run(LIMIT, whole_run(cell.clone(), soak));
    SoakReport { trace_hash: executor.trace_hash(), ..report }
}

async fn whole_run(cell: Rc<SimCell>, soak: Soak) -> SoakReport {
    cell.start().await;
    cell.inject_store_faults(20, 10);
    create_bucket(&cell.core(0)).await.expect("a healthy cell makes an S3 bucket");
    let mut clients: Vec<Client> =
        (0..soak.clients).map(|number| Client::new(number, cell.core((number % 2) as u32), soak.seed)).collect();
    for _ in 0..soak.rounds {
        let steps = soak.operations / soak.rounds;
        let working = join_all(clients.iter_mut().map(|client| async move {
            for _ in 0..steps {
                client.step().await;
            }
        }));
        let trouble = trouble(&cell);
        futures_util::future::join(working, trouble).await;
        heal(&cell).await;
        clients.iter_mut().enumerate().for_each(|(number, client)| client.reconnect(cell.core((number % 2) as u32)));
    }
    cell.inject_store_faults(0, 0);
    cell.wait_reclaimed().await;
    join_all(clients.iter().map(Client::read_all)).await;
    cell.check_tables().await;
    let seen = cell.check_copies().await;
    SoakReport {
        trace_hash: 0,
        acknowledged: clients.iter().map(|client| client.acknowledged).sum(),
        failed: clients.iter().map(|client| client.failed).sum(),
        objects: seen.objects,
        copies: seen.copies,
    }
}

/// One thing at a time goes wrong, as the seed says.
async fn trouble(cell: &SimCell) {
    let pause = |ms| cell.executor.sleep(Duration::from_millis(ms));
    pause(cell.executor.below(3000)).await;
    let host = 1 + cell.executor.below(5) as u32;
    match cell.executor.below(7) {
        0 => cell.kill_host(host, true),
        1 => cell.kill_host(host, false),
        2 => cell.kill_control(),
        3 => cell.kill_gateway(cell.executor.below(2) as u32),
        4 => cell.kill_all(),
        5 => {
            let faults = cell.faults(host, 1 + cell.executor.below(2) as u32);
            faults.set_stalled(true);
            pause(15_000).await;
            // A stalled disk's commands never end: only its host's restart brings it back.
            cell.kill_host(host, true);
            faults.clear();
        }
        _ => {
            let gateway = cell.gateway_process(cell.executor.below(2) as u32);
            cell.network.partition(gateway, cell.control_process());
            pause(cell.executor.below(90_000)).await;
            cell.network.heal(gateway, cell.control_process());
        }
    }
    pause(cell.executor.below(8000)).await;
}

/// Everything runs again.
async fn heal(cell: &SimCell) {
    cell.restart_dead();
    cell.wait_ready().await;
}
