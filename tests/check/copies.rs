//! Invariants 1 and 2: every member that the current tables name for a block has exactly that block.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shingle_codec::key::unwrap;
use shingle_codec::seal::{SealParams, open};
use shingle_proto::ids::{BlockHash, Generation, KekVersion, PutId};
use shingle_proto::message::{
    ListObjects, ObjectRow, PlanRead, PlannedBlock, ReadBlock, ReadPlan, Request, Response, Role, Volume,
};
use shingle_seam::World;
use shingle_seam::keys::Keys;
use shingle_seam::rpc::{CallMeta, Peers};

/// What was looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CopiesSeen {
    pub objects: u64,
    pub blocks: u64,
    pub copies: u64,
}

/// Asks the control plane for every object and every member for every block.
pub struct CopiesChecker {
    peers: Peers,
    keys: Rc<dyn Keys>,
    control: SocketAddr,
}

impl CopiesChecker {
    pub fn new(world: World, keys: Rc<dyn Keys>, control: SocketAddr) -> Self {
        Self { peers: Peers::new(world, Role::Tool, "checker".to_owned()), keys, control }
    }

    /// Reads every copy of every block of every object in an S3 bucket.
    ///
    /// # Panics
    /// When a copy is missing or differs: the invariant does not hold.
    pub async fn check(&self, s3_bucket: &str, copies: usize) -> CopiesSeen {
        let mut seen = CopiesSeen::default();
        let mut start_after = String::new();
        loop {
            let request = Request::ListObjects(Box::new(ListObjects {
                s3_bucket: s3_bucket.to_owned(),
                start_after: start_after.clone(),
                limit: 100,
                ..Default::default()
            }));
            let Response::ObjectList(page) = self.ask(request).await else { panic!("a list answers a listing") };
            for object in &page.objects {
                seen.objects += 1;
                self.check_object(object, copies, &mut seen).await;
            }
            match page.next_start_after {
                Some(next) => start_after = next,
                None => return seen,
            }
        }
    }

    async fn ask(&self, request: Request) -> Response {
        let meta = CallMeta::client(Duration::from_secs(10));
        let reply = self.peers.call(self.control, &meta, request, None).await;
        reply.unwrap_or_else(|error| panic!("a healthy control plane answers: {error}")).response
    }

    async fn check_object(&self, object: &ObjectRow, copies: usize, seen: &mut CopiesSeen) {
        let mut offset_bytes = 0;
        while offset_bytes < object.size_bytes {
            let plan = self.plan(object, offset_bytes).await;
            assert!(!plan.blocks.is_empty(), "{}: no block at {offset_bytes} of {}", object.key, object.size_bytes);
            for block in &plan.blocks {
                let volume = &plan.volumes[block.volume as usize];
                assert_eq!(volume.members.len(), copies, "{}: members of volume {:x}", object.key, volume.id);
                for member in 0..volume.members.len() {
                    self.check_copy(block, volume, member).await;
                    seen.copies += 1;
                }
                seen.blocks += 1;
            }
            offset_bytes = plan.next_offset_bytes;
        }
    }

    async fn plan(&self, object: &ObjectRow, offset_bytes: u64) -> ReadPlan {
        let request = Request::PlanRead(Box::new(PlanRead {
            manifest: object.manifest.clone(),
            offset_bytes,
            length_bytes: object.size_bytes - offset_bytes,
            max_blocks: 64,
        }));
        match self.ask(request).await {
            Response::ReadPlan(plan) => *plan,
            other => panic!("a plan answers a plan: {other:?}"),
        }
    }

    async fn check_copy(&self, block: &PlannedBlock, volume: &Volume, member: usize) {
        let row = &block.row;
        let member = &volume.members[member];
        let what = format!("block {:?} on osd {:x} of volume {:x}", BlockHash::from(&row.hash), member.osd, volume.id);
        let address: SocketAddr = member.address.parse().unwrap_or_else(|_| panic!("{what}: no address"));
        let mut meta = CallMeta::client(Duration::from_secs(10));
        meta.generation = Generation(volume.generation);
        let request = Request::ReadBlock(Box::new(ReadBlock {
            extent: member.extent.clone(),
            hash: row.hash.clone(),
            put_id: row.put_id,
        }));
        let reply = self.peers.call(address, &meta, request, None).await;
        let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
        let kek = self.keys.kek(KekVersion(row.kek_version)).unwrap_or_else(|| panic!("{what}: its key"));
        let key = unwrap(&kek.0, &row.wrapped_key).unwrap_or_else(|error| panic!("{what}: {error}"));
        let params = SealParams {
            hash: BlockHash::from(&row.hash),
            put_id: PutId(row.put_id),
            plain_bytes: row.plain_bytes,
            compression: row.compression,
            crc32c: row.sealed_crc32c,
        };
        open(reply.payload, &params, &key).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}
