//! What a drive must, and may, answer to a command: the standards' state machine as sets of permitted outcomes.
//!
//! Independent of `zone_state`, which emulated drives run on: one checks the other. Where ZBC-2 and ZNS 1.1 differ,
//! both answers are permitted and the one seen is told as a variant.

use std::collections::BTreeMap;

use super::bench::Answer;
use crate::geometry::Geometry;
use crate::zone::{Zone, ZoneCondition, ZoneId};

/// A command, as far as the state machine cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Open,
    Close,
    Finish,
    Reset,
    Append { bytes: u64 },
}

/// One outcome that a drive may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permitted {
    /// The class of the refusal, or acceptance.
    pub refusal: Option<&'static str>,
    /// The state afterwards.
    pub after: State,
    /// The rule that leaves it open.
    pub variant: Option<&'static str>,
}

/// A zone as the host must believe it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub condition: ZoneCondition,
    pub written_bytes: u64,
}

/// The zones of a test.
#[derive(Clone)]
pub struct Reference {
    geometry: Geometry,
    zones: BTreeMap<ZoneId, State>,
}

const ZBC_NOP: &str = "ZBC-2 accepts what changes nothing, ZNS refuses it";
const NO_AUTO_CLOSE: &str = "ZNS leaves it to the controller to close an implicitly open zone";
const LIMIT_FIRST: &str = "both limits are exceeded: either may be named";
const FINISH_AT_LIMIT: &str = "FINISH at a limit may succeed or name the limit";

impl Reference {
    /// Zones as a report shows them now.
    pub fn new(geometry: &Geometry, zones: &[Zone]) -> Self {
        let states = zones.iter().map(|zone| (zone.id, State::of(zone, None)));
        Self { geometry: geometry.clone(), zones: states.collect() }
    }

    pub fn state(&self, zone: ZoneId) -> Option<State> {
        self.zones.get(&zone).copied()
    }

    fn count(&self, is: impl Fn(ZoneCondition) -> bool) -> u32 {
        self.zones.values().filter(|state| is(state.condition)).count() as u32
    }

    fn open_zones(&self) -> u32 {
        self.count(|condition| matches!(condition, ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen))
    }

    fn active_zones(&self) -> u32 {
        self.open_zones() + self.count(|condition| condition == ZoneCondition::Closed)
    }

    /// Every outcome that a command may have now.
    pub fn permitted(&self, zone: ZoneId, act: Act) -> Vec<Permitted> {
        let Some(state) = self.state(zone) else { return Vec::new() };
        let refuse = |class| vec![Permitted { refusal: Some(class), after: state, variant: None }];
        let accept = |condition, written_bytes| {
            vec![Permitted { refusal: None, after: State { condition, written_bytes }, variant: None }]
        };
        let either = || {
            let variant = Some(ZBC_NOP);
            [Some("condition"), None].map(|refusal| Permitted { refusal, after: state, variant }).to_vec()
        };
        match (state.condition, act) {
            (ZoneCondition::NotWritePointer, _) => refuse("condition"),
            (ZoneCondition::ReadOnly, _) => refuse("read-only"),
            (ZoneCondition::Offline, _) => refuse("offline"),
            (_, Act::Reset) => accept(ZoneCondition::Empty, 0),
            (ZoneCondition::Full, Act::Append { .. }) => refuse("full"),
            (ZoneCondition::Full, Act::Finish) => accept(ZoneCondition::Full, state.written_bytes),
            (ZoneCondition::Full, Act::Open | Act::Close) | (ZoneCondition::Empty, Act::Close) => either(),
            (ZoneCondition::Closed, Act::Close) => accept(ZoneCondition::Closed, state.written_bytes),
            (_, Act::Close) if state.written_bytes == 0 => accept(ZoneCondition::Empty, 0),
            (_, Act::Close) => accept(ZoneCondition::Closed, state.written_bytes),
            (_, Act::Append { bytes }) if state.written_bytes + bytes > self.geometry.zone_capacity_bytes => {
                refuse("boundary")
            }
            (_, Act::Open | Act::Finish | Act::Append { .. }) => self.activating(&state, act),
        }
    }

    /// Outcomes of a command that needs an open resource.
    fn activating(&self, state: &State, act: Act) -> Vec<Permitted> {
        let written_bytes = state.written_bytes + if let Act::Append { bytes } = act { bytes } else { 0 };
        let condition = match act {
            Act::Open => ZoneCondition::ExplicitOpen,
            Act::Finish => ZoneCondition::Full,
            _ if written_bytes == self.geometry.zone_capacity_bytes => ZoneCondition::Full,
            _ if state.condition == ZoneCondition::ExplicitOpen => ZoneCondition::ExplicitOpen,
            _ => ZoneCondition::ImplicitOpen,
        };
        let accepted = Permitted { refusal: None, after: State { condition, written_bytes }, variant: None };
        let refused = |class| Permitted { refusal: Some(class), after: *state, variant: None };
        if matches!(state.condition, ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen) {
            return vec![accepted];
        }
        let (open_max, active_max) = (self.geometry.open_zones_max, self.geometry.active_zones_max);
        let no_active = state.condition == ZoneCondition::Empty && active_max > 0 && self.active_zones() >= active_max;
        let no_open = open_max > 0 && self.open_zones() >= open_max;
        let implicit = self.count(|condition| condition == ZoneCondition::ImplicitOpen);
        let mut outcomes = match (no_active, no_open && implicit == 0) {
            (true, true) => ["too-many-active", "too-many-open"]
                .map(|class| Permitted { variant: Some(LIMIT_FIRST), ..refused(class) })
                .to_vec(),
            (true, false) => vec![refused("too-many-active")],
            (false, true) => vec![refused("too-many-open")],
            (false, false) if no_open => {
                vec![accepted, Permitted { variant: Some(NO_AUTO_CLOSE), ..refused("too-many-open") }]
            }
            (false, false) => vec![accepted],
        };
        if act == Act::Finish && (no_active || no_open) {
            outcomes.push(Permitted { variant: Some(FINISH_AT_LIMIT), ..accepted });
            outcomes.push(Permitted { variant: Some(FINISH_AT_LIMIT), ..refused("too-many-open") });
        }
        outcomes
    }

    /// Holds an answer and the report after it against what is permitted, and goes on from what was reported. The
    /// variant that was seen, or what is wrong.
    pub fn observe(
        &mut self,
        zone: ZoneId,
        act: Act,
        answer: &Answer<()>,
        report: &[Zone],
    ) -> Result<Option<&'static str>, String> {
        let Some(before) = self.state(zone) else { return Err(format!("zone {} is not in the test", zone.0)) };
        let permitted = self.permitted(zone, act);
        let refusal = answer.as_ref().err().map(crate::error::DeviceError::class);
        let Some(line) = report.iter().find(|line| line.id == zone) else {
            return Err(format!("zone {} is missing from the report", zone.0));
        };
        let matching = permitted.iter().find(|outcome| outcome.refusal == refusal && outcome.after.shows_as(line));
        let variant = match matching {
            Some(outcome) => outcome.variant,
            None => return Err(self.complaint(zone, act, &before, refusal, line, &permitted)),
        };
        let after = matching.map(|outcome| outcome.after);
        self.check_others(zone, report)?;
        for line in report {
            let known = self.zones.get(&line.id).copied();
            let state = if line.id == zone { after } else { known };
            self.zones.insert(line.id, State::of(line, state));
        }
        self.check_limits()?;
        Ok(variant)
    }

    fn complaint(
        &self,
        zone: ZoneId,
        act: Act,
        before: &State,
        refusal: Option<&str>,
        line: &Zone,
        permitted: &[Permitted],
    ) -> String {
        let wanted: Vec<String> = permitted
            .iter()
            .map(|outcome| format!("{} -> {}", outcome.refusal.unwrap_or("ok"), outcome.after.condition.name()))
            .collect();
        format!(
            "{act:?} of zone {} ({}, {} bytes; {} open, {} active): {} -> {} with write pointer {}, permitted: {}",
            zone.0,
            before.condition.name(),
            before.written_bytes,
            self.open_zones(),
            self.active_zones(),
            refusal.unwrap_or("ok"),
            line.condition.name(),
            line.write_pointer_bytes,
            wanted.join(", ")
        )
    }

    /// No other zone changed, but that an implicitly open one may have been closed to make room.
    fn check_others(&self, zone: ZoneId, report: &[Zone]) -> Result<(), String> {
        for line in report.iter().filter(|line| line.id != zone) {
            let Some(known) = self.zones.get(&line.id) else {
                return Err(format!("the report shows zone {}, which was not asked for", line.id.0));
            };
            let closed = State { condition: ZoneCondition::Closed, ..*known };
            let made_room = known.condition == ZoneCondition::ImplicitOpen && closed.shows_as(line);
            if !known.shows_as(line) && !made_room {
                return Err(format!(
                    "zone {} changed from {} ({}) to {} ({}) by a command to zone {}",
                    line.id.0,
                    known.condition.name(),
                    known.written_bytes,
                    line.condition.name(),
                    line.write_pointer_bytes,
                    zone.0
                ));
            }
        }
        if report.len() == self.zones.len() {
            Ok(())
        } else {
            Err(format!("the report shows {} zones of {}", report.len(), self.zones.len()))
        }
    }

    fn check_limits(&self) -> Result<(), String> {
        let limits = [
            ("open", self.open_zones(), self.geometry.open_zones_max),
            ("active", self.active_zones(), self.geometry.active_zones_max),
        ];
        match limits.into_iter().find(|(_, count, limit)| *limit > 0 && count > limit) {
            Some((what, count, limit)) => Err(format!("{count} zones are {what}, the limit is {limit}")),
            None => Ok(()),
        }
    }
}

impl State {
    /// The state a line shows. What was written into zones whose write pointer means nothing, only the host knows.
    fn of(line: &Zone, known: Option<Self>) -> Self {
        let written_bytes = match line.condition {
            ZoneCondition::Empty | ZoneCondition::NotWritePointer => 0,
            ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed => {
                line.write_pointer_bytes
            }
            _ => known.map_or(0, |state| state.written_bytes),
        };
        Self { condition: line.condition, written_bytes }
    }

    fn shows_as(&self, line: &Zone) -> bool {
        let pointer_counts = matches!(
            self.condition,
            ZoneCondition::Empty | ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed
        );
        line.condition == self.condition && (!pointer_counts || line.write_pointer_bytes == self.written_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DeviceError;
    use crate::zone_state::ZoneStates;

    #[test]
    fn the_drives_own_state_machine_is_permitted() {
        let geometry = Geometry {
            zones: 9,
            zone_bytes: 64 << 10,
            zone_capacity_bytes: 48 << 10,
            conventional_zones: 1,
            sector_bytes: 4096,
            open_zones_max: 3,
            active_zones_max: 5,
            transfer_bytes_max: 16 << 10,
        };
        let mut states = ZoneStates::new(geometry.clone());
        let mut reference = Reference::new(&geometry, &states.report(ZoneId(0), 9));
        let mut draw = crate::draw::Draw::new(11);
        for _ in 0..20_000 {
            let zone = ZoneId(draw.below(9) as u32);
            let bytes = (draw.below(4) + 1) * 4096;
            let (act, answer): (Act, Result<(), DeviceError>) = match draw.below(6) {
                0 => (Act::Open, states.open(zone)),
                1 => (Act::Close, states.close(zone)),
                2 => (Act::Finish, states.finish(zone)),
                3 => (Act::Reset, states.begin_reset(zone).map(|()| states.end_reset(zone))),
                _ => {
                    let begun = states.begin_append(zone, bytes).map(|_| states.end_append(zone, bytes));
                    (Act::Append { bytes }, begun)
                }
            };
            reference.observe(zone, act, &answer, &states.report(ZoneId(0), 9)).expect("permitted");
        }
    }
}
