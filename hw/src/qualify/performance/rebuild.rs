//! P-14: a stretch of reads, then of writes, at growing pace beside foreground reads: what a rebuild may take
//! from this drive before its users notice.

use std::rc::Rc;

use super::load::{Field, Paced, append_raw, closed_loop, open_loop_beside, poisson, rate, start_read};
use crate::device::Command;
use crate::qualify::bench::{Answer, Bench};
use crate::qualify::findings::{Findings, Halt};
use crate::qualify::latency::Series;
use crate::qualify::statistics::Observed;
use crate::zone::ZoneId;

/// What is rebuilt: the store repairs 1 to 2 GiB at a time.
const STRETCH_BYTES: u64 = 1 << 30;
/// Paces, in percent of what the drive does alone.
const PACES: [u64; 4] = [10, 25, 50, 100];
/// Foreground, in percent of the most random reads.
const FOREGROUND: f64 = 0.2;
/// The foreground's tail beside a rebuild, over that without one.
const TAIL_FACTOR: f64 = 2.0;

/// The zones of a stretch, and how its next part is moved.
struct Stretch<'a, 'b> {
    bench: &'a Bench<'b>,
    zones: Vec<ZoneId>,
    bytes: u64,
    next: u64,
}

impl<'a, 'b> Stretch<'a, 'b> {
    fn new(bench: &'a Bench<'b>) -> Result<Self, Halt> {
        let most = (STRETCH_BYTES / bench.capacity()).clamp(1, u64::from(bench.scale.zones)) as u32;
        Ok(Self { bench, zones: bench.fresh(most)?, bytes: bench.transfer(1 << 20), next: 0 })
    }

    /// The next part: its zone, its place, and whether it is the first of its zone, the last of the stretch.
    fn part(&mut self) -> (ZoneId, u64, bool, bool) {
        let per_zone = (self.bench.capacity() / self.bytes).max(1);
        let parts = per_zone * self.zones.len() as u64;
        let at = self.next % parts;
        self.next += 1;
        let zone = self.zones.get((at / per_zone) as usize).copied().unwrap_or_default();
        (zone, at % per_zone * self.bytes, at.is_multiple_of(per_zone), at + 1 == parts)
    }

    fn read_next(&mut self) -> Command<Answer<()>> {
        let (zone, at, ..) = self.part();
        start_read(self.bench, zone, at, self.bytes)
    }

    /// Appends; a zone begins with a reset, the stretch ends with a flush.
    fn write_next(&mut self) -> Command<Answer<()>> {
        let (zone, _, begins, ends) = self.part();
        let (device, length) = (Rc::clone(&self.bench.subject.device), self.bytes as usize);
        Box::pin(async move {
            if begins {
                device.reset(zone).await?;
            }
            device.append(zone, device.alloc_buffer(length), 0..length).await.0?;
            if ends { device.flush().await } else { Ok(()) }
        })
    }
}

/// The reads of users.
struct Foreground<'a, 'b> {
    bench: &'a Bench<'b>,
    field: Field,
    per_second: f64,
    count: u64,
}

impl Foreground<'_, '_> {
    fn run(&self, name: &str, background: Option<&mut Paced>) -> Result<Series, Halt> {
        let bench = self.bench;
        let at_ns = poisson(bench, self.per_second, self.count);
        open_loop_beside(bench, name, &at_ns, || self.field.read(bench, bench.sector()), background)
    }
}

/// P-14.
pub(super) fn rebuild(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let field = Field::write(bench, bench.scale.positions.max(12), 8 << 20)?;
    let count = (bench.scale.samples / 4).max(200);
    let most = rate(&closed_loop(bench, "maximum", 8, count, || field.read(bench, bench.sector()))?);
    let foreground = Foreground { bench, field, per_second: most * FOREGROUND, count };
    let quiet = foreground.run("foreground alone", None)?;
    let (tail_name, quiet_tail) = quiet.best_tail();
    findings.metric(&format!("foreground_alone_{tail_name}"), "ms", quiet_tail);
    findings.latencies.push(quiet.summary());
    for (step, name) in (0u64..).zip(["source", "target"]) {
        let mut stretch = Stretch::new(bench)?;
        if name == "source" {
            for zone in &stretch.zones {
                append_raw(bench, *zone, bench.capacity())?;
                let answer = bench.finish(*zone)?;
                bench.must(answer, "a finish")?;
            }
        }
        let reads = name == "source";
        let bytes = stretch.bytes;
        let mut next = || if reads { stretch.read_next() } else { stretch.write_next() };
        let alone = rate(&closed_loop(bench, name, 1, (count / 4).max(64), &mut next)?);
        let (mut points, mut allowed) = (Vec::new(), 0.0_f64);
        for (index, pace) in (0u64..).zip(PACES) {
            bench.tick(step * 4 + index, 8)?;
            let interval_ns = (1e9 / alone.max(f64::MIN_POSITIVE) * 100.0 / pace as f64) as u64;
            let mut paced = Paced::new(&mut next, if pace == 100 { 0 } else { interval_ns });
            let began_ns = bench.now_ns();
            let series = foreground.run(&format!("foreground beside a {name} at {pace} %"), Some(&mut paced))?;
            let mb_s = (paced.ended() * bytes) as f64 * 1e3 / (bench.now_ns() - began_ns).max(1) as f64;
            let tail = series.best_tail().1.v;
            points.push([mb_s, tail]);
            if tail <= TAIL_FACTOR * quiet_tail.v {
                allowed = allowed.max(mb_s);
            }
        }
        findings.metric(&format!("{name}_alone"), "MB/s", Observed::exact(alone * bytes as f64 / 1e6));
        // At no pace: nothing can be rebuilt from this drive, or to it, while it is in use.
        findings.require(&format!("{name}_mb_s_at_twice_the_tail > 0"), Observed::exact(allowed), allowed > 0.0);
        findings.curve(&format!("foreground tail beside a {name}"), "MB/s", "ms", points);
    }
    Ok(findings)
}
