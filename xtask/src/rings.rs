//! The rings of the test suite, from quick to slow.

use std::path::PathBuf;

use crate::run::{cargo, command, root, run};

/// The release that the oracle root is made of.
const ORACLE_PROJECT: &str = "tests/oracle";
/// The version of cargo-deny that is known to work with `deny.toml`.
const CARGO_DENY: &str = "0.20.2";

/// What CI runs, in the order in which failures are cheap.
pub fn all() -> Result<(), String> {
    lint()?;
    quick()?;
    oracles()?;
    oracle()?;
    boot()
}

/// Formatting, what is said of tests, lints, licences.
pub fn lint() -> Result<(), String> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    crate::parity::check()?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-Dwarnings"]))?;
    deny()
}

/// Licences, sources, duplicates. The advisory database lies outside of the
/// package registries, so it is asked for only where it can be had.
fn deny() -> Result<(), String> {
    let installed =
        command("cargo-deny", &["--version"]).output().is_ok_and(|o| o.status.success());
    if !installed {
        run(&mut cargo(&[
            "install",
            "--locked",
            "--quiet",
            "cargo-deny",
            "--version",
            CARGO_DENY,
        ]))?;
    }
    run(&mut cargo(&["deny", "--log-level", "error", "check", "licenses", "bans", "sources"]))
}

/// Unit, table and property tests: no network, no root, no tool.
pub fn quick() -> Result<(), String> {
    run(&mut cargo(&["test", "--workspace", "--quiet"]))
}

fn oracle_root() -> PathBuf {
    root().join("target/oracle/output/oracle")
}

fn mkgold() -> Result<PathBuf, String> {
    run(&mut cargo(&["build", "--release", "--quiet", "--package", "mkgold"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| root().join("target"));
    let host = host_triple()?;
    Ok(target.join(host).join("release/mkgold"))
}

pub fn host_triple() -> Result<String, String> {
    let output = command("rustc", &["-vV"]).output().map_err(|e| format!("rustc -vV: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|l| l.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".into())
}

/// Builds the root file system with the original tools, by mkgold itself: it
/// works without root and needs nothing but the host's apt sources.
pub fn oracles() -> Result<(), String> {
    let mkgold = mkgold()?;
    let output = root().join("target/oracle");
    let project = root().join(ORACLE_PROJECT);
    let mut build = command(mkgold.to_str().ok_or("path is not UTF-8")?, &[]);
    build.arg("-C").arg(&project);
    build.arg("--output-directory").arg(output.join("output"));
    build.arg("--cache-directory").arg(output.join("cache"));
    build.args(["--force", "build"]);
    run(&mut build)?;
    // Its apt fetches packages to compare with.
    let resolver = oracle_root().join("etc/resolv.conf");
    std::fs::copy("/etc/resolv.conf", &resolver)
        .map_err(|e| format!("copying /etc/resolv.conf to {}: {e}", resolver.display()))?;
    println!("MKGOLD_ORACLE={}", oracle_root().display());
    Ok(())
}

/// Comparisons with the original tools: what CI has the time for.
pub fn oracle() -> Result<(), String> {
    compare("oracle_*", &[])
}

/// The rest of the comparisons. Optimised, for they take longer than that takes to
/// compile; with what they print, for the figures of docs/oracles.md.
pub fn oracle_long() -> Result<(), String> {
    compare("long_*", &["--release"])
}

/// Every ignored test of the files of this name. With the profile and the features of
/// [`quick`], so that CI compiles them once.
fn compare(files: &str, profile: &[&str]) -> Result<(), String> {
    let mkgold = mkgold()?;
    let mut test = cargo(&["test", "--workspace", "--quiet", "--no-fail-fast", "--test", files]);
    test.args(profile).args(["--", "--ignored"]);
    if !profile.is_empty() {
        test.arg("--nocapture");
    }
    run(test.env("MKGOLD_ORACLE", oracle_root()).env("MKGOLD_BINARY", mkgold))
}

/// Builds real images and boots them.
pub fn boot() -> Result<(), String> {
    let mkgold = mkgold()?;
    let mut test = cargo(&["test", "--package", "mkgold", "--release"]);
    test.args(["--test", "boot", "--test", "golden", "--test", "hostile"]);
    test.args(["--", "--ignored", "--nocapture", "--test-threads=1"]);
    run(test.env("MKGOLD_ORACLE", oracle_root()).env("MKGOLD_BINARY", mkgold))
}

/// What is too long for CI: every way to build, and everything that goes wrong. Prints
/// the figures of docs/campaigns.md. As root it covers more.
pub fn campaign() -> Result<(), String> {
    let mkgold = mkgold()?;
    let mut test = cargo(&["test", "--package", "mkgold", "--release"]);
    test.args(["--test", "privileges", "--test", "campaign"]);
    test.args(["--", "--ignored", "--nocapture", "--test-threads=1"]);
    run(test.env("MKGOLD_BINARY", mkgold))
}
