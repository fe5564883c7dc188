//! Plans: which tests run, and how large each is.

use serde::{Deserialize, Serialize};

/// A run plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// At most 5 minutes: rules, limits, a sample of the data, twenty power cuts.
    Smoke,
    /// Everything that means something on an emulated drive, small.
    Ci,
    /// Everything in about two hours.
    Quick,
    /// Everything, 7 to 10 days a drive.
    Qual,
}

impl Plan {
    /// Every plan by its name.
    pub const ALL: [(&'static str, Self); 4] =
        [("smoke", Self::Smoke), ("ci", Self::Ci), ("quick", Self::Quick), ("qual", Self::Qual)];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, plan)| *plan == self).map_or("", |(name, _)| name)
    }

    /// How large the tests of a plan are.
    pub fn scale(self) -> Scale {
        match self {
            Self::Smoke => Scale { commands: 2_000, cuts: 20, zones: 4, samples: 1_000, positions: 8, hours: 0.02 },
            Self::Ci => Scale { commands: 4_000, cuts: 60, zones: 6, samples: 2_200, positions: 12, hours: 0.1 },
            Self::Quick => {
                Scale { commands: 100_000, cuts: 200, zones: 64, samples: 20_000, positions: 32, hours: 1.0 }
            }
            Self::Qual => Scale {
                commands: 1_000_000,
                cuts: 1_000,
                zones: u32::MAX,
                samples: 200_000,
                positions: 64,
                hours: 168.0,
            },
        }
    }
}

/// How much a test does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Random commands of a model-based test.
    pub commands: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Zones that are filled and verified.
    pub zones: u32,
    /// Commands of a latency series.
    pub samples: u64,
    /// Radial positions.
    pub positions: u32,
    /// Length of a soak.
    pub hours: f64,
}
