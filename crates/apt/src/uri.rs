//! URIs of archives: a scheme that is known, and joining paths to it.
//!
//! Only what sources.list(5) needs: `http`, `https`, `file` and `copy` (which is
//! `file`: nothing here works in place). A file name from an index is data from
//! outside: it is checked and percent-encoded when it is joined.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The longest URI that is accepted.
pub const MAX_URI: usize = 4096;

/// A text that is no URI that archives are fetched from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No scheme, or one that is not supported.
    #[error("“{0}” is not a URI that can be fetched: use http:, https:, file: or copy:")]
    Scheme(String),
    /// Blanks, control characters, no host, or too long.
    #[error("“{0}” is not a URI: {1}")]
    Form(String, &'static str),
    /// A relative path that leaves the archive.
    #[error("“{0}” is not a path below the archive: it must be relative and without “..”")]
    Path(String),
}

/// How the bytes are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain HTTP; what is fetched is protected by signatures and hashes.
    Http,
    /// HTTP over TLS.
    Https,
    /// A file of this machine (`file:` and `copy:`).
    File,
}

/// The URI of an archive's root or of a file in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uri {
    text: String,
}

impl Uri {
    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        let shown = || text.chars().take(120).collect::<String>();
        if text.len() > MAX_URI {
            return Err(UriError::Form(shown(), "it is too long"));
        }
        if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(UriError::Form(shown(), "it holds a blank or a control character"));
        }
        let uri = Uri { text: text.to_owned() };
        let scheme = scheme_of(text).ok_or_else(|| UriError::Scheme(shown()))?;
        let valid = match scheme {
            Scheme::File => uri.path().starts_with('/'),
            _ => !uri.authority().is_empty(),
        };
        if valid {
            Ok(uri)
        } else {
            Err(UriError::Form(shown(), "the host or the path is missing"))
        }
    }

    /// How it is fetched.
    pub fn scheme(&self) -> Scheme {
        scheme_of(&self.text).expect("checked when parsed")
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn after_scheme(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, rest)| rest)
    }

    /// `user:password@host:port`, empty for files.
    pub fn authority(&self) -> &str {
        let Some(rest) = self.after_scheme().strip_prefix("//") else { return "" };
        rest.split('/').next().unwrap_or_default()
    }

    /// The path as written, without host; messages show this and nothing more.
    pub fn path(&self) -> &str {
        let rest = self.after_scheme();
        match rest.strip_prefix("//") {
            Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => rest,
        }
    }

    /// The path on this machine, for `file:` and `copy:`.
    pub fn file_path(&self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let bytes = (self.scheme() == Scheme::File).then(|| percent_decode(self.path()))?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }

    /// The URI of `path` below this one. `path` is a file name (not encoded), as
    /// `Filename:` and the lists of a Release file have it.
    pub fn join(&self, path: &str) -> Result<Uri, UriError> {
        let path = path.strip_prefix("./").unwrap_or(path);
        let bad = |part: &str| part == ".." || part.contains(['\0', '\n', '\r']);
        if path.is_empty() || path.starts_with('/') || path.split('/').any(bad) {
            return Err(UriError::Path(path.chars().take(120).collect()));
        }
        let mut text = self.text.trim_end_matches('/').to_owned();
        for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
            text.push('/');
            percent_encode(part, &mut text);
        }
        Uri::parse(&text)
    }
}

fn scheme_of(text: &str) -> Option<Scheme> {
    let (scheme, _) = text.split_once(':')?;
    Some(match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "file" | "copy" => Scheme::File,
        _ => return None,
    })
}

/// RFC 3986 `pchar` stays, the rest becomes `%XX`.
fn percent_encode(part: &str, out: &mut String) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let digit = |at: usize| {
        let byte = text.as_bytes().get(at)?;
        char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(high * 16 + low);
                at += 3;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    bytes
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Uri {
    type Error = UriError;
    fn try_from(text: String) -> Result<Uri, UriError> {
        Uri::parse(&text)
    }
}

impl From<Uri> for String {
    fn from(uri: Uri) -> String {
        uri.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_fetched_is_a_uri() {
        for bad in [
            "",
            "debian",
            "ftp://h/d",
            "cdrom:[x]/",
            "http:",
            "http:///d",
            "http://h/a b",
            "file:debian",
            "mirror+http://h/l",
            "http://h/\n",
        ] {
            assert!(Uri::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["http://h", "https://u:p@h:8/debian/", "file:/srv/d", "copy:///srv/d"] {
            assert!(Uri::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn joined_names_stay_below_and_are_encoded() {
        let root = Uri::parse("http://h/debian/").unwrap();
        let joined = root.join("pool/main/g/g++/g++_4%3a1~b c.deb").unwrap();
        assert_eq!(joined.as_str(), "http://h/debian/pool/main/g/g++/g++_4%253a1~b%20c.deb");
        assert_eq!(root.join("./a//b").unwrap().path(), "/debian/a/b");
        for bad in ["../x", "a/../../x", "/etc/passwd", "", "a\nb"] {
            assert!(root.join(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn file_paths_are_decoded() {
        let root = Uri::parse("file:///srv/my%20mirror").unwrap();
        let file = root.join("a b%").unwrap();
        assert_eq!(file.file_path().unwrap(), PathBuf::from("/srv/my mirror/a b%"));
        assert_eq!(Uri::parse("http://h/x").unwrap().file_path(), None);
        assert_eq!(Uri::parse("http://u:secret@h/x").unwrap().path(), "/x");
    }
}
