//! The content of the EFI system partition as a Tree: boot loader, its
//! configuration, kernels.
//!
//! The layout is bootctl's and kernel-install's: what a kernel update inside the
//! running image will look for and replace (B3). Entries are named after the entry
//! token, never after a machine ID (B2), and there is no random seed (R3).

use tree::{Content, Meta, Tree, TreeError, TreePath};

use crate::arch::EfiArch;
use crate::entry::{Entry, EntryError, LoaderConf, check_token, entry_name};

const LOADERS: &str = "usr/lib/systemd/boot/efi";

/// Why the ESP cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// The image has no systemd-boot.
    #[error("no {0} in the tree: Bootloader=systemd-boot needs the package systemd-boot-efi")]
    NoLoader(TreePath),
    /// A UKI as boot loader can only be one.
    #[error("Bootloader=uki takes exactly one unified kernel image, not {0} kernels")]
    NotOneUki(usize),
    /// An entry is not valid.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// An edit of the tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What the firmware starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootloader {
    /// systemd-boot with this configuration.
    SystemdBoot(LoaderConf),
    /// The unified kernel image itself.
    Uki,
    /// Nothing.
    None,
}

/// A kernel as it lies in the ESP.
#[derive(Debug, Clone)]
pub enum Boot {
    /// A unified kernel image (Type #2).
    Uki(Content),
    /// Kernel and initrds with an entry (Type #1).
    Entry {
        /// The kernel image.
        linux: Content,
        /// Name and content; shared names are written once.
        initrds: Vec<(String, Content)>,
        /// Title, options and so on; the paths are filled in.
        entry: Box<Entry>,
    },
}

/// What the ESP gets.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names of files.
    pub arch: EfiArch,
    /// What the firmware starts.
    pub bootloader: Bootloader,
    /// Names the entries.
    pub token: String,
    /// Version and kernel.
    pub kernels: Vec<(String, Boot)>,
}

/// Makes the ESP's Tree. `root` is the image's, for the boot loader's binaries.
pub fn build(root: &Tree, plan: &Plan) -> Result<Tree, EspError> {
    check_token(&plan.token)?;
    let mut esp = Tree::new();
    match &plan.bootloader {
        Bootloader::SystemdBoot(conf) => install_systemd_boot(&mut esp, root, plan.arch, conf)?,
        Bootloader::Uki => {
            let [(_, Boot::Uki(uki))] = &plan.kernels[..] else {
                return Err(EspError::NotOneUki(plan.kernels.len()));
            };
            put(&mut esp, &fallback_path(plan.arch), uki.clone())?;
            return Ok(esp);
        }
        Bootloader::None => {}
    }
    for (version, boot) in &plan.kernels {
        add_kernel(&mut esp, plan, version, boot)?;
    }
    Ok(esp)
}

fn fallback_path(arch: EfiArch) -> String {
    format!("EFI/BOOT/BOOT{}.EFI", arch.efi_name().to_ascii_uppercase())
}

fn put(esp: &mut Tree, path: &str, content: Content) -> Result<(), EspError> {
    let path = TreePath::new(path).map_err(TreeError::from)?;
    esp.make_dirs(&path.parent().unwrap_or_else(TreePath::root))?;
    esp.add_file(path, Meta::file(0o644), content)?;
    Ok(())
}

fn install_systemd_boot(
    esp: &mut Tree,
    root: &Tree,
    arch: EfiArch,
    conf: &LoaderConf,
) -> Result<(), EspError> {
    for dir in ["EFI/Linux", "EFI/BOOT", "EFI/systemd", "loader/entries", "loader/keys"] {
        esp.make_dirs(&TreePath::literal(dir))?;
    }
    let loader = loader(root, arch)?;
    put(esp, &format!("EFI/systemd/systemd-boot{}.efi", arch.efi_name()), loader.clone())?;
    put(esp, &fallback_path(arch), loader)?;
    put(esp, "loader/loader.conf", Content::inline(conf.to_text()?.into_bytes()))?;
    put(esp, "loader/entries.srel", Content::inline(*b"type1\n"))
}

/// systemd-boot of the image, the signed one if it has both.
fn loader(root: &Tree, arch: EfiArch) -> Result<Content, EspError> {
    let base = format!("{LOADERS}/systemd-boot{}.efi", arch.efi_name());
    let path = TreePath::new(&base).map_err(TreeError::from)?;
    let signed = TreePath::new(format!("{base}.signed")).map_err(TreeError::from)?;
    let content = |p| root.lookup(p).and_then(|node| node.content().cloned());
    content(&signed).or_else(|| content(&path)).ok_or(EspError::NoLoader(path))
}

fn add_kernel(esp: &mut Tree, plan: &Plan, version: &str, boot: &Boot) -> Result<(), EspError> {
    let name = entry_name(&plan.token, version)?;
    match boot {
        Boot::Uki(uki) => put(esp, &format!("EFI/Linux/{name}.efi"), uki.clone()),
        Boot::Entry { linux, initrds, entry } => {
            let dir = format!("{}/{version}", plan.token);
            put(esp, &format!("{dir}/linux"), linux.clone())?;
            let mut entry = Entry::clone(entry);
            entry.version = Some(version.to_owned());
            entry.linux = Some(format!("/{dir}/linux"));
            entry.initrd.clear();
            for (file, content) in initrds {
                put(esp, &format!("{dir}/{file}"), content.clone())?;
                entry.initrd.push(format!("/{dir}/{file}"));
            }
            let text = entry.to_text()?.into_bytes();
            put(esp, &format!("loader/entries/{name}.conf"), Content::inline(text))?;
            let marker = TreePath::literal("loader/entries.srel");
            match esp.contains(&marker) {
                true => Ok(()),
                false => put(esp, "loader/entries.srel", Content::inline(*b"type1\n")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Tree {
        let mut t = Tree::new();
        let path = TreePath::literal("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
        t.write(&path, 0o644, *b"loader").unwrap();
        t
    }

    fn plan(bootloader: Bootloader) -> Plan {
        let uki = Boot::Uki(Content::inline(*b"uki"));
        let kernels = vec![("6.12.9+deb13-amd64".to_owned(), uki)];
        Plan { arch: EfiArch::X64, bootloader, token: "debian".into(), kernels }
    }

    fn files(esp: &Tree) -> Vec<String> {
        esp.iter().filter(|(_, _, n)| !n.is_dir()).map(|(p, _, _)| p.to_string()).collect()
    }

    #[test]
    fn systemd_boot_lies_where_bootctl_puts_it() {
        let mut root = root();
        let conf = LoaderConf { options: vec![("timeout".into(), "0".into())] };
        let plan = plan(Bootloader::SystemdBoot(conf));
        let esp = build(&root, &plan).unwrap();
        assert_eq!(
            files(&esp),
            [
                "/EFI/BOOT/BOOTX64.EFI",
                "/EFI/Linux/debian-6.12.9+deb13-amd64.efi",
                "/EFI/systemd/systemd-bootx64.efi",
                "/loader/entries.srel",
                "/loader/loader.conf",
            ]
        );
        let read = |esp: &Tree, p| esp.read(&TreePath::literal(p), 999).unwrap().unwrap();
        let conf = read(&esp, "loader/loader.conf");
        assert_eq!(conf, b"#timeout 3\n#console-mode keep\ntimeout 0\n");
        let signed = TreePath::literal("usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed");
        root.write(&signed, 0o644, *b"signed").unwrap();
        let esp = build(&root, &plan).unwrap();
        assert_eq!(read(&esp, "EFI/BOOT/BOOTX64.EFI"), b"signed");
        assert!(!esp.contains(&TreePath::literal("loader/random-seed")), "R3");
    }

    #[test]
    fn a_type_1_entry_names_its_files() {
        let mut plan = plan(Bootloader::SystemdBoot(LoaderConf::default()));
        let entry = Entry {
            title: Some("Debian".into()),
            sort_key: Some("debian".into()),
            options: vec!["quiet".into()],
            ..Entry::default()
        };
        let initrds = vec![("initrd".to_owned(), Content::inline(*b"i"))];
        let linux = Content::inline(*b"k");
        plan.kernels[0].1 = Boot::Entry { linux, initrds, entry: Box::new(entry) };
        let esp = build(&root(), &plan).unwrap();
        let path = TreePath::literal("loader/entries/debian-6.12.9+deb13-amd64.conf");
        let text = String::from_utf8(esp.read(&path, 999).unwrap().unwrap()).unwrap();
        assert_eq!(
            text,
            "title      Debian\n\
             version    6.12.9+deb13-amd64\n\
             sort-key   debian\n\
             options    quiet\n\
             linux      /debian/6.12.9+deb13-amd64/linux\n\
             initrd     /debian/6.12.9+deb13-amd64/initrd\n"
        );
        for line in text.lines().filter_map(|l| l.split_once(" /")) {
            assert!(esp.contains(&TreePath::new(line.1).unwrap()), "{}", line.1);
        }
    }

    #[test]
    fn a_uki_alone_is_the_boot_loader() {
        let esp = build(&Tree::new(), &plan(Bootloader::Uki)).unwrap();
        assert_eq!(files(&esp), ["/EFI/BOOT/BOOTX64.EFI"]);
        let mut two = plan(Bootloader::Uki);
        two.kernels.push(two.kernels[0].clone());
        assert!(matches!(build(&Tree::new(), &two), Err(EspError::NotOneUki(2))));
    }

    #[test]
    fn missing_loaders_and_machine_ids_are_errors() {
        let with = plan(Bootloader::SystemdBoot(LoaderConf::default()));
        assert!(matches!(build(&Tree::new(), &with), Err(EspError::NoLoader(_))));
        let mut bad = plan(Bootloader::None);
        bad.token = "0123456789abcdef0123456789abcdef".into();
        let error = build(&root(), &bad).unwrap_err();
        assert!(matches!(error, EspError::Entry(EntryError::MachineId(_))));
    }
}
