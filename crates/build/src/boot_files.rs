//! Kernels, initrds, unified kernel images and the boot loader: what the ESP gets.

use std::path::PathBuf;

use boot::arch::EfiArch;
use boot::cmdline::{self, Partitions};
use boot::entry::{Entry, LoaderConf};
use boot::esp::{self, Boot, Bootloader};
use boot::initrd;
use boot::uki::{self, Uki};
use config::Config;
use config::types::{self, Feature, OutputFormat, UnifiedKernelImages};
use report::Unit;
use tree::{Content, Mtime, Tree, TreePath};

use crate::context::Context;
use crate::error::BuildError;
use crate::{overlay, pipeline};

/// What a bootable image has beside its root.
#[derive(Debug, Clone, Default)]
pub struct BootFiles {
    /// The EFI system partition; `None` for an image that does not boot.
    pub esp: Option<Tree>,
    /// The newest kernel's unified image, for `Format=uki` and the like.
    pub uki: Option<Content>,
}

/// What scripts put into `$ARTIFACTDIR` for the boot.
#[derive(Debug, Clone, Default)]
pub struct Artifacts {
    /// Archives before all initrds.
    pub microcode: Vec<PathBuf>,
    /// Initrds after those of `Initrds=`.
    pub initrds: Vec<PathBuf>,
}

/// Whether the configuration needs a default initrd.
pub fn wants_initrd(config: &Config) -> bool {
    config.boot.default_initrd
        && config.boot.bootable != Feature::Disabled
        && matches!(config.output.format, OutputFormat::Disk | OutputFormat::Uki)
}

/// Makes what the ESP gets out of the finished tree, and tidies `/boot`.
pub fn make(
    tree: &mut Tree,
    config: &Config,
    context: &Context,
    userland: Option<Content>,
    artifacts: &Artifacts,
) -> Result<BootFiles, BuildError> {
    if !pipeline::is_bootable(config, tree) {
        return Ok(BootFiles::default());
    }
    move_kernels(tree, context.epoch)?;
    let debian = config.distribution.architecture.debian();
    let arch = EfiArch::from_debian(debian).ok_or_else(|| BuildError::Unsupported {
        what: format!("booting {debian} through UEFI"),
        hint: Some("set Bootable=no"),
    })?;
    let kernels = boot::kernel::find(tree)?;
    if kernels.is_empty() {
        return Err(BuildError::Image(
            "the image is to boot but has no kernel: add a linux-image package to Packages=, \
             or set Bootable=no"
                .into(),
        ));
    }
    let step = context.reporter.step("boot", "kernels", Some(kernels.len() as u64), Unit::Items);
    let parts = Parts::read(tree, config)?;
    let mut boots = Vec::new();
    let mut newest = None;
    for kernel in &kernels {
        let version = &kernel.version;
        let initrd = make_initrd(tree, config, context, version, userland.as_ref(), artifacts)?;
        let uki = if parts.unified {
            Some(parts.uki(tree, &kernel.version, &kernel.image, &initrd, arch)?)
        } else {
            None
        };
        let boot = match &uki {
            Some(uki) => Boot::Uki(uki.clone()),
            None => parts.entry(&kernel.version, &kernel.image, &initrd),
        };
        newest = newest.or(uki);
        boots.push((kernel.version.clone(), boot));
        step.progress(boots.len() as u64);
    }
    let plan = esp::Plan {
        arch,
        bootloader: parts.bootloader.clone(),
        token: parts.token,
        kernels: boots,
    };
    let mut esp = esp::build(tree, &plan)?;
    for path in esp.iter().map(|(p, _, _)| p.clone()).collect::<Vec<_>>() {
        esp.get_mut(&path).expect("just listed").meta.mtime = context.epoch;
    }
    step.done();
    Ok(BootFiles { esp: Some(esp), uki: newest })
}

/// The kernel belongs to its modules, where kernel-install looks for it; `/boot`
/// is where the ESP is mounted, and what Debian puts there boots nothing.
fn move_kernels(tree: &mut Tree, epoch: Mtime) -> Result<(), BuildError> {
    for kernel in boot::kernel::find(tree)? {
        let modules = boot::modules::directory(tree, &kernel.version);
        let Ok(modules) = modules else { continue };
        let target = modules.join("vmlinuz")?;
        if kernel.path != target && !tree.contains(&target) {
            tree.rename(&kernel.path, &target)?;
        }
    }
    let boot = TreePath::literal("boot");
    let gone: Vec<_> = tree.children(&boot).map(|(path, _)| path.clone()).collect();
    for path in gone {
        tree.remove(&path);
    }
    // Debian's links to kernels in /boot lead nowhere now.
    for name in ["vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"] {
        tree.remove(&TreePath::literal(name));
    }
    for name in ["boot", "efi"] {
        let path = TreePath::literal(name);
        if !tree.contains(&path) {
            tree.make_dirs(&path)?;
            // Only what is mounted there is for everybody, as mkosi has it.
            tree.get_mut(&path).expect("just made").meta.mode = 0o500;
        }
        tree.get_mut(&path).expect("just made").meta.mtime = epoch;
    }
    Ok(())
}

/// Microcode, userland, the kernel's modules, and what the project brings.
fn make_initrd(
    tree: &Tree,
    config: &Config,
    context: &Context,
    version: &str,
    userland: Option<&Content>,
    artifacts: &Artifacts,
) -> Result<Content, BuildError> {
    let mut parts = Vec::new();
    for path in &artifacts.microcode {
        let bytes = std::fs::read(path).map_err(crate::outputs::io_error("read", path))?;
        parts.push(Content::inline(bytes));
    }
    parts.extend(initrd::microcode(tree, Some(context.epoch))?);
    parts.extend(userland.cloned());
    for path in config.boot.initrds.iter().chain(&artifacts.initrds) {
        let bytes = std::fs::read(path).map_err(crate::outputs::io_error("read", path))?;
        parts.push(Content::inline(bytes));
    }
    if userland.is_some() {
        let patterns = &config.boot.kernel_initrd_modules;
        parts.push(crate::kernels::initrd_modules(context, tree, version, patterns)?);
    }
    Ok(initrd::join(&parts))
}

/// What the boot files of all kernels share.
struct Parts {
    bootloader: Bootloader,
    unified: bool,
    token: String,
    cmdline: String,
    os_release: Vec<u8>,
}

impl Parts {
    fn read(tree: &Tree, config: &Config) -> Result<Parts, BuildError> {
        let boot = &config.boot;
        let stub = EfiArch::from_debian(config.distribution.architecture.debian())
            .is_some_and(|arch| uki::stub(tree, arch).is_ok());
        let bootloader = match boot.bootloader {
            types::Bootloader::SystemdBoot => Bootloader::SystemdBoot(LoaderConf::default()),
            types::Bootloader::Uki => Bootloader::Uki,
            types::Bootloader::None => Bootloader::None,
        };
        let unified = match boot.unified_kernel_images {
            UnifiedKernelImages::None => false,
            // `yes` is `signed`: signed where SecureBoot= signs, which is refused
            // before it gets here; without it mkosi makes the same unsigned image.
            UnifiedKernelImages::Unsigned | UnifiedKernelImages::Signed => true,
            UnifiedKernelImages::Auto => stub,
        };
        let distribution = config.distribution.distribution.to_string();
        let image_id = config.output.image_id.as_deref();
        Ok(Parts {
            bootloader,
            unified: unified || boot.bootloader == types::Bootloader::Uki,
            token: os::entry_token::choose(tree, None, image_id, &distribution)?,
            cmdline: cmdline::complete(&boot.kernel_command_line, &Partitions::default())
                .map_err(|e| BuildError::Image(e.to_string()))?,
            os_release: boot::osrelease::read(tree),
        })
    }

    fn uki(
        &self,
        tree: &Tree,
        version: &str,
        kernel: &Content,
        initrd: &Content,
        arch: EfiArch,
    ) -> Result<Content, BuildError> {
        let uki = Uki {
            linux: kernel.clone(),
            initrd: Some(initrd.clone()),
            microcode: None,
            os_release: Content::inline(self.os_release.clone()),
            cmdline: self.cmdline.clone(),
            uname: version.to_owned(),
            device_tree: None,
            splash: None,
            sbat: None,
        };
        Ok(uki.build(&uki::stub(tree, arch)?, arch)?)
    }

    fn entry(&self, version: &str, kernel: &Content, initrd: &Content) -> Boot {
        let release = boot::osrelease::parse(&self.os_release);
        let get = |key: &str| release.get(key).filter(|v| !v.is_empty()).cloned();
        let entry = Entry {
            title: get("PRETTY_NAME").or_else(|| Some(format!("Linux {version}"))),
            version: Some(version.to_owned()),
            sort_key: get("IMAGE_ID").or_else(|| get("ID")),
            options: vec![self.cmdline.clone()],
            ..Entry::default()
        };
        let initrds = vec![("initrd".to_owned(), initrd.clone())];
        Boot::Entry { linux: kernel.clone(), initrds, entry: Box::new(entry) }
    }
}

/// The tree that partition definitions copy from: the image's, with the ESP's
/// files where definitions expect them (`CopyFiles=/efi:/`, `CopyFiles=/boot:/`):
/// the boot loader in `/efi`, kernels and their entries in `/boot`.
pub fn copy_source(tree: &Tree, boot: &BootFiles) -> Result<Tree, BuildError> {
    let mut source = tree.clone();
    let Some(esp) = &boot.esp else { return Ok(source) };
    let mut loader = esp.clone();
    let mut kernels = esp.clone();
    let is_kernel = |path: &TreePath| {
        let first = path.components().next().unwrap_or_default();
        let inside = ["EFI/Linux", "loader/entries", "loader/entries.srel"];
        inside.iter().any(|dir| path.starts_with(&TreePath::literal(dir)))
            || !matches!(first, b"EFI" | b"loader" | b"")
    };
    for (path, _, node) in esp.iter().filter(|(_, _, node)| !node.is_dir()) {
        let _ = node;
        if is_kernel(path) { &mut loader } else { &mut kernels }.remove(path);
    }
    for (part, target) in [(&mut loader, "efi"), (&mut kernels, "boot")] {
        let mut touched = Default::default();
        overlay::apply(&mut source, part, &TreePath::literal(target), &mut touched)?;
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_lies_with_its_modules_and_boot_is_empty() {
        let mut tree = Tree::new();
        let mut write = |path: &str, text: &str| {
            let path = TreePath::new(path).unwrap();
            tree.make_dirs(&path.parent().unwrap()).unwrap();
            tree.write(&path, 0o600, text.as_bytes().to_vec()).unwrap();
        };
        for version in ["6.12.9", "6.12.10"] {
            write(&format!("boot/vmlinuz-{version}"), version);
            for name in ["config", "System.map", "initrd.img"] {
                write(&format!("boot/{name}-{version}"), "waste");
            }
            write(&format!("usr/lib/modules/{version}/modules.builtin"), "");
        }
        write("boot/efi/EFI/debian/grub.cfg", "waste");
        let links = [("vmlinuz", "boot/vmlinuz-6.12.10"), ("initrd.img.old", "boot/initrd.img-1")];
        for (name, target) in links {
            tree.add_symlink(TreePath::literal(name), target).unwrap();
        }
        let epoch = Mtime::secs(1_700_000_000);
        move_kernels(&mut tree, epoch).unwrap();
        let files = tree.iter().filter(|(_, _, node)| !node.is_dir());
        let files: Vec<_> = files.map(|(path, _, _)| path.to_string()).collect();
        assert_eq!(
            files,
            [
                "/usr/lib/modules/6.12.10/modules.builtin",
                "/usr/lib/modules/6.12.10/vmlinuz",
                "/usr/lib/modules/6.12.9/modules.builtin",
                "/usr/lib/modules/6.12.9/vmlinuz",
            ]
        );
        let kernel = TreePath::literal("usr/lib/modules/6.12.9/vmlinuz");
        assert_eq!(tree.read(&kernel, 99).unwrap().unwrap(), b"6.12.9");
        for (name, mode) in [("boot", 0o755), ("efi", 0o500)] {
            let path = TreePath::literal(name);
            assert_eq!(tree.children(&path).count(), 0, "/{name}");
            let meta = &tree.get(&path).unwrap().meta;
            assert_eq!((meta.mode, meta.mtime), (mode, epoch), "/{name}");
        }
    }
}
