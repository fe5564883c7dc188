//! `shingle config`: the documented file, every key with its default or an example.

use crate::config::sections::{ControlSection, GatewaySection, HostSection, Section, UpSection};
use crate::failure::Failure;
use crate::output;

/// Prints the file.
pub fn run() -> Result<(), Failure> {
    output::line(default_file()?.trim_end())
}

/// The whole text: a valid configuration in which every key is commented out.
pub fn default_file() -> Result<String, Failure> {
    let mut text = String::from(
        "# Configuration of Shingle. Give it with --config FILE or SHINGLE_CONFIG. Every key is also a flag of the\n\
         # section's command, and flags win. Keys are commented out at their default, or at an example where there is\n\
         # none. Unknown keys are refused.\n",
    );
    section::<UpSection>(&mut text)?;
    section::<HostSection>(&mut text)?;
    section::<ControlSection>(&mut text)?;
    section::<GatewaySection>(&mut text)?;
    Ok(text)
}

fn section<S: Section>(text: &mut String) -> Result<(), Failure> {
    let internal = |error: toml::ser::Error| Failure::failed(format!("[{}]: {error}", S::NAME), "");
    let example = toml::Table::try_from(S::example()).map_err(internal)?;
    text.push_str(&format!("\n# {}\n[{}]\n", S::ABOUT, S::NAME));
    for (key, help) in S::keys() {
        if let Some(value) = example.get(&key) {
            text.push_str(&format!("# {help}\n#{key} = {value}\n"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ConfigFile;

    #[test]
    fn the_default_file_is_valid_as_it_is_and_with_every_key_uncommented() {
        let text = default_file().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shingle.toml");
        std::fs::write(&path, &text).unwrap();
        ConfigFile::load(Some(&path)).unwrap();
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert!(uncommented.contains("\nhosts = 5\n"), "{uncommented}");
        std::fs::write(&path, uncommented).unwrap();
        let file = ConfigFile::load(Some(&path)).unwrap();
        let up: UpSection = file.overlay(&UpSection::default()).unwrap();
        assert_eq!(up.hosts, Some(5));
    }
}
