//! Hosts that speak the protocol and keep their extents in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::ids::{ExtentId, OsdId};
use shingle_proto::limits::GIB;
use shingle_proto::message::{
    ErrorCode, ErrorReply, ExtentClosed, ExtentCreated, ExtentReport, ExtentState, Heartbeat, OsdReport, OsdState,
    Request, Response, Role,
};
use shingle_seam::World;
use shingle_seam::rpc::{Answer, Call, CallMeta, Peers, Reply, ServeOptions, Service, serve};
use shingle_seam::tasks::LocalFuture;

const BEAT: Duration = Duration::from_millis(50);

/// A host with two disks.
pub struct Host {
    pub number: u32,
    address: Cell<Option<SocketAddr>>,
    pub extents: RefCell<BTreeMap<ExtentId, (OsdId, ExtentState)>>,
    /// Answers nothing and sends no heartbeats.
    pub dead: Cell<bool>,
    /// Refuses to make extents.
    pub no_room: Cell<bool>,
    pub created: Cell<u32>,
    sequence: Cell<u64>,
    listing: Cell<u64>,
}

impl Host {
    /// Serves, and sends heartbeats to `control`.
    pub fn start(world: &World, number: u32, control: SocketAddr) -> Rc<Self> {
        let host = Rc::new(Self {
            number,
            address: Cell::default(),
            extents: RefCell::default(),
            dead: Cell::default(),
            no_room: Cell::default(),
            created: Cell::default(),
            sequence: Cell::default(),
            listing: Cell::default(),
        });
        let listener = world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        host.address.set(Some(listener.local_address()));
        let options = ServeOptions { budget_bytes: GIB };
        world.tasks.spawn("host", Box::pin(serve(world.clone(), listener, host.clone(), options)));
        world.tasks.spawn("heartbeats", Box::pin(host.clone().beat_for_ever(world.clone(), control)));
        host
    }

    pub fn osds(&self) -> [OsdId; 2] {
        [0, 1].map(|disk| OsdId(u64::from(self.number) * 100 + disk))
    }

    pub fn open_extents(&self) -> Vec<ExtentId> {
        let extents = self.extents.borrow();
        extents.iter().filter(|(_, (_, state))| *state == ExtentState::Open).map(|(extent, _)| *extent).collect()
    }

    async fn beat_for_ever(self: Rc<Self>, world: World, control: SocketAddr) {
        let peers = Peers::new(world.clone(), Role::Host, format!("host-{}", self.number));
        loop {
            if !self.dead.get() {
                let beat = Request::Heartbeat(Box::new(self.heartbeat()));
                // Control may be away for a while.
                let answer = peers.call(control, &CallMeta::client(Duration::from_secs(1)), beat, None).await;
                if let Ok(Reply { response: Response::HeartbeatReply(reply), .. }) = answer {
                    self.listing.set(reply.listing);
                }
            }
            world.tasks.sleep(BEAT).await;
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        self.sequence.set(self.sequence.get() + 1);
        let osds = self.osds().map(|osd| self.report(osd)).to_vec();
        let (sequence, listing) = (self.sequence.get(), self.listing.get());
        Heartbeat { host: self.number, boot: 1, sequence, osds, findings: Vec::new(), listing }
    }

    fn report(&self, osd: OsdId) -> OsdReport {
        let extents = self.extents.borrow();
        let extents = extents.iter().filter(|(_, (of, _))| *of == osd).map(|(extent, (_, state))| ExtentReport {
            extent: (*extent).into(),
            state: *state,
            free_bytes: GIB,
            ..ExtentReport::default()
        });
        OsdReport {
            osd: osd.0,
            address: self.address.get().unwrap().to_string(),
            state: OsdState::Healthy,
            extents_total: 64,
            extents_free: 40,
            queue_bytes: u64::from(self.number),
            extents: extents.collect(),
            listed: true,
            ..OsdReport::default()
        }
    }

    fn answer(&self, request: Request) -> Response {
        match request {
            Request::CreateExtent(_) if self.no_room.get() => {
                ErrorReply::new(ErrorCode::NoFreeExtent, 0, "full").into()
            }
            Request::CreateExtent(create) => {
                self.created.set(self.created.get() + 1);
                let extent = ExtentId::from(&create.extent);
                self.extents.borrow_mut().insert(extent, (OsdId(create.osd), ExtentState::Open));
                Response::ExtentCreated(Box::new(ExtentCreated { payload_bytes: GIB }))
            }
            Request::CloseExtent(close) => match self.extents.borrow_mut().get_mut(&ExtentId::from(&close.extent)) {
                Some((_, state)) => {
                    *state = ExtentState::Closed;
                    Response::ExtentClosed(Box::new(ExtentClosed { records: 0, record_bytes: 0 }))
                }
                None => ErrorReply::new(ErrorCode::UnknownExtent, 0, "no such extent").into(),
            },
            _ => ErrorReply::new(ErrorCode::Unsupported, 0, "not here").into(),
        }
    }
}

impl Service for Host {
    type Buffer = Vec<u8>;

    fn process(&self) -> String {
        format!("host-{}", self.number)
    }

    fn buffer(self: &Rc<Self>, _: &Request, bytes: u32) -> Result<Vec<u8>, ErrorReply> {
        Ok(vec![0; bytes as usize])
    }

    fn handle(self: Rc<Self>, _: Call, request: Request, _: Option<Vec<u8>>) -> LocalFuture<'static, Answer<Vec<u8>>> {
        Box::pin(async move {
            if self.dead.get() {
                std::future::pending::<()>().await;
            }
            self.answer(request).into()
        })
    }
}
