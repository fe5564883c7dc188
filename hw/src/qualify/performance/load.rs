//! Load: zones filled to read from, closed and open loops.
//!
//! Invariant: in an open loop latency counts from when a command should have started, however late it did.

use std::task::Poll;

use crate::device::Command;
use crate::qualify::bench::{Answer, Bench, Crowd};
use crate::qualify::findings::Halt;
use crate::qualify::latency::Series;
use crate::zone::ZoneId;

/// Data to read: zones over the whole radius, each written up to a length.
pub struct Field {
    pub zones: Vec<ZoneId>,
    pub bytes: u64,
}

impl Field {
    /// Writes `count` zones (spread from the outer to the inner diameter) with at most `bytes` each, and flushes.
    pub fn write(bench: &Bench, count: u32, bytes: u64) -> Result<Self, Halt> {
        let zones = bench.spread(count)?;
        let bytes = bytes.min(bench.capacity()) / bench.sector() * bench.sector();
        for (index, zone) in (0u64..).zip(&zones) {
            bench.tick(index, 4 * zones.len() as u64)?;
            append_raw(bench, *zone, bytes)?;
            let answer = bench.finish(*zone)?;
            bench.must(answer, "a finish")?;
        }
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        Ok(Self { zones, bytes })
    }

    /// A random place for a read of so many bytes.
    pub fn place(&self, bench: &Bench, bytes: u64) -> (ZoneId, u64) {
        let zone = self.zones.get(bench.below(self.zones.len() as u64) as usize).copied().unwrap_or_default();
        let places = (self.bytes.saturating_sub(bytes)) / bench.sector() + 1;
        (zone, bench.below(places) * bench.sector())
    }

    /// Starts a read of a random place.
    pub fn read(&self, bench: &Bench, bytes: u64) -> Command<Answer<()>> {
        let bytes = bench.transfer(bytes.min(self.bytes));
        let (zone, at) = self.place(bench, bytes);
        start_read(bench, zone, at, bytes)
    }
}

/// Starts a read whose bytes nobody looks at.
pub fn start_read(bench: &Bench, zone: ZoneId, offset_bytes: u64, bytes: u64) -> Command<Answer<()>> {
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    let buffer = bench.device().alloc_buffer(length);
    let read = bench.device().read(zone, offset_bytes, buffer, 0..length);
    Box::pin(async move { read.await.0 })
}

/// Appends so many zeroes in the largest transfers.
pub fn append_raw(bench: &Bench, zone: ZoneId, bytes: u64) -> Result<(), Halt> {
    let mut left = bytes;
    while left > 0 {
        let length = bench.transfer(left);
        let answer = bench.append_raw(zone, 0..usize::try_from(length).unwrap_or(usize::MAX))?;
        bench.must(answer, "an append")?;
        left -= length.min(left);
    }
    Ok(())
}

/// Keeps `depth` commands in flight until `count` have ended.
pub fn closed_loop(
    bench: &Bench,
    name: &str,
    depth: usize,
    count: u64,
    mut start: impl FnMut() -> Command<Answer<()>>,
) -> Result<Series, Halt> {
    let mut series = Series::new(name);
    let mut crowd = Crowd::default();
    let mut started = std::collections::BTreeMap::new();
    let mut sent = 0;
    while (series.len() as u64) < count {
        while crowd.len() < depth && sent < count {
            started.insert(crowd.push(start()), bench.now_ns());
            sent += 1;
        }
        let Some((number, answer)) = bench.next(&mut crowd)? else { break };
        bench.must(answer, "a command under load")?;
        let start_ns = started.remove(&number).unwrap_or_default();
        series.record(start_ns, bench.now_ns() - start_ns);
    }
    Ok(series)
}

/// A stream of commands beside a load: one at a time, each so long after the last one's start at the earliest.
pub struct Paced<'a> {
    start: &'a mut dyn FnMut() -> Command<Answer<()>>,
    interval_ns: u64,
    next_ns: u64,
    in_flight: Option<u64>,
    ended: u64,
}

impl<'a> Paced<'a> {
    pub fn new(start: &'a mut dyn FnMut() -> Command<Answer<()>>, interval_ns: u64) -> Self {
        Self { start, interval_ns, next_ns: 0, in_flight: None, ended: 0 }
    }

    /// Commands that have ended.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Starts the next command if its time has come.
    fn start_due(&mut self, now_ns: u64, crowd: &mut Crowd<Answer<()>>) {
        if self.in_flight.is_none() && self.next_ns <= now_ns {
            self.in_flight = Some(crowd.push((self.start)()));
            self.next_ns = now_ns + self.interval_ns;
        }
    }

    /// Whether the command that ended was its own.
    fn claim(&mut self, number: u64) -> bool {
        let own = self.in_flight == Some(number);
        if own {
            self.in_flight = None;
            self.ended += 1;
        }
        own
    }

    /// When it is due, while nothing of it is in flight.
    fn due_ns(&self) -> Option<u64> {
        self.in_flight.is_none().then_some(self.next_ns)
    }
}

/// Starts commands at given times, however many are in flight.
pub fn open_loop(
    bench: &Bench,
    name: &str,
    intended_ns: &[u64],
    start: impl FnMut() -> Command<Answer<()>>,
) -> Result<Series, Halt> {
    open_loop_beside(bench, name, intended_ns, start, None)
}

/// As `open_loop`, beside a paced stream that ends with the last arrival; the series has nothing of it.
pub fn open_loop_beside(
    bench: &Bench,
    name: &str,
    intended_ns: &[u64],
    mut start: impl FnMut() -> Command<Answer<()>>,
    mut background: Option<&mut Paced>,
) -> Result<Series, Halt> {
    let mut series = Series::new(name);
    let mut crowd = Crowd::default();
    let mut intended = std::collections::BTreeMap::new();
    let mut left = intended_ns.iter().copied().peekable();
    while left.peek().is_some() || !crowd.is_empty() {
        while let Some(at_ns) = left.next_if(|at_ns| *at_ns <= bench.now_ns()) {
            intended.insert(crowd.push(start()), at_ns);
        }
        let mut due_ns = left.peek().copied();
        if let (Some(paced), Some(_)) = (background.as_deref_mut(), due_ns) {
            paced.start_due(bench.now_ns(), &mut crowd);
            due_ns = due_ns.into_iter().chain(paced.due_ns()).min();
        }
        let Some((number, answer)) = ended_before(bench, &mut crowd, due_ns)? else { continue };
        bench.must(answer, "a command under load")?;
        if background.as_deref_mut().is_some_and(|paced| paced.claim(number)) {
            continue;
        }
        let at_ns = intended.remove(&number).unwrap_or_default();
        series.record(at_ns, bench.now_ns() - at_ns);
    }
    Ok(series)
}

/// The next command that ends, unless the time comes before one does.
fn ended_before<T>(bench: &Bench, crowd: &mut Crowd<T>, due_ns: Option<u64>) -> Result<Option<(u64, T)>, Halt> {
    let mut due = due_ns.map(|at_ns| bench.subject.driver.sleep_until(at_ns));
    let mut ended = Box::pin(crowd.next());
    let mut none_left = false;
    let either = std::future::poll_fn(|context| {
        if !none_left && let Poll::Ready(outcome) = ended.as_mut().poll(context) {
            match outcome {
                Some(outcome) => return Poll::Ready(Some(outcome)),
                None => none_left = true,
            }
        }
        match &mut due {
            Some(due) => due.as_mut().poll(context).map(|()| None),
            None => Poll::Pending,
        }
    });
    Ok(bench.steps(Box::pin(either).as_mut(), u64::MAX)?.flatten())
}

/// Poisson arrivals from now on.
pub fn poisson(bench: &Bench, per_second: f64, count: u64) -> Vec<u64> {
    let mut at_ns = bench.now_ns() as f64;
    (0..count)
        .map(|_| {
            let part = (bench.below(1 << 52) as f64 + 1.0) / (1u64 << 52) as f64;
            at_ns -= part.ln() / per_second * 1e9;
            at_ns as u64
        })
        .collect()
}

/// Commands per second of a closed loop.
pub fn rate(series: &Series) -> f64 {
    let (Some((first_ns, _)), Some((last_ns, took_ns))) = (series.samples().first(), series.samples().last()) else {
        return 0.0;
    };
    series.len() as f64 * 1e9 / (last_ns + took_ns - first_ns).max(1) as f64
}

/// A small closed loop of reads, for tests that watch something else.
pub fn probe(bench: &Bench, field: &Field, count: u64) -> Result<Series, Halt> {
    closed_loop(bench, "probe reads", 1, count, || field.read(bench, bench.sector()))
}
