//! The pattern language of mkosi's `KernelModules=` and `KernelInitrdModules=`
//! (mkosi(1), version 27): globs over module paths, evaluated in order, the last
//! one that matches decides.

use super::defaults;

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
        let components: Vec<&[u8]> = stem.split('/').map(str::as_bytes).collect();
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
        let parse = |c| Glob::parse(c).ok_or_else(|| PatternError::Bracket(text.into()));
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

    fn matches(&self, path: &[&[u8]]) -> bool {
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
            (path.first() == Some(&&b"kernel"[..]) && fits(1)) || fits(0)
        } else {
            (0..path.len()).any(fits)
        }
    }
}

/// A shell glob for one path component. `-` and `_` are the same, as they are
/// for modprobe: file names of modules use both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// `None` if a bracket is not closed.
    pub(super) fn parse(text: &str) -> Option<Glob> {
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            tokens.push(match first {
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => class(&mut rest)?,
                byte => Token::Byte(fold(*byte)),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        Some(Glob(tokens))
    }

    /// Linear in the text for each star: only the last star is ever retried.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let (mut t, mut i) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while i < text.len() || t < self.0.len() {
            match self.0.get(t) {
                Some(Token::Star) => {
                    retry = Some((t, i));
                    t += 1;
                    continue;
                }
                Some(token) if i < text.len() && token.matches(text[i]) => {
                    (t, i) = (t + 1, i + 1);
                    continue;
                }
                _ => {}
            }
            match retry {
                Some((star, from)) if from < text.len() => {
                    retry = Some((star, from + 1));
                    (t, i) = (star + 1, from + 1);
                }
                _ => return false,
            }
        }
        true
    }
}

impl Token {
    fn matches(&self, byte: u8) -> bool {
        match self {
            Token::Byte(want) => fold(byte) == *want,
            Token::Any | Token::Star => true,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(a, b)| (*a..=*b).contains(&byte)) != *negated
            }
        }
    }
}

fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// What follows `[`, up to and with `]`; a `]` directly after it is literal.
fn class(rest: &mut &[u8]) -> Option<Token> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let body = &rest[usize::from(negated)..];
    let end = body.iter().skip(1).position(|b| *b == b']')? + 1;
    let (members, tail) = (&body[..end], &body[end + 1..]);
    *rest = tail;
    let mut ranges = Vec::new();
    let mut i = 0;
    while i < members.len() {
        if members.get(i + 1) == Some(&b'-') && i + 2 < members.len() {
            ranges.push((members[i], members[i + 2]));
            i += 3;
        } else {
            ranges.push((members[i], members[i]));
            i += 1;
        }
    }
    Some(Token::Class { negated, ranges })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, yes, no) in [
            ("raid[0-9]*", "raid456", "raidx"),
            ("*a*b", "xaab", "xaba"),
            ("i2c?hid", "i2c-hid", "i2c--hid"),
            ("dm-mod", "dm_mod", "dm_mode"),
            ("[!a-c]x", "dx", "bx"),
            ("[]]x", "]x", "x"),
            ("*x", "x", ""),
        ] {
            let glob_ = Glob::parse(glob).unwrap();
            assert!(glob_.matches(yes.as_bytes()), "{glob} {yes}");
            assert!(!glob_.matches(no.as_bytes()), "{glob} {no}");
        }
        assert_eq!(Glob::parse("[a"), None);
        assert_eq!(Glob::parse("["), None);
        let slow = Glob::parse(&"*a".repeat(200)).unwrap();
        assert!(slow.matches("a".repeat(4000).as_bytes()), "and does not take for ever");
        assert!(!slow.matches("ab".repeat(199).as_bytes()));
    }

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
