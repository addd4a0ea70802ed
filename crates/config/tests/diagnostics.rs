//! Typos and wrong values: the error names line and column, shows the text, and
//! suggests what was meant.

use std::path::Path;

use config::source::MemoryFiles;
use config::{Argument, Diagnostic, Facts, Request, load_from};

fn errors(text: &str) -> Vec<Diagnostic> {
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", text);
    for name in ["extra", "base", "script.sh", "repart/10.conf"] {
        files.file_with_mode(format!("/p/{name}"), "", 0o755);
    }
    match load_from(&files, Path::new("/p"), &Request::default(), &Facts::default()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => errors,
    }
}

/// (section, line, column, offending text, suggestion)
const CASES: &[(&str, &str, u32, &str, &str)] = &[
    // misspelled settings
    ("Content", "Pakages=a", 1, "Pakages", "did you mean Packages=?"),
    ("Content", "Package=a", 1, "Package", "did you mean Packages=?"),
    ("Content", "packages=a", 1, "packages", "did you mean Packages=?"),
    ("Content", "Hostnme=a", 1, "Hostnme", "did you mean Hostname=?"),
    ("Content", "HostName=a", 1, "HostName", "did you mean Hostname=?"),
    ("Content", "Timezon=a", 1, "Timezon", "did you mean Timezone=?"),
    ("Content", "TimeZone=a", 1, "TimeZone", "did you mean Timezone=?"),
    ("Content", "BootLoader=uki", 1, "BootLoader", "did you mean Bootloader=?"),
    ("Content", "Bootble=yes", 1, "Bootble", "did you mean Bootable=?"),
    ("Content", "KernelCommandline=a", 1, "KernelCommandline", "did you mean KernelCommandLine=?"),
    ("Content", "KernelCmdline=a", 1, "KernelCmdline", "did you mean KernelCommandLine=?"),
    ("Content", "RootPasword=a", 1, "RootPasword", "did you mean RootPassword=?"),
    ("Content", "ExtraTree=a", 1, "ExtraTree", "did you mean ExtraTrees=?"),
    ("Content", "SkeletonTree=a", 1, "SkeletonTree", "did you mean SkeletonTrees=?"),
    ("Content", "WithDoc=no", 1, "WithDoc", "did you mean WithDocs=?"),
    ("Content", "Docs=no", 1, "Docs", "did you mean WithDocs=?"),
    (
        "Content",
        "PostInstScripts=a",
        1,
        "PostInstScripts",
        "did you mean PostInstallationScripts=?",
    ),
    ("Content", "FinalizeScrips=a", 1, "FinalizeScrips", "did you mean FinalizeScripts=?"),
    ("Content", "RemoveFile=a", 1, "RemoveFile", "did you mean RemoveFiles=?"),
    (
        "Content",
        "UnifiedKernelImage=a",
        1,
        "UnifiedKernelImage",
        "did you mean UnifiedKernelImages=?",
    ),
    ("Distribution", "Distrbution=debian", 1, "Distrbution", "did you mean Distribution=?"),
    ("Distribution", "Relase=sid", 1, "Relase", "did you mean Release=?"),
    ("Distribution", "Architekture=arm64", 1, "Architekture", "did you mean Architecture=?"),
    ("Distribution", "Miror=x", 1, "Miror", "did you mean Mirror=?"),
    ("Distribution", "Repository=x", 1, "Repository", "did you mean Repositories=?"),
    ("Distribution", "local-mirror=x", 1, "local-mirror", "did you mean LocalMirror=?"),
    ("Output", "Fromat=tar", 1, "Fromat", "did you mean Format=?"),
    ("Output", "ImageID=x", 1, "ImageID", "did you mean ImageId=?"),
    ("Output", "output_directory=x", 1, "output_directory", "did you mean OutputDirectory=?"),
    ("Output", "CompressedOutput=yes", 1, "CompressedOutput", "did you mean CompressOutput=?"),
    ("Output", "SectorSiz=512", 1, "SectorSiz", "did you mean SectorSize=?"),
    ("Build", "Enviroment=A=1", 1, "Enviroment", "did you mean Environment=?"),
    ("Build", "Incremantal=yes", 1, "Incremantal", "did you mean Incremental=?"),
    ("Build", "SandboxTree=x", 1, "SandboxTree", "did you mean SandboxTrees=?"),
    ("Validation", "CheckSum=yes", 1, "CheckSum", "did you mean Checksum=?"),
    ("Runtime", "Ram=2G", 1, "Ram", "did you mean RAM=?"),
    ("Runtime", "Cpus=2", 1, "Cpus", "did you mean CPUs=?"),
    ("Runtime", "Credential=a=b", 1, "Credential", "did you mean Credentials=?"),
    ("Config", "Profil=a", 1, "Profil", "did you mean Profiles=?"),
    // values of closed sets
    ("Output", "Format=dsk", 8, "dsk", "did you mean \"disk\"?"),
    ("Output", "Format = Disk", 10, "Disk", "did you mean \"disk\"?"),
    ("Output", "Format=directry", 8, "directry", "did you mean \"directory\"?"),
    ("Output", "Format=raw", 8, "raw", "did you mean \"disk\"?"),
    ("Output", "Format=sysext", 8, "sysext", "supported: disk, directory, tar, cpio, uki, none"),
    ("Output", "ManifestFormat=json,chagelog", 21, "chagelog", "did you mean \"changelog\"?"),
    ("Output", "CompressOutput=zst4", 16, "zst4", "did you mean \"zstd\"?"),
    ("Output", "CompressOutput=lz4", 16, "lz4", "supported: none, zstd, xz, gz"),
    ("Distribution", "Distribution=debain", 14, "debain", "did you mean \"debian\"?"),
    ("Distribution", "Distribution=ubuntu", 14, "ubuntu", "supported: debian"),
    ("Distribution", "Release=trixei", 9, "trixei", "did you mean \"trixie\"?"),
    ("Distribution", "Release=13", 9, "13", "did you mean \"trixie\"?"),
    ("Distribution", "Release=Bookworm", 9, "Bookworm", "did you mean \"bookworm\"?"),
    ("Distribution", "Architecture=amd64", 14, "amd64", "did you mean \"x86-64\"?"),
    ("Distribution", "Architecture=x86_64", 14, "x86_64", "did you mean \"x86-64\"?"),
    ("Distribution", "Architecture=aarch64", 14, "aarch64", "did you mean \"arm64\"?"),
    ("Content", "Bootable=ja", 10, "ja", "one of: enabled, disabled, auto, yes, no"),
    ("Content", "Bootable=atuo", 10, "atuo", "did you mean \"auto\"?"),
    ("Content", "Bootloader=systemd_boot", 12, "systemd_boot", "did you mean \"systemd-boot\"?"),
    ("Content", "Bootloader=grub", 12, "grub", "supported: none, uki, systemd-boot"),
    ("Content", "WithDocs=nope", 10, "nope", "did you mean \"no\"?"),
    ("Content", "WithDocs=ture", 10, "ture", "did you mean \"true\"?"),
    ("Content", "Ssh=alway", 5, "alway", "did you mean \"always\"?"),
    ("Build", "Incremental=stric", 13, "stric", "did you mean \"strict\"?"),
    ("Build", "CacheOnly=metdata", 11, "metdata", "did you mean \"metadata\"?"),
    ("Runtime", "Firmware=eufi", 10, "eufi", "did you mean \"uefi\"?"),
    ("Runtime", "Console=guii", 9, "guii", "did you mean \"gui\"?"),
    // other values
    ("Runtime", "RAM=4g", 5, "4g", "did you mean \"4G\"?"),
    ("Runtime", "RAM=4GiB", 5, "4GiB", "did you mean \"4G\"?"),
    ("Runtime", "RAM=much", 5, "much", "write a number of bytes, or one with K, M or G"),
    ("Runtime", "CPUs=two", 6, "two", "write digits only"),
    ("Runtime", "CPUs=-1", 6, "-1", "0 to 8192"),
    ("Output", "SectorSize=1000", 12, "1000", "512, 1024, 2048 or 4096"),
    ("Output", "CompressLevel=99", 15, "99", "0 to 22"),
    ("Output", "Seed=randm", 6, "randm", "did you mean \"random\"?"),
    ("Output", "Seed=1234", 6, "1234", "write a UUID (uuidgen makes one) or \"random\""),
    ("Output", "Output=a/b", 8, "a/b", "the directory goes into OutputDirectory="),
    ("Output", "ImageId=my image", 9, "my image", "use letters, digits, \".\", \"_\" and \"-\""),
    ("Output", "RepartDirectories=repat", 19, "repat", "did you mean \"repart\"?"),
    ("Content", "SkeletonTrees=base extr", 20, "extr", "did you mean \"extra\"?"),
    (
        "Content",
        "ExtraTrees=extra:etc",
        18,
        "etc",
        "the target is a path in the image, such as /etc",
    ),
    ("Content", "PostInstallationScripts=scrpt.sh", 25, "scrpt.sh", "did you mean \"script.sh\"?"),
    ("Content", "SourceDateEpoch=yesterday", 17, "yesterday", "write digits only"),
    ("Content", "KernelCommandLine=a%Zb", 20, "%Z", "write %% for a percent sign"),
    (
        "Build",
        "Environment=1A=x",
        13,
        "1A=x",
        "write NAME=VALUE; letters, digits and \"_\", no digit first",
    ),
    ("Build", "Environment=\"A=1", 13, "\"A=1", "close it, or write \\ before it"),
    // known and refused
    ("Output", "Overlay=yes", 9, "yes", "remove the setting, or write no"),
    ("Content", "KernelModulesInclude=a", 22, "a", "use KernelModules= with patterns"),
    ("Validation", "SecureBoot=yes", 12, "yes", "remove the setting, or write no"),
    ("Build", "BuildKey=b", 10, "b", "remove the setting"),
    ("Build", "BuildSources=.:../x", 14, ".:../x", "write the path without it"),
    ("Config", "Dependencies=other", 14, "other", "images are the files and directories of"),
    ("Config", "MinimumVersion=99", 16, "99", ""),
    // conditions
    ("Match", "Distributin=debian", 1, "Distributin", "did you mean \"Distribution\"?"),
    ("Match", "Hostname=a", 1, "Hostname", "conditions are "),
    ("Match", "Architecture=amd64", 14, "amd64", "did you mean \"x86-64\"?"),
    ("Match", "Format=|!dsk", 10, "dsk", "did you mean \"disk\"?"),
    ("Match", "SystemdVersion=250", 1, "SystemdVersion", "what is built must not depend"),
    ("Assert", "Format=tar", 8, "tar", ""),
];

#[test]
fn typos_are_placed_and_answered() {
    assert!(CASES.len() >= 60);
    let mut wrong = Vec::new();
    for (section, line, column, span, help) in CASES {
        let text = format!("# a comment\n[{section}]\n{line}\n");
        let found = errors(&text);
        let d = &found[0];
        let helps = d.help.as_deref().unwrap_or("");
        let ok = found.len() == 1
            && d.file == Path::new("/p/mkosi.conf")
            && (d.line, d.column) == (3, *column)
            && d.span == *span
            && helps.starts_with(help)
            && d.to_string().contains(line);
        if !ok {
            wrong.push(format!("{line}:\n{d}\n  span {:?}, {} in all", d.span, found.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn sections_and_lines() {
    for (text, line, span, help) in [
        ("[Contnt]\nHostname=a\n", 1, "Contnt", "did you mean \"Content\"?"),
        ("[content]\nHostname=a\n", 1, "content", "did you mean \"Content\"?"),
        ("[Partition]\nA=b\n", 1, "Partition", "sections are "),
        ("Hostname=a\n", 1, "Hostname=a", "put a header"),
        ("[Content]\nHostname\n", 2, "Hostname", "write Name=value"),
        ("[Content\nA=b\n", 1, "[Content", "write [Section]"),
        ("[Content]\n=b\n", 2, "=b", ""),
        ("[UKIProfile]\nProfile=a\n", 1, "UKIProfile", ""),
    ] {
        let d = &errors(text)[0];
        assert_eq!((d.line, d.span.as_str()), (line, span), "{d}");
        assert!(d.help.as_deref().unwrap_or("").starts_with(help), "{d}");
    }
}

#[test]
fn all_errors_come_at_once() {
    let found =
        errors("[Content]\nHostnme=a\nWithDocs=mabe\nBootable=\n  atuo\n[Output]\nFormat=x\n");
    let places: Vec<_> = found.iter().map(|d| (d.line, d.column)).collect();
    assert_eq!(places, [(2, 1), (3, 10), (5, 3), (7, 8)]);
}

#[test]
fn a_continued_list_points_at_its_item() {
    let found = errors("[Output]\nManifestFormat=json\n    # which\n    jsn, changelog\n");
    assert_eq!((found[0].line, found[0].column, found[0].span.as_str()), (4, 5, "jsn"));
}

#[test]
fn arguments_are_named() {
    let mut files = MemoryFiles::default();
    files.file("/p/mkosi.conf", "");
    let request = Request {
        args: vec![
            Argument::new("--format", "tra"),
            Argument::new("--formt", "tar"),
            Argument::new("-t", "dsk"),
        ],
    };
    let found = load_from(&files, Path::new("/p"), &request, &Facts::default()).unwrap_err();
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(
        shown[0].starts_with("command line: error: \"tra\" is not an image format"),
        "{}",
        shown[0]
    );
    assert!(shown[0].contains("| --format=tra\n     |          ^^^"), "{}", shown[0]);
    assert!(shown[1].contains("did you mean \"--format\"?"), "{}", shown[1]);
    assert!(shown[2].contains("| -t dsk\n     |    ^^^"), "{}", shown[2]);
}

/// mkosi warns about these and goes on; so does mkgold.
#[test]
fn doubtful_but_accepted() {
    for (text, span, message) in [
        ("[Output]\nHostname=a\n", "Hostname", "Hostname= belongs into [Content], not [Output]"),
        ("[Runtime]\nQemuMem=1G\n", "QemuMem", "QemuMem= is an old name"),
        ("[Content]\nHostname=%i\n", "%i", "ImageId= is not set at this place, %i is empty"),
        ("[Content]\nHostname=a#b\n", "#b", "everything from \"#\" on is a comment"),
    ] {
        let mut files = MemoryFiles::default();
        files.file("/p/mkosi.conf", text);
        let loaded = load_from(&files, Path::new("/p"), &Request::default(), &Facts::default());
        let warnings = loaded.expect("accepted").warnings;
        assert_eq!(warnings.len(), 1, "{text} {warnings:?}");
        assert_eq!(warnings[0].span, span, "{}", warnings[0]);
        assert!(warnings[0].message.starts_with(message), "{}", warnings[0]);
    }
}
