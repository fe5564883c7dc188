//! `shingle cat`.

use std::io;

use clap::Args;

use crate::browse::{client, remote, require_bucket};
use crate::failure::Failure;
use crate::s3::endpoint::EndpointFlags;
use crate::transfer::download;
use crate::transfer::plan::absent;
use crate::transfer::progress::Moved;

pub const EXAMPLES: &str = "\
Examples:
  shingle cat sh://logs/today.txt | grep error
  shingle cat sh://backup/all.tar | tar t

The exit code is 1 when the bytes that were written do not match the object's ETag.";

/// Write objects to standard output
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CatArgs {
    /// sh://BUCKET/KEY
    #[arg(required = true)]
    pub places: Vec<String>,
    #[command(flatten)]
    pub endpoint: EndpointFlags,
}

/// Runs the command.
pub async fn run(args: CatArgs) -> Result<(), Failure> {
    let places = args.places.iter().map(|text| remote(text)).collect::<Result<Vec<_>, _>>()?;
    let client = client(&args.endpoint)?;
    for place in &places {
        if place.key.is_empty() {
            return Err(Failure::usage(format!("{place} is a bucket"), "`shingle ls` shows what is in it"));
        }
        require_bucket(&client, &place.bucket).await?;
        let fetched = download::to_stream(&client, place, io::stdout(), true, &Moved::default()).await;
        let fetched = fetched.map_err(|error| {
            if error.to_string().contains("Broken pipe") {
                Failure::OutputClosed
            } else if error.is_absent() {
                absent(place)
            } else {
                error.into_failure(&place.to_string())
            }
        })?;
        if !fetched.checked {
            eprintln!("note: {place} was stored in parts that are not whole blocks; its ETag was not checked here");
        }
    }
    Ok(())
}
