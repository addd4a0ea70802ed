//! Shell globs as configuration has them, for one path component at a time.

/// A shell glob for one path component: `*`, `?`, `[a-z]`, `[!a-z]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// `None` if a bracket is not closed.
    pub(crate) fn parse(text: &str) -> Option<Glob> {
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            tokens.push(match first {
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => class(&mut rest)?,
                byte => Token::Byte(*byte),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        Some(Glob(tokens))
    }

    /// Linear in the text for each star: only the last star is ever retried.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
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
            Token::Byte(want) => byte == *want,
            Token::Any | Token::Star => true,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(a, b)| (*a..=*b).contains(&byte)) != *negated
            }
        }
    }
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
            ("dm-mod", "dm-mod", "dm_mod"),
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
}
