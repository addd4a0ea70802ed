//! Projects made to loop, to fill memory or to take for ever: all end soon, with
//! an error that says why, or with the right result.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use config::source::MemoryFiles;
use config::{Diagnostic, Facts, Loaded, Request, fuzzing, load_from};
use proptest::prelude::*;

/// Long enough for a debug build on a busy machine, short enough to notice.
const SOON: Duration = Duration::from_secs(60);

fn load(files: &MemoryFiles) -> Result<Loaded, Vec<Diagnostic>> {
    let start = Instant::now();
    let loaded = load_from(files, Path::new("/p"), &Request::default(), &Facts::default());
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    loaded
}

fn refused(files: &MemoryFiles, message: &str) {
    let errors = load(files).expect_err("refused");
    let shown: Vec<_> = errors.iter().take(5).map(ToString::to_string).collect();
    assert!(errors.iter().any(|d| d.message.contains(message)), "{shown:?}");
}

#[test]
fn an_include_loop_ends() {
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", "[Include]\nInclude=a.conf\n[Content]\nPackages=m\n");
    files.file("/p/a.conf", "[Include]\nInclude=b.conf\n[Content]\nPackages=a\n");
    files.file("/p/b.conf", "[Include]\nInclude=a.conf,b.conf,mkosi.conf\n[Content]\nPackages=b\n");
    let packages = load(&files).expect("each is read once").config.content.packages;
    assert_eq!(packages, ["a", "b", "m"]);
}

#[test]
fn a_directory_that_includes_itself_ends() {
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", "[Include]\nInclude=.\n[Content]\nKernelCommandLine=x\n");
    assert_eq!(load(&files).expect("accepted").config.boot.kernel_command_line, ["x", "x"]);
}

#[test]
fn links_that_loop_end() {
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", "[Content]\nExtraTrees=l\n");
    files.link("/p/l", "l").link("/p/mkosi.conf.d/a.conf", "b.conf");
    files.link("/p/mkosi.conf.d/b.conf", "a.conf").link("/p/mkosi.conf.d/up", "..");
    let errors = load(&files).expect_err("drop-ins that contain themselves");
    assert!(errors[0].message.contains("nested more than"), "{}", errors[0]);
}

#[test]
fn drop_ins_without_end_are_refused() {
    let mut files = MemoryFiles::default();
    for i in 0..100_000 {
        files.file(format!("/p/mkosi.conf.d/{i:06}.conf"), "[Content]\nPackages=a\n");
    }
    refused(&files, "more than 10000 names in one directory");
    let mut files = MemoryFiles::default();
    for i in 0..20_000 {
        let name = format!("/p/mkosi.conf.d/{:03}/mkosi.conf.d/{i:06}.conf", i % 100);
        files.file(name, "[Content]\nPackages=a\n");
    }
    refused(&files, "more than 10000 configuration files");
}

#[test]
fn images_without_end_are_refused() {
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", "");
    for i in 0..=config::MAX_IMAGES {
        files.file(format!("/p/mkosi.images/{i}.conf"), "");
    }
    refused(&files, "more than 1000 images");
    // Each image has what is handed down to it: that counts, too.
    let mut files = MemoryFiles::default();
    let many = "p ".repeat(2000);
    files.file("/p/mkosi.conf", format!("[Distribution]\nRepositories={many}\n"));
    for i in 0..500 {
        files.file(format!("/p/mkosi.images/{i}.conf"), "");
    }
    refused(&files, "more than 500000 values");
}

#[test]
fn deep_directories_are_refused() {
    let mut files = MemoryFiles::default();
    let deep = format!("/p{}/x.conf", "/mkosi.conf.d/d".repeat(500));
    files.file(deep, "[Content]\nPackages=a\n");
    refused(&files, "nested more than");
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", "[Include]\nInclude=0.conf\n");
    for i in 0..1000 {
        files.file(format!("/p/{i}.conf"), format!("[Include]\nInclude={}.conf\n", i + 1));
    }
    refused(&files, "nested more than");
}

#[test]
fn huge_values_are_bounded() {
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", vec![b'x'; 3 << 20]);
    refused(&files, "larger than");
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", format!("[Content]\nPackages={}\n", "a,".repeat(400_000)));
    refused(&files, "more than 100000 values");
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", format!("[Content]\nHostnme={}\n", "a".repeat(1_000_000)));
    let errors = load(&files).expect_err("misspelled");
    assert!(errors[0].to_string().len() < 2000);
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", format!("[Content]\n{}=a\n", "a".repeat(1_000_000)));
    assert!(load(&files).expect_err("no such name")[0].to_string().len() < 2000);
}

#[test]
fn values_that_grow_by_including_are_bounded() {
    // Every level doubles the specifier's text.
    let mut text = String::from("[Output]\nImageId=aaaaaaaa\n");
    for _ in 0..100 {
        text += "ImageId=%i%i\n";
    }
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", text);
    refused(&files, "longer than 64 characters");
    let mut text = String::from("[Output]\nOutputDirectory=aaaaaaaa\n");
    for _ in 0..100 {
        text += "OutputDirectory=%O%O\n";
    }
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", text);
    refused(&files, "a path of more than 4096 bytes");
}

#[test]
fn problems_without_end_are_cut_short() {
    let mut text = String::from("[Content]\n");
    for i in 0..50_000 {
        let _ = writeln!(text, "Nope{i}=1");
    }
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", text);
    let errors = load(&files).expect_err("refused");
    assert_eq!(errors.len(), config::MAX_DIAGNOSTICS + 1);
}

#[test]
fn nothing_but_regular_files_is_read() {
    let mut files = MemoryFiles::default();
    files.directory("/p/mkosi.conf");
    refused(&files, "not a regular file");
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf.d", "");
    refused(&files, "not a directory");
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", b"[Content]\nHostname=\xff\n".to_vec());
    refused(&files, "not UTF-8");
}

#[test]
fn the_fuzz_entries_run() {
    for data in [
        &b"[Content]\nPackages=a\n---mkosi.conf.d/a.conf\n[Match]\nRelease=%r\n---args\n--format=tar\n"[..],
        b"---l->l\n---mkosi.conf.d->.\n",
        b"\xff\xfe",
        b"",
        b"[Include]\nInclude=mkosi.conf\n---",
        b"[Content]\nPackages=%",
    ] {
        fuzzing::fuzz_project(data);
        fuzzing::fuzz_ini(data);
        fuzzing::fuzz_version(data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_project_panics(text in project()) {
        fuzzing::fuzz_project(text.as_bytes());
    }
}

/// Projects of words that mean something, in any order.
fn project() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "[Content]\n",
        "[Match]\n",
        "[TriggerMatch]\n",
        "[Output]\n",
        "[Include]\n",
        "[Build]\n",
        "Packages",
        "=",
        "=",
        "=\n",
        "\n",
        "\n  ",
        "ImageId",
        "Include",
        "Format",
        "Release",
        "Profiles",
        "Environment",
        "RAM",
        "ExtraTrees",
        "Seed",
        "a",
        "%i",
        "%",
        "|",
        "!",
        ",",
        " ",
        "\"",
        "'",
        "\\",
        "#",
        ":/",
        "é",
        "4G",
        "random",
        "yes",
        "mkosi.conf",
        "x.conf",
        ".",
        "..",
        "\n---mkosi.conf.d/a.conf\n",
        "\n---x.conf\n",
        "\n---mkosi.local.conf\n",
        "\n---mkosi.profiles/a/mkosi.conf\n",
        "\n---l->..\n",
        "\n---args\n",
        "--profile=a\n",
        "\n---mkosi.version\n",
        "\n---mkosi.extra/f\n",
        "\n---mkosi.env\n",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}
