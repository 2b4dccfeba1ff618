//! A module imports only from modules above it in `src/lib.rs`, and no file stands unused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names in `pub mod NAME;` and `pub(crate) mod NAME;` lines, in order.
fn modules_in_order(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.trim())
        .filter_map(|line| line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("pub(crate) mod ")))
        .filter_map(|rest| rest.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

/// The top-level modules named in a file: by `crate::NAME`, and by `use crate::{NAME, NAME::..}`.
fn named_modules(text: &str, known: &[String]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if at > 0 && text.as_bytes()[at - 1] == b'$' {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => item.push(' '),
                    _ if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            named.extend(item.split_whitespace().filter_map(|part| part.split("::").next()).map(str::to_owned));
        } else {
            named.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    named.retain(|name| known.contains(name));
    named
}

/// Without comments, so that a doc link upwards is no import.
fn code_of(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn top_module(path: &Path) -> String {
    let relative = path.strip_prefix(source_root()).expect("a file below src");
    let first = relative.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn a_module_imports_only_from_modules_above_it() {
    let order = modules_in_order(&fs::read_to_string(source_root().join("lib.rs")).expect("lib.rs"));
    assert!(order.len() >= 17, "lib.rs lists the modules in order: {order:?}");
    let mut files = Vec::new();
    rust_files(&source_root(), &mut files);
    let mut wrong = Vec::new();
    for path in &files {
        let own = top_module(path);
        let Some(own_rank) = order.iter().position(|name| *name == own) else { continue };
        let text = code_of(&fs::read_to_string(path).expect("a readable file"));
        for name in named_modules(&text, &order) {
            let rank = order.iter().position(|other| *other == name).expect("a known module");
            if rank > own_rank {
                wrong.push(format!("{}: {own} imports {name}, which stands below it", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_oracle_shares_no_code_with_what_it_judges() {
    let order = modules_in_order(&fs::read_to_string(source_root().join("lib.rs")).expect("lib.rs"));
    let mut files = Vec::new();
    rust_files(&source_root().join("oracle"), &mut files);
    assert!(!files.is_empty());
    for path in files {
        let named = named_modules(&code_of(&fs::read_to_string(&path).expect("a readable file")), &order);
        for judged in ["capture", "log", "transform", "apply", "sink"] {
            assert!(!named.contains(judged), "{} imports {judged}", path.display());
        }
    }
}

#[test]
fn every_file_is_part_of_the_crate() {
    let mut files = Vec::new();
    rust_files(&source_root(), &mut files);
    for path in &files {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if ["lib", "main", "mod"].contains(&name.as_str()) {
            continue;
        }
        let folder = path.parent().expect("a folder");
        let named_by = if folder == source_root() { "lib.rs" } else { "mod.rs" };
        let parent = fs::read_to_string(folder.join(named_by))
            .or_else(|_| fs::read_to_string(folder.with_extension("rs")))
            .unwrap_or_else(|_| panic!("{} has no {named_by}", folder.display()));
        assert!(
            parent.contains(&format!("mod {name};")) || parent.contains(&format!("mod {name} ")),
            "{} is used by nothing",
            path.display()
        );
    }
}

#[test]
fn the_check_itself_finds_what_it_looks_for() {
    let known: Vec<String> = ["model", "log", "sink"].map(str::to_owned).into();
    let text = "use crate::{model::{Key, Row}, sink};\nfn f(l: crate::log::Log) {}";
    assert_eq!(named_modules(text, &known).into_iter().collect::<Vec<_>>(), ["log", "model", "sink"]);
    assert_eq!(named_modules("use crate::model;", &known).len(), 1);
}
