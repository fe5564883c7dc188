//! An OSD on a modelled drive, in the virtual time of the simulation's executor.

use std::rc::Rc;
use std::time::Duration;

use shingle_hw::clock::Clock;
use shingle_hw::device::Command;
use shingle_hw::model::drive::ModelledDrive;
use shingle_hw::model::profile::DriveProfile;
use shingle_hw::qualify::plan::Plan;
use shingle_hw::qualify::profile::MeasuredProfile;
use shingle_hw::qualify::report::{Host, Report, RunHead};
use shingle_hw::qualify::run::{self, Options};
use shingle_hw::qualify::subject::{self, Subject};
use shingle_node::osd::budget::Budgets;
use shingle_node::osd::findings::Findings;
use shingle_node::osd::mount::{Disk, mount, write_label};
use shingle_node::osd::policy::DiskPolicy;
use shingle_node::osd::store::Osd;
use shingle_proto::ids::CellId;
use shingle_seam::World;

use crate::sim::executor::{Executor, ProcessId};
use crate::sim::net::Network;
use crate::sim::process::world;

const HOST: ProcessId = ProcessId(100);
/// The tests of the suite that a profile is made of.
const MEASURING: [&str; 5] = ["P-01", "P-02", "P-03", "P-08", "P-09"];

/// The executor's time, as drives know it.
struct VirtualTime(Executor);

impl Clock for VirtualTime {
    fn now_ns(&self) -> u64 {
        self.0.now().0
    }

    fn sleep_until(&self, at_ns: u64) -> Command<()> {
        Box::pin(self.0.sleep(Duration::from_nanos(at_ns.saturating_sub(self.now_ns()))))
    }
}

/// What qualification measures on a drive of this kind.
pub fn measure(drive: &DriveProfile, seed: u64) -> MeasuredProfile {
    let subject = Subject::modelled(drive, seed, subject::sound);
    let only = MEASURING.map(str::to_owned).to_vec();
    let options = Options { destructive: true, only, ..Options::new(Plan::Ci, seed) };
    let outcome = run::run(&subject, &options, &mut |_| true);
    let head = RunHead {
        id: format!("virtual-{seed}"),
        plan: Plan::Ci,
        tool: String::new(),
        seed,
        started_s: 0,
        clock: "virtual".to_owned(),
        command: String::new(),
    };
    MeasuredProfile::of(&Report::new(head, Host::default(), subject.passport, outcome.results))
}

/// A fresh drive with a fresh OSD on it.
/// `budget_bytes` is what its shard may hold.
pub async fn start(
    executor: &Executor,
    drive: &DriveProfile,
    seed: u64,
    policy: DiskPolicy,
    budget_bytes: u64,
) -> (World, Rc<Osd>) {
    let world = world(executor, &Network::new(executor), HOST);
    let drive = ModelledDrive::new(drive, Rc::new(VirtualTime(executor.clone())), "profiled", seed);
    let disk = Disk::from(drive.device());
    let label = write_label(&world, &disk, CellId(1)).await.expect("a fresh drive takes a label");
    let budgets = Budgets::shared(budget_bytes, 1, policy).remove(0);
    let findings = Rc::<Findings>::default();
    let (osd, _) = mount(world.clone(), disk, label, findings, budgets).await.expect("a fresh drive mounts");
    (world, osd)
}
