//! Identifiers derived from the seed of an image, as systemd-repart derives them.
//!
//! All are HMAC-SHA256 over a fixed text or the type's GUID in textual byte order,
//! so two builds with one seed have the same identifiers, and two seeds never. The
//! formulas are systemd's (repart.d(5) "seed"; vectors in the tests).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{Guid, TypeGuid};

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn guid(key: &Guid, parts: &[&[u8]]) -> Guid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hmac(key.as_bytes(), parts)[..16]);
    Guid::from_bytes(bytes).as_version_4()
}

/// The GUID of the disk itself.
pub fn disk(seed: &Guid) -> Guid {
    guid(seed, &[b"disk-uuid"])
}

/// The GUID of the `n`-th partition of its type, counted from 0.
pub fn partition(seed: &Guid, kind: TypeGuid, n: u64) -> Guid {
    match n {
        0 => guid(seed, &[kind.0.as_bytes()]),
        n => guid(seed, &[kind.0.as_bytes(), &n.to_le_bytes()]),
    }
}

/// The UUID of the file system in the partition with this GUID.
pub fn file_system(partition: &Guid) -> Guid {
    guid(partition, &[b"file-system-uuid"])
}

/// The UUID of the LUKS2 header in the partition with this GUID.
pub fn luks(partition: &Guid) -> Guid {
    guid(partition, &[b"luks-uuid"])
}

/// The salt of every hash partition of the disk.
pub fn verity_salt(seed: &Guid) -> [u8; 32] {
    hmac(seed.as_bytes(), &[b"verity-salt"])
}

/// The UUID in the superblock of hash partitions.
pub fn verity_superblock(seed: &Guid) -> Guid {
    guid(seed, &[b"verity-uuid"])
}

/// The volume id of a FAT file system whose UUID would be `file_system`.
pub fn fat_volume_id(file_system: &Guid) -> u32 {
    let b = file_system.as_bytes();
    u32::from_be_bytes([b[0], b[1], b[2], b[3]])
}

/// Where systemd-repart takes a random UUID because the derived one is in use: the
/// same seed must give the same image, so this one is derived as well.
pub(crate) fn replacement(seed: &Guid, taken: &Guid, attempt: u64) -> Guid {
    guid(seed, &[b"mkgold-replacement", taken.as_bytes(), &attempt.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Architecture;

    const SEED: Guid = Guid::literal("750b6cd5-c4ae-4012-a15e-7be3c29e6a47");

    #[test]
    fn vectors_made_by_systemd_repart() {
        let part = |name: &str, n| {
            partition(&SEED, TypeGuid::parse(name, Architecture::X8664).unwrap(), n)
        };
        let cases = [
            (disk(&SEED), "1d2ce291-7cce-4f7d-bc83-fdb49ad74ebd"),
            (part("root", 0), "60f33797-1d71-4dcb-aa6f-20564f036cd0"),
            (part("root", 1), "73a4ccd2-eaf5-44da-a366-f99188210fdc"),
            (part("root", 2), "e1383626-af3c-4fb4-87fa-8ffa8f306aa8"),
            (part("usr", 0), "7e3369dd-d653-4513-adf5-b993a9f20c16"),
            (part("home", 0), "4980595d-d74a-483a-aa9e-9903879a0ee5"),
            (part("home", 1), "9cbf3acf-4490-4880-8199-843191de79b0"),
            (part("swap", 0), "78c92db8-3d2b-4823-b0dc-792b78f66f1e"),
            (part("esp", 0), "39107b09-615d-48fb-ba37-c663885fce67"),
            (file_system(&part("root", 0)), "70e624a3-caca-4b82-b656-2e7168b70ff1"),
            (file_system(&part("home", 0)), "d04b3358-dbb5-40f9-861b-38674e47d3cd"),
            (file_system(&part("swap", 0)), "722243cd-e79c-4b09-abdf-30d31d6ba2ac"),
            (file_system(&part("esp", 0)), "462aa6aa-1597-42e1-8694-7bb6faeffbac"),
            (luks(&part("root", 0)), "b4d1501b-4385-4f47-b089-298643f4fd9a"),
            (verity_superblock(&SEED), "5b4cf557-8269-4aa1-8669-41f3431271c8"),
        ];
        for (made, expected) in cases {
            assert_eq!(made.to_string(), expected);
        }
        assert_eq!(
            hex::encode(verity_salt(&SEED)),
            "aece282c3c2def3554654f2e7295e770a8ba079339ff8818bd2dcd9a6817f99c"
        );
        assert_eq!(fat_volume_id(&file_system(&part("esp", 0))), 0x462a_a6aa);
    }
}
