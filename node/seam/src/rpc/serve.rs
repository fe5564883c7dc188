//! Accepts connections and answers their requests.

use std::rc::Rc;

use super::Service;
use crate::World;
use crate::net::Listener;

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Credits for request payloads handed out over all connections never exceed this.
    pub budget_bytes: u64,
}

/// Serves until dropped; dropping it ends every connection and drops every handler.
pub async fn serve<S: Service>(world: World, listener: Box<dyn Listener>, service: Rc<S>, options: ServeOptions) {
    let _held = (world, listener, service, options);
    std::future::pending().await
}
