//! Which files a `path` means.

use std::collections::BTreeMap;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use super::confined;
use crate::error::Error;
use crate::error::Result;

/// A path whose parts may have wildcards.
pub(super) struct Pattern {
    /// As it was given.
    text: String,
    /// Its parts, without the root of an absolute one.
    parts: Vec<String>,
    absolute: bool,
}

impl Pattern {
    /// Reads a path; one that climbs with `..` is refused.
    pub(super) fn parse(text: &str) -> Result<Pattern> {
        let mut parts = Vec::new();
        for component in Path::new(text).components() {
            match component {
                Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(Error::invalid_parameter(format!("path \"{text}\" has a \"..\" in it"))
                        .hint("Write the path of the file itself."));
                }
            }
        }
        Ok(Pattern { text: text.to_string(), parts, absolute: Path::new(text).is_absolute() })
    }

    /// Whether it names one file or directory and not those like it.
    pub(super) fn is_plain(&self) -> bool {
        !self.parts.iter().any(|part| is_wild(part))
    }

    /// The files there are, by the names that their partitions have. Refuses what lies outside of the roots.
    pub(super) fn files(&self, roots: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
        if self.absolute {
            return self.files_under(Path::new("/"), roots);
        }
        for root in roots {
            let files = self.files_under(root, roots)?;
            if !files.is_empty() {
                return Ok(files);
            }
        }
        Ok(BTreeMap::new())
    }

    /// Those whose path begins at `base`.
    fn files_under(&self, base: &Path, roots: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
        let mut found = vec![base.to_path_buf()];
        for part in &self.parts {
            let mut next = Vec::new();
            for path in found {
                if is_wild(part) {
                    next.extend(
                        entries(&path, roots)?.into_iter().filter(|(name, _)| matches(part, name)).map(|e| e.1),
                    );
                } else {
                    next.push(path.join(part));
                }
            }
            found = next;
        }
        let mut files = BTreeMap::new();
        for path in found {
            let Ok(metadata) = path.metadata() else { continue };
            confined::check(&path, roots)?;
            let members = match metadata.is_dir() {
                true if self.is_plain() => entries(&path, roots)?.into_iter().map(|(_, path)| path).collect(),
                true => continue,
                false => vec![path],
            };
            for path in members.into_iter().filter(|path| path.metadata().is_ok_and(|m| m.is_file())) {
                confined::check(&path, roots)?;
                let shown = if self.absolute { &path } else { path.strip_prefix(base).unwrap_or(&path) };
                // A name that is not UTF-8 could not be kept.
                let Some(name) = shown.to_str() else { continue };
                files.insert(name.to_string(), path);
            }
        }
        Ok(files)
    }

    /// Where the file of this name lies.
    pub(super) fn path(&self, name: &str, roots: &[PathBuf]) -> PathBuf {
        let places = roots.iter().map(|root| root.join(name)).collect::<Vec<_>>();
        places.iter().find(|path| path.exists()).or(places.first()).cloned().unwrap_or_else(|| PathBuf::from(name))
    }

    /// The error for files that are not there.
    pub(super) fn nothing(&self) -> Error {
        let message = match self.is_plain() {
            true => format!("file or directory \"{}\" does not exist, or has no files in it", self.text),
            false => format!("no file matches \"{}\"", self.text),
        };
        Error::undefined_object(message).hint("With follow = 'true' a source waits for files that come later.")
    }
}

/// The visible entries of a directory; none of what is no directory.
fn entries(directory: &Path, roots: &[PathBuf]) -> Result<Vec<(String, PathBuf)>> {
    let Ok(read) = directory.read_dir() else { return Ok(Vec::new()) };
    confined::check(directory, roots)?;
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

fn is_wild(part: &str) -> bool {
    part.contains(['*', '?'])
}

/// Whether a name is one of a pattern: `*` stands for any characters, `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.chars().collect::<Vec<_>>(), name.chars().collect::<Vec<_>>());
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut retry = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n + 1));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((star, from)) = retry {
            (p, n) = (star, from);
            retry = Some((star, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_within_a_name() {
        assert!(matches("*.jsonl", "a.jsonl"));
        assert!(matches("part-??-*.csv", "part-07-x.csv"));
        assert!(matches("*a*b*", "xxaxxbxx"));
        assert!(!matches("*.jsonl", "a.json"));
        assert!(!matches("a?", "a"));
        assert!(matches("a*", "a"));
    }

    #[test]
    fn a_path_does_not_climb() {
        assert!(Pattern::parse("/srv/../etc/passwd").is_err());
        assert!(Pattern::parse("a/./b").is_ok());
    }
}
