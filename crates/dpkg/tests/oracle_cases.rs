//! Small packages made for one rule each: dpkg and mkgold lay them out alike, or
//! refuse them alike.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{NOW, read_dir, shell, tolerated, unpack_all};
use dpkg::{Database, Options, PathFilter, merge};
use store::Store;
use testkit::compare::{Aspects, differences};

/// `new NAME VERSION ARCH [FIELD…]` begins a package and enters its directory;
/// `build` ends it. `D` is dpkg on the root that the packages are laid over.
const PRELUDE: &str = r#"
D="dpkg --root=$W/root --force-unsafe-io --force-script-chrootless --force-depends --no-triggers"
mkdir -p $W/root/var/lib/dpkg $W/debs; touch $W/root/var/lib/dpkg/status
umask 022; n=0
new() {
    n=$((n + 1)); P=$W/$n; mkdir -p $P/DEBIAN; cd $P
    printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: m\n' $1 $2 $3 > DEBIAN/control
    shift 3
    for field in "$@"; do echo "$field" >> DEBIAN/control; done
    echo 'Description: d' >> DEBIAN/control
    mkdir -p usr/share
}
build() {
    find . -mindepth 1 -exec touch -h -d @1600000000 {} +
    dpkg-deb --root-owner-group -b . ${1:-$W/debs/$n.deb} > /dev/null
}
"#;

struct Case {
    name: &'static str,
    /// Makes the root and the packages.
    script: &'static str,
    /// What dpkg and mkgold both say; empty if they succeed.
    error: &'static str,
}

const fn case(name: &'static str, script: &'static str, error: &'static str) -> Case {
    Case { name, script, error }
}

const CASES: &[Case] = &[
    case(
        "Replaces takes the file and the entry in the other's list",
        "new a 1 all; echo a > usr/share/f; echo g > usr/share/g; build
         new b 1 all 'Replaces: a (<< 2)'; echo b > usr/share/f; build",
        "",
    ),
    case(
        "a package that is replaced leaves the file alone when it comes second",
        "new b 1 all 'Replaces: a'; echo b > usr/share/f; build
         new a 1 all; echo a > usr/share/f; echo g > usr/share/g; build",
        "",
    ),
    case(
        "Replaces counts only for the version that it names",
        "new a 1 all; echo a > usr/share/f; build
         new b 1 all 'Replaces: a (<< 1)'; echo b > usr/share/f; build",
        "trying to overwrite '/usr/share/f', which is also in package a (1)",
    ),
    case(
        "a conffile is replaced too",
        "new a 1 all; mkdir etc; echo a > etc/c; echo g > usr/share/g
             echo /etc/c > DEBIAN/conffiles; build
         new b 1 all 'Replaces: a'; mkdir etc; echo b > etc/c; echo /etc/c > DEBIAN/conffiles; build",
        "",
    ),
    case(
        "a diversion for a package moves the files of the others",
        "printf '/usr/share/f\n/usr/share/f.real\nb\n' > $W/root/var/lib/dpkg/diversions
         new a 1 all; echo a > usr/share/f; ln usr/share/f usr/share/g; build
         new b 1 all; echo b > usr/share/f; build",
        "",
    ),
    case(
        "a local diversion moves every file, and links to it follow",
        "printf '/usr/share/f\n/usr/lib/f.real\n:\n' > $W/root/var/lib/dpkg/diversions
         mkdir -p $W/root/usr/lib
         new a 1 all; echo a > usr/share/f; ln usr/share/f usr/share/z; ln usr/share/f usr/share/a; build",
        "",
    ),
    case(
        "the target of a diversion cannot be shipped",
        "printf '/usr/share/f\n/usr/share/f.real\n:\n' > $W/root/var/lib/dpkg/diversions
         new a 1 all; echo a > usr/share/f.real; build",
        "trying to overwrite '/usr/share/f.real', which is the diverted version of '/usr/share/f'",
    ),
    case(
        "two packages whose file is diverted alike conflict",
        "printf '/usr/share/f\n/usr/share/f.real\nc\n' > $W/root/var/lib/dpkg/diversions
         new a 1 all; echo a > usr/share/f; build
         new b 1 all; echo b > usr/share/f; build",
        "trying to overwrite '/usr/share/f', which is also in package a (1)",
    ),
    case(
        "overrides decide owner and mode",
        "printf '#7 #8 4750 /usr/share/f\nroot #9 2770 /usr/share/d\n#3 #4 600 /etc/c\n' \
             > $W/root/var/lib/dpkg/statoverride
         new a 1 all; mkdir usr/share/d etc; echo a > usr/share/f; echo c > etc/c
             echo /etc/c > DEBIAN/conffiles; build",
        "",
    ),
    case(
        "an override of a diverted file",
        "printf '#7 #8 4750 /usr/share/f\n#5 #6 600 /usr/share/g.real\n' > $W/root/var/lib/dpkg/statoverride
         printf '/usr/share/f\n/usr/share/f.real\n:\n/usr/share/g\n/usr/share/g.real\n:\n' \
             > $W/root/var/lib/dpkg/diversions
         new a 1 all; echo a > usr/share/f; echo a > usr/share/g; build",
        "",
    ),
    case(
        "links to directories are followed and stay",
        "mkdir -p $W/root/usr/lib $W/root/srv/d $W/root/usr/share/real
         ln -s usr/lib $W/root/lib; ln -s ../../srv $W/root/usr/share/s; ln -s real $W/root/usr/share/same
         new a 1 all; mkdir -p lib/sub usr/share/s/d/e; echo a > lib/sub/f; echo b > usr/share/s/d/e/f
             ln -s ../share/./real usr/share/same; ln -s elsewhere usr/share/real; build",
        "",
    ),
    case(
        "a link to another directory replaces the link",
        "mkdir -p $W/root/usr/share/one $W/root/usr/share/two; ln -s one $W/root/usr/share/l
         new a 1 all; ln -s two usr/share/l; build",
        "",
    ),
    case(
        "what belongs to nobody is replaced",
        "S=$W/root/usr/share; mkdir -p $S/dir; echo x > $S/f; ln -s nowhere $S/l; echo x > $S/d
         ln -s nowhere $S/dangling; echo x > $S/twin; ln $S/twin $S/other; mkdir $S/empty
         new a 1 all; cd usr/share; echo a > f; echo a > l; mkdir d dangling; echo a > twin
             ln -s x dir; echo a > empty; cd ../..; build",
        "",
    ),
    case(
        "modes, devices, pipes and long names",
        "new a 1 all; cd usr/share; mkdir d; chmod 3775 d; echo a > s; chmod 6755 s; mkfifo p
             mknod c c 5 300; mknod b b 259 70000; chmod 600 b
             L=$(printf 'x%.0s' $(seq 120)); mkdir -p $L/$L; echo y > $L/$L/$L; ln -s /$L/$L/$L $L/l
             ln $L/$L/$L $L/hard; cd ../..; build",
        "",
    ),
    case(
        "the first package decides about a shared directory",
        "new a 1 all; mkdir usr/share/d; chmod 700 usr/share/d; echo a > usr/share/a; build
         new b 1 all; mkdir usr/share/d; chmod 755 usr/share/d; echo b > usr/share/d/f; build",
        "",
    ),
    case(
        "conffiles wait beside their place",
        "mkdir -p $W/root/etc; echo mine > $W/root/etc/there
         new a 1 all; mkdir etc; echo c > etc/c; echo t > etc/there; ln -s c etc/l
             ln etc/c usr/share/hard; echo k > usr/share/k; ln usr/share/k etc/hard
             printf '/etc/c\n/etc/there\n/etc/l\n/etc/hard\nremove-on-upgrade /etc/gone\n' \
                 > DEBIAN/conffiles; build",
        "",
    ),
    case(
        "instances of several architectures share files",
        "$D --add-architecture i386
         new a 1 amd64 'Multi-Arch: same'; mkdir etc; echo s > usr/share/f; echo 6 > usr/share/6
             echo c > etc/c; echo /etc/c > DEBIAN/conffiles; ln -s f usr/share/l; build
         new a 1 i386 'Multi-Arch: same'; mkdir etc; echo s > usr/share/f; echo 3 > usr/share/3
             echo c > etc/c; echo /etc/c > DEBIAN/conffiles; ln -s f usr/share/l; build",
        "",
    ),
    case(
        "instances may not differ in a shared file",
        "$D --add-architecture i386
         new a 1 amd64 'Multi-Arch: same'; echo s > usr/share/f; build
         new a 1 i386 'Multi-Arch: same'; echo t > usr/share/f; build",
        "trying to overwrite shared '/usr/share/f', which is different from other instances",
    ),
    case(
        "the configuration of a removed package is remembered",
        "new a 0.9 all; mkdir etc; echo o > etc/old; echo c > etc/c
             printf '/etc/old\n/etc/c\n' > DEBIAN/conffiles; build $W/old.deb
         $D -i $W/old.deb > /dev/null; $D -r a > /dev/null; rm -r $W/[0-9]*
         new a 1 all; mkdir etc; echo C > etc/c; echo n > etc/n
             printf '/etc/n\n/etc/c\n' > DEBIAN/conffiles; build",
        "",
    ),
    case(
        "triggers are registered, and noted for configured packages",
        "new i 1 all; touch usr/share/i; printf 'interest-await t1\ninterest-noawait t2\ninterest /usr/share/w\n' \
             > DEBIAN/triggers; build $W/i.deb
         new j 1 amd64 'Multi-Arch: same'; touch usr/share/j; printf 'interest t2\ninterest-noawait /usr/share/w/x\n' \
             > DEBIAN/triggers; build $W/j.deb
         $D -i $W/i.deb $W/j.deb > /dev/null; rm -r $W/[0-9]*
         new p 1 all; printf 'activate-await t1\n # why\n\nactivate-noawait t2\ninterest t3\n' \
             > DEBIAN/triggers; mkdir -p usr/share/w/x; echo a > usr/share/w/x/f; build
         new q 1 all; printf 'activate t2\nactivate t3\nactivate-noawait t1\ninterest-noawait t3\n' \
             > DEBIAN/triggers; build",
        "",
    ),
    case(
        "fields in dpkg's order and spelling",
        "new a 0:1.0-0 amd64 'X-Own: kept' 'priority: OPTIONAL' 'Section: x/y' 'Essential: no' \
             'Protected: yes' 'depends: b(>=1.0-0)|c:any,d ( << 0:2)' 'Multi-Arch: foreign' \
             'Provides: v(=1) , w' 'Tag: a, b' 'Homepage: h' 'Built-Using: x (= 1)' 'Bugs: b' \
             'Origin: o' 'Source: s (3)' 'Installed-Size: 12' 'Enhances: e'; build",
        "",
    ),
];

fn prepare(work: &Path, case: &Case) -> Vec<PathBuf> {
    let script = format!("W={}\n{PRELUDE}\n{}", work.display(), case.script);
    shell(work, &script);
    shell(work, &format!("cp -a {0}/root {0}/before", work.display()));
    let mut debs: Vec<_> =
        fs::read_dir(work.join("debs")).unwrap().map(|e| e.unwrap().path()).collect();
    debs.sort();
    debs
}

/// The differences, or what else is wrong.
fn problems(case: &Case, options: &Options, dpkg_options: &str) -> Vec<String> {
    let work = tempfile::tempdir().unwrap();
    let debs = prepare(work.path(), case);
    let names: Vec<String> = debs.iter().map(|d| d.display().to_string()).collect();
    let script = format!(
        "dpkg --root={0}/root --force-unsafe-io --force-depends --no-triggers {dpkg_options} \
         --unpack {1} > {0}/log 2>&1 && echo 0 || echo $?",
        work.path().display(),
        names.join(" ")
    );
    let code = shell(work.path(), &script);
    let log = fs::read_to_string(work.path().join("log")).unwrap();

    let store = Store::open(&work.path().join("store")).unwrap();
    let mut tree = read_dir(&work.path().join("before"));
    let mut database = Database::load(&tree, "amd64").unwrap();
    let result = unpack_all(&store, &debs)
        .iter()
        .try_for_each(|package| merge(&mut tree, &mut database, package, options).map(|_| ()));
    if !case.error.is_empty() {
        let ours = result.err().map(|e| e.to_string()).unwrap_or_default();
        let both = log.contains(case.error) && ours.contains(case.error);
        return if both { vec![] } else { vec![format!("dpkg: {log}\nmkgold: {ours}")] };
    }
    if let Err(error) = result {
        return vec![format!("mkgold: {error}; dpkg: {log}")];
    }
    if code.trim() != "0" {
        return vec![format!("dpkg: {log}")];
    }
    database.write(&mut tree, NOW).unwrap();
    let aspects = Aspects { mtimes: true, ..Aspects::EXACT };
    let after = read_dir(&work.path().join("root"));
    let mut lines = differences(&tree, &after, aspects);
    lines.retain(|line| !tolerated(line));
    if lines.iter().any(|line| line.contains("/status: ")) {
        lines.push(String::from_utf8(database.status_text()).unwrap());
        lines.push(fs::read_to_string(work.path().join("root/var/lib/dpkg/status")).unwrap());
    }
    lines
}

#[test]
#[ignore = "oracle"]
fn every_case_is_as_with_dpkg() {
    let mut failures = Vec::new();
    for case in CASES {
        for problem in problems(case, &Options::default(), "") {
            failures.push(format!("{}: {problem}", case.name));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
#[ignore = "oracle"]
fn filters_are_dpkgs() {
    let layout = case(
        "filters",
        "new a 1 all; cd usr/share; mkdir -p doc/p/sub man/man1 keep; echo c > doc/p/copyright
         echo x > doc/p/x; echo x > doc/p/sub/x; echo m > man/man1/m; ln -s p doc/link
         ln -s m man/man1/n; echo k > keep/k; cd ../..; build",
        "",
    );
    let filter = PathFilter::new()
        .exclude("/usr/share/doc/*")
        .include("/usr/share/doc/*/copyright")
        .exclude("/usr/share/man/*")
        .exclude("/usr/share/keep/[a-z]");
    let options = Options { filter, bootstrap: false };
    let dpkg_options = "--path-exclude='/usr/share/doc/*' \
        --path-include='/usr/share/doc/*/copyright' --path-exclude='/usr/share/man/*' \
        --path-exclude='/usr/share/keep/[a-z]'";
    let problems = problems(&layout, &options, dpkg_options);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
