//! The pattern language of mkosi's `KernelModules=` and `KernelInitrdModules=`
//! (mkosi(1), version 27): globs over module paths, evaluated in order, the last
//! one that matches decides.

use super::defaults;
use crate::glob::Glob;

/// A pattern is written by a person.
const MAX_PATTERN: usize = 4096;

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The build may not depend on the machine it runs on.
    #[error(
        "'host' selects the modules that this machine has loaded; an image must not depend \
         on it, name the modules instead"
    )]
    Host,
    /// Nothing to match.
    #[error("a kernel module pattern is empty")]
    Empty,
    /// A bracket without its end.
    #[error("kernel module pattern {0:?}: '[' without ']'")]
    Bracket(String),
    /// Longer than any path.
    #[error("a kernel module pattern is longer than a path can be")]
    TooLong,
}

/// Which modules to take: an ordered list of patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    include: bool,
    /// Begins with a slash: the whole path counts.
    absolute: bool,
    /// Ends with a slash: everything below.
    below: bool,
    components: Vec<Glob>,
}

impl Selection {
    /// Reads patterns as they stand in the configuration: `-` in front excludes,
    /// `default` stands for [`defaults::INITRD`].
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Selection, PatternError> {
        let mut rules = Vec::new();
        for pattern in patterns.iter().map(AsRef::as_ref) {
            match pattern.strip_prefix('-').unwrap_or(pattern) {
                "host" => return Err(PatternError::Host),
                "default" => {
                    for known in defaults::INITRD {
                        let mut rule = Rule::parse(known)?;
                        rule.include &= !pattern.starts_with('-');
                        rules.push(rule);
                    }
                }
                _ => rules.push(Rule::parse(pattern)?),
            }
        }
        Ok(Selection { rules })
    }

    /// What goes into an initrd unless the configuration says otherwise.
    pub fn default_initrd() -> Selection {
        Self::parse(&["default"]).expect("the built-in patterns are well formed")
    }

    /// Whether the module at `path` (`kernel/fs/xfs/xfs.ko.xz`) is asked for.
    pub fn matches(&self, path: &str) -> bool {
        let stem = path.rfind(".ko").map_or(path, |at| &path[..at]);
        let components: Vec<Vec<u8>> = stem.split('/').map(|c| fold(c.as_bytes())).collect();
        let last = self.rules.iter().rev().find(|rule| rule.matches(&components));
        last.is_some_and(|rule| rule.include)
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Rule, PatternError> {
        if text.len() > MAX_PATTERN {
            return Err(PatternError::TooLong);
        }
        let pattern = text.strip_prefix('-').unwrap_or(text);
        let parts = pattern.split('/').filter(|c| !c.is_empty());
        let parse =
            |c| Glob::parse(&fold_pattern(c)).ok_or_else(|| PatternError::Bracket(text.into()));
        let components = parts.map(parse).collect::<Result<Vec<_>, _>>()?;
        if components.is_empty() {
            return Err(PatternError::Empty);
        }
        Ok(Rule {
            include: !text.starts_with('-'),
            absolute: pattern.starts_with('/'),
            below: pattern.ends_with('/'),
            components,
        })
    }

    fn matches(&self, path: &[Vec<u8>]) -> bool {
        let n = self.components.len();
        let at = |start: usize| {
            path.get(start..start + n)
                .is_some_and(|part| part.iter().zip(&self.components).all(|(p, g)| g.matches(p)))
        };
        // With a trailing slash something must be left below the match.
        let fits = |start: usize| match self.below {
            true => start + n < path.len() && at(start),
            false => start + n == path.len() && at(start),
        };
        if self.absolute {
            (path.first().is_some_and(|c| c == b"kernel") && fits(1)) || fits(0)
        } else {
            (0..path.len()).any(fits)
        }
    }
}

/// `-` and `_` are the same, as they are for modprobe: file names of modules use
/// both.
fn fold(component: &[u8]) -> Vec<u8> {
    component.iter().map(|b| if *b == b'-' { b'_' } else { *b }).collect()
}

/// The same for a pattern, where a `-` in brackets means a range.
fn fold_pattern(component: &str) -> String {
    let mut inside = false;
    let folded = component.chars().map(|c| {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            '-' if !inside => return '_',
            _ => {}
        }
        c
    });
    folded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the man page.
    #[test]
    fn names_tails_and_absolute_paths() {
        let loop_ = "kernel/drivers/block/loop.ko.xz";
        for pattern in [
            "loop",
            "block/loop",
            "/drivers/block/loop",
            "/kernel/drivers/block/loop",
            "block/",
            "/drivers/",
            "/kernel/",
            "drivers/block/",
            "l?op",
        ] {
            assert!(Selection::parse(&[pattern]).unwrap().matches(loop_), "{pattern}");
        }
        for pattern in ["loo", "/block/loop", "drivers/loop", "loop/", "/block/", "loop.ko", "*/"] {
            let matches = Selection::parse(&[pattern]).unwrap().matches(loop_);
            assert_eq!(matches, pattern == "*/", "{pattern}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        let matches =
            |patterns: &[&str], path: &str| Selection::parse(patterns).unwrap().matches(path);
        let all = ["*", "-/fs/", "xfs"];
        assert!(matches(&all, "kernel/fs/xfs/xfs.ko"));
        assert!(!matches(&all, "kernel/fs/ext4/ext4.ko"));
        assert!(matches(&all, "updates/zfs.ko.zst"));
        assert!(!matches(&[], "kernel/fs/xfs/xfs.ko"));
        assert!(matches(&["default"], "kernel/drivers/nvme/host/nvme.ko.xz"));
        assert!(!matches(&["default", "-default"], "kernel/drivers/nvme/host/nvme.ko.xz"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Selection::parse(&["host"]), Err(PatternError::Host));
        assert_eq!(Selection::parse(&["-"]), Err(PatternError::Empty));
        assert_eq!(Selection::parse(&["a[b"]), Err(PatternError::Bracket("a[b".into())));
    }
}
