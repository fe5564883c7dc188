//! The bundle of seams that logic is handed.

use std::rc::Rc;

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::net::Net;
use crate::tasks::Tasks;

/// All the seams of one thread. Cheap to clone.
#[derive(Clone)]
pub struct World {
    pub clock: Rc<dyn Clock>,
    pub net: Rc<dyn Net>,
    pub entropy: Rc<dyn Entropy>,
    pub tasks: Rc<dyn Tasks>,
}
