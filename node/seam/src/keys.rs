//! Key-encryption keys: what wraps every block's own key. Only gateways hold them.

use std::rc::Rc;

use shingle_proto::ids::KekVersion;

/// A 256-bit key-encryption key. Never printed.
#[derive(Clone)]
pub struct Kek(pub [u8; 32]);

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kek(..)")
    }
}

/// A keeper of key-encryption keys.
pub trait Keys {
    /// The version new blocks are wrapped under.
    fn current(&self) -> KekVersion;
    /// The key of a version, unless it has been destroyed.
    fn kek(&self, version: KekVersion) -> Option<Rc<Kek>>;
}
