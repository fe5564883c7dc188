//! x
pub struct Buffer;
