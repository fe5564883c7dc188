//! Reading the file and laying flags over it. An unknown key is refused by name, with the nearest one that exists.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Table;

use crate::config::sections::{Section, known};
use crate::failure::Failure;

/// The environment variable that names the file when `--config` does not.
pub const CONFIG_VARIABLE: &str = "SHINGLE_CONFIG";

/// A checked file: every section and key in it exists.
#[derive(Debug, Default)]
pub struct ConfigFile {
    path: Option<PathBuf>,
    sections: Table,
}

impl ConfigFile {
    /// Reads the file that `--config` or the environment names; without one everything is at its default.
    pub fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let from_environment = || std::env::var_os(CONFIG_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let Some(path) = named.map(Path::to_path_buf).or_else(from_environment) else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::unfit(
                format!("cannot read the configuration {}: {error}", path.display()),
                "`shingle config > FILE` writes a documented one",
            )
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: PathBuf) -> Result<Self, Failure> {
        let sections: Table = text.parse().map_err(|error: toml::de::Error| {
            Failure::unfit(format!("{}: {}", path.display(), error.to_string().trim_end()), "")
        })?;
        check(&sections, &path)?;
        Ok(Self { path: Some(path), sections })
    }

    /// One section with flags laid over it, as the process's own configuration.
    pub fn overlay<S: Section, T: DeserializeOwned>(&self, flags: &S) -> Result<T, Failure> {
        let mut table = match self.sections.get(S::NAME) {
            Some(toml::Value::Table(table)) => table.clone(),
            _ => Table::new(),
        };
        let internal = |error: toml::ser::Error| Failure::usage(format!("[{}]: {error}", S::NAME), "");
        table.extend(Table::try_from(flags).map_err(internal)?);
        let source = self.path.as_ref().map_or_else(|| "the flags".into(), |path| path.display().to_string());
        T::deserialize(table).map_err(|error| {
            Failure::unfit(
                format!("{source}, section [{}]: {}", S::NAME, error.to_string().trim_end()),
                "`shingle config` shows every key with an example",
            )
        })
    }
}

/// Refuses sections and keys that do not exist.
fn check(sections: &Table, path: &Path) -> Result<(), Failure> {
    let known = known();
    for (name, value) in sections {
        let Some((_, keys)) = known.iter().find(|(section, _)| section == name) else {
            return Err(unknown(path, &format!("section [{name}]"), name, known.iter().map(|(section, _)| *section)));
        };
        let toml::Value::Table(table) = value else {
            let what = format!("{}: {name} must be a section, written [{name}]", path.display());
            return Err(Failure::unfit(what, ""));
        };
        if let Some(key) = table.keys().find(|key| !keys.contains(key)) {
            let what = format!("key {key:?} in section [{name}]");
            return Err(unknown(path, &what, key, keys.iter().map(String::as_str)));
        }
    }
    Ok(())
}

fn unknown<'a>(path: &Path, what: &str, name: &str, candidates: impl Iterator<Item = &'a str>) -> Failure {
    let near = candidates.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let near = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.7);
    let advice = match near {
        Some((_, candidate)) => format!("did you mean {candidate:?}? `shingle config` shows every key"),
        None => "`shingle config` shows every key".into(),
    };
    Failure::unfit(format!("{}: unknown {what}", path.display()), advice)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use shingle_gateway::config::GatewayConfig;

    use super::*;
    use crate::config::sections::{GatewaySection, UpSection};
    use crate::units::ByteSize;

    fn parse(text: &str) -> Result<ConfigFile, Failure> {
        ConfigFile::parse(text, "shingle.toml".into())
    }

    #[test]
    fn a_misspelt_key_is_refused_with_the_nearest_one() {
        let failure = parse("[gateway]\nbudget-mb = 3").unwrap_err();
        assert!(
            failure.to_string().contains("\"budget-mb\"") && failure.to_string().contains("[gateway]"),
            "{failure}"
        );
        assert!(failure.advice().contains("\"budget-mib\""), "{}", failure.advice());
        let failure = parse("[gatway]").unwrap_err();
        assert!(failure.advice().contains("\"gateway\""), "{}", failure.advice());
        let failure = parse("[up]\nqqq = 1").unwrap_err();
        assert!(!failure.advice().contains("mean"), "{}", failure.advice());
        assert_eq!(failure.exit_code(), 3);
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = parse("[gateway]\nregion = 'file'\nbudget-mib = 77").unwrap();
        let flags = GatewaySection { region: Some("flag".into()), ..Default::default() };
        let config: GatewayConfig = file.overlay(&flags).unwrap();
        assert_eq!((config.region.as_str(), config.budget_mib), ("flag", 77));
        assert_eq!(config.key_file, GatewayConfig::default().key_file);
    }

    #[test]
    fn values_of_the_wrong_kind_say_where() {
        let file = parse("[up]\nhosts = 'many'").unwrap();
        let failure = file.overlay::<_, UpSection>(&UpSection::default()).unwrap_err();
        assert!(failure.to_string().contains("shingle.toml, section [up]"), "{failure}");
        assert!(parse("up = 3").is_err());
        assert!(parse("[up\n").is_err());
        #[derive(Deserialize, Debug)]
        struct Size {
            #[serde(rename = "disk-size")]
            disk_size: ByteSize,
        }
        let size: Size = parse("[up]\ndisk-size = '4GiB'").unwrap().overlay(&UpSection::default()).unwrap();
        assert_eq!(size.disk_size, ByteSize(4 << 30));
    }
}
