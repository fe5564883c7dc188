//! Key-encryption keys: what wraps every block's own key. Only gateways hold them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;

use shingle_proto::ids::KekVersion;

use crate::entropy::Entropy;

/// A 256-bit key-encryption key. Never printed.
#[derive(Clone)]
pub struct Kek(pub [u8; 32]);

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kek(..)")
    }
}

/// A keeper of key-encryption keys.
pub trait Keys {
    /// The version new blocks are wrapped under.
    fn current(&self) -> KekVersion;
    /// The key of a version, unless it has been destroyed.
    fn kek(&self, version: KekVersion) -> Option<Rc<Kek>>;
}

/// A key file is a few lines; nobody's key file is longer.
const KEY_FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a key file gives no keys. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("key file {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("key file {path} can be read by others (mode {mode:03o}): it must be the owner's alone, chmod 600 it")]
    Exposed { path: String, mode: u32 },
    #[error("key file {path}, line {line}: expected `kek VERSION 64-HEX-DIGITS`")]
    Malformed { path: String, line: usize },
    #[error("key file {path}, line {line}: version {version} is there twice")]
    Duplicate { path: String, line: usize, version: u32 },
    #[error("key file {path} holds no key")]
    Empty { path: String },
    #[error("key file {path} is larger than 1 MiB")]
    TooLarge { path: String },
}

/// Keys from a text file that only its owner can read: lines `kek VERSION 64-HEX-DIGITS`; empty lines and lines that
/// begin with `#` are skipped. The highest version is the current one.
#[derive(Debug)]
pub struct KeyFile {
    current: KekVersion,
    keks: BTreeMap<KekVersion, Rc<Kek>>,
}

impl KeyFile {
    /// Makes a new file with one key, version 1, durable before this returns.
    ///
    /// # Errors
    /// `Io` with `AlreadyExists` when there is a file: a key file is never overwritten, its keys would be lost.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Io { path: path.display().to_string(), source };
        let mut kek = [0; 32];
        entropy.fill(&mut kek);
        let digits: String = kek.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let text = format!(
            "# Key-encryption keys of a Shingle cell. Whoever reads this reads every block; without it nobody does.\n\
             kek 1 {digits}\n"
        );
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed)?;
        let version = KekVersion(1);
        Ok(Self { current: version, keks: BTreeMap::from([(version, Rc::new(Kek(kek)))]) })
    }

    /// Reads a file that [`KeyFile::create`] or an operator made.
    ///
    /// # Errors
    /// `Exposed` when group or others have any right to it, otherwise what is wrong with the text.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let name = || path.display().to_string();
        let failed = |source| KeyFileError::Io { path: name(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: name(), mode });
        }
        let mut text = String::new();
        file.take(KEY_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > KEY_FILE_BYTES_MAX {
            return Err(KeyFileError::TooLarge { path: name() });
        }
        Self::parse(&text, &name())
    }

    fn parse(text: &str, path: &str) -> Result<Self, KeyFileError> {
        let mut keks = BTreeMap::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (version, kek) =
                parse_line(content).ok_or_else(|| KeyFileError::Malformed { path: path.to_owned(), line })?;
            if keks.insert(version, Rc::new(kek)).is_some() {
                return Err(KeyFileError::Duplicate { path: path.to_owned(), line, version: version.0 });
            }
        }
        match keks.keys().next_back() {
            Some(&current) => Ok(Self { current, keks }),
            None => Err(KeyFileError::Empty { path: path.to_owned() }),
        }
    }
}

fn parse_line(content: &str) -> Option<(KekVersion, Kek)> {
    let mut words = content.split_ascii_whitespace();
    let (Some("kek"), Some(version), Some(digits), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    let version = version.parse().ok().map(KekVersion).filter(|version| version.0 > 0)?;
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut kek = Kek([0; 32]);
    for (byte, pair) in kek.0.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some((version, kek))
}

impl Keys for KeyFile {
    fn current(&self) -> KekVersion {
        self.current
    }

    fn kek(&self, version: KekVersion) -> Option<Rc<Kek>> {
        self.keks.get(&version).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn a_key_file_gives_back_the_key_it_was_made_with_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let made = KeyFile::create(&path, &SystemEntropy).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = KeyFile::load(&path).unwrap();
        assert_eq!(loaded.current(), KekVersion(1));
        assert_eq!(loaded.kek(KekVersion(1)).unwrap().0, made.kek(KekVersion(1)).unwrap().0);
        assert!(loaded.kek(KekVersion(2)).is_none());
        let again = KeyFile::create(&path, &SystemEntropy).unwrap_err();
        assert!(matches!(again, KeyFileError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists));
    }

    #[test]
    fn a_key_file_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        KeyFile::create(&path, &SystemEntropy).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(KeyFile::load(&path), Err(KeyFileError::Exposed { mode: found, .. }) if found == mode));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(KeyFile::load(&path).is_ok());
    }

    #[test]
    fn the_highest_version_is_current_and_comments_are_skipped() {
        let zeros = "0".repeat(64);
        let text = format!("# old\nkek 7 {zeros}\n\n  kek 3 {}\n", "Ff".repeat(32));
        let keys = KeyFile::parse(&text, "k").unwrap();
        assert_eq!(keys.current(), KekVersion(7));
        assert_eq!(keys.kek(KekVersion(3)).unwrap().0, [0xff; 32]);
    }

    #[test]
    fn lines_that_are_no_keys_are_refused_with_their_number_and_without_their_content() {
        let zeros = "0".repeat(64);
        for bad in [
            "kek",
            "kek 1",
            &format!("kek 0 {zeros}"),
            &format!("kek x {zeros}"),
            &format!("kek 1 {zeros}0"),
            &format!("kek 1 {} ", "é".repeat(32)),
            &format!("key 1 {zeros}"),
            &format!("kek 1 {zeros} more"),
        ] {
            let error = KeyFile::parse(&format!("kek 9 {zeros}\n{bad}\n"), "k").unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed { line: 2, .. }), "{bad}");
            assert!(!error.to_string().contains(&zeros));
        }
        let twice = format!("kek 1 {zeros}\nkek 1 {zeros}\n");
        assert!(matches!(KeyFile::parse(&twice, "k"), Err(KeyFileError::Duplicate { line: 2, version: 1, .. })));
        assert!(matches!(KeyFile::parse("# nothing\n", "k"), Err(KeyFileError::Empty { .. })));
    }
}
