//! What happens to the cell's processes, told as it happens: line by line, or in the lower part of the live screen.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Write;

use jiff::Timestamp;

/// Events the screen shows.
const KEPT: usize = 6;

/// The stream of events of one `up`.
#[derive(Default)]
pub struct Events {
    recent: RefCell<VecDeque<String>>,
    /// The live screen has the terminal: lines go there.
    on_screen: Cell<bool>,
}

impl Events {
    /// Something happened.
    pub fn say(&self, text: &str) {
        let time = Timestamp::now().strftime("%H:%M:%S").to_string();
        if !self.on_screen.get() {
            // Nobody reading any more is no reason to stop a cell.
            drop(writeln!(std::io::stdout(), "{time} {text}"));
        }
        let mut recent = self.recent.borrow_mut();
        for line in text.lines() {
            recent.push_back(format!("{time} {line}"));
        }
        while recent.len() > KEPT {
            recent.pop_front();
        }
    }

    /// From now on the screen shows events (or no longer).
    pub fn set_on_screen(&self, on_screen: bool) {
        self.on_screen.set(on_screen);
    }

    pub fn recent(&self) -> Vec<String> {
        self.recent.borrow().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_events_are_kept() {
        let events = Events::default();
        events.set_on_screen(true);
        for number in 0..20 {
            events.say(&format!("event {number}"));
        }
        let recent = events.recent();
        assert_eq!(recent.len(), KEPT);
        assert!(recent.last().unwrap().ends_with("event 19"));
    }
}
