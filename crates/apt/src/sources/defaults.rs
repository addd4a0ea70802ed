//! Debian's own sources: from the machine's mirrors to a release's suites.

use super::{Keyring, SignedBy, Source};
use crate::uri::{Uri, UriError};

/// The archives of a distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// The main archive.
    pub archive: Uri,
    /// The archive of security updates, where it is known.
    pub security: Option<Uri>,
    /// The archive of architectures that are not released (debian-ports).
    pub ports: Option<Uri>,
}

/// Names under which Debian's suites go, without `-updates` and the like.
const SUITES: &[&str] = &[
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "unstable",
    "testing",
    "stable",
    "oldstable",
    "oldoldstable",
    "experimental",
    "rc-buggy",
];
const COMPONENTS: &[&str] = &["main", "contrib", "non-free", "non-free-firmware"];
/// What may follow a suite's name.
const POCKETS: &[&str] = &[
    "-updates",
    "-proposed-updates",
    "-backports",
    "-backports-sloppy",
    "-security",
    "-debug",
    "-backports-debug",
    "-proposed-updates-debug",
    "/updates",
];

impl Mirrors {
    /// The archives beside `archive` as Debian's mirrors are laid out: `…/debian`,
    /// `…/debian-security`, `…/debian-ports`. For a `Mirror=` that serves them all.
    pub fn beside(archive: &Uri) -> Mirrors {
        let text = archive.as_str().trim_end_matches('/');
        let sibling = |suffix: &str| {
            let is_debian = archive.path().trim_end_matches('/').ends_with("/debian");
            is_debian.then(|| Uri::parse(&format!("{text}{suffix}")).ok()).flatten()
        };
        Mirrors {
            archive: archive.clone(),
            security: sibling("-security"),
            ports: sibling("-ports"),
        }
    }
}

/// The mirrors that `host` (the machine's own sources) names for `distribution`;
/// only `debian` is known. `None` where it names no archive of it.
pub fn default_mirror(distribution: &str, host: &[Source]) -> Option<Mirrors> {
    if distribution != "debian" {
        return None;
    }
    let debian = || host.iter().filter(|s| is_debian(s));
    let ports = |s: &&Source| s.uri.path().trim_end_matches('/').ends_with("/debian-ports");
    let archive = |s: &&Source| !is_security(&s.suite) && !ports(s);
    let security = |s: &&Source| is_security(&s.suite);
    Some(Mirrors {
        archive: best(debian().filter(archive), host)?,
        security: best(debian().filter(security), host),
        ports: debian().find(ports).map(|s| s.uri.clone()),
    })
}

/// The most likely of several: third parties also publish suites called `bookworm`.
fn best<'a>(candidates: impl Iterator<Item = &'a Source>, host: &[Source]) -> Option<Uri> {
    let mut found: Option<(i32, &Source)> = None;
    for source in candidates {
        let score = likelihood(source, host);
        if score > 0 && found.is_none_or(|(best, _)| score > best) {
            found = Some((score, source));
        }
    }
    found.map(|(_, source)| source.uri.clone())
}

fn likelihood(source: &Source, host: &[Source]) -> i32 {
    let path = source.uri.path().trim_end_matches('/');
    let mut score = 0;
    let keys = &source.signed_by.keyrings;
    let is_debian_key = |key: &Keyring| match key {
        Keyring::DebianArchive => true,
        Keyring::File(path) => {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name.starts_with("debian-archive-")
        }
        Keyring::Inline(_) => false,
    };
    if keys.iter().any(is_debian_key) {
        score += 4;
    } else if !keys.is_empty() {
        score -= 4;
    }
    if matches!(path, "/debian" | "/debian-security") {
        score += 3;
    } else if path.ends_with("/debian") || path.ends_with("/debian-security") {
        score += 2;
    }
    let has_updates = |s: &Source| s.uri == source.uri && s.suite.ends_with("-updates");
    if host.iter().any(has_updates) {
        score += 2;
    }
    score
}

/// Whether suite and components are named as Debian names them.
fn is_debian(source: &Source) -> bool {
    let suite = source.suite.as_str();
    let base = POCKETS.iter().find_map(|p| suite.strip_suffix(p)).unwrap_or(suite);
    SUITES.contains(&base)
        && !source.components.is_empty()
        && source.components.iter().all(|c| COMPONENTS.contains(&c.as_str()))
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

/// What is wanted beside a release itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianOptions {
    /// `main` and what `Repositories=` adds.
    pub components: Vec<String>,
    /// RELEASE-backports.
    pub backports: bool,
    /// RELEASE-debug, from the archive `…/debian-debug` beside the main one.
    pub debug: bool,
    /// Whose signature counts.
    pub signed_by: SignedBy,
}

impl Default for DebianOptions {
    fn default() -> Self {
        let keyrings = vec![Keyring::DebianArchive];
        DebianOptions {
            components: vec!["main".to_owned()],
            backports: false,
            debug: false,
            signed_by: SignedBy { keyrings, fingerprints: Vec::new() },
        }
    }
}

/// Why there are no sources for a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DebianSourcesError {
    /// A release without security updates is not built by accident.
    #[error(
        "no archive of security updates for {0} is known: name it in a sources file, or use a mirror whose path ends in /debian and that has …/debian-security beside it"
    )]
    NoSecurity(String),
    /// No place for debug packages.
    #[error("no archive of debug packages is known: the mirror's path does not end in /debian")]
    NoDebug,
    /// A bad URI.
    #[error(transparent)]
    Uri(#[from] UriError),
}

/// The sources of a Debian release, as mkosi writes them: the release, its updates
/// and its security updates; sid, unstable and experimental have neither.
pub fn debian_sources(
    release: &str,
    mirrors: &Mirrors,
    options: &DebianOptions,
) -> Result<Vec<Source>, DebianSourcesError> {
    let source = |uri: &Uri, suite: String| {
        let mut source =
            Source::new(uri.clone(), &suite, &options.components, options.signed_by.clone());
        source.defined_in = format!("Distribution=debian, Release={release}");
        source
    };
    let rolling = matches!(release, "sid" | "unstable" | "experimental" | "rc-buggy");
    let mut sources = vec![source(&mirrors.archive, release.to_owned())];
    if options.debug {
        let text = mirrors.archive.as_str().trim_end_matches('/');
        if !mirrors.archive.path().trim_end_matches('/').ends_with("/debian") {
            return Err(DebianSourcesError::NoDebug);
        }
        let uri = Uri::parse(&format!("{text}-debug"))?;
        sources.push(source(&uri, format!("{release}-debug")));
    }
    if rolling {
        return Ok(sources);
    }
    sources.push(source(&mirrors.archive, format!("{release}-updates")));
    let no_security = || DebianSourcesError::NoSecurity(release.to_owned());
    let security = mirrors.security.as_ref().ok_or_else(no_security)?;
    sources.push(source(security, format!("{release}-security")));
    if options.backports {
        sources.push(source(&mirrors.archive, format!("{release}-backports")));
    }
    Ok(sources)
}
