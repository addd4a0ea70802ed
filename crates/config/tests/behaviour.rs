//! What has no counterpart in mkosi's summary: provenance, what was read, the
//! embedded default, the user-wide file, secrets, documentation.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use config::config::{Credential, UuidChoice};
use config::source::MemoryFiles;
use config::types::{Feature, OutputFormat};
use config::{
    Architecture, Argument, Diagnostic, Facts, Loaded, Request, load, load_from, read_from,
};

fn project(files: &[(&str, &str)]) -> MemoryFiles {
    let mut memory = MemoryFiles::default();
    memory.directory("/p");
    for (path, text) in files {
        memory.file(Path::new("/p").join(path), *text);
    }
    memory
}

fn read(files: &MemoryFiles, facts: &Facts) -> Result<Loaded, Vec<Diagnostic>> {
    load_from(files, Path::new("/p"), &Request::default(), facts)
}

fn accepted(files: &[(&str, &str)]) -> Loaded {
    read(&project(files), &Facts::default()).unwrap_or_else(|e| panic!("{}", e[0]))
}

fn refusal(files: &MemoryFiles) -> String {
    read(files, &Facts::default()).expect_err("refused")[0].to_string()
}

#[test]
fn an_empty_directory_is_the_embedded_default() {
    for (architecture, kernel) in [
        (Architecture::X86_64, Some("linux-image-cloud-amd64")),
        (Architecture::Arm64, Some("linux-image-cloud-arm64")),
        (Architecture::Riscv64, Some("linux-image-riscv64")),
        (Architecture::S390x, None),
    ] {
        let facts = Facts { architecture, ..Facts::default() };
        let loaded = read(&project(&[]), &facts).expect("valid");
        assert!(loaded.embedded_default);
        let config = loaded.config;
        assert_eq!(config.distribution.codename(), "trixie");
        assert_eq!(config.distribution.architecture, architecture);
        assert_eq!(config.output.format, OutputFormat::Disk);
        let boots = config.boot.bootable == Feature::Enabled;
        assert_eq!(boots, kernel.is_some());
        assert!(config.system.root_password.is_none());
        assert!(config.system.hostname.is_none());
        let loader = config.content.packages.iter().any(|p| p == "systemd-boot-efi");
        assert_eq!(loader, kernel.is_some());
        let kernels = config.content.packages.iter().filter(|p| p.starts_with("linux-image"));
        assert_eq!(kernels.map(String::as_str).next(), kernel);
        for package in ["systemd-sysv", "udev", "login", "apt"] {
            assert!(config.content.packages.iter().any(|p| p == package), "{package}");
        }
    }
}

#[test]
fn what_configures_replaces_the_embedded_default() {
    assert!(!accepted(&[("mkosi.conf", "")]).embedded_default);
    assert!(!accepted(&[("mkosi.conf.d/a.conf", "")]).embedded_default);
    assert!(!accepted(&[("mkosi/mkosi.conf", "")]).embedded_default);
    let extra = accepted(&[("mkosi.extra/etc/motd", "hello")]);
    assert!(extra.embedded_default);
    assert_eq!(extra.config.content.extra_trees[0].source, Path::new("/p/mkosi.extra"));
    let request = Request { args: vec![Argument::new("-p", "systemd")] };
    let args = load_from(&project(&[]), Path::new("/p"), &request, &Facts::default());
    assert_eq!(args.expect("valid").config.content.packages, ["systemd"]);
}

#[test]
fn values_know_where_they_were_written() {
    let loaded = accepted(&[
        ("mkosi.conf", "[Content]\nPackages=a\n   b\nHostname=one\n"),
        ("mkosi.conf.d/10.conf", "[Content]\nPackages=c\nHostname=two\n"),
    ]);
    let places = |name: &str| {
        let at = |o: &config::Origin| format!("{}:{}:{}", o.file.display(), o.line, o.column);
        loaded.sources[name].iter().map(at).collect::<Vec<_>>()
    };
    assert_eq!(places("Hostname"), ["/p/mkosi.conf.d/10.conf:3:10"]);
    assert_eq!(
        places("Packages"),
        ["/p/mkosi.conf:2:10", "/p/mkosi.conf:3:4", "/p/mkosi.conf.d/10.conf:2:10"]
    );
    let read: Vec<_> = loaded.files_read.iter().map(|f| f.path.to_str().unwrap()).collect();
    assert_eq!(read, ["/p/mkosi.conf", "/p/mkosi.conf.d/10.conf"]);
}

#[test]
fn files_that_did_not_match_were_read_all_the_same() {
    let loaded = accepted(&[
        ("mkosi.conf", "[Output]\nImageId=a\n"),
        ("mkosi.conf.d/no.conf", "[Match]\nImageId=b\n[Content]\nPackages=x\n"),
    ]);
    assert_eq!(loaded.files_read.len(), 2);
    assert_eq!(loaded.config.project.files, [Path::new("/p/mkosi.conf")]);
    assert!(loaded.config.content.packages.is_empty());
}

#[test]
fn secrets_stay_out_of_what_is_shown() {
    const SECRETS: &str = "[Content]\nRootPassword=hunter2\n[Runtime]\nCredentials=key=s3cret\n";
    let loaded = accepted(&[("mkosi.conf", SECRETS)]);
    let config = &loaded.config;
    let files = project(&[("mkosi.conf", SECRETS)]);
    let reading = read_from(&files, Path::new("/p"), &Request::default(), &Facts::default());
    let summary = reading.expect("valid").summary_text();
    for shown in [summary.clone(), format!("{config:?}"), format!("{:?}", loaded.sources)] {
        assert!(!shown.contains("hunter2") && !shown.contains("s3cret"), "{shown}");
    }
    assert!(summary.contains("RootPassword: (set)"));
    let credential = &config.runtime.credentials["key"];
    assert_eq!(*credential, Credential::Value("s3cret".into()));
}

#[test]
fn executables_are_refused_not_run() {
    for name in ["mkosi.version", "mkosi.rootpw", "mkosi.seed"] {
        let mut files = project(&[("mkosi.conf", "")]);
        files.file_with_mode(format!("/p/{name}"), "#!/bin/sh\necho 1\n", 0o700);
        assert!(refusal(&files).contains("executable configuration is not run"), "{name}");
    }
    let mut files = project(&[("mkosi.conf", "")]);
    files.file_with_mode("/p/mkosi.credentials/a", "#!/bin/sh\n", 0o700);
    assert!(refusal(&files).contains("credentials are not run"));
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let mut files = project(&[("mkosi.conf", "")]);
    files.file_with_mode("/p/mkosi.rootpw", "x\n", 0o640);
    assert!(refusal(&files).contains("chmod 600"));
}

#[test]
fn settings_without_effect_are_told_with_the_reason() {
    let loaded = accepted(&[(
        "mkosi.conf",
        "[Build]\nUseSubvolumes=yes\nToolsTree=default\n[Validation]\nSecureBoot=no\n",
    )]);
    let told: Vec<_> = loaded.no_effect.iter().map(|n| (n.setting, n.origin.line)).collect();
    assert_eq!(told, [("ToolsTree", 3), ("UseSubvolumes", 2)]);
    assert!(loaded.no_effect.iter().all(|n| !n.reason.is_empty()));
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_user_wide_file_is_below_the_project() {
    let mut files = project(&[("mkosi.conf", "[Build]\nCacheDirectory=here\n")]);
    files.file(
        "/c/mkgold.conf",
        "[Distribution]\nMirror=file:///m\n[Build]\nCacheDirectory=/there\n",
    );
    let facts = Facts { config_dir: Some("/c".into()), ..Facts::default() };
    let config = read(&files, &facts).expect("valid").config;
    assert_eq!(config.distribution.mirror.as_deref(), Some("file:///m"));
    assert_eq!(config.build.cache_directory.as_deref(), Some(Path::new("/p/here")));
    files.file("/p/mkosi.local.conf", "[Content]\nHostname=x\n");
    let config = read(&files, &facts).expect("valid").config;
    assert_eq!(config.build.cache_directory.as_deref(), Some(Path::new("/p/here")));
    files.file("/c/mkgold.conf", "[Content]\nPackages=vim\n");
    let errors = read(&files, &facts).expect_err("refused");
    assert_eq!(errors[0].message, "Packages= belongs into a project");
}

#[test]
fn environment_files_come_before_environment() {
    let loaded = accepted(&[
        ("mkosi.conf", "[Build]\nEnvironmentFiles=more\nEnvironment=B=3 C=\"x y\"\n"),
        ("mkosi.env", "# comment\n\nA=1\nB=1\n"),
        ("more", "B=2\nQ=\"quoted\"\n"),
    ]);
    let env = loaded.config.build.script_environment();
    let text: Vec<_> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(text, ["A=1", "B=3", "C=x y", "Q=\"quoted\""]);
}

#[test]
fn source_date_epoch_from_each_place() {
    let facts = |value: &str| {
        let mut facts = Facts::default();
        facts.env.insert("SOURCE_DATE_EPOCH".into(), value.into());
        facts
    };
    let epoch = |text: &str, facts: &Facts| {
        read(&project(&[("mkosi.conf", text)]), facts).map(|l| l.config.content.source_date_epoch)
    };
    assert_eq!(epoch("", &Facts::default()).unwrap(), None);
    assert_eq!(epoch("", &facts("5")).unwrap(), Some(5));
    assert_eq!(epoch("[Build]\nEnvironment=SOURCE_DATE_EPOCH=6", &facts("5")).unwrap(), Some(6));
    assert_eq!(epoch("[Content]\nSourceDateEpoch=7", &facts("5")).unwrap(), Some(7));
    assert!(epoch("", &facts("soon")).is_err());
}

#[test]
fn names_of_outputs() {
    for (text, name) in [
        ("", "image.raw"),
        ("[Output]\nImageId=a\n", "a.raw"),
        ("[Output]\nImageId=a\nImageVersion=1\n", "a_1.raw"),
        ("[Output]\nOutput=b\nImageVersion=1\nCompressOutput=xz\n", "b.raw.xz"),
        ("[Output]\nFormat=tar\n", "image.tar.zst"),
        ("[Output]\nFormat=tar\nCompressOutput=no\n", "image.tar"),
        ("[Output]\nFormat=cpio\nCompressOutput=gzip\n", "image.cpio.gz"),
        ("[Output]\nFormat=uki\nCompressOutput=no\n", "image.efi"),
        ("[Output]\nFormat=uki\n", "image.efi"),
        ("[Output]\nFormat=directory\nCompressOutput=yes\n", "image"),
        ("[Output]\nFormat=directory\n", "image"),
    ] {
        assert_eq!(accepted(&[("mkosi.conf", text)]).config.output.file_name(), name, "{text}");
    }
}

#[test]
fn initrds_default_named_or_none() {
    for (text, default, paths) in [
        ("", true, vec![]),
        ("Initrds=", false, vec![]),
        ("Initrds=a", false, vec!["/p/a"]),
        ("Initrds=default a", true, vec!["/p/a"]),
    ] {
        let boot = accepted(&[("mkosi.conf", &format!("[Content]\n{text}\n"))]).config.boot;
        assert_eq!(boot.default_initrd, default, "{text}");
        let found: Vec<_> = boot.initrds.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(found, paths, "{text}");
    }
}

#[test]
fn a_configuration_survives_serialisation() {
    let config = accepted(&[(
        "mkosi.conf",
        "[Output]\nSeed=750b6cd5-c4ae-4012-a15e-7be3c29e6a47\n[Content]\nExtraTrees=a:/b\nRootPassword=hashed:\n",
    )])
    .config;
    let text = serde_json::to_string(&config).unwrap();
    let back: config::Config = serde_json::from_str(&text).unwrap();
    assert_eq!(back, config);
    assert!(matches!(config.output.seed, Some(UuidChoice::Fixed(_))));
}

#[test]
fn a_project_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("mkosi.conf.d")).unwrap();
    std::fs::write(root.join("mkosi.conf"), "[Content]\nPackages=a\n").unwrap();
    std::fs::write(root.join("mkosi.conf.d/b.conf"), "[Content]\nPackages=b\n").unwrap();
    std::fs::write(root.join("mkosi.postinst.chroot"), "#!/bin/sh\n").unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.join("mkosi.postinst.chroot"), mode).unwrap();
    let loaded = load(&root, &Request::default(), &Facts::default()).expect("valid");
    assert_eq!(loaded.config.content.packages, ["a", "b"]);
    assert!(loaded.config.scripts.postinst[0].chroot);
    assert!(loaded.files_read.iter().all(|f| f.size > 0 && f.mtime > 0));
    assert!(load(Path::new("relative"), &Request::default(), &Facts::default()).is_err());
    assert!(load(&root.join("none"), &Request::default(), &Facts::default()).is_err());
}

#[test]
fn the_documentation_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let rendered = config::render_settings_markdown();
    if std::env::var_os("MKGOLD_BLESS").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    let written = std::fs::read_to_string(&path).expect("docs/settings.md");
    assert!(written == rendered, "docs/settings.md is old: run this test with MKGOLD_BLESS=1");
}

#[test]
fn what_is_not_supported_is_shown_and_not_built() {
    let text = "[Output]\nFormat=esp\n[Validation]\nSecureBoot=yes\nVerityKeySource=engine:x\n\
        [Runtime]\nDrives=a:1G\n";
    let files = project(&[("mkosi.conf", text)]);
    let at = Path::new("/p");
    let reading = read_from(&files, at, &Request::default(), &Facts::default()).expect("valid");
    let image = &reading.to_json()["Images"][0];
    assert_eq!(image["Format"], "esp");
    assert_eq!(image["CompressOutput"], "zstd");
    assert_eq!(image["SecureBoot"], true);
    assert_eq!(image["VerityKeySource"]["Source"], "x");
    assert_eq!(image["Drives"][0]["Size"], 1 << 30);
    assert_eq!(reading.unsupported.len(), 3);
    assert!(reading.summary_text().contains("Format: esp"));
    let refused = load_from(&files, at, &Request::default(), &Facts::default()).unwrap_err();
    let lines: Vec<_> = refused.iter().map(|d| (d.line, d.unsupported)).collect();
    assert_eq!(lines, [(2, true), (4, true), (7, true)]);
    // A tree of one's own tools is one that mkgold would not use.
    let mut files = project(&[("mkosi.conf", "[Build]\nToolsTree=tools\n")]);
    files.directory("/p/tools");
    let refused = load_from(&files, at, &Request::default(), &Facts::default()).unwrap_err();
    assert_eq!((refused.len(), refused[0].line, refused[0].column), (1, 2, 11), "{refused:?}");
    // What makes no sense is refused by both.
    let files = project(&[("mkosi.conf", "[Output]\nFormat=esp\n[Runtime]\nDrives=a\n")]);
    let errors = read_from(&files, at, &Request::default(), &Facts::default()).unwrap_err();
    assert_eq!(errors.iter().filter(|d| !d.unsupported).count(), 1);
}

#[test]
fn a_value_is_explained_by_its_places() {
    let files = project(&[
        ("mkosi.conf", "[Content]\nPackages=a\n   b\nRootPassword=hunter2\n"),
        ("mkosi.conf.d/10.conf", "[Content]\nPackages=c\n"),
    ]);
    let reading = read_from(&files, Path::new("/p"), &Request::default(), &Facts::default());
    let reading = reading.expect("valid");
    let places = |name: &str| {
        let shown = |(value, at): (String, config::Origin)| (value, at.line);
        reading.origins(name).into_iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(places("Packages"), [("a".into(), 2), ("b".into(), 3), ("c".into(), 2)]);
    assert_eq!(places("RootPassword"), [("(set)".into(), 4)]);
    assert_eq!(reading.shown("RootPassword"), "(set)");
    assert_eq!((reading.shown("Format").as_str(), places("Format").len()), ("disk", 0));
}

/// The settings that issue "Build" lists work; no other state for any of them.
#[test]
fn what_was_promised_works() {
    let promised = "Distribution Release Architecture Mirror LocalMirror Repositories \
        RepositoryKeyCheck Format Output OutputDirectory ImageId ImageVersion Seed CompressOutput \
        CompressLevel ManifestFormat RepartDirectories SectorSize Packages BuildPackages \
        VolatilePackages RemovePackages PackageDirectories WithRecommends WithDocs BaseTrees \
        SkeletonTrees ExtraTrees RemoveFiles CleanPackageMetadata SourceDateEpoch SyncScripts \
        PrepareScripts BuildScripts PostInstallationScripts FinalizeScripts PostOutputScripts \
        CleanScripts Bootable Bootloader UnifiedKernelImages KernelCommandLine KernelModules \
        KernelInitrdModules Initrds InitrdPackages Locale LocaleMessages Keymap Timezone Hostname \
        RootPassword RootShell Autologin MakeInitrd MachineId Ssh Checksum CacheDirectory \
        PackageCacheDirectory CacheOnly Incremental Environment WithNetwork SandboxTrees RAM CPUs \
        KVM Firmware Console Ephemeral KernelCommandLineExtra Credentials RuntimeSize QemuArgs \
        Include Profiles";
    let files = project(&[("mkosi.conf", "")]);
    let reading = read_from(&files, Path::new("/p"), &Request::default(), &Facts::default());
    let json = reading.expect("valid").to_json();
    for name in promised.split_whitespace() {
        let (setting, _) = config::table::find(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(setting.state, config::table::State::Works, "{name}");
        assert!(name == "Include" || json["Images"][0].get(name).is_some(), "{name} in JSON");
    }
}
