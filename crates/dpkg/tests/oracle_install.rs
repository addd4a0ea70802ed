//! The installation plan, carried out: the image's own scripts and dpkg accept the
//! trees that they are given, and nothing is left to configure. As an ordinary user only
//! the oracle root is looked at, which mkgold installed in its sandbox.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{NOW, baseline, fresh_tree, read_dir, shell, unpack_all};
use dpkg::{Database, InstallPlan, Options, Package, State, Step, configure, merge, plan_install};
use store::Store;
use testkit::{oracle, privilege};
use tree::{Tree, TreePath};

/// Lays the tree out, runs the command in it, reads it again.
fn run(work: &Path, number: usize, tree: &Tree, command: &dpkg::Command) -> Tree {
    let root = work.join(format!("root{number}"));
    fs::create_dir(&root).unwrap();
    let tar = work.join("tree.tar");
    tree::tar::write(tree, &mut File::create(&tar).unwrap()).unwrap();
    let quote = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
    let environment: Vec<String> =
        command.environment.iter().map(|(k, v)| quote(&format!("{k}={v}"))).collect();
    let argv: Vec<String> = command.argv.iter().map(quote).collect();
    let script = format!(
        "cd {root}; tar xpf ../tree.tar --numeric-owner --xattrs --xattrs-include='*'
         mkdir -p dev proc; mount --rbind /dev dev; mount -t proc proc proc
         chroot . /usr/bin/env -i {} {} > ../log{number} 2>&1 ||
             {{ code=$?; tail -n 40 ../log{number} >&2; exit $code; }}",
        environment.join(" "),
        argv.join(" "),
        root = root.display()
    );
    shell(work, &script);
    read_dir(&root)
}

fn install(work: &Path, tree: Tree, packages: &[Arc<Package>]) -> (Tree, InstallPlan) {
    let mut tree = tree;
    let mut database = Database::load(&tree, "amd64").unwrap();
    let plan = plan_install(&database, packages).unwrap();
    let policy = TreePath::literal(configure::POLICY_RC_D);
    let mut first = true;
    for (number, step) in plan.steps.iter().enumerate() {
        match step {
            Step::Unpack { packages: batch, bootstrap } => {
                let options = Options { bootstrap: *bootstrap, ..Options::default() };
                for index in batch {
                    merge(&mut tree, &mut database, &packages[*index], &options).unwrap();
                }
                database.write(&mut tree, NOW).unwrap();
                if std::mem::take(&mut first) {
                    tree.write(&policy, 0o755, configure::POLICY_RC_D_TEXT.as_bytes()).unwrap();
                }
            }
            Step::Run { commands } => {
                let command = InstallPlan::stage(&mut tree, packages, commands, &[]).unwrap();
                tree = run(work, number, &tree, &command);
                database = Database::load(&tree, "amd64").unwrap();
            }
        }
    }
    for path in [&policy, &TreePath::literal("var/lib/dpkg/tmp.run")] {
        tree.remove(path);
    }
    (tree, plan)
}

/// What dpkg says of a root file system.
const CHECK: &str = "dpkg --audit; dpkg --verify";

/// The oracle root was installed by such a plan, too, by whoever runs this.
#[test]
#[ignore = "oracle"]
fn the_oracle_root_is_whole() {
    let said = oracle::stdout("/bin/sh", ["-c", CHECK], &[]);
    let unexplained = |line: &&str| {
        // Built with WithDocs=no; the copy of the machine's that apt needs there.
        let path = line.split_once(" /").map_or("", |(_, path)| path);
        let docs = ["doc", "man", "info", "groff"].map(|dir| format!("usr/share/{dir}/"));
        !(line.starts_with("missing") && docs.iter().any(|dir| path.starts_with(&**dir)))
    };
    let unexplained: Vec<_> = said.lines().filter(unexplained).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let list = oracle::stdout("dpkg-query", ["--show", "--showformat=${db:Status-Status}\n"], &[]);
    assert!(list.lines().count() > 200, "{list}");
    assert!(list.lines().all(|state| state == "installed"), "{list}");
}

#[test]
#[ignore = "oracle"]
fn a_whole_image_is_installed() {
    if !privilege::is_root() {
        return privilege::not_tested("the plan carried out by chroot and dpkg alone", "root");
    }
    let work = tempfile::tempdir().unwrap();
    let debs: Vec<PathBuf> = baseline(work.path());
    let store = Store::open(&work.path().join("store")).unwrap();
    let packages = unpack_all(&store, &debs);
    let (tree, plan) = install(work.path(), fresh_tree(), &packages);
    assert_eq!(plan.runs(), 2);

    let database = Database::load(&tree, "amd64").unwrap();
    let unfinished: Vec<_> = database
        .packages()
        .filter(|p| p.state() != State::Installed)
        .map(|p| (p.control().name().to_owned(), p.state()))
        .collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
    let left: Vec<_> = tree
        .iter()
        .map(|(path, _, _)| path.to_string())
        .filter(|path| path.ends_with(".dpkg-new") || path.contains("/dpkg/tmp."))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let last = work.path().join(format!("root{}", plan.steps.len() - 1));
    let check = format!("chroot {0} dpkg --audit; chroot {0} dpkg --verify", last.display());
    assert_eq!(shell(work.path(), &check), "");
    a_preinst_sees_what_dpkg_shows(work.path(), &store, tree, &last);
}

/// Its arguments, environment, directory, umask, and the files beside it.
fn a_preinst_sees_what_dpkg_shows(work: &Path, store: &Store, tree: Tree, installed: &Path) {
    let build = format!(
        "cd {}; mkdir -p env/DEBIAN env/usr/share/env; touch env/usr/share/env/f
         printf 'Package: env\nVersion: 1\nArchitecture: amd64\nMaintainer: m\n' > env/DEBIAN/control
         printf 'Multi-Arch: same\nDescription: d\n' >> env/DEBIAN/control
         cat > env/DEBIAN/preinst <<'EOF'
#!/bin/sh
{{ echo \"$0 $*\"; env | sort; pwd; umask; ls -l /var/lib/dpkg/tmp.ci | cut -c1-10,41-; }} > /seen
EOF
         chmod 755 env/DEBIAN/preinst; touch -d @1600000000 env/DEBIAN/*
         dpkg-deb --root-owner-group -b env env.deb",
        work.display()
    );
    shell(work, &build);
    let second = work.join("second");
    fs::create_dir(&second).unwrap();
    let (tree, _) = install(&second, tree, &unpack_all(store, &[work.join("env.deb")]));
    let ours = tree.read(&TreePath::literal("seen"), 1 << 16).unwrap().unwrap();

    let command = configure::command(true);
    let environment: Vec<String> =
        command.environment.iter().map(|(name, value)| format!("'{name}={value}'")).collect();
    let force = command.argv.iter().filter(|a| a.starts_with("--force"));
    let options: Vec<&str> = force.map(String::as_str).collect();
    let script = format!(
        "cp {0}/env.deb {1}; chroot {1} env -i {2} dpkg {3} --unpack /env.deb > /dev/null
         cat {1}/seen",
        work.display(),
        installed.display(),
        environment.join(" "),
        options.join(" "),
    );
    assert_eq!(String::from_utf8_lossy(&ours), shell(work, &script));
}
