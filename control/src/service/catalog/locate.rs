//! What the catalog needs from the master: where a bucket lies, and somebody who takes care of a finding.

use shingle_proto::ids::{BucketId, CellId};
use shingle_proto::message::{Finding, Volume};

/// The master's view, as the catalog sees it.
pub trait Locate {
    /// The cell whose Replication Table this is.
    fn cell(&self) -> CellId;
    /// The volume that holds a bucket, with its members; `None` when no volume of this cell does.
    fn locate(&self, bucket: BucketId) -> Option<Volume>;
    /// Takes over a block that a manifest promises and the tables cannot find (invariant 10).
    fn report(&self, finding: Finding);
}
