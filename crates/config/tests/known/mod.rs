pub fn for_version(_version: &str) -> Vec<crate::common::Known> {
    Vec::new()
}
