//! Our depmod against kmod's, byte for byte, on Debian's kernels. Downloads
//! them from the oracle's own package sources.

mod common;

use std::path::Path;

fn same_as_kmod(package: &str) {
    let root = common::unpacked(package, "linux-image-");
    let tree = common::tree_of(&root);
    let version = boot::kernel::find(&tree).unwrap()[0].version.clone();
    let clean = |dir: &Path| {
        for name in FILES {
            let _ = std::fs::remove_file(dir.join(name));
        }
    };
    let dir = root.join("usr/lib/modules").join(&version);
    clean(&dir);
    let tree = common::tree_of(&root);
    let set = boot::modules::scan(&tree, &version).unwrap();
    let ours = set.depmod().unwrap();
    common::run(&root, &format!("ln -sfn usr/lib lib; depmod -a -b /mnt {version}; rm lib"));
    assert_eq!(ours.keys().copied().collect::<Vec<_>>(), FILES);
    for (name, bytes) in &ours {
        let theirs = std::fs::read(dir.join(name)).unwrap();
        assert!(
            *bytes == theirs,
            "{package}: {name}: {} bytes, kmod {}",
            bytes.len(),
            theirs.len()
        );
    }
    clean(&dir);
}

const FILES: [&str; 11] = [
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep",
    "modules.dep.bin",
    "modules.devname",
    "modules.softdep",
    "modules.symbols",
    "modules.symbols.bin",
    "modules.weakdep",
];

#[test]
#[ignore = "oracle"]
fn the_cloud_kernel_is_indexed_as_kmod_does() {
    same_as_kmod("linux-image-cloud-amd64");
}

/// modprobe in what we put into an initrd finds every module that it would load.
#[test]
#[ignore = "oracle"]
fn an_initrd_has_what_modprobe_loads() {
    let root = common::unpacked("linux-image-cloud-amd64", "linux-image-");
    let tree = common::tree_of(&root);
    let version = boot::kernel::find(&tree).unwrap()[0].version.clone();
    let set = boot::modules::scan(&tree, &version).unwrap();
    let selection = boot::modules::pattern::Selection::default_initrd();
    let initrd = boot::initrd::modules_tree(&tree, &set, &selection).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let archive = boot::cpio::archive(&initrd, None).unwrap().read(1 << 30).unwrap();
    std::fs::write(dir.path().join("initrd"), archive).unwrap();
    let names = common::run(
        dir.path(),
        &format!(
            "mkdir root; cd root; cpio -id --quiet <../initrd; ln -s usr/lib lib; \
             for m in $(cd usr/lib/modules/*/kernel; find . -name '*.ko*'); do \
             n=${{m##*/}}; modprobe -d /mnt/root -S {version} --show-depends ${{n%.ko*}}; done"
        ),
    );
    let mut loaded = 0;
    for line in String::from_utf8(names).unwrap().lines().filter_map(|l| l.strip_prefix("insmod "))
    {
        let path = line.trim().strip_prefix("/mnt/root/lib/").unwrap();
        let path = tree::TreePath::new(format!("usr/lib/{path}")).unwrap();
        assert!(initrd.contains(&path), "{path}");
        loaded += 1;
    }
    assert!(loaded > 300, "{loaded}");
}

#[test]
#[ignore = "oracle"]
fn the_full_kernel_is_indexed_as_kmod_does() {
    same_as_kmod("linux-image-amd64");
}
