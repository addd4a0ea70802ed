//! Every setting of repart.d has an effect on what is planned or made, or says that it
//! has none, or is refused by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::File;

use disk::definition::{Definition, Facts, Source, load, settings};
use disk::execute::{FillError, PartitionFiller, content_sizes};
use disk::fstab::{Append, crypttab, fstab};
use disk::plan::{Identity, PlannedPartition, Request, Size, identities, plan};
use disk::{Architecture, Bytes, Compat, Guid, Version, populate};
use tree::{Content, Kind, Meta, Tree, TreePath};

/// The setting, definitions of which one has it, and what is seen only then. Sizes are
/// for a disk of 3 GiB, of which 3220156416 bytes can be used.
const ROWS: &[(&str, &[&str], &str)] = &[
    ("Type", &["Type=srv"], "type=srv "),
    ("Label", &["Type=home\nLabel=Daten"], "label=Daten "),
    ("VolumeLabel", &["Type=home\nVolumeLabel=x"], "VolumeLabel= has no effect without Encrypt="),
    (
        "UUID",
        &["Type=home\nUUID=11111111-2222-4333-8444-555555555555"],
        "uuid=11111111-2222-4333-8444-555555555555",
    ),
    ("Priority", &["Type=home\nPriority=1\nSizeMinBytes=4G"], "dropped 10-p.conf Priority"),
    // 3/4 and 1/4 instead of halves.
    ("Weight", &["Type=home\nWeight=3000", "Type=srv"], "size=2415116288 "),
    ("PaddingWeight", &["Type=home\nPaddingWeight=1000"], "size=1610076160 "),
    ("SizeMinBytes", &["Type=home\nSizeMinBytes=2G", "Type=srv"], "size=2147483648 "),
    ("SizeMaxBytes", &["Type=home\nSizeMaxBytes=20M"], "size=20971520 "),
    ("PaddingMinBytes", &["Type=home\nPaddingMinBytes=2G"], "padding=2147483648 "),
    ("PaddingMaxBytes", &["Type=home\nPaddingMaxBytes=8M\nPaddingWeight=1000"], "padding=8388608 "),
    ("FactoryReset", &["Type=home\nFactoryReset=yes"], "deferred=true"),
    ("CopyBlocks", &["Type=home\nCopyBlocks=/blocks"], "content=1024"),
    ("Format", &["Type=home\nFormat=vfat"], "format=vfat"),
    ("CopyFiles", &["Type=home\nCopyFiles=/etc:/x"], "tree: / /x /x/a /x/b\n"),
    ("ExcludeFiles", &["Type=home\nCopyFiles=/etc:/x\nExcludeFiles=/etc/a"], "tree: / /x /x/b\n"),
    (
        "ExcludeFilesTarget",
        &["Type=home\nCopyFiles=/etc:/x\nExcludeFilesTarget=/x/b"],
        "tree: / /x /x/a\n",
    ),
    ("MakeDirectories", &["Type=home\nMakeDirectories=/a/b"], "tree: / /a /a/b\n"),
    ("MakeSymlinks", &["Type=home\nMakeSymlinks=/l:../t"], "tree: / /l->../t\n"),
    ("Subvolumes", &["Type=home\nFormat=btrfs\nSubvolumes=/a"], "refused: Subvolumes="),
    (
        "DefaultSubvolume",
        &["Type=home\nFormat=btrfs\nSubvolumes=/a\nDefaultSubvolume=/a"],
        "refused: DefaultSubvolume=",
    ),
    ("BlockDeviceReplace", &["Type=home\nBlockDeviceReplace=/x"], "refused: BlockDeviceReplace="),
    (
        "VolumeName",
        &["Type=home\nBlockDeviceReplace=/x\nEncrypt=key-file\nVolumeName=x"],
        "refused: VolumeName=",
    ),
    ("Encrypt", &["Type=home\nEncrypt=key-file"], "refused: Encrypt=key-file"),
    ("Discard", &["Type=home\nDiscard=yes"], "Discard= has no effect without Encrypt="),
    (
        "EncryptKDF",
        &["Type=home\nEncryptKDF=minimal"],
        "EncryptKDF= has no effect without Encrypt=",
    ),
    ("Integrity", &["Type=home\nEncrypt=key-file\nIntegrity=inline"], "refused: Integrity=inline"),
    (
        "IntegrityAlgorithm",
        &["Type=home\nIntegrityAlgorithm=hmac-sha1"],
        "IntegrityAlgorithm= has no effect without Integrity=",
    ),
    (
        "Verity",
        &[
            "Type=root\nVerity=data\nVerityMatchKey=k",
            "Type=root-verity\nVerity=hash\nVerityMatchKey=k",
        ],
        "refused: Verity=data",
    ),
    (
        "VerityMatchKey",
        &[
            "Type=root\nVerity=data\nVerityMatchKey=k",
            "Type=root-verity\nVerity=hash\nVerityMatchKey=k",
        ],
        "refused: Verity=hash",
    ),
    (
        "VerityDataBlockSizeBytes",
        &["Type=home\nVerityDataBlockSizeBytes=4096"],
        "VerityDataBlockSizeBytes= has no effect without Verity=",
    ),
    (
        "VerityHashBlockSizeBytes",
        &["Type=home\nVerityHashBlockSizeBytes=4096"],
        "VerityHashBlockSizeBytes= has no effect without Verity=",
    ),
    ("Flags", &["Type=linux-generic\nFlags=0x5"], "flags=0x5 "),
    ("NoAuto", &["Type=home\nNoAuto=yes"], "flags=0x8800000000000000 "),
    ("ReadOnly", &["Type=home\nReadOnly=yes"], "flags=0x1000000000000000 "),
    ("GrowFileSystem", &["Type=home\nGrowFileSystem=no"], "flags=0x0 "),
    ("SplitName", &["Type=home\nSplitName=%t-%n"], "split=home-0 "),
    // Two inodes of a million bytes each, half as much again, in blocks of 4096.
    (
        "Minimize",
        &["Type=home\nFormat=ext4\nMakeDirectories=/a\nSizeMinBytes=4096\nMinimize=guess"],
        "content=3002368",
    ),
    ("MountPoint", &["Type=home\nFormat=ext4\nMountPoint=/home"], " /home ext4 "),
    (
        "EncryptedVolume",
        &["Type=home\nEncrypt=key-file\nEncryptedVolume=vault:/key"],
        "\nvault UUID=",
    ),
    ("TPM2PCRs", &["Type=home\nTPM2PCRs=7"], "TPM2PCRs= has no effect without Encrypt="),
    ("KeyFile", &["Type=home\nKeyFile=/k"], "KeyFile= has no effect without Encrypt="),
    // Who makes the file systems (`build::filler`) has tests of what they do there.
    ("Compression", &["Type=home\nFormat=erofs\nCompression=zstd"], "compression=zstd "),
    (
        "CompressionLevel",
        &["Type=home\nFormat=erofs\nCompression=zstd\nCompressionLevel=7"],
        "level=7 ",
    ),
    (
        "SupplementFor",
        &["Type=home", "Type=srv\nSupplementFor=10-p"],
        "dropped 11-p.conf Supplement",
    ),
    ("AddValidateFS", &["Type=home\nFormat=ext4\nAddValidateFS=no"], "validatefs=false"),
    ("FileSystemSectorSize", &["Type=home\nFormat=vfat\nFileSystemSectorSize=512"], "sector=512 "),
];

/// A file system is a million bytes for each of its inodes.
struct Millions;

impl PartitionFiller for Millions {
    fn fill(
        &self,
        _: &PlannedPartition,
        _: &Definition,
        _: Option<&Tree>,
        _: &mut File,
        _: u64,
        _: u64,
    ) -> Result<(), FillError> {
        unreachable!("nothing is made here")
    }

    fn measure(&self, _: &Definition, _: &Identity, tree: &Tree) -> Result<u64, FillError> {
        Ok(tree.len() as u64 * 1_000_000)
    }
}

fn source() -> Tree {
    let mut tree = Tree::new();
    tree.make_dirs(&TreePath::literal("etc")).unwrap();
    for (path, bytes) in [("etc/a", 2), ("etc/b", 2), ("blocks", 1024)] {
        let path = TreePath::literal(path);
        tree.add_file(path, Meta::file(0o644), Content::inline(vec![7u8; bytes])).unwrap();
    }
    tree
}

/// Everything that becomes of definitions, as text.
fn seen(texts: &[String]) -> String {
    let named: Vec<(String, String)> = (10..)
        .zip(texts)
        .map(|(i, t)| (format!("{i}-p.conf"), format!("[Partition]\n{t}\n")))
        .collect();
    let facts = Facts::new(Architecture::X8664);
    let loaded = match load(Source::Texts(&named), &facts, Compat::default()) {
        Ok(loaded) => loaded,
        Err(refused) => return format!("error: {refused}\n"),
    };
    let definitions = &loaded.definitions;
    let mut out = String::new();
    loaded.warnings.iter().for_each(|w| writeln!(out, "warning: {w}").unwrap());
    let mut request = Request {
        definitions,
        content: BTreeMap::new(),
        existing: None,
        size: Size::Fixed(Bytes(3 << 30)),
        seed: "750b6cd5-c4ae-4012-a15e-7be3c29e6a47".parse::<Guid>().unwrap(),
        sector_size: None,
        grain: None,
        block_device: false,
        device: "image.raw".into(),
        defer: disk::plan::Defer { factory_reset: true, ..Default::default() },
        current: Bytes(0),
        compat: Compat::default(),
    };
    let names = identities(&request).unwrap();
    let refused: Vec<String> = definitions.iter().flat_map(Definition::refusals).collect();
    refused.iter().for_each(|r| writeln!(out, "refused: {r}").unwrap());
    let source = source();
    if refused.is_empty() {
        request.content = content_sizes(definitions, &names, &source, Some(0), &Millions).unwrap();
        trees(definitions, &names, &source, &mut out);
        planned(&request, &mut out);
    }
    out.extend(fstab(definitions, &names, None, Append::Replace, Version::V262));
    out.extend(crypttab(definitions, &names));
    out
}

fn planned(request: &Request<'_>, out: &mut String) {
    let plan = match plan(request) {
        Ok(plan) => plan,
        Err(e) => return writeln!(out, "error: {e}").unwrap(),
    };
    for d in &plan.dropped {
        writeln!(out, "dropped {} {:?}", d.file, d.reason).unwrap();
    }
    for p in &plan.partitions {
        let d = &request.definitions[p.definition.unwrap()];
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        writeln!(
            out,
            "type={} label={} uuid={} size={} padding={} flags={:#x} split={} content={} \
             format={} sector={} compression={} level={} deferred={}",
            p.kind,
            p.label,
            p.uuid,
            p.size.0,
            p.padding.0,
            p.flags,
            text(&p.split_name),
            p.content.map_or(0, |c| c.0),
            text(&p.format),
            p.fs_sector_size.0,
            text(&d.compression),
            text(&d.compression_level),
            p.deferred,
        )
        .unwrap();
    }
}

fn trees(definitions: &[Definition], names: &[Identity], source: &Tree, out: &mut String) {
    for (definition, _) in definitions.iter().enumerate().filter(|(_, d)| d.populates()) {
        let request = populate::Request {
            definitions,
            definition,
            supplements: &[],
            identities: names,
            source,
            epoch: Some(0),
        };
        let tree = populate::populate(&request).unwrap().tree;
        let path = |(path, _, node): (&TreePath, _, &tree::Node)| match &node.kind {
            Kind::Symlink(to) => format!("{path}->{}", String::from_utf8_lossy(to)),
            _ => path.to_string(),
        };
        let paths: Vec<String> = tree.iter().map(path).collect();
        let top = &tree.get(&TreePath::root()).unwrap().meta;
        let marked = top.xattrs.keys().any(|name| name.starts_with(b"user.validatefs."));
        writeln!(out, "tree: {}\nvalidatefs={marked}", paths.join(" ")).unwrap();
    }
    for d in definitions.iter().filter(|d| !d.populates()) {
        writeln!(out, "{}: validatefs=false", d.name).unwrap();
    }
}

#[test]
fn every_setting_has_an_effect_or_says_why_not() {
    for (setting, texts, only_with) in ROWS {
        let with: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        let line = format!("{setting}=");
        let kept = |text: &&str| {
            let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with(&line)).collect();
            lines.join("\n")
        };
        let without: Vec<String> = texts.iter().map(kept).collect();
        assert_ne!(with, without, "{setting}");
        let (with, without) = (seen(&with), seen(&without));
        assert!(with.contains(only_with), "{setting}: {with}");
        assert!(!without.contains(only_with), "{setting} changes nothing: {without}");
    }
}

#[test]
fn no_setting_is_without_a_row() {
    let rows: BTreeSet<&str> = ROWS.iter().map(|(setting, ..)| *setting).collect();
    let all: BTreeSet<&str> = settings().collect();
    assert_eq!(rows, all);
    assert_eq!(all.len(), 47, "those of repart.d(5) of systemd 262");
}
