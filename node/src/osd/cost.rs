//! What a transfer costs its disk: the time it would take alone, told in bytes, so that classes share time.
//!
//! Invariant: a disk of which nothing is known by radius has the same price everywhere.

use shingle_hw::qualify::profile::MeasuredProfile;

use super::policy::{DiskPolicy, IO_COST_BYTES_MAX};

/// Rings in which a disk's radius is told apart.
pub const RINGS: usize = 16;

/// Unit of [`Price::per_kib`].
const KIB: u64 = 1024;

/// What transfers cost in one ring, in bytes that the disk moves meanwhile where it is slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Of positioning.
    pub positioning: u64,
    /// Of 1024 bytes moved: 1024 where the disk is slowest, less elsewhere.
    pub per_kib: u64,
}

/// Prices from the outer ring to the inner one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices([Price; RINGS]);

impl Prices {
    /// What a profile says of a disk that moves `slowest_bytes` a second at least; `None` where it does not tell radii
    /// apart.
    pub fn measured(profile: &MeasuredProfile, slowest_bytes: u64) -> Option<Self> {
        let mut prices = [Price { positioning: 0, per_kib: KIB }; RINGS];
        for (ring, price) in prices.iter_mut().enumerate() {
            let (rate_mb_s, access_ms) = profile.at((ring as f64 + 0.5) / RINGS as f64)?;
            let positioning = (access_ms / 1e3 * slowest_bytes as f64) as u64;
            let per_kib = (slowest_bytes as f64 / (rate_mb_s * 1e6) * KIB as f64).round() as u64;
            *price = Price { positioning: positioning.min(IO_COST_BYTES_MAX), per_kib: per_kib.clamp(1, KIB) };
        }
        Some(Self(prices))
    }

    /// The same everywhere.
    pub fn flat(io_cost_bytes: u64) -> Self {
        Self([Price { positioning: io_cost_bytes, per_kib: KIB }; RINGS])
    }

    /// The price at a zone of a disk that has `zones`.
    pub fn at(&self, zone: u32, zones: u32) -> Price {
        let ring = u64::from(zone) * RINGS as u64 / u64::from(zones.max(1));
        let ring = usize::try_from(ring).unwrap_or(RINGS).min(RINGS - 1);
        self.0.get(ring).copied().unwrap_or(Price { positioning: 0, per_kib: KIB })
    }
}

impl Price {
    /// What a transfer of so many bytes costs.
    pub fn of(&self, bytes: u64) -> u64 {
        let moved = u128::from(bytes) * u128::from(self.per_kib) / u128::from(KIB);
        u64::try_from(moved).unwrap_or(u64::MAX).saturating_add(self.positioning)
    }
}

impl DiskPolicy {
    /// What transfers cost on the disk.
    pub fn prices(&self) -> Prices {
        self.prices.unwrap_or(Prices::flat(self.io_cost_bytes))
    }
}

#[cfg(test)]
mod tests {
    use shingle_hw::geometry::Geometry;
    use shingle_hw::qualify::profile::AtRadius;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn profile(places: &[(f64, f64, Option<f64>)]) -> MeasuredProfile {
        let place = |(radius, read_mb_s, access_ms)| AtRadius { radius, read_mb_s, write_mb_s: None, access_ms };
        let envelope = places.iter().copied().map(place).collect();
        MeasuredProfile { envelope, access_ms: Some(12.0), ..MeasuredProfile::unmeasured("M", &Geometry::smr(1 << 40)) }
    }

    #[test]
    fn the_outer_edge_is_cheaper_in_proportion_to_its_rate() {
        let measured = profile(&[(0.0, 200.0, Some(14.0)), (0.5, 150.0, Some(10.0)), (1.0, 100.0, Some(14.0))]);
        let policy = DiskPolicy::default().measured(&measured);
        assert_eq!(policy.bandwidth_bytes, 100_000_000);
        let price = |zone| policy.prices().at(zone, 1600);
        let [outer, middle, inner] = [0, 800, 1599].map(|zone| price(zone).of(MIB) - price(zone).positioning);
        // In the middle of the rings: 196.9, 146.9 and 103.1 MB/s against 100.
        assert_eq!([outer, middle, inner], [520, 697, 993].map(|per_kib| per_kib << 10));
        let [outer, middle, inner] = [0, 800, 1599].map(|zone| price(zone).positioning);
        let near = |found: u64, wanted: u64| found.abs_diff(wanted) <= 1;
        assert!(
            near(outer, 1_375_000) && near(middle, 1_025_000) && near(inner, 1_375_000),
            "{outer} {middle} {inner}"
        );
        assert_eq!(price(u32::MAX), price(1599), "a zone that does not exist costs what the last one does");
    }

    #[test]
    fn what_does_not_tell_radii_apart_costs_the_same_everywhere() {
        let flat = DiskPolicy::default().prices();
        assert_eq!(flat.at(0, 100).of(MIB), MIB + DiskPolicy::default().io_cost_bytes);
        assert_eq!(flat.at(0, 100), flat.at(99, 100));
        let rates_only = profile(&[(0.0, 200.0, None), (1.0, 100.0, None)]);
        let policy = DiskPolicy::default().measured(&rates_only);
        assert_eq!(policy.prices(), Prices::flat(policy.io_cost_bytes));
        assert_eq!(flat.at(0, 0).of(u64::MAX), u64::MAX, "no price is beyond counting");
    }
}
