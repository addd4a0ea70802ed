//! Who signed this text: keyrings, clear-signed and detached signatures.
//!
//! Signatures are checked by sequoia-openpgp under its `StandardPolicy` as of a
//! time that the caller names: weak algorithms, expired or revoked keys and
//! signatures from the future do not count. On top of that a key that signed must
//! still be valid at that time, as gpgv demands, and `Signed-By:` fingerprints
//! restrict which keys count. Of a clear-signed file exactly the signed text comes
//! out: anything around it is an error (RFC 9580, 7).
//!
//! Not here: which keyring a source wants ([`crate::sources`]), and what the
//! signed text says ([`crate::release`]).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sequoia_openpgp as pgp;

use pgp::anyhow;
use pgp::cert::prelude::*;
use pgp::parse::Parse;
use pgp::parse::stream::{
    DetachedVerifierBuilder, GoodChecksum, MessageLayer, MessageStructure, VerificationError,
    VerificationHelper, VerifierBuilder,
};
use pgp::policy::StandardPolicy;
use pgp::types::RevocationStatus;

/// The largest keyring that is read.
pub const MAX_KEYRING: u64 = 16 << 20;
/// The most signatures that are looked at.
const MAX_SIGNATURES: usize = 32;
/// How far in the future a signature may be: apt's `Date-Max-Future`.
const SKEW: Duration = Duration::from_secs(10);
/// The certificates of Debian's archive; see `keys/README.md`.
const DEBIAN_ARCHIVE: &[u8] = include_bytes!("../keys/debian-archive.pgp");

/// Why a signature or a keyring is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum OpenPgpError {
    /// A keyring that cannot be read.
    #[error("cannot read the keyring {}: is the package with the archive's keys installed, or does Signed-By= name another file?", path.display())]
    KeyringFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Bytes that are no certificates.
    #[error("the keyring {name} holds no OpenPGP certificates that can be read: {reason}")]
    Keyring {
        /// The file, or "in Signed-By".
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// No keys at all.
    #[error("there are no keys to check the signature with: name a keyring in Signed-By=")]
    NoKeys,
    /// Not a clear-signed text, or text around one.
    #[error("not a clear-signed text: {0}")]
    Framing(&'static str),
    /// Nothing that OpenPGP can read.
    #[error("the signature cannot be read: {0}")]
    Malformed(String),
    /// None of the signatures counts.
    #[error("no valid signature by a key of the source's keyring: {}", .0.join("; "))]
    NotSigned(Vec<String>),
    /// A signature by a known key does not fit the text.
    #[error("wrong signature: {0}; the file was altered, or cut, on its way")]
    Wrong(String),
}

/// The certificates that a source trusts, maybe only some of their keys.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    certs: Vec<Cert>,
    /// Upper-case hexadecimal, maybe with `!` at the end: that key alone.
    only: Vec<String>,
}

/// A text whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was signed, nothing else.
    pub text: Vec<u8>,
    /// Fingerprints of the certificates that signed, sorted.
    pub signers: Vec<String>,
}

impl Trust {
    /// Trusts the keys of Debian's archive that are in the binary.
    pub fn debian_archive() -> Trust {
        let certs = parse_certs(DEBIAN_ARCHIVE).expect("the embedded keyring is read by a test");
        Trust { certs, only: Vec::new() }
    }

    /// Adds the certificates in `bytes`, binary or armored; `name` is for messages.
    pub fn add_bytes(&mut self, bytes: &[u8], name: &str) -> Result<(), OpenPgpError> {
        let bad = |reason: String| OpenPgpError::Keyring { name: name.to_owned(), reason };
        let certs = parse_certs(bytes).map_err(|e| bad(e.to_string()))?;
        if certs.is_empty() && !bytes.is_empty() {
            return Err(bad("no certificate in it".to_owned()));
        }
        self.certs.extend(certs);
        Ok(())
    }

    /// Adds a keyring file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), OpenPgpError> {
        let failed = |source| OpenPgpError::KeyringFile { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(MAX_KEYRING + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_KEYRING {
            let reason = format!("it is larger than {MAX_KEYRING} bytes");
            return Err(OpenPgpError::Keyring { name: path.display().to_string(), reason });
        }
        self.add_bytes(&bytes, &path.display().to_string())
    }

    /// Adds the `.gpg`, `.pgp` and `.asc` files of a directory, as apt reads
    /// `trusted.gpg.d`. A directory that is not there adds nothing.
    pub fn add_dir(&mut self, dir: &Path) -> Result<(), OpenPgpError> {
        let failed = |source| OpenPgpError::KeyringFile { path: dir.to_owned(), source };
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        };
        let mut paths = entries
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        paths.retain(|p| {
            let extension = p.extension().and_then(|e| e.to_str());
            matches!(extension, Some("gpg" | "pgp" | "asc")) && p.is_file()
        });
        paths.sort();
        paths.iter().try_for_each(|path| self.add_file(path))
    }

    /// Adds the certificates of another.
    pub fn add(&mut self, other: &Trust) {
        self.certs.extend(other.certs.iter().cloned());
    }

    /// Lets only these fingerprints count: of a certificate or one of its keys; with
    /// `!` at the end, of exactly the key that signed.
    pub fn only(&mut self, fingerprints: &[String]) {
        self.only.extend(fingerprints.iter().map(|f| f.to_ascii_uppercase()));
    }

    /// Whether no key is trusted.
    pub fn is_empty(&self) -> bool {
        self.certs.is_empty()
    }

    /// Fingerprints of the certificates.
    pub fn fingerprints(&self) -> Vec<String> {
        self.certs.iter().map(|c| c.fingerprint().to_hex()).collect()
    }

    fn counts(&self, certificate: &str, key: &str) -> bool {
        let matches = |only: &String| match only.strip_suffix('!') {
            Some(exact) => exact == key,
            None => only == certificate || only == key,
        };
        self.only.is_empty() || self.only.iter().any(matches)
    }
}

/// Reads a clear-signed text (`InRelease`): exactly what was signed comes out.
pub fn verify_clear_signed(
    bytes: &[u8],
    trust: &Trust,
    now: SystemTime,
) -> Result<Verified, OpenPgpError> {
    check_framing(bytes)?;
    let policy = StandardPolicy::at(now);
    let helper = Helper::new(trust, &policy, now)?;
    let malformed = |e: anyhow::Error| OpenPgpError::Malformed(e.to_string());
    let mut verifier = VerifierBuilder::from_bytes(bytes)
        .map_err(malformed)?
        .with_policy(&policy, now + SKEW, helper)
        .map_err(refused)?;
    let mut text = Vec::new();
    verifier.read_to_end(&mut text).map_err(|e| refused(e.into()))?;
    if !verifier.message_processed() {
        return Err(OpenPgpError::Malformed("the message does not end".to_owned()));
    }
    Ok(Verified { text, signers: verifier.into_helper().signers })
}

/// Checks a detached signature (`Release.gpg` for `Release`).
pub fn verify_detached(
    signature: &[u8],
    text: &[u8],
    trust: &Trust,
    now: SystemTime,
) -> Result<Verified, OpenPgpError> {
    let policy = StandardPolicy::at(now);
    let helper = Helper::new(trust, &policy, now)?;
    let mut verifier = DetachedVerifierBuilder::from_bytes(signature)
        .map_err(|e| OpenPgpError::Malformed(e.to_string()))?
        .with_policy(&policy, now + SKEW, helper)
        .map_err(refused)?;
    verifier.verify_bytes(text).map_err(refused)?;
    Ok(Verified { text: text.to_owned(), signers: verifier.into_helper().signers })
}

/// Our own error as the verifier handed it through, or what the parser said.
fn refused(error: anyhow::Error) -> OpenPgpError {
    match error.downcast::<std::io::Error>() {
        Ok(io) => match io.into_inner().map(|inner| inner.downcast::<OpenPgpError>()) {
            Some(Ok(own)) => *own,
            Some(Err(other)) => OpenPgpError::Malformed(other.to_string()),
            None => OpenPgpError::Malformed("it ends early".to_owned()),
        },
        Err(error) => match error.downcast::<OpenPgpError>() {
            Ok(own) => own,
            Err(error) => OpenPgpError::Malformed(error.to_string()),
        },
    }
}

/// One signed message, from the first byte to the last line, and nothing else.
fn check_framing(bytes: &[u8]) -> Result<(), OpenPgpError> {
    const BEGIN: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
    const SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
    const END: &[u8] = b"-----END PGP SIGNATURE-----";
    const ARMOR: [&[u8]; 3] = [BEGIN, SIGNATURE, END];
    if !bytes.starts_with(BEGIN) {
        return Err(OpenPgpError::Framing("it does not start as one"));
    }
    let (mut seen, mut headers) = (0, true);
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii_end();
        if headers && number > 0 {
            headers = !line.is_empty();
            if headers && !line.starts_with(b"Hash: ") {
                return Err(OpenPgpError::Framing("an unknown header before the text"));
            }
        }
        if seen == ARMOR.len() && !line.is_empty() {
            return Err(OpenPgpError::Framing("text after the signature"));
        }
        if line.starts_with(b"-----") {
            if ARMOR.get(seen) != Some(&line) {
                return Err(OpenPgpError::Framing("an armor line inside the text"));
            }
            seen += 1;
        }
    }
    if seen == ARMOR.len() { Ok(()) } else { Err(OpenPgpError::Framing("it ends early")) }
}

/// The certificates in `bytes`: binary, or any number of armored blocks.
fn parse_certs(bytes: &[u8]) -> pgp::Result<Vec<Cert>> {
    const BEGIN: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";
    let starts: Vec<_> = (0..bytes.len())
        .filter(|at| bytes[*at] == b'-' && bytes[*at..].starts_with(BEGIN))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let blocks: Vec<&[u8]> = match starts.is_empty() {
        true => vec![bytes],
        false => starts.iter().zip(ends).map(|(start, end)| &bytes[*start..end]).collect(),
    };
    let (mut certs, mut first_error) = (Vec::new(), None);
    for block in blocks {
        for cert in CertParser::from_bytes(block)? {
            // A key of a kind that is not supported signs nothing; the others count.
            match cert {
                Ok(cert) => certs.push(cert),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
    }
    match first_error {
        Some(error) if certs.is_empty() => Err(error),
        _ => Ok(certs),
    }
}

/// Decides, when the verifier has seen all signatures.
struct Helper<'a> {
    trust: &'a Trust,
    policy: &'a StandardPolicy<'a>,
    now: SystemTime,
    signers: Vec<String>,
}

impl<'a> Helper<'a> {
    fn new(
        trust: &'a Trust,
        policy: &'a StandardPolicy<'a>,
        now: SystemTime,
    ) -> Result<Self, OpenPgpError> {
        if trust.is_empty() {
            return Err(OpenPgpError::NoKeys);
        }
        Ok(Helper { trust, policy, now, signers: Vec::new() })
    }

    /// A key that signed must also be valid now: not expired, not revoked.
    fn check_now(&self, good: &GoodChecksum<'_>) -> Result<String, String> {
        let certificate = good.ka.cert().fingerprint();
        let key = good.ka.key().fingerprint();
        let why = |reason: &str| Err(format!("the key {key} {reason}"));
        if !self.trust.counts(&certificate.to_hex(), &key.to_hex()) {
            return why("is not one that Signed-By names");
        }
        let Ok(valid) = good.ka.cert().with_policy(self.policy, self.now) else {
            return why("belongs to a certificate that is not valid now");
        };
        let Some(ka) = valid.keys().find(|ka| ka.key().fingerprint() == key) else {
            return why("is not valid now");
        };
        if valid.alive().is_err() || ka.alive().is_err() {
            return why("has expired");
        }
        let revoked = |status| matches!(status, RevocationStatus::Revoked(_));
        if revoked(valid.revocation_status()) || revoked(ka.revocation_status()) {
            return why("was revoked");
        }
        Ok(certificate.to_hex())
    }
}

impl VerificationHelper for Helper<'_> {
    fn get_certs(&mut self, _: &[pgp::KeyHandle]) -> pgp::Result<Vec<Cert>> {
        Ok(self.trust.certs.clone())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> pgp::Result<()> {
        let mut reasons = Vec::new();
        for layer in structure {
            let MessageLayer::SignatureGroup { results } = layer else {
                return Err(OpenPgpError::Framing("compressed or encrypted").into());
            };
            if results.len() > MAX_SIGNATURES {
                return Err(OpenPgpError::Malformed("too many signatures".to_owned()).into());
            }
            for result in results {
                match result {
                    Ok(good) => match self.check_now(&good) {
                        Ok(signer) => self.signers.push(signer),
                        Err(reason) => reasons.push(reason),
                    },
                    Err(error) => reasons.push(explain(&error)?),
                }
            }
        }
        self.signers.sort();
        self.signers.dedup();
        if self.signers.is_empty() {
            return Err(OpenPgpError::NotSigned(reasons).into());
        }
        Ok(())
    }
}

/// Why a signature does not count. One by a known key that does not fit the text
/// ends it all: somebody altered the file.
fn explain(error: &VerificationError<'_>) -> Result<String, OpenPgpError> {
    Ok(match error {
        VerificationError::MissingKey { sig } => {
            let issuers: Vec<_> = sig.get_issuers().iter().map(|i| i.to_hex()).collect();
            format!("signed by the unknown key {}", issuers.join(" / "))
        }
        VerificationError::BadKey { ka, error, .. } => {
            format!("the key {}: {error}", ka.key().fingerprint())
        }
        VerificationError::UnboundKey { cert, error, .. } => {
            format!("the certificate {}: {error}", cert.fingerprint())
        }
        VerificationError::BadSignature { sig, ka, error } => {
            let key = ka.key().fingerprint();
            // The sum itself is checked before the policy; ask again which it was.
            if sig.verify_document(ka.key()).is_err() {
                return Err(OpenPgpError::Wrong(format!("by the key {key}")));
            }
            format!("the signature by the key {key}: {error}")
        }
        other => format!("a signature that cannot be used: {other}"),
    })
}

/// The text of a clear-signed file whose signature nobody asked to check
/// (`Trusted=yes`): between the headers and the signature, dashes unescaped.
pub fn text_unchecked(bytes: &[u8]) -> Result<Vec<u8>, OpenPgpError> {
    check_framing(bytes)?;
    let mut text = Vec::with_capacity(bytes.len());
    let mut lines = bytes.split_inclusive(|b| *b == b'\n');
    lines.by_ref().find(|line| line.trim_ascii_end().is_empty());
    for line in lines.take_while(|line| !line.starts_with(b"-----BEGIN PGP SIGNATURE-----")) {
        text.extend_from_slice(line.strip_prefix(b"- ").unwrap_or(line));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `keys/README.md`.
    #[test]
    fn the_embedded_keyring_is_the_one_documented() {
        use sha2::{Digest, Sha256};
        let readme = include_str!("../keys/README.md");
        assert!(readme.contains(&hex::encode(Sha256::digest(DEBIAN_ARCHIVE))));
        let trust = Trust::debian_archive();
        let found = trust.fingerprints();
        let documented: Vec<_> = readme
            .split_ascii_whitespace()
            .filter(|w| w.len() == 40 && w.bytes().all(|b| b.is_ascii_hexdigit()))
            .collect();
        assert_eq!(found.len(), 9);
        for fingerprint in documented.iter() {
            assert!(found.iter().any(|f| f == fingerprint), "{fingerprint}");
        }
        assert_eq!(documented.len(), found.len());
        // As of a time within the life of them all, each certificate can sign.
        let policy =
            StandardPolicy::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000));
        for cert in &trust.certs {
            let valid = cert.with_policy(&policy, None).unwrap();
            assert!(valid.alive().is_ok());
            assert!(valid.keys().alive().for_signing().next().is_some(), "{}", cert.fingerprint());
        }
    }

    const SIGNED: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\na\n- -b\n\
        -----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn only_one_whole_message_is_taken() {
        assert!(check_framing(SIGNED.as_bytes()).is_ok());
        assert!(check_framing(SIGNED.replace('\n', "\r\n").as_bytes()).is_ok());
        let cases = [
            (format!("\n{SIGNED}"), "does not start"),
            (format!("{SIGNED}x"), "after the signature"),
            (format!("{SIGNED}{SIGNED}"), "after the signature"),
            (SIGNED.replace("Hash: SHA512", "Hash: SHA512\nOrigin: evil"), "unknown header"),
            (SIGNED.replace("- -b", "-----BEGIN PGP MESSAGE-----"), "inside the text"),
            (SIGNED.replace("-----END PGP SIGNATURE-----\n", ""), "ends early"),
            (String::new(), "does not start"),
        ];
        for (text, says) in cases {
            let error = check_framing(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}: {text}");
        }
    }

    #[test]
    fn the_text_of_a_trusted_file_is_unescaped() {
        assert_eq!(text_unchecked(SIGNED.as_bytes()).unwrap(), b"a\n-b\n");
    }
}
