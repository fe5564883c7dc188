//! Says once that no further volume can be opened, and once that it is over. Pure.

use std::time::Duration;

use shingle_proto::limits::HOST_SUSPECT_MS;
use shingle_proto::message::Lack;
use shingle_seam::clock::Monotonic;

/// What is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Begins(Lack),
    Ends(Lack),
}

/// Remembers what was said.
#[derive(Debug)]
pub struct LackWatch {
    /// Hosts that were not heard yet are not missing before this.
    expected: Monotonic,
    said: Lack,
}

impl LackWatch {
    /// Of a master that has heard nobody yet.
    pub fn new(start: Monotonic) -> Self {
        Self { expected: start + Duration::from_millis(HOST_SUSPECT_MS), said: Lack::Nothing }
    }

    /// The lack is this now: anything to say? Another lack than before is one that begins.
    pub fn look(&mut self, lack: Lack, now: Monotonic) -> Option<News> {
        if lack == self.said || (lack != Lack::Nothing && now < self.expected) {
            return None;
        }
        let before = std::mem::replace(&mut self.said, lack);
        Some(if lack == Lack::Nothing { News::Ends(before) } else { News::Begins(lack) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_said_when_it_begins_and_when_it_ends() {
        let start = Monotonic::default() + Duration::from_secs(9);
        let mut watch = LackWatch::new(start);
        assert_eq!(watch.look(Lack::Hosts, start), None, "nobody can have been heard yet");
        assert_eq!(watch.look(Lack::Nothing, start), None);
        let later = start + Duration::from_millis(HOST_SUSPECT_MS);
        assert_eq!(watch.look(Lack::Room, later), Some(News::Begins(Lack::Room)));
        assert_eq!(watch.look(Lack::Room, later), None, "said already");
        assert_eq!(watch.look(Lack::Hosts, later), Some(News::Begins(Lack::Hosts)));
        assert_eq!(watch.look(Lack::Nothing, later), Some(News::Ends(Lack::Hosts)));
        assert_eq!(watch.look(Lack::Nothing, later), None);
    }
}
