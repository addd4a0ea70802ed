//! Which image a setting belongs to, where `mkosi.images/` has more than one.
//!
//! mkosi(1), "Building multiple images", and what mkosi 27.1 does where it says less
//! (`Incremental=`, `Snapshot=`) or something else.

use super::{Section, Setting};

/// Which image a setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each image has its own.
    Image,
    /// What the main image has is the default of the others.
    Inherited,
    /// The main image decides for all.
    Universal,
    /// Only the main image has it.
    Main,
}

pub(super) const INHERITED: [&str; 12] = [
    "BuildKey",
    "CacheKey",
    "CacheOnly",
    "CompressLevel",
    "ImageId",
    "ImageVersion",
    "Profiles",
    "SectorSize",
    "SignExpectedPcrCertificate",
    "SignExpectedPcrCertificateSource",
    "SignExpectedPcrKey",
    "SignExpectedPcrKeySource",
];

pub(super) const UNIVERSAL: [&str; 43] = [
    "Architecture",
    "BuildDirectory",
    "BuildSources",
    "BuildSourcesEphemeral",
    "CacheDirectory",
    "Distribution",
    "ExtraSearchPaths",
    "Incremental",
    "LocalMirror",
    "MakeScriptsExecutable",
    "Mirror",
    "OutputDirectory",
    "OutputMode",
    "PackageCacheDirectory",
    "PackageDirectories",
    "ProxyClientCertificate",
    "ProxyClientKey",
    "ProxyExclude",
    "ProxyPeerCertificate",
    "ProxyUrl",
    "Release",
    "RepartOffline",
    "Repositories",
    "RepositoryKeyCheck",
    "RepositoryKeyFetch",
    "SandboxTrees",
    "SecureBootCertificate",
    "SecureBootCertificateSource",
    "SecureBootKey",
    "SecureBootKeySource",
    "Snapshot",
    "SourceDateEpoch",
    "ToolsTree",
    "ToolsTreeCertificates",
    "UseSubvolumes",
    "VerityCertificate",
    "VerityCertificateSource",
    "VerityKey",
    "VerityKeySource",
    "VolatilePackageDirectories",
    "WithNetwork",
    "WithTests",
    "WorkspaceDirectory",
];

pub(super) const MAIN: [&str; 17] = [
    "DelegateRanges",
    "ForeignUIDRange",
    "History",
    "InitrdPackages",
    "InitrdProfiles",
    "InitrdVolatilePackages",
    "MinimumVersion",
    "PassEnvironment",
    "ToolsTreeDistribution",
    "ToolsTreeMirror",
    "ToolsTreePackageDirectories",
    "ToolsTreePackages",
    "ToolsTreeProfiles",
    "ToolsTreeRelease",
    "ToolsTreeRepositories",
    "ToolsTreeSandboxTrees",
    "ToolsTreeSnapshot",
];

impl Setting {
    /// Which image it belongs to.
    pub fn scope(&self) -> Scope {
        if self.section == Section::Runtime || MAIN.contains(&self.name) {
            Scope::Main
        } else if UNIVERSAL.contains(&self.name) {
            Scope::Universal
        } else if INHERITED.contains(&self.name) {
            Scope::Inherited
        } else {
            Scope::Image
        }
    }
}
