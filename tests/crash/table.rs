//! Boundary x variant class: how many images of each, which is what the exhaustion consists of.

use std::collections::{BTreeMap, BTreeSet};

use super::row::{EXPECTED, Row, What, When};
use super::variants::Class;

/// Images built, and checked, in one cell of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub built: u64,
    pub checked: u64,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    cells: BTreeMap<(Row, Class), Count>,
}

impl Table {
    pub fn cell(&mut self, row: Row, class: Class) -> &mut Count {
        self.cells.entry((row, class)).or_default()
    }

    pub fn add(&mut self, other: &Self) {
        for (cell, count) in &other.cells {
            let mine = self.cells.entry(*cell).or_default();
            mine.built += count.built;
            mine.checked += count.checked;
        }
    }

    pub fn cells(&self) -> impl Iterator<Item = (Row, Class, Count)> + '_ {
        self.cells.iter().map(|((row, class), count)| (*row, *class, *count))
    }

    fn count(&self, row: Row, class: Class) -> u64 {
        self.cells.get(&(row, class)).map_or(0, |count| count.built)
    }

    /// Cells that a complete run must fill and this one did not.
    pub fn empty(&self) -> Vec<String> {
        let mut empty = Vec::new();
        for what in EXPECTED {
            for when in [When::Begun, When::Ended] {
                for class in Class::ALL.into_iter().filter(|class| is_expected(*what, when, *class)) {
                    if self.count((*what, when), class) == 0 {
                        empty.push(format!("{} {when:?} x {}", what.name(), class.name()));
                    }
                }
            }
        }
        empty
    }

    /// For people.
    pub fn print(&self) -> String {
        let head = |row: &Row| format!("{}, {}", row.0.name(), format!("{:?}", row.1).to_lowercase());
        let line = |name: &str, cells: Vec<String>| {
            cells.into_iter().fold(format!("{name:28}"), |line, cell| format!("{line}{cell:>11}"))
        };
        let mut lines = vec![line("boundary", Class::ALL.iter().map(|class| class.name().to_owned()).collect())];
        let rows: BTreeSet<Row> = self.cells.keys().map(|(row, _)| *row).collect();
        lines.extend(rows.iter().map(|row| {
            let counts = Class::ALL.iter().map(|class| self.count(*row, *class));
            line(&head(row), counts.map(|count| if count == 0 { "-".to_owned() } else { count.to_string() }).collect())
        }));
        lines.join("\n")
    }
}

/// Which cells have a meaning: what cannot be torn is not, what begins at no change has none to lose.
fn is_expected(what: What, when: When, class: Class) -> bool {
    let appends =
        [What::Label, What::Header, What::Record, What::Records, What::RecordRest, What::Close, What::Journal];
    let changes = appends.contains(&what) || [What::Finish, What::Reset, What::JournalReset].contains(&what);
    match class {
        // Failures of zones and the first moment have no two ends.
        _ if matches!(what, What::Start | What::ZoneFailed) => {
            when == When::Ended && matches!(class, Class::Nothing | Class::ReadOnly | Class::Offline)
        }
        Class::Nothing | Class::ReadOnly | Class::Offline => true,
        Class::Whole => when == When::Begun && changes,
        // Labels, headers and closing records are one sector where sectors have 4096 bytes.
        Class::Torn => when == When::Begun && appends.contains(&what),
        Class::Missing | Class::Prefix | Class::Subset | Class::PointerAhead | Class::PointerBehind => {
            (changes && when == When::Begun)
                || (appends.contains(&what) && when == When::Ended)
                || (what == What::Flush && when == When::Begun)
        }
        Class::FlushLost => what == What::Flush && when == When::Begun,
    }
}
