//! A real host over loopback: glommio, io_uring, emulated drives in files, and a control plane of a few lines.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::rig;
use crate::rig::{Block, CELL, block, until};
use shingle_hw::backend::file;
use shingle_hw::geometry::Geometry;
use shingle_node::config::HostConfig;
use shingle_node::process::{HostError, run_announced};
use shingle_proto::ids::CellId;
use shingle_proto::message::{
    Append, CreateExtent, ErrorCode, ErrorReply, ExtentAges, Heartbeat, HeartbeatReply, HostStatus, HostStatusReply,
    Id128, ListExtents, OsdState, ReadBlock, Request, Response, Role,
};
use shingle_seam::World;
use shingle_seam::rpc::{Answer, Call, CallMeta, Peers, Reply, RpcError, ServeOptions, Service, SharedPayload, serve};
use shingle_seam::stop::Stop;
use shingle_seam::tasks::LocalFuture;

/// Answers heartbeats and keeps them.
struct Control {
    cell: CellId,
    heard: RefCell<Vec<Heartbeat>>,
}

impl Service for Control {
    type Buffer = Vec<u8>;

    fn process(&self) -> String {
        "control".to_owned()
    }

    fn buffer(self: &Rc<Self>, _: &Request, _: u32) -> Result<Vec<u8>, ErrorReply> {
        Err(ErrorReply::new(ErrorCode::Unsupported, 0, "no payloads"))
    }

    fn handle(self: Rc<Self>, _: Call, request: Request, _: Option<Vec<u8>>) -> LocalFuture<'static, Answer<Vec<u8>>> {
        Box::pin(async move {
            match request {
                Request::Heartbeat(heartbeat) => {
                    self.heard.borrow_mut().push(*heartbeat);
                    Response::HeartbeatReply(Box::new(HeartbeatReply { cell: self.cell.into(), listing: 1 })).into()
                }
                _ => ErrorReply::new(ErrorCode::Unsupported, 0, "heartbeats only").into(),
            }
        })
    }
}

fn start_control(world: &World, cell: CellId) -> (SocketAddr, Rc<Control>) {
    let listener = world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address();
    let control = Rc::new(Control { cell, heard: RefCell::default() });
    let serving = serve(world.clone(), listener, control.clone(), ServeOptions { budget_bytes: 64 << 20 });
    world.tasks.spawn("control", Box::pin(serving));
    (address, control)
}

struct Host {
    addresses: Vec<SocketAddr>,
    stop: Stop,
    thread: JoinHandle<Result<(), HostError>>,
}

/// Starts a host; its error when it does not start.
async fn start_host(world: &World, config: HostConfig) -> Result<Host, HostError> {
    let stop = Stop::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    let stopping = stop.clone();
    let thread = std::thread::spawn(move || {
        run_announced(config, stopping, |_, addresses| sender.send(addresses.to_vec()).map_err(std::io::Error::other))
    });
    let start = world.clock.now();
    loop {
        assert!(world.clock.now() - start < Duration::from_secs(60), "the host neither starts nor says why not");
        match receiver.try_recv() {
            Ok(addresses) => return Ok(Host { addresses, stop, thread }),
            Err(mpsc::TryRecvError::Empty) => world.tasks.sleep(Duration::from_millis(5)).await,
            Err(mpsc::TryRecvError::Disconnected) => return Err(thread.join().unwrap().unwrap_err()),
        }
    }
}

impl Host {
    fn stop(self) {
        self.stop.trigger();
        self.thread.join().unwrap().unwrap();
    }
}

fn disk(directory: &Path, name: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    file::create(&path, &Geometry::smr_with_zones(512 << 20, 16 << 20), name).unwrap();
    path
}

struct Client {
    peers: Peers,
    host: SocketAddr,
}

const EXTENT: Id128 = Id128 { hi: 0, lo: 77 };

impl Client {
    async fn call(&self, request: Request, payload: Option<Vec<u8>>) -> Result<Reply, RpcError> {
        let meta = CallMeta::client(Duration::from_secs(10));
        self.peers.call(self.host, &meta, request, payload.map(SharedPayload::from)).await
    }

    async fn status(&self) -> HostStatusReply {
        match self.call(Request::HostStatus(Box::new(HostStatus {})), None).await.unwrap().response {
            Response::HostStatusReply(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    async fn ages(&self, osd: u64) -> Result<ExtentAges, RpcError> {
        let list = ListExtents { osd, limit: 10, ..ListExtents::default() };
        match self.call(Request::ListExtents(Box::new(list)), None).await?.response {
            Response::ExtentAges(ages) => Ok(*ages),
            other => panic!("{other:?}"),
        }
    }

    async fn create(&self, osd: u64) {
        let create = CreateExtent { osd, extent: EXTENT, volume: 1, bucket: 80, member: 0 };
        let reply = self.call(Request::CreateExtent(Box::new(create)), None).await.unwrap();
        assert!(matches!(reply.response, Response::ExtentCreated(_)), "{reply:?}");
    }

    async fn put(&self, block: Block) -> Result<Reply, RpcError> {
        let append = Append {
            extent: EXTENT,
            hash: block.hash().into(),
            put_id: block.put_id().0,
            bucket: 80,
            plain_bytes: block.bytes,
        };
        self.call(Request::Append(Box::new(append)), Some(block.payload())).await
    }

    async fn assert_stored(&self, block: Block) {
        let read = ReadBlock { extent: EXTENT, hash: block.hash().into(), put_id: block.put_id().0 };
        let reply = self.call(Request::ReadBlock(Box::new(read)), None).await.unwrap();
        assert!(reply.payload == block.payload(), "{block:?} comes back as {} bytes", reply.payload.len());
    }
}

#[test]
fn blocks_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let disks =
        vec![disk(directory.path(), "disk-1"), disk(directory.path(), "disk-2"), disk(directory.path(), "disk-3")];
    rig::run(async |world| {
        let (control_address, control) = start_control(&world, CELL);
        let config = HostConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            control: control_address,
            disks,
            shards: 2,
            ..HostConfig::default()
        };
        let blocks: Vec<Block> = (0..8).map(|number| block(number, 1 + (number as u32 * 599_000))).collect();
        let peers = Peers::new(world.clone(), Role::Gateway, "test".to_owned());

        let host = start_host(&world, config.clone()).await.unwrap();
        assert_eq!(host.addresses.len(), 2);
        let client = Client { peers: peers.clone(), host: host.addresses[0] };
        let status = client.status().await;
        assert_eq!(status.osds.len(), 2, "disks are dealt in turn");
        client.create(status.osds[0].osd).await;
        let puts = blocks.iter().map(|block| client.put(*block));
        for put in futures_util::future::join_all(puts).await {
            assert!(matches!(put.unwrap().response, Response::Appended(_)));
        }
        client.assert_stored(blocks[7]).await;
        let ages = client.ages(status.osds[0].osd).await.unwrap();
        assert_eq!((ages.extents.len(), ages.end), (1, true));
        assert_eq!((&ages.extents[0].extent, ages.extents[0].records), (&EXTENT, 8));
        assert_eq!(ages.extents[0].verified_ms, 0, "not yet");
        let unknown = client.ages(1).await.unwrap_err();
        assert!(matches!(&unknown, RpcError::Refused(refusal) if refusal.code == ErrorCode::UnknownOsd), "{unknown}");
        until(&world, "one heartbeat has the OSDs of both shards", || {
            control.heard.borrow().last().is_some_and(|heartbeat| heartbeat.osds.len() == 3)
        })
        .await;
        host.stop();

        let host = start_host(&world, config).await.unwrap();
        let client = Client { peers, host: host.addresses[0] };
        for block in &blocks {
            client.assert_stored(*block).await;
        }
        let next = block(100, 4 << 20);
        client.put(next).await.unwrap();
        client.assert_stored(next).await;
        let status = client.status().await;
        assert!(status.osds.iter().all(|osd| osd.state == OsdState::Healthy));
        host.stop();
    });
}

#[test]
fn disk_of_another_cell_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let disks = vec![disk(directory.path(), "disk-1")];
    rig::run(async |world| {
        let config = |control| HostConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            control,
            disks: disks.clone(),
            ..HostConfig::default()
        };
        let (ours, _) = start_control(&world, CELL);
        let (theirs, _) = start_control(&world, CellId(0xbad));
        start_host(&world, config(ours)).await.unwrap().stop();
        let refused = start_host(&world, config(theirs)).await.err().unwrap().to_string();
        assert!(refused.contains("disk-1") && refused.contains("belongs to cell"), "{refused}");
        start_host(&world, config(ours)).await.unwrap().stop();
    });
}

#[test]
fn bad_disks_and_ports_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let good = disk(directory.path(), "disk-1");
    rig::run(async |world| {
        let (control, _) = start_control(&world, CELL);
        let config = |disk: &Path, listen: SocketAddr| HostConfig {
            listen,
            control,
            disks: vec![disk.to_owned()],
            ..HostConfig::default()
        };
        let any = "127.0.0.1:0".parse().unwrap();
        let missing = start_host(&world, config(&directory.path().join("nowhere"), any)).await.err().unwrap();
        assert!(missing.to_string().contains("nowhere"), "{missing}");
        let taken = start_host(&world, config(&good, control)).await.err().unwrap();
        assert!(taken.to_string().contains(&control.to_string()), "{taken}");
        let public = start_host(&world, config(&good, "0.0.0.0:0".parse().unwrap())).await.err().unwrap();
        assert!(public.to_string().contains("loopback"), "{public}");
        let small = directory.path().join("small");
        file::create(&small, &rig::geometry(), "small").unwrap();
        for _ in 0..2 {
            let refused = start_host(&world, config(&small, any)).await.err().unwrap().to_string();
            assert!(
                refused.contains("2 zones of 262144 bytes") && refused.contains("nothing was changed"),
                "{refused}"
            );
        }
    });
}
