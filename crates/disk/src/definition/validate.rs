//! What settings imply, and which do not go together.
//!
//! Part of repart.d(5), part of what systemd-repart does: the order of the checks is
//! its, so that the same definition is refused for the same reason.

use super::{
    Definition, Diagnostic, Encrypt, Facts, Integrity, IntegrityAlgorithm, Log, Minimize, Severity,
    Verity,
};
use crate::{Compat, Designator, Version};

/// Fills in what the settings of one definition imply. `None` if it is refused.
pub(super) fn complete(
    mut d: Definition,
    facts: &Facts,
    compat: Compat,
    log: &mut Log<'_>,
) -> Option<Definition> {
    let outcome = limits(&d)
        .and_then(|()| exclusions(&d))
        .and_then(|()| choose_format(&mut d, facts, compat))
        .and_then(|()| minimize(&d))
        .and_then(|()| verity_and_encryption(&d))
        .and_then(|()| supplement(&d));
    if let Err(message) = outcome {
        log.refuse(message);
        return None;
    }
    idle(&d).into_iter().for_each(|(setting, without)| {
        log.warn(format!("{setting} has no effect without {without}"));
    });
    flags(&mut d, compat, log);
    if d.split_name.is_none() {
        d.split_name = Some("%t".into());
    }
    Some(d)
}

/// Settings that do nothing without another.
fn idle(d: &Definition) -> Vec<(&'static str, &'static str)> {
    let (plain, sound) = (d.encrypt == Encrypt::Off, d.integrity == Integrity::Off);
    let open = d.verity == Verity::Off;
    [
        (plain && d.discard == Some(true), "Discard=", "Encrypt="),
        (plain && d.encrypt_kdf.is_some(), "EncryptKDF=", "Encrypt="),
        (plain && d.volume_label.is_some(), "VolumeLabel=", "Encrypt="),
        (plain && d.key_file.is_some(), "KeyFile=", "Encrypt="),
        (plain && d.tpm2_pcrs.is_some(), "TPM2PCRs=", "Encrypt="),
        (plain && d.encrypted_volume.is_some(), "EncryptedVolume=", "Encrypt="),
        (
            sound && d.integrity_algorithm != IntegrityAlgorithm::default(),
            "IntegrityAlgorithm=",
            "Integrity=",
        ),
        (open && d.verity_data_block.is_some(), "VerityDataBlockSizeBytes=", "Verity="),
        (open && d.verity_hash_block.is_some(), "VerityHashBlockSizeBytes=", "Verity="),
        (d.format.is_none() && d.compression.is_some(), "Compression=", "Format="),
        (d.format.is_none() && d.compression_level.is_some(), "CompressionLevel=", "Format="),
        (d.format.is_none() && !d.mount_points.is_empty(), "MountPoint=", "Format="),
    ]
    .into_iter()
    .filter_map(|(idle, setting, without)| idle.then_some((setting, without)))
    .collect()
}

fn check(wrong: bool, message: &str) -> Result<(), String> {
    if wrong { Err(message.to_owned()) } else { Ok(()) }
}

fn limits(d: &Definition) -> Result<(), String> {
    let above =
        |min: Option<u64>, max: Option<u64>| matches!((min, max), (Some(a), Some(b)) if a > b);
    check(above(d.size_min, d.size_max), "SizeMinBytes= is larger than SizeMaxBytes=")?;
    check(above(d.padding_min, d.padding_max), "PaddingMinBytes= is larger than PaddingMaxBytes=")?;
    check(d.kind.0.is_nil(), "Type= is missing")
}

fn exclusions(d: &Definition) -> Result<(), String> {
    let content = d.format.is_some() || d.populates();
    check(
        d.copy_blocks.is_some() && content,
        "CopyBlocks= cannot be combined with Format=, CopyFiles=, MakeDirectories=, \
         MakeSymlinks= or AddValidateFS=",
    )?;
    check(
        d.block_device_replace.is_some() && (content || d.copy_blocks.is_some()),
        "BlockDeviceReplace= cannot be combined with CopyBlocks=, Format= or anything to populate",
    )?;
    check(
        d.volume_name.is_some() && (d.block_device_replace.is_none() || d.encrypt == Encrypt::Off),
        "VolumeName= needs BlockDeviceReplace= and Encrypt=",
    )?;
    check(d.format.as_deref() == Some("swap") && d.populates(), "Format=swap cannot be populated")?;
    let known = |path| d.subvolumes.iter().any(|s| Some(&s.path) == path);
    check(
        d.default_subvolume.is_some() && !known(d.default_subvolume.as_ref()),
        "DefaultSubvolume= is not one of Subvolumes=",
    )?;
    Ok(())
}

fn choose_format(d: &mut Definition, facts: &Facts, compat: Compat) -> Result<(), String> {
    let designator = d.kind.designator();
    let boot = matches!(designator, Designator::Esp | Designator::Xbootldr);
    let encrypted =
        d.encrypt != Encrypt::Off && d.copy_blocks.is_none() && d.block_device_replace.is_none();
    if d.format.is_none() {
        if designator == Designator::Swap && d.copy_blocks.is_none() {
            // The original takes it and copies nothing.
            let wrong = d.populates() && !compat.original_bugs;
            check(wrong, "a swap partition cannot be populated")?;
            d.format = Some("swap".into());
        } else if d.populates() || encrypted {
            d.format = Some(if boot { "vfat" } else { "ext4" }.into());
        }
    }
    if d.format.is_some()
        && let Some(format) = facts.override_format_of.get(designator.name())
    {
        d.format = Some(format.clone());
    }
    if compat.version >= Version::V262 {
        if d.format.as_deref() == Some("empty") {
            d.format = None;
            if d.no_auto.is_none() && designator.knows_no_auto() {
                d.no_auto = Some(true);
            }
            d.label.get_or_insert_with(|| "_empty".into());
        }
        let suits = d.format.as_deref().is_some_and(|f| !matches!(f, "swap" | "vfat"));
        if d.add_validatefs.is_none() {
            d.add_validatefs = Some(suits && facts.add_validatefs);
        }
    }
    check(
        d.has_read_only_format() && !d.populates(),
        "a read-only file system without anything in it is of no use",
    )
}

fn minimize(d: &Definition) -> Result<(), String> {
    if d.minimize == Minimize::Off {
        return Ok(());
    }
    let hash = d.verity == Verity::Hash;
    check(d.format.is_none() && !hash, "Minimize= needs Format= or Verity=hash")?;
    let exact = d.has_read_only_format() || d.format.as_deref() == Some("btrfs") || hash;
    check(
        d.minimize == Minimize::Best && !exact,
        "Minimize=best works for read-only file systems, btrfs and Verity=hash only",
    )
}

fn verity_and_encryption(d: &Definition) -> Result<(), String> {
    check(
        (d.verity == Verity::Off) != d.verity_match_key.is_none(),
        "VerityMatchKey= and Verity= need each other",
    )?;
    let derived = matches!(d.verity, Verity::Hash | Verity::Signature);
    let content = d.copy_blocks.is_none() && (d.format.is_some() || d.populates());
    check(derived && content, "a hash or signature partition has no file system")?;
    check(
        derived && d.encrypt != Encrypt::Off,
        "a hash or signature partition cannot be encrypted",
    )?;
    check(
        d.verity == Verity::Signature && (d.size_min.is_some() || d.size_max.is_some()),
        "the size of a signature partition is fixed",
    )?;
    check(
        d.integrity != Integrity::Off && d.encrypt == Encrypt::Off,
        "Integrity=inline needs Encrypt=",
    )?;
    check(
        d.integrity != Integrity::Off && d.discard == Some(true),
        "Integrity=inline and Discard=yes exclude each other",
    )
}

fn supplement(d: &Definition) -> Result<(), String> {
    let Some(name) = &d.supplement_for else { return Ok(()) };
    check(
        name.contains('/') || name.len() > 255,
        "SupplementFor= is not the name of a definition",
    )?;
    check(
        d.copy_blocks.is_some() || d.encrypt != Encrypt::Off || d.verity != Verity::Off,
        "SupplementFor= cannot be combined with CopyBlocks=, Encrypt= or Verity=",
    )
}

fn flags(d: &mut Definition, compat: Compat, log: &mut Log<'_>) {
    let designator = d.kind.designator();
    // 257 does not know that signatures are read-only.
    let old_signature = designator.is_verity_sig() && compat.version < Version::V262;
    let knows_read_only = designator.knows_read_only() && !old_signature;
    let settings = [
        ("NoAuto=", &mut d.no_auto, designator.knows_no_auto()),
        ("ReadOnly=", &mut d.read_only, knows_read_only),
        ("GrowFileSystem=", &mut d.grow_file_system, designator.knows_grow_fs()),
    ];
    for (name, value, known) in settings {
        if value.is_some() && !known {
            log.warn(format!("{name} means nothing for the type {} and is ignored", d.kind));
            *value = None;
        }
    }
    let read_only_kind =
        designator.is_verity() || matches!(d.verity, Verity::Data | Verity::Signature);
    if d.read_only.is_none() && read_only_kind && knows_read_only {
        d.read_only = Some(true);
    }
    let unset = d.grow_file_system.is_none() || compat.original_bugs;
    if designator.knows_grow_fs() && d.read_only != Some(true) && unset {
        d.grow_file_system = Some(true);
    }
}

/// The checks that need all definitions.
pub(super) fn together(all: &[Definition], diagnostics: &mut Vec<Diagnostic>) {
    let mut refuse = |d: &Definition, message: String| {
        diagnostics.push(Diagnostic {
            severity: Severity::Error,
            path: d.path.clone(),
            line: None,
            text: None,
            message,
        });
    };
    for d in all.iter().filter(|d| d.verity != Verity::Off) {
        let key = d.verity_match_key.as_deref().unwrap_or_default();
        let of = |mode: Verity| {
            all.iter().filter(move |o| o.verity == mode && o.verity_match_key == d.verity_match_key)
        };
        for mode in [Verity::Data, Verity::Hash, Verity::Signature] {
            let count = of(mode).count();
            if count > 1 {
                refuse(
                    d,
                    format!(
                        "VerityMatchKey={key} has {count} partitions of Verity={}",
                        mode.as_str()
                    ),
                );
            }
            if count == 0 && mode != Verity::Signature {
                refuse(
                    d,
                    format!("VerityMatchKey={key} has no partition of Verity={}", mode.as_str()),
                );
            }
        }
        let same = all.iter().filter(|o| o.verity_match_key == d.verity_match_key);
        if same.clone().any(|o| o.priority != d.priority) {
            refuse(d, format!("the partitions of VerityMatchKey={key} differ in Priority="));
        }
        if d.verity == Verity::Hash && d.minimize != Minimize::Off {
            let fixed = |o: &Definition| {
                (o.minimize != Minimize::Off || o.copy_blocks.is_some())
                    && o.encrypt == Encrypt::Off
            };
            if of(Verity::Data).any(|o| !fixed(o)) {
                refuse(d, "Minimize= of a hash needs Minimize= or CopyBlocks= of its data, without Encrypt=".into());
            }
        }
    }
    for problem in crate::plan::supplement_problems(all) {
        refuse(&all[problem.0], problem.1);
    }
}
