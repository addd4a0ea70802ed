//! Each rule: a planted defect is found, sealing mends it, the clean counterpart
//! is silent.

#[path = "fixtures.rs"]
mod fixtures;

use super::*;
use fixtures::{elf, pe};
use tree::{Kind, Meta, Node};

fn p(s: &str) -> TreePath {
    TreePath::new(s).unwrap()
}

const FACTORY: [&str; 2] = ["usr/share/factory/etc", "usr/share/factory/var"];

/// What a golden Debian root has, as far as the rules look.
fn golden() -> (Tree, Tree) {
    let mut root = Tree::new();
    let files = [
        ("usr/lib/os-release", "ID=debian\nIMAGE_ID=box\nIMAGE_VERSION=7\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n"),
        ("etc/group", "root:x:0:\nme:x:1000:\n"),
        ("etc/shadow", "root:*:20000:0:99999:7:::\nme:!:20000:0:99999:7:::\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/fstab", "UUID=6d6b676f-6c64-0000-0000-000000000002 / ext4 rw,x-systemd.growfs 0 1\n"),
        ("usr/lib/tmpfiles.d/all.conf", "C /etc\nC /var\n"),
        ("etc/kernel/entry-token", "debian\n"),
        ("etc/machine-id", "uninitialized\n"),
        ("usr/lib/modules/6.1/vmlinuz", "k"),
        ("usr/sbin/sshd", "s"),
        ("usr/lib/systemd/system/sshd-keygen.service", "[Service]\nExecStart=ssh-keygen -A\n"),
        ("var/log/wtmp", ""),
        ("etc/ssh/sshd_config", "x"),
    ];
    for (path, text) in files {
        root.write(&p(path), 0o644, text.as_bytes()).unwrap();
    }
    let dirs = ["var/log/journal", "tmp", "var/lib/systemd/network", "root/.ssh", "dev", "proc"];
    for dir in dirs.into_iter().chain(["run", "sys", "usr/bin", "usr/lib", FACTORY[0], FACTORY[1]])
    {
        root.make_dirs(&p(dir)).unwrap();
    }
    root.write(&p("usr/lib/systemd/systemd"), 0o755, elf(62)).unwrap();
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
        root.add_symlink(p(link), target).unwrap();
    }
    root.add_symlink(p("etc/os-release"), "../usr/lib/os-release").unwrap();
    root.add_symlink(p("etc/resolv.conf"), "../run/systemd/resolve/stub-resolv.conf").unwrap();
    root.make_dirs(&p("var/lib/dbus")).unwrap();
    root.add_symlink(p("var/lib/dbus/machine-id"), "/etc/machine-id").unwrap();
    root.make_dirs(&p("etc/systemd/system/ssh.service.wants")).unwrap();
    root.add_symlink(
        p("etc/systemd/system/ssh.service.wants/sshd-keygen.service"),
        "/usr/lib/systemd/system/sshd-keygen.service",
    )
    .unwrap();
    let mut esp = Tree::new();
    let uki = pe(&[(".linux", b"kernel"), (".osrel", b"ID=debian"), (".cmdline", b"quiet")]);
    esp.write(&p("EFI/Linux/debian-6.1.efi"), 0o644, uki).unwrap();
    esp.write(&p("EFI/BOOT/BOOTX64.EFI"), 0o644, pe(&[(".text", b"loader")])).unwrap();
    let entry = b"title x\nlinux /debian/6.1/linux\ninitrd /debian/6.1/initrd\noptions quiet\n";
    esp.write(&p("loader/entries/debian-6.1.conf"), 0o644, *entry).unwrap();
    esp.write(&p("debian/6.1/linux"), 0o644, *b"kernel").unwrap();
    esp.write(&p("debian/6.1/initrd"), 0o644, *b"initrd").unwrap();
    (root, esp)
}

fn failing(root: &Tree, esp: &Tree, intent: &Intent) -> Vec<&'static str> {
    let report = check(&Subject::new(root, Some(esp), intent));
    let mut ids: Vec<_> = report.findings(Severity::Warning).map(|(id, _)| id).collect();
    ids.dedup();
    ids
}

#[test]
fn a_golden_image_is_silent() {
    let (root, esp) = golden();
    let intent = Intent::default();
    assert_eq!(failing(&root, &esp, &intent), Vec::<&str>::new());
    assert!(check(&Subject::new(&root, Some(&esp), &intent)).is_golden());
}

/// Rule, volume, planted path, content.
const PLANTED: [(&str, Volume, &str, &str); 43] = [
    ("R1", Volume::Root, "etc/machine-id", ""),
    ("R1", Volume::Root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("R1", Volume::Root, "etc/machine-id", "what\n"),
    ("R2", Volume::Root, "var/lib/systemd/random-seed", "x"),
    ("R3", Volume::Esp, "loader/random-seed", "x"),
    ("R4", Volume::Root, "etc/hostname", "buildhost\n"),
    ("R4-machine-info", Volume::Root, "etc/machine-info", "LOCATION=here\n"),
    ("R5", Volume::Root, "var/lib/systemd/credential.secret", "x"),
    ("R6", Volume::Root, "etc/ssh/ssh_host_ed25519_key", "x"),
    ("R6", Volume::Root, "etc/ssh/ssh_host_ed25519_key.pub", "x"),
    ("R7-dhcp", Volume::Root, "var/lib/dhcp/dhclient.leases", "x"),
    ("R7-dhcp", Volume::Root, "var/lib/systemd/network/duid", "x"),
    ("R7-networkmanager", Volume::Root, "var/lib/NetworkManager/secret_key", "x"),
    ("R2", Volume::Root, "efi/loader/random-seed", "x"),
    ("R7-connections", Volume::Root, "etc/NetworkManager/system-connections/home", "psk"),
    ("R7-dhcp", Volume::Root, "var/lib/dhcp/dhclient6.eth0.leases", "x"),
    ("R7-keys", Volume::Root, "var/lib/bluetooth/00:11:22:33:44:55/settings", "x"),
    ("R7-logins", Volume::Root, "var/lib/wtmpdb/wtmp.db", "x"),
    ("R9", Volume::Root, "var/lib/systemd/tpm2-srk-public-key.pem", "x"),
    ("R7-iscsi", Volume::Root, "etc/iscsi/initiatorname.iscsi", "x"),
    ("R7-lvm", Volume::Root, "etc/lvm/archive/vg_0.vg", "x"),
    ("R7-cloud", Volume::Root, "var/lib/cloud/instances/i/x", "x"),
    ("R7-snakeoil", Volume::Root, "etc/ssl/private/ssl-cert-snakeoil.key", "x"),
    ("R7-udev", Volume::Root, "etc/udev/rules.d/70-persistent-net.rules", "x"),
    ("R7-account-backups", Volume::Root, "etc/shadow-", "x"),
    ("R7-spool", Volume::Root, "var/mail/root", "x"),
    ("R7-history", Volume::Root, "root/.bash_history", "x"),
    ("R7-history", Volume::Root, "home/me/.python_history", "x"),
    ("R7-authorized-keys", Volume::Root, "root/.ssh/authorized_keys", "x"),
    ("R7-logins", Volume::Root, "var/log/wtmp", "x"),
    ("R7-logs", Volume::Root, "var/log/dpkg.log", "x"),
    ("R7-logs", Volume::Root, "var/log/journal/0123/system.journal", "x"),
    ("R7-crash", Volume::Root, "var/crash/x.dump", "x"),
    ("R7-tmp", Volume::Root, "tmp/left", "x"),
    ("R7-packages", Volume::Root, "var/lib/apt/lists/deb_main_Packages", "x"),
    ("R7-packages", Volume::Root, "var/lib/dpkg/status-old", "x"),
    ("R7-lock", Volume::Root, "etc/.pwd.lock", ""),
    ("R9", Volume::Root, "etc/cryptsetup-keys.d/root.key", "x"),
    ("R7-resolv", Volume::Root, "etc/resolv.conf", "nameserver 10.0.0.1\n"),
    ("R7-tokens", Volume::Root, "root/.aws/credentials", "x"),
    ("R7-tokens", Volume::Root, "etc/apt/auth.conf.d/mirror.conf", "x"),
    ("R7-accounting", Volume::Root, "var/log/account/pacct", "x"),
    ("R7-sssd", Volume::Root, "var/lib/sss/db/cache_example.ldb", "x"),
];

#[test]
fn a_planted_defect_is_found_and_sealed() {
    for (rule, volume, path, text) in PLANTED {
        let (mut root, mut esp) = golden();
        let tree = if volume == Volume::Root { &mut root } else { &mut esp };
        tree.remove(&p(path));
        tree.write(&p(path), 0o600, text.as_bytes()).unwrap();
        let intent = Intent::default();
        // That it is no first boot follows from it.
        let expected = if rule == "R1" { vec!["R1", "F1"] } else { vec![rule] };
        assert_eq!(failing(&root, &esp, &intent), expected, "{path}");
        let changes = seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap().changes;
        assert!(changes.iter().all(|c| c.rule == rule) && !changes.is_empty(), "{path}");
        assert_eq!(failing(&root, &esp, &intent), Vec::<&str>::new(), "{path} after sealing");
        let again = seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap().changes;
        assert!(again.is_empty(), "{path}: sealing twice changes nothing");
    }
}

#[test]
fn every_rule_of_the_registry_has_a_planted_defect() {
    for rule in RULES.iter() {
        let planted = PLANTED.iter().any(|(id, ..)| *id == rule.id());
        let defect = fixtures::DEFECTS.iter().any(|(id, _)| *id == rule.id());
        assert!(planted || defect, "{} has no fixture", rule.id());
        let texts = [rule.title(), rule.why(), rule.mend(), &rule.looks_at()];
        assert!(texts.iter().all(|text| !text.trim().is_empty()), "{}", rule.id());
    }
    let mut ids: Vec<_> = RULES.iter().map(|r| r.id()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len(), "IDs are unique");
}

#[test]
fn what_is_configured_is_no_leftover_but_identity_is() {
    let (mut root, esp) = golden();
    let mut intent = Intent { hostname: true, ..Intent::default() };
    for path in ["etc/hostname", "root/.ssh/authorized_keys", "var/lib/systemd/random-seed"] {
        root.write(&p(path), 0o600, *b"x").unwrap();
        intent.project_files.insert(p(path));
    }
    assert_eq!(failing(&root, &esp, &intent), ["R2"]);
}

#[test]
fn a_server_without_a_key_maker_gets_one() {
    let (mut root, mut esp) = golden();
    root.remove(&p("etc/systemd/system/ssh.service.wants"));
    let intent = Intent::default();
    assert_eq!(failing(&root, &esp, &intent), ["R6"], "a unit that nothing wants makes no keys");
    seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap();
    assert_eq!(failing(&root, &esp, &intent), Vec::<&str>::new());
    root.remove(&p("usr/sbin/sshd"));
    let report = check(&Subject::new(&root, None, &intent));
    let r6 = report.verdicts.iter().find(|v| v.id == "R6").unwrap();
    assert_eq!(r6.outcome, Outcome::NotApplicable);
}

#[test]
fn what_cannot_be_mended_is_still_found() {
    let id = "0123456789abcdef0123456789abcdef";
    let intent = Intent::default();
    let (root, mut esp) = golden();
    // Such a name is not the token's; and the image and the entry are none.
    esp.write(&p(&format!("EFI/Linux/{id}-6.1.efi")), 0o644, *b"x").unwrap();
    assert_eq!(failing(&root, &esp, &intent), ["B2", "B3", "B5"]);
    let (root, mut esp) = golden();
    esp.write(&p("loader/entries/x.conf"), 0o644, *b"options systemd.machine_id=1\n").unwrap();
    assert_eq!(failing(&root, &esp, &intent), ["B2", "B3", "B5"]);
    let (mut root, esp) = golden();
    root.write(&os::entry_token::path(), 0o644, id.as_bytes()).unwrap();
    assert_eq!(failing(&root, &esp, &intent), ["B1", "B3"]);
    let (mut root, esp) = golden();
    let kind = Kind::File(tree::Content::inline(*b"ID=debian\n"));
    root.put(p("etc/os-release"), Node { meta: Meta::file(0o644), kind }).unwrap();
    assert_eq!(failing(&root, &esp, &intent), ["E7"]);
}

#[test]
fn a_dbus_machine_id_of_its_own_goes() {
    let (mut root, mut esp) = golden();
    let path = p("var/lib/dbus/machine-id");
    root.remove(&path);
    root.write(&path, 0o644, *b"0123456789abcdef0123456789abcdef\n").unwrap();
    let intent = Intent::default();
    assert_eq!(failing(&root, &esp, &intent), ["R1b"]);
    seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap();
    assert!(!root.contains(&path));
}

#[test]
fn a_dbus_machine_id_that_leads_elsewhere_goes() {
    let (mut root, mut esp) = golden();
    let path = p("var/lib/dbus/machine-id");
    root.remove(&path);
    root.add_symlink(path.clone(), "/opt/id").unwrap();
    let intent = Intent::default();
    assert_eq!(failing(&root, &esp, &intent), ["R1b"]);
    seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap();
    assert!(!root.contains(&path));
}

#[test]
fn links_do_not_hide_leftovers() {
    let (mut root, mut esp) = golden();
    for dir in ["var/lib/systemd", "etc/ssh", "var/log/journal", "root"] {
        root.remove(&p(dir));
        let moved = format!("srv/{}", dir.replace('/', "-"));
        root.make_dirs(&p(&moved)).unwrap();
        root.add_symlink(p(dir), format!("/{moved}")).unwrap();
    }
    let planted = [
        "srv/var-lib-systemd/random-seed",
        "srv/etc-ssh/ssh_host_rsa_key",
        "srv/var-log-journal/0123/system.journal",
        "srv/root/.bash_history",
    ];
    for path in planted {
        root.write(&p(path), 0o600, *b"x").unwrap();
    }
    root.write(&p("etc/machine-id"), 0o444, *b"uninitialized\n").unwrap();
    let intent = Intent::default();
    let mut found = failing(&root, &esp, &intent);
    found.sort();
    assert_eq!(found, ["R2", "R6", "R7-history", "R7-logs"]);
    seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap();
    for path in planted {
        assert!(!root.contains(&p(path)), "{path}");
    }
    assert!(root.contains(&p("srv/var-log-journal")));
}

#[test]
fn a_link_to_the_system_is_not_emptied() {
    let (mut root, mut esp) = golden();
    root.remove(&p("tmp"));
    root.add_symlink(p("tmp"), "usr").unwrap();
    root.remove(&p("var/log/journal"));
    root.add_symlink(p("var/log/journal"), "/").unwrap();
    let before = root.len();
    seal(&mut root, Some(&mut esp), &Intent::default(), Mtime::secs(1)).unwrap();
    assert_eq!(root.len(), before);
}

#[test]
fn a_host_key_is_found_where_the_configuration_puts_it() {
    let (mut root, mut esp) = golden();
    root.write(&p("etc/ssh/sshd_config"), 0o644, *b"Port 22\nHostKey /opt/keys/mine\n").unwrap();
    root.write(&p("etc/ssh/sshd_config.d/a.conf"), 0o644, *b"hostkey=\"/srv/other\"\n").unwrap();
    for path in ["opt/keys/mine", "opt/keys/mine.pub", "srv/other", "srv/third"] {
        root.write(&p(path), 0o600, *b"x").unwrap();
    }
    let intent = Intent::default();
    assert_eq!(failing(&root, &esp, &intent), ["R6"]);
    seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap();
    let left: Vec<_> = root.children(&p("srv")).map(|(path, _)| path.to_string()).collect();
    assert_eq!((left, root.children(&p("opt/keys")).count()), (vec!["/srv/third".to_owned()], 0));
}

#[test]
fn suspects_are_found_golden_or_not() {
    let (mut root, _) = golden();
    root.write(&p("var/lib/systemd/random-seed"), 0o600, *b"x").unwrap();
    let found: Vec<_> = suspects(&root).iter().map(ToString::to_string).collect();
    for path in ["/etc/machine-id", "/var/lib/systemd/random-seed", "/etc/kernel/entry-token"] {
        assert!(found.iter().any(|f| f == path), "{path}: {found:?}");
    }
    assert!(!found.iter().any(|f| f == "/usr/sbin/sshd"));
}

#[test]
fn paths_are_text_in_json() {
    let (mut root, esp) = golden();
    root.write(&p("var/lib/systemd/random-seed"), 0o600, *b"x").unwrap();
    let intent = Intent::default();
    let report = check(&Subject::new(&root, Some(&esp), &intent));
    let json = serde_json::to_value(&report).unwrap();
    let failed = json["verdicts"].as_array().unwrap().iter().find(|v| v["id"] == "R2").unwrap();
    assert_eq!(failed["findings"][0]["path"], "/var/lib/systemd/random-seed");
}

#[test]
fn a_unit_of_the_first_boot_is_made_part_of_it() {
    let (mut root, mut esp) = golden();
    let dir = "usr/lib/systemd/system";
    let unit =
        |more: &str| format!("[Unit]\nConditionFirstBoot=yes\n{more}[Service]\nExecStart=x\n");
    let wait = "Wants=first-boot-complete.target\nBefore=first-boot-complete.target\n";
    let units = [
        ("late.service", unit("Before=ssh.service\n")),
        ("early.service", unit(wait)),
        ("other.service", "[Unit]\nConditionFirstBoot=no\n".to_owned()),
    ];
    for (name, text) in units {
        root.write(&p(&format!("{dir}/{name}")), 0o644, text.into_bytes()).unwrap();
    }
    let intent = Intent::default();
    assert_eq!(failing(&root, &esp, &intent), Vec::<&str>::new(), "no target, no rule");
    root.write(&p(&format!("{dir}/first-boot-complete.target")), 0o644, *b"[Unit]\n").unwrap();
    let changes = seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap().changes;
    let mended: Vec<_> = changes.iter().map(|c| (c.rule, c.finding.path.to_string())).collect();
    assert_eq!(mended, [("F2", format!("/{dir}/late.service"))]);
    let text = root.read(&p(&format!("{dir}/late.service.d/10-mkgold-first-boot.conf")), 999);
    assert!(text.unwrap().unwrap().ends_with(wait.as_bytes()));
    assert_eq!(failing(&root, &esp, &intent), Vec::<&str>::new());
}

#[test]
fn copies_links_and_targets_of_identities_go_with_them() {
    let secret = b"a host key, as long as it must be";
    let (mut root, mut esp) = golden();
    root.write(&p("etc/ssh/ssh_host_rsa_key"), 0o600, *secret).unwrap();
    root.write(&p("etc/ssh/ssh_host_rsa_key.pub"), 0o600, *b"no secret, a public key").unwrap();
    root.write(&p("srv/pub"), 0o600, *b"no secret, a public key").unwrap();
    root.write(&p("srv/copy"), 0o600, *secret).unwrap();
    root.write(&p("srv/longer"), 0o600, *b"a host key, as long as it must be, and more").unwrap();
    root.write(&p("srv/target"), 0o600, *b"target").unwrap();
    root.add_symlink(p("etc/ssh/ssh_host_ed25519_key"), "../../srv/target").unwrap();
    root.write(&p("etc/ssh/sshd_config"), 0o600, *b"include sub/*.conf\n").unwrap();
    root.write(&p("etc/ssh/sub/a.conf"), 0o600, *b"HostKey /srv/included\n").unwrap();
    root.write(&p("srv/included"), 0o600, *b"included").unwrap();
    root.add_link(p("srv/twin"), &p("srv/copy")).unwrap();
    let intent = Intent::default();
    let sealed = seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap();
    assert_eq!(sealed.left, []);
    let kept: Vec<_> = root.children(&p("srv")).map(|(path, _)| path.to_string()).collect();
    assert_eq!(kept, ["/srv/longer", "/srv/pub"]);

    // A program is not removed because somebody linked to it: a person must look.
    root.write(&p("usr/bin/tool"), 0o755, *secret).unwrap();
    root.add_link(p("etc/ssh/ssh_host_rsa_key"), &p("usr/bin/tool")).unwrap();
    let sealed = seal(&mut root, Some(&mut esp), &intent, Mtime::secs(1)).unwrap();
    let [("R8-copies", left)] = &sealed.left[..] else { panic!("{:?}", sealed.left) };
    assert_eq!(left.path, p("usr/bin/tool"));
    assert!(root.contains(&p("usr/bin/tool")) && !root.contains(&p("etc/ssh/ssh_host_rsa_key")));
}

#[test]
fn identifiers_of_boot_entries_are_found_in_the_root_too() {
    const ID: &str = "0123456789ABCDEF0123456789abcdef";
    for (rule, path, text) in [
        ("B2", format!("efi/EFI/Linux/{ID}-6.1.efi"), "x"),
        ("B2", format!("boot/{ID}/6.1/linux"), "x"),
        ("B2", format!("boot/loader/entries/debian-{ID}.conf"), "x"),
        ("B2", "boot/loader/entries/x.conf".into(), "options systemd.machine_id=1"),
        ("B4", "etc/kernel/cmdline".into(), "quiet systemd.machine_id=1"),
        ("B4", "etc/cmdline.d/x.conf".into(), "systemd.machine_id=1"),
        ("B4", "usr/lib/kernel/cmdline".into(), "a\nsystemd.machine_id=random"),
    ] {
        let (mut root, esp) = golden();
        root.write(&p(&path), 0o600, text.as_bytes()).unwrap();
        assert_eq!(failing(&root, &esp, &Intent::default()), [rule], "{path}");
    }
    let (mut root, esp) = golden();
    root.write(&p("etc/kernel/cmdline"), 0o600, *b"root=LABEL=x quiet").unwrap();
    root.write(&p("boot/0123456789abcdef.conf"), 0o600, *b"too short for an ID").unwrap();
    assert_eq!(failing(&root, &esp, &Intent::default()), Vec::<&str>::new());
}

/// The gate is asked for on every build: it must not be felt.
#[test]
fn a_tree_of_7000_entries_is_judged_at_once() {
    let (mut root, esp) = golden();
    for n in 0..7000 {
        root.write(&p(&format!("usr/share/{}/{n}", n % 97)), 0o644, *b"some text, 23 bytes long")
            .unwrap();
    }
    root.write(&p("etc/ssh/ssh_host_rsa_key"), 0o600, *b"some text, 23 bytes LONG").unwrap();
    let intent = Intent::default();
    let subject = Subject::new(&root, Some(&esp), &intent);
    let best = (0..10).map(|_| {
        let start = std::time::Instant::now();
        assert!(!check(&subject).is_golden());
        start.elapsed()
    });
    let best = best.min().unwrap();
    // 1 ms when optimised; far from it means that something is quadratic.
    assert!(best.as_millis() < 200, "{best:?}");
}
