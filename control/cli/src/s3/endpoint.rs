//! Which S3 endpoint to talk to, and with which keys.
//!
//! In this order: flags; the AWS_* environment, when it names an endpoint; the `env` file of a cell's directory. An
//! environment with keys but without an endpoint is for somebody else's S3 and is left alone.

use std::path::{Path, PathBuf};

use clap::Args;
use url::Url;

use crate::failure::Failure;
use crate::up::env_file::{self, EnvFile};

/// Flags of every command that talks S3.
#[derive(Args, Clone, Debug, Default)]
pub struct EndpointFlags {
    /// The cell's directory, as given to `shingle up` [default: SHINGLE_DIR, then $XDG_DATA_HOME/shingle]
    #[arg(long, value_name = "DIR", help_heading = "Endpoint")]
    pub dir: Option<PathBuf>,
    /// S3 endpoint [default: AWS_ENDPOINT_URL, then DIR/env]
    #[arg(long, value_name = "URL", help_heading = "Endpoint")]
    pub endpoint: Option<Url>,
    /// How often a request is tried again after an error that passes
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Endpoint")]
    pub retries: u32,
}

/// An endpoint and the keys for it.
#[derive(Clone)]
pub struct Endpoint {
    pub url: Url,
    pub access_key: String,
    pub secret_key: String,
    pub region: String,
    /// Where the keys came from, for error messages.
    pub source: String,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({} from {})", self.url, self.source)
    }
}

/// Looks up an environment variable; a seam for tests.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment, empty values taken as absent.
pub fn process_variables(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Names the cell's directory; set by DIR/env, so that every command finds the cell whose file was sourced.
pub const DIR_VARIABLE: &str = "SHINGLE_DIR";

/// Where a cell lives unless `--dir` says otherwise.
pub fn default_dir(variables: Variables<'_>) -> PathBuf {
    if let Some(dir) = variables(DIR_VARIABLE) {
        return PathBuf::from(dir);
    }
    let data = variables("XDG_DATA_HOME").map(PathBuf::from);
    let home = || variables("HOME").map(|home| Path::new(&home).join(".local/share"));
    data.or_else(home).map_or_else(|| PathBuf::from("shingle-cell"), |data| data.join("shingle"))
}

impl Endpoint {
    /// Finds the endpoint the flags mean.
    pub fn find(flags: &EndpointFlags, variables: Variables<'_>) -> Result<Self, Failure> {
        let named = variables("AWS_ENDPOINT_URL_S3").or_else(|| variables("AWS_ENDPOINT_URL"));
        let found = match (&flags.dir, named) {
            (None, Some(url)) => Self::from_variables(&url, variables)?,
            (None, None) if flags.endpoint.is_some() && variables("AWS_ACCESS_KEY_ID").is_some() => {
                Self::from_variables("http://127.0.0.1", variables)?
            }
            (dir, _) => Self::from_dir(&dir.clone().unwrap_or_else(|| default_dir(variables)))?,
        };
        let url = flags.endpoint.clone().unwrap_or_else(|| found.url.clone());
        if url.scheme() != "http" || url.host_str().is_none() {
            return Err(Failure::usage(
                format!("{url} is not an endpoint this client can use"),
                "write http://HOST:PORT; transport encryption comes later",
            ));
        }
        Ok(Self { url, ..found })
    }

    fn from_variables(url: &str, variables: Variables<'_>) -> Result<Self, Failure> {
        let required = |name: &str| {
            variables(name).ok_or_else(|| {
                Failure::usage(format!("{name} is not set"), "`source DIR/env` of the cell, or give --dir DIR")
            })
        };
        let parse = |_| Failure::usage(format!("{url:?} is no URL"), "AWS_ENDPOINT_URL is like http://127.0.0.1:7000");
        Ok(Self {
            url: url.parse().map_err(parse)?,
            access_key: required("AWS_ACCESS_KEY_ID")?,
            secret_key: required("AWS_SECRET_ACCESS_KEY")?,
            region: variables("AWS_REGION")
                .or_else(|| variables("AWS_DEFAULT_REGION"))
                .unwrap_or_else(|| env_file::REGION.into()),
            source: "the environment".into(),
        })
    }

    /// The endpoint of the cell in `dir`.
    pub fn from_dir(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join("env");
        let file = EnvFile::load(&path)?;
        let parse = |_| {
            Failure::unfit(format!("{}: {:?} is no URL", path.display(), file.endpoint), "`shingle up` writes it anew")
        };
        Ok(Self {
            url: file.endpoint.parse().map_err(parse)?,
            access_key: file.access_key,
            secret_key: file.secret_key,
            region: file.region,
            source: path.display().to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_string())
    }

    #[test]
    fn the_environment_is_used_when_it_names_an_endpoint() {
        let environment = variables(&[
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
        ]);
        let endpoint = Endpoint::find(&EndpointFlags::default(), &environment).unwrap();
        assert_eq!((endpoint.url.port(), endpoint.access_key.as_str()), (Some(1), "a"));
    }

    #[test]
    fn a_named_directory_beats_the_environment_and_a_flag_beats_both() {
        let dir = tempfile::tempdir().unwrap();
        let file = EnvFile {
            endpoint: "http://127.0.0.1:2".into(),
            access_key: "dir".into(),
            secret_key: "s".into(),
            region: "r".into(),
            dir: dir.path().into(),
        };
        file.write(&dir.path().join("env")).unwrap();
        let environment = variables(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ACCESS_KEY_ID", "a")]);
        let mut flags = EndpointFlags { dir: Some(dir.path().into()), ..EndpointFlags::default() };
        let endpoint = Endpoint::find(&flags, &environment).unwrap();
        assert_eq!((endpoint.url.port(), endpoint.access_key.as_str()), (Some(2), "dir"));
        flags.endpoint = Some("http://127.0.0.1:3".parse().unwrap());
        assert_eq!(Endpoint::find(&flags, &environment).unwrap().url.port(), Some(3));
    }

    #[test]
    fn keys_without_an_endpoint_are_for_another_service() {
        let environment = variables(&[("AWS_ACCESS_KEY_ID", "a"), ("XDG_DATA_HOME", "/nowhere")]);
        let failure = Endpoint::find(&EndpointFlags::default(), &environment).unwrap_err();
        assert!(failure.to_string().contains("/nowhere/shingle"), "{failure}");
        assert!(failure.advice().contains("shingle up"), "{}", failure.advice());
    }

    #[test]
    fn the_secret_is_never_printed() {
        let endpoint = Endpoint {
            url: "http://h".parse().unwrap(),
            access_key: "a".into(),
            secret_key: "hidden".into(),
            region: String::new(),
            source: "x".into(),
        };
        assert!(!format!("{endpoint:?}").contains("hidden"));
    }
}
