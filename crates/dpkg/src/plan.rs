//! [`plan_install`]: in which order packages are laid out, and which scripts run
//! when.
//!
//! What it is: a pure function to an [`InstallPlan`], which is data. What it is
//! not: laying out ([`crate::merge`]) or running (`sandbox`).
//!
//! The rule. dpkg runs a `preinst` before the package's files are there, with its
//! Pre-Depends configured. All other packages may then be in any state (Debian
//! Policy 6.5, 7.2), so no correct script can tell in which; hence:
//!
//! - A tree without packages is bootstrapped: the Essential packages and what they
//!   depend on are laid out together, then their `preinst` run, then they are
//!   configured. No order can do better, for these scripts need each other's
//!   files; debootstrap, mmdebstrap and mkosi do the same.
//! - A package without `preinst` has nothing that could see what is configured
//!   when it is laid out. It is laid out with the last batch, or earlier if a
//!   `preinst` of a later batch has it among its Pre-Depends (closed over Depends).
//! - A package with `preinst` belongs to a batch after that of its Pre-Depends: the
//!   last one, unless a later `preinst` waits for it. All `preinst` of a batch run,
//!   then all its files are laid out.
//!
//! So batches = 1 + the longest chain of Pre-Depends through packages with a
//! `preinst`, two as a rule. Every batch but the last is configured before the
//! next one's `preinst` run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use debian::Relation;
use serde::{Deserialize, Serialize};
use tree::{Content, Meta, Tree, TreeError, TreePath};

use crate::{Control, Database, Package, State, configure};

/// Where dpkg has the control files of the package that it is unpacking.
const STAGING: &str = "/var/lib/dpkg/tmp.ci";
/// The script that [`InstallPlan::stage`] writes.
const DRIVER: &str = "/var/lib/dpkg/tmp.run";
/// Where [`InstallPlan::stage`] puts programs that come before the image's own.
pub const SHIMS: &str = "/var/lib/dpkg/tmp.bin";

/// Hands a date down to the commands, in the driver's words.
const DATE: &str = "${SOURCE_DATE_EPOCH:+SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH}";

/// Why packages cannot be ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A package must be configured before itself.
    #[error("the Pre-Depends of these packages form a loop: {}", .0.join(", "))]
    Loop(Vec<String>),
}

/// A program to run in the tree, from `/`, with umask 022.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment, sorted by name.
    pub environment: Vec<(String, String)>,
    /// For a script: the package (an index into those planned) whose control files
    /// must be in `/var/lib/dpkg/tmp.ci` while it runs.
    pub package: Option<usize>,
}

/// One step. Indices are into the packages that were planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Lay these out, in this order, then write the database.
    Unpack {
        /// Which.
        packages: Vec<usize>,
        /// For [`crate::Options::bootstrap`].
        bootstrap: bool,
    },
    /// Run these one after the other, in one process; then load the tree and the
    /// database again.
    Run {
        /// What.
        commands: Vec<Command>,
    },
}

/// What to do in which order. See the module's head.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InstallPlan {
    /// The steps; the last one configures everything.
    pub steps: Vec<Step>,
}

/// Plans the installation of `packages`, each not yet installed.
pub fn plan_install(
    database: &Database,
    packages: &[Arc<Package>],
) -> Result<InstallPlan, PlanError> {
    let planner = Planner::new(database, packages);
    let bootstrap = planner.bootstrap_set();
    let levels = planner.levels(&bootstrap)?;
    let last = levels.iter().copied().max().unwrap_or(0);
    let mut plan = InstallPlan::default();
    for level in 0..=last {
        let batch: Vec<usize> =
            planner.order.iter().copied().filter(|i| levels[*i] == level).collect();
        let is_bootstrap = level == 0 && !bootstrap.is_empty();
        let scripts: Vec<Command> = batch.iter().filter_map(|i| planner.preinst(*i)).collect();
        if batch.is_empty() {
            continue;
        }
        if is_bootstrap {
            plan.unpack(batch, true);
            plan.run(scripts);
        } else {
            plan.run(scripts);
            plan.unpack(batch, false);
        }
        plan.run(vec![configure::command(level == last)]);
    }
    Ok(plan)
}

impl InstallPlan {
    fn unpack(&mut self, packages: Vec<usize>, bootstrap: bool) {
        self.steps.push(Step::Unpack { packages, bootstrap });
    }

    /// Neighbouring runs are one: each costs a start of the sandbox.
    fn run(&mut self, mut new: Vec<Command>) {
        match self.steps.last_mut() {
            Some(Step::Run { commands }) => commands.append(&mut new),
            _ if new.is_empty() => {}
            _ => self.steps.push(Step::Run { commands: new }),
        }
    }

    /// How many times something is run.
    pub fn runs(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Run { .. })).count()
    }

    /// Puts what `commands` of a [`Step::Run`] need into the tree, and a driver that
    /// runs them in order and removes it all. Returns what to run: one command.
    /// It fails with the first of them that fails, and says which on its standard error.
    ///
    /// `shims` are executable files that the commands find before the image's own of
    /// the same name, in [`SHIMS`].
    pub fn stage(
        tree: &mut Tree,
        packages: &[Arc<Package>],
        commands: &[Command],
        shims: &[(String, String)],
    ) -> Result<Command, TreeError> {
        for (name, text) in shims {
            let path = TreePath::literal(SHIMS).join(name)?;
            if let Some(dir) = path.parent() {
                tree.make_dirs(&dir)?;
            }
            tree.write(&path, 0o755, text.clone().into_bytes())?;
        }
        let mut driver = String::from("#!/bin/sh\ncd /\numask 022\n");
        for (number, command) in commands.iter().enumerate() {
            if let Some(index) = command.package {
                let from = format!("{STAGING}.{number}");
                stage_control(tree, &packages[index], &from)?;
                driver.push_str(&format!("rm -rf {STAGING}\nmv {from} {STAGING} || exit\n"));
            }
            driver.push_str(&driver_line(command, packages, !shims.is_empty()));
        }
        driver.push_str(&format!("rm -rf {STAGING} {SHIMS} {DRIVER}\n"));
        tree.write(&TreePath::literal(DRIVER), 0o755, driver.into_bytes())?;
        Ok(Command {
            argv: vec!["/bin/sh".into(), DRIVER.into()],
            environment: configure::environment(),
            package: None,
        })
    }
}

fn driver_line(command: &Command, packages: &[Arc<Package>], shims: bool) -> String {
    let variables = command.environment.iter().map(|(name, value)| match (&name[..], shims) {
        ("PATH", true) => format!("PATH={SHIMS}:{value}"),
        _ => format!("{name}={value}"),
    });
    let words = ["env".to_owned(), "-i".to_owned()].into_iter().chain(variables);
    let words = words.chain(command.argv.iter().cloned());
    let mut quoted: Vec<String> = words.map(|word| quote(&word)).collect();
    // After `env -i`: what scripts date things with, if whoever runs the driver says so.
    quoted.insert(2, DATE.to_owned());
    let what = match command.package {
        Some(index) => format!("{}: preinst", packages[index].name()),
        None => command.argv.join(" "),
    };
    let message = quote(&format!("mkgold: {what} failed with exit code"));
    format!("{} || {{ code=$?; echo {message} $code >&2; exit $code; }}\n", quoted.join(" "))
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn stage_control(tree: &mut Tree, package: &Package, dir: &str) -> Result<(), TreeError> {
    let dir = tree.make_dirs(&TreePath::new(dir)?)?;
    for member in package.members() {
        let is_script = matches!(&member.name[..], "preinst" | "postinst" | "prerm" | "postrm");
        let mode = if is_script { member.mode | 0o111 } else { member.mode };
        let meta = Meta::file(mode).at(member.mtime);
        tree.add_file(dir.join(&member.name)?, meta, Content::inline(member.bytes.clone()))?;
    }
    Ok(())
}

struct Planner<'a> {
    database: &'a Database,
    packages: &'a [Arc<Package>],
    /// What each package needs configured (Depends and Pre-Depends), and the part
    /// of it that must be so before its `preinst`.
    needs: Vec<BTreeSet<usize>>,
    before: Vec<BTreeSet<usize>>,
    /// Everything, dependencies first where there is no loop.
    order: Vec<usize>,
}

impl<'a> Planner<'a> {
    fn new(database: &'a Database, packages: &'a [Arc<Package>]) -> Self {
        let mut providers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, package) in packages.iter().enumerate() {
            let provides = package.control().relations("Provides");
            let names = provides.relations().map(|r| r.name.to_owned());
            for name in names.chain([package.name().to_owned()]) {
                providers.entry(name).or_default().push(index);
            }
        }
        let needed = |package: &Package, fields: &[&str]| -> BTreeSet<usize> {
            let fields: Vec<_> = fields.iter().map(|f| package.control().relations(f)).collect();
            let groups = fields.iter().flat_map(|relations| relations.groups());
            // One provider is enough; the first alternative that is there is meant.
            let chosen = groups.filter_map(|group| {
                group.alternatives().find_map(|r| provider(packages, &providers, &r))
            });
            chosen.collect()
        };
        let needs: Vec<_> =
            packages.iter().map(|p| needed(p, &["Pre-Depends", "Depends"])).collect();
        let before = packages.iter().map(|p| needed(p, &["Pre-Depends"])).collect();
        let order = order(packages, &needs);
        Planner { database, packages, needs, before, order }
    }

    /// The Essential packages and what they need, if nothing is installed yet.
    fn bootstrap_set(&self) -> BTreeSet<usize> {
        let is_empty = !self.database.packages().any(|p| p.state() > State::ConfigFiles);
        let indices = 0..self.packages.len();
        let essential = |i: &usize| is_empty && self.packages[*i].control().is_essential();
        self.closure(indices.filter(essential).collect())
    }

    fn closure(&self, of: BTreeSet<usize>) -> BTreeSet<usize> {
        let mut todo: Vec<usize> = of.iter().copied().collect();
        let mut all = of;
        while let Some(index) = todo.pop() {
            todo.extend(self.needs[index].iter().filter(|need| all.insert(**need)));
        }
        all
    }

    /// The batch of every package.
    fn levels(&self, bootstrap: &BTreeSet<usize>) -> Result<Vec<usize>, PlanError> {
        let scripted = |i: &usize| self.has_preinst(*i) && !bootstrap.contains(i);
        let indices = 0..self.packages.len();
        let early: BTreeMap<usize, BTreeSet<usize>> = indices
            .clone()
            .filter(scripted)
            .map(|i| (i, self.closure(self.before[i].clone())))
            .collect();
        let mut needed: BTreeSet<usize> = early.values().flatten().copied().collect();
        needed.extend(bootstrap);
        // Without a bootstrapped base there is nothing that a first batch would be
        // laid out for; the scripts run in what is there.
        let first = usize::from(!bootstrap.is_empty());
        let mut levels = vec![0; self.packages.len()];
        loop {
            let mut changed = Vec::new();
            for i in indices.clone().filter(|i| !bootstrap.contains(i)) {
                let with = self.needs[i].iter().map(|n| levels[*n]).max().unwrap_or(0);
                let level = match early.get(&i) {
                    // It is configured in its batch if another waits for it: what it
                    // depends on must be there by then.
                    Some(before) => {
                        let after = before.iter().map(|b| levels[*b] + 1).max().unwrap_or(first);
                        after.max(first).max(if needed.contains(&i) { with } else { 0 })
                    }
                    None => with,
                };
                if level > levels[i] {
                    levels[i] = level;
                    changed.push(i);
                }
            }
            if changed.is_empty() {
                break;
            }
            if levels.iter().any(|level| *level > self.packages.len()) {
                let names = changed.iter().map(|i| self.packages[*i].name().to_owned());
                return Err(PlanError::Loop(names.collect()));
            }
        }
        let last = levels.iter().copied().max().unwrap_or(0);
        // What no script waits for is laid out last, beside all that it depends on: a
        // batch that is configured holds only what can be.
        for i in indices.filter(|i| !needed.contains(i)) {
            levels[i] = last;
        }
        Ok(levels)
    }

    fn has_preinst(&self, index: usize) -> bool {
        self.packages[index].member("preinst").is_some()
    }

    /// The `preinst` of a package, as dpkg 1.22 calls it.
    fn preinst(&self, index: usize) -> Option<Command> {
        let package = &self.packages[index];
        package.member("preinst")?;
        let control = package.control();
        let mut argv = vec![format!("{STAGING}/preinst"), "install".to_owned()];
        let old = self.database.package(control.name(), control.architecture());
        if let Some(old) = old.filter(|old| old.state() == State::ConfigFiles) {
            let version = old.config_version.as_deref().unwrap_or(old.control().version().as_str());
            argv.extend([version.to_owned(), control.version().to_string()]);
        }
        let mut environment = configure::environment();
        let dpkg = [
            ("DPKG_ADMINDIR", "/var/lib/dpkg"),
            ("DPKG_FORCE", configure::DPKG_FORCE),
            ("DPKG_MAINTSCRIPT_ARCH", control.architecture()),
            ("DPKG_MAINTSCRIPT_DEBUG", "0"),
            ("DPKG_MAINTSCRIPT_NAME", "preinst"),
            ("DPKG_MAINTSCRIPT_PACKAGE", control.name()),
            ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", &self.instances(control).to_string()),
            ("DPKG_ROOT", ""),
            ("DPKG_RUNNING_VERSION", &self.dpkg_version()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        environment.extend(dpkg);
        environment.sort();
        Some(Command { argv, environment, package: Some(index) })
    }

    /// How many architectures of the package there will be.
    fn instances(&self, control: &Control) -> usize {
        let there = self.database.packages().filter(|p| p.state() > State::ConfigFiles);
        let there = there.map(|p| p.control());
        let all = there.chain(self.packages.iter().map(|p| p.control()));
        let same = all.filter(|c| c.name() == control.name());
        same.map(|c| c.architecture()).collect::<BTreeSet<_>>().len()
    }

    /// The version that the image's dpkg reports: its package's, without revision.
    fn dpkg_version(&self) -> String {
        let there = self.database.packages().map(|p| p.control());
        let mut all = there.chain(self.packages.iter().map(|p| p.control()));
        all.find(|c| c.name() == "dpkg")
            .map(|c| c.version().upstream().to_owned())
            .unwrap_or_default()
    }
}

/// A package among those planned that satisfies the relation: the one of that name
/// first, then who provides it.
fn provider(
    packages: &[Arc<Package>],
    providers: &BTreeMap<String, Vec<usize>>,
    relation: &Relation<'_>,
) -> Option<usize> {
    let candidates = providers.get(relation.name)?;
    let real = |i: &&usize| packages[**i].name() == relation.name;
    let accepted = |i: &&usize| {
        relation.constraint.is_none_or(|c| c.matches(packages[**i].control().version()))
    };
    let named = candidates.iter().find(|i| real(i) && accepted(i));
    named.or_else(|| candidates.iter().find(|i| !real(i))).copied()
}

/// Laid out first, in this order, whatever they depend on; nothing declares it.
/// `base-files` has the links of the merged `/usr`, `base-passwd`'s `preinst` makes
/// the users that other scripts name (debootstrap installs these two first too).
const LEADING: [&str; 2] = ["base-files", "base-passwd"];

/// Dependencies first, by name where there is a choice; [`LEADING`] before all.
fn order(packages: &[Arc<Package>], needs: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut by_name: Vec<usize> = (0..packages.len()).collect();
    let leads = |i: usize| LEADING.iter().position(|name| *name == packages[i].name());
    by_name.sort_by_key(|i| {
        let package = packages[*i].control();
        (leads(*i).unwrap_or(LEADING.len()), package.name(), package.architecture())
    });
    let mut done = vec![false; packages.len()];
    let mut order: Vec<usize> = Vec::new();
    for start in by_name {
        if leads(start).is_some() {
            done[start] = true;
            order.push(start);
            continue;
        }
        // (package, what it needs and was not visited); a stack, for chains are long.
        let mut stack = vec![(start, needs[start].iter())];
        if std::mem::replace(&mut done[start], true) {
            continue;
        }
        while let Some((package, rest)) = stack.last_mut() {
            match rest.next() {
                Some(need) if done[*need] => {}
                Some(need) => {
                    done[*need] = true;
                    stack.push((*need, needs[*need].iter()));
                }
                None => {
                    order.push(*package);
                    stack.pop();
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Shelf;

    fn package(shelf: &Shelf, name: &str, fields: &str, preinst: bool) -> Arc<Package> {
        let script: &[(&str, &str)] = if preinst { &[("./preinst", "#!/bin/sh\n")] } else { &[] };
        shelf.package(name, fields, script, &[])
    }

    /// `name+name` for files, `!name` for a preinst, `configure` between.
    fn shown(plan: &InstallPlan, packages: &[Arc<Package>]) -> Vec<String> {
        let name = |i: &usize| packages[*i].name().to_owned();
        let step = |step: &Step| match step {
            Step::Unpack { packages, bootstrap } => {
                let mark = if *bootstrap { "bootstrap " } else { "" };
                format!("{mark}{}", packages.iter().map(name).collect::<Vec<_>>().join("+"))
            }
            Step::Run { commands } => {
                let command = |c: &Command| match c.package {
                    Some(index) => format!("!{}", name(&index)),
                    None => c.argv.last().cloned().unwrap_or_default(),
                };
                commands.iter().map(command).collect::<Vec<_>>().join(" ")
            }
        };
        plan.steps.iter().map(step).collect()
    }

    #[test]
    fn batches_follow_pre_depends_of_packages_with_scripts() {
        let shelf = Shelf::new();
        let packages = [
            package(&shelf, "app", "Depends: lib\n", false),
            package(&shelf, "lib", "", false),
            package(&shelf, "shell", "Essential: yes\nPre-Depends: libc (>= 1)\n", true),
            package(&shelf, "libc", "", true),
            package(&shelf, "base-passwd", "Essential: yes\nDepends: libc\n", true),
            package(&shelf, "kernel", "Pre-Depends: kernel-base | other\n", true),
            package(&shelf, "kernel-base", "Depends: virtual\n", false),
            package(&shelf, "real", "Provides: virtual\n", false),
            package(&shelf, "plain", "", true),
        ];
        let plan = plan_install(&Database::new("amd64"), &packages).unwrap();
        assert_eq!(
            shown(&plan, &packages),
            [
                "bootstrap base-passwd+real+kernel-base+libc+shell",
                "!base-passwd !libc !shell -a !kernel !plain",
                "lib+app+kernel+plain",
                "-a"
            ]
        );
        let text = postcard::to_allocvec(&plan).unwrap();
        assert_eq!(postcard::from_bytes::<InstallPlan>(&text).unwrap(), plan);
    }

    /// dpkg unpacks one after the other, so a package is half-installed in its own preinst.
    #[test]
    fn a_package_is_unpacked_or_absent_in_its_own_preinst() {
        let shelf = Shelf::new();
        let packages = [
            package(&shelf, "shell", "Essential: yes\n", true),
            package(&shelf, "base-passwd", "Essential: yes\n", true),
            package(&shelf, "app", "Pre-Depends: shell\n", true),
            package(&shelf, "plain", "", true),
        ];
        let mut database = Database::new("amd64");
        let mut tree = tree::Tree::new();
        let mut seen = Vec::new();
        for step in plan_install(&database, &packages).unwrap().steps {
            match step {
                Step::Unpack { packages: batch, bootstrap } => {
                    let options = crate::Options { bootstrap, ..crate::Options::default() };
                    for index in batch {
                        crate::merge(&mut tree, &mut database, &packages[index], &options).unwrap();
                    }
                }
                Step::Run { commands } => {
                    for index in commands.iter().filter_map(|command| command.package) {
                        let name = packages[index].name();
                        let state = database.package(name, "all").map(crate::Installed::state);
                        seen.push((name, state));
                    }
                }
            }
        }
        let unpacked = Some(crate::State::Unpacked);
        assert_eq!(
            seen,
            [("base-passwd", unpacked), ("shell", unpacked), ("app", None), ("plain", None)]
        );
    }

    #[test]
    fn a_batch_that_is_configured_holds_only_what_can_be() {
        let shelf = Shelf::new();
        let packages = [
            package(&shelf, "a", "Pre-Depends: b\n", true),
            package(&shelf, "b", "Pre-Depends: c\n", true),
            package(&shelf, "c", "", true),
            // Has a script that nobody waits for, and needs what is laid out last.
            package(&shelf, "early", "Depends: late\n", true),
            package(&shelf, "late", "Depends: a\n", false),
        ];
        let plan = plan_install(&Database::new("amd64"), &packages).unwrap();
        assert_eq!(
            shown(&plan, &packages),
            ["!c", "c", "-a !b", "b", "-a !a !early", "a+late+early", "-a"]
        );
    }

    #[test]
    fn chains_take_more_batches_and_loops_are_errors() {
        let shelf = Shelf::new();
        let packages = [
            package(&shelf, "a", "Pre-Depends: b\n", true),
            package(&shelf, "b", "Depends: c\n", false),
            package(&shelf, "c", "Pre-Depends: d\n", true),
            package(&shelf, "d", "", false),
        ];
        let plan = plan_install(&Database::new("amd64"), &packages).unwrap();
        assert_eq!(shown(&plan, &packages), ["d", "-a !c", "c+b", "-a !a", "a", "-a"]);
        let packages = [
            package(&shelf, "x", "Pre-Depends: y\n", true),
            package(&shelf, "y", "Depends: x\n", false),
        ];
        let error = plan_install(&Database::new("amd64"), &packages).unwrap_err();
        assert!(error.to_string().contains("form a loop"), "{error}");
        assert!(plan_install(&Database::new("amd64"), &[]).unwrap().steps.is_empty());
    }
}
