//! Looking around and cleaning up: `ls`, `stat`, `cat`, `du`, `rm`.

pub mod cat;
pub mod du;
pub mod ls;
pub mod rm;
pub mod stat;

use crate::failure::Failure;
use crate::s3::client::Client;
use crate::s3::endpoint::{Endpoint, EndpointFlags, process_variables};
use crate::s3::retry::Retry;
use crate::transfer::place::Remote;

/// The client the flags mean.
fn client(flags: &EndpointFlags) -> Result<Client, Failure> {
    Ok(Client::new(Endpoint::find(flags, &process_variables)?, Retry { retries: flags.retries }))
}

/// A place in the cell, from the command line.
fn remote(text: &str) -> Result<Remote, Failure> {
    text.parse().map_err(|error: crate::transfer::place::NotAPlace| Failure::usage(error.to_string(), ""))
}

/// Fails early, without retries, when nobody answers or the bucket is not there.
async fn require_bucket(client: &Client, bucket: &str) -> Result<(), Failure> {
    match client.bucket_exists(bucket).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::failed(format!("there is no bucket {bucket}"), "list the buckets with `shingle ls`")),
        Err(error) => Err(error.into_failure(&format!("bucket {bucket}"))),
    }
}

/// `2026-11-22T01:02:03.000Z` as people write it: `2026-11-22 01:02:03` (UTC).
fn short_time(timestamp: &str) -> String {
    match timestamp.get(..19) {
        Some(short) => short.replace('T', " "),
        None => format!("{timestamp:19}"),
    }
}
