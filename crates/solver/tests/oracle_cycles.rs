//! Dependency cycles, which apt-get refuses when it comes to ordering them: its choice,
//! which it prints before that, is ours.

use debian::Architecture;
use solver::{Installed, Request, SourceInfo, Universe};
use testkit::oracle;

/// Packages (name, fields), what is asked for, and how apt-get ends.
const CASES: [(&[(&str, &str)], &str); 4] = [
    // apt-get takes this one: the control.
    (&[("a", "Depends: b"), ("b", "Depends: a")], ""),
    (&[("a", "Pre-Depends: b"), ("b", "Pre-Depends: a")], "E: Couldn't configure a:amd64"),
    (&[("a", "Pre-Depends: b"), ("b", "Depends: a")], "E: Could not configure 'b:amd64'"),
    (
        &[
            ("a", "Essential: yes\nPre-Depends: b"),
            ("b", "Depends: a, c"),
            ("c", "Priority: extra"),
        ],
        "E: Conf Broken b:amd64",
    ),
];

fn index(packages: &[(&str, &str)]) -> String {
    let stanza = |(name, fields): &(&str, &str)| {
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: amd64\nFilename: ./{name}.deb\nSize: 1\n\
             SHA256: {:064}\nDescription: x\n{fields}\n\n",
            0
        )
    };
    packages.iter().map(stanza).collect()
}

/// What `apt-get --simulate install a` prints with this archive.
fn ask_apt(index: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    for name in ["lists/partial", "etc/apt.conf.d", "etc/preferences.d", "cache", "archive"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("archive/Packages", index);
    write("status", "");
    write("etc/sources.list", &format!("deb [trusted=yes] file:{at}/archive ./\n"));
    write(
        "apt.conf",
        &format!(
            "Dir::State::lists \"{at}/lists\"; Dir::State::status \"{at}/status\";\n\
             Dir::Etc \"{at}/etc\"; Dir::Cache \"{at}/cache\"; APT::Sandbox::User \"root\";\n\
             APT::Architecture \"amd64\"; APT::Architectures {{ \"amd64\"; }};\n"
        ),
    );
    let configuration = format!("APT_CONFIG={at}/apt.conf");
    let script = "apt-get -qq update && apt-get --simulate install a 2>&1 || true";
    oracle::stdout("env", [&configuration, "/bin/sh", "-c", script], &[dir.path()])
}

/// The packages that it says it will install.
fn choice_of_apt(said: &str) -> Vec<String> {
    let (_, after) = said.split_once("NEW packages will be installed:\n").expect(said);
    let names = after.lines().take_while(|line| line.starts_with("  "));
    names.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
#[ignore = "oracle"]
fn cycles_that_apt_get_cannot_order_are_chosen_all_the_same() {
    for (packages, error) in CASES {
        let index = index(packages);
        let said = ask_apt(&index);
        assert_eq!(said.contains("\nE: "), !error.is_empty(), "{said}");
        assert!(said.contains(error), "{error}: {said}");
        let records = debian::read_packages(&index).unwrap();
        let info = SourceInfo { label: "main".into(), priority: 500, releases: vec![] };
        let builder = Universe::builder(Architecture::new("amd64").unwrap(), vec![]);
        let universe = builder.add(&records, info).build();
        let request = Request { specs: vec!["a".into()], ..Request::default() };
        let solution = solver::solve(&universe, &Installed::default(), &request).unwrap();
        let mut ours: Vec<_> =
            solution.install.iter().map(|chosen| chosen.record.name.to_string()).collect();
        ours.sort();
        assert_eq!(ours, choice_of_apt(&said), "{index}");
    }
}
