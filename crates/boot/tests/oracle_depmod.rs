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
    let start = std::time::Instant::now();
    let ours = set.depmod().unwrap();
    println!("{package}: {} modules, indices in {:?}", set.modules().len(), start.elapsed());
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

#[test]
#[ignore = "oracle"]
fn the_full_kernel_is_indexed_as_kmod_does() {
    same_as_kmod("linux-image-amd64");
}
