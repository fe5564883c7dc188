//! The control service: one listener, the master's requests and the catalog's.
//!
//! Nothing here knows a runtime: production and simulation start the same [`Control`] with another world and store.

mod admin;
pub mod catalog;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use shingle_proto::ids::CellId;
use shingle_proto::limits::{CONNECTION_CREDIT_BYTES, LISTENER_CONNECTIONS_MAX};
use shingle_proto::message::{ErrorCode, ErrorReply, Request, Role};
use shingle_seam::World;
use shingle_seam::rpc::{Answer, Call, Peers, ServeOptions, Service, serve};
use shingle_seam::tasks::LocalFuture;

use self::catalog::{Catalog, Locate};
use crate::config::ControlConfig;
use crate::master::Master;
use crate::master::reclaim::{ReclaimConfig, ReclaimJob};
use crate::store::Store;
use crate::tables::Tables;
use crate::tables::work::TableError;

/// What the process tells its peers at HELLO.
const PROCESS: &str = "control";
/// Credit is for payloads, and no request to control has one: it is refused and dropped as it comes, so that credit
/// costs nothing and every connection may have its share.
const BUDGET_BYTES: u64 = LISTENER_CONNECTIONS_MAX as u64 * CONNECTION_CREDIT_BYTES as u64;

/// Why the control service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the tables cannot be read: {0}")]
    Tables(#[from] TableError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// The control service of one cell.
pub struct Control {
    store: Rc<dyn Store>,
    master: Rc<Master>,
    catalog: Rc<Catalog>,
    address: SocketAddr,
}

impl Control {
    /// Recovers from the store, listens, and serves until the tasks of this thread are dropped.
    pub async fn start(world: World, store: Rc<dyn Store>, config: &ControlConfig) -> Result<Rc<Self>, StartError> {
        let tables = Tables::new(world.clone(), store.clone());
        let peers = Peers::new(world.clone(), Role::Control, PROCESS.to_string());
        let master = Master::load(world.clone(), tables, peers, usize::from(config.copies)).await?;
        let catalog = Rc::new(Catalog::new(world.clone(), store.clone(), master.clone()));
        catalog.start().await?;
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = world.net.listen(config.listen).map_err(listen)?;
        let address = listener.local_address();
        let reclaim = ReclaimJob::new(catalog.tables().clone(), catalog.holds(), ReclaimConfig::default());
        let control = Rc::new(Self { store, master: master.clone(), catalog, address });
        world.tasks.spawn("master", Box::pin(master.run()));
        world.tasks.spawn("reclaim", Box::pin(async move { reclaim.run().await }));
        let options = ServeOptions { budget_bytes: BUDGET_BYTES };
        let serving = serve(world.clone(), listener, control.clone(), options);
        world.tasks.spawn("control service", Box::pin(serving));
        Ok(control)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn cell(&self) -> CellId {
        self.master.cell()
    }
}

impl Service for Control {
    type Buffer = Vec<u8>;

    fn process(&self) -> String {
        PROCESS.to_string()
    }

    fn buffer(self: &Rc<Self>, _: &Request, bytes: u32) -> Result<Vec<u8>, ErrorReply> {
        Err(ErrorReply::new(ErrorCode::Malformed, u64::from(bytes), "requests to control have no payload"))
    }

    fn handle(
        self: Rc<Self>,
        call: Call,
        request: Request,
        _: Option<Vec<u8>>,
    ) -> LocalFuture<'static, Answer<Vec<u8>>> {
        Box::pin(async move {
            if Catalog::serves(&request) {
                self.catalog.handle(request).await.into()
            } else {
                self.administer(&call, request).await.into()
            }
        })
    }
}
