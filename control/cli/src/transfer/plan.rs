//! Turns the places on a command line into single copies, before anything moves.

use std::collections::{HashMap, VecDeque};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::s3::client::Client;
use crate::transfer::place::{Place, Remote, check_key};

/// One copy to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    Upload { source: PathBuf, target: Remote, bytes: u64 },
    UploadStream { target: Remote },
    Download { source: Remote, target: PathBuf, bytes: u64 },
    DownloadStream { source: Remote },
    Copy { source: Remote, target: Remote, bytes: u64 },
}

impl Job {
    /// Bytes it will move, where known before.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Upload { bytes, .. } | Self::Download { bytes, .. } | Self::Copy { bytes, .. } => Some(*bytes),
            Self::UploadStream { .. } | Self::DownloadStream { .. } => None,
        }
    }

    /// Source and target, for messages.
    pub fn ends(&self) -> (String, String) {
        match self {
            Self::Upload { source, target, .. } => (source.display().to_string(), target.to_string()),
            Self::UploadStream { target } => ("-".into(), target.to_string()),
            Self::Download { source, target, .. } => (source.to_string(), target.display().to_string()),
            Self::DownloadStream { source } => (source.to_string(), "-".into()),
            Self::Copy { source, target, .. } => (source.to_string(), target.to_string()),
        }
    }
}

/// Everything that a command will copy, and what it leaves out.
#[derive(Debug, Default)]
pub struct Plan {
    pub jobs: Vec<Job>,
    /// Path or key of what `cp` does not copy, and why.
    pub skipped: Vec<(String, String)>,
    /// Path or key of what should be copied and cannot be, and why: the command fails, whatever else succeeds.
    pub refused: Vec<(String, String)>,
}

/// The choices that shape a plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    pub recursive: bool,
    /// Store what symbolic links point at; otherwise they are left out with a note.
    pub follow_links: bool,
}

impl Plan {
    /// Plans the copy of every source to one target. Several sources need a folder as target.
    pub async fn make(client: &Client, sources: &[Place], target: &Place, shape: Shape) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let several = sources.len() > 1;
        for source in sources {
            match (source, target) {
                (Place::Local(source), Place::Remote(target)) => plan.upload(source, target, several, shape)?,
                (Place::Stream, Place::Remote(target)) if !target.is_folder() => {
                    plan.jobs.push(Job::UploadStream { target: target.clone() });
                }
                (Place::Stream, Place::Remote(target)) => {
                    return Err(Failure::usage(
                        format!("{target} names no object for standard input"),
                        "write the whole key: cp - sh://BUCKET/KEY",
                    ));
                }
                (Place::Remote(source), Place::Local(target)) => {
                    plan.download(client, source, target, several, shape).await?;
                }
                (Place::Remote(source), Place::Stream) => {
                    single(client, source).await?;
                    plan.jobs.push(Job::DownloadStream { source: source.clone() });
                }
                (Place::Remote(source), Place::Remote(target)) => {
                    plan.copy(client, source, target, several, shape).await?;
                }
                // Refused where the command line is read.
                (Place::Local(_) | Place::Stream, Place::Local(_) | Place::Stream) => {}
            }
        }
        plan.refuse_collisions()?;
        Ok(plan)
    }

    /// One source must not overwrite what another has just become.
    fn refuse_collisions(&self) -> Result<(), Failure> {
        let mut sources = HashMap::new();
        for job in &self.jobs {
            let (source, target) = job.ends();
            if let Some(other) = sources.get(&target) {
                return Err(Failure::usage(
                    format!("{other} and {source} would both become {target}"),
                    "nothing was copied; copy them one after the other, to different targets",
                ));
            }
            sources.insert(target, source);
        }
        Ok(())
    }

    fn upload(&mut self, source: &Path, target: &Remote, several: bool, shape: Shape) -> Result<(), Failure> {
        let metadata = std::fs::metadata(source).map_err(Failure::io(source.display().to_string()))?;
        if metadata.is_dir() {
            if !shape.recursive {
                return Err(Failure::usage(format!("{} is a directory", source.display()), "copy it with -r"));
            }
            return self.upload_tree(source, target, several, shape);
        }
        let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let key = if target.is_folder() || several {
            format!("{}{name}", target.folder_prefix())
        } else {
            target.key.clone()
        };
        self.upload_file(source, &metadata, target.with_key(key));
        Ok(())
    }

    /// The contents of a directory go below the target; with several sources below the directory's own name there.
    fn upload_tree(&mut self, root: &Path, target: &Remote, several: bool, shape: Shape) -> Result<(), Failure> {
        let mut prefix = target.folder_prefix();
        if several && let Some(name) = root.file_name() {
            prefix = format!("{prefix}{}/", name.to_string_lossy());
        }
        let mut folders = VecDeque::from([(root.to_path_buf(), prefix)]);
        while let Some((folder, prefix)) = folders.pop_front() {
            let entries = std::fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let mut entries = match entries {
                Ok(entries) => entries,
                Err(error) if folder == root => return Err(Failure::io(folder.display().to_string())(error)),
                Err(error) => {
                    self.refuse(&folder, &error.to_string());
                    continue;
                }
            };
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let path = entry.path();
                let Ok(name) = entry.file_name().into_string() else {
                    self.refuse(&path, "its name is not UTF-8");
                    continue;
                };
                let key = format!("{prefix}{name}");
                let metadata = if shape.follow_links { std::fs::metadata(&path) } else { path.symlink_metadata() };
                match metadata {
                    Err(error) => self.refuse(&path, &error.to_string()),
                    // Following links into a tree that holds the link would never end: only links to files are followed.
                    Ok(metadata) if metadata.is_dir() && path.is_symlink() => self.skip(&path, "a link to a directory"),
                    Ok(metadata) if metadata.is_dir() => folders.push_back((path, format!("{key}/"))),
                    Ok(metadata) if metadata.is_symlink() => self.skip(&path, "a symbolic link (see --follow-links)"),
                    Ok(metadata) => self.upload_file(&path, &metadata, target.with_key(key)),
                }
            }
        }
        Ok(())
    }

    fn upload_file(&mut self, source: &Path, metadata: &Metadata, target: Remote) {
        if !metadata.is_file() {
            return self.skip(source, "no regular file");
        }
        match check_key(&target.key) {
            Ok(()) => self.jobs.push(Job::Upload { source: source.into(), target, bytes: metadata.len() }),
            Err(error) => self.refuse(source, &error.to_string()),
        }
    }

    fn refuse(&mut self, path: &Path, why: &str) {
        self.refused.push((path.display().to_string(), why.into()));
    }

    fn skip(&mut self, path: &Path, why: &str) {
        self.skipped.push((path.display().to_string(), why.into()));
    }

    async fn download(
        &mut self,
        client: &Client,
        source: &Remote,
        target: &Path,
        several: bool,
        shape: Shape,
    ) -> Result<(), Failure> {
        let into_folder = several || target.is_dir() || target.as_os_str().to_string_lossy().ends_with('/');
        if !shape.recursive {
            let target = if into_folder { target.join(source.file_name()) } else { target.into() };
            let bytes = single(client, source).await?;
            self.jobs.push(Job::Download { source: source.clone(), target, bytes });
            return Ok(());
        }
        let target = if several { target.join(last_folder(source)) } else { target.into() };
        for (object, rest, bytes) in objects_below(client, source).await? {
            match local_path(&rest) {
                Some(path) => self.jobs.push(Job::Download { source: object, target: target.join(path), bytes }),
                None if bytes == 0 && (rest.is_empty() || rest.ends_with('/')) => {
                    self.skipped.push((object.to_string(), "a folder marker without content".into()));
                }
                None => self.refused.push((object.to_string(), "its key is no safe path below the target".into())),
            }
        }
        Ok(())
    }

    async fn copy(
        &mut self,
        client: &Client,
        source: &Remote,
        target: &Remote,
        several: bool,
        shape: Shape,
    ) -> Result<(), Failure> {
        if !shape.recursive {
            let into_folder = several || target.is_folder();
            let key = if into_folder {
                format!("{}{}", target.folder_prefix(), source.file_name())
            } else {
                target.key.clone()
            };
            let bytes = single(client, source).await?;
            self.jobs.push(Job::Copy { source: source.clone(), target: target.with_key(key), bytes });
            return Ok(());
        }
        let mut prefix = target.folder_prefix();
        if several {
            prefix = format!("{prefix}{}/", last_folder(source));
        }
        for (object, rest, bytes) in objects_below(client, source).await? {
            self.jobs.push(Job::Copy { source: object, target: target.with_key(format!("{prefix}{rest}")), bytes });
        }
        Ok(())
    }
}

/// The failure of a command that names an object that is not there.
pub fn absent(object: &Remote) -> Failure {
    Failure::failed(format!("there is no object {object}"), "look around with `shingle ls`")
}

/// The size of one object that was named alone.
async fn single(client: &Client, source: &Remote) -> Result<u64, Failure> {
    if source.is_folder() {
        return Err(Failure::usage(format!("{source} is a folder"), "copy it with -r"));
    }
    match client.head(source).await {
        Ok(head) => Ok(head.size_bytes),
        Err(error) if error.is_absent() => Err(absent(source)),
        Err(error) => Err(error.into_failure(&source.to_string())),
    }
}

/// The name several sources are told apart by: the folder's own, or the bucket's.
fn last_folder(source: &Remote) -> String {
    let name = source.key.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if name.is_empty() { source.bucket.clone() } else { name.into() }
}

/// Every object inside a folder, with what its key says behind the folder's prefix.
async fn objects_below(client: &Client, source: &Remote) -> Result<Vec<(Remote, String, u64)>, Failure> {
    let prefix = source.folder_prefix();
    let mut found = Vec::new();
    let listed = client
        .list_all(&source.with_key(prefix.clone()), async |page| {
            found.extend(page.into_iter().map(|entry| {
                let rest = entry.key.strip_prefix(&prefix).unwrap_or(&entry.key).to_string();
                (source.with_key(entry.key), rest, entry.size)
            }));
            Ok(())
        })
        .await;
    listed.map_err(|error| error.into_failure(&source.to_string()))?;
    if found.is_empty() {
        return Err(Failure::failed(format!("nothing is stored below {source}"), "look around with `shingle ls`"));
    }
    Ok(found)
}

/// A key as a relative path that stays below the directory it is joined to.
fn local_path(rest: &str) -> Option<PathBuf> {
    let unsafe_segment =
        |segment: &str| segment.is_empty() || segment == "." || segment == ".." || segment.contains('\0');
    if rest.split('/').any(unsafe_segment) { None } else { Some(PathBuf::from(rest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("a.txt"), "a").unwrap();
        std::fs::write(dir.path().join("sub/b.txt"), "bb").unwrap();
        std::os::unix::fs::symlink("a.txt", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(".", dir.path().join("loop")).unwrap();
        dir
    }

    fn keys(plan: &Plan) -> Vec<String> {
        plan.jobs.iter().map(|job| job.ends().1).collect()
    }

    #[test]
    fn a_directory_lands_below_the_target_without_its_links() {
        let dir = tree();
        let mut plan = Plan::default();
        let shape = Shape { recursive: true, follow_links: false };
        plan.upload(dir.path(), &"sh://bucket/pre".parse().unwrap(), false, shape).unwrap();
        assert_eq!(keys(&plan), ["sh://bucket/pre/a.txt", "sh://bucket/pre/sub/b.txt"]);
        assert_eq!(plan.skipped.len(), 2);
    }

    #[test]
    fn followed_links_store_files_but_never_loop() {
        let dir = tree();
        let mut plan = Plan::default();
        let shape = Shape { recursive: true, follow_links: true };
        plan.upload(dir.path(), &"sh://bucket".parse().unwrap(), false, shape).unwrap();
        assert_eq!(keys(&plan), ["sh://bucket/a.txt", "sh://bucket/link", "sh://bucket/sub/b.txt"]);
        assert_eq!(plan.skipped.len(), 1);
    }

    #[test]
    fn a_file_keeps_its_name_in_a_folder_and_takes_a_key_otherwise() {
        let dir = tree();
        let file = dir.path().join("a.txt");
        for (target, several, expected) in [
            ("sh://bucket/x/", false, "x/a.txt"),
            ("sh://bucket/x", false, "x"),
            ("sh://bucket/x", true, "x/a.txt"),
            ("sh://bucket", false, "a.txt"),
        ] {
            let mut plan = Plan::default();
            plan.upload(&file, &target.parse().unwrap(), several, Shape::default()).unwrap();
            assert_eq!(keys(&plan), [format!("sh://bucket/{expected}")]);
        }
        let failure = Plan::default().upload(dir.path(), &"sh://bucket".parse().unwrap(), false, Shape::default());
        assert!(matches!(failure, Err(Failure::Usage { .. })));
    }

    #[test]
    fn what_cannot_be_stored_is_no_mere_remark() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tree();
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"not utf-8 \xff")), "x").unwrap();
        let mut plan = Plan::default();
        let target = format!("sh://bucket/{}", "k".repeat(1017));
        let shape = Shape { recursive: true, follow_links: false };
        plan.upload(dir.path(), &target.parse().unwrap(), false, shape).unwrap();
        let refused: Vec<_> = plan.refused.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(refused, ["its name is not UTF-8", "a key of 1027 bytes is too long: 1024 is the limit"]);
        assert_eq!((plan.jobs.len(), plan.skipped.len()), (1, 2));
    }

    #[test]
    fn two_sources_never_become_one_object() {
        let (one, other) = (tree(), tree());
        let mut plan = Plan::default();
        let shape = Shape { recursive: true, follow_links: false };
        for dir in [&one, &other] {
            plan.upload(&dir.path().join("sub"), &"sh://bucket/p".parse().unwrap(), true, shape).unwrap();
        }
        let failure = plan.refuse_collisions().unwrap_err();
        assert!(failure.to_string().ends_with("would both become sh://bucket/p/sub/b.txt"), "{failure}");
        plan.jobs.pop();
        plan.refuse_collisions().unwrap();
    }

    #[test]
    fn keys_never_lead_out_of_the_target_directory() {
        assert_eq!(local_path("a/b"), Some("a/b".into()));
        for key in ["", "/etc/passwd", "a//b", "../x", "a/../../x", "a/./b", "dir/", "nul\0"] {
            assert_eq!(local_path(key), None, "{key:?}");
        }
    }
}
