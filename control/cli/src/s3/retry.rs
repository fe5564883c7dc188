//! Trying again after errors that pass: exponential back-off with jitter.

use std::time::Duration;

use shingle_seam::entropy::{Entropy, SystemEntropy};

use crate::s3::error::S3Error;

/// How often and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries after the first one; 0 gives up at once.
    pub retries: u32,
}

const FIRST_WAIT_MS: u64 = 100;
const WAIT_MS_MAX: u64 = 5_000;

impl Retry {
    /// One try only.
    pub const NEVER: Self = Self { retries: 0 };

    /// The wait before try number `attempt` (from 1 on) in milliseconds, without jitter.
    pub fn wait_ms(attempt: u32) -> u64 {
        let factor = 1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
        FIRST_WAIT_MS.saturating_mul(factor).min(WAIT_MS_MAX)
    }

    /// Runs `work` until it succeeds, fails for good, or the tries are used up.
    pub async fn run<T>(&self, mut work: impl AsyncFnMut() -> Result<T, S3Error>) -> Result<T, S3Error> {
        let mut attempt = 0;
        loop {
            match work().await {
                Err(error) if error.is_passing() && attempt < self.retries => {
                    attempt += 1;
                    let wait_ms = Self::wait_ms(attempt);
                    // Half of the wait is random, so that many clients do not come back at the same instant.
                    let wait_ms = wait_ms / 2 + SystemEntropy.below(wait_ms / 2 + 1);
                    tracing::debug!(%error, attempt, wait_ms, "trying again");
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let waits: Vec<_> = (1..=8).map(Retry::wait_ms).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(Retry::wait_ms(u32::MAX), 5000);
    }

    #[test]
    fn passing_errors_are_tried_again_until_the_tries_are_used_up() {
        let mut calls = 0;
        let result = run(Retry { retries: 2 }.run(async || {
            calls += 1;
            Err::<(), _>(S3Error::Broken("x".into()))
        }));
        assert_eq!((calls, result), (3, Err(S3Error::Broken("x".into()))));
    }

    #[test]
    fn lasting_errors_are_not_tried_again() {
        let mut calls = 0;
        let result = run(Retry { retries: 5 }.run(async || {
            calls += 1;
            Err::<(), _>(S3Error::Malformed("x".into()))
        }));
        assert_eq!((calls, result.is_err()), (1, true));
    }
}
