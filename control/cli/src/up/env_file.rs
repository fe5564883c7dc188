//! `DIR/env`: what any S3 client needs, as shell assignments to be sourced. Mode 0600: it holds the secret key.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The region a cell says it is in.
pub const REGION: &str = "us-east-1";

/// The contents of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvFile {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub region: String,
    /// The cell's directory, so that `shingle status` and `shingle up` mean this cell too.
    pub dir: PathBuf,
}

impl EnvFile {
    /// The text. Only the directory may need quoting.
    fn text(&self) -> String {
        let dir = self.dir.display().to_string().replace('\'', "'\\''");
        let Self { endpoint, access_key, secret_key, region, .. } = self;
        format!(
            "# Written by `shingle up` at every start. Use it: source this file, then run any S3 client.\n\
             export AWS_ENDPOINT_URL={endpoint}\n\
             export AWS_ACCESS_KEY_ID={access_key}\n\
             export AWS_SECRET_ACCESS_KEY={secret_key}\n\
             export AWS_REGION={region}\n\
             export AWS_DEFAULT_REGION={region}\n\
             export SHINGLE_DIR='{dir}'\n\
             # s5cmd's own name of the endpoint.\n\
             export S3_ENDPOINT_URL={endpoint}\n\
             # For rclone the cell is the remote shingle:\n\
             export RCLONE_CONFIG_SHINGLE_TYPE=s3\n\
             export RCLONE_CONFIG_SHINGLE_PROVIDER=Other\n\
             export RCLONE_CONFIG_SHINGLE_ENV_AUTH=true\n\
             export RCLONE_CONFIG_SHINGLE_REGION={region}\n\
             export RCLONE_CONFIG_SHINGLE_ENDPOINT={endpoint}\n"
        )
    }

    /// Writes the file, readable by its owner only.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        write_private(path, self.text().as_bytes())
    }

    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::Unreachable {
            what: format!("no cell is known: {}: {error}", path.display()),
            advice: "start one with `shingle up`, name its directory with --dir, or set AWS_ENDPOINT_URL and keys"
                .into(),
        })?;
        let value = |name: &str| {
            let assignment = format!("export {name}=");
            text.lines().find_map(|line| line.strip_prefix(&assignment)).map(str::to_string).ok_or_else(|| {
                Failure::unfit(format!("{} does not set {name}", path.display()), "`shingle up` writes it anew")
            })
        };
        Ok(Self {
            endpoint: value("AWS_ENDPOINT_URL")?,
            access_key: value("AWS_ACCESS_KEY_ID")?,
            secret_key: value("AWS_SECRET_ACCESS_KEY")?,
            region: value("AWS_REGION")?,
            dir: path.parent().unwrap_or(Path::new("")).into(),
        })
    }
}

/// Replaces a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let failed = || Failure::io(format!("cannot write {}", path.display()));
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&name).map_err(failed())?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed())?;
    std::fs::rename(&name, path).map_err(failed())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn example(dir: &Path) -> EnvFile {
        EnvFile {
            endpoint: "http://127.0.0.1:7000".into(),
            access_key: "SHINGLE0123456789".into(),
            secret_key: "abcDEF0123".into(),
            region: REGION.into(),
            dir: dir.into(),
        }
    }

    #[test]
    fn env_file_reads_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        example(dir.path()).write(&path).unwrap();
        assert!(EnvFile::load(&path).unwrap() == example(dir.path()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_shell_that_sources_it_exports_the_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        example(Path::new("/it's/a dir")).write(&path).unwrap();
        let script = format!(
            ". {} && sh -c 'echo $S3_ENDPOINT_URL $RCLONE_CONFIG_SHINGLE_ENDPOINT $AWS_SECRET_ACCESS_KEY $SHINGLE_DIR'",
            path.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let endpoint = "http://127.0.0.1:7000";
        let expected = format!("{endpoint} {endpoint} abcDEF0123 /it's/a dir\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }

    #[test]
    fn a_file_without_a_key_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "export AWS_ENDPOINT_URL=x\n").unwrap();
        let failure = EnvFile::load(&path).err().unwrap();
        assert!(failure.to_string().contains("AWS_ACCESS_KEY_ID"), "{failure}");
    }
}
