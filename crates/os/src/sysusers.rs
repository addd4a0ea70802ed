//! sysusers.d(5): system users and groups made from declarations.
//!
//! Plan → apply: [`Declarations::read`] parses, [`apply`] decides and edits the
//! four account files of a Tree. Equal trees give equal accounts: automatic IDs
//! go downwards from the top of the pool in the order of the declarations.
//!
//! Not supported, and an error that says so: `r` lines with a pool outside of
//! 1…65533.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use tree::{Mtime, Tree, TreePath};

use crate::accounts::{Accounts, Database};
use crate::tmpfiles::text::{Specifiers, Unresolved};
use crate::{OsError, dropin, os_release, read_text};

/// Where declarations are, highest priority first.
const DIRS: [&str; 4] =
    ["etc/sysusers.d", "run/sysusers.d", "usr/local/lib/sysusers.d", "usr/lib/sysusers.d"];

/// How an ID is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Id {
    Automatic,
    Fixed(u32),
    /// The owner of this path in the tree.
    Path(String),
    /// A user's own ID (if fixed) and its group by number or name.
    Pair(Option<u32>, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    id: Id,
    gecos: String,
    home: Option<String>,
    shell: Option<String>,
    locked: bool,
}

/// The declarations of a tree, in the order in which they are carried out.
#[derive(Debug, Clone, Default)]
pub struct Declarations {
    groups: Vec<(String, Id)>,
    users: Vec<(String, User)>,
    members: Vec<(String, String)>,
    pools: Vec<RangeInclusive<u32>>,
    /// Lines that were skipped, as systemd-sysusers does, with the reason.
    pub warnings: Vec<String>,
}

impl Declarations {
    /// Reads every effective file of the tree.
    pub fn read(tree: &Tree) -> Result<Declarations, OsError> {
        let mut declarations = Declarations::default();
        let specifiers = Specifiers::new(None, os_release::read(tree)?);
        for file in dropin::files(tree, &DIRS, ".conf") {
            let text = read_text(tree, &file)?.unwrap_or_default();
            for (n, line) in text.lines().enumerate() {
                if let Err(message) = declarations.line(line, &specifiers) {
                    declarations.warnings.push(format!("{file}:{}: {message}", n + 1));
                }
            }
        }
        for (user, group) in declarations.members.clone() {
            declarations.add_user(user, User::implicit());
            declarations.add_group(group, Id::Automatic);
        }
        Ok(declarations)
    }

    /// The users and groups that are declared, by name.
    pub fn names(&self) -> (Vec<&str>, Vec<&str>) {
        let users: Vec<&str> = self.users.iter().map(|(n, _)| n.as_str()).collect();
        let groups = self.groups.iter().map(|(n, _)| n.as_str()).chain(users.iter().copied());
        (users.clone(), groups.collect())
    }

    fn line(&mut self, line: &str, specifiers: &Specifiers) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let mut fields = split(line)?;
        if fields.len() > 6 {
            return Err("trailing garbage".into());
        }
        for field in fields.iter_mut().skip(1) {
            *field = expand(field, specifiers)?;
        }
        let field =
            |n: usize| fields.get(n).map(String::as_str).filter(|f| !matches!(*f, "" | "-"));
        let name = field(1).unwrap_or_default().to_owned();
        let kind = fields[0].as_str();
        if kind != "r" && !is_valid_name(&name) {
            return Err(format!("'{name}' is not a valid user or group name"));
        }
        match kind {
            "u" | "u!" => {
                let user = User {
                    id: parse_id(field(2))?,
                    gecos: field(3).map(parse_gecos).transpose()?.unwrap_or_default(),
                    home: field(4).map(parse_path).transpose()?,
                    shell: field(5).map(parse_path).transpose()?,
                    locked: kind == "u!",
                };
                self.add_user(name, user);
            }
            "g" => match parse_id(field(2))? {
                Id::Pair(..) => return Err("a group has one ID".into()),
                id => self.add_group(name, id),
            },
            "m" => {
                let group = field(2).filter(|g| is_valid_name(g)).ok_or("'m' needs a group")?;
                self.members.push((name, group.to_owned()));
            }
            "r" => self.pools.push(parse_pool(field(2).unwrap_or_default())?),
            other => return Err(format!("unknown line type '{other}'")),
        }
        Ok(())
    }

    /// The first declaration counts.
    fn add_user(&mut self, name: String, user: User) {
        match self.users.iter().find(|(n, _)| *n == name) {
            Some((_, first)) if *first != user && user != User::implicit() => {
                self.warnings.push(format!("user {name}: conflicts with an earlier line, ignored"));
            }
            Some(_) => {}
            None => self.users.push((name, user)),
        }
    }

    fn add_group(&mut self, name: String, id: Id) {
        if !self.groups.iter().any(|(n, _)| *n == name) {
            self.groups.push((name, id));
        }
    }
}

impl User {
    /// What an `m` line makes of a user that no line declares.
    fn implicit() -> User {
        let gecos = String::new();
        User { id: Id::Automatic, gecos, home: None, shell: None, locked: false }
    }
}

/// Splits at blanks; double and single quotes group, backslash escapes.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut current: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => fields.extend(current.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                current.get_or_insert_default();
            }
            (Some(q), c) if q == c => quote = None,
            (_, '\\') => current.get_or_insert_default().extend(chars.next()),
            (_, c) => current.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("unbalanced quotes".into());
    }
    fields.extend(current);
    Ok(fields)
}

fn is_valid_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.len() <= 31 && name.starts_with(first) && name.chars().all(rest)
}

/// What specifiers stand for. Those of file names and users are not sysusers.d's.
fn expand(text: &str, specifiers: &Specifiers) -> Result<String, String> {
    let mut letters = text.replace("%%", "");
    letters.retain(|c| !c.is_whitespace());
    if let Some(at) = letters.find('%')
        && letters[at + 1..].starts_with(['C', 'L', 'S', 't', 'g', 'G', 'h', 'u', 'U'])
    {
        return Err(format!("unknown specifier in '{text}'"));
    }
    match specifiers.expand(text.as_bytes()) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(Unresolved::NoInformation) => {
            Err(format!("'{text}' needs what this image does not say, so the line is left out"))
        }
        Err(Unresolved::Running(letter)) => {
            Err(format!("'{text}': %{letter} is known on a running machine only"))
        }
        Err(Unresolved::Unknown(message)) => Err(message),
    }
}

fn parse_gecos(text: &str) -> Result<String, String> {
    match text.contains(|c: char| c == ':' || c.is_control()) {
        true => Err(format!("'{text}' is no description: it has a colon or a control character")),
        false => Ok(text.to_owned()),
    }
}

/// A home directory or a shell.
fn parse_path(text: &str) -> Result<String, String> {
    let bad = |c: char| c == ':' || c.is_control();
    let normal = text.split('/').skip(1).all(|part| !matches!(part, "." | ".."));
    match text.starts_with('/') && normal && !text.contains(bad) {
        true => Ok(text.to_owned()),
        false => Err(format!("'{text}' is not an absolute path")),
    }
}

fn parse_id(field: Option<&str>) -> Result<Id, String> {
    let number = |text: &str| match text.parse::<u32>() {
        // The 16-bit and the 32-bit -1 mean no ID.
        Ok(id) if id != 65535 && id != u32::MAX => Ok(id),
        _ => Err(format!("'{text}' is not an ID")),
    };
    match field {
        None => Ok(Id::Automatic),
        Some(path) if path.starts_with('/') => Ok(Id::Path(path.to_owned())),
        Some(pair) if pair.contains(':') => {
            let (uid, group) = pair.split_once(':').expect("just checked");
            let uid = if uid == "-" { None } else { Some(number(uid)?) };
            Ok(Id::Pair(uid, group.to_owned()))
        }
        Some(id) => number(id).map(Id::Fixed),
    }
}

fn parse_pool(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (low.parse::<u32>(), high.parse::<u32>()) {
        (Ok(low), Ok(high)) if low <= high && high < 65534 => Ok(low..=high),
        _ => Err(format!("'{text}' is not a range of IDs below 65534")),
    }
}

/// What [`apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Names of new groups with their GID.
    pub groups: Vec<(String, u32)>,
    /// Names of new users with their UID.
    pub users: Vec<(String, u32)>,
    /// Items that could not be made, with the reason.
    pub failures: Vec<String>,
}

/// Makes the declared users and groups that the tree does not have. `now` is
/// written as the time of the last password change.
pub fn apply(tree: &mut Tree, declarations: &Declarations, now: Mtime) -> Result<Applied, OsError> {
    let mut maker = Maker::new(tree, declarations, now)?;
    for (name, id) in &declarations.groups {
        maker.group(name, id, None);
    }
    for (name, user) in &declarations.users {
        maker.user(name, user);
    }
    for (user, group) in &declarations.members {
        maker.member(user, group);
    }
    let Maker { passwd, shadow, group, gshadow, applied, new_members, .. } = maker;
    if !applied.users.is_empty() {
        passwd.write(tree, now)?;
        shadow.write(tree, now)?;
    }
    if new_members || !applied.groups.is_empty() {
        group.write(tree, now)?;
        gshadow.write(tree, now)?;
    }
    Ok(applied)
}

struct Maker<'a> {
    tree: &'a Tree,
    declarations: &'a Declarations,
    days: String,
    passwd: Accounts,
    shadow: Accounts,
    group: Accounts,
    gshadow: Accounts,
    applied: Applied,
    new_members: bool,
}

impl<'a> Maker<'a> {
    fn new(tree: &'a Tree, declarations: &'a Declarations, now: Mtime) -> Result<Self, OsError> {
        Ok(Maker {
            tree,
            declarations,
            days: (now.secs.max(0) / 86400).to_string(),
            passwd: Accounts::read(tree, Database::Passwd)?,
            shadow: Accounts::read(tree, Database::Shadow)?,
            group: Accounts::read(tree, Database::Group)?,
            gshadow: Accounts::read(tree, Database::Gshadow)?,
            applied: Applied::default(),
            new_members: false,
        })
    }

    fn owner(&self, path: &str) -> Option<(u32, u32)> {
        let node = self.tree.lookup(&TreePath::new(path).ok()?)?;
        Some((node.meta.uid, node.meta.gid))
    }

    fn free(&self, id: u32, for_user: Option<&str>) -> bool {
        let user_free = self.passwd.by_id(id).is_none();
        // A user may take the number of the group that bears its name.
        let group = self.group.by_id(id).map(|g| g[0].as_str());
        user_free && group.is_none_or(|g| Some(g) == for_user)
    }

    fn automatic(&self, for_user: Option<&str>) -> Option<u32> {
        let mut pools = self.declarations.pools.clone();
        if pools.is_empty() {
            pools.push(1..=999);
        }
        // From the highest number of all pools down.
        pools.sort_unstable_by_key(|pool| *pool.end());
        pools.iter().rev().find_map(|p| p.clone().rev().find(|id| self.free(*id, for_user)))
    }

    /// The GID of `name`, made if it is not there.
    fn group(&mut self, name: &str, id: &Id, uid: Option<u32>) -> Option<u32> {
        if let Some(group) = self.group.get(name) {
            return group[2].parse().ok();
        }
        let wanted = match id {
            Id::Fixed(id) => Some(*id),
            Id::Path(path) => self.owner(path).map(|(_, gid)| gid).filter(|g| *g != 0),
            _ => None,
        };
        let free = |g: &u32| self.group.by_id(*g).is_none();
        let own = |g: &u32| self.passwd.by_id(*g).is_none_or(|u| u[0] == name);
        let gid = wanted.filter(|g| free(g) && own(g)).or(uid.filter(free));
        let Some(gid) = gid.or_else(|| self.automatic(Some(name))) else {
            self.applied.failures.push(format!("group {name}: no free ID"));
            return None;
        };
        self.group.add(strings([name, "x", &gid.to_string(), ""]));
        if self.gshadow.get(name).is_none() {
            self.gshadow.add(strings([name, "!*", "", ""]));
        }
        self.applied.groups.push((name.to_owned(), gid));
        Some(gid)
    }

    fn user(&mut self, name: &str, user: &User) {
        if self.passwd.get(name).is_some() {
            return;
        }
        let ids = match &user.id {
            Id::Pair(uid, group) => self.named_group(group).map(|gid| (*uid, gid)),
            id => {
                let uid = match id {
                    Id::Fixed(uid) => Some(*uid),
                    Id::Path(path) => self.owner(path).map(|(uid, _)| uid).filter(|u| *u != 0),
                    _ => None,
                };
                // The group first: a user gets its group's number if it can.
                self.group(name, id, uid).map(|gid| (uid, gid))
            }
        };
        let Some((uid, gid)) = ids else {
            self.applied.failures.push(format!("user {name}: its group does not exist"));
            return;
        };
        let strict = matches!(user.id, Id::Pair(..));
        let ok = |u: &u32| match strict {
            true => self.passwd.by_id(*u).is_none(),
            false => self.free(*u, Some(name)),
        };
        let own_group = (!strict).then_some(gid).filter(|g| self.free(*g, Some(name)));
        let uid = uid.filter(ok).or(own_group).or_else(|| self.automatic(Some(name)));
        match uid {
            Some(uid) => self.add_user(name, user, uid, gid),
            None => self.applied.failures.push(format!("user {name}: no free ID")),
        }
    }

    fn named_group(&self, group: &str) -> Option<u32> {
        match group.parse::<u32>() {
            Ok(gid) => self.group.by_id(gid).map(|_| gid),
            Err(_) => self.group.get(group)?[2].parse().ok(),
        }
    }

    fn add_user(&mut self, name: &str, user: &User, uid: u32, gid: u32) {
        let shell = match &user.shell {
            Some(shell) => shell,
            None if uid == 0 => root_shell(self.tree),
            None => "/usr/sbin/nologin",
        };
        let home = user.home.as_deref().unwrap_or("/");
        let (uid_text, gid_text) = (uid.to_string(), gid.to_string());
        self.passwd.add(strings([name, "x", &uid_text, &gid_text, &user.gecos, home, shell]));
        let expire = if user.locked { "1" } else { "" };
        let hash = if name == "root" { "!unprovisioned" } else { "!*" };
        let days = self.days.clone();
        match self.shadow.get_mut(name) {
            Some(shadow) => shadow[2] = days,
            None => self.shadow.add(strings([name, hash, &days, "", "", "", "", expire, ""])),
        }
        self.applied.users.push((name.to_owned(), uid));
    }

    fn member(&mut self, user: &str, group: &str) {
        for accounts in [&mut self.group, &mut self.gshadow] {
            let Some(fields) = accounts.get_mut(group) else { continue };
            let mut members: Vec<&str> = fields[3].split(',').filter(|m| !m.is_empty()).collect();
            if !members.contains(&user) {
                members.push(user);
                members.sort_unstable();
                let members = members.join(",");
                fields[3] = members;
                self.new_members = true;
            }
        }
    }
}

/// `/bin/bash` where the tree has it, else `/bin/sh`.
pub fn root_shell(tree: &Tree) -> &'static str {
    match tree.lookup(&TreePath::literal("bin/bash")) {
        Some(_) => "/bin/bash",
        None => "/bin/sh",
    }
}

fn strings<const N: usize>(fields: [&str; N]) -> Vec<String> {
    fields.map(str::to_owned).to_vec()
}

/// The members of every group, for reports: group → members.
pub fn memberships(tree: &Tree) -> Result<BTreeMap<String, Vec<String>>, OsError> {
    let groups = Accounts::read(tree, Database::Group)?;
    let members =
        |f: &[String]| f[3].split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
    Ok(groups.iter().map(|f| (f[0].clone(), members(f))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(conf: &str) -> Tree {
        let mut t = Tree::new();
        t.write(&TreePath::literal("usr/lib/sysusers.d/x.conf"), 0o644, conf.as_bytes()).unwrap();
        t
    }

    fn run(t: &mut Tree) -> Applied {
        let declarations = Declarations::read(t).unwrap();
        apply(t, &declarations, Mtime::secs(86400 * 20000)).unwrap()
    }

    fn text(t: &Tree, database: Database) -> String {
        String::from_utf8(t.read(&database.path(), 9999).unwrap().unwrap()).unwrap()
    }

    // The expected lines are what systemd-sysusers 257 makes of these files,
    // by the rules of sysusers.d(5).
    #[test]
    fn users_groups_members() {
        let mut t = tree(
            "g wheel 10\nu root 0 \"Super User\" /root\nu! svc - \"A Service\" /var/lib/svc\n\
             u two 500:wheel\nm svc wheel\nm extra wheel\n",
        );
        let applied = run(&mut t);
        assert_eq!(applied.failures, Vec::<String>::new());
        assert_eq!(
            text(&t, Database::Passwd),
            "root:x:0:0:Super User:/root:/bin/sh\n\
             svc:x:999:999:A Service:/var/lib/svc:/usr/sbin/nologin\n\
             two:x:500:10::/:/usr/sbin/nologin\n\
             extra:x:998:998::/:/usr/sbin/nologin\n"
        );
        assert_eq!(
            text(&t, Database::Group),
            "wheel:x:10:extra,svc\nroot:x:0:\nsvc:x:999:\nextra:x:998:\n"
        );
        assert_eq!(
            text(&t, Database::Shadow),
            "root:!unprovisioned:20000::::::\nsvc:!*:20000:::::1:\n\
             two:!*:20000::::::\nextra:!*:20000::::::\n"
        );
        let before = text(&t, Database::Passwd);
        assert_eq!(run(&mut t), Applied::default(), "a second run has nothing to do");
        assert_eq!(text(&t, Database::Passwd), before);
    }

    #[test]
    fn taken_numbers_give_way_and_pools_count() {
        let mut t = tree("u a 33\nu b -\nr - 600-601\nu c -\nu d -\n");
        t.write(&Database::Passwd.path(), 0o644, *b"www:x:33:33::/:/bin/sh\n").unwrap();
        t.write(&Database::Group.path(), 0o644, *b"www:x:33:\n").unwrap();
        let applied = run(&mut t);
        assert_eq!(applied.users, [("a".into(), 601), ("b".into(), 600)]);
        assert_eq!(applied.failures.len(), 4, "the pool is empty: {:?}", applied.failures);
    }

    #[test]
    fn bad_lines_are_skipped_and_said() {
        let mut t =
            tree("x what\nu 9bad\nu ok - \"unbalanced\ng good 5 a b c d\nr - 9-1\ng fine 7\n");
        let declarations = Declarations::read(&t).unwrap();
        assert_eq!(declarations.warnings.len(), 5, "{:?}", declarations.warnings);
        assert!(declarations.warnings[0].starts_with("/usr/lib/sysusers.d/x.conf:1: "));
        assert_eq!(run(&mut t).groups, [("fine".into(), 7)]);
    }
}
