//! House rules as tests: what a reader may rely on everywhere in the tree, and what only stays true if a machine looks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// Every file git tracks or would track, relative to the root.
fn tracked() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let files: Vec<String> = text.lines().map(str::to_owned).filter(|path| root().join(path).is_file()).collect();
    assert!(files.len() > 50, "only {} files found", files.len());
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Rust files people wrote.
fn sources() -> Vec<(String, String)> {
    tracked()
        .into_iter()
        .filter(|path| path.ends_with(".rs") && !path.ends_with("generated.rs"))
        .map(|path| {
            let text = read(&path);
            (path, text)
        })
        .collect()
}

fn documents() -> Vec<(String, String)> {
    let documents = tracked().into_iter().filter(|path| path.ends_with(".md"));
    documents.map(|path| (path.clone(), read(&path))).collect()
}

/// Lines of code: comments and attributes' text removed.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let code = line.split("//").next().unwrap_or_default();
        (!code.trim().is_empty()).then_some((index + 1, code))
    })
}

fn report(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

fn contains_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(is_part)
            && !line[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            offences.push(format!("{path}: does not start with //!"));
        }
        let lines = text.lines().count();
        if lines >= FILE_LINES_MAX {
            offences.push(format!("{path}: {lines} lines, {FILE_LINES_MAX} is the bound"));
        }
    }
    report("a file starts with //! and stays short", offences);
}

#[test]
fn functions_stay_under_seventy_lines() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words: Vec<&str> = line.split_whitespace().take(6).collect();
            let before_fn = words.iter().position(|word| *word == "fn").unwrap_or(usize::MAX);
            let qualified = words.iter().take(before_fn).all(|word| {
                ["pub", "pub(crate)", "pub(super)", "async", "unsafe", "const", "extern", "\"C\""].contains(word)
            });
            if before_fn == usize::MAX || !qualified {
                continue;
            }
            // The tree is formatted: a function's closing brace has its own indentation.
            let closing = format!("{}}}", " ".repeat(indent));
            let end = lines[start..].iter().position(|candidate| *candidate == closing);
            if let Some(length) = end.filter(|length| *length + 1 > FUNCTION_LINES_MAX) {
                offences.push(format!("{path}:{}: {} lines", start + 1, length + 1));
            }
        }
    }
    report("a function stays under seventy lines", offences);
}

#[test]
fn unsafe_code_stays_on_its_islands() {
    let mut offences = Vec::new();
    for (path, text) in sources() {
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let lines: Vec<&str> = text.lines().collect();
        for (number, code) in code_lines(&text) {
            let is_attribute = code.contains("unsafe_") || code.contains("\"unsafe");
            if !contains_word(code, "unsafe") || is_attribute || path == "tests/tidy.rs" {
                continue;
            }
            if !header.contains("unsafe") {
                offences.push(format!("{path}:{number}: unsafe in a file whose header does not say so"));
            }
            let opens_block = code.contains("unsafe {") || code.trim_start().starts_with("unsafe impl");
            let above = lines[number.saturating_sub(6)..number].iter();
            if opens_block && !above.clone().any(|line| line.contains("SAFETY:")) {
                offences.push(format!("{path}:{number}: no SAFETY comment"));
            }
        }
    }
    report("unsafe only in files that say so, each block with its reason", offences);
}

/// (package, its folder, which of ours it may use outside of tests)
const LAYERS: [(&str, &str, &[&str]); 7] = [
    ("shingle-hw", "hw", &[]),
    ("shingle-proto", "node/proto", &[]),
    ("shingle-seam", "node/seam", &["proto"]),
    ("shingle-codec", "node/codec", &["proto"]),
    ("shingle-node", "node", &["hw", "proto", "seam", "codec"]),
    ("shingle-gateway", "node/gateway", &["proto", "seam", "codec"]),
    ("shingle-control", "control", &["proto", "seam"]),
];

#[test]
fn packages_depend_only_downwards() {
    let mut offences = Vec::new();
    for (package, folder, allowed) in LAYERS {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{package}\"")), "{folder} is {package}");
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for line in normal.lines().filter(|line| line.starts_with("shingle-")) {
            let name = line.trim_start_matches("shingle-").split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&name) {
                offences.push(format!("{package} depends on shingle-{name}"));
            }
        }
    }
    report("packages depend only downwards", offences);
}

#[test]
fn lower_packages_do_not_know_the_words_of_higher_ones() {
    let hw =
        ["extent", "Extent", "extents", "volume", "Volume", "bucket", "Bucket", "BlockHash", "PutId", "shingle_proto"];
    let proto =
        ["std::fs", "std::net", "std::time", "std::thread", "Instant", "SystemTime", "io_uring", "TcpStream", "tokio"];
    let mut offences = Vec::new();
    for (path, text) in sources() {
        let words: &[&str] = match () {
            () if path.starts_with("hw/src/") => &hw,
            () if path.starts_with("node/proto/src/") => &proto,
            () => continue,
        };
        for (number, code) in code_lines(&text) {
            for word in words.iter().filter(|word| contains_word(code, word)) {
                offences.push(format!("{path}:{number}: names {word}"));
            }
        }
    }
    report("hw names no block, extent or volume; proto names no device, socket or clock", offences);
}

/// Paths into the crate; `on_glommio::` is a module of ours.
fn names_glommio(code: &str) -> bool {
    code.match_indices("glommio::").any(|(at, _)| !code[..at].ends_with('_'))
}

#[test]
fn one_file_names_glommio() {
    let files = sources();
    let naming: Vec<&str> = files
        .iter()
        .filter(|(path, text)| path != "tests/tidy.rs" && code_lines(text).any(|(_, code)| names_glommio(code)))
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(naming, ["node/seam/src/on_glommio.rs"]);
}

/// Where the machine may be asked directly: the seams' productions, process entries, the S3 server and tools.
fn may_touch_the_world(path: &str) -> bool {
    let islands = [
        "hw/",
        "bench/",
        "tests/",
        "control/cli/",
        "node/seam/src/on_",
        "node/seam/src/clock.rs",
        "node/seam/src/stop.rs",
        "node/gateway/src/s3/",
        "control/src/store/embedded",
    ];
    islands.iter().any(|island| path.starts_with(island))
        || path.ends_with("/process.rs")
        || ["/tests/", "/examples/", "/benches/"].iter().any(|folder| path.contains(folder))
}

#[test]
fn logic_reaches_the_world_only_through_the_seams() {
    let calls = [
        "Instant::now",
        "SystemTime::now",
        "thread::sleep",
        "thread::spawn",
        "tokio::spawn",
        "tokio::time",
        "tokio::net",
        "spawn_local",
        "TcpListener",
        "TcpStream",
        "rand::rng(",
        "thread_rng",
        "OsRng",
    ];
    let mut offences = Vec::new();
    for (path, text) in sources() {
        let measured_once = path == "node/codec/src/hash.rs"; // which of two equal results is faster here
        if may_touch_the_world(&path) || measured_once || path == "node/seam/src/entropy.rs" {
            continue;
        }
        let logic = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, code) in code_lines(logic) {
            for call in calls.iter().filter(|call| code.contains(**call)) {
                offences.push(format!("{path}:{number}: {call}"));
            }
        }
    }
    report("time, network, randomness and tasks come from the World", offences);
}

#[test]
fn names_mean_something() {
    let empty_words = ["utils", "util", "common", "helpers", "helper", "misc", "manager"];
    let mut offences = Vec::new();
    for path in tracked() {
        for part in Path::new(&path).iter().filter_map(|part| part.to_str()) {
            let stem = part.split('.').next().unwrap_or_default();
            if empty_words.contains(&stem) {
                offences.push(path.clone());
            }
        }
    }
    report("no file or folder is called utils, common, helpers, misc or manager", offences);
}

#[test]
fn nothing_unfinished_or_private_lands() {
    let marks = ["todo!(", "unimplemented!(", "dbg!(", "allow(dead_code)", "allow(unused", "/root/", "/work/"];
    let mut offences = Vec::new();
    let texts = sources().into_iter().chain(documents());
    for (path, text) in texts.filter(|(path, _)| path != "tests/tidy.rs") {
        for (index, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                offences.push(format!("{path}:{}: {mark}", index + 1));
            }
        }
    }
    report("nothing unfinished, dead or machine-specific", offences);
}

#[test]
fn every_limit_is_used() {
    let limits = read("node/proto/src/limits.rs");
    let names: Vec<&str> =
        limits.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect();
    assert!(names.len() > 20, "limits.rs lists the limits");
    let everything: String =
        sources().into_iter().filter(|(path, _)| !path.ends_with("limits.rs")).map(|(_, t)| t).collect();
    let asserted: String = limits.lines().filter(|line| line.starts_with("const _")).collect();
    let unused = names.into_iter().filter(|name| !contains_word(&everything, name) && !contains_word(&asserted, name));
    report("a limit that nothing obeys is no limit", unused.map(str::to_owned).collect());
}

/// What stands between single back-ticks on one line.
fn quoted(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_fence = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

#[test]
fn files_named_in_documents_exist() {
    let files: BTreeSet<String> = tracked().into_iter().collect();
    let folders: BTreeSet<String> = files
        .iter()
        .flat_map(|path| {
            Path::new(path).ancestors().skip(1).map(|folder| folder.display().to_string()).collect::<Vec<_>>()
        })
        .collect();
    let tops = ["node/", "control/", "bench/", "hw/", "tests/"];
    let endings = [".rs", ".md", ".fbs", ".toml", ".sh", ".py"];
    let mut offences = Vec::new();
    for (document, text) in documents() {
        let folder = Path::new(&document).parent().expect("a document lies in a folder").display().to_string();
        for name in quoted(&text) {
            let rooted = tops.iter().any(|top| name.starts_with(top));
            let is_path = !name.contains([' ', '*', '<', '{', '$', ':', ','])
                && (rooted || (endings.iter().any(|ending| name.ends_with(ending)) && name.contains('/')));
            if !is_path {
                continue;
            }
            let name = name.trim_end_matches('/');
            let beside = format!("{folder}/{name}");
            let known = [name, beside.trim_start_matches('/')];
            if !known.iter().any(|path| files.contains(*path) || folders.contains(*path)) {
                offences.push(format!("{document}: `{name}`"));
            }
        }
    }
    report("files named in documents exist", offences);
}

#[test]
fn functions_named_in_documents_exist() {
    let everything: String = sources().into_iter().map(|(_, text)| text).collect();
    let mut offences = Vec::new();
    for (document, text) in documents() {
        for name in quoted(&text).into_iter().filter_map(|name| name.strip_suffix("()")) {
            let name = name.rsplit("::").next().unwrap_or(name);
            if !everything.contains(&format!("fn {name}(")) && !everything.contains(&format!("fn {name}<")) {
                offences.push(format!("{document}: `{name}()`"));
            }
        }
    }
    report("functions named in documents exist", offences);
}

#[test]
fn formats_have_their_page_and_their_golden_bytes() {
    let files: BTreeSet<String> = tracked().into_iter().collect();
    for page in ["node/src/extent/FORMAT.md", "control/src/tables/KEYS.md"] {
        assert!(files.contains(page), "{page} describes every byte");
    }
    for fixtures in
        ["tests/fixtures/drive/", "tests/fixtures/extent/", "tests/fixtures/tables/", "tests/fixtures/wire/"]
    {
        assert!(files.iter().any(|path| path.starts_with(fixtures)), "golden bytes in {fixtures}");
    }
}
