//! From a golden tree to outputs: the disk (or another format), the manifest, the
//! checksums.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use config::Config;
use config::config::UuidChoice;
use config::types::{Compression, ManifestFormat, OutputFormat};
use disk::definition::{self, Definition, Facts, Source};
use disk::execute::{self, Work};
use disk::layout;
use disk::plan::{self, Plan, Request, Size};
use disk::{Architecture, Bytes, Compat, Guid, SectorSize};
use fs::tools::ToolRunner;
use report::Unit;
use sha2::{Digest, Sha256};
use store::KeyHasher;
use tree::{Mtime, Tree, TreePath};

use crate::boot_files::{self, BootFiles};
use crate::compress::Compressor;
use crate::context::Context;
use crate::error::BuildError;
use crate::filler::{self, Filler};
use crate::finish;
use crate::golden::Golden;
use crate::lock::{Lock, Set};
use crate::manifest::{self, Installed, Subject};
use crate::outputs::{Staging, io_error};
use crate::tools::Runner;

/// Whether the output is a disk image.
pub fn is_disk(config: &Config) -> bool {
    config.output.format == OutputFormat::Disk
}

/// Definitions with which the root grows to the disk on first boot, unless the
/// project or a package brings definitions of its own.
pub fn add_growth(tree: &mut Tree, config: &Config, epoch: Mtime) -> Result<(), BuildError> {
    let own = ["etc/repart.d", "usr/lib/repart.d"].iter().any(|dir| {
        tree.children(&TreePath::literal(dir)).any(|(path, _)| path.name().ends_with(b".conf"))
    });
    if own || !config.output.repart_directories.is_empty() {
        return Ok(());
    }
    for (path, text) in layout::shipped_definitions() {
        finish::write(tree, path, 0o644, text.into(), epoch)?;
    }
    Ok(())
}

/// Writes every output into `staging`, the main one last.
pub fn write(
    golden: &Golden,
    boot: &BootFiles,
    config: &Config,
    context: &Context,
    lock: &Lock,
    tools: Option<&Runner<'_>>,
    staging: &mut Staging,
) -> Result<(), BuildError> {
    let name = config.output.file_name();
    match config.output.format {
        OutputFormat::Disk => {
            let disk = Disk { golden, boot, config, context, lock, tools };
            disk.write(staging, &name)?;
        }
        OutputFormat::Tar => {
            let mut out = Compressor::new(staging.create(&name)?, config, context.threads)?;
            tree::tar::write(&golden.tree, &mut out)
                .map_err(io_error("write", &staging.path(&name)))?;
            out.finish().map_err(io_error("write", &staging.path(&name)))?;
        }
        OutputFormat::Cpio => {
            let archive = boot::cpio::archive(&golden.tree, Some(context.epoch))
                .map_err(|e| BuildError::Image(e.to_string()))?;
            let mut out = Compressor::new(staging.create(&name)?, config, context.threads)?;
            io::copy(&mut archive.reader(), &mut out)
                .and_then(|_| out.finish())
                .map_err(io_error("write", &staging.path(&name)))?;
        }
        OutputFormat::Directory => write_directory(golden, context, staging, &name)?,
        OutputFormat::Uki => {
            let uki = boot.uki.as_ref().ok_or_else(|| {
                BuildError::Image("Format=uki needs a kernel and Bootable=yes".into())
            })?;
            let mut out = staging.create(&name)?;
            io::copy(&mut uki.reader(), &mut out)
                .map_err(io_error("write", &staging.path(&name)))?;
        }
        OutputFormat::None => {}
    }
    let mut names = vec![name.clone()];
    for (suffix, text) in manifests(golden, config, context, lock)? {
        let name = format!("{}.{suffix}", config.output.name);
        staging.write(&name, text.as_bytes())?;
        names.push(name);
    }
    if config.output.checksum && config.output.format != OutputFormat::Directory {
        write_checksums(config, &names, staging)?;
    }
    if config.output.format != OutputFormat::None {
        staging.finish(&name);
    }
    Ok(())
}

fn write_directory(
    golden: &Golden,
    context: &Context,
    staging: &mut Staging,
    name: &str,
) -> Result<(), BuildError> {
    let step = context.reporter.step("directory", name, None, Unit::Items);
    let work = staging.path(".workspace");
    let workspace = sandbox::Workspace::create(&work, &golden.tree, &context.privilege)?;
    let target = staging.path(name);
    std::fs::rename(workspace.root(), &target).map_err(io_error("rename to", &target))?;
    step.done();
    Ok(())
}

/// The definitions that the project brings; none if the default layout is meant.
pub fn own_definitions(config: &Config) -> Result<Vec<Definition>, BuildError> {
    if !is_disk(config) || config.output.repart_directories.is_empty() {
        return Ok(Vec::new());
    }
    let facts = Facts::new(architecture(config)?);
    let source = Source::Dirs(&config.output.repart_directories);
    let definitions = definition::load(source, &facts, Compat::default())?.definitions;
    filler::check(&definitions)?;
    Ok(definitions)
}

/// What a disk is made of.
struct Disk<'a> {
    golden: &'a Golden,
    boot: &'a BootFiles,
    config: &'a Config,
    context: &'a Context<'a>,
    lock: &'a Lock,
    tools: Option<&'a Runner<'a>>,
}

impl Disk<'_> {
    fn write(&self, staging: &mut Staging, name: &str) -> Result<(), BuildError> {
        let (config, context) = (self.config, self.context);
        let step = context.reporter.step("disk", name, None, Unit::Bytes);
        let definitions = self.definitions()?;
        let source = boot_files::copy_source(&self.golden.tree, self.boot)?;
        let epoch = Some(context.epoch.secs);
        let tools = self.tools.map(|runner| runner as &dyn ToolRunner);
        let scratch = context.workdir("filesystems");
        let filler = Filler::new(context.reporter, context.epoch.secs, tools, scratch.clone());
        let mut request = Request {
            definitions: &definitions,
            content: Default::default(),
            existing: None,
            size: Size::Auto,
            seed: seed(config, self.lock)?,
            sector_size: sector_size(config)?,
            grain: None,
            block_device: false,
            device: name.to_owned(),
            defer: Default::default(),
            current: Bytes(0),
            compat: Compat::default(),
        };
        let identities = plan::identities(&request)?;
        request.content =
            execute::content_sizes(&definitions, &identities, &source, epoch, &filler)?;
        let plan = plan::plan(&request)?;
        let work = Work {
            plan: &plan,
            definitions: &definitions,
            identities: &identities,
            source: &source,
            epoch,
            filler: &filler,
            reporter: context.reporter,
        };
        self.write_image(&work, staging, name)?;
        if scratch.exists() {
            sandbox::remove_dir(&scratch)?;
        }
        write_partition_table(&plan, config, staging)?;
        step.done();
        Ok(())
    }

    fn definitions(&self) -> Result<Vec<Definition>, BuildError> {
        let facts = Facts::new(architecture(self.config)?);
        let own = &self.config.output.repart_directories;
        let texts = layout::default_definitions(esp_size(self.boot), "ext4");
        let where_from = match own.is_empty() {
            true => Source::Texts(&texts),
            false => Source::Dirs(own),
        };
        let loaded = definition::load(where_from, &facts, Compat::default())?;
        for warning in &loaded.warnings {
            self.context.reporter.warn(warning.to_string());
        }
        Ok(loaded.definitions)
    }

    fn write_image(
        &self,
        work: &Work<'_>,
        staging: &mut Staging,
        name: &str,
    ) -> Result<(), BuildError> {
        let execute = |file: &mut File, path: PathBuf| {
            let done = execute::write_image(work, file, &path);
            done.map_err(|e| BuildError::DiskImage { path, source: Box::new(e) })
        };
        if self.config.output.compress == Compression::None {
            let mut file = staging.create(name)?;
            return execute(&mut file, staging.path(name));
        }
        let raw = format!("{name}.raw");
        let mut file = staging.create(&raw)?;
        execute(&mut file, staging.path(&raw))?;
        compress_disk(&mut file, staging, name, self.config, self.context)?;
        let _ = std::fs::remove_file(staging.path(&raw));
        Ok(())
    }
}

fn compress_disk(
    raw: &mut File,
    staging: &Staging,
    name: &str,
    config: &Config,
    context: &Context,
) -> Result<(), BuildError> {
    let failed = |e| io_error("compress", &staging.path(name))(e);
    let mut out = Compressor::new(staging.create(name)?, config, context.threads)?;
    raw.rewind().map_err(failed)?;
    io::copy(raw, &mut out).and_then(|_| out.finish()).map_err(failed)?;
    Ok(())
}

/// The partition table as JSON beside the image (M4).
fn write_partition_table(
    plan: &Plan,
    config: &Config,
    staging: &mut Staging,
) -> Result<(), BuildError> {
    let text = serde_json::to_string_pretty(&plan.to_json()).expect("JSON serialises") + "\n";
    Ok(staging.write(&format!("{}.partitions.json", config.output.name), text.as_bytes())?)
}

fn architecture(config: &Config) -> Result<Architecture, BuildError> {
    let name = config.distribution.architecture.as_str();
    Architecture::from_name(name).ok_or_else(|| BuildError::Unsupported {
        what: format!("a disk image for {name}"),
        hint: Some("the Discoverable Partitions Specification has no types for it"),
    })
}

fn sector_size(config: &Config) -> Result<Option<SectorSize>, BuildError> {
    let wrong =
        |size| BuildError::Image(format!("SectorSize={size} is no power of two from 512 to 4096"));
    config.output.sector_size.map(|s| SectorSize::new(s).map_err(|_| wrong(s))).transpose()
}

/// How large the ESP is: what goes in, and room for the next kernel.
fn esp_size(boot: &BootFiles) -> Option<Bytes> {
    let esp = boot.esp.as_ref()?;
    let len = |node: &tree::Node| node.content().map_or(0, tree::Content::len);
    let total: u64 = esp.iter().map(|(_, _, node)| len(node)).sum();
    let loader = TreePath::literal("EFI/systemd");
    let fallback = TreePath::literal("EFI/BOOT");
    let kernels: u64 = esp
        .iter()
        .filter(|(path, _, _)| !path.starts_with(&loader) && !path.starts_with(&fallback))
        .map(|(_, _, node)| len(node))
        .sum();
    Some(layout::esp_size(Bytes(total), Bytes(kernels)))
}

/// `Seed=`; without one a seed that follows from what the image is: other images
/// get other identifiers, the same image the same.
fn seed(config: &Config, lock: &Lock) -> Result<Guid, BuildError> {
    let parse = |text: String| {
        text.parse::<Guid>().map_err(|e| BuildError::Image(format!("Seed={text}: {e}")))
    };
    match &config.output.seed {
        Some(UuidChoice::Fixed(uuid)) => parse(uuid.to_string()),
        Some(UuidChoice::Random) => {
            let mut bytes = [0; 16];
            let path = Path::new("/dev/urandom");
            File::open(path)
                .and_then(|mut f| f.read_exact(&mut bytes))
                .map_err(io_error("read", path))?;
            Ok(Guid::from_gpt(bytes).as_version_4())
        }
        None => {
            let mut hasher = KeyHasher::new("seed of an image");
            hasher.add(config.output.name.as_bytes());
            for text in [&config.output.image_id, &config.output.image_version] {
                hasher.add(text.as_deref().unwrap_or_default().as_bytes());
            }
            lock.of(Set::Image).iter().for_each(|p| {
                hasher.add(p.sha256.as_bytes());
            });
            let key = hasher.finish();
            Ok(Guid::from_gpt(key.0[..16].try_into().expect("16 of 32 bytes")).as_version_4())
        }
    }
}

/// What is in the image, in the formats that were asked for.
fn manifests(
    golden: &Golden,
    config: &Config,
    context: &Context,
    lock: &Lock,
) -> Result<Vec<(&'static str, String)>, BuildError> {
    let formats = &config.output.manifest_formats;
    if formats.contains(&ManifestFormat::Changelog) {
        return Err(BuildError::Unsupported {
            what: "ManifestFormat=changelog".into(),
            hint: Some("use json"),
        });
    }
    if formats.is_empty() {
        return Ok(Vec::new());
    }
    let subject = Subject {
        name: config.output.image_id.clone().unwrap_or_else(|| config.output.name.clone()),
        version: config.output.image_version.clone(),
        distribution: config.distribution.distribution.to_string(),
        release: config.distribution.release.clone(),
        architecture: config.distribution.architecture.to_string(),
        epoch: context.epoch.secs,
        packages: installed(golden.with_database(), config, lock)?,
    };
    Ok(vec![
        ("manifest", manifest::mkosi(&subject)),
        ("spdx.json", manifest::spdx(&subject)),
        ("cdx.json", manifest::cyclonedx(&subject)),
    ])
}

/// The packages that dpkg's database has, with what the lock knows of them.
fn installed(tree: &Tree, config: &Config, lock: &Lock) -> Result<Vec<Installed>, BuildError> {
    let database = dpkg::Database::load(tree, config.distribution.architecture.debian())?;
    let mut packages: Vec<Installed> = database
        .packages()
        .filter(|p| p.state() == dpkg::State::Installed)
        .map(|p| {
            let control = p.control();
            let (name, version) = (control.name().to_owned(), control.version().to_string());
            let same = |l: &&crate::lock::LockedPackage| {
                l.name == name && l.version == version && l.architecture == control.architecture()
            };
            let locked = lock.packages.iter().find(same);
            Installed {
                source: locked.map_or_else(|| name.clone(), |l| l.source.clone()),
                sha256: locked.map(|l| l.sha256.clone()),
                architecture: control.architecture().to_owned(),
                name,
                version,
            }
        })
        .collect();
    packages.sort();
    Ok(packages)
}

/// `NAME.SHA256SUMS`, as sha256sum(1) checks it.
fn write_checksums(
    config: &Config,
    names: &[String],
    staging: &mut Staging,
) -> Result<(), BuildError> {
    let mut text = String::new();
    for name in names {
        let path = staging.path(name);
        let mut file = File::open(&path).map_err(io_error("open", &path))?;
        let mut hasher = Sha256::new();
        let mut buf = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buf).map_err(io_error("read", &path))?;
            if n == 0 {
                break;
            }
            hasher.update(&buf[..n]);
        }
        let sum: String = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!("{sum} *{name}\n"));
    }
    Ok(staging.write(&format!("{}.SHA256SUMS", config.output.name), text.as_bytes())?)
}
