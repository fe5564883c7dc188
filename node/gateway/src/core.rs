//! The gateway's core: single-threaded logic over the seams, entered through a bounded channel by the S3 server and by
//! the simulation alike. It owns what its requests share: connections, budgets, the view of the volumes, what it has
//! learned about members.

use std::rc::Rc;
use std::sync::Arc;

use shingle_proto::limits::{COPY_BUDGET_BYTES, CORE_QUEUE_MAX, CORE_REQUESTS_MAX};
use shingle_proto::message::{ReportFinding, Request, Role};
use shingle_seam::World;
use shingle_seam::keys::Keys;
use shingle_seam::rpc::Peers;
use tokio::sync::{Semaphore, mpsc};

use crate::budget::Budget;
use crate::catalog::ControlClient;
use crate::cohort::Cohorts;
use crate::config::CoreConfig;
use crate::copy::{self, PartCopy, Source};
use crate::get::{self, answer};
use crate::hedge::Shunned;
use crate::multipart;
use crate::placement::Placement;
use crate::placement::load::Load;
use crate::placement::sending::Sending;
use crate::put;
use crate::request::{CoreRequest, CoreSender};

/// What all requests of a core share.
pub struct Core {
    pub(crate) world: World,
    pub(crate) config: CoreConfig,
    pub(crate) keys: Rc<dyn Keys>,
    pub(crate) peers: Rc<Peers>,
    pub(crate) control: Rc<ControlClient>,
    pub(crate) budget: Rc<Budget>,
    /// For the reading side of copies that move bytes.
    pub(crate) copy_budget: Rc<Budget>,
    pub(crate) placement: Rc<Placement>,
    pub(crate) load: Rc<Load>,
    pub(crate) sending: Sending,
    pub(crate) cohorts: Cohorts,
    pub(crate) shunned: Shunned,
}

/// Starts a core in `world`; it ends when every sender is dropped and the last request is answered.
pub fn start(world: World, keys: Rc<dyn Keys>, config: CoreConfig) -> CoreSender {
    let (sender, requests) = mpsc::channel(CORE_QUEUE_MAX);
    let core = Rc::new(Core::new(world.clone(), keys, config));
    world.tasks.spawn("gateway core", Box::pin(run(core, requests)));
    sender
}

/// Takes requests off the queue as long as there are places; each is a task of its own.
async fn run(core: Rc<Core>, mut requests: mpsc::Receiver<CoreRequest>) {
    let places = Arc::new(Semaphore::new(CORE_REQUESTS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Some(request) = requests.recv().await else { return };
        let core_of_task = core.clone();
        let task = async move {
            core_of_task.serve(request).await;
            drop(place);
        };
        core.world.tasks.spawn("gateway request", Box::pin(task));
    }
}

impl Core {
    fn new(world: World, keys: Rc<dyn Keys>, config: CoreConfig) -> Self {
        let peers = Rc::new(Peers::new(world.clone(), Role::Gateway, config.process.clone()));
        let control = Rc::new(ControlClient::new(world.clone(), peers.clone(), config.control));
        let load = Rc::new(Load::default());
        let placement = Rc::new(Placement::new(world.clone(), control.clone(), load.clone()));
        Self {
            budget: Rc::new(Budget::new(config.budget_bytes)),
            copy_budget: Rc::new(Budget::new(COPY_BUDGET_BYTES)),
            world,
            config,
            keys,
            peers,
            control,
            placement,
            load,
            sending: Sending::default(),
            cohorts: Cohorts::default(),
            shunned: Shunned::default(),
        }
    }

    async fn serve(self: Rc<Self>, request: CoreRequest) {
        let core = &self;
        match request {
            CoreRequest::Put { name, headers, precondition, body, reply } => {
                answer(reply, put::put(core, &name, headers, precondition, body).await);
            }
            CoreRequest::PutPart { name, upload, number, body, reply } => {
                answer(reply, put::put_part(core, &name, upload, number, body).await);
            }
            CoreRequest::Get { name, range, if_match, reply } => {
                get::get(self, name, range, if_match, reply).await;
            }
            CoreRequest::Copy { source, source_if_match, name, headers, precondition, reply } => {
                let source = Source { name: source, if_match: source_if_match };
                answer(reply, copy::copy(core, source, &name, headers, precondition).await);
            }
            CoreRequest::CopyPart { source, source_if_match, range, name, upload, number, reply } => {
                let source = Source { name: source, if_match: source_if_match };
                answer(reply, PartCopy { source, range, name, upload, number }.run(core).await);
            }
            CoreRequest::Complete { name, upload, parts, claim, precondition, reply } => {
                let completion = multipart::Completion { name, upload, parts, claim, precondition };
                answer(reply, completion.run(core).await);
            }
            CoreRequest::Catalog { request, reply } => answer(reply, core.control.call(*request).await),
        }
    }

    /// Sends a finding to the control plane while the read goes on with the next member.
    pub(crate) fn report_finding(&self, finding: ReportFinding) {
        let control = self.control.clone();
        let task = async move { control.tell(Request::ReportFinding(Box::new(finding))).await };
        self.world.tasks.spawn("report finding", Box::pin(task));
    }
}
