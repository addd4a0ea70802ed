//! Where apt inside the image gets packages from: `RELEASE.sources`, as mkosi writes it.
//!
//! What it is: the archive, its updates and its security updates, at the mirrors that
//! `Mirror=` names, else this machine's own sources. What it is not: the sources that
//! the build itself uses (`packages`): a `LocalMirror=` and what sandbox trees bring
//! are not for the image.
//!
//! Format: sources.list(5), deb822 style.

use std::path::Path;

use apt::sources::{Source, SourceList};
use apt::uri::{Scheme, Uri};
use apt::{DebianOptions, Mirrors};
use config::Config;
use tree::{Mtime, Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::finish;

/// Who signs Debian's archive, as its package `debian-archive-keyring` installs it.
const KEYRING: &str = "usr/share/keyrings/debian-archive-keyring.gpg";

/// What the file says, but for the keyring; or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSources {
    /// The stanzas.
    Stanzas(Vec<String>),
    /// There is no mirror that an image could use.
    None(String),
}

impl ImageSources {
    /// The sources of the image. `host` is the machine's `/etc/apt`.
    pub fn of(config: &Config, host: &Path) -> Result<ImageSources, BuildError> {
        let setting = &config.distribution;
        let distribution = setting.distribution.to_string();
        let mirrors = match &setting.mirror {
            Some(text) => {
                let uri = Uri::parse(text).map_err(|e| BuildError::Image(e.to_string()))?;
                Some(Mirrors::beside(&uri))
            }
            None => apt::default_mirror(&distribution, &SourceList::read(host).sources),
        };
        let Some(mirrors) = mirrors else {
            return Ok(ImageSources::None("no mirror is known".into()));
        };
        let options = options(config);
        Ok(match apt::debian_sources(&setting.release, &mirrors, &options) {
            Ok(sources) => match sources.iter().find_map(unusable) {
                Some(reason) => ImageSources::None(reason),
                None => ImageSources::Stanzas(stanzas(&sources)),
            },
            Err(error) => ImageSources::None(error.to_string()),
        })
    }

    /// Writes the file, if the tree has an apt that would read it and the project did
    /// not bring it.
    pub fn write(
        &self,
        mut tree: Tree,
        release: &str,
        context: &Context,
    ) -> Result<Tree, BuildError> {
        if let Some(reason) = self.lay(&mut tree, release, context.epoch)? {
            context.reporter.note(format!("apt in the image has no sources: {reason}"));
        }
        Ok(tree)
    }

    /// Returns why there is no file although there is an apt.
    fn lay(
        &self,
        tree: &mut Tree,
        release: &str,
        epoch: Mtime,
    ) -> Result<Option<&str>, BuildError> {
        let path = format!("etc/apt/sources.list.d/{release}.sources");
        let is_there = |path| tree.lookup(&TreePath::literal(path)).is_some();
        let has_apt = is_there("usr/bin/apt") && is_there("etc/apt/sources.list.d");
        if !has_apt || tree.lookup(&TreePath::new(&path)?).is_some() {
            return Ok(None);
        }
        let stanzas = match self {
            ImageSources::None(reason) => return Ok(Some(reason)),
            ImageSources::Stanzas(stanzas) => stanzas,
        };
        let key = match is_there(KEYRING) {
            true => format!("Signed-By: /{KEYRING}\n"),
            false => String::new(),
        };
        let stanzas: Vec<_> = stanzas.iter().map(|s| format!("{s}{key}")).collect();
        finish::write(tree, &path, 0o644, stanzas.join("\n").into_bytes(), epoch)?;
        Ok(None)
    }
}

/// `Repositories=`: components, and suites that are asked for by name.
pub fn options(config: &Config) -> DebianOptions {
    let mut options = DebianOptions::default();
    for repository in &config.distribution.repositories {
        match repository.as_str() {
            "backports" => options.backports = true,
            "debug" => options.debug = true,
            component => options.components.push(component.to_owned()),
        }
    }
    options
}

/// Why a source of this machine is none for an image.
fn unusable(source: &Source) -> Option<String> {
    let text = source.uri.as_str();
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    if source.uri.scheme() == Scheme::File {
        Some("the mirror is a directory of this machine".into())
    } else if authority.contains('@') {
        Some("the mirror's address holds a password".into())
    } else {
        None
    }
}

/// One for all suites of an archive.
fn stanzas(sources: &[Source]) -> Vec<String> {
    let mut archives: Vec<(&Uri, String, Vec<&str>)> = Vec::new();
    for source in sources {
        let components = source.components.join(" ");
        let same = |a: &&mut (&Uri, String, _)| *a.0 == source.uri && a.1 == components;
        match archives.iter_mut().find(same) {
            Some((_, _, suites)) => suites.push(&source.suite),
            None => archives.push((&source.uri, components, vec![&source.suite])),
        }
    }
    let stanza = |(uri, components, suites): (&Uri, String, Vec<&str>)| {
        let (uri, suites) = (uri.as_str(), suites.join(" "));
        format!("Types: deb deb-src\nURIs: {uri}\nSuites: {suites}\nComponents: {components}\n")
    };
    archives.into_iter().map(stanza).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(archive: &str) -> ImageSources {
        let mirrors = Mirrors::beside(&Uri::parse(archive).unwrap());
        let options = DebianOptions::default();
        let sources = apt::debian_sources("trixie", &mirrors, &options).unwrap();
        match sources.iter().find_map(unusable) {
            Some(reason) => ImageSources::None(reason),
            None => ImageSources::Stanzas(stanzas(&sources)),
        }
    }

    fn with_apt() -> Tree {
        let mut tree = Tree::new();
        tree.write(&TreePath::literal("usr/bin/apt"), 0o755, *b"").unwrap();
        tree.make_dirs(&TreePath::literal("etc/apt/sources.list.d")).unwrap();
        tree
    }

    const FILE: &str = "etc/apt/sources.list.d/trixie.sources";

    #[test]
    fn an_image_with_apt_has_sources() {
        let sources = of("http://mirror.example/debian");
        let mut tree = with_apt();
        tree.write(&TreePath::literal(KEYRING), 0o644, *b"").unwrap();
        assert_eq!(sources.lay(&mut tree, "trixie", Mtime::secs(1)).unwrap(), None);
        let text = tree.read(&TreePath::literal(FILE), 999).unwrap().unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "Types: deb deb-src\nURIs: http://mirror.example/debian\n\
             Suites: trixie trixie-updates\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
             Types: deb deb-src\nURIs: http://mirror.example/debian-security\n\
             Suites: trixie-security\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
        let mut without = Tree::new();
        sources.lay(&mut without, "trixie", Mtime::secs(1)).unwrap();
        assert_eq!(without.len(), Tree::new().len());
        let mut own = with_apt();
        own.write(&TreePath::literal(FILE), 0o644, *b"own").unwrap();
        sources.lay(&mut own, "trixie", Mtime::secs(1)).unwrap();
        assert_eq!(own.read(&TreePath::literal(FILE), 9).unwrap().unwrap(), b"own");
    }

    #[test]
    fn what_only_this_machine_can_use_is_no_source_of_an_image() {
        for (archive, reason) in [
            ("file:///srv/debian", "a directory of this machine"),
            ("https://me:secret@mirror.example/debian", "holds a password"),
        ] {
            let sources = of(archive);
            let mut tree = with_apt();
            let note = sources.lay(&mut tree, "trixie", Mtime::secs(1)).unwrap().unwrap();
            assert!(note.contains(reason), "{note}");
            assert!(!tree.contains(&TreePath::literal(FILE)));
        }
    }
}
