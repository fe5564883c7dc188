//! Extents: the append-only units a disk is divided into, their bytes (`FORMAT.md`), and how they are recovered.
//!
//! Nothing here runs concurrently: placement and sequence belong to the one writer of an extent.

pub mod closed;
pub mod footer;
pub mod format;
pub mod header;
pub mod journal;
pub mod label;
pub mod layout;
pub mod placement;
pub mod reader;
pub mod record;
pub mod recover;
pub mod scan;
pub mod toc;
pub mod verify;
pub mod writer;
