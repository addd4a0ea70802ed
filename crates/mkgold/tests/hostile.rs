//! Packages, trees, indices and cached objects made to harm: through the whole
//! command nothing outside of the image's root is touched, the memory stays small,
//! and the error names what is wrong and where it came from.

#[path = "crafted/mod.rs"]
mod common;

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use common::{Item, MEMORY, Project, Run, ar, control, deb, deb_with, file, header, special, tar};

/// A project whose base tree has what stands for dpkg: a program that does nothing.
fn with_packages() -> Project {
    let project = Project::new("Packages=evil\nWithDocs=yes\n[Output]\nFormat=directory\n");
    common::dpkg(&project, "mkosi.skeleton");
    project.file("mkosi.skeleton/usr/share/README", "the directory is there", 0o644);
    project.file("mkosi.skeleton/usr/bin/dpkg", "#!/usr/bin/sh\nexit 0\n", 0o755);
    project
}

/// Builds with the package and checks what must hold of every build. `outside` is a
/// directory that links of the package lead to.
fn build(bytes: &[u8]) -> Run {
    let project = with_packages();
    project.package("evil", bytes);
    run(&project)
}

fn run(project: &Project) -> Run {
    let outside = project.path("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("file"), "kept").unwrap();
    let run = project.build(&[]);
    assert!(run.memory < MEMORY, "{} MiB:\n{}", run.memory >> 20, run.text);
    let kept = std::fs::read(outside.join("file")).expect("it is still there");
    assert_eq!(kept, b"kept", "a file outside was changed");
    let count = std::fs::read_dir(&outside).unwrap().count();
    assert_eq!(count, 1, "something was made outside");
    assert!(!run.text.contains("panicked"), "{}", run.text);
    run
}

fn refused(bytes: &[u8], reason: &str) {
    let run = build(bytes);
    assert!(!run.success, "{reason}: was accepted\n{}", run.text);
    let error = run.text.split_once("mkgold: ").expect("an error is marked").1;
    assert!(error.lines().next().is_some_and(|l| l.contains("evil")), "names it:\n{}", run.text);
    assert!(error.contains(reason), "says {reason:?}:\n{}", run.text);
}

#[test]
fn a_harmless_package_is_built() {
    let project = with_packages();
    project.package("evil", &deb("evil", &[file("./usr/share/evil", b"x")]));
    let run = run(&project);
    assert!(run.success, "{}", run.text);
    assert_eq!(std::fs::read(project.root().join("usr/share/evil")).unwrap(), b"x");
}

#[test]
fn names_that_lead_out_are_refused() {
    let hostile = |item: Item| deb("evil", &[special("./", b'5', ""), item]);
    refused(&hostile(file("./../../outside/file", b"x")), "contains '..'");
    refused(&hostile(file("usr/../../../outside/file", b"x")), "contains '..'");
    refused(&hostile(special("./../outside", b'5', "")), "contains '..'");
    refused(&hostile(special("./passwd", b'1', "../../../etc/passwd")), "contains '..'");
    refused(&hostile(special("./passwd", b'1', "/etc/passwd")), "etc/passwd");
    refused(&hostile(special("./x", b'2', "")), "no target");
    refused(&hostile(special("./", b'2', "/tmp")), "not a directory");
}

/// A record of a pax header, its own length in front.
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let with = |digits: usize| format!("{}{rest}", rest.len() + digits);
    (1..9).map(with).find(|r| r.starts_with(&format!("{} ", r.len()))).expect("a length fits")
}

/// Packages that a builder without care would write through.
#[test]
fn links_lead_nowhere_but_into_the_image() {
    for target in ["absolute", "relative"] {
        let project = with_packages();
        let outside = project.path("outside");
        let up = "../".repeat(30);
        project.file(&format!("mkosi.skeleton/{}/x", outside.display()), "", 0o644);
        let link = match target {
            "absolute" => outside.display().to_string(),
            _ => format!("{up}{}", outside.strip_prefix("/").unwrap().display()),
        };
        let items = [
            // The header has room for 100 bytes only.
            Item { kind: b'x', ..file("pax", pax_record("linkpath", &link).as_bytes()) },
            special("./door", b'2', "long"),
            file("./door/file", b"changed"),
            file("./door/new", b"made"),
            special("./twin", b'1', "door/file"),
        ];
        project.package("evil", &deb("evil", &items));
        let run = run(&project);
        // As after a chroot: the place that the link names inside the image.
        assert!(run.success, "{}", run.text);
        let inside = project.root().join(outside.strip_prefix("/").unwrap());
        assert_eq!(std::fs::read(inside.join("file")).unwrap(), b"changed");
        assert_eq!(std::fs::read(inside.join("new")).unwrap(), b"made");
    }
    let looping = [special("./a", b'2', "b"), special("./b", b'2', "a"), file("./a/file", b"x")];
    refused(&deb("evil", &looping), "too many levels of symbolic links");
}

#[test]
fn devices_and_setuid_programs_are_entries_of_the_image_only() {
    let project = with_packages();
    let mut suid = file("./usr/bin/su", b"x");
    suid.mode = 0o4755;
    let items = [special("./disk", b'4', ""), special("./pipe", b'6', ""), suid];
    project.package("evil", &deb("evil", &items));
    let run = run(&project);
    if run.success {
        let su = std::fs::metadata(project.root().join("usr/bin/su")).unwrap();
        assert_eq!(su.permissions().mode() & 0o7777, 0o4755);
    } else {
        // Only root can make a device in a directory.
        assert!(run.text.contains("disk"), "{}", run.text);
    }
    // In an archive they are what they are, whoever builds.
    let project = Project::new("ExtraTrees=x.tar\n[Output]\nFormat=tar\nCompressOutput=no\n");
    project.file("x.tar", tar(&[special("./disk", b'4', "")]), 0o644);
    let run = self::run(&project);
    assert!(run.success, "{}", run.text);
    let output = std::fs::read(project.path("out/golden.tar")).unwrap();
    let at = output.chunks(512).find(|b| b.starts_with(b"./disk\0")).expect("its header");
    assert_eq!(at[156], b'4');
}

#[test]
fn containers_that_lie_about_sizes_are_refused() {
    let good = deb("evil", &[file("./x", b"x")]);
    let mut huge = good.clone();
    let at = good.windows(8).position(|w| w == b"data.tar").unwrap();
    huge[at + 48..at + 58].copy_from_slice(b"9999999999");
    refused(&huge, "cut short");
    let mut negative = good.clone();
    negative[at + 48..at + 58].copy_from_slice(b"-1        ");
    refused(&negative, "not a number");
    let sized = |kind: u8, size: &[u8]| {
        let item = Item { kind, ..file("./x", b"") };
        let mut data = header(&item, size).to_vec();
        data.resize(4096, b'x');
        deb_with(&[file("./control", control("evil").as_bytes())], &data, "")
    };
    refused(&sized(b'0', b"77777777777\0"), "ends inside a file");
    refused(&sized(b'0', b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), "a file of");
    refused(&sized(b'0', b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), "not a number");
    refused(&sized(b'0', b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "negative");
    // Names of 100 MB, as GNU tar and pax have them.
    refused(&sized(b'L', b"00575360400\0"), "extension header");
    refused(&sized(b'K', b"00575360400\0"), "extension header");
    refused(&sized(b'x', b"00575360400\0"), "extension header");
    refused(&sized(b'S', b"00000000000\0"), "sparse");
    let pax = |text: &str| {
        deb("evil", &[Item { kind: b'x', ..file("pax", text.as_bytes()) }, file("./x", b"")])
    };
    refused(&pax("22 GNU.sparse.major=1\n"), "GNU.sparse.major");
    refused(&pax("28 size=9223372036854775807\n"), "a file of");
    refused(&pax("99999999999 path=x\n"), "pax header is malformed");
}

fn zstd(bytes: impl std::io::Read) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn xz(mut bytes: impl std::io::Read) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new(Vec::new(), 0);
    std::io::copy(&mut bytes, &mut out).unwrap();
    out.finish().unwrap()
}

fn gz(mut bytes: impl std::io::Read) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut bytes, &mut out).unwrap();
    out.finish().unwrap()
}

/// A tar with one file of that many zeroes, not in memory.
fn zeroes(name: &str, size: u64) -> impl std::io::Read {
    use std::io::Read as _;
    let block = header(&file(name, b""), format!("{size:011o}\0").as_bytes());
    std::io::Cursor::new(block).chain(std::io::repeat(0).take(size + 1024))
}

#[test]
fn bombs_are_stopped_before_they_fill_the_disk() {
    const SIZE: u64 = 300 << 20;
    let own = [file("./control", control("evil").as_bytes())];
    let bombs = [(".zst", zstd(zeroes("./x", SIZE))), (".xz", xz(zeroes("./x", SIZE)))];
    for (extension, bomb) in bombs {
        assert!(bomb.len() < 1 << 20, "{extension}: {} bytes are no bomb", bomb.len());
        refused(&deb_with(&own, &bomb, extension), "decompresses to more than");
    }
    let control = |extension: &str, bomb: Vec<u8>| {
        let name = format!("control.tar{extension}");
        let data = tar(&[]);
        ar(&[("debian-binary", b"2.0\n"), (&name, &bomb), ("data.tar", &data)])
    };
    refused(&control(".zst", zstd(zeroes("./x", SIZE))), "evil.deb");
    refused(&control(".gz", gz(zeroes("./x", SIZE / 4))), "evil.deb");
    refused(&control(".xz", xz(zeroes("./control", SIZE / 4))), "evil.deb");
}

/// Many extension headers before one entry: each is small, all together are not.
#[test]
fn attributes_without_end_are_refused() {
    let mut data = Vec::new();
    for n in 0..100 {
        let record = format!("SCHILY.xattr.user.n{n:05}={}\n", "x".repeat(1_000_000));
        let length = record.len() + 8;
        let text = format!("{length} {record}");
        assert_eq!(text.len(), length);
        let chunk = tar(&[Item { kind: b'x', ..file("pax", text.as_bytes()) }]);
        data.push(zstd(&chunk[..chunk.len() - 1024]));
    }
    // Frames one after the other are one stream.
    let own = [file("./control", control("evil").as_bytes())];
    refused(&deb_with(&own, &data.concat(), ".zst"), "extension headers");
}

#[test]
fn control_files_made_to_harm_are_refused() {
    let with = |name: &str, text: &str| {
        let own = [file("./control", control("evil").as_bytes()), file(name, text.as_bytes())];
        deb_with(&own, &tar(&[file("./x", b"")]), "")
    };
    refused(&with("./../postinst", "x"), "contains '..'");
    refused(&with("./sub/postinst", "x"), "not a plain file");
    refused(&with("./conffiles", "/etc/../../outside/file\n"), "..");
    refused(&with("./triggers", "interest ../../../../outside\n"), "..");
    let own = file("./control", control("evil").as_bytes());
    let link = deb_with(&[own, special("./postinst", b'2', "/etc/passwd")], &tar(&[]), "");
    refused(&link, "not a plain file");
    let renamed = |name: &str| {
        let own = [file("./control", control(name).as_bytes())];
        deb_with(&own, &tar(&[]), "")
    };
    refused(&renamed("../evil"), "evil.deb");
    refused(&renamed("evil/../../x"), "evil.deb");
    // 10⁷ fields, as far as the control archive may grow.
    let fields: String = (0..1_000_000).map(|n| format!("F{n}: x\n")).collect();
    let many = [file("./control", (control("evil") + &fields).as_bytes())];
    refused(&deb_with(&many, &tar(&[]), ""), "fields");
}

/// A tar of empty files, packed.
fn many_entries(count: u32) -> Vec<u8> {
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut add = |item: &Item| packed.write_all(&header(item, b"00000000000\0")).unwrap();
    add(&special("./usr/share/many", b'5', ""));
    for n in 0..count {
        if n % 1000 == 0 {
            add(&special(&format!("./usr/share/many/{}", n / 1000), b'5', ""));
        }
        add(&file(&format!("./usr/share/many/{}/{n}", n / 1000), b""));
    }
    packed.write_all(&[0; 1024]).unwrap();
    packed.finish().unwrap()
}

#[test]
fn a_package_of_a_million_entries_is_refused() {
    let own = [file("./control", control("evil").as_bytes())];
    let bytes = deb_with(&own, &many_entries(1_000_000), ".zst");
    refused(&bytes, "number of entries exceeds the limit of 500000");
}

#[test]
#[ignore = "boot: half a million files take long on a slow disk"]
fn the_largest_package_takes_little_memory() {
    let own = [file("./control", control("evil").as_bytes())];
    let run = build(&deb_with(&own, &many_entries(499_000), ".zst"));
    assert!(run.success, "{}", run.text);
}

#[test]
fn trees_of_the_project_stay_inside() {
    for setting in ["BaseTrees", "SkeletonTrees", "ExtraTrees"] {
        let new =
            |tree: &str| Project::new(&format!("{setting}={tree}\n[Output]\nFormat=directory\n"));
        // A directory with links to the outside, and what goes through them.
        let project = new("first\n{setting}=second".replace("{setting}", setting).as_str());
        let outside = project.path("outside");
        project.file("first/a", "x", 0o644);
        symlink(&outside, project.path("project/first/door")).unwrap();
        project.file("second/door/file", "changed", 0o644);
        let run = run(&project);
        assert!(run.success, "{setting}: {}", run.text);
        let inside = project.root().join(outside.strip_prefix("/").unwrap());
        let there = inside.join("file").exists() || project.root().join("door/file").exists();
        assert!(there, "{setting}: it is somewhere in the image");

        // The same as an archive, and archives that lead out.
        let project = new("x.tar");
        let link = project.path("outside").display().to_string();
        let items = [
            Item { kind: b'x', ..file("pax", pax_record("linkpath", &link).as_bytes()) },
            special("./door", b'2', "long"),
            file("./door/file", b"changed"),
        ];
        project.file("x.tar", tar(&items), 0o644);
        let run = self::run(&project);
        assert!(run.success, "{setting}: {}", run.text);
        for (item, reason) in [
            (file("../../outside/file", b"x"), "'..'"),
            (special("./x", b'1', "../../outside/file"), "'..'"),
            (special("./x", b'1', "/etc/passwd"), "etc/passwd"),
            (special("./x", b'7', ""), "type '7'"),
        ] {
            let project = new("x.tar");
            project.file("x.tar", tar(&[item]), 0o644);
            let run = self::run(&project);
            assert!(!run.success, "{setting}: {reason} was accepted\n{}", run.text);
            assert!(run.text.contains("x.tar"), "names the archive:\n{}", run.text);
            assert!(run.text.contains(reason), "says {reason:?}:\n{}", run.text);
        }
        let project = new("x.tar.zst");
        project.file("x.tar.zst", zstd(zeroes("./x", 300 << 20)), 0o644);
        let run = self::run(&project);
        let named = run.text.contains("x.tar.zst: it decompresses to more than");
        assert!(!run.success && named, "{setting}: {}", run.text);
    }
}

/// The memory of a build with an extra tree of that many entries.
fn memory_for_archive(entries: u32) -> u64 {
    let project = Project::new("ExtraTrees=x.tar.zst\n[Output]\nFormat=tar\n");
    project.file("x.tar.zst", many_entries(entries), 0o644);
    let run = run(&project);
    assert!(run.success, "{}", run.text);
    run.memory
}

#[test]
fn memory_grows_little_with_the_entries_of_an_archive() {
    assert!(memory_for_archive(100_000) < MEMORY / 5);
}

#[test]
#[ignore = "boot: takes long on a slow machine"]
fn an_archive_of_a_million_entries_takes_little_memory() {
    assert!(memory_for_archive(1_000_000) < MEMORY);
}

/// An index that is a bomb, in a mirror that needs no signature.
#[test]
fn an_index_that_is_a_bomb_is_stopped() {
    use sha2::Digest as _;
    use std::io::Read as _;
    let stanza = "Package: a\nVersion: 1\nArchitecture: all\n\n";
    let mut stanzas = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..2000 {
        stanzas.write_all(stanza.repeat(1000).as_bytes()).unwrap();
    }
    for (name, bytes) in [
        ("Packages.xz", xz(std::io::repeat(b'\n').take(300 << 20))),
        ("Packages.zst", stanzas.finish().unwrap()),
    ] {
        let project = Project::new("[Output]\nFormat=directory\n");
        let sum = sha2::Sha256::digest(&bytes);
        let sum: String = sum.iter().map(|b| format!("{b:02x}")).collect();
        let release = format!(
            "Suite: stable\nCodename: trixie\nArchitectures: amd64 all\nSHA256:\n {sum} {} {name}\n",
            bytes.len()
        );
        std::fs::remove_file(project.path("mirror/Packages")).unwrap();
        std::fs::write(project.path("mirror").join(name), bytes).unwrap();
        std::fs::write(project.path("mirror/Release"), release).unwrap();
        let run = run(&project);
        assert!(!run.success && run.text.contains("Packages"), "{name}: {}", run.text);
    }
}

/// Objects of the cache that somebody changed or replaced.
#[test]
fn cached_objects_are_not_believed() {
    let project = with_packages();
    project.package("evil", &deb("evil", &[file("./usr/share/evil", b"content")]));
    let first = run(&project);
    assert!(first.success, "{}", first.text);
    let objects: Vec<_> = common::files(&project.path("cache"))
        .into_iter()
        .filter(|(path, bytes)| !bytes.is_empty() && !path.to_string_lossy().contains("/pool/"))
        .collect();
    assert!(objects.len() >= 3, "{objects:?}");
    let bomb = zstd(std::io::Read::take(std::io::repeat(0), 2 << 30));
    for (path, bytes) in objects {
        let mut flipped = bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        let torn = bytes[..bytes.len() / 2].to_vec();
        for damaged in [flipped, torn, bomb.clone(), b"garbage".to_vec()] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::File::create(&path).unwrap().write_all(&damaged).unwrap();
            std::fs::remove_dir_all(project.root()).unwrap();
            let run = run(&project);
            // Noticed and made again, or an error that names the file.
            if run.success {
                let made = std::fs::read(project.root().join("usr/share/evil"));
                assert!(made.is_ok(), "{}: {}", path.display(), run.text);
            } else {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(run.text.contains(&name), "{name}: {}", run.text);
                std::fs::create_dir_all(project.root()).unwrap();
            }
            std::fs::write(&path, &bytes).unwrap();
        }
    }
}
