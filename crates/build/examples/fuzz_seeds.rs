//! Makes the committed seeds, `seeds/TARGET/NAME`, with the project's own writers:
//! `cargo run -p mkgold-build --example fuzz_seeds`. The bytes depend on nothing else.
//!
//! Seeds are small and valid, so that a fuzzer starts behind the first checks of a
//! decoder.

use std::error::Error;
use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use tree::{Meta, Mtime, Node, Tree, TreePath};
use uuid::Uuid;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONTROL: &str = "Package: demo\nVersion: 1:2.3~rc1-4+b1\nArchitecture: amd64\n\
    Multi-Arch: same\nEssential: no\nPriority: optional\nSection: misc\n\
    Maintainer: M <m@example.org>\nInstalled-Size: 12\nDepends: a (>= 1.0), b:any | c (<< 2)\n\
    Provides: virtual (= 3)\nConflicts: x [amd64] <!nocheck>\n\
    Description: short\n long line\n .\n more\n";
const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn main() -> Result<()> {
    texts()?;
    trees()?;
    packages()?;
    disks()?;
    programs()?;
    tmpfiles()
}

fn put(target: &str, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    std::fs::create_dir_all(&dir)?;
    Ok(std::fs::write(dir.join(name), bytes)?)
}

fn texts() -> Result<()> {
    let packages =
        format!("{CONTROL}Filename: pool/d/demo.deb\nSize: 12\nSHA256: {SUM}\n\n{CONTROL}");
    put("debian_deb822", "packages", &packages)?;
    put("debian_deb822", "comments", "# one\nA: b\n# two\n c\nB:\n d\n\nC: .\n")?;
    put("debian_packages", "packages", &packages)?;
    put("debian_relations", "all", "a:any (>= 1:2~3-4) [amd64 i386] <!nocheck x> | b, c (= 1)")?;
    put("debian_version", "two", "1:2.3~rc1-4+b1\n0:2.3-4")?;
    put("dpkg_control", "control", CONTROL)?;
    let status = CONTROL.replace(
        "Multi",
        "Status: install ok installed\nConffiles:\n /etc/d 00112233445566778899aabbccddeeff\nMulti",
    );
    put(
        "dpkg_database",
        "files",
        format!(
            "status\n{status}\0info/demo:amd64.list\n/.\n/etc\n/etc/d\n\0diversions\n/a\n/b\n:\n\0\
             statoverride\nroot #3 755 /etc/d\n\0triggers/File\n/usr/x demo\n\0\
             triggers/Unincorp\nt demo\n\0info/demo:amd64.triggers\ninterest-noawait /usr/x\n"
        ),
    )?;
    let release = format!(
        "Origin: Debian\nLabel: Debian\nSuite: stable\nCodename: trixie\nVersion: 13.1\n\
         Date: Sat, 06 Sep 2025 08:15:11 UTC\nValid-Until: Sat, 13 Sep 2025 08:15:11 UTC\n\
         Acquire-By-Hash: yes\nArchitectures: all amd64 arm64\nComponents: main contrib\n\
         No-Support-for-Architecture-all: Packages\nSHA256:\n {SUM} 12 main/binary-amd64/Packages\n \
         {SUM}       34 main/binary-amd64/Packages.xz\n"
    );
    put("apt_release", "release", &release)?;
    let signed = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{release}\
         -----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"
    );
    put("apt_openpgp", "signed", &signed)?;
    put(
        "apt_openpgp",
        "armor",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZg==\n=xyzw\n-----END PGP PUBLIC KEY BLOCK-----\n",
    )?;
    put(
        "apt_sources",
        "both",
        "Types: deb deb-src\nURIs: http://h/d https://i/\nSuites: s s-updates\nComponents: main\nSigned-By: /k.gpg\nArchitectures: amd64\nEnabled: yes\n\n",
    )?;
    put(
        "apt_sources",
        "list",
        "deb [arch=amd64,i386 signed-by=/k trusted=yes] http://h/d s main # c\ndeb file:/x ./\n",
    )?;
    put(
        "apt_preferences",
        "pins",
        "Package: a* src:b /^x$/\nPin: release a=stable, n=trixie, o=Debian\nPin-Priority: 990\n\nPackage: *\nPin: origin \"h\"\nPin-Priority: -1\n\nPackage: c\nPin: version 1.*\nPin-Priority: 1001\n",
    )?;
    put("apt_uri", "path", "pool/main/a/a_1%3a2.deb")?;
    put("apt_uri", "uri", "https://user:pw@host:8080/debian/./x/")?;
    put(
        "boot_entry",
        "type1",
        "title Debian\nversion 6.1\nmachine-id 0123456789abcdef0123456789abcdef\nsort-key debian\nlinux /debian/6.1/linux\ninitrd /debian/6.1/initrd\noptions root=UUID=x quiet\n",
    )?;
    put(
        "boot_os_release",
        "debian",
        "PRETTY_NAME=\"Debian \\\"13\\\"\"\nID=debian\n# c\nVERSION_ID='13'\nX=a\\ b\n",
    )?;
    put("boot_pattern", "globs", "/fs/*\nkernel/fs/ext4/ext4.ko.xz")?;
    put("boot_pattern", "regex", "-re:(net|fs)/.*[^0-9]$\nkernel/net/a.ko")?;
    put("boot_version", "two", "6.12.43+deb13-amd64")?;
    let conf = "[Match]\nDistribution=debian\nRelease=!bookworm\n[Distribution]\nRelease=trixie\n\
         [Output]\nImageId=x\nFormat=disk\nOutput=%i_%v\n[Content]\nPackages=a\n  b,c\n\
         Environment=A=%H\nBootable=yes\n[Build]\nIncremental=yes\n";
    put("config_ini", "conf", conf)?;
    put(
        "config_project",
        "conf",
        format!(
            "{conf}---mkosi.conf.d/10-a.conf\n[Content]\nPackages=\n---mkosi.profiles/p/mkosi.conf\n[Include]\nInclude=../x\n---mkosi.extra->/etc\n---args\nprofile=p\npackages=z\n"
        ),
    )?;
    put("config_version", "two", "1.2~rc3^git-4\n1.10")?;
    let definition = "[Partition]\nType=root\nFormat=ext4\nCopyFiles=/a:/b\nSizeMinBytes=1G\nWeight=500\nGrowFileSystem=yes\nLabel=%M_%A\nFlags=0x8000000000000000\n";
    put("disk_definition", "root", definition)?;
    put(
        "disk_plan",
        "two",
        format!(
            "{}\0{}\0AB",
            "[Partition]\nType=esp\nSizeMinBytes=64M\nSizeMaxBytes=64M\n", definition
        ),
    )?;
    put("sandbox_subid", "ranges", "user:100000:65536\n1000:200000:65536\n")?;
    put(
        "os_system",
        "files",
        "usr/lib/sysusers.d/a.conf\nu x 100:x \"A B\" /run /bin/sh\ng y -\nm x y\nr - 500-900\n\0etc/passwd\nroot:x:0:0:root:/root:/bin/bash\n\0etc/group\nroot:x:0:\n\0etc/shadow\nroot:*:1::::::\n\0usr/lib/systemd/system/a@.service\n[Unit]\nConditionFirstBoot=yes\n[Install]\nWantedBy=multi-user.target\nAlias=b.service\nDefaultInstance=i\nAlso=c.socket\n\0usr/lib/systemd/system/c.socket\n[Install]\nWantedBy=sockets.target\n\0usr/lib/systemd/system-preset/9.preset\nenable a@.service x y\ndisable *\n\0usr/lib/os-release\nID=debian\n",
    )?;
    put(
        "check_seal",
        "leftovers",
        "fetc/machine-id\n0123456789abcdef0123456789abcdef\n\0ladm\n../etc\0lvar/lib/dbus\n/etc\0fusr/sbin/sshd\n\0hetc/ssh/ssh_host_rsa_key\nusr/sbin/sshd\0fetc/ssh/sshd_config\nHostKey /etc/k\n\0fetc/k\nsecret\0Floader/random-seed\nseed\0Floader/entries/a.conf\nmachine-id x\0ltmp\nvar/tmp\0fvar/tmp/x\ny\0fvar/log/wtmp\nz\0droot/.ssh\0",
    )?;
    put(
        "build_lock",
        "lock",
        format!(
            "version = 1\narchitecture = \"amd64\"\ngenerations = [1]\n[requests]\nimage = \"0123456789abcdef\"\n[[releases]]\nsuite = \"trixie\"\ndate = 1\nsha256 = \"{SUM}\"\n[[packages]]\nname = \"a\"\nversion = \"1\"\narchitecture = \"all\"\nsource = \"a\"\nsuite = \"trixie\"\nfilename = \"pool/a.deb\"\nsize = 1\nsha256 = \"{SUM}\"\nsets = [\"image\"]\nautomatic = []\n"
        ),
    )?;
    put("apt_records", "one", apt::records::encode(&debian::read_packages(&packages)?))
}

fn p(path: &'static str) -> TreePath {
    TreePath::literal(path)
}

/// A file of each kind.
fn sample() -> Result<Tree> {
    let mut tree = Tree::new();
    tree.write(&p("usr/bin/tool"), 0o4755, *b"tool")?;
    tree.add_link(p("usr/bin/twin"), &p("usr/bin/tool"))?;
    tree.write(&p("etc/long"), 0o600, vec![b'x'; 5000])?;
    tree.add_symlink(p("bin"), "usr/bin")?;
    tree.add_symlink(p("slow"), "x".repeat(100).as_str())?;
    let device = tree::Device { major: 1, minor: 3 };
    tree.add(p("null"), Node { meta: Meta::new(0o666), kind: tree::Kind::CharDev(device) })?;
    let meta = &mut tree.get_mut(&p("etc/long")).expect("just made").meta;
    meta.xattrs.insert(b"user.a".to_vec(), b"value".to_vec());
    meta.mtime = Mtime { secs: 1, nanos: 5 };
    meta.uid = 3_000_000;
    Ok(tree)
}

fn trees() -> Result<()> {
    let mut tar = Vec::new();
    tree::tar::write(&sample()?, &mut tar)?;
    for target in ["dpkg_tar", "build_tree_archive"] {
        put(target, "sample", &tar)?;
    }
    put("boot_cpio", "sample", boot::cpio::archive(&sample()?, None)?.read(u64::MAX)?)?;
    put("store_tree", "sample", store::codec::encode_tree(&sample()?)?)?;
    let mut small = sample()?;
    small.remove(&p("null"));
    let uuid = Uuid::from_bytes([7; 16]);
    let ext4 = made(|file| {
        let mut options = fs::ext4::Ext4Options::new(uuid, 0);
        options.size = fs::ext4::measure(&small, &options)?;
        Ok(fs::ext4::write(&small, &options, file, 0)?)
    })?;
    put("fs_ext4", "sample", ext4)?;
    let erofs = made(|file| {
        let options = fs::erofs::ErofsOptions { uuid, label: "l".into(), epoch: 0 };
        fs::erofs::write(&small, &options, file, 0)?;
        Ok(())
    })?;
    put("fs_erofs", "sample", erofs)?;
    let mut names = Tree::new();
    names.write(&p("EFI/Linux/a long name.efi"), 0o644, *b"MZ")?;
    let fat = made(|file| {
        let mut options = fs::fat::FatOptions::new(7, 0);
        options.size = fs::fat::measure(&names, &options)?;
        Ok(fs::fat::write(&names, &options, file, 0)?)
    })?;
    put("fs_fat", "sample", fat)
}

/// What `write` writes to a file, without the zeroes at the end.
fn made(write: impl FnOnce(&File) -> Result<()>) -> Result<Vec<u8>> {
    let mut file = tempfile()?;
    write(&file)?;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    bytes.truncate(end);
    Ok(bytes)
}

fn tempfile() -> Result<File> {
    let path = std::env::temp_dir().join(format!("mkgold-seed-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn packages() -> Result<()> {
    let mut control = Tree::new();
    control.write(&p("control"), 0o644, CONTROL.as_bytes())?;
    control.write(&p("conffiles"), 0o644, *b"/etc/long\n")?;
    control.write(&p("postinst"), 0o755, *b"#!/bin/sh\n")?;
    let tar = |tree: &Tree| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        tree::tar::write(tree, &mut bytes)?;
        Ok(bytes)
    };
    let (control, data) = (tar(&control)?, tar(&sample()?)?);
    let zst = |bytes: &[u8]| zstd::encode_all(bytes, 3);
    let plain = ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)]);
    let packed = ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.zst", &zst(&control)?),
        ("_other", b"odd"),
        ("data.tar.zst", &zst(&data)?),
    ]);
    for target in ["dpkg_ar", "dpkg_deb"] {
        put(target, "plain", &plain)?;
        put(target, "zstd", &packed)?;
    }
    let dir = std::env::temp_dir().join(format!("mkgold-seeds-{}", std::process::id()));
    let store = store::Store::open(&dir)?;
    let key = store::Key::of(&plain);
    dpkg::unpack(&store, "demo", &plain[..], &key, &dpkg::Limits::default())?;
    let object = store.read("package", &key)?.ok_or("it was just stored")?;
    std::fs::remove_dir_all(dir)?;
    put("dpkg_object", "demo", object)
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, data) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, data.len());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

fn disks() -> Result<()> {
    use disk::{Guid, SectorSize, Sectors, TypeGuid, gpt};
    let sectors = Sectors(128);
    let mut table = gpt::Table::new(Guid::NIL, sectors, SectorSize::ALL[0])?;
    let entry = gpt::Entry {
        kind: TypeGuid(Guid::from_gpt([9; 16])),
        guid: Guid::from_gpt([8; 16]),
        first: table.first_usable,
        last: Sectors(table.first_usable.0 + 7),
        attributes: 1 << 59,
        name: gpt::Name::new("root").ok_or("a name")?,
        rest: Vec::new(),
    };
    table.entries.insert(0, entry);
    let mut disk = Cursor::new(vec![0; 128 * 512]);
    gpt::write(&mut disk, &table)?;
    put("disk_gpt", "one", disk.into_inner())
}

/// Programs, by hand: as small as the readers take them.
fn programs() -> Result<()> {
    let mut pe = vec![0; 0x420];
    let mut set = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    set(0, b"MZ");
    set(0x3c, &[0x40]);
    set(0x40, b"PE\0\0");
    set(0x44, &0x8664u16.to_le_bytes());
    set(0x46, &1u16.to_le_bytes());
    set(0x54, &240u16.to_le_bytes());
    set(0x58, &0x20bu16.to_le_bytes());
    set(0x78, &0x1000u32.to_le_bytes());
    set(0x7c, &0x200u32.to_le_bytes());
    set(0x94, &0x400u32.to_le_bytes());
    set(0x9c, &10u16.to_le_bytes());
    set(0x148, b".text");
    set(0x150, &16u32.to_le_bytes());
    set(0x154, &0x1000u32.to_le_bytes());
    set(0x158, &0x20u32.to_le_bytes());
    set(0x15c, &0x400u32.to_le_bytes());
    put("boot_pe", "text", pe)?;
    let elf = module();
    put("boot_module", "modinfo", &elf)?;
    put("sandbox_elf", "module", &elf)?;
    put(
        "sandbox_acl",
        "mask",
        [
            2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0, 7,
            0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255,
        ],
    )?;
    put(
        "sandbox_capability",
        "v3",
        [&[1, 0, 0, 3][..], &[0, 4, 0, 0], &[0; 12], &[0, 0, 1, 0]].concat(),
    )
}

/// A 64-bit ELF with the sections `.modinfo` and `.shstrtab`.
fn module() -> Vec<u8> {
    let info = b"license=GPL\0depends=b,c\0alias=pci:v*d*\0firmware=f.bin\0softdep=pre: x\0\0";
    let names = b"\0.modinfo\0.shstrtab\0\0\0\0";
    let sections = 64 + info.len() + names.len();
    let sections_at = sections.next_multiple_of(8);
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    elf[16..20].copy_from_slice(&[1, 0, 62, 0]);
    elf[20] = 1;
    elf[40..48].copy_from_slice(&(sections_at as u64).to_le_bytes());
    elf[52] = 64;
    elf[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
    elf.extend_from_slice(info);
    elf.extend_from_slice(names);
    elf.resize(sections_at, 0);
    let mut section = |name: u32, kind: u32, at: usize, len: usize| {
        elf.extend_from_slice(&name.to_le_bytes());
        elf.extend_from_slice(&kind.to_le_bytes());
        for value in [0, 0, at as u64, len as u64, 0, 1, 0] {
            elf.extend_from_slice(&value.to_le_bytes());
        }
    };
    section(0, 0, 0, 0);
    section(1, 1, 64, info.len());
    section(10, 3, 64 + info.len(), names.len());
    elf
}

/// Every type of line and modifier, accounts, and something to work on.
fn tmpfiles() -> Result<()> {
    let lines = "d /a 0755 alice adm 10d\nD! /b 1777\ne /a* :0700\nq /c\nf+ /a/f ~0640 - - - x%o\\x41\n\
        w+ /a/f - - - - more\nL+ /l - - - - ../a\nL? /m - - - - /a\np /p\nc /n - - - - 1:3\n\
        b= /s 0660 - 6 - 8:0\nC+ /copy - - - - /a\nx /b/keep\nX /b/only\nr! /{x,y}*.lock\n\
        R /.#[!a-z]*\nZ /copy ~2750 - adm\nz- /p 0600\nt /a/f - - - - user.a=b \"user.c=d e\"\n\
        a+ /a - - - - d:group:adm:r-x,user:alice:rwX,mask::r\nA /copy - - - - g:adm:rX\n\
        h /a - - - - +C\nf~ /z - - - - aGk=\nf^ /cred - - - - login.motd\n\"d\" \"/sp\\x20ace\"\n";
    let files = format!(
        "etc/passwd\nroot:x:0:0::/:\nalice:x:1000:1000::/:\n\0etc/group\nadm:x:4:\n\0\
         etc/os-release\nID=debian\n\0b/keep/x\n\0x1.lock\n\0usr/lib/tmpfiles.d/a.conf\n{lines}"
    );
    put("os_tmpfiles", "all", files)
}
