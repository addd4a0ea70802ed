//! A report as SARIF 2.1.0 (OASIS), which code scanners and forges show.

use serde_json::{Value, json};

use crate::{Finding, Outcome, RULES, Report, Severity, Verdict, Volume};

/// The report about `image`, as one run.
pub fn report(report: &Report, image: &str, version: &str) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id(),
                "shortDescription": { "text": rule.title() },
                "fullDescription": { "text": rule.why() },
                "help": { "text": rule.mend() },
                "defaultConfiguration": { "level": level(rule.severity()) },
            })
        })
        .collect();
    let results: Vec<Value> = report.verdicts.iter().flat_map(|v| results(v, image)).collect();
    json!({
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{
            "tool": { "driver": { "name": "mkgold", "version": version, "rules": rules } },
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn results(verdict: &Verdict, image: &str) -> Vec<Value> {
    match &verdict.outcome {
        Outcome::Failed { findings } => {
            findings.iter().map(|finding| failed(verdict, finding, image)).collect()
        }
        Outcome::Unknown { reason } => vec![json!({
            "ruleId": verdict.id,
            "kind": "open",
            "level": "none",
            "message": { "text": format!("could not check: {reason}") },
        })],
        Outcome::Passed | Outcome::NotApplicable => Vec::new(),
    }
}

fn failed(verdict: &Verdict, finding: &Finding, image: &str) -> Value {
    let at = match finding.volume {
        Volume::Root => finding.path.to_string(),
        other => format!("{}:{}", other.name(), finding.path),
    };
    json!({
        "ruleId": verdict.id,
        "kind": "fail",
        "level": level(verdict.severity),
        "message": { "text": format!("{at} {}", finding.message) },
        "locations": [{
            "physicalLocation": { "artifactLocation": { "uri": uri(image) } },
            "logicalLocations": [{ "fullyQualifiedName": at }],
        }],
    })
}

/// What a URI does not take is written as `%XX`.
fn uri(path: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~/".contains(b);
    path.bytes()
        .map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
