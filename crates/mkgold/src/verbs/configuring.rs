//! Verbs that need a configuration only: what it is, where it comes from, a new one.

use std::io::Write;
use std::path::Path;

use config::Reading;
use config::table::{self, SETTINGS};

use super::{Failure, Outcome, print, project, read};
use crate::arguments::Arguments;

/// A file of a template: its path in the project and its text.
type TemplateFile = (&'static str, &'static str);

/// What `init` can make: the examples. The boot ring builds each of them.
const TEMPLATES: [(&str, &[TemplateFile]); 3] = [
    ("minimal", &[("mkosi.conf", include_str!("../../../../examples/minimal/mkosi.conf"))]),
    (
        "server",
        &[
            ("mkosi.conf", include_str!("../../../../examples/server/mkosi.conf")),
            (
                "mkosi.extra/etc/ssh/sshd_config.d/10-appliance.conf",
                include_str!(
                    "../../../../examples/server/mkosi.extra/etc/ssh/sshd_config.d/10-appliance.conf"
                ),
            ),
        ],
    ),
    ("uki-only", &[("mkosi.conf", include_str!("../../../../examples/uki-only/mkosi.conf"))]),
];

/// `summary`.
pub fn summary(arguments: &Arguments) -> Outcome {
    let reading = read(arguments)?;
    if arguments.json {
        return print(&reading.to_json().to_string());
    }
    print(&reading.summary_text())
}

/// `cat-config`.
pub fn cat_config(arguments: &Arguments) -> Outcome {
    let reading = read(arguments)?;
    let mut text = String::new();
    let embedded = Path::new(config::embedded::DIRECTORY);
    for path in reading.files() {
        let content = match path.strip_prefix(embedded) {
            Ok(name) => config::embedded::files()
                .into_iter()
                .find(|(own, _)| Path::new(own) == name)
                .map(|(_, content)| content.to_owned())
                .expect("what was read of the embedded files is one of them"),
            Err(_) => std::fs::read_to_string(path)
                .map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))?,
        };
        text.push_str(&format!("# {}\n{content}\n", path.display()));
    }
    print(&text)
}

/// `why-setting NAME…`: each value with the place where it was written.
pub fn why_setting(arguments: &Arguments) -> Outcome {
    if arguments.rest.is_empty() {
        return Err(Failure::Usage("why-setting needs a setting's name, as Packages".into()));
    }
    let names: Result<Vec<_>, _> =
        arguments.rest.iter().map(|name| setting(&name.to_string_lossy())).collect();
    let names = names?;
    let reading = read(arguments)?;
    let answers: Vec<_> = names.iter().map(|name| answer(&reading, name)).collect();
    if arguments.json {
        let json: Vec<_> = answers.into_iter().map(|(json, _)| json).collect();
        return print(&serde_json::Value::from(json).to_string());
    }
    let text: String = answers.into_iter().map(|(_, text)| text).collect();
    print(&text)
}

/// The setting of this name, or of this option.
fn setting(name: &str) -> Result<&'static str, Failure> {
    let bare = name.trim_end_matches('=');
    if let Some((setting, _)) = table::find(bare) {
        return Ok(setting.name);
    }
    if let Some(setting) = config::cli::find(bare) {
        return Ok(setting.name);
    }
    let hint = config::diagnostic::did_you_mean(bare, SETTINGS.iter().map(|s| s.name));
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    Err(Failure::Usage(format!("{bare} is not a setting{hint}")))
}

fn answer(reading: &Reading, name: &'static str) -> (serde_json::Value, String) {
    let origins = reading.origins(name);
    let places = origins.iter().map(|(value, at)| {
        let place = match at.line {
            0 => at.file.display().to_string(),
            line => format!("{}:{line}:{}", at.file.display(), at.column),
        };
        serde_json::json!({ "Value": value, "Place": place, "Line": &*at.text })
    });
    let places: Vec<_> = places.collect();
    let mut text = format!("{name}={}\n", reading.shown(name));
    for place in &places {
        let part = |key: &str| place[key].as_str().unwrap_or_default().to_string();
        text.push_str(&format!("  {}  {}\n", part("Place"), part("Line").trim()));
    }
    if places.is_empty() {
        text.push_str("  not set: this is the default\n");
    }
    let json = serde_json::json!({
        "Setting": name, "Value": reading.shown(name), "Origins": places,
    });
    (json, text)
}

/// `dependencies`: there are none.
pub fn dependencies() -> Outcome {
    let _ = writeln!(
        anstream::stderr(),
        "mkgold needs no package of this machine: it brings the tools it needs"
    );
    Ok(())
}

/// `init [TEMPLATE]`: writes a new project, over nothing.
pub fn init(arguments: &Arguments) -> Outcome {
    let name = arguments.rest.first().map(|s| s.to_string_lossy().into_owned());
    let name = name.as_deref().unwrap_or("minimal");
    let Some((_, files)) = TEMPLATES.iter().find(|(own, _)| *own == name) else {
        let names: Vec<_> = TEMPLATES.iter().map(|(name, _)| *name).collect();
        let message = format!("{name} is not a template; there are {}", names.join(", "));
        return Err(Failure::Usage(message));
    };
    let project = project(arguments)?;
    for configured in ["mkosi.conf", "mkosi.conf.d", "mkosi"] {
        if std::fs::symlink_metadata(project.join(configured)).is_ok() {
            let message = format!("{configured} is there already: nothing was written");
            return Err(Failure::Usage(message));
        }
    }
    for (path, text) in *files {
        let path = project.join(path);
        write_new(&path, text).map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))?;
        print(&format!("wrote {}", path.display()))?;
    }
    Ok(())
}

/// A new file; one that is there stays.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::File::create_new(path)?.write_all(text.as_bytes())
}
