//! A configuration for people and for programs.
//!
//! The JSON has the shape of `mkosi --json summary` of mkosi 27 for the settings
//! that mkgold supports; the text is grouped by section.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::config::{Config, Credential, Script, TreeSource, UuidChoice};
use crate::table::{SETTINGS, Section, State};

impl Config {
    /// The configuration as `mkosi --json summary` would show it, for the
    /// supported settings. It holds the root password as mkosi's does.
    pub fn to_json(&self) -> Value {
        let mut image = Map::new();
        self.output_json(&mut image);
        self.content_json(&mut image);
        self.boot_json(&mut image);
        self.build_json(&mut image);
        self.runtime_json(&mut image);
        image.sort_keys();
        json!({ "Images": [image] })
    }

    fn output_json(&self, image: &mut Map<String, Value>) {
        let (d, o) = (&self.distribution, &self.output);
        extend(
            image,
            json!({
                "Image": "main",
                "Files": self.project.files,
                "Profiles": self.project.profiles,
                "MinimumVersion": self.project.minimum_version,
                "Distribution": d.distribution,
                "Release": d.release,
                "Architecture": d.architecture,
                "Mirror": d.mirror,
                "LocalMirror": d.local_mirror,
                "RepositoryKeyCheck": d.repository_key_check,
                "Repositories": d.repositories,
                "Format": o.format,
                "ManifestFormat": o.manifest_formats,
                "Output": o.name,
                "CompressOutput": o.compress,
                "CompressLevel": o.compress_level,
                "OutputDirectory": o.directory,
                "ImageId": o.image_id,
                "ImageVersion": o.image_version,
                "RepartDirectories": o.repart_directories,
                "SectorSize": o.sector_size,
                "Seed": uuid(o.seed),
                "Checksum": o.checksum,
                "CleanScripts": scripts(&self.scripts.clean),
            }),
        );
    }

    fn content_json(&self, image: &mut Map<String, Value>) {
        let (c, s) = (&self.content, &self.scripts);
        extend(
            image,
            json!({
                "Packages": c.packages,
                "BuildPackages": c.build_packages,
                "VolatilePackages": c.volatile_packages,
                "RemovePackages": c.remove_packages,
                "PackageDirectories": c.package_directories,
                "WithRecommends": c.with_recommends,
                "WithDocs": c.with_docs,
                "BaseTrees": c.base_trees,
                "SkeletonTrees": trees(&c.skeleton_trees),
                "ExtraTrees": trees(&c.extra_trees),
                "RemoveFiles": c.remove_files,
                "CleanPackageMetadata": c.clean_package_metadata,
                "SourceDateEpoch": c.source_date_epoch,
                "KernelModules": c.kernel_modules,
                "MakeInitrd": c.make_initrd,
                "SyncScripts": scripts(&s.sync),
                "PrepareScripts": scripts(&s.prepare),
                "BuildScripts": scripts(&s.build),
                "PostInstallationScripts": scripts(&s.postinst),
                "FinalizeScripts": scripts(&s.finalize),
                "PostOutputScripts": scripts(&s.postoutput),
            }),
        );
    }

    fn boot_json(&self, image: &mut Map<String, Value>) {
        let (b, s) = (&self.boot, &self.system);
        extend(
            image,
            json!({
                "Bootable": b.bootable,
                "Bootloader": b.bootloader,
                "UnifiedKernelImages": b.unified_kernel_images,
                "KernelCommandLine": b.kernel_command_line,
                "Initrds": b.initrds,
                "InitrdPackages": b.initrd_packages,
                "KernelInitrdModules": b.kernel_initrd_modules,
                "Locale": s.locale,
                "LocaleMessages": s.locale_messages,
                "Keymap": s.keymap,
                "Timezone": s.timezone,
                "Hostname": s.hostname,
                "RootPassword": s.root_password.as_ref().map(|p| json!([p.text, p.hashed])),
                "RootShell": s.root_shell,
                "MachineId": uuid(s.machine_id),
                "Autologin": s.autologin,
                "Ssh": s.ssh,
            }),
        );
    }

    fn build_json(&self, image: &mut Map<String, Value>) {
        let b = &self.build;
        extend(
            image,
            json!({
                "Incremental": b.incremental,
                "CacheOnly": b.cache_only,
                "CacheDirectory": b.cache_directory,
                "PackageCacheDirectory": b.package_cache_directory,
                "BuildDirectory": b.build_directory,
                "BuildSources": trees(&b.build_sources),
                "SandboxTrees": trees(&b.sandbox_trees),
                "Environment": b.environment,
                "EnvironmentFiles": b.environment_files,
                "WithTests": b.with_tests,
                "WithNetwork": b.with_network,
            }),
        );
    }

    fn runtime_json(&self, image: &mut Map<String, Value>) {
        let r = &self.runtime;
        let credential = |(name, c): (&String, &Credential)| match c {
            Credential::Value(value) => json!({ "Name": name, "Path": null, "Value": value }),
            Credential::File(path) => json!({ "Name": name, "Path": path, "Value": null }),
        };
        extend(
            image,
            json!({
                "Console": r.console,
                "CPUs": r.cpus,
                "RAM": r.ram,
                "KVM": r.kvm,
                "Firmware": r.firmware,
                "Ephemeral": r.ephemeral,
                "Credentials": r.credentials.iter().map(credential).collect::<Vec<_>>(),
                "KernelCommandLineExtra": r.kernel_command_line_extra,
                "RuntimeSize": r.runtime_size,
                "QemuArgs": r.qemu_args,
            }),
        );
    }

    /// The configuration for people: what is set, by section, without secrets.
    pub fn summary_text(&self) -> String {
        let json = self.to_json();
        let image = &json["Images"][0];
        let mut out = format!("PROJECT: {}\n", self.project.directory.display());
        let _ = writeln!(out, "{:>26}: {}", "Output File", self.output.file_name());
        for section in Section::ALL {
            let rows = SETTINGS.iter().filter(|s| s.section == section && s.state == State::Works);
            let mut lines = String::new();
            for s in rows {
                let Some(value) = image.get(s.name) else { continue };
                let shown = match value {
                    Value::Null => "none".to_string(),
                    v if s.secret && is_set(v) => "(set)".into(),
                    v => plain(v),
                };
                let shown = shown.replace('\n', &format!("\n{:28}", ""));
                let _ = writeln!(lines, "{:>26}: {shown}", s.name);
            }
            if !lines.is_empty() {
                let _ = write!(out, "\n{}:\n{lines}", section.as_str().to_uppercase());
            }
        }
        out
    }
}

fn is_set(value: &Value) -> bool {
    !value.as_array().is_some_and(Vec::is_empty)
}

/// A value as a person reads it: lists by line, booleans as yes and no.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("\n"),
        Value::Object(map) if map.contains_key("Source") => match &map["Target"] {
            Value::Null => plain(&map["Source"]),
            target => format!("{}:{}", plain(&map["Source"]), plain(target)),
        },
        Value::Object(map) if map.is_empty() => "none".into(),
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{k}={}", plain(v))).collect::<Vec<_>>().join("\n")
        }
        number => number.to_string(),
    }
}

fn extend(image: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        image.extend(more);
    }
}

fn trees(trees: &[TreeSource]) -> Vec<Value> {
    trees.iter().map(|t| json!({ "Source": t.source, "Target": t.target })).collect()
}

fn scripts(scripts: &[Script]) -> Vec<PathBuf> {
    scripts.iter().map(|s| s.path.clone()).collect()
}

fn uuid(choice: Option<UuidChoice>) -> Value {
    match choice {
        None => Value::Null,
        Some(UuidChoice::Random) => "random".into(),
        Some(UuidChoice::Fixed(uuid)) => uuid.to_string().into(),
    }
}
