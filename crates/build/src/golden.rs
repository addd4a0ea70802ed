//! The tree on its way to gold: the project's trees and scripts over the packages, the
//! settings of the first boot, removals, and last the seal and the gate.
//!
//! What it is not: what is golden (`check`), what the single edits do (`finish`,
//! `removal`, `os`). The order is mkosi's (mkosi.1, "Execution Flow"), but for the seal:
//! nothing comes after it.

use std::collections::BTreeSet;

use check::{Change, Finding, Severity, Subject, Volume};
use config::Config;
use serde::Serialize;
use tree::{Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::finish;
use crate::provenance::Trail;
use crate::scripts::{Phase, Scripts};
use crate::{image, overlay, refresh, removal};

/// The step of the trail before anything of the project but its skeleton.
pub const PACKAGES: &str = "packages";

/// One thing that sealing changed, and who had put it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// What was found, and the fix.
    #[serde(flatten)]
    pub change: Change,
    /// The step that put it there, where that is known.
    pub step: Option<String>,
}

/// See the module's head.
pub struct Golden {
    /// The root file system.
    pub tree: Tree,
    /// The tree while it still had dpkg's database, if it has it no longer.
    with_database: Option<Tree>,
    /// What sealing changed.
    pub sealed: Vec<Sealed>,
    project_files: BTreeSet<TreePath>,
    trail: Trail,
}

impl Golden {
    /// Everything after the packages and build scripts, and before the seal.
    pub fn finish(
        mut tree: Tree,
        mut trail: Trail,
        automatic: &BTreeSet<(String, String)>,
        config: &Config,
        context: &Context,
        scripts: &mut Scripts,
    ) -> Result<Golden, BuildError> {
        let epoch = context.epoch;
        let before = refresh::State::of(&tree);
        let mut project_files = BTreeSet::new();
        for extra in &config.content.extra_trees {
            project_files.extend(overlay::apply_one(&mut tree, extra, &context.store, epoch)?);
            trail.record(format!("extra tree {}", extra.source.display()), &tree);
        }
        tree = scripts.run(tree, Phase::Postinst, context, &mut trail)?;
        for warning in finish::configure(&mut tree, config, epoch)? {
            context.reporter.warn(warning);
        }
        if image::is_disk(config) {
            image::add_growth(&mut tree, config, epoch)?;
        }
        tree = refresh::run(tree, &before, config, context, scripts)?;
        trail.record("first-boot settings", &tree);
        tree = removal::remove_packages(tree, automatic, config, context, scripts)?;
        trail.record("the removal of packages", &tree);
        let with_database = removal::clean_package_metadata(&mut tree, config);
        finish::remove_files(&mut tree, &config.content.remove_files)?;
        tree = scripts.run(tree, Phase::Finalize, context, &mut trail)?;
        scripts.finish()?;
        context.clamp_times(&mut tree);
        Ok(Golden { tree, with_database, sealed: Vec::new(), project_files, trail })
    }

    /// The tree while it had dpkg's database: what the image is made of.
    pub fn with_database(&self) -> &Tree {
        self.with_database.as_ref().unwrap_or(&self.tree)
    }

    /// The seal, after every package, script and tree; then the gate.
    pub fn seal(
        &mut self,
        esp: Option<&mut Tree>,
        config: &Config,
        context: &Context,
    ) -> Result<(), BuildError> {
        let intent = finish::intent(config, std::mem::take(&mut self.project_files));
        let mut esp = esp;
        finish::machine_id(&mut self.tree, config, context.epoch)?;
        let done = finish::seal(&mut self.tree, esp.as_deref_mut(), &intent, context.epoch)?;
        self.sealed = done.changes.into_iter().map(|change| self.sealed_by(change)).collect();
        self.tell(context);
        let subject = Subject::new(&self.tree, esp.as_deref(), &intent);
        // Notices say what could be better, not that the image is not golden.
        let matters = |rule: &dyn check::Rule| rule.severity() > Severity::Notice;
        let report = check::check_some(&subject, matters);
        if !report.is_golden() || !done.left.is_empty() {
            return Err(self.refusal(&report, &done.left, config, context));
        }
        context.clamp_times(&mut self.tree);
        Ok(())
    }

    fn sealed_by(&self, change: Change) -> Sealed {
        let step = match change.finding.volume {
            Volume::Root => self.trail.origin(&change.finding.path).map(str::to_owned),
            _ => None,
        };
        Sealed { change, step }
    }

    /// What came from the project is worth a word: somebody may have meant it.
    fn tell(&self, context: &Context) {
        for sealed in &self.sealed {
            let Some(step) = sealed.step.as_deref().filter(|step| *step != PACKAGES) else {
                continue;
            };
            let (rule, path) = (sealed.change.rule, &sealed.change.finding.path);
            let message = &sealed.change.finding.message;
            context.reporter.note(format!("sealed {rule}: {path} of {step}: {message}"));
        }
    }

    fn refusal(
        &self,
        report: &check::Report,
        left: &[(&'static str, Finding)],
        config: &Config,
        context: &Context,
    ) -> BuildError {
        let left = left.iter().map(|(rule, finding)| (*rule, finding));
        let mut findings: Vec<_> = report.findings(Severity::Error).chain(left).collect();
        findings.sort_by(|(a, x), (b, y)| (a, &x.path).cmp(&(b, &y.path)));
        findings.dedup();
        let lines = findings.into_iter().map(|(rule, finding)| {
            let who = match finding.volume {
                Volume::Root => self.origin(&finding.path, config, context),
                _ => "the boot files".to_owned(),
            };
            format!("  {rule}: {} {} (from {who})", finding.path, finding.message)
        });
        let unknown = report.verdicts.iter().filter_map(|verdict| match &verdict.outcome {
            check::Outcome::Unknown { reason } => Some(format!("  {}: {reason}", verdict.id)),
            _ => None,
        });
        BuildError::NotGolden { findings: lines.chain(unknown).collect() }
    }

    /// Who put `path` there, in words.
    fn origin(&self, path: &TreePath, config: &Config, context: &Context) -> String {
        match self.trail.origin(path) {
            Some(PACKAGES) => {}
            Some(step) => return step.to_owned(),
            None => return "an unknown step".to_owned(),
        }
        if let Some(package) = package_of(self.with_database(), path) {
            return format!("package {package}");
        }
        for skeleton in &config.content.skeleton_trees {
            let mut only = Tree::new();
            let touched = overlay::apply_one(&mut only, skeleton, &context.store, context.epoch);
            if touched.is_ok_and(|touched| touched.contains(path)) {
                return format!("skeleton tree {}", skeleton.source.display());
            }
        }
        for base in &config.content.base_trees {
            let tree = overlay::read_base(base, &context.store);
            if tree.is_ok_and(|tree| tree.contains(path)) {
                return format!("base tree {}", base.display());
            }
        }
        "a script of a package".to_owned()
    }
}

/// The package whose list has `path`.
fn package_of(tree: &Tree, path: &TreePath) -> Option<String> {
    let wanted = path.to_string();
    let has = |list: &TreePath| {
        let text = tree.read(list, 64 << 20).and_then(Result::ok).unwrap_or_default();
        text.split(|b| *b == b'\n').any(|line| line == wanted.as_bytes())
    };
    let info = TreePath::literal("var/lib/dpkg/info");
    let lists = tree.children(&info).map(|(path, _)| path);
    let list = lists.filter(|path| path.name().ends_with(b".list")).find(|path| has(path))?;
    let name = String::from_utf8_lossy(list.name()).into_owned();
    Some(name.strip_suffix(".list").unwrap_or(&name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_the_package_that_lists_it() {
        let mut tree = Tree::new();
        let lists =
            [("a.list", "/.\n/etc\n/etc/x.key.old\n"), ("b:amd64.list", "/etc\n/etc/x.key\n")];
        for (name, text) in lists {
            let path = TreePath::new(format!("var/lib/dpkg/info/{name}")).unwrap();
            tree.write(&path, 0o644, text.as_bytes()).unwrap();
        }
        let of = |path| package_of(&tree, &TreePath::literal(path));
        assert_eq!(of("etc/x.key").as_deref(), Some("b:amd64"));
        assert_eq!(of("etc/y"), None);
    }
}
