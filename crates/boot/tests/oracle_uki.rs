//! UKIs against ukify's, byte for byte, and read by the usual tools.

mod common;

use std::fs;

use boot::arch::EfiArch;
use boot::uki::Uki;
use tree::{Blob, Content, Tree};

fn file(path: std::path::PathBuf) -> Content {
    let len = fs::metadata(&path).unwrap().len();
    Content::range(Blob::at_path(path), 0, len)
}

fn stub() -> (Tree, Content) {
    let root = testkit::oracle::root();
    let mut tree = Tree::new();
    let path = tree::TreePath::literal("usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    tree.make_dirs(&path.parent().unwrap()).unwrap();
    tree.add_file(path.clone(), tree::Meta::file(0o644), file(path.below(&root))).unwrap();
    let stub = boot::uki::stub(&tree, EfiArch::X64).unwrap();
    (tree, stub)
}

/// The kernel of the image and inputs of awkward sizes.
fn inputs() -> (tempfile::TempDir, Uki) {
    let root = common::unpacked("linux-image-cloud-amd64", "linux-image-");
    let kernel = boot::kernel::find(&common::tree_of(&root)).unwrap().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        file(dir.path().join(name))
    };
    let uki = Uki {
        linux: write("linux", &kernel.image.read(1 << 30).unwrap()),
        initrd: Some(write("initrd", &vec![b'I'; 70_004])),
        microcode: Some(write("ucode", &[b'M'; 512])),
        os_release: write("osrel", b"ID=debian\nNAME=\"a b\"\n"),
        cmdline: "console=ttyS0 quiet".into(),
        uname: kernel.version,
        device_tree: None,
        splash: None,
        sbat: None,
    };
    (dir, uki)
}

fn ukify(dir: &std::path::Path, uname: &str, more: &str) -> Vec<u8> {
    let stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    common::run(
        dir,
        &format!(
            "ukify build --stub={stub} --linux=linux --initrd=initrd --os-release=@osrel \
             --cmdline='console=ttyS0 quiet' --uname={uname} {more} --output=theirs.efi >&2"
        ),
    );
    fs::read(dir.join("theirs.efi")).unwrap()
}

#[test]
#[ignore = "oracle"]
fn a_uki_is_what_ukify_builds() {
    let (dir, mut uki) = inputs();
    let theirs = ukify(dir.path(), &uki.uname, "--microcode=ucode");
    let ours = uki.build(&stub().1, EfiArch::X64).unwrap().read(1 << 30).unwrap();
    assert!(ours == theirs, "with microcode");

    uki.microcode = None;
    uki.sbat = Some("sbat,1,a,b,c,d\nmy.uki,1,Mine,uki,1,https://example.org\n".into());
    uki.splash = Some(uki.os_release.clone());
    uki.device_tree = Some(uki.os_release.clone());
    let sbat = "--splash=osrel --devicetree=osrel --sbat='sbat,1,a,b,c,d\nmy.uki,1,Mine,uki,1,https://example.org\n'";
    let theirs = ukify(dir.path(), &uki.uname, sbat);
    let ours = uki.build(&stub().1, EfiArch::X64).unwrap().read(1 << 30).unwrap();
    assert!(ours == theirs, "with SBAT, splash and device tree");
}

#[test]
#[ignore = "oracle"]
fn the_usual_tools_read_it() {
    let (dir, uki) = inputs();
    let ours = uki.build(&stub().1, EfiArch::X64).unwrap().read(1 << 30).unwrap();
    fs::write(dir.path().join("ours.efi"), &ours).unwrap();
    let text = |script| String::from_utf8(common::run(dir.path(), script)).unwrap();
    assert!(text("bootctl kernel-identify ours.efi").starts_with("uki"));
    let inspected = text("bootctl kernel-inspect ours.efi");
    assert!(inspected.contains("console=ttyS0 quiet") && inspected.contains(&uki.uname));
    let sections = text("objdump -h ours.efi");
    for name in [".osrel", ".cmdline", ".uname", ".linux", ".initrd", ".ucode", ".sbat"] {
        assert!(sections.contains(name), "{name}");
    }
    assert!(text("sbverify --list ours.efi 2>&1").contains("No signature table present"));
    let sections = boot::uki::inspect(&Content::inline(ours)).unwrap();
    let (_, initrd) = sections.iter().find(|(s, _)| s.name == ".initrd").unwrap();
    assert_eq!(initrd.read(1 << 20).unwrap(), vec![b'I'; 70_004]);
}
