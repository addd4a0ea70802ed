//! bootctl reads the ESP that we lay out; GNU cpio reads our archives.

mod common;

use std::fs;
use std::path::Path;

use boot::arch::EfiArch;
use boot::entry::{Entry, LoaderConf};
use boot::esp::{Boot, Bootloader, Plan};
use tree::{Content, Device, Kind, Meta, Mtime, Node, Tree, TreePath};

fn lay_out(tree: &Tree, dir: &Path) {
    for (path, _, node) in tree.iter().filter(|(p, _, _)| !p.is_root()) {
        match &node.kind {
            Kind::Dir => fs::create_dir(path.below(dir)).unwrap(),
            Kind::File(content) => {
                fs::write(path.below(dir), content.read(1 << 30).unwrap()).unwrap();
            }
            _ => panic!("{path}"),
        }
    }
}

fn file(path: &Path) -> Content {
    Content::inline(fs::read(path).unwrap())
}

#[test]
#[ignore = "oracle"]
fn bootctl_lists_both_kinds_of_entries() {
    let oracle = testkit::oracle::root();
    let efi = oracle.join("usr/lib/systemd/boot/efi");
    let mut root = Tree::new();
    for name in ["systemd-bootx64.efi", "linuxx64.efi.stub"] {
        let path = TreePath::new(format!("usr/lib/systemd/boot/efi/{name}")).unwrap();
        root.make_dirs(&path.parent().unwrap()).unwrap();
        root.add_file(path, Meta::file(0o644), file(&efi.join(name))).unwrap();
    }
    let uki = boot::uki::Uki {
        linux: Content::inline(vec![b'k'; 9000]),
        initrd: Some(Content::inline(vec![b'i'; 500])),
        microcode: None,
        os_release: Content::inline(*b"ID=debian\nPRETTY_NAME=\"Golden One\"\nVERSION_ID=13\n"),
        cmdline: "quiet one".into(),
        uname: "6.12.9+deb13-amd64".into(),
        device_tree: None,
        splash: None,
        sbat: None,
    };
    let stub = boot::uki::stub(&root, EfiArch::X64).unwrap();
    let uki = uki.build(&stub, EfiArch::X64).unwrap();
    let entry = Entry {
        title: Some("Golden Two".into()),
        sort_key: Some("debian".into()),
        options: vec!["quiet two".into()],
        ..Entry::default()
    };
    let type1 = Boot::Entry {
        linux: Content::inline(*b"linux"),
        initrds: vec![("initrd".into(), Content::inline(*b"initrd"))],
        entry: Box::new(entry),
    };
    let plan = Plan {
        arch: EfiArch::X64,
        bootloader: Bootloader::SystemdBoot(LoaderConf::default()),
        token: "debian".into(),
        kernels: vec![
            ("6.12.9+deb13-amd64".into(), Boot::Uki(uki)),
            ("6.12.8+deb13-amd64".into(), type1),
        ],
    };
    let dir = tempfile::tempdir().unwrap();
    lay_out(&boot::esp::build(&root, &plan).unwrap(), dir.path());
    let json = common::run(
        dir.path(),
        "SYSTEMD_RELAX_ESP_CHECKS=1 bootctl list --esp-path=/mnt --json=short 2>&1",
    );
    let json = String::from_utf8(json).unwrap();
    for want in [
        "\"type\":\"type1\"",
        "\"type\":\"type2\"",
        "\"id\":\"debian-6.12.9+deb13-amd64.efi\"",
        "\"id\":\"debian-6.12.8+deb13-amd64.conf\"",
        "Golden One",
        "Golden Two",
        "quiet one",
        "quiet two",
        "/debian/6.12.8+deb13-amd64/linux",
    ] {
        assert!(json.contains(want), "{want} in {json}");
    }
    let status = common::run(
        dir.path(),
        "SYSTEMD_RELAX_ESP_CHECKS=1 bootctl status --esp-path=/mnt --no-pager 2>&1 || true",
    );
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("EFI/systemd/systemd-bootx64.efi (systemd-boot"), "{status}");
    assert!(status.contains("EFI/BOOT/BOOTX64.EFI (systemd-boot"), "{status}");
}

#[test]
#[ignore = "oracle"]
fn gnu_cpio_reads_the_archive() {
    let p = TreePath::literal;
    let mut tree = Tree::new();
    tree.make_dirs(&p("dev")).unwrap();
    let null = Kind::CharDev(Device { major: 1, minor: 3 });
    tree.add(p("dev/null"), Node { meta: Meta::new(0o666), kind: null }).unwrap();
    let meta = Meta::file(0o4750).owned_by(12, 34).at(Mtime::secs(1_762_000_000));
    tree.add_file(p("a file"), meta, Content::inline(*b"hello")).unwrap();
    tree.add_link(p("link"), &p("a file")).unwrap();
    tree.add_symlink(p("init"), "usr/lib/systemd/systemd").unwrap();
    let archive = boot::cpio::archive(&tree, None).unwrap().read(1 << 20).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("archive"), archive).unwrap();
    let list = common::run(dir.path(), "TZ=UTC cpio -itvn --quiet <archive");
    assert_eq!(
        String::from_utf8(list).unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
        "-rwsr-x--- 2 12 34 5 Nov 1 2025 a file drwxr-xr-x 2 0 0 0 Jan 1 1970 dev \
         crw-rw-rw- 1 0 0 1, 3 Jan 1 1970 dev/null \
         lrwxrwxrwx 1 0 0 23 Jan 1 1970 init -> usr/lib/systemd/systemd \
         -rwsr-x--- 2 12 34 0 Nov 1 2025 link"
    );
    common::run(
        dir.path(),
        // Without the device and the owner, which not everybody may make.
        "mkdir out; cd out; cpio -id --quiet --no-preserve-owner 'a file' link <../archive; \
         test link -ef a\\ file; test $(cat link) = hello",
    );
}
