//! The table and the picture of a disk, against those that systemd-repart prints.

mod common;

use common::oracle::{in_oracle, version};
use common::{generate, planned, write_definitions};
use disk::Compat;
use disk::plan::{Style, pretty};

/// How many cases, and how wide their pictures are.
const CASES: u64 = 60;
const WIDTHS: [usize; 5] = [80, 79, 41, 120, 3];

#[test]
#[ignore = "oracle"]
fn tables_and_pictures_are_those_of_systemd_repart() {
    let (_, version) = version();
    let dir = tempfile::tempdir().unwrap();
    let mut script = String::from("export TMPDIR=/mnt; cd /mnt\n");
    let mut expected = Vec::new();
    for id in 0..CASES {
        let mut run = generate::case(id).runs.remove(0);
        (run.dry, run.sector) = (true, 512);
        // As large as the file is, which is made here.
        let size: u64 = run.size.parse().unwrap_or(80_000_000);
        run.size = size.next_multiple_of(4096).to_string();
        let compat = Compat { version, original_bugs: true };
        let Ok(plan) = planned(&run, dir.path(), compat) else { continue };
        if plan.warnings.iter().any(|w| w.contains("another is taken")) {
            continue;
        }
        let columns = WIDTHS[id as usize % WIDTHS.len()];
        let style = Style { legend: id % 3 != 0, utf8: id % 4 != 0, uuid: true };
        let shown = match id % 5 {
            0 => pretty(&plan.to_json()) + "\n",
            // That there is nothing is a message, not a table.
            _ if plan.partitions.is_empty() => format!("\n{}\n", plan.bar(columns, style)),
            _ => format!("{}\n{}\n", plan.to_text_as(style), plan.bar(columns, style)),
        };
        expected.push((id, shown));
        write_definitions(&dir.path().join(format!("d{id}")), &run.definitions);
        script += &format!(
            "mv d{id} d; truncate -s {} img.raw; SYSTEMD_UTF8={} COLUMNS={columns} \
             systemd-repart --offline=yes --empty=force --seed={} --definitions=/mnt/d {} {} \
             img.raw >out{id} 2>err{id}; rm -rf d img.raw\n",
            run.size,
            u8::from(style.utf8),
            run.seed,
            if style.legend { "" } else { "--no-legend" },
            if id % 5 == 0 { "--json=pretty" } else { "--pretty=yes" },
        );
    }
    assert!(expected.len() > 20, "only {} cases", expected.len());
    in_oracle(dir.path(), &script);
    let mut wrong = Vec::new();
    for (id, ours) in expected {
        let theirs = std::fs::read_to_string(dir.path().join(format!("out{id}"))).unwrap();
        let theirs = theirs.replace("\"/mnt/img", "\"img");
        if ours != theirs {
            wrong.push(format!("case {id}:\n{ours}\n--- theirs:\n{theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
