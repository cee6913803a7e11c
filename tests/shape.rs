//! The shape of the tree, held by a test: who may import whom, how long a file and a function may be, what a file begins
//! with, and where DataFusion is known. The aims are `docs/architecture.md`'s; the limits here are where an aim becomes a rule.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

/// The most lines of a file without its tests; the aim is 500.
const FILE_LINES_MAX: usize = 700;

/// The most lines of a function; the aim is 70.
const FUNCTION_LINES_MAX: usize = 90;

/// Where DataFusion's types may be named, so that an upgrade of it has a known edge.
const DATAFUSION: &[&str] = &["functions", "sql", "plan", "dataflow/operators", "engine"];

/// What is never left behind in code.
const LEFTOVERS: &[&str] = &["todo!", "dbg!", "unimplemented!"];

/// A source file.
struct File {
    /// Its path below `src`.
    path: PathBuf,
    text: String,
    /// The text with comments and the insides of literals blanked out; lines and offsets are those of the text.
    code: Vec<u8>,
    /// Whether all of it is compiled for tests only.
    test: bool,
}

impl File {
    /// The first part of its path, which is a module of the crate; none for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let first = self.path.components().next()?.as_os_str().to_str()?;
        match first.strip_suffix(".rs") {
            Some("lib" | "main") => None,
            Some(module) => Some(module),
            None => Some(first),
        }
    }

    /// Its place in messages.
    fn at(&self, offset: usize) -> String {
        let line = self.code[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("src/{}:{line}", self.path.display())
    }

    fn code(&self) -> &str {
        std::str::from_utf8(&self.code).expect("blanking keeps UTF-8")
    }
}

/// Every file under `src`.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a source file is text");
        let code = code_of(&text);
        let path = path.strip_prefix(&root).expect("it is below src").to_path_buf();
        files.push(File { path, text, code, test: false });
    }
    let tests = files.iter().flat_map(test_modules).collect::<Vec<_>>();
    for file in &mut files {
        file.test = tests.iter().any(|test| file.path.starts_with(test) || file.path == test.with_extension("rs"));
    }
    files
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The modules with a file of their own that this file declares for tests only, as paths without `.rs`.
fn test_modules(file: &File) -> Vec<PathBuf> {
    let name = file.path.file_stem().and_then(|stem| stem.to_str()).expect("a file has a name");
    let parent = file.path.parent().unwrap_or(Path::new(""));
    let folder = if matches!(name, "mod" | "lib" | "main") { parent.to_path_buf() } else { parent.join(name) };
    let code = file.code();
    let marks = code.match_indices("#[cfg(test)]");
    let declared = marks.filter_map(|(at, mark)| {
        let rest = code[at + mark.len()..].trim_start();
        let rest = rest.strip_prefix("pub(crate) ").or(rest.strip_prefix("pub ")).unwrap_or(rest);
        let (name, _) = rest.strip_prefix("mod ")?.split_once(';')?;
        name.bytes().all(is_word).then(|| folder.join(name))
    });
    declared.collect()
}

/// The text with every comment and the inside of every literal replaced by blanks.
fn code_of(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' if at == 0 || !is_word(bytes[at - 1]) || bytes[at - 1] == b'b' => {
                raw_string_end(bytes, at).unwrap_or(at)
            }
            b'\'' => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end.max(at + 1);
    }
    code
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `what` begins, at or after an offset; the end of the text when it does not come.
fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    bytes[from..].windows(what.len()).position(|window| window == what).map_or(bytes.len(), |found| from + found)
}

/// Block comments nest.
fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(bytes: &[u8], inside: usize) -> usize {
    let mut at = inside;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// One past `r#"..."#`, if there is one here.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let quote = at + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    Some((find(bytes, quote + 1, &close) + close.len()).min(bytes.len()))
}

/// One past a character literal, if this quote begins one and not a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    let inside = *bytes.get(at + 1)?;
    if inside == b'\\' {
        return Some(find(bytes, at + 3, b"'") + 1);
    }
    let width = match inside {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + width + 2)
}

/// One past the block that begins with the next brace, or past the semicolon if that comes first.
fn item_end(code: &[u8], from: usize) -> usize {
    let (mut depth, mut brackets) = (0, 0);
    for (offset, byte) in code[from..].iter().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b'{' => depth += 1,
            b'}' if depth == 1 => return from + offset + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 && brackets == 0 => return from + offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// The items of a file that are compiled for tests only.
fn test_items(file: &File) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for (at, mark) in file.code().match_indices("#[cfg(test)]") {
        if items.last().is_none_or(|last| !last.contains(&at)) {
            items.push(at..item_end(&file.code, at + mark.len()));
        }
    }
    items
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// The names after `crate::`, with where they stand.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    let found = code.match_indices("crate::").filter(|(at, _)| *at == 0 || !is_word(code.as_bytes()[at - 1]));
    let named = found.map(|(at, mark)| {
        let rest = &code[at + mark.len()..];
        (at, &rest[..rest.bytes().take_while(|&byte| is_word(byte)).count()])
    });
    named.collect()
}

fn check(what: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{what}:\n  {}", violations.join("\n  "));
}

#[test]
fn modules_import_only_from_modules_above() {
    let files = files();
    let lib = files.iter().find(|file| file.path == Path::new("lib.rs")).expect("lib.rs is there");
    let declared = lib.code().lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let order = declared.enumerate().map(|(place, name)| (name.to_string(), place)).collect::<HashMap<_, _>>();
    assert!(order.len() > 10, "the modules of lib.rs are read");
    let mut violations = Vec::new();
    for file in &files {
        let Some(module) = file.module() else { continue };
        let Some(place) = order.get(module) else {
            violations.push(format!("src/{} belongs to no `pub mod` of lib.rs", file.path.display()));
            continue;
        };
        for (at, name) in crate_paths(file.code()) {
            match order.get(name) {
                Some(other) if other <= place => {}
                Some(_) => violations.push(format!("{}: {module} imports from {name}, which is below it", file.at(at))),
                None => violations.push(format!("{}: crate::{name} is no module of lib.rs", file.at(at))),
            }
        }
    }
    check("modules import only from modules above them in lib.rs", &violations);
}

#[test]
fn folders_are_modules_of_the_crate() {
    let modules = files().iter().filter_map(|file| file.module().map(str::to_string)).collect::<BTreeSet<_>>();
    let vague = ["utils", "util", "common", "helpers", "prelude", "misc"];
    let vague = files()
        .iter()
        .filter(|file| {
            file.path.iter().any(|part| vague.contains(&part.to_str().unwrap_or_default().trim_end_matches(".rs")))
        })
        .map(|file| format!("src/{}", file.path.display()))
        .collect::<Vec<_>>();
    assert!(modules.contains("engine"));
    check("a module is named after its idea", &vague);
}

#[test]
fn paths_name_the_crate_rather_than_climb() {
    let files = files();
    let climbing = files
        .iter()
        .flat_map(|file| file.code().match_indices("super::super").map(|(at, _)| file.at(at)).collect::<Vec<_>>());
    check("no super::super", &climbing.collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is() {
    let files = files();
    let silent = files.iter().filter(|file| !file.text.starts_with("//!"));
    check("every file begins with //!", &silent.map(|file| file.at(0)).collect::<Vec<_>>());
}

#[test]
fn datafusion_has_a_known_edge() {
    let mut violations = Vec::new();
    for file in files().iter().filter(|file| {
        !DATAFUSION
            .iter()
            .any(|place| file.path.starts_with(place) || file.path == Path::new(place).with_extension("rs"))
    }) {
        let tests = test_items(file);
        let named = file.code().match_indices("datafusion::").map(|(at, _)| at);
        violations.extend(named.filter(|at| !tests.iter().any(|test| test.contains(at))).map(|at| file.at(at)));
    }
    check(&format!("DataFusion is named only in {}", DATAFUSION.join(", ")), &violations);
}

#[test]
fn files_have_a_size_that_can_be_read() {
    let mut violations = Vec::new();
    for file in files().iter().filter(|file| !file.test) {
        let tests = test_items(file).into_iter().map(|item| lines(&file.code[item])).sum::<usize>();
        let body = lines(&file.code) - tests;
        if body > FILE_LINES_MAX {
            violations.push(format!("src/{} has {body} lines", file.path.display()));
        }
    }
    check(&format!("a file has at most {FILE_LINES_MAX} lines without its tests"), &violations);
}

#[test]
fn functions_have_a_size_that_can_be_read() {
    let mut violations = Vec::new();
    for file in &files() {
        let code = file.code();
        for (at, _) in code.match_indices("fn ") {
            let name = code[at + 3..].bytes().take_while(|&byte| is_word(byte)).count();
            if name == 0 || (at > 0 && is_word(code.as_bytes()[at - 1])) {
                continue;
            }
            let length = lines(&file.code[at..item_end(&file.code, at)]) + 1;
            if length > FUNCTION_LINES_MAX {
                violations.push(format!("{}: {} has {length} lines", file.at(at), &code[at + 3..at + 3 + name]));
            }
        }
    }
    check(&format!("a function has at most {FUNCTION_LINES_MAX} lines"), &violations);
}

#[test]
fn nothing_is_left_behind() {
    let mut violations = Vec::new();
    for file in &files() {
        for leftover in LEFTOVERS {
            violations
                .extend(file.code().match_indices(leftover).map(|(at, _)| format!("{}: {leftover}", file.at(at))));
        }
        violations.extend(file.text.match_indices("FIXME").map(|(at, _)| format!("{}: FIXME", file.at(at))));
    }
    check("nothing is left behind", &violations);
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a(\"x // \\\" crate::y\"); // crate::z\n'\"'; r#\"crate::\" \"#; /* /* */ b */ c<'a>(b'\\'')";
    let code = String::from_utf8(code_of(text)).expect("blanking keeps UTF-8");
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a(", ");", ";", ";", "c<'a>(b", ")"]);
    assert_eq!(code.len(), text.len());
}
