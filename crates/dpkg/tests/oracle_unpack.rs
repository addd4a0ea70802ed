//! A whole image's packages: the tree and the database after laying them out
//! equal those that `dpkg --unpack` leaves.

mod common;

use std::fs;
use std::path::Path;

use common::{NOW, baseline, fresh_tree, read_dir, shell, tolerated, unpack_all};
use dpkg::{Database, Options, PathFilter, merge};
use store::Store;
use testkit::compare::{Aspects, differences};

/// Copies of the .debs without `preinst`: dpkg cannot unpack without running it, and
/// an empty root has no shell to run it with.
fn without_preinst(work: &Path, debs: &[std::path::PathBuf]) -> Vec<String> {
    let stripped = work.join("stripped");
    fs::create_dir(&stripped).unwrap();
    for deb in debs {
        let name = deb.file_name().unwrap();
        fs::hard_link(deb, stripped.join(name))
            .or_else(|_| fs::copy(deb, stripped.join(name)).map(|_| ()))
            .unwrap();
    }
    let script = format!(
        "cd {0}; for deb in *.deb; do
            member=$(ar t $deb | grep ^control.tar)
            dpkg-deb --ctrl-tarfile $deb | tar t | grep -qx ./preinst || continue
            data=$(ar t $deb | grep ^data.tar)
            mkdir x; cd x
            ar x ../$deb; rm $member
            dpkg-deb --ctrl-tarfile ../$deb | tar --delete ./preinst | gzip -1 > control.tar.gz
            rm ../$deb; ar rcD ../$deb debian-binary control.tar.gz $data
            cd ..; rm -r x
        done",
        stripped.display()
    );
    shell(work, &script);
    debs.iter().map(|deb| deb.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn compare(filter: PathFilter, options: &str) {
    let work = tempfile::tempdir().unwrap();
    let debs = baseline(work.path());
    let names = without_preinst(work.path(), &debs);
    let root = work.path().join("root");
    fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let script = format!(
        "cd {0}/stripped; dpkg --root={0}/root --force-depends --force-unsafe-io {options} \
         --unpack {1} > /dev/null 2>&1",
        work.path().display(),
        names.join(" ")
    );
    shell(work.path(), &script);

    let store = Store::open(&work.path().join("store")).unwrap();
    let mut tree = fresh_tree();
    let mut database = Database::load(&tree, "amd64").unwrap();
    let options = Options { filter, bootstrap: false };
    for package in unpack_all(&store, &debs) {
        merge(&mut tree, &mut database, &package, &options).unwrap();
    }
    database.write(&mut tree, NOW).unwrap();

    let aspects = Aspects { mtimes: true, ..Aspects::EXACT };
    let is_preinst = |line: &str| {
        line.starts_with("/var/lib/dpkg/info/") && line.ends_with(".preinst: only left")
    };
    let differences: Vec<String> = differences(&tree, &read_dir(&root), aspects)
        .into_iter()
        .filter(|line| !tolerated(line) && !is_preinst(line))
        .collect();
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(tree.len() > 5000, "only {} paths", tree.len());
}

#[test]
#[ignore = "oracle"]
fn a_whole_image_is_unpacked_as_dpkg_does_it() {
    compare(PathFilter::new(), "");
}

#[test]
#[ignore = "oracle"]
fn without_documentation_too() {
    let exclude: String = ["doc", "man", "groff", "gtk-doc", "info"]
        .map(|topic| format!("--path-exclude='/usr/share/{topic}/*' "))
        .concat();
    let options = format!("{exclude}--path-include='/usr/share/doc/*/copyright'");
    compare(PathFilter::without_docs(), &options);
}
