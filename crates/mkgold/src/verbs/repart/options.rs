//! systemd-repart's command line.
//!
//! Every option of systemd-repart(8) is known: what is not supported is refused by its
//! name. Options may be abbreviated and the last of several counts, as there.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use disk::plan::{Defer, Size};
use disk::repart::Empty;
use disk::{Architecture, Bytes, SectorSize, TypeGuid, Version};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub device: Option<String>,
    pub dry_run: bool,
    pub empty: Empty,
    pub discard: bool,
    pub sector_size: Option<SectorSize>,
    pub grain: Option<Bytes>,
    pub architecture: Option<Architecture>,
    pub size: Option<Size>,
    pub seed: Option<String>,
    pub pretty: Option<bool>,
    pub json: Json,
    pub legend: bool,
    pub factory_reset: bool,
    pub can_factory_reset: bool,
    pub root: Option<PathBuf>,
    pub definitions: Vec<PathBuf>,
    pub include: Option<Vec<TypeGuid>>,
    pub exclude: Option<Vec<TypeGuid>>,
    pub defer: Defer,
    pub copy_source: Option<PathBuf>,
    pub version: Version,
    pub preview: Option<Vec<Bytes>>,
    pub preview_picture: Option<PathBuf>,
    pub image: Option<PathBuf>,
    pub split: bool,
    pub cow: bool,
    pub fstab: Option<PathBuf>,
    pub append_fstab: Option<AppendFstab>,
    pub crypttab: Option<PathBuf>,
    pub list_devices: bool,
}

/// `--append-fstab=`: what becomes of an fstab that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFstab {
    /// It is an error.
    No,
    /// It is replaced.
    Replace,
    /// Its generated section is.
    Auto,
}

/// `--json=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Json {
    #[default]
    Off,
    Short,
    Pretty,
}

/// Name, what its value is called, and what it does.
type Spec = (&'static str, &'static str, &'static str);

const SUPPORTED: &[Spec] = &[
    (
        "dry-run",
        "BOOL",
        "Say what would be done, do nothing (default: yes; no with --empty=create)",
    ),
    (
        "empty",
        "MODE",
        "What to do without a partition table: refuse (default), allow, require, force, create",
    ),
    ("offline", "BOOL", "Has no effect: nothing is mounted, and loop devices are not used"),
    (
        "discard",
        "BOOL",
        "Give the space of new partitions back to the file system below (default: yes)",
    ),
    ("sector-size", "BYTES", "The size of logical sectors, 512 to 4096"),
    ("grain-size", "BYTES", "What partitions are aligned to (default: 4096)"),
    ("architecture", "ARCH", "The architecture of partition types"),
    ("size", "BYTES", "Make the image file as large as this, or \"auto\": as large as needed"),
    (
        "seed",
        "UUID",
        "What identifiers derive from; \"random\"; default: the machine ID of the root",
    ),
    ("pretty", "BOOL", "Show the table and a picture of it before anything is done (default: yes)"),
    ("json", "MODE", "The table as JSON: pretty, short or off"),
    ("factory-reset", "BOOL", "First remove the partitions with FactoryReset=yes"),
    ("root", "DIR", "Where definitions, os-release and the files to copy are"),
    ("definitions", "DIR", "Where definitions are; may be given several times"),
    ("include-partitions", "TYPES", "Only definitions of these types count"),
    ("exclude-partitions", "TYPES", "Definitions of these types do not count"),
    (
        "defer-partitions",
        "TYPES",
        "Leave room for partitions of these types, but do not make them yet",
    ),
    ("defer-partitions-empty", "BOOL", "The same for partitions that are called _empty"),
    ("defer-partitions-factory-reset", "BOOL", "The same for partitions with FactoryReset=yes"),
    ("copy-source", "DIR", "Where the files to copy are"),
    ("image", "FILE", "As --root=, of what is in this image, and the default for IMAGE"),
    ("image-policy", "POLICY", "With --image=: \"*\" only, all of its partitions are used"),
    ("cow", "BOOL", "no: have the file system write a new image in place (btrfs)"),
    ("split", "BOOL", "Also copy each partition to a file of its own, IMAGE.SPLITNAME.raw"),
    ("generate-fstab", "PATH", "Write an fstab for MountPoint= to here, below what is copied from"),
    (
        "append-fstab",
        "MODE",
        "If there is an fstab: no (default): fail, replace, or auto: update it",
    ),
    ("generate-crypttab", "PATH", "Write a crypttab for EncryptedVolume= to here, like the fstab"),
    (
        "preview",
        "SIZES",
        "Only show what the first boot of the image makes of disks of these sizes, such as 4G,64G,2T",
    ),
    ("preview-picture", "FILE", "With --preview: also draw it, as SVG"),
    (
        "systemd",
        "VERSION",
        "Decide as this version of systemd does: 262 (default) or 257 (not systemd-repart's)",
    ),
];

/// Options that are refused, with what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("private-key", "partitions with Verity= cannot be made yet"),
    ("private-key-source", "partitions with Verity= cannot be made yet"),
    ("certificate", "partitions with Verity= cannot be made yet"),
    ("certificate-source", "partitions with Verity= cannot be made yet"),
    ("join-signature", "partitions with Verity= cannot be made yet"),
    ("key-file", "partitions with Encrypt= cannot be made yet"),
    ("tpm2-device", "partitions with Encrypt= cannot be made yet"),
    ("tpm2-device-key", "partitions with Encrypt= cannot be made yet"),
    ("tpm2-seal-key-handle", "partitions with Encrypt= cannot be made yet"),
    ("tpm2-pcrs", "partitions with Encrypt= cannot be made yet"),
    ("tpm2-public-key", "partitions with Encrypt= cannot be made yet"),
    ("tpm2-public-key-pcrs", "partitions with Encrypt= cannot be made yet"),
    ("tpm2-public-key-policyref", "partitions with Encrypt= cannot be made yet"),
    ("tpm2-pcrlock", "partitions with Encrypt= cannot be made yet"),
    ("copy-from", "write definitions with CopyBlocks="),
    ("make-ddi", "write definitions and use --empty=create --size=auto"),
    ("el-torito", "hybrid images of optical media cannot be made yet"),
    ("el-torito-system", "hybrid images of optical media cannot be made yet"),
    ("el-torito-volume", "hybrid images of optical media cannot be made yet"),
    ("el-torito-publisher", "hybrid images of optical media cannot be made yet"),
];

/// Refused, without a value.
const REFUSED_FLAGS: &[(&str, Option<char>, &str)] = &[
    ("sysext", Some('S'), "write definitions and use --empty=create --size=auto"),
    ("confext", Some('C'), "write definitions and use --empty=create --size=auto"),
    ("portable", Some('P'), "write definitions and use --empty=create --size=auto"),
    ("introspect-cli", None, "there is no such description"),
];

/// The parser.
pub fn command(name: &'static str) -> Command {
    let valued = |name: &'static str, value: &'static str| {
        let arg = Arg::new(name).long(name).value_name(value).num_args(1);
        let arg = arg.allow_hyphen_values(true);
        match name {
            "definitions" | "include-partitions" | "exclude-partitions" | "defer-partitions" => {
                arg.action(ArgAction::Append)
            }
            _ => arg.action(ArgAction::Set),
        }
    };
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let mut command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Grows and adds partitions of a disk or image file, or makes one, as systemd-repart does")
        .after_help(
            "Without IMAGE: the disk that the root is on. With \"-\": only say how large a disk \
             has to be.\n\
             Exit status: 0 done, or nothing to do; 1 it failed; 76 there is no disk that the \
             root is on; 77 the disk has no GUID partition table, or --empty= does not allow to \
             touch it.",
        )
        .infer_long_args(true)
        .args_override_self(true)
        .arg(Arg::new("device").value_name("IMAGE").num_args(0..))
        .arg(flag("no-pager").hide(true))
        .arg(flag("list-devices").help("List the disks that could be repartitioned"))
        .arg(flag("no-legend").help("Leave the line out that names the columns"))
        .arg(
            flag("can-factory-reset").help("Only say (0 or 1) if a factory reset removes anything"),
        );
    for (name, value, help) in SUPPORTED {
        let short = match *name {
            "dry-run" => Some('n'),
            "copy-source" => Some('s'),
            _ => None,
        };
        let arg = valued(name, value).help(*help);
        let arg =
            if *name == "append-fstab" { arg.num_args(0..=1).require_equals(true) } else { arg };
        command = command.arg(match short {
            // -n is a flag, only the long option has a value.
            Some('n') | None => arg,
            Some(c) => arg.short(c),
        });
    }
    command = command.arg(Arg::new("n").short('n').action(ArgAction::SetTrue).hide(true));
    for (name, _) in REFUSED {
        command = command.arg(valued(name, "X").hide(true).num_args(0..=1).require_equals(false));
    }
    for (name, short, _) in REFUSED_FLAGS {
        let arg = flag(name).hide(true);
        command = command.arg(match short {
            Some(c) => Arg::new(*name).short(*c).action(ArgAction::SetTrue).hide(true),
            None => arg,
        });
    }
    command
}

/// The options of a command line that the parser took.
pub fn options(matches: &ArgMatches, native: Architecture) -> Result<Options, String> {
    refuse(matches)?;
    let one = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let boolean = |name: &str| one(name).map(|text| parse_bool(name, text)).transpose();
    let architecture = one("architecture").map(parse_architecture).transpose()?;
    let types = |name: &str| -> Result<Option<Vec<TypeGuid>>, String> {
        let Some(values) = matches.get_many::<String>(name) else { return Ok(None) };
        let words = values.flat_map(|v| v.split(',')).filter(|w| !w.is_empty());
        let kind = |word: &str| {
            let kind = TypeGuid::parse(word, native);
            let kind = kind.ok_or_else(|| format!("--{name}={word}: there is no such type"))?;
            Ok(kind.retyped(architecture))
        };
        words.map(kind).collect::<Result<_, String>>().map(Some)
    };
    let mut options = Options {
        device: device(matches)?,
        empty: one("empty").map(parse_empty).transpose()?.unwrap_or_default(),
        discard: boolean("discard")?.unwrap_or(true),
        sector_size: one("sector-size").map(parse_sector_size).transpose()?,
        grain: one("grain-size").map(|text| parse_size("grain-size", text)).transpose()?,
        architecture,
        size: match one("size") {
            Some("auto") => Some(Size::Auto),
            Some(text) => Some(Size::Fixed(parse_size("size", text)?)),
            None => None,
        },
        seed: one("seed").filter(|s| !s.is_empty()).map(str::to_owned),
        pretty: boolean("pretty")?,
        json: one("json").map(parse_json).transpose()?.unwrap_or_default(),
        legend: !matches.get_flag("no-legend"),
        factory_reset: boolean("factory-reset")?.unwrap_or(false),
        can_factory_reset: matches.get_flag("can-factory-reset"),
        root: one("root").map(PathBuf::from),
        definitions: matches
            .get_many::<String>("definitions")
            .into_iter()
            .flatten()
            .map(PathBuf::from)
            .collect(),
        include: types("include-partitions")?,
        exclude: types("exclude-partitions")?,
        defer: Defer {
            types: types("defer-partitions")?.unwrap_or_default(),
            empty: boolean("defer-partitions-empty")?.unwrap_or(false),
            factory_reset: boolean("defer-partitions-factory-reset")?.unwrap_or(false),
        },
        copy_source: one("copy-source").map(PathBuf::from),
        version: one("systemd").map(parse_version).transpose()?.unwrap_or_default(),
        dry_run: true,
        preview: one("preview").map(parse_sizes).transpose()?,
        preview_picture: one("preview-picture").map(PathBuf::from),
        image: one("image").filter(|s| !s.is_empty()).map(PathBuf::from),
        split: boolean("split")?.unwrap_or(false),
        cow: one("cow").is_none_or(|text| text == "auto") || boolean("cow")?.unwrap_or(true),
        fstab: one("generate-fstab").filter(|s| !s.is_empty()).map(PathBuf::from),
        append_fstab: append_fstab(matches)?,
        crypttab: one("generate-crypttab").filter(|s| !s.is_empty()).map(PathBuf::from),
        list_devices: matches.get_flag("list-devices"),
    };
    let dry = if matches.get_flag("n") { Some(true) } else { boolean("dry-run")? };
    options.dry_run = dry.unwrap_or(true) && options.empty != Empty::Create;
    options.dry_run |= options.can_factory_reset;
    together(&options)?;
    Ok(options)
}

fn device(matches: &ArgMatches) -> Result<Option<String>, String> {
    let words: Vec<&String> = matches.get_many("device").into_iter().flatten().collect();
    match words.as_slice() {
        [] => Ok(None),
        [one] if one.is_empty() => Ok(Some("-".into())),
        [one] => Ok(Some((*one).clone())),
        [_, extra, ..] => Err(format!("there is one IMAGE at most, but also {extra:?}")),
    }
}

/// What is known and cannot be done.
fn refuse(matches: &ArgMatches) -> Result<(), String> {
    let given = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    if let Some((name, hint)) = REFUSED.iter().find(|(name, _)| given(name)) {
        return Err(format!("--{name}= is not supported yet; {hint}"));
    }
    if let Some((name, short, hint)) = REFUSED_FLAGS.iter().find(|(name, ..)| given(name)) {
        let shown = short.map_or(format!("--{name}"), |c| format!("-{c} (--make-ddi={name})"));
        return Err(format!("{shown} is not supported yet; {hint}"));
    }
    if let Some(text) = matches.get_one::<String>("offline").filter(|text| *text != "auto") {
        parse_bool("offline", text)?;
    }
    match matches.get_one::<String>("image-policy").map(String::as_str) {
        None | Some("" | "*") => Ok(()),
        Some(text) => Err(format!(
            "--image-policy={text} is not supported yet: all partitions of an image are used"
        )),
    }
}

fn append_fstab(matches: &ArgMatches) -> Result<Option<AppendFstab>, String> {
    let given = matches.value_source("append-fstab") == Some(ValueSource::CommandLine);
    let text = matches.get_one::<String>("append-fstab").map_or("", String::as_str);
    match text {
        _ if !given => Ok(None),
        "no" => Ok(Some(AppendFstab::No)),
        "replace" => Ok(Some(AppendFstab::Replace)),
        "" | "auto" => Ok(Some(AppendFstab::Auto)),
        _ => Err(format!("--append-fstab={text}: it is no, replace or auto")),
    }
}

fn together(o: &Options) -> Result<(), String> {
    let makes = matches!(o.empty, Empty::Force | Empty::Require | Empty::Create);
    if o.include.is_some() && o.exclude.is_some() {
        return Err("--include-partitions= and --exclude-partitions= exclude each other".into());
    }
    if o.empty == Empty::Create && o.size.is_none() {
        return Err("--empty=create needs --size=".into());
    }
    if makes && o.device.is_none() && o.image.is_none() {
        return Err("--empty=force, require and create need the path of an image".into());
    }
    if o.root.is_some() && o.image.is_some() {
        return Err("--root= and --image= exclude each other".into());
    }
    if o.append_fstab.is_some() && o.fstab.is_none() {
        return Err("--append-fstab= needs --generate-fstab=".into());
    }
    if o.split && o.device.is_none() {
        return Err("--split=yes needs the path of an image".into());
    }
    if (o.fstab.is_some() || o.crypttab.is_some()) && o.image.is_some() && o.copy_source.is_none() {
        return Err("--generate-fstab= and --generate-crypttab= do not write to an --image=".into());
    }
    if (o.factory_reset || o.can_factory_reset) && makes {
        return Err(
            "a factory reset and --empty=force, require or create exclude each other".into()
        );
    }
    if o.preview.is_some() && o.device.is_none() {
        return Err("--preview= needs the path of an image".into());
    }
    if o.preview.is_none() && o.preview_picture.is_some() {
        return Err("--preview-picture= needs --preview=".into());
    }
    if o.factory_reset && o.can_factory_reset {
        return Err("--factory-reset=yes and --can-factory-reset exclude each other".into());
    }
    Ok(())
}

fn parse_empty(text: &str) -> Result<Empty, String> {
    Empty::parse(text).ok_or_else(|| format!("--empty={text}: there is no such mode"))
}

fn parse_json(text: &str) -> Result<Json, String> {
    match text {
        "off" => Ok(Json::Off),
        "short" => Ok(Json::Short),
        "pretty" => Ok(Json::Pretty),
        _ => Err(format!("--json={text}: it is pretty, short or off")),
    }
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "257" => Ok(Version::V257),
        "262" => Ok(Version::V262),
        _ => Err(format!("--systemd={text}: known are 257 and 262")),
    }
}

fn parse_bool(name: &str, text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err(format!("--{name}={text}: this is neither yes nor no")),
    }
}

fn parse_architecture(text: &str) -> Result<Architecture, String> {
    let known = Architecture::from_name(text);
    known.ok_or_else(|| format!("--architecture={text}: there is no such architecture"))
}

fn parse_sector_size(text: &str) -> Result<SectorSize, String> {
    let number = text.parse().map_err(|_| format!("--sector-size={text}: this is not a number"))?;
    SectorSize::new(number).map_err(|e| format!("--sector-size={text}: {e}"))
}

fn parse_sizes(text: &str) -> Result<Vec<Bytes>, String> {
    text.split(',').map(|size| parse_size("preview", size)).collect()
}

fn parse_size(name: &str, text: &str) -> Result<Bytes, String> {
    let bytes = Bytes::parse(text);
    bytes.ok_or_else(|| format!("--{name}={text}: this is no size (such as 4096, 512M, 1.5G)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        let words = std::iter::once("repart").chain(words.iter().copied());
        let matches = command("repart").try_get_matches_from(words).map_err(|e| e.to_string())?;
        options(&matches, Architecture::X8664)
    }

    #[test]
    fn the_parser_is_consistent() {
        command("repart").debug_assert();
    }

    #[test]
    fn options_are_systemd_repart_s() {
        let o = parse(&["x"]).unwrap();
        assert!(o.dry_run && o.discard && o.legend && !o.factory_reset);
        assert_eq!((o.empty, o.json, o.device.as_deref()), (Empty::Refuse, Json::Off, Some("x")));
        let o = parse(&["--empty=create", "--size", "1.5G", "--dry", "yes", "x"]).unwrap();
        assert!(!o.dry_run, "what is made anew cannot break anything");
        assert_eq!(o.size, Some(Size::Fixed(Bytes(3 << 29))));
        assert!(parse(&["--dry-run=no", "-n", "x"]).unwrap().dry_run);
        assert!(
            !parse(&["--dry-run=yes", "--dry-run=no", "x"]).unwrap().dry_run,
            "the last counts"
        );
        let o = parse(&[
            "--include-partitions=root,home",
            "--include-partitions=swap",
            "--architecture=arm64",
            "--definitions=/a",
            "--definitions=/b",
            "--sector-size=4096",
        ]);
        let o = o.unwrap();
        let names: Vec<String> = o.include.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["root-arm64", "home", "swap"]);
        assert_eq!((o.definitions.len(), o.sector_size), (2, Some(SectorSize::S4096)));
        assert_eq!(parse(&[""]).unwrap().device.as_deref(), Some("-"));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (words, says) in [
            (&["--empty=create", "x"][..], "needs --size="),
            (&["--empty=force"], "need the path"),
            (&["--include-partitions=root", "--exclude-partitions=home"], "exclude each other"),
            (&["--factory-reset=yes", "--empty=force", "x"], "exclude each other"),
            (&["--factory-reset=yes", "--can-factory-reset", "x"], "exclude each other"),
            (&["--empty=maybe"], "there is no such mode"),
            (&["--sector-size=520"], "power of two"),
            (&["--defer-partitions=rot"], "there is no such type"),
            (&["--discard=perhaps"], "neither yes nor no"),
            (&["--size=lots"], "no size"),
            (&["a", "b"], "one IMAGE at most"),
            (&["--root=/x", "--image=y", "a"], "exclude each other"),
            (&["--append-fstab", "a"], "needs --generate-fstab="),
            (&["--append-fstab=some", "--generate-fstab=/x", "a"], "no, replace or auto"),
            (&["--image=y", "--generate-fstab=/x", "a"], "do not write to an --image="),
            (&["--split=yes"], "needs the path"),
            (&["--image-policy=root=signed", "a"], "is not supported yet"),
            (&["--offline=perhaps", "a"], "neither yes nor no"),
            (&["--what"], "--what"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(says), "{words:?}: {error}");
        }
    }

    /// What each option that is taken does is shown by `tests/repart_options.rs`.
    #[test]
    fn every_option_of_systemd_repart_is_taken_or_refused_by_its_name() {
        // systemd-repart(8) of version 262.
        const ALL: [&str; 57] = [
            "help",
            "version",
            "no-pager",
            "no-legend",
            "dry-run=yes",
            "empty=allow",
            "offline=yes",
            "discard=no",
            "cow=auto",
            "sector-size=512",
            "grain-size=4096",
            "architecture=arm64",
            "size=auto",
            "seed=random",
            "split=yes",
            "pretty=no",
            "json=off",
            "factory-reset=no",
            "can-factory-reset",
            "root=/",
            "image=x",
            "image-policy=*",
            "definitions=/x",
            "list-devices",
            "private-key=x",
            "private-key-source=file",
            "certificate=x",
            "certificate-source=file",
            "join-signature=x",
            "key-file=x",
            "tpm2-device=auto",
            "tpm2-device-key=x",
            "tpm2-seal-key-handle=0",
            "tpm2-pcrs=7",
            "tpm2-public-key=x",
            "tpm2-public-key-pcrs=11",
            "tpm2-public-key-policyref=x",
            "tpm2-pcrlock=x",
            "include-partitions=root",
            "exclude-partitions=root",
            "defer-partitions=root",
            "defer-partitions-empty=yes",
            "defer-partitions-factory-reset=yes",
            "copy-source=/x",
            "copy-from=x",
            "make-ddi=sysext",
            "append-fstab=auto",
            "append-fstab",
            "generate-fstab=x",
            "generate-crypttab=x",
            "el-torito=yes",
            "el-torito-system=x",
            "el-torito-volume=x",
            "el-torito-publisher=x",
            "introspect-cli",
            "offline=no",
            "cow=yes",
        ];
        const REFUSED_NOW: usize = 21;
        let mut refused = 0;
        for option in ALL {
            let word = format!("--{option}");
            let mut words = vec![word.as_str(), "x"];
            words.extend(option.starts_with("append-fstab").then_some("--generate-fstab=/x"));
            match parse(&words) {
                Ok(_) => {}
                Err(message) if matches!(option, "help" | "version") => {
                    assert!(!message.contains(&format!("{word} is not")), "{message}");
                }
                Err(message) => {
                    let name = option.split('=').next().unwrap();
                    let by_name = message.contains(&format!("--{name}"));
                    assert!(by_name && message.contains("not supported yet"), "{word}: {message}");
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, REFUSED_NOW);
        for short in ["-S", "-C", "-P"] {
            assert!(parse(&[short, "x"]).unwrap_err().contains("--make-ddi="), "{short}");
        }
    }
}
