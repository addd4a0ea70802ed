//! What is in the image, for machines: mkosi's manifest, SPDX, CycloneDX (M4).
//!
//! Formats: mkosi's `ManifestFormat=json`; SPDX 2.3 JSON; CycloneDX 1.6 JSON.
//! Everything is derived from the image and the lock, so the bytes do not vary.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A package in the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// Its full version.
    pub version: String,
    /// Its Debian architecture.
    pub architecture: String,
    /// The source package.
    pub source: String,
    /// SHA-256 of its .deb in hexadecimal, where it is known.
    pub sha256: Option<String>,
}

/// What the image is.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Name of the output, without suffix.
    pub name: String,
    /// `ImageVersion=`.
    pub version: Option<String>,
    /// `debian`.
    pub distribution: String,
    /// `trixie`.
    pub release: String,
    /// mkosi's name of the architecture.
    pub architecture: String,
    /// The time everything in the image is dated with, in seconds since 1970.
    pub epoch: i64,
    /// In name order.
    pub packages: Vec<Installed>,
}

/// mkosi's manifest.
pub fn mkosi(subject: &Subject) -> String {
    let mut config = json!({
        "name": subject.name,
        "distribution": subject.distribution,
        "architecture": subject.architecture,
    });
    if let Some(version) = &subject.version {
        config["version"] = json!(version);
    }
    config["release"] = json!(subject.release);
    let package = |p: &Installed| {
        json!({ "type": "deb", "name": p.name, "version": p.version,
                "architecture": p.architecture })
    };
    let packages: Vec<Value> = subject.packages.iter().map(package).collect();
    pretty(&json!({ "manifest_version": 1, "config": config, "packages": packages }))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value serialises") + "\n"
}

/// A package URL (purl-spec, type `deb`).
fn purl(subject: &Subject, p: &Installed) -> String {
    let escape = |s: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_~".contains(c);
        let byte = |b: u8| match plain(b as char) {
            true => (b as char).to_string(),
            false => format!("%{b:02X}"),
        };
        s.bytes().map(byte).collect::<String>()
    };
    format!(
        "pkg:deb/{}/{}@{}?arch={}&distro={}",
        subject.distribution,
        escape(&p.name),
        escape(&p.version),
        p.architecture,
        escape(&subject.release),
    )
}

/// A UUID (version 8: our own) from everything that the document says.
fn document_id(subject: &Subject) -> String {
    let mut hasher = Sha256::new();
    for text in [&subject.name, &subject.distribution, &subject.release, &subject.architecture] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.update(subject.epoch.to_le_bytes());
    for p in &subject.packages {
        hasher.update(format!("{} {} {}\n", p.name, p.version, p.architecture));
    }
    let mut id: [u8; 16] = hasher.finalize()[..16].try_into().expect("16 of 32 bytes");
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// `2026-01-31T12:00:00Z`.
fn timestamp(epoch: i64) -> String {
    jiff::Timestamp::from_second(epoch).unwrap_or_default().strftime("%FT%TZ").to_string()
}

/// An SPDX 2.3 document.
pub fn spdx(subject: &Subject) -> String {
    let id = |p: &Installed| {
        let ok = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' };
        let name: String = format!("{}-{}", p.name, p.architecture).chars().map(ok).collect();
        format!("SPDXRef-Package-{name}")
    };
    let package = |p: &Installed| {
        let mut package = json!({
            "SPDXID": id(p),
            "name": p.name,
            "versionInfo": p.version,
            "supplier": format!("Organization: {}", subject.distribution),
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "sourceInfo": format!("built from the source package {}", p.source),
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl(subject, p),
            }],
        });
        if let Some(sha256) = &p.sha256 {
            package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]);
        }
        package
    };
    let image = json!({
        "SPDXID": "SPDXRef-Image",
        "name": subject.name,
        "versionInfo": subject.version.clone().unwrap_or_else(|| subject.release.clone()),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    });
    let contains = |p: &Installed| {
        json!({ "spdxElementId": "SPDXRef-Image", "relationshipType": "CONTAINS",
                "relatedSpdxElement": id(p) })
    };
    let describes = json!({ "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                            "relatedSpdxElement": "SPDXRef-Image" });
    let packages: Vec<_> =
        std::iter::once(image).chain(subject.packages.iter().map(package)).collect();
    let relationships: Vec<_> =
        std::iter::once(describes).chain(subject.packages.iter().map(contains)).collect();
    pretty(&json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": subject.name,
        "documentNamespace": format!("urn:uuid:{}", document_id(subject)),
        "creationInfo": {
            "created": timestamp(subject.epoch),
            "creators": [format!("Tool: mkgold-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relationships,
    }))
}

/// A CycloneDX 1.6 document.
pub fn cyclonedx(subject: &Subject) -> String {
    let component = |p: &Installed| {
        let purl = purl(subject, p);
        let mut component = json!({
            "type": "library",
            "bom-ref": purl,
            "name": p.name,
            "version": p.version,
            "purl": purl,
        });
        if let Some(sha256) = &p.sha256 {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        }
        component
    };
    let mut image = json!({ "type": "operating-system", "bom-ref": "image", "name": subject.name });
    if let Some(version) = &subject.version {
        image["version"] = json!(version);
    }
    let components: Vec<Value> = subject.packages.iter().map(component).collect();
    pretty(&json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", document_id(subject)),
        "version": 1,
        "metadata": {
            "timestamp": timestamp(subject.epoch),
            "tools": { "components": [
                { "type": "application", "name": "mkgold", "version": env!("CARGO_PKG_VERSION") }
            ] },
            "component": image,
        },
        "components": components,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        let package = |name: &str, version: &str| Installed {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: name.into(),
            sha256: Some("ab".repeat(32)),
        };
        Subject {
            name: "image".into(),
            version: None,
            distribution: "debian".into(),
            release: "trixie".into(),
            architecture: "x86-64".into(),
            epoch: 86400,
            packages: vec![package("bash", "5.2-1+b1"), package("libstdc++6", "1:14~x")],
        }
    }

    // The text is what mkosi 25.3 writes for such an image.
    #[test]
    fn the_manifest_is_mkosis() {
        let expected = r#"{
  "manifest_version": 1,
  "config": {
    "name": "image",
    "distribution": "debian",
    "architecture": "x86-64",
    "release": "trixie"
  },
  "packages": [
    {
      "type": "deb",
      "name": "bash",
      "version": "5.2-1+b1",
      "architecture": "amd64"
    },
    {
      "type": "deb",
      "name": "libstdc++6",
      "version": "1:14~x",
      "architecture": "amd64"
    }
  ]
}
"#;
        assert_eq!(mkosi(&subject()), expected);
    }

    #[test]
    fn package_urls_are_escaped() {
        let subject = subject();
        let url = purl(&subject, &subject.packages[1]);
        assert_eq!(url, "pkg:deb/debian/libstdc%2B%2B6@1%3A14~x?arch=amd64&distro=trixie");
    }

    #[test]
    fn boms_name_every_package_once_and_do_not_vary() {
        let subject = subject();
        for make in [spdx, cyclonedx] {
            let text = make(&subject);
            assert_eq!(text, make(&subject));
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value.to_string().contains("1970-01-02T00:00:00Z"));
        }
        let spdx: Value = serde_json::from_str(&spdx(&subject)).unwrap();
        assert_eq!(spdx["packages"].as_array().unwrap().len(), 3);
        assert_eq!(spdx["relationships"].as_array().unwrap().len(), 3);
    }
}
