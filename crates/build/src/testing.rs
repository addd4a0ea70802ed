//! What unit tests of this crate share.

use config::Config;

/// The configuration of an empty project with these settings (`Name=value`).
pub fn config(settings: &[&str]) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let args = settings.iter().map(|a| a.split_once('=').unwrap());
    let args = args.map(|(name, value)| config::Argument::new(name, value)).collect();
    let request = config::Request { args };
    config::load(dir.path(), &request, &config::Facts::default()).unwrap().config
}
