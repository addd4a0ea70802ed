//! Projects that need neither Debian nor a network: an archive, packages and trees
//! made by the test itself, byte by byte, and built by the real command.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::Digest as _;
pub use testkit::archive::ar;
use testkit::archive::{self, seal_header};

/// The most memory that a build may take, whatever it is given.
pub const MEMORY: u64 = 1 << 30;

/// The command under test.
pub fn mkgold() -> PathBuf {
    std::env::var_os("MKGOLD_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_mkgold").into(), Into::into)
}

/// A project in a directory of its own, an empty archive beside it.
pub struct Project {
    work: tempfile::TempDir,
}

/// How a build ended.
#[derive(Debug)]
pub struct Run {
    /// Exit status 0.
    pub success: bool,
    /// What it said, both streams.
    pub text: String,
    /// Peak of the resident memory of the process or the largest of its children.
    pub memory: u64,
}

impl Project {
    // Not in /tmp, which an image has empty: tests look for what links to here made there.
    /// With `more` in its configuration, section `[Content]` last.
    pub fn new(more: &str) -> Project {
        let project = Project { work: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        let mirror = project.path("mirror");
        std::fs::create_dir_all(&mirror).unwrap();
        std::fs::create_dir_all(project.path("project/packages")).unwrap();
        project.mirror("");
        let head = format!(
            "[Distribution]\nLocalMirror=file:{}\nArchitecture=x86-64\n[Output]\nImageId=golden\n\
             SplitArtifacts=no\nOutputDirectory=../out\n[Build]\nCacheDirectory=../cache\n\
             [Content]\nBootable=no\nPackageDirectories=packages\n",
            mirror.display()
        );
        project.file("mkosi.conf", &(head + more), 0o644);
        project
    }

    /// Puts the index into the archive.
    pub fn mirror(&self, packages: &str) {
        let sum = hex(&sha2::Sha256::digest(packages));
        let release = format!(
            "Suite: stable\nCodename: trixie\nArchitectures: amd64 all\nSHA256:\n {sum} {} Packages\n",
            packages.len()
        );
        std::fs::write(self.path("mirror/Packages"), packages).unwrap();
        std::fs::write(self.path("mirror/Release"), release).unwrap();
    }

    /// A path of the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Writes a file of the project.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        let path = self.path("project").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Puts a package into `PackageDirectories=`.
    pub fn package(&self, name: &str, bytes: &[u8]) {
        self.file(&format!("packages/{name}.deb"), bytes, 0o644);
    }

    /// Runs `mkgold build` with more arguments before the verb.
    pub fn build(&self, more: &[&str]) -> Run {
        let mut command = Command::new(mkgold());
        command.arg("-C").arg(self.path("project")).args(["--force"]).args(more).arg("build");
        run(&mut command)
    }

    /// The output of `Format=directory`.
    pub fn root(&self) -> PathBuf {
        self.path("out/golden")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Runs a command and measures it.
pub fn run(command: &mut Command) -> Run {
    let out = tempfile::NamedTempFile::new().unwrap();
    let file = || std::fs::File::options().append(true).open(out.path()).unwrap();
    command.stdin(Stdio::null()).stdout(file()).stderr(file());
    #[allow(clippy::zombie_processes, reason = "wait4 waits, for it tells the memory")]
    let child = command.spawn().expect("the command starts");
    let mut status = 0;
    // SAFETY: plain integers, for which zeroes are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers lead to live variables of the types that wait4(2) fills.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    assert_eq!(waited, child.id() as i32, "the child is ours");
    Run {
        success: libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        text: String::from_utf8_lossy(&std::fs::read(out.path()).unwrap()).into_owned(),
        memory: usage.ru_maxrss as u64 * 1024,
    }
}

/// One entry of a tar archive.
#[derive(Debug, Clone)]
pub struct Item {
    /// The name, at most 100 bytes.
    pub name: Vec<u8>,
    /// The type.
    pub kind: u8,
    /// The target of a link.
    pub link: Vec<u8>,
    /// The twelve bits.
    pub mode: u32,
    /// What follows the header.
    pub content: Vec<u8>,
}

/// A regular file.
pub fn file(name: &str, content: &[u8]) -> Item {
    Item { name: name.into(), kind: b'0', link: vec![], mode: 0o644, content: content.into() }
}

/// An entry without content: directory, link, device.
pub fn special(name: &str, kind: u8, link: &str) -> Item {
    Item { name: name.into(), kind, link: link.into(), mode: 0o755, content: vec![] }
}

/// The header of an entry, with a size that need not be that of the content.
pub fn header(item: &Item, size: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &item.name);
    put(100, format!("{:07o}\0", item.mode).as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, size);
    put(136, b"14300000000\0");
    put(156, &[item.kind]);
    put(157, &item.link);
    put(257, b"ustar\x0000");
    put(329, b"0000010\0");
    put(337, b"0000001\0");
    seal_header(block)
}

/// A tar archive.
pub fn tar(items: &[Item]) -> Vec<u8> {
    archive::tar(items.iter().map(|item| {
        let size = format!("{:011o}\0", item.content.len());
        (header(item, size.as_bytes()), &item.content[..])
    }))
}

/// The control paragraph of a package.
pub fn control(name: &str) -> String {
    format!(
        "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: M <m@example.org>\n\
         Description: hostile\n"
    )
}

/// A package of these control files and this data tar, under a member name like `.zst`.
pub fn deb_with(control_files: &[Item], data: &[u8], extension: &str) -> Vec<u8> {
    let control = tar(control_files);
    let name = format!("data.tar{extension}");
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), (&name, data)])
}

/// A package with these files.
pub fn deb(name: &str, items: &[Item]) -> Vec<u8> {
    deb_with(&[file("./control", control(name).as_bytes())], &tar(items), "")
}

/// Every regular file below `dir` with its bytes, and every other thing with none.
pub fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Puts something into the project's `tree` that stands for dpkg: a program that does
/// nothing, and enough of the machine's own programs to run it.
pub fn dpkg(project: &Project, tree: &str) {
    for program in ["sh", "env", "rm"] {
        copy_program(project, &format!("/bin/{program}"), tree, &format!("usr/bin/{program}"));
    }
    project.file(&format!("{tree}/usr/bin/dpkg"), "#!/usr/bin/sh\nexit 0\n", 0o755);
}

/// Copies a program and the libraries that it needs.
fn copy_program(project: &Project, program: &str, tree: &str, to: &str) {
    let copy = |from: &str, to: PathBuf| {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap_or_else(|e| panic!("{from}: {e}"));
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    copy(program, project.path("project").join(tree).join(to));
    let ldd = Command::new("ldd").arg(program).output().expect("ldd runs");
    for word in String::from_utf8_lossy(&ldd.stdout).split_whitespace() {
        if word.starts_with('/') {
            let inside = word.strip_prefix("/usr").unwrap_or(word);
            copy(word, project.path("project").join(tree).join(format!("usr{inside}")));
        }
    }
}
