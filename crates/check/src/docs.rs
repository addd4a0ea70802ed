//! The registry as a page, `docs/rules.md`, and one rule as a text for a terminal.

use std::fmt::Write;

use crate::{RULES, Rule};

/// The whole page.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Rules of `mkgold check`\n\n\
         Generated from the registry (`mkgold check --list=markdown`); do not edit. IDs are those \
         of the requirements of a golden image. An **error** means that the image is not golden, \
         a **warning** that it probably does not do what was wanted, a **notice** is worth \
         knowing.\n\n\
         | ID | severity | the golden state |\n|---|---|---|\n",
    );
    for rule in RULES.iter() {
        let _ = writeln!(
            page,
            "| [{}](#{}) | {} | {} |",
            rule.id(),
            anchor(*rule),
            rule.severity().name(),
            rule.title()
        );
    }
    for rule in RULES.iter() {
        let _ = write!(
            page,
            "\n## {}\n\n{} ({}).\n\n- Looks at: {}\n- Why: {}\n- How it is mended: {}\n",
            rule.id(),
            capital(rule.title()),
            rule.severity().name(),
            code(&rule.looks_at()),
            rule.why(),
            rule.mend()
        );
    }
    page
}

fn anchor(rule: &dyn Rule) -> String {
    rule.id().to_lowercase()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Patterns would be taken for emphasis.
fn code(text: &str) -> String {
    let marked = |word: &str| match word.contains('*') {
        true => {
            let bare = word.trim_end_matches(',');
            format!("`{bare}`{}", &word[bare.len()..])
        }
        false => word.to_owned(),
    };
    text.split(' ').map(marked).collect::<Vec<_>>().join(" ")
}

/// One rule for a person at a terminal.
pub fn explain(rule: &dyn Rule) -> String {
    format!(
        "{} ({}): {}\n\nLooks at: {}\n\nWhy: {}\n\nHow it is mended: {}\n",
        rule.id(),
        rule.severity().name(),
        rule.title(),
        rule.looks_at(),
        rule.why(),
        rule.mend()
    )
}
