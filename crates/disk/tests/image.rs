//! From definitions to an image file, with a filler that writes something simple.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use disk::definition::{Definition, Facts, Loaded, Source, load};
use disk::execute::{ExecuteError, FillError, PartitionFiller, Work, content_sizes, create_image};
use disk::fstab::{Append, crypttab, fstab};
use disk::plan::{Identity, Plan, PlannedPartition, Request, Size, identities, plan};
use disk::{Architecture, Bytes, Compat, Guid, Version, gpt, layout, populate, split};
use tree::{Content, Kind, Meta, Mtime, Tree, TreePath};

const SEED: &str = "750b6cd5-c4ae-4012-a15e-7be3c29e6a47";

fn p(text: &'static str) -> TreePath {
    TreePath::literal(text)
}

fn definitions(texts: &[(&str, &str)]) -> Vec<Definition> {
    let texts: Vec<(String, String)> =
        texts.iter().map(|(n, t)| ((*n).into(), format!("[Partition]\n{t}"))).collect();
    let Loaded { definitions, warnings } =
        load(Source::Texts(&texts), &Facts::new(Architecture::X8664), Compat::default()).unwrap();
    assert_eq!(warnings, []);
    definitions
}

fn request<'a>(definitions: &'a [Definition], content: BTreeMap<usize, Bytes>) -> Request<'a> {
    Request {
        definitions,
        content,
        existing: None,
        size: Size::Auto,
        seed: SEED.parse::<Guid>().unwrap(),
        sector_size: None,
        grain: None,
        block_device: false,
        device: "image.raw".into(),
        defer: Default::default(),
        current: Bytes(0),
        compat: Compat::default(),
    }
}

/// Writes the paths of the tree as text, and notes what it was asked for.
#[derive(Default)]
struct Lister {
    asked: Mutex<Vec<(String, u64, u64)>>,
    overrun: bool,
}

fn listing(tree: Option<&Tree>) -> String {
    tree.map_or("nothing".into(), |t| t.iter().map(|(p, _, _)| format!("{p}\n")).collect())
}

impl PartitionFiller for Lister {
    fn fill(
        &self,
        partition: &PlannedPartition,
        definition: &Definition,
        tree: Option<&Tree>,
        out: &mut File,
        offset: u64,
        size: u64,
    ) -> Result<(), FillError> {
        assert_eq!(partition.format, definition.format);
        if partition.format.as_deref() == Some("xfs") {
            return Err("no xfs here".into());
        }
        self.asked.lock().unwrap().push((partition.label.clone(), offset, size));
        out.write_all_at(listing(tree).as_bytes(), offset)?;
        if self.overrun {
            out.write_all_at(b"x", 1 << 40)?;
        }
        Ok(())
    }

    fn measure(&self, _: &Definition, _: &Identity, tree: &Tree) -> Result<u64, FillError> {
        Ok(tree.len() as u64 * 1_000_000)
    }
}

fn source() -> Tree {
    let mut tree = Tree::new();
    for dir in ["etc", "boot/EFI", "proc/1", "home/me", "var/tmp/x", "efi", "tmp/x"] {
        tree.make_dirs(&TreePath::new(dir).unwrap()).unwrap();
    }
    let at = |secs| Meta::file(0o600).owned_by(3, 4).at(Mtime::secs(secs));
    tree.add_file(p("etc/a"), at(100), Content::inline(*b"aa")).unwrap();
    tree.add_link(p("etc/b"), &p("etc/a")).unwrap();
    tree.add_file(p("boot/EFI/k"), at(9000), Content::inline(*b"kernel")).unwrap();
    tree.add_file(p("blocks"), at(1), Content::inline(vec![7u8; 1024])).unwrap();
    tree.add_symlink(p("etc/l"), "../boot").unwrap();
    tree.get_mut(&TreePath::root()).unwrap().meta.mode = 0o711;
    tree
}

fn populated(definitions: &[Definition], definition: usize) -> populate::Populated {
    let names = identities(&request(definitions, BTreeMap::new())).unwrap();
    let source = source();
    let request = populate::Request {
        definitions,
        definition,
        supplements: &[],
        identities: &names,
        source: &source,
        epoch: Some(5000),
    };
    populate::populate(&request).unwrap()
}

#[test]
fn a_root_has_everything_but_what_is_mounted_over() {
    let definitions = definitions(&[
        ("00-esp.conf", "Type=esp\nFormat=vfat\nCopyFiles=/boot:/\nCopyFiles=/efi:/\n"),
        (
            "10-root.conf",
            "Type=root\nCopyFiles=/\nExcludeFiles=/blocks\nMakeDirectories=/new/dir\n",
        ),
        ("20-home.conf", "Type=home\nCopyFiles=/home:/\nCopyFiles=/nowhere\n"),
    ]);
    let root = populated(&definitions, 1).tree;
    let shown = listing(Some(&root));
    let expected =
        "/ /boot /efi /etc /etc/a /etc/b /etc/l /home /new /new/dir /proc /tmp /var /var/tmp";
    assert_eq!(shown.trim_end().replace('\n', " "), expected);
    assert_eq!(root.inode_id(&p("etc/a")), root.inode_id(&p("etc/b")), "hard links stay");
    let a = &root.get(&p("etc/a")).unwrap().meta;
    assert_eq!((a.uid, a.mode, a.mtime.secs), (3, 0o600, 100));
    let top = &root.get(&TreePath::root()).unwrap().meta;
    assert_eq!(top.mode, 0o711, "the root's own attributes come along");
    let xattr = |name: &str| top.xattrs.get(name.as_bytes()).map(|v| v.as_slice());
    // Bytes read with debugfs from a file system that systemd-repart 262 made.
    assert_eq!(xattr("user.validatefs.gpt_label"), Some(&b"root-x86-64\0"[..]));
    assert_eq!(
        xattr("user.validatefs.gpt_type_uuid"),
        Some(&b"4f68bce3-e8cd-4db1-96e7-fbcaf984b709\0"[..])
    );
    assert_eq!(xattr("user.validatefs.mount_point"), Some(&b"/\0"[..]));
    assert_eq!(root.get(&p("new/dir")).unwrap().meta.mtime.secs, 5000);

    let esp = populated(&definitions, 0).tree;
    assert_eq!(listing(Some(&esp)), "/\n/EFI\n/EFI/k\n");
    assert_eq!(esp.get(&p("EFI/k")).unwrap().meta.mtime.secs, 5000, "clamped");
    assert!(esp.get(&TreePath::root()).unwrap().meta.xattrs.is_empty(), "none on vfat");
    let home = populated(&definitions, 2);
    assert_eq!(listing(Some(&home.tree)), "/\n/me\n");
    assert!(home.notes[0].contains("/nowhere: does not exist"), "{:?}", home.notes);
}

#[test]
fn excludes_and_links_follow_the_manual() {
    let cases = [
        // Observed with systemd-repart 262: the first has nothing, and a link stands
        // for what it leads to.
        ("CopyFiles=/etc:/x\nExcludeFiles=/etc/\n", "/"),
        ("CopyFiles=/etc:/x\nExcludeFilesTarget=/x/l\n", "/ /x /x/a /x/b /x/l"),
        ("CopyFiles=/etc:/x\nExcludeFiles=/etc\n", "/"),
        ("CopyFiles=/boot:/x\nExcludeFilesTarget=/x/EFI/\n", "/ /x /x/EFI"),
        ("CopyFiles=/etc:/x\nExcludeFiles=/etc/a\n", "/ /x /x/l"),
        ("CopyFiles=/etc/a:/deep/er/f\n", "/ /deep /deep/er /deep/er/f"),
        ("CopyFiles=/etc/l/EFI:/e\n", "/ /e /e/k"),
        ("MakeDirectories=/d\nMakeSymlinks=/d/l:../target\n", "/ /d /d/l"),
    ];
    for (text, expected) in cases {
        let definitions = definitions(&[("10.conf", &format!("Type=linux-generic\n{text}"))]);
        let tree = populated(&definitions, 0).tree;
        assert_eq!(listing(Some(&tree)).trim_end().replace('\n', " "), expected, "{text}");
        if let Some(node) = tree.get(&p("d/l")) {
            assert!(matches!(&node.kind, Kind::Symlink(t) if &**t == b"../target"));
        }
    }
    let refused = [
        ("CopyFiles=/etc/a:/f\nCopyFiles=/etc/b:/f\n", "CopyFiles=/etc/b: /f: exists already"),
        ("MakeSymlinks=/no/l:x\n", "MakeSymlinks=/no/l: /no/l: its parent"),
        ("CopyFiles=/etc/a:/f\nMakeDirectories=/f/g\n", "MakeDirectories=/f/g"),
    ];
    for (text, expected) in refused {
        let definitions = definitions(&[("10.conf", &format!("Type=linux-generic\n{text}"))]);
        let names = identities(&request(&definitions, BTreeMap::new())).unwrap();
        let source = source();
        let request = populate::Request {
            definitions: &definitions,
            definition: 0,
            supplements: &[],
            identities: &names,
            source: &source,
            epoch: None,
        };
        let message = populate::populate(&request).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

fn build(definitions: &[Definition], filler: &Lister) -> Result<(Plan, Vec<u8>), ExecuteError> {
    let names = identities(&request(definitions, BTreeMap::new())).unwrap();
    let source = source();
    let sizes = content_sizes(definitions, &names, &source, Some(5000), filler)?;
    let plan = plan(&request(definitions, sizes)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.raw");
    std::fs::write(&path, "the previous one").unwrap();
    let work = Work {
        plan: &plan,
        definitions,
        identities: &names,
        source: &source,
        epoch: Some(5000),
        filler,
        reporter: &report::Silent,
    };
    let made = create_image(&work, &path);
    if made.is_err() {
        assert_eq!(std::fs::read(&path).unwrap(), b"the previous one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }
    made?;
    Ok((plan, std::fs::read(&path).unwrap()))
}

#[test]
fn the_default_layout_becomes_an_image() {
    let esp = layout::esp_size(Bytes(0), Bytes(0));
    let texts = layout::default_definitions(Some(esp), "ext4");
    let facts = Facts::new(Architecture::X8664);
    let definitions = load(Source::Texts(&texts), &facts, Compat::default()).unwrap().definitions;
    let filler = Lister::default();
    let (plan, image) = build(&definitions, &filler).unwrap();
    assert_eq!(image.len() as u64, plan.disk_size.0);
    let asked = filler.asked.into_inner().unwrap();
    assert_eq!(asked[0], ("esp".into(), 1 << 20, esp.0));
    let (label, offset, size) = asked[1].clone();
    assert_eq!((label.as_str(), offset), ("root-x86-64", (1 << 20) + esp.0));
    let tree = populated(&definitions, 1).tree;
    assert_eq!(size, (tree.len() as u64 * 1_500_000).next_multiple_of(4096));
    assert!(image[(1 << 20)..].starts_with(b"/\n/EFI\n/EFI/k\n"));
    assert!(image[offset as usize..].starts_with(listing(Some(&tree)).as_bytes()));
    let found = gpt::read(&mut std::io::Cursor::new(image), None).unwrap();
    assert_eq!((&found.table, &found.damage[..]), (&plan.table, &[][..]));
    assert_eq!(found.table.entries[&1].attributes, 1 << 59);
    let files: Vec<String> = split::artifacts(&plan)
        .unwrap()
        .iter()
        .map(|(_, path)| path.display().to_string())
        .collect();
    assert_eq!(files, ["image.esp.raw", "image.root-x86-64.raw"]);
}

#[test]
fn an_esp_has_room_for_the_next_kernel_and_is_no_larger() {
    assert_eq!(layout::esp_size(Bytes(0), Bytes(0)), Bytes(100 << 20));
    let (content, kernel) = (300u64 << 20, 140u64 << 20);
    let size = layout::esp_size(Bytes(content), Bytes(kernel)).0;
    assert!(size >= content + kernel + kernel / 5 + (8 << 20), "{size}");
    assert!(size <= content + kernel * 3 / 2, "{size}");
    assert_eq!(size % (1 << 20), 0);
}

#[test]
fn blocks_are_copied_and_the_rest_is_zero() {
    let definitions = definitions(&[("10.conf", "Type=linux-generic\nCopyBlocks=/blocks\n")]);
    let (plan, image) = build(&definitions, &Lister::default()).unwrap();
    let start = plan.partitions[0].offset.0 as usize;
    assert!(image[start..start + 1024].iter().all(|b| *b == 7));
    assert!(image[start + 1024..start + 10_000].iter().all(|b| *b == 0));
}

#[test]
fn failures_leave_the_previous_image() {
    let cases = [
        ("Type=home\nFormat=xfs\nMakeDirectories=/x\n", "xfs file system cannot be made"),
        ("Type=home\nEncrypt=key-file\n", "10.conf: Encrypt=key-file is not supported yet"),
        ("Type=home\nCopyBlocks=/etc\n", "only a regular file"),
        ("Type=home\nCopyBlocks=/none\n", "there is no such file"),
        ("Type=home\nCopyBlocks=/etc/a\n", "multiple of 512"),
    ];
    for (text, expected) in cases {
        let definitions = definitions(&[("10.conf", text)]);
        let message = build(&definitions, &Lister::default()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let definitions = definitions(&[("10.conf", "Type=home\nFormat=ext4\n")]);
    let filler = Lister { overrun: true, ..Lister::default() };
    assert!(matches!(build(&definitions, &filler), Err(ExecuteError::Overrun { .. })));
}

#[test]
fn two_partitions_are_not_split_into_one_file() {
    let definitions = definitions(&[
        ("10.conf", "Type=home\n"),
        ("20.conf", "Type=home\n"),
        ("30.conf", "Type=srv\nSplitName=-\n"),
    ]);
    let plan = plan(&request(&definitions, BTreeMap::new())).unwrap();
    let message = split::artifacts(&plan).unwrap_err().to_string();
    assert!(message.contains("\"home\""), "{message}");
}

#[test]
fn the_fstab_is_that_of_systemd_repart() {
    let definitions = definitions(&[
        ("05.conf", "Type=esp\nFormat=vfat\nMountPoint=/boot\n"),
        ("10.conf", "Type=root\nFormat=ext4\nMountPoint=/:noatime\n"),
        ("20.conf", "Type=tmp\nFormat=erofs\nMountPoint=/var/tmp\n"),
        ("30.conf", "Type=home\nEncrypt=key-file\nEncryptedVolume=h:/k:discard\n"),
    ]);
    let plan = plan(&request(&definitions, BTreeMap::new())).unwrap();
    // Lines that systemd-repart 262 wrote with this seed; the UUID of /var/tmp is
    // derived like those, see `derive`.
    let tmp = plan.partitions[2].fs_uuid;
    let expected = format!(
        "# Start section ↓ of automatically generated fstab by systemd-repart\n\
         UUID=462A-A6AA /boot vfat fmask=0177,dmask=0077,rw,nodev,nosuid,noexec,nosymfollow 0 2\n\
         UUID=70e624a3-caca-4b82-b656-2e7168b70ff1 / ext4 discard,rw,nodev,suid,exec,noatime 0 1\n\
         UUID={tmp} /var/tmp erofs rw,nodev,nosuid,exec 0 2\n\
         # End section ↑ of automatically generated fstab by systemd-repart\n"
    );
    let names = identities(&request(&definitions, BTreeMap::new())).unwrap();
    let fstab =
        |existing, append, version| fstab(&definitions, &names, existing, append, version).unwrap();
    let made = fstab(None, Append::Auto, Version::V262);
    assert_eq!(made, expected);
    let old = format!("before\n{made}after\n");
    let again = fstab(Some(&old), Append::Auto, Version::V262);
    assert_eq!(again, format!("{expected}before\nafter\n"));
    assert_eq!(fstab(Some("x"), Append::Replace, Version::V262), expected);
    // The file of systemd-repart 257.
    let older = fstab(None, Append::Replace, Version::V257);
    let head = "# Automatically generated by systemd-repart\n\nUUID=462A-A6AA /boot vfat ";
    assert!(older.starts_with(head) && older.lines().count() == 5, "{older}");
    let crypt = crypttab(&definitions, &names).unwrap();
    let luks = plan.partitions[3].luks_uuid;
    let line = format!("# Automatically generated by systemd-repart\n\nh UUID={luks} /k discard\n");
    assert_eq!(crypt, line);
}

#[test]
fn shipped_definitions_grow_the_root_to_the_disk() {
    let esp = layout::esp_size(Bytes(0), Bytes(0));
    let texts = layout::default_definitions(Some(esp), "ext4");
    let facts = Facts::new(Architecture::X8664);
    let built = load(Source::Texts(&texts), &facts, Compat::default()).unwrap().definitions;
    let first = plan(&request(&built, BTreeMap::from([(1, Bytes(400 << 20))]))).unwrap();
    let mut tree = Tree::new();
    for (path, text) in layout::shipped_definitions() {
        tree.write(&TreePath::literal(path), 0o644, text.as_bytes()).unwrap();
    }
    let shipped = load(Source::Tree(&tree), &facts, Compat::default()).unwrap().definitions;
    let disk = disk::Sectors(64 << 21);
    let found = gpt::Found { table: first.table.clone(), disk, damage: vec![] };
    let mut request = request(&shipped, BTreeMap::new());
    (request.existing, request.size) = (Some(&found), Size::Keep);
    let grown = plan(&request).unwrap();
    let root = grown.partitions.iter().find(|p| p.definition == Some(0)).unwrap();
    assert_eq!(root.uuid, first.partitions[1].uuid);
    assert!(root.size.0 > (63 << 30), "{}", root.size);
    assert_eq!(grown.table.entries[&0], first.table.entries[&0], "the ESP stays");
    let again = gpt::Found { table: grown.table.clone(), disk, damage: vec![] };
    request.existing = Some(&again);
    let third = plan(&request).unwrap();
    assert!(!third.changes, "the next boot changes nothing");
    assert_eq!(third.table, grown.table);
}

#[test]
fn a_plan_survives_serialisation() {
    let definitions = definitions(&[("10.conf", "Type=home\nLabel=Ünicode ✓\n")]);
    let plan = plan(&request(&definitions, BTreeMap::new())).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

/// Printed by systemd-repart 262 and 257, COLUMNS=100, without the picture below.
const TABLES: [(Version, &str); 2] = [
    (
        Version::V262,
        "\
TYPE        LABEL       UUID                                 PART FILE               RAW SIZE     SIZE PADDING
root-x86-64 root-x86-64 60f33797-1d71-4dcb-aa6f-20564f036cd0    0 10-root.conf       31457280    → 30M    → 3M
var         var         6c06cc1e-3d41-4675-8141-d9e0e948a2a3    1 20-variable.conf 1537191936   → 1.4G    → 0B
                                                                                              Σ = 1.4G  Σ = 3M
",
    ),
    (
        Version::V257,
        "\
TYPE        LABEL       UUID                                 PARTNO FILE               RAW SIZE     SIZE PADDING
root-x86-64 root-x86-64 60f33797-1d71-4dcb-aa6f-20564f036cd0 0      10-root.conf       31457280    → 30M → 3M
var         var         6c06cc1e-3d41-4675-8141-d9e0e948a2a3 1      20-variable.conf 1537191936   → 1.4G → 0B
                                                                                                Σ = 1.4G Σ = 3M
",
    ),
];

#[test]
fn the_table_is_that_of_systemd_repart() {
    let root = "Type=root\nSizeMaxBytes=30M\nPaddingMinBytes=3M\nPaddingMaxBytes=3M\n";
    let definitions =
        definitions(&[("10-root.conf", root), ("20-variable.conf", "Type=var\nPriority=1\n")]);
    for (version, expected) in TABLES {
        let mut request = request(&definitions, BTreeMap::new());
        request.size = Size::Fixed(Bytes(1500 << 20));
        request.compat.version = version;
        assert_eq!(plan(&request).unwrap().to_text(), expected);
    }
}
