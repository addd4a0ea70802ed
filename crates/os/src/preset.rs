//! systemd.preset(5), and what `systemctl --root=… preset-all` makes of it.
//!
//! First matching line wins; a unit that no line matches is enabled. Enabling
//! makes the links of `[Install]` below `/etc/systemd`; disabling removes every
//! link to the unit.

use std::collections::{BTreeMap, BTreeSet};

use glob::Pattern;
use tree::{Kind, Meta, Mtime, Node, Tree, TreePath};

use crate::units::{self, UnitFile};
use crate::{OsError, dropin, read_text};

/// Whose units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The system manager's.
    System,
    /// Every user's (`--global`).
    Global,
    /// The system manager's in an initrd.
    Initrd,
}

impl Scope {
    fn preset_dirs(self) -> [&'static str; 4] {
        match self {
            Scope::System => [
                "etc/systemd/system-preset",
                "run/systemd/system-preset",
                "usr/local/lib/systemd/system-preset",
                "usr/lib/systemd/system-preset",
            ],
            Scope::Global => [
                "etc/systemd/user-preset",
                "run/systemd/user-preset",
                "usr/local/lib/systemd/user-preset",
                "usr/lib/systemd/user-preset",
            ],
            Scope::Initrd => [
                "etc/systemd/initrd-preset",
                "run/systemd/initrd-preset",
                "usr/local/lib/systemd/initrd-preset",
                "usr/lib/systemd/initrd-preset",
            ],
        }
    }

    fn unit_dirs(self) -> [&'static str; 4] {
        match self {
            Scope::System | Scope::Initrd => units::SYSTEM_DIRS,
            Scope::Global => units::USER_DIRS,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Enable,
    Disable,
    Ignore,
}

#[derive(Debug, Clone)]
struct Rule {
    action: Action,
    pattern: Pattern,
    instances: Vec<String>,
}

/// The preset rules of a tree.
#[derive(Debug, Clone, Default)]
pub struct Presets(Vec<Rule>);

impl Presets {
    /// Reads the rules of `scope`.
    pub fn read(tree: &Tree, scope: Scope) -> Result<Presets, OsError> {
        let mut rules = Vec::new();
        for file in dropin::files(tree, &scope.preset_dirs(), ".preset") {
            let text = read_text(tree, &file)?.unwrap_or_default();
            rules.extend(text.lines().filter_map(rule));
        }
        Ok(Presets(rules))
    }

    /// What to enable for the unit called `name`: itself, instances of it, or
    /// nothing. `None` where a rule says to leave it alone.
    fn decide(&self, name: &str) -> Option<Vec<String>> {
        let rule = self.0.iter().find(|rule| match rule.instances.is_empty() {
            true => rule.pattern.matches(name),
            false => rule.pattern.as_str() == name,
        });
        match rule {
            None => Some(vec![name.to_owned()]),
            Some(Rule { action: Action::Ignore, .. }) => None,
            Some(Rule { action: Action::Disable, .. }) => Some(Vec::new()),
            Some(Rule { instances, .. }) if instances.is_empty() => Some(vec![name.to_owned()]),
            Some(Rule { instances, .. }) => {
                let instance = |i: &String| name.replacen("@.", &format!("@{i}."), 1);
                Some(instances.iter().map(instance).collect())
            }
        }
    }
}

fn rule(line: &str) -> Option<Rule> {
    let mut words = line.split_whitespace();
    let action = match words.next()? {
        "enable" => Action::Enable,
        "disable" => Action::Disable,
        "ignore" => Action::Ignore,
        _ => return None,
    };
    let pattern = Pattern::new(words.next()?).ok()?;
    Some(Rule { action, pattern, instances: words.map(str::to_owned).collect() })
}

/// Applies the presets to every unit, as `systemctl preset-all` does.
/// `data_dir` is how links name the directory of the distribution's units
/// (`/usr/lib/systemd/system`; `/lib/systemd/system` before Debian 13).
pub fn apply_all(
    tree: &mut Tree,
    scope: Scope,
    data_dir: &str,
    mtime: Mtime,
) -> Result<(), OsError> {
    let presets = Presets::read(tree, scope)?;
    let dirs = scope.unit_dirs();
    let units = units::all(tree, &dirs);
    let mut enable = Vec::new();
    let mut disable = BTreeSet::new();
    for (name, unit) in &units {
        // An instance is a matter of its template.
        if !matches!(unit, UnitFile::Regular(_)) || units::template_of(name).is_some() {
            continue;
        }
        match presets.decide(name) {
            None => {}
            Some(names) if names.is_empty() => {
                disable.insert(name.clone());
            }
            Some(names) => enable.extend(names),
        }
    }
    let mut enabler = Enabler { tree, units: &units, dirs: &dirs, data_dir, mtime };
    enabler.remove_links_to(&disable);
    let mut done = BTreeSet::new();
    while let Some(name) = enable.pop() {
        if done.insert(name.clone()) {
            enable.extend(enabler.enable(&name)?);
        }
    }
    Ok(())
}

/// Enables one unit, as `systemctl --root=… enable` does.
pub fn enable(
    tree: &mut Tree,
    scope: Scope,
    name: &str,
    data_dir: &str,
    mtime: Mtime,
) -> Result<(), OsError> {
    let dirs = scope.unit_dirs();
    let units = units::all(tree, &dirs);
    let mut enabler = Enabler { tree, units: &units, dirs: &dirs, data_dir, mtime };
    let mut pending = vec![name.to_owned()];
    let mut done = BTreeSet::new();
    while let Some(name) = pending.pop() {
        if done.insert(name.clone()) {
            pending.extend(enabler.enable(&name)?);
        }
    }
    Ok(())
}

struct Enabler<'a> {
    tree: &'a mut Tree,
    units: &'a BTreeMap<String, UnitFile>,
    dirs: &'a [&'a str],
    data_dir: &'a str,
    mtime: Mtime,
}

impl Enabler<'_> {
    /// Makes the links of one unit; returns what has to be enabled with it.
    fn enable(&mut self, name: &str) -> Result<BTreeSet<String>, OsError> {
        let file = units::template_of(name).map_or(name.to_owned(), |(template, _)| template);
        let Some(UnitFile::Regular(path)) = self.units.get(name).or(self.units.get(&file)) else {
            return Ok(BTreeSet::new());
        };
        let install = units::install(self.tree, self.dirs, &file, path)?;
        let link_name = match (&install.default_instance, units::is_template(name)) {
            (Some(instance), true) => name.replacen("@.", &format!("@{instance}."), 1),
            _ => name.to_owned(),
        };
        // A template without an instance is no unit: only another template, whose
        // instances pull in those of the same name, can want it (systemd.unit(5)).
        let may_want = |unit: &str| !units::is_template(&link_name) || units::is_template(unit);
        let target = self.link_target(path);
        let base = self.dirs[0];
        let mut links = Vec::new();
        for alias in &install.alias {
            links.push(format!("{base}/{}", expand(alias, &link_name)));
        }
        let sets = [
            ("wants", &install.wanted_by),
            ("requires", &install.required_by),
            ("upholds", &install.upheld_by),
        ];
        for (kind, by) in sets {
            let by = by.iter().map(|unit| expand(unit, &link_name)).filter(|unit| may_want(unit));
            links.extend(by.map(|unit| format!("{base}/{unit}.{kind}/{link_name}")));
        }
        for link in links {
            self.link(&link, &target)?;
        }
        Ok(install.also)
    }

    /// How links name the unit file: by the directory it was found in.
    fn link_target(&self, path: &TreePath) -> String {
        let vendor = self.dirs[self.dirs.len() - 1];
        let vendor = TreePath::new(vendor).expect("a normal path");
        match path.strip_prefix(&vendor) {
            Some(name) => format!("{}{name}", self.data_dir),
            None => path.to_string(),
        }
    }

    fn link(&mut self, link: &str, target: &str) -> Result<(), OsError> {
        let Ok(path) = TreePath::new(link) else { return Ok(()) };
        let parent = path.parent().expect("below the configuration directory");
        let made: Vec<TreePath> = parent
            .ancestors()
            .chain([parent.clone()])
            .filter(|dir| !self.tree.contains(dir))
            .collect();
        self.tree.make_dirs(&parent)?;
        for dir in made {
            self.tree.get_mut(&dir).expect("just made").meta.mtime = self.mtime;
        }
        // systemctl keeps a link that leads to the same unit by another spelling.
        if self.leads_to(&path, target) {
            return Ok(());
        }
        let kind = Kind::Symlink(target.as_bytes().into());
        self.tree.put(path, Node { meta: Meta::symlink().at(self.mtime), kind })?;
        Ok(())
    }

    fn leads_to(&self, path: &TreePath, target: &str) -> bool {
        let resolve = |path: &TreePath| self.tree.resolve(path).ok();
        let target = TreePath::new(target).ok();
        matches!(self.tree.get(path).map(|n| &n.kind), Some(Kind::Symlink(_)))
            && resolve(path).is_some_and(|at| Some(at) == target.as_ref().and_then(resolve))
    }

    /// Removes the links to `units` and to instances of them, and directories
    /// that hold nothing else.
    fn remove_links_to(&mut self, units: &BTreeSet<String>) {
        let base = TreePath::new(self.dirs[0]).expect("a normal path");
        let is_to = |path: &TreePath, node: &Node| {
            let Kind::Symlink(target) = &node.kind else { return false };
            let names = [path.name(), target.rsplit(|b| *b == b'/').next().unwrap_or_default()];
            *target != (*b"/dev/null").into()
                && names.iter().any(|name| {
                    let name = String::from_utf8_lossy(name);
                    let template = units::template_of(&name).map(|(t, _)| t);
                    units.contains(&*name) || template.is_some_and(|t| units.contains(&t))
                })
        };
        let gone: Vec<TreePath> = self
            .tree
            .subtree(&base)
            .filter(|(path, _, node)| is_to(path, node))
            .map(|(path, _, _)| path.clone())
            .collect();
        for path in gone {
            self.tree.remove(&path);
            let dir = path.parent().expect("below the configuration directory");
            if dir != base && self.tree.children(&dir).next().is_none() {
                self.tree.remove(&dir);
            }
        }
    }
}

/// The specifiers that `[Install]` takes.
fn expand(value: &str, unit: &str) -> String {
    let stem = unit.rsplit_once('.').map_or(unit, |(stem, _)| stem);
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let last = prefix.rsplit('-').next().unwrap_or(prefix);
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, c == '%') {
            (c, false) => out.push(c),
            _ => match chars.next() {
                Some('i') => out.push_str(instance),
                Some('p') => out.push_str(prefix),
                Some('j') => out.push_str(last),
                Some('n') => out.push_str(unit),
                Some('N') => out.push_str(stem),
                Some('%') => out.push('%'),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &str) -> TreePath {
        TreePath::new(s).unwrap()
    }

    fn tree(presets: &str) -> Tree {
        let mut t = Tree::new();
        let mut unit = |name: &str, install: &str| {
            let text = format!("[Unit]\n[Install]\n{install}\n");
            t.write(&p(&format!("usr/lib/systemd/system/{name}")), 0o644, text.into_bytes())
                .unwrap();
        };
        unit("a.service", "WantedBy=multi-user.target\nAlias=b.service\nAlso=a.socket");
        unit("a.socket", "WantedBy=sockets.target");
        unit("off.service", "WantedBy=multi-user.target");
        unit("getty@.service", "WantedBy=getty.target\nDefaultInstance=tty1");
        unit("tmpl@.service", "RequiredBy=x@%i.target");
        unit("static.service", "");
        t.write(&p("usr/lib/systemd/system-preset/90-x.preset"), 0o644, presets.as_bytes())
            .unwrap();
        t
    }

    fn links(t: &Tree) -> Vec<String> {
        let below = p(units::CONFIG_DIR);
        let link = |(path, _, node): (&TreePath, _, &Node)| match &node.kind {
            Kind::Symlink(to) => {
                Some(format!("{} {}", path.strip_prefix(&below)?, String::from_utf8_lossy(to)))
            }
            _ => None,
        };
        t.subtree(&below).filter_map(link).collect()
    }

    const DATA: &str = "/usr/lib/systemd/system";

    #[test]
    fn a_template_is_wanted_by_templates_only() {
        let mut t = Tree::new();
        let text = "[Install]\nWantedBy=db@%i.service plain.target\n";
        t.write(&p("usr/lib/systemd/system/dump@.timer"), 0o644, text.as_bytes()).unwrap();
        apply_all(&mut t, Scope::System, DATA, Mtime::secs(3)).unwrap();
        let expected = "/db@.service.wants/dump@.timer /usr/lib/systemd/system/dump@.timer";
        assert_eq!(links(&t), [expected]);
    }

    #[test]
    fn enables_what_no_rule_forbids() {
        let mut t = tree("disable off.service\nenable tmpl@.service one two\nenable *\n");
        t.make_dirs(&p("etc/systemd/system/multi-user.target.wants")).unwrap();
        t.add_symlink(
            p("etc/systemd/system/multi-user.target.wants/off.service"),
            "/usr/lib/systemd/system/off.service",
        )
        .unwrap();
        apply_all(&mut t, Scope::System, DATA, Mtime::secs(3)).unwrap();
        let expected = [
            "/b.service /usr/lib/systemd/system/a.service",
            "/getty.target.wants/getty@tty1.service /usr/lib/systemd/system/getty@.service",
            "/multi-user.target.wants/a.service /usr/lib/systemd/system/a.service",
            "/sockets.target.wants/a.socket /usr/lib/systemd/system/a.socket",
            "/x@one.target.requires/tmpl@one.service /usr/lib/systemd/system/tmpl@.service",
            "/x@two.target.requires/tmpl@two.service /usr/lib/systemd/system/tmpl@.service",
        ];
        assert_eq!(links(&t), expected);
        let again = links(&t);
        apply_all(&mut t, Scope::System, DATA, Mtime::secs(3)).unwrap();
        assert_eq!(links(&t), again, "a second run changes nothing");
    }

    #[test]
    fn disable_removes_aliases_and_empty_directories() {
        let mut t = tree("enable a.service\ndisable *\n");
        apply_all(&mut t, Scope::System, DATA, Mtime::secs(3)).unwrap();
        let enabled = links(&t);
        assert_eq!(enabled.len(), 3, "a.service, its alias, and Also=: {enabled:?}");
        t.write(&p("etc/systemd/system-preset/00.preset"), 0o644, *b"disable *\n").unwrap();
        apply_all(&mut t, Scope::System, DATA, Mtime::secs(3)).unwrap();
        assert!(links(&t).is_empty());
        assert!(!t.contains(&p("etc/systemd/system/sockets.target.wants")));
    }

    #[test]
    fn ignore_leaves_alone_and_masks_are_respected() {
        let mut t = tree("ignore off.service\ndisable *\n");
        t.make_dirs(&p("etc/systemd/system/x.wants")).unwrap();
        t.add_symlink(p("etc/systemd/system/x.wants/off.service"), "/x/off.service").unwrap();
        t.add_symlink(p("etc/systemd/system/a.service"), "/dev/null").unwrap();
        apply_all(&mut t, Scope::System, DATA, Mtime::secs(3)).unwrap();
        assert_eq!(links(&t), ["/a.service /dev/null", "/x.wants/off.service /x/off.service"]);
    }
}
