//! Suites from a server: signatures, dates, replay, by-hash, the cache.

mod common;

use apt::archive::{Archive, IndexState, Mode, Settings};
use apt::fetch::FetchOptions;
use apt::keys::KeyRoots;
use apt::sources::{ByHash, Keyring, SignedBy, Source};
use apt::{Cache, PackageFile, Pins};
use common::server::Trick;
use common::{DAY, NOW, Repo, chain, clear_sign, key, options, settings, time};
use report::Silent;

const IN_RELEASE: &str = "/debian/dists/trixie/InRelease";

fn names(archive: &Archive, source: &Source, now: i64) -> Result<Vec<String>, String> {
    let loaded = archive.refresh(std::slice::from_ref(source), time(now), &Silent);
    let loaded = loaded.map_err(|e| chain(&e))?;
    let name = |(r, _): (&std::sync::Arc<debian::PackageRecord>, &_)| r.name.to_string();
    Ok(loaded[0].records().map(name).collect())
}

fn refused(archive: &Archive, source: &Source, now: i64, says: &str) {
    match names(archive, source, now) {
        Ok(names) => panic!("accepted: {names:?}; expected “{says}”"),
        Err(text) => {
            assert!(text.contains(says), "“{text}” does not say “{says}”");
            assert!(!text.contains("127.0.0.1"), "{text}");
        }
    }
}

#[test]
fn a_suite_is_loaded_and_its_packages_fetched() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let source = repo.source();
    let loaded = archive.refresh(std::slice::from_ref(&source), time(NOW), &Silent).unwrap();
    let paths: Vec<_> = repo.server.requests().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths.len(), 2);
    assert_eq!(paths[0], IN_RELEASE);
    assert!(paths[1].starts_with("/debian/dists/trixie/main/binary-amd64/by-hash/SHA256/"));
    let index = &loaded[0].indices[0];
    assert_eq!(index.origin.codename, "trixie");
    assert_eq!(index.origin.site, "127.0.0.1");
    let record = &index.records[0];
    assert_eq!(
        Pins::new(&debian::Architecture::new("amd64").unwrap()).priority(record, &[&index.origin]),
        500
    );
    let files: Vec<_> =
        index.records.iter().map(|r| PackageFile::of(r, &source).unwrap()).collect();
    let fetched = archive.fetch_packages(&files, &Silent).unwrap();
    assert_eq!(std::fs::read(&fetched[2]).unwrap(), repo.packages[2].bytes);
}

#[test]
fn an_index_is_fetched_and_parsed_once() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let first = names(&common::archive(dir.path()), &repo.source(), NOW).unwrap();
    repo.server.requests();
    let second = names(&common::archive(dir.path()), &repo.source(), NOW).unwrap();
    assert_eq!((first, repo.server.requests().len()), (second, 1));
    // A damaged record file is read again from the index.
    let records = common::files(&dir.path().join("records"));
    std::fs::write(&records[0], b"garbage").unwrap();
    assert_eq!(names(&common::archive(dir.path()), &repo.source(), NOW).unwrap(), ["a", "b", "c"]);
}

#[test]
fn offline_uses_what_was_seen_last_even_when_it_has_expired() {
    let mut repo = Repo::new();
    repo.fields += "Valid-Until: Sat, 10 Jan 2026 12:00:00 UTC\n";
    repo.publish();
    let dir = tempfile::tempdir().unwrap();
    let source = repo.source();
    refused(&common::offline(dir.path()), &source, NOW, "nothing of it is in the cache");
    names(&common::archive(dir.path()), &source, NOW).unwrap();
    repo.server.requests();
    let offline = common::offline(dir.path());
    assert_eq!(names(&offline, &source, NOW + 400 * DAY).unwrap(), ["a", "b", "c"]);
    assert_eq!(repo.server.requests().len(), 0);
}

#[test]
fn cached_metadata_is_not_renewed_but_packages_are_fetched() {
    let mut repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let cached = FetchOptions { cached_metadata: true, ..common::options() };
    let archive = Archive::new(Cache::open(dir.path()).unwrap(), cached, common::settings());
    let sources = [repo.source()];
    assert_eq!(names(&archive, &sources[0], NOW).unwrap(), ["a", "b", "c"]);
    repo.packages.pop();
    repo.date += 100;
    repo.publish();
    repo.server.requests();
    let loaded = archive.refresh(&sources, time(NOW), &Silent).unwrap();
    assert_eq!(repo.server.requests().len(), 0);
    let files: Vec<_> =
        loaded[0].records().map(|(r, _)| PackageFile::of(r, &sources[0]).unwrap()).collect();
    archive.fetch_packages(&files[..1], &Silent).unwrap();
    assert_eq!(repo.server.requests().len(), 1);
}

#[test]
fn a_recorded_state_is_loaded_again() {
    let mut repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let sources = [repo.source()];
    let old = archive.refresh(&sources, time(NOW), &Silent).unwrap();
    let state = IndexState::of(&old);
    repo.packages.pop();
    repo.date += 100;
    repo.publish();
    let new = archive.refresh(&sources, time(NOW), &Silent).unwrap();
    assert_eq!(new[0].records().count(), 2);
    assert_ne!(IndexState::of(&new), state);
    let again = archive.load(&sources, Mode::Recorded(&state), time(NOW), &Silent).unwrap();
    assert_eq!(again[0].records().count(), 3);
    assert_eq!(IndexState::of(&again), state);
    let unknown = IndexState::default();
    assert!(archive.load(&sources, Mode::Recorded(&unknown), time(NOW), &Silent).is_err());
}

#[test]
fn signatures_that_do_not_count() {
    let mut repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let (source, text) = (repo.source(), repo.release_text());
    let put = |bytes: Vec<u8>| repo.server.put(IN_RELEASE, bytes);
    let good = repo.server.get(IN_RELEASE);

    put(clear_sign(&key(None), &text, NOW - DAY));
    refused(&archive, &source, NOW, "unknown key");
    put(String::from_utf8(good.clone()).unwrap().replace("trixie", "trixi_").into_bytes());
    refused(&archive, &source, NOW, "wrong signature");
    let mut longer = good.clone();
    longer.extend_from_slice(b"SHA256:\n");
    put(longer);
    refused(&archive, &source, NOW, "text after the signature");
    put([b"Suite: evil\n", &good[..]].concat());
    refused(&archive, &source, NOW, "does not start as one");
    put(text.clone().into_bytes());
    refused(&archive, &source, NOW, "does not start as one");
    put(good[..good.len() - 200].to_vec());
    refused(&archive, &source, NOW, "ends early");
    put(clear_sign(&repo.cert, &text, NOW + DAY));
    refused(&archive, &source, NOW, "no valid signature");
    put(good);
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);

    repo.cert = key(Some(15));
    repo.publish();
    assert_eq!(names(&archive, &repo.source(), NOW + 4 * DAY).unwrap().len(), 3);
    refused(&archive, &repo.source(), NOW + 6 * DAY, "expired");
}

#[test]
fn a_revoked_key_does_not_count() {
    use sequoia_openpgp::Packet;
    use sequoia_openpgp::types::ReasonForRevocation;
    let mut repo = Repo::new();
    let primary = repo.cert.primary_key().key().clone().parts_into_secret().unwrap();
    let mut signer = primary.into_keypair().unwrap();
    let revocation = sequoia_openpgp::cert::CertRevocationBuilder::new()
        .set_signature_creation_time(time(NOW - DAY / 2))
        .unwrap()
        .set_reason_for_revocation(ReasonForRevocation::KeySuperseded, b"")
        .unwrap()
        .build(&mut signer, &repo.cert, None)
        .unwrap();
    let (revoked, _) = repo.cert.clone().insert_packets(Packet::from(revocation)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let mut source = repo.source();
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
    repo.cert = revoked;
    source.signed_by = repo.source().signed_by;
    refused(&archive, &source, NOW, "revoked");
}

#[test]
fn only_the_fingerprints_that_the_source_names_count() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let primary = repo.cert.fingerprint().to_hex();
    let subkey = repo.cert.keys().subkeys().next().unwrap().key().fingerprint().to_hex();
    let with = |fingerprint: &str| {
        let mut source = repo.source();
        source.signed_by.fingerprints = vec![fingerprint.to_owned()];
        source
    };
    for good in [primary.clone(), subkey.clone(), format!("{subkey}!")] {
        assert_eq!(names(&archive, &with(&good), NOW).unwrap().len(), 3, "{good}");
    }
    let other = "0123456789ABCDEF0123456789ABCDEF01234567";
    for bad in [format!("{primary}!"), other.to_owned()] {
        refused(&archive, &with(&bad), NOW, "not one that Signed-By names");
    }
}

#[test]
fn keyrings_are_found_in_roots() {
    use sequoia_openpgp::serialize::SerializeInto;
    let repo = Repo::new();
    let root = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let roots = vec!["/nonexistent".into(), root.path().to_owned()];
    let keys = KeyRoots { roots, debian_by_default: false };
    let archive =
        Archive::new(Cache::open(dir.path()).unwrap(), options(), Settings { keys, ..settings() });
    let mut source = repo.source();
    source.signed_by = SignedBy::default();
    refused(&archive, &source, NOW, "no keys to check");
    let trusted = root.path().join("etc/apt/trusted.gpg.d");
    std::fs::create_dir_all(&trusted).unwrap();
    std::fs::write(trusted.join("x.asc"), common::armored(&repo.cert)).unwrap();
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
    std::fs::remove_file(trusted.join("x.asc")).unwrap();
    let path = std::path::PathBuf::from("/usr/share/keyrings/x.gpg");
    source.signed_by.keyrings = vec![Keyring::File(path.clone())];
    refused(&archive, &source, NOW, "cannot read the keyring /usr/share/keyrings/x.gpg");
    let inside = root.path().join("usr/share/keyrings");
    std::fs::create_dir_all(&inside).unwrap();
    let binary = repo.cert.clone().strip_secret_key_material().to_vec().unwrap();
    std::fs::write(inside.join("x.gpg"), binary).unwrap();
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
    std::fs::write(inside.join("x.gpg"), b"garbage").unwrap();
    refused(&archive, &source, NOW, "no OpenPGP certificates");
}

#[test]
fn expired_future_replayed_and_wrong_suites_are_refused() {
    let mut repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let mut source = repo.source();
    let old = repo.server.get(IN_RELEASE);
    repo.date += 3600;
    repo.fields += "Valid-Until: Sun, 11 Jan 2026 00:00:00 UTC\n";
    repo.publish();
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
    refused(&archive, &source, NOW + 2 * DAY, "expired on 2026-01-11 00:00:00 UTC");
    source.check_valid_until = false;
    assert_eq!(names(&archive, &source, NOW + 2 * DAY).unwrap().len(), 3);
    source.check_valid_until = true;
    refused(&archive, &source, NOW - 2 * DAY, "no valid signature");
    // The older file is still signed and valid: only the memory tells.
    let new = repo.server.get(IN_RELEASE);
    repo.server.put(IN_RELEASE, old.clone());
    refused(&archive, &source, NOW, "an old state is replayed");
    repo.server.put(IN_RELEASE, new);
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
    source.suite = "bookworm".to_owned();
    repo.server.put("/debian/dists/bookworm/InRelease", old);
    refused(&archive, &source, NOW, "not of “bookworm” that was asked for");
}

#[test]
fn release_and_its_detached_signature_serve_too() {
    let mut repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    repo.publish_detached();
    let source = repo.source();
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
    assert_eq!(names(&common::offline(dir.path()), &source, NOW).unwrap().len(), 3);
    repo.put("Release", repo.release_text().replace("stable", "staple").into_bytes());
    refused(&archive, &source, NOW, "wrong signature");
    repo.server.remove("/debian/dists/trixie/Release.gpg");
    refused(&archive, &source, NOW, "not signed");
    repo.server.remove("/debian/dists/trixie/Release");
    refused(&archive, &source, NOW, "no InRelease and no Release");
    repo.date += 1;
    repo.publish();
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
}

#[test]
fn an_archive_of_ones_own_may_be_unsigned() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let mut source = repo.source();
    source.signed_by = SignedBy::default();
    refused(&archive, &source, NOW, "no keys");
    source.trusted = Some(true);
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
    repo.publish_detached();
    repo.server.remove("/debian/dists/trixie/Release.gpg");
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
    source.trusted = None;
    let unchecked = Settings { check_signatures: false, ..settings() };
    let archive = Archive::new(Cache::open(dir.path()).unwrap(), options(), unchecked);
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
}

#[test]
fn indices_that_do_not_fit_the_release_are_refused_and_fetched_again() {
    let mut repo = Repo::new();
    repo.by_hash = false;
    repo.publish();
    let dir = tempfile::tempdir().unwrap();
    let archive = common::archive(dir.path());
    let source = repo.source();
    let path = "/debian/dists/trixie/main/binary-amd64/Packages.gz";
    let good = repo.server.get(path);
    let mut bad = good.clone();
    bad[20] ^= 1;
    repo.server.put(path, bad);
    refused(&archive, &source, NOW, "wrong hash");
    repo.server.put(path, [&good[..], b"x"].concat());
    refused(&archive, &source, NOW, "wrong size");
    repo.server.put(path, good[..good.len() - 1].to_vec());
    refused(&archive, &source, NOW, "wrong size");
    repo.server.put(path, good);
    for (trick, says) in [
        (Trick::Truncate(50), "broke off"),
        (Trick::Redirect(path.to_owned()), "redirected more than"),
        (Trick::Endless, "wrong size"),
    ] {
        repo.server.trick(path, trick, usize::MAX);
        refused(&archive, &source, NOW, says);
        repo.server.behave();
    }
    assert_eq!(names(&archive, &source, NOW).unwrap().len(), 3);
}

#[test]
fn the_forms_and_places_of_an_index_are_tried_in_turn() {
    let repo = Repo::new();
    let source = repo.source();
    let base = "/debian/dists/trixie/main/binary-amd64";
    let plain = repo.packages_text().into_bytes();
    let gz = repo.server.get(&format!("{base}/Packages.gz"));
    repo.server.remove_below(base);
    repo.server.put(&format!("{base}/Packages.gz"), gz);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(names(&common::archive(dir.path()), &source, NOW).unwrap().len(), 3);
    let dir = tempfile::tempdir().unwrap();
    let forced = Source { by_hash: ByHash::Force, ..source.clone() };
    refused(&common::archive(dir.path()), &forced, NOW, "not found on the mirror");
    repo.server.remove_below(base);
    repo.server.put(&format!("{base}/Packages"), plain);
    assert_eq!(names(&common::archive(dir.path()), &source, NOW).unwrap().len(), 3);
    let dir = tempfile::tempdir().unwrap();
    repo.server.remove_below(base);
    refused(&common::archive(dir.path()), &source, NOW, "not found on the mirror");
}

#[test]
fn what_the_suite_lacks_is_an_error_or_a_warning() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    let mut source = repo.source();
    source.components = vec!["mian".to_owned()];
    refused(&common::archive(dir.path()), &source, NOW, "“mian” (it has: main)");
    let architectures = vec!["amd64".to_owned(), "i386".to_owned()];
    let archive = Archive::new(
        Cache::open(dir.path()).unwrap(),
        options(),
        Settings { architectures, ..settings() },
    );
    let recorder = report::Recorder::default();
    let twice = [repo.source(), repo.source()];
    let loaded = archive.refresh(&twice, time(NOW), &recorder).unwrap();
    assert_eq!(loaded.iter().map(|s| s.records().count()).sum::<usize>(), 3);
    let warnings = recorder.warnings().join("\n");
    assert!(warnings.contains("/debian trixie has no packages for the architecture i386"));
    assert!(warnings.contains("configured twice"), "{warnings}");
}

#[test]
fn an_endless_release_file_is_cut_off() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    repo.server.trick(IN_RELEASE, Trick::Endless, usize::MAX);
    refused(&common::archive(dir.path()), &repo.source(), NOW, "larger than the limit");
}

#[test]
fn many_refresh_one_cache_at_once() {
    let repo = Repo::new();
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let archive = common::archive(dir.path());
                assert_eq!(names(&archive, &repo.source(), NOW).unwrap().len(), 3);
            });
        }
    });
    assert_eq!(common::files(&dir.path().join("tmp")).len(), 0);
    assert_eq!(common::files(&dir.path().join("partial")).len(), 0);
}
