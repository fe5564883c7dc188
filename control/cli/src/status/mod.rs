//! `shingle status`, and the live screen of `shingle up`: what the control plane knows, made readable.

pub mod ask;
pub mod command;
pub mod document;
pub mod extents;
pub mod findings;
pub mod redraw;
pub mod view;
