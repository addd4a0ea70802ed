//! The kernel command line: what the project says, completed with what finds the
//! root file system. Nothing of the machine that builds gets into it (B4).

/// What is known of the partitions once they are laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partitions {
    /// UUID of the root partition.
    pub root: Option<String>,
    /// UUID of the /usr partition.
    pub usr: Option<String>,
    /// dm-verity root hash of the root file system.
    pub root_hash: Option<String>,
    /// dm-verity root hash of /usr.
    pub usr_hash: Option<String>,
}

/// Why a command line cannot be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// A literal that stands for a partition that the image does not have.
    #[error("the kernel command line has {0}, but the image has no such partition")]
    NoPartition(&'static str),
    /// It would be cut or read differently.
    #[error("the kernel command line contains a control character")]
    Control,
    /// It would give all machines one identity.
    #[error("the kernel command line sets {0}: a golden image has no identity of its own")]
    Identity(String),
    /// More than x86 takes.
    #[error("the kernel command line has {0} bytes; x86 takes {MAX}")]
    TooLong(usize),
}

/// `COMMAND_LINE_SIZE` on x86, with its NUL.
const MAX: usize = 2047;

/// Joins the arguments. As in mkosi, `root=PARTUUID` and `mount.usr=PARTUUID`
/// stand for the image's own partition, and a verity root hash is added. Without
/// any of them nothing is added: systemd finds the root partition by its type on
/// the disk of the ESP (systemd-gpt-auto-generator).
pub fn complete<S: AsRef<str>>(args: &[S], found: &Partitions) -> Result<String, CmdlineError> {
    let mut words: Vec<String> = Vec::new();
    for (key, hash) in [("roothash", &found.root_hash), ("usrhash", &found.usr_hash)] {
        words.extend(hash.iter().map(|hash| format!("{key}={hash}")));
    }
    for arg in args.iter().flat_map(|arg| split(arg.as_ref())) {
        words.push(match arg.as_str() {
            "root=PARTUUID" => partition("root", "root=PARTUUID", &found.root)?,
            "mount.usr=PARTUUID" => partition("mount.usr", "mount.usr=PARTUUID", &found.usr)?,
            _ => arg,
        });
    }
    let identity = |word: &&String| word.starts_with("systemd.machine_id=");
    if let Some(word) = words.iter().find(identity).filter(|w| !w.ends_with("=firmware")) {
        return Err(CmdlineError::Identity(word.clone()));
    }
    let line = words.join(" ");
    if line.chars().any(char::is_control) {
        return Err(CmdlineError::Control);
    }
    if line.len() > MAX {
        return Err(CmdlineError::TooLong(line.len()));
    }
    Ok(line)
}

fn partition(
    key: &str,
    literal: &'static str,
    uuid: &Option<String>,
) -> Result<String, CmdlineError> {
    let uuid = uuid.as_ref().ok_or(CmdlineError::NoPartition(literal))?;
    Ok(format!("{key}=PARTUUID={uuid}"))
}

/// At blanks, but not inside double quotes, as the kernel does it.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        quoted ^= c == '"';
        if matches!(c, ' ' | '\t' | '\n') && !quoted {
            words.push(String::new());
        } else {
            words.last_mut().expect("never empty").push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_filled_in_as_mkosi_documents_it() {
        let found = Partitions { root: Some("58c7d0b2".into()), ..Partitions::default() };
        let line = complete(&["console=ttyS0", "root=PARTUUID  rw"], &found).unwrap();
        assert_eq!(line, "console=ttyS0 root=PARTUUID=58c7d0b2 rw");
        assert_eq!(complete(&["quiet"], &found).unwrap(), "quiet", "found by its type");
        let none = complete(&["mount.usr=PARTUUID"], &found).unwrap_err();
        assert_eq!(none, CmdlineError::NoPartition("mount.usr=PARTUUID"));
    }

    #[test]
    fn verity_hashes_are_added() {
        let found = Partitions { usr_hash: Some("abc".into()), ..Partitions::default() };
        assert_eq!(complete(&["quiet"], &found).unwrap(), "usrhash=abc quiet");
    }

    #[test]
    fn quotes_hold_words_together() {
        let line = complete(&["a=\"b  c\"   d"], &Partitions::default()).unwrap();
        assert_eq!(line, "a=\"b  c\" d");
    }

    #[test]
    fn identities_and_control_characters_are_refused() {
        let with = |arg: &str| complete(&[arg], &Partitions::default());
        let id = "systemd.machine_id=0123456789abcdef0123456789abcdef";
        assert!(matches!(with(id), Err(CmdlineError::Identity(_))));
        assert!(with("systemd.machine_id=firmware").is_ok());
        assert_eq!(with("a\u{7}b"), Err(CmdlineError::Control));
        assert!(matches!(with(&"x".repeat(3000)), Err(CmdlineError::TooLong(3000))));
    }
}
