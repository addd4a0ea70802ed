//! The cases: for each tool, root file systems × ways to call it.

use std::collections::BTreeMap;

use super::Case;

/// All of them. Names are unique: answers are found by them.
pub fn all() -> Vec<Case> {
    [firstboot(), machine_id(), sysusers(), presets()].concat()
}

type Files = &'static [(&'static str, &'static str)];

fn tree(parts: &[Files]) -> BTreeMap<String, String> {
    let files = parts.iter().flat_map(|files| files.iter());
    files.map(|(path, entry)| ((*path).to_owned(), (*entry).to_owned())).collect()
}

fn cases(
    tool: &'static str,
    trees: &[(&str, &[Files])],
    calls: &[&[&str]],
    credentials: &[(&'static str, &'static str)],
) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, parts) in trees {
        for words in calls {
            let given: Vec<_> = credentials.iter().map(|(n, v)| format!("{n}={v}")).collect();
            cases.push(Case {
                name: format!("{tool} {} on {name} {}", words.join(" "), given.join(" ")),
                tool,
                tree: tree(parts),
                arguments: words.iter().map(|word| (*word).to_owned()).collect(),
                credentials: credentials.to_vec(),
            });
        }
    }
    cases
}

const OS: Files = &[
    ("usr/lib/os-release", "f 644 ID=test\n"),
    ("usr/bin/bash", "f 755 #!\n"),
    ("usr/bin/sh", "f 755 #!\n"),
    ("usr/bin/notes", "f 644 text\n"),
    ("bin", "l usr/bin"),
    ("usr/share/zoneinfo/UTC", "f 644 TZif2"),
    ("usr/share/zoneinfo/Europe/Berlin", "f 644 TZif2"),
    ("usr/share/zoneinfo/America/New_York", "f 644 TZif2"),
    ("usr/share/systemd/kbd-model-map", KEYMAPS),
];
/// Lines of the table that every systemd has.
const KEYMAPS: &str = "f 644 # console layout model variant options\n\
    de\tde\tpc105\t-\tterminate:ctrl_alt_bksp\nus\tus\tpc105+inet\t-\tterminate:ctrl_alt_bksp\n";
const ETC: Files = &[("etc", "d 755")];
const CONFIGURED: Files = &[
    ("etc/locale.conf", "f 644 LANG=fr_FR.UTF-8\n"),
    ("etc/vconsole.conf", "f 640 KEYMAP=fr\n"),
    ("etc/localtime", "l ../usr/share/zoneinfo/America/New_York"),
    ("etc/hostname", "f 600 old\n"),
    ("etc/machine-id", "f 444 0123456789abcdef0123456789abcdef\n"),
    ("etc/kernel/cmdline", "f 644 quiet\n"),
    (
        "etc/passwd",
        "f 644 root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:A:/home/alice:/bin/sh\n",
    ),
    ("etc/shadow", "f 640 root:$6$old:19000:0:99999:7:::\nalice:*:19000:0:99999:7:::\n"),
];
const LINKS: Files = &[
    ("etc/locale.conf", "l ../usr/lib/locale.conf"),
    ("etc/hostname", "l nowhere"),
    ("etc/machine-id", "f 644 uninitialized\n"),
    ("etc/passwd", "f 644 root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/shadow", "f 640 root:!unprovisioned:19000::::::\n"),
];
const NO_ROOT: Files = &[
    ("etc/passwd", "f 600 alice:x:1000:1000:A:/home/alice:/bin/sh\n"),
    ("etc/shadow", "f 640 alice:*:19000:0:99999:7:::\n"),
];
const OPEN: Files = &[("etc/passwd", "f 644 root::0:0:root:/root:/bin/sh\n")];
const EMPTY_HASH: Files = &[
    ("etc/passwd", "f 644 root::0:0:root:/root:/bin/sh\n"),
    ("etc/shadow", "f 640 root::19000:0:99999:7:::\n"),
];
const LINKED_ACCOUNTS: Files = &[
    ("etc/passwd", "l ../usr/lib/passwd"),
    ("usr/lib/passwd", "f 644 root:x:0:0:root:/root:/bin/sh\n"),
];

fn firstboot() -> Vec<Case> {
    const TOOL: &str = "systemd-firstboot";
    let trees: &[(&str, &[Files])] = &[
        ("an empty etc", &[OS, ETC]),
        ("no etc", &[OS]),
        ("a configured one", &[OS, CONFIGURED]),
        ("links", &[OS, LINKS]),
        ("accounts without root", &[OS, NO_ROOT]),
        ("a passwd alone", &[OS, OPEN]),
        ("an empty password", &[OS, EMPTY_HASH]),
        ("a linked passwd", &[OS, LINKED_ACCOUNTS]),
    ];
    let calls: &[&[&str]] = &[
        &[],
        &["--locale=de_DE.UTF-8"],
        &["--locale-messages=C.UTF-8"],
        &["--locale=C.UTF-8", "--locale-messages=C.UTF-8"],
        &["--locale=de_DE.UTF-8", "--locale-messages=C.UTF-8", "--force"],
        &["--keymap=de"],
        &["--keymap=us", "--force"],
        &["--timezone=Europe/Berlin"],
        &["--timezone=UTC", "--force"],
        &["--hostname=box-??"],
        &["--hostname=box.example.", "--force"],
        &["--root-password-hashed=$y$j9T$abc$def"],
        &["--root-password-hashed=$y$j9T$abc$def", "--force"],
        &["--root-shell=/bin/bash"],
        &["--root-shell=/bin/bash", "--force"],
        &["--root-shell=/usr/bin/sh", "--root-password-hashed=!*", "--force"],
        &["--delete-root-password"],
        &["--delete-root-password", "--force"],
        &["--kernel-command-line=quiet splash"],
        &["--kernel-command-line=root=/dev/vda2", "--force"],
        &["--machine-id=0A1b2c3d4e5f60718293a4b5c6d7e8f9"],
        &["--machine-id=0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", "--force"],
        &["--setup-machine-id"],
        &["--setup-machine-id", "--force"],
        &["--reset"],
        &["--reset", "--hostname=new", "--timezone=UTC", "--locale=C.UTF-8"],
    ];
    let mut all = cases(TOOL, trees, calls, &[]);
    let refused: &[&[&str]] = &[
        &["--locale=a/b"],
        &["--locale-messages=.."],
        &["--keymap=a/b"],
        &["--timezone=Mars/Base"],
        &["--timezone=../passwd"],
        &["--timezone=/UTC"],
        &["--hostname=a b"],
        &["--hostname=-a"],
        &["--hostname=a..b"],
        &["--hostname="],
        &["--machine-id=123"],
        &["--machine-id=0a1b2c3d4e5f60718293a4b5c6d7e8fx"],
        &["--root-shell=/bin/none"],
        &["--root-shell=bash"],
        &["--root-shell=/usr/bin/notes"],
        &["--root-shell=/usr/../usr/bin/bash"],
        &["--delete-root-password", "--root-password-hashed=x"],
        &["--delete-root-password", "--copy-root-password"],
        &["--nothing"],
        &["word"],
    ];
    all.extend(cases(TOOL, &trees[..1], refused, &[]));
    let long = "--hostname=aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg";
    all.extend(cases(TOOL, &trees[..1], &[&[long]], &[]));
    let given: &[&[(&str, &str)]] = &[
        &[("firstboot.locale", "it_IT.UTF-8")],
        &[("firstboot.locale", "it_IT.UTF-8"), ("firstboot.locale-messages", "C.UTF-8")],
        &[("firstboot.keymap", "de")],
        &[("firstboot.keymap", "a/b")],
        &[("firstboot.timezone", "Europe/Berlin")],
        &[("firstboot.timezone", "Mars/Base")],
        &[("firstboot.hostname", "from-credential")],
        &[("firstboot.hostname", "not valid")],
        &[("passwd.hashed-password.root", "$y$c"), ("passwd.shell.root", "/bin/bash")],
        &[("passwd.shell.root", "/bin/none")],
    ];
    let calls: &[&[&str]] =
        &[&[], &["--locale=de_DE.UTF-8"], &["--hostname=asked", "--keymap=us"], &["--force"]];
    for credentials in given {
        all.extend(cases(TOOL, &trees[..3], calls, credentials));
    }
    all
}

const DBUS_ID: Files = &[("var/lib/dbus/machine-id", "f 644 fedcba9876543210fedcba9876543210\n")];
const DBUS_LINK: Files = &[("var/lib/dbus/machine-id", "l /etc/machine-id")];

fn machine_id() -> Vec<Case> {
    let trees: &[(&str, &[Files])] = &[
        ("none", &[ETC]),
        ("an empty one", &[&[("etc/machine-id", "f 644 ")]]),
        ("uninitialized", &[&[("etc/machine-id", "f 444 uninitialized\n")]]),
        ("a valid one", &[&[("etc/machine-id", "f 644 0123456789abcdef0123456789abcdef\n")]]),
        ("one without newline", &[&[("etc/machine-id", "f 644 0123456789ABCDEF0123456789abcdef")]]),
        ("zeroes", &[&[("etc/machine-id", "f 644 00000000000000000000000000000000\n")]]),
        ("garbage", &[&[("etc/machine-id", "f 644 nonsense\n")]]),
        ("D-Bus alone", &[ETC, DBUS_ID]),
        ("a link of D-Bus", &[ETC, DBUS_LINK]),
        ("both", &[DBUS_ID, &[("etc/machine-id", "f 644 uninitialized\n")]]),
    ];
    cases("systemd-machine-id-setup", trees, &[&[], &["--none"]], &[])
}

const LOGIN: Files = &[
    ("etc/passwd", "f 644 root:x:0:0:root:/root:/bin/sh\nold:x:990:990::/:/bin/sh\n"),
    ("etc/group", "f 644 root:x:0:\nold:x:990:\nadm:x:4:root\n"),
    ("etc/shadow", "f 640 root:*:19000:0:99999:7:::\nold:*:19000::::::\n"),
    ("etc/gshadow", "f 640 root:*::\nold:!::\nadm:*::root\n"),
];
/// Lines of sysusers.d, each a file of its own.
const LINES: &[&str] = &[
    "u a - \"A user\"",
    "u a 500",
    "u a 500:4 \"With a group\" /home/a /bin/bash",
    "u a 500:adm",
    "u a -:adm",
    "u a 500:none",
    "u a 990",
    "u a 500:77",
    "u! a - Locked",
    "u a /usr/bin/bash",
    "u root 0 \"Super User\" /root",
    "u nobody 65534:65534 Nobody",
    "g nobody 65534\nu nobody 65534:65534 Nobody",
    "g a -",
    "g a 4",
    "g a 300\ng b 300",
    "g a 300\nu a -",
    "g a -\ng b -\ng c -\nu d -\nu e 997",
    "m alice adm",
    "m old adm\nm root adm\nm alice adm",
    "m alice new",
    "r - 300-305\nu a -\nu b -\ng c -",
    "r - 400\nu a -\nu b -",
    "r - 310-312\nr - 300-302\nu a -\nu b -\nu c -\nu d -",
    "u a 500\nu a 501",
    "u a 500 First\nu a 500 First",
    "u old - \"Is there\"",
    "g old 5",
    "u a_b-9 -",
    "u 9a -",
    "u a.b -",
    "u a$ -",
    "u toolongnameforanyaccountofasystemhere -",
    "x a -",
    "u",
    "u a - \"no end",
    "u a - A /home/a /bin/sh more",
    "u a 99999999999",
    "u a 65535",
    "u a -5",
    "g a 5:5",
    "m a",
    "r x 5-6",
    "r - 9-3",
    "u a - \"with:colon\"",
    "u a - - relative",
    "u a - - /home/%m",
    "# nothing\n\n",
    "u a - \"Quoted \\\"text\\\"\" - -",
    "u a -:0",
    "u a 500:500\ng a 500",
    "g g1 100\nm u1 g1\nm u2 g1\nu u1 -",
];

fn sysusers() -> Vec<Case> {
    let mut all = Vec::new();
    for line in LINES {
        for (name, parts) in [("no accounts", &[OS, ETC][..]), ("accounts", &[OS, LOGIN])] {
            let mut tree = tree(parts);
            tree.insert("usr/lib/sysusers.d/t.conf".into(), format!("f 644 {line}\n"));
            all.push(Case {
                name: format!("systemd-sysusers: {line:?} on {name}"),
                tool: "systemd-sysusers",
                tree,
                arguments: Vec::new(),
                credentials: Vec::new(),
            });
        }
    }
    all
}

const UNITS: Files = &[
    ("usr/lib/systemd/system/a.service", "f 644 [Install]\nWantedBy=multi-user.target\n"),
    ("usr/lib/systemd/system/b.service", "f 644 [Install]\nRequiredBy=x.target\nAlias=c.service\n"),
    ("usr/lib/systemd/system/d.service", "f 644 [Install]\nAlso=e.socket\nWantedBy=a.service\n"),
    ("usr/lib/systemd/system/e.socket", "f 644 [Install]\nWantedBy=sockets.target\n"),
    (
        "usr/lib/systemd/system/f@.service",
        "f 644 [Install]\nWantedBy=x.target\nDefaultInstance=i\n",
    ),
    ("usr/lib/systemd/system/g.service", "f 644 [Service]\n"),
    ("usr/lib/systemd/system/h.service", "l a.service"),
    ("usr/lib/systemd/system/i.service", "l /dev/null"),
    ("usr/lib/systemd/system/j.service", "f 644 [Install]\nUpheldBy=a.service\n"),
    ("usr/lib/systemd/system/multi-user.target", "f 644 [Unit]\n"),
];
const ENABLED: Files = &[
    ("etc/systemd/system/multi-user.target.wants/a.service", "l /usr/lib/systemd/system/a.service"),
    ("etc/systemd/system/c.service", "l /usr/lib/systemd/system/b.service"),
    ("etc/systemd/system/other.target.wants/j.service", "l /usr/lib/systemd/system/j.service"),
    ("etc/systemd/system/k.service", "f 644 [Install]\nWantedBy=k.target\n"),
];
const PRESETS: &[&str] = &[
    "",
    "disable *",
    "enable a.service\ndisable *",
    "disable a.service\n",
    "enable b.*\nenable d.service\ndisable *",
    "enable f@.service one two\ndisable *",
    "enable f@.service\ndisable *",
    "ignore a.service\ndisable b.service\n",
    "# comment\n; other\nenable j.service\ndisable [a-k].service\ndisable *.socket",
    "nonsense a.service\ndisable *",
    "disable f@*.service",
    "enable k.service\ndisable *",
];

fn presets() -> Vec<Case> {
    let mut all = Vec::new();
    for rules in PRESETS {
        for (name, parts) in [("units", &[UNITS][..]), ("some enabled", &[UNITS, ENABLED])] {
            let mut tree = tree(parts);
            if !rules.is_empty() {
                tree.insert(
                    "usr/lib/systemd/system-preset/9.preset".into(),
                    format!("f 644 {rules}\n"),
                );
            }
            all.push(Case {
                name: format!("systemctl preset-all: {rules:?} on {name}"),
                tool: "systemctl preset-all",
                tree,
                arguments: Vec::new(),
                credentials: Vec::new(),
            });
        }
    }
    all
}
