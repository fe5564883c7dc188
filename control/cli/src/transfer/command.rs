//! `shingle cp`.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::{StreamExt, stream};

use crate::failure::Failure;
use crate::s3::client::Client;
use crate::s3::endpoint::{Endpoint, EndpointFlags, process_variables};
use crate::s3::error::S3Error;
use crate::s3::retry::Retry;
use crate::transfer::attributes::Attributes;
use crate::transfer::download;
use crate::transfer::multipart::{Lanes, OpenUploads, PART_BYTES};
use crate::transfer::place::{Place, Remote};
use crate::transfer::plan::{Job, Plan, Shape};
use crate::transfer::progress::{FileDone, Progress, Voice};
use crate::transfer::slots::Slots;
use crate::transfer::upload::{self, Span, object_headers};

pub const EXAMPLES: &str = "\
Examples:
  shingle cp photo.jpg sh://photos/2026/            store one file
  shingle cp -r ~/src sh://backup/src               store a directory's contents
  shingle cp -r sh://backup/src ./restored          fetch them again
  shingle cp sh://photos/a.jpg sh://photos/b.jpg    copy inside the cell: no byte moves
  tar c . | shingle cp - sh://backup/all.tar        store standard input
  shingle cp -r --json ~/src sh://backup | jq .     one JSON line per file and a summary

Every file is compared with the ETag, which is computed from its bytes on this side too; a fetched
file gets its name only after that. Modification time and mode travel along. Symbolic links and
empty directories are not stored; skipped files are counted, and shown with -v.";

/// Copy files into, out of, or inside the cell
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CpArgs {
    /// What to copy, and last where to: sh://BUCKET/KEY, a path, or - for a standard stream
    #[arg(required = true, num_args = 2.., value_name = "PLACE")]
    pub places: Vec<String>,
    /// Copy directories and everything below a key
    #[arg(short, long)]
    pub recursive: bool,
    /// Small files moving at once; one above 1 MiB, or a part of a large one, counts as eight
    #[arg(short, long, value_name = "N", default_value_t = 64)]
    pub jobs: u16,
    /// Fail when the target's bucket is not there; otherwise it is created
    #[arg(long)]
    pub no_create: bool,
    /// Store the files that symbolic links point at instead of skipping the links
    #[arg(long)]
    pub follow_links: bool,
    /// Do not keep modification time and mode
    #[arg(long)]
    pub no_preserve: bool,
    /// Accept fetched content that does not match its ETag
    #[arg(long)]
    pub no_check: bool,
    /// Show what would be copied, and copy nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One line per file
    #[arg(short, long)]
    pub verbose: bool,
    /// No progress bar and no summary
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// One JSON line per file and one summary, on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub endpoint: EndpointFlags,
}

impl CpArgs {
    fn voice(&self) -> Voice {
        match (self.json, self.quiet, self.verbose) {
            (true, ..) => Voice::Json,
            (_, true, _) => Voice::Quiet,
            (.., true) => Voice::Verbose,
            _ => Voice::People,
        }
    }

    fn parsed(&self) -> Result<(Vec<Place>, Place), Failure> {
        let parse = |text: &String| text.parse::<Place>().map_err(|error| Failure::usage(error.to_string(), ""));
        let mut places = self.places.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let target = places.pop().ok_or_else(|| Failure::usage("no target", "shingle cp SOURCE TARGET"))?;
        if self.json && target == Place::Stream {
            return Err(Failure::usage("--json and a copy to standard output would mix", "leave one of them out"));
        }
        let in_cell = |place: &Place| matches!(place, Place::Remote(_));
        if let Some(source) = places.iter().find(|source| !in_cell(source) && !in_cell(&target)) {
            return Err(Failure::usage(
                format!("neither {source} nor {target} is in the cell"),
                "one of them must be like sh://BUCKET/KEY",
            ));
        }
        Ok((places, target))
    }
}

/// Runs the command.
pub async fn run(args: CpArgs) -> Result<(), Failure> {
    let (sources, target) = args.parsed()?;
    let endpoint = Endpoint::find(&args.endpoint, &process_variables)?;
    let client = Client::new(endpoint, Retry { retries: args.endpoint.retries });
    let new_bucket = check_buckets(&client, &sources, &target, args.no_create).await?;
    let shape = Shape { recursive: args.recursive, follow_links: args.follow_links };
    let plan = Plan::make(&client, &sources, &target, shape).await?;
    if args.dry_run {
        return show(&plan);
    }
    // Not before the sources have been looked at: a mistake there leaves nothing behind.
    if let Some(bucket) = new_bucket {
        create_bucket(&client, &bucket, &args).await?;
    }
    let total = plan.jobs.iter().map(Job::bytes).sum::<Option<u64>>();
    let progress = Progress::new(args.voice(), total, plan.jobs.len() as u64);
    for (what, why) in &plan.refused {
        progress.refuse(what, why)?;
    }
    for (what, why) in &plan.skipped {
        progress.skip(what, why)?;
    }
    Copies { args: &args, client: &client, progress, open: OpenUploads::default() }.run(plan.jobs).await
}

/// The first thing asked of the endpoint: whether it answers, knows us, and has the buckets. The target's, if it is to be
/// created.
async fn check_buckets(
    client: &Client,
    sources: &[Place],
    target: &Place,
    no_create: bool,
) -> Result<Option<String>, Failure> {
    let remotes = sources.iter().chain([target]).filter_map(|place| match place {
        Place::Remote(remote) => Some(remote),
        _ => None,
    });
    let buckets: BTreeSet<&String> = remotes.map(|remote| &remote.bucket).collect();
    let mut absent = None;
    for bucket in buckets {
        let exists = client.bucket_exists(bucket).await;
        if exists.map_err(|error| error.into_failure(&format!("bucket {bucket}")))? {
            continue;
        }
        let is = |place: &Place| matches!(place, Place::Remote(remote) if remote.bucket == *bucket);
        if no_create || sources.iter().any(is) {
            let advice = "list the buckets with `shingle ls`";
            return Err(Failure::failed(format!("there is no bucket {bucket}"), advice));
        }
        absent = Some(bucket.clone());
    }
    Ok(absent)
}

async fn create_bucket(client: &Client, bucket: &str, args: &CpArgs) -> Result<(), Failure> {
    let created = client.create_bucket(bucket).await;
    created.map_err(|error| error.into_failure(&format!("cannot create bucket {bucket}")))?;
    if !args.quiet && !args.json {
        crate::output::remark(format_args!("created bucket {bucket}"));
    }
    Ok(())
}

fn show(plan: &Plan) -> Result<(), Failure> {
    for job in &plan.jobs {
        let (source, target) = job.ends();
        crate::output::line(format!("would copy {source} -> {target}"))?;
    }
    for (what, why) in &plan.skipped {
        crate::output::line(format!("would skip {what}: {why}"))?;
    }
    for (what, why) in &plan.refused {
        crate::output::line(format!("would fail on {what}: {why}"))?;
    }
    Ok(())
}

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);

/// All copies of one command.
struct Copies<'a> {
    args: &'a CpArgs,
    client: &'a Client,
    progress: Progress,
    open: OpenUploads,
}

impl Copies<'_> {
    async fn run(self, jobs: Vec<Job>) -> Result<(), Failure> {
        let files = jobs.len() as u64;
        let width = usize::from(self.args.jobs.max(1));
        let slots = Slots::new(self.args.jobs);
        let lanes =
            Lanes { client: self.client, moved: &self.progress.moved, open: &self.open, slots: &slots, jobs: width };
        let ended = Cell::new(Ok(()));
        let work = async {
            let mut copies = stream::iter(jobs).map(|job| self.one(&lanes, job)).buffer_unordered(width);
            while let Some(done) = copies.next().await {
                self.progress.done(done)?;
            }
            Ok(())
        };
        let ticks = async {
            loop {
                tokio::time::sleep(TICK).await;
                self.progress.tick(files);
            }
        };
        tokio::select! {
            result = work => ended.set(result),
            () = ticks => {}
            _ = tokio::signal::ctrl_c() => ended.set(Err(Failure::Interrupted)),
        }
        if let Err(failure) = ended.into_inner() {
            self.open.abort_all(self.client).await;
            return Err(failure);
        }
        self.progress.finish()
    }

    async fn one(&self, lanes: &Lanes<'_>, job: Job) -> FileDone {
        let start = Instant::now();
        let (source, target) = job.ends();
        let outcome = self.moved(lanes, job).await;
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(done) => FileDone {
                status: "ok",
                source,
                target,
                bytes: done.bytes,
                etag: Some(done.etag),
                checked: done.checked,
                seconds,
                error: None,
            },
            Err(error) => FileDone {
                status: "failed",
                source,
                target,
                bytes: 0,
                etag: None,
                checked: false,
                seconds,
                error: Some(error.to_string()),
            },
        }
    }

    async fn moved(&self, lanes: &Lanes<'_>, job: Job) -> Result<download::Fetched, S3Error> {
        let (keep, check) = (!self.args.no_preserve, !self.args.no_check);
        match job {
            Job::Upload { source, target, .. } => self.upload(lanes, source, &target).await,
            Job::UploadStream { target } => {
                let headers = object_headers(target.file_name().as_ref(), None);
                let (etag, bytes) = lanes.upload_stream(io::stdin(), &target, headers).await?;
                Ok(download::Fetched { bytes, etag, checked: true })
            }
            Job::Download { source, target, bytes } => {
                let _slots = lanes.slots.take(bytes).await;
                download::to_file(self.client, &source, &target, keep, check, lanes.moved).await
            }
            Job::DownloadStream { source } => {
                download::to_stream(self.client, &source, io::stdout(), check, lanes.moved).await
            }
            Job::Copy { source, target, bytes } => {
                let expected = self.client.head(&source).await?.etag;
                let etag = self.client.copy(&source, &target).await?;
                if etag != expected {
                    return Err(S3Error::WrongContent { reported: etag, computed: expected });
                }
                lanes.moved.add(bytes);
                Ok(download::Fetched { bytes, etag, checked: true })
            }
        }
    }

    async fn upload(
        &self,
        lanes: &Lanes<'_>,
        source: std::path::PathBuf,
        target: &Remote,
    ) -> Result<download::Fetched, S3Error> {
        let metadata =
            std::fs::metadata(&source).map_err(|error| S3Error::Local(format!("{}: {error}", source.display())))?;
        let kept = (!self.args.no_preserve).then(|| Attributes::of(&metadata));
        let headers = object_headers(&source, kept);
        let bytes = metadata.len();
        let span = Span { path: source, offset_bytes: 0, length_bytes: bytes };
        let etag = if bytes > PART_BYTES {
            lanes.upload_file(&span, target, headers).await?
        } else {
            let _slots = lanes.slots.take(bytes).await;
            upload::put(self.client, &span, target, headers, lanes.moved).await?
        };
        Ok(download::Fetched { bytes, etag, checked: true })
    }
}
