//! Tables written here against sfdisk, and tables written by sfdisk read here; the
//! content of file systems against systemd-repart.

mod common;

use common::generate::Random;
use common::oracle::in_oracle;
use disk::gpt::{self, Entry, Name, Table, dump};
use disk::{Architecture, Guid, SectorSize, Sectors, TypeGuid};

const NAMES: [&str; 6] = ["", "plain", "a \"quoted\" $x `y` \\z", "Ünicode ✓", "tab\there", "😀"];

/// Anything that a table can hold.
fn table(r: &mut Random, size: SectorSize) -> Table {
    let mut guid = || {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&r.next().to_le_bytes());
        bytes[8..].copy_from_slice(&r.next().to_le_bytes());
        Guid::from_bytes(bytes)
    };
    let mut table = Table::new(guid(), Sectors(40_000), size).unwrap();
    let mut at = table.first_usable.0;
    for slot in [0, 1, 4, 20, 127] {
        let kinds = ["home", "root", "user-home", "esp", "0fc63daf-8483-4772-8e79-3d69d8477de5"];
        let kind = kinds[(slot % 5) as usize];
        let entry = Entry {
            kind: TypeGuid::parse(kind, Architecture::X8664).unwrap(),
            guid: guid(),
            first: Sectors(at),
            last: Sectors(at + 99 + u64::from(slot)),
            attributes: [0, 1 << 59, 7, 1 << 63 | 1 << 48 | 4, 1 << 60][(slot % 5) as usize],
            name: Name::new(NAMES[(slot % 6) as usize]).unwrap(),
            rest: Vec::new(),
        };
        at = entry.last.0 + 1 + u64::from(slot);
        table.entries.insert(slot, entry);
    }
    table
}

#[test]
#[ignore = "oracle"]
fn sfdisk_finds_nothing_wrong_and_prints_the_same() {
    let r = &mut Random::new(5);
    for size in SectorSize::ALL {
        let dir = tempfile::tempdir().unwrap();
        let table = table(r, size);
        let path = dir.path().join("img.raw");
        let mut file =
            std::fs::File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(40_000 * size.get()).unwrap();
        gpt::write(&mut file, &table).unwrap();
        let sfdisk = |what: &str| {
            let script = format!("cd /mnt; sfdisk --sector-size {} {what} img.raw", size.get());
            in_oracle(dir.path(), &script)
        };
        let verified = sfdisk("--verify");
        assert!(verified.contains("No errors detected."), "{verified}");
        assert_eq!(dump::text(&table, table.disk, "img.raw"), sfdisk("--dump"));
        let json = serde_json::to_string(&dump::json(&table, table.disk, "img.raw")).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(&sfdisk("--json")).unwrap();
        assert_eq!(json, serde_json::to_string(&theirs).unwrap());
    }
}

#[test]
#[ignore = "oracle"]
fn sfdisk_makes_the_same_table_of_our_dump_and_unusual_ones_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let scripts = [
        "label: gpt\ntable-length: 256\n,5M,home\n,,L,*\n",
        "label: gpt\ntable-length: 16\nfirst-lba: 40\nlast-lba: 30000\n,5M\n",
        "label: gpt\nlabel-id: 1D2CE291-7CCE-4F7D-BC83-FDB49AD74EBD\n\n\
         7 : start=4096, size=2048, name=\"x\", attrs=\"GUID:59,63\"\n",
    ];
    for script in scripts {
        std::fs::write(dir.path().join("script"), script).unwrap();
        let made = in_oracle(
            dir.path(),
            "cd /mnt; rm -f img.raw; truncate -s 20M img.raw; \
             sfdisk --quiet img.raw <script && sfdisk --dump img.raw",
        );
        let path = dir.path().join("img.raw");
        let mut file = std::fs::File::open(&path).unwrap();
        let found = gpt::read(&mut file, None).unwrap();
        assert_eq!(found.damage, [], "{script}");
        assert_eq!(dump::text(&found.table, found.disk, "img.raw"), made);
        std::fs::write(dir.path().join("script"), &made).unwrap();
        in_oracle(
            dir.path(),
            "cd /mnt; rm -f two.raw; truncate -s 20M two.raw; sfdisk --quiet two.raw <script",
        );
        let again = std::fs::read(dir.path().join("two.raw")).unwrap();
        let mut ours = std::io::Cursor::new(vec![0; 20 << 20]);
        gpt::write(&mut ours, &found.table).unwrap();
        assert!(ours.into_inner() == again, "byte for byte: {script}");
    }
}
