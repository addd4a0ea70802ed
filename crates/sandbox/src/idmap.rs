//! Which ids a user namespace maps, and how an ordinary user gets 65536 of them.
//!
//! Formats: `/proc/PID/uid_map` (`user_namespaces(7)`), `/etc/subuid` (`subuid(5)`).
//! The user itself becomes id 0, so that what mkgold writes outside of a tree (caches,
//! outputs) belongs to the user; ids from 1 come from the subordinate range.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::privilege::IDS;
use crate::sys::check;

/// Where distributions put the two set-user-ID helpers; `$PATH` is not consulted,
/// so that what runs does not depend on the environment.
const HELPER_DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

/// The id map of a process: (inside, outside, count) per line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMap {
    uids: Vec<[u32; 3]>,
    gids: Vec<[u32; 3]>,
}

impl IdMap {
    pub(crate) fn of_process() -> io::Result<IdMap> {
        let read = |path| fs::read_to_string(path).map(|text| parse_map(&text));
        Ok(IdMap { uids: read("/proc/self/uid_map")?, gids: read("/proc/self/gid_map")? })
    }

    /// True outside of every user namespace.
    pub(crate) fn is_initial(&self) -> bool {
        let all = [[0, 0, u32::MAX]];
        self.uids == all && self.gids == all
    }

    /// Whether id 0 is mapped already.
    pub(crate) fn covers_uids(&self) -> bool {
        !self.uids.is_empty()
    }

    /// The same for groups.
    pub(crate) fn covers_gids(&self) -> bool {
        !self.gids.is_empty()
    }

    /// Whether the ids from 0 to `count`-1 exist, for users and for groups.
    pub(crate) fn covers(&self, count: u32) -> bool {
        [&self.uids, &self.gids].into_iter().all(|map| {
            let mut map = map.clone();
            map.sort_unstable();
            let reach = map.iter().fold(0u64, |reach, [inside, _, n]| {
                let (inside, end) = (u64::from(*inside), u64::from(*inside) + u64::from(*n));
                if inside <= reach { reach.max(end) } else { reach }
            });
            reach >= u64::from(count)
        })
    }
}

fn parse_map(text: &str) -> Vec<[u32; 3]> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(|w| w.parse().ok());
        Some([words.next()??, words.next()??, words.next()??])
    };
    text.lines().filter_map(line).collect()
}

/// The first range of at least `want` ids that a subuid or subgid file gives to the
/// user, by name or by number.
pub(crate) fn subordinate(text: &str, name: Option<&str>, uid: u32, want: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let start: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let mine = Some(who) == name || who.parse() == Ok(uid);
        (mine && count >= want && start.checked_add(want).is_some()).then_some(start)
    })
}

/// How the namespace of this process is to be mapped.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// Root maps itself: a test of the mode, or a container without devices.
    AsRoot,
    /// With the set-user-ID helpers.
    Helpers { programs: [PathBuf; 2], ids: [u32; 2], ranges: [u32; 2] },
}

/// Whether this user can have 65536 ids; the error says what is missing.
pub(crate) fn plan_for_user() -> Result<Plan, String> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    if uid == 0 {
        return Ok(Plan::AsRoot);
    }
    let program = |name: &str| {
        let paths = HELPER_DIRS.iter().map(|dir| Path::new(dir).join(name));
        let hint = || format!("{name} is not installed (apt-get install uidmap)");
        paths.into_iter().find(|path| path.exists()).ok_or_else(hint)
    };
    let programs = [program("newuidmap")?, program("newgidmap")?];
    let name = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
    let range = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        subordinate(&text, name.as_deref(), uid, IDS - 1).ok_or_else(|| {
            let user = name.clone().unwrap_or_else(|| uid.to_string());
            format!(
                "{file} gives {user} no range of {IDS} ids (sudo usermod \
                 --add-subuids 100000-165535 --add-subgids 100000-165535 {user})"
            )
        })
    };
    let ranges = [range("/etc/subuid")?, range("/etc/subgid")?];
    Ok(Plan::Helpers { programs, ids: [uid, gid], ranges })
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| fields[0].to_owned())
    })
}

/// A child that stayed in the old namespace and maps the ids of its parent: the
/// helpers must run where the ranges belong to the user.
pub(crate) struct Helper {
    pid: i32,
    go: std::fs::File,
    answer: std::fs::File,
}

impl Helper {
    /// Forks it; the process must have one thread.
    pub(crate) fn start(plan: Plan) -> io::Result<Helper> {
        let (go_read, go_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (answer_read, answer_write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let parent = std::process::id();
        // SAFETY: there is one thread, so the child is as good a process as the parent.
        let pid = check(i64::from(unsafe { libc::fork() }))? as i32;
        if pid > 0 {
            return Ok(Helper { pid, go: go_write.into(), answer: answer_read.into() });
        }
        drop((go_write, answer_read));
        let mut told = Vec::new();
        // An end without a byte: the parent failed or died.
        if fs::File::from(go_read).read_to_end(&mut told).is_ok() && told == b"go" {
            let message = run(&plan, parent).err().unwrap_or_default();
            let _ = fs::File::from(answer_write).write_all(message.as_bytes());
        }
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(0) }
    }

    /// Lets it map the namespace that this process is in now.
    pub(crate) fn map_parent(mut self) -> Result<(), String> {
        let told = self.go.write_all(b"go");
        drop(self.go);
        let mut answer = String::new();
        let heard = self.answer.read_to_string(&mut answer);
        // SAFETY: waits for our own child; no status is asked for.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        match told.and(heard) {
            Ok(_) if answer.is_empty() => Ok(()),
            Ok(_) => Err(answer),
            Err(e) => Err(format!("the helper that maps ids went away: {e}")),
        }
    }
}

fn run(plan: &Plan, pid: u32) -> Result<(), String> {
    let Plan::Helpers { programs, ids, ranges } = plan else {
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{file}"), format!("0 0 {IDS}"))
                .map_err(|e| format!("cannot write {file}: {e}"))?;
        }
        return Ok(());
    };
    for (i, program) in programs.iter().enumerate() {
        let numbers = [pid, 0, ids[i], 1, 1, ranges[i], IDS - 1].map(|n| n.to_string());
        let output = Command::new(program)
            .args(&numbers)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "{} {} failed: {}",
                program.display(),
                numbers.join(" "),
                text.trim()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_and_number_and_must_be_large() {
        let text = "alice:100000:65536\n# comment\nbob:1:10\n1001:300000:70000\nbob:200000:65536\n";
        assert_eq!(subordinate(text, Some("alice"), 1, 65535), Some(100000));
        assert_eq!(subordinate(text, Some("bob"), 2, 65535), Some(200000));
        assert_eq!(subordinate(text, None, 1001, 65535), Some(300000));
        assert_eq!(subordinate(text, Some("carol"), 3, 65535), None);
        assert_eq!(subordinate("x:4294967290:65536", Some("x"), 3, 65535), None);
    }

    #[test]
    fn coverage_needs_every_id() {
        let map = |text: &str| IdMap { uids: parse_map(text), gids: parse_map(text) };
        assert!(map("         0          0 4294967295\n").is_initial());
        assert!(map("0 1000 1\n1 100000 65535\n").covers(65536));
        assert!(!map("0 1000 1\n2 100000 65535\n").covers(65536));
        assert!(!map("0 1000 1\n").covers(65536));
    }
}
