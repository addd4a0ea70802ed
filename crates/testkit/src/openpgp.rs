//! Keys and signatures of archives that tests make.

use std::io::Write;
use std::time::{Duration, SystemTime};

use sequoia_openpgp as pgp;
use sequoia_openpgp::cert::prelude::*;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::serialize::stream::{Armorer, Message, Signer};

/// A key pair made at `created`, good for so many days.
pub fn key(created: SystemTime, valid_days: Option<u64>) -> Cert {
    let validity = valid_days.map(|days| Duration::from_secs(days * 86_400));
    let (cert, _) = CertBuilder::new()
        .add_userid("Archive <archive@example.org>")
        .set_creation_time(created)
        .set_validity_period(validity)
        .add_signing_subkey()
        .generate()
        .expect("a key can be made");
    cert
}

/// Its public half as text.
pub fn armored(cert: &Cert) -> String {
    let bytes = cert.armored().to_vec().expect("a certificate is written");
    String::from_utf8(bytes).expect("armor is ASCII")
}

fn signing_key(cert: &Cert, at: SystemTime) -> pgp::crypto::KeyPair {
    let policy = StandardPolicy::at(at);
    let valid = cert.with_policy(&policy, at).expect("the certificate is valid then");
    let key = valid.keys().secret().for_signing().next().expect("a signing key");
    key.key().clone().into_keypair().expect("the key has its secret half")
}

fn write(mut message: Message<'_>, text: &str) {
    message.write_all(text.as_bytes()).expect("memory takes it");
    message.finalize().expect("memory takes it");
}

/// The text with its signature around it, as `InRelease` has it.
pub fn clear_sign(cert: &Cert, text: &str, at: SystemTime) -> Vec<u8> {
    let mut out = Vec::new();
    let signer = Signer::new(Message::new(&mut out), signing_key(cert, at)).expect("a signer");
    write(signer.cleartext().creation_time(at).build().expect("a message"), text);
    out
}

/// The signature alone, as `Release.gpg` has it.
pub fn detach_sign(cert: &Cert, text: &str, at: SystemTime) -> Vec<u8> {
    let mut out = Vec::new();
    let armor = Armorer::new(Message::new(&mut out)).kind(pgp::armor::Kind::Signature);
    let armor = armor.build().expect("armor");
    let signer = Signer::new(armor, signing_key(cert, at)).expect("a signer");
    write(signer.detached().creation_time(at).build().expect("a message"), text);
    out
}
