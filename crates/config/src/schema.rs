//! A JSON schema of the settings, for editors and for those who generate
//! configuration. Its shape is sections of settings, as in the files.

use serde_json::{Map, Value, json};

use crate::cli;
use crate::table::{Kind, SETTINGS, Section, Setting, State};

/// The schema (draft 2020-12).
pub fn json_schema() -> Value {
    let mut sections = Map::new();
    for section in Section::ALL {
        let mut properties = Map::new();
        let refused =
            |s: &Setting| matches!(s.state, State::Refused([]) | State::Old(_) | State::Removed(_));
        for s in SETTINGS.iter().filter(|s| s.section == section && !refused(s)) {
            properties.insert(s.name.into(), setting(s));
        }
        let schema = json!({
            "type": "object", "properties": properties, "additionalProperties": false,
        });
        sections.insert(section.as_str().into(), schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mkgold configuration",
        "type": "object",
        "properties": sections,
        "additionalProperties": false,
    })
}

fn setting(s: &Setting) -> Value {
    let item = match s.kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Choice(_) => json!({ "enum": cli::values(s) }),
        Kind::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::SectorSize => json!({ "enum": [512, 1024, 2048, 4096] }),
        Kind::Size => json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?[KMG]?$" }),
        _ => json!({ "type": "string" }),
    };
    let mut schema = match s.is_list() {
        true => json!({ "type": "array", "items": item }),
        false => item,
    };
    let object = schema.as_object_mut().expect("each of them is an object");
    object.insert("description".into(), s.help.into());
    if !s.default.is_empty() && !s.is_list() {
        object.insert("default".into(), s.default.into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_what_works() {
        let schema = json_schema();
        let content = &schema["properties"]["Content"]["properties"];
        assert_eq!(content["Packages"]["type"], "array");
        assert_eq!(content["WithDocs"]["type"], "boolean");
        assert!(content.get("FirmwareFiles").is_none());
        let formats = &schema["properties"]["Output"]["properties"]["Format"]["enum"];
        assert!(formats.as_array().unwrap().contains(&json!("disk")));
    }
}
