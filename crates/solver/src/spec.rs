//! What is asked for, as on apt-get's command line.
//!
//! - `name`, `name:arch`, `name=version`, `name/release`, `name+`; `name-` for
//!   what must not be there;
//! - `task^`: the packages of a tasksel task;
//! - a glob (`*`, `?`, `[…]`) or a regular expression over names, where no package
//!   has that very name;
//! - `?essential` and `?priority(required)` (also `?required`, `?important`,
//!   `?standard`): sets of packages.
//!
//! Sets are in the order in which the indices mention the names.

use debian::{ArchQualifier, MultiArch, Priority, Relation};
use regex::Regex;

use crate::marks::Marks;
use crate::solution::{Reason, Unsolvable};
use crate::universe::{PkgId, VerId};

/// A spec with its modifiers taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec<'a> {
    pub text: &'a str,
    pub pattern: &'a str,
    pub arch: Option<&'a str>,
    pub choice: Choice<'a>,
    pub remove: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    Candidate,
    Version(&'a str),
    Release(&'a str),
}

/// Packages selected by one spec, with how to say why.
pub(crate) struct Selected {
    pub packages: Vec<(PkgId, Option<VerId>)>,
    pub reason: Reason,
    pub remove: bool,
    /// The release to which the selection is switched, dependencies included.
    pub release: Option<String>,
}

impl Marks<'_> {
    /// What `text` selects.
    pub fn select_spec(&mut self, text: &str) -> Result<Selected, Unsolvable> {
        if let Some(pattern) = text.strip_prefix('?') {
            return self.select_set(text, pattern);
        }
        let spec = self.parse(text);
        let packages = self.expand(&spec)?;
        let mut chosen = Vec::new();
        for package in packages {
            chosen.push((package, self.choose(&spec, package)?));
        }
        let release = match spec.choice {
            Choice::Release(release) => Some(release.to_owned()),
            _ => None,
        };
        let reason = Reason::Requested { spec: text.to_owned() };
        Ok(Selected { packages: chosen, reason, remove: spec.remove, release })
    }

    /// Takes the modifiers off; `+` and `-` only where no package has that name
    /// (`g++` is one).
    fn parse<'a>(&self, text: &'a str) -> Spec<'a> {
        let exists = |name: &str| {
            let name = name.split([':', '=', '/']).next().unwrap_or(name);
            !self.universe.group(name).is_empty() || !self.universe.providers(name).is_empty()
        };
        let (body, remove) = match text.strip_suffix('-') {
            Some(body) if !exists(text) => (body, true),
            _ => match text.strip_suffix('+') {
                Some(body) if !exists(text) => (body, false),
                _ => (text, false),
            },
        };
        let (name, choice) = if let Some((name, version)) = body.split_once('=') {
            (name, Choice::Version(version))
        } else if let Some((name, release)) = body.split_once('/') {
            (name, Choice::Release(release))
        } else {
            (body, Choice::Candidate)
        };
        let (pattern, arch) = match name.rsplit_once(':') {
            Some((pattern, arch)) => (pattern, Some(arch)),
            None => (name, None),
        };
        Spec { text, pattern, arch, choice, remove }
    }

    fn select_set(&mut self, text: &str, pattern: &str) -> Result<Selected, Unsolvable> {
        let priority = pattern.strip_prefix("priority(").and_then(|p| p.strip_suffix(')'));
        let wanted = match priority.unwrap_or(pattern) {
            "required" => Some(Priority::Required),
            "important" => Some(Priority::Important),
            "standard" => Some(Priority::Standard),
            "optional" if priority.is_some() => Some(Priority::Optional),
            "essential" if priority.is_none() => None,
            _ => {
                let known = "?essential, ?required, ?important, ?standard, ?priority(…)";
                return Err(Unsolvable::one(format!(
                    "“{text}” is not a set of packages that is known; there are {known}"
                )));
            }
        };
        let belongs = |marks: &Self, id: &PkgId| {
            let package = marks.universe.package(*id);
            let native = package.arch == marks.universe.native;
            let Some(version) = marks.state(*id).candidate else { return false };
            let record = marks.universe.record(version);
            native
                && match wanted {
                    Some(priority) => record.priority == priority,
                    // apt counts itself among the essential packages.
                    None => package.essential || record.name == "apt",
                }
        };
        let all = self.universe.all_packages();
        let mut packages: Vec<_> = all.filter(|id| belongs(self, id)).collect();
        self.sort_by_mention(&mut packages);
        let reason = match wanted {
            None => Reason::Essential,
            Some(_) => Reason::Requested { spec: text.to_owned() },
        };
        let packages = packages.into_iter().map(|id| (id, None)).collect();
        Ok(Selected { packages, reason, remove: false, release: None })
    }

    /// The packages that a spec names.
    fn expand(&mut self, spec: &Spec<'_>) -> Result<Vec<PkgId>, Unsolvable> {
        let group = self.universe.group(spec.pattern);
        if let Some(found) = self.by_arch(group, spec.arch) {
            return Ok(vec![found]);
        }
        if !group.is_empty() || !self.universe.providers(spec.pattern).is_empty() {
            if !spec.arch.is_none_or(|arch| self.is_known_for(spec.pattern, arch)) {
                return Err(self.unknown(spec));
            }
            return self.only_provider(spec).map(|id| vec![id]);
        }
        let mut found = self.matching(spec)?;
        if found.is_empty() {
            return Err(self.unknown(spec));
        }
        self.sort_by_mention(&mut found);
        Ok(found)
    }

    /// Of the packages of one name the one for `arch`: the native one or the first
    /// foreign one that has a candidate where none is given.
    fn by_arch(&self, group: &[PkgId], arch: Option<&str>) -> Option<PkgId> {
        let rank = |id: &&PkgId| {
            let missing = self.state(**id).candidate.is_none();
            (missing, self.universe.arch_rank(&self.universe.package(**id).arch))
        };
        group.iter().filter(|id| self.has_arch(**id, arch)).min_by_key(rank).copied()
    }

    /// A name that is only provided stands for its provider if there is one alone.
    fn only_provider(&self, spec: &Spec<'_>) -> Result<PkgId, Unsolvable> {
        let name = spec.pattern;
        let mut providers: Vec<PkgId> = Vec::new();
        let own = self.universe.group(name).iter();
        let own = own.flat_map(|id| self.universe.package(*id).versions.iter());
        for &version in own.chain(self.universe.providers(name)) {
            let package = self.universe.package_of(version);
            let foreign = self.universe.record(version).multi_arch == MultiArch::Foreign;
            let fits = foreign || self.has_arch(package, spec.arch.or(Some("native")));
            if fits && self.is_candidate(version) && !providers.contains(&package) {
                providers.push(package);
            }
        }
        match providers.as_slice() {
            [only] => Ok(*only),
            [] => Err(Unsolvable::one(format!(
                "“{name}” is only provided by packages of which no version may be installed"
            ))),
            several => {
                let names: Vec<_> = several.iter().map(|id| self.universe.display(*id)).collect();
                Err(Unsolvable::one(format!(
                    "“{name}” is a virtual package: name one of those that provide it ({})",
                    names.join(", ")
                )))
            }
        }
    }

    /// Whether apt has heard of `name` for an architecture of which no package has
    /// that name: one of that architecture asks for it or provides it.
    fn is_known_for(&self, name: &str, arch: &str) -> bool {
        if self.universe.native == arch || matches!(arch, "native" | "all") {
            return true;
        }
        self.universe.versions.iter().any(|version| {
            let record = &version.record;
            let own = record.architecture == arch;
            let speaks = |relation: Relation<'_>| {
                relation.name == name
                    && match relation.qualifier {
                        None => own,
                        Some(qualifier) => qualifier == ArchQualifier::Arch(arch),
                    }
            };
            let mut fields = [
                &record.pre_depends,
                &record.depends,
                &record.recommends,
                &record.suggests,
                &record.enhances,
            ]
            .into_iter();
            fields.any(|f| f.names().any(|n| n == name) && f.relations().any(speaks))
                || (own && record.provides.names().any(|n| n == name))
        })
    }

    /// Whether the package is of that architecture; any is where none is given.
    fn has_arch(&self, id: PkgId, arch: Option<&str>) -> bool {
        let own = &self.universe.package(id).arch;
        arch.is_none_or(|arch| {
            *own == arch || (matches!(arch, "native" | "all") && *own == self.universe.native)
        })
    }

    /// The packages that a task, glob or regular expression matches.
    fn matching(&self, spec: &Spec<'_>) -> Result<Vec<PkgId>, Unsolvable> {
        let arch_fits = |id: &PkgId| {
            let own = &self.universe.package(*id).arch;
            spec.arch.map_or(*own == self.universe.native, |arch| *own == arch)
        };
        let all = self.universe.all_packages().filter(arch_fits);
        if let Some(task) = spec.pattern.strip_suffix('^') {
            let in_task = |id: &PkgId| {
                let candidate = self.state(*id).candidate;
                candidate
                    .is_some_and(|v| self.universe.record(v).tasks.iter().any(|t| &**t == task))
            };
            return Ok(all.filter(in_task).collect());
        }
        let Some(regex) = pattern_regex(spec.pattern)? else { return Ok(Vec::new()) };
        let installable = |id: &PkgId| self.state(*id).candidate.is_some();
        let name_matches = |id: &PkgId| regex.is_match(self.universe.package(*id).name.as_str());
        Ok(all.filter(|id| installable(id) && name_matches(id)).collect())
    }

    /// The version of `package` that the spec asks for; none for the candidate.
    fn choose(&self, spec: &Spec<'_>, package: PkgId) -> Result<Option<VerId>, Unsolvable> {
        let versions = &self.universe.package(package).versions;
        let fits = |version: &&VerId| match spec.choice {
            Choice::Candidate => false,
            Choice::Version(wanted) => {
                let own = self.universe.record(**version).version.as_str();
                match pattern_regex(wanted) {
                    Ok(Some(glob)) if wanted.contains('*') => glob.is_match(own),
                    _ => own == wanted,
                }
            }
            Choice::Release(wanted) => self.is_of_release(**version, wanted),
        };
        let found = versions.iter().find(fits).copied();
        if found.is_some() || spec.choice == Choice::Candidate {
            return Ok(found);
        }
        let name = self.universe.display(package);
        let known: Vec<String> = versions
            .iter()
            .map(|v| format!("{} ({})", self.universe.record(*v).version, self.universe.origin(*v)))
            .collect();
        Err(Unsolvable::one(format!(
            "“{}” asks for a version of {name} that no source has; there is {}",
            spec.text,
            known.join(", ")
        )))
    }

    /// Whether a source that calls itself `release` has that version.
    pub fn is_of_release(&self, version: VerId, release: &str) -> bool {
        let sources = &self.universe.version(version).sources;
        sources.iter().any(|source| {
            let info = &self.universe.sources[*source as usize];
            info.releases.iter().any(|name| &**name == release)
        })
    }

    fn unknown(&self, spec: &Spec<'_>) -> Unsolvable {
        let wanted = spec.pattern;
        let mut chain = vec![format!("no source has a package “{}”", spec.text)];
        let native = |id: &PkgId| self.universe.package(*id).arch == self.universe.native;
        let nearest = self
            .universe
            .all_packages()
            .filter(native)
            .map(|id| self.universe.package(id).name.as_str())
            .map(|name| (strsim::damerau_levenshtein(name, wanted), name))
            .min();
        if let Some((distance, name)) = nearest
            && distance <= 1 + wanted.len() / 4
        {
            chain.push(format!("the nearest name is {name}"));
        }
        Unsolvable { chain }
    }
}

/// The expression for a glob or a regular expression; none for a plain name. As
/// for apt-get, `*` and `?` alone make a glob only where the text is no
/// expression with other operators.
fn pattern_regex(pattern: &str) -> Result<Option<Regex>, Unsolvable> {
    if !pattern.contains(['*', '?', '[', '^', '$', '|', '(', '.', '+', '\\']) {
        return Ok(None);
    }
    let is_expression = pattern.contains(['^', '$', '|', '(', '.', '+', '\\']);
    let text = if is_expression { pattern.to_owned() } else { glob_to_regex(pattern) };
    match Regex::new(&text) {
        Ok(regex) => Ok(Some(regex)),
        Err(_) => Err(Unsolvable::one(format!(
            "“{pattern}” is neither a package, a glob nor a regular expression"
        ))),
    }
}

fn glob_to_regex(glob: &str) -> String {
    let mut text = String::from("^");
    let mut in_class = false;
    for c in glob.chars() {
        match c {
            '*' if !in_class => text.push_str(".*"),
            '?' if !in_class => text.push('.'),
            '[' => {
                in_class = true;
                text.push('[');
            }
            ']' => {
                in_class = false;
                text.push(']');
            }
            '!' if text.ends_with('[') => text.push('^'),
            c if in_class => text.push(c),
            c => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    text.push('$');
    text
}
