//! What a sandbox keeps in and out, in every mode.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use report::{Event, Recorder, Silent};
use sandbox::{Command, Error, Mode, PackSink, Root, Status, Stdin, Stdout, Workspace};
use support::{As, dispatch, host_tools, is_root, open_dir, p, role_command, run_role};
use tree::{Kind, Tree};

#[used]
#[unsafe(link_section = ".init_array")]
static ROLES: extern "C" fn() = {
    extern "C" fn start() {
        dispatch(&[
            ("hostile", hostile),
            ("world", world),
            ("failures", failures),
            ("forever", forever),
            ("tools", tools),
            ("host", host),
            ("shell", shell),
            ("remove", || {
                support::enter();
                sandbox::remove_dir(&support::dir().join("work")).unwrap();
            }),
        ]);
    }
    start
};

fn ways() -> Vec<(As, Option<Mode>)> {
    if !is_root() {
        return vec![(As::Caller, Some(Mode::SingleUser)), (As::Caller, None)];
    }
    vec![
        (As::Caller, Some(Mode::Root)),
        (As::Mapped, None),
        (As::User, None),
        (As::Container, None),
    ]
}

fn in_every_mode(role: &str) {
    for (who, mode) in ways() {
        let dir = open_dir();
        run_role(role, who, mode, dir.path());
    }
}

fn sink(dir: &Path) -> PackSink {
    let path = dir.join("pack");
    let open = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    PackSink::new(&path, open.unwrap()).unwrap()
}

fn capture(workspace: &Workspace, script: &str) -> String {
    let command = Command::shell(script).stdout(Stdout::Capture(1 << 20));
    let output = workspace.run(&command, &Silent).unwrap_or_else(|e| panic!("{script}: {e}"));
    String::from_utf8(output.stdout).unwrap()
}

fn say(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{error} ({})", source.unwrap_or_default())
}

#[test]
fn hostile_scripts_stay_inside_and_are_read_back_right() {
    in_every_mode("hostile");
}

fn hostile() {
    let privilege = support::enter();
    let dir = support::dir();
    fs::write(dir.join("outside"), "untouched").unwrap();
    let mut tree = host_tools();
    tree.write(&p("etc/one"), 0o644, *b"one").unwrap();
    let mut workspace = Workspace::create(&dir.join("work"), &tree, &privilege).unwrap();
    let script = format!(
        r#"cd /srv
        echo secret >unreadable; chmod 0 unreadable; mkdir -p closed/in; echo x >closed/in/f; chmod 0 closed/in closed
        ln -s {0}/outside leak; ln -s /etc/passwd abs; ln -s ../../../../../../../.. up; ln -s loop loop
        d=$(printf '%0100d' 0); i=0; while [ $i -lt 30 ]; do mkdir $d; cd $d; i=$((i+1)); done; echo deep >leaf; cd /srv
        rm -rf /etc /root; ln -s {0} /etc; ln -s {0} /root
        rm -f /dev/null /dev/zero; echo pwned >/dev/null; ln -s /srv /dev/shm/x
        rmdir /proc /sys /dev /tmp 2>/dev/null; mv /tmp /tmp2 2>/dev/null; ln -s {0} /tmp/x
        umount /proc 2>/dev/null; mount -t tmpfs x /mnt 2>/dev/null
        printf '%0200d' 1 >"$(printf 'new\nline\t\377')"
        (: >{0}/escaped) 2>/dev/null
        printf x | dd of=sparse bs=1 count=1 seek=5000000000 2>/dev/null
        exit 0"#,
        dir.display()
    );
    workspace.run(&Command::shell(script), &Silent).unwrap();
    let back = workspace.read_back(&mut sink(&dir)).unwrap();
    assert_eq!(fs::read_to_string(dir.join("outside")).unwrap(), "untouched");
    assert!(!dir.join("escaped").exists() && !dir.join("x").exists());
    let read = |path: &str| back.get(&p(path)).unwrap().content().unwrap().read(100).unwrap();
    assert_eq!(read("srv/unreadable"), b"secret\n");
    assert_eq!(back.get(&p("srv/unreadable")).unwrap().meta.mode, 0);
    assert_eq!(read("srv/closed/in/f"), b"x\n");
    for link in ["srv/leak", "srv/abs", "srv/up", "srv/loop", "etc", "root"] {
        assert!(matches!(back.get(&p(link)).unwrap().kind, Kind::Symlink(_)), "{link}");
    }
    let deep = format!("srv/{}leaf", format!("{:0100}/", 0).repeat(30));
    assert_eq!(read(&deep), b"deep\n");
    assert_eq!(back.get(&p("srv/sparse")).unwrap().content().unwrap().len(), 5_000_000_001);
    assert!(fs::metadata(dir.join("pack")).unwrap().len() < 1 << 20, "holes are not stored");
    for dir in ["proc", "sys", "dev", "run", "var/tmp"] {
        assert!(back.get(&p(dir)).unwrap().is_dir(), "{dir}");
        assert_eq!(back.children(&p(dir)).count(), 0, "{dir} is as it was");
    }
    // The next command starts in a world that is whole again, and a link where a mount
    // point must be is refused.
    assert_eq!(capture(&workspace, "echo x >/dev/null; wc -c </dev/null; ls /tmp"), "0\n");
    workspace.run(&Command::shell("rmdir /opt 2>/dev/null; ln -s / /opt"), &Silent).unwrap();
    let error = workspace.run(&Command::new("true").tmpfs(p("opt")), &Silent).unwrap_err();
    assert!(matches!(error, Error::MountPoint { .. }), "{}", say(&error));
    // Nothing at all.
    workspace.run(&Command::shell("cd /; rm -rf /* 2>/dev/null; true"), &Silent).unwrap();
    let empty = workspace.read_back(&mut sink(&dir)).unwrap();
    assert!(empty.get(&p("bin")).is_none() && empty.len() < 12, "{}", empty.len());
    workspace.apply(&tree).unwrap();
    assert_eq!(capture(&workspace, "cat /etc/one"), "one");
    too_deep(&workspace, &dir);
    workspace.remove().unwrap();
    assert!(!dir.join("work").exists());
}

/// A path longer than any program can name is an error, and no obstacle to removal.
fn too_deep(workspace: &Workspace, dir: &Path) {
    let script = "cd /srv; d=$(printf '%0200d' 0); i=0; while [ $i -lt 40 ]; do mkdir $d && \
                  cd -P $d || exit 1; i=$((i+1)); done";
    workspace.run(&Command::shell(script), &Silent).unwrap();
    let mut other =
        Workspace::create(&dir.join("other"), &Tree::new(), workspace.privilege()).unwrap();
    fs::rename(workspace.root().join("srv"), other.root().join("srv")).unwrap();
    let error = other.read_back(&mut sink(dir)).unwrap_err();
    assert!(matches!(error, Error::Path { .. }), "{}", say(&error));
    other.remove().unwrap();
}

#[test]
fn a_command_sees_the_world_it_was_promised() {
    in_every_mode("world");
}

fn world() {
    let privilege = support::enter();
    let dir = support::dir();
    let shared = dir.join("shared");
    fs::create_dir_all(shared.join("sub")).unwrap();
    fs::write(shared.join("given"), "given").unwrap();
    fs::write(dir.join("single"), "single").unwrap();
    // SAFETY: a descriptor that the command must not inherit.
    assert!(unsafe { libc::dup(0) } > 2);
    // SAFETY: one thread so far.
    unsafe { std::env::set_var("SECRET", "of the caller") };
    let tree = host_tools();
    let mut workspace = Workspace::create(&dir.join("work"), &tree, &privilege).unwrap();
    let env = capture(&workspace, "env | sort | cut -d = -f 1 | tr '\\n' ' '");
    assert_eq!(env, "HOME LANG LC_ALL PATH PWD TERM TZ ");
    // The last one is the directory that ls reads.
    assert_eq!(capture(&workspace, "ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3 ");
    assert_eq!(
        capture(&workspace, "echo to-out >/dev/stdout; echo x | cat /dev/stdin"),
        "to-out\nx\n"
    );
    assert_eq!(
        capture(&workspace, "(: </dev/tty) 2>/dev/null && echo tty || echo no tty"),
        "no tty\n"
    );
    assert_eq!(capture(&workspace, "umask; pwd"), "0022\n/\n");
    let command = Command::shell("id -u; id -g; pwd; : >/tmp/mine; stat -c %u /tmp/mine")
        .user(1000, 1001)
        .cwd("/srv")
        .stdout(Stdout::Capture(100));
    let output = workspace.run(&command, &Silent).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1000\n1001\n/srv\n1000\n");
    let command = Command::shell(
        "cat /given/given /one; echo new >/out/new; rm /out/given; mkdir /out/made; echo y >/out/made/f
         (echo no >/given/given) 2>/dev/null; ls /empty; echo z >/empty/z",
    )
    .bind_ro(&shared, p("given"))
    .bind_ro(dir.join("single"), p("one"))
    .bind_rw(&shared, p("out"))
    .tmpfs(p("empty"))
    .stdout(Stdout::Capture(100));
    let output = workspace.run(&command, &Silent).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "givensingle");
    assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(shared.join("made/f")).unwrap(), "y\n");
    assert!(!shared.join("given").exists() && shared.join("sub").exists());
    let back = workspace.read_back(&mut sink(&dir)).unwrap();
    for gone in ["given", "one", "out", "empty"] {
        assert!(!back.contains(&p(gone)), "{gone}");
    }
    assert_eq!(support::listing(&tree, &[]), support::listing(&back, &[]), "nothing changed");
    let recorder = Recorder::default();
    workspace
        .run(&Command::shell("echo a; echo b >&2; printf c").source("script"), &recorder)
        .unwrap();
    let lines: Vec<_> = recorder
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Output { source, line } => Some(format!("{source}:{line}")),
            _ => None,
        })
        .collect();
    assert_eq!(lines, ["script:a", "script:b", "script:c"]);
    workspace.remove().unwrap();
}

#[test]
fn failures_say_what_happened() {
    in_every_mode("failures");
}

fn failures() {
    let privilege = support::enter();
    let dir = support::dir();
    let mut tree = host_tools();
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    elf.extend([243, 0, 1, 0, 0, 0]);
    elf.resize(128, 0);
    tree.write(&p("bin/foreign"), 0o755, elf).unwrap();
    tree.write(&p("bin/script"), 0o755, *b"#!/no/interpreter\n").unwrap();
    let workspace = Workspace::create(&dir.join("work"), &tree, &privilege).unwrap();
    let run = |command: &Command| workspace.run(command, &Silent).unwrap_err();
    let Error::Failed(failure) = run(&Command::shell("echo first; echo second >&2; exit 3")) else {
        panic!("not a failure")
    };
    assert_eq!(failure.status, Status::Exited(3));
    assert_eq!(failure.tail, ["first", "second"]);
    assert!(failure.command.starts_with("/bin/sh -c "), "{failure}");
    let Error::Failed(failure) = run(&Command::shell("kill -9 $$")) else { panic!("no failure") };
    assert_eq!(failure.status, Status::Signalled(9));
    for (program, expected) in [
        ("/bin/foreign", "needs binfmt"),
        ("/bin/script", "/no/interpreter is not there"),
        ("/bin/missing", "No such file"),
        ("missing", "not on its PATH"),
        ("/etc/passwd", "ermission denied"),
    ] {
        let error = run(&Command::new(program));
        assert!(matches!(error, Error::Exec { .. }), "{program}: {}", say(&error));
        assert!(say(&error).contains(expected), "{program}: {}", say(&error));
    }
    let error = run(&Command::new("true").cwd("/nowhere"));
    assert!(say(&error).contains("/nowhere"), "{}", say(&error));
    let started = Instant::now();
    // Also what has left the process group and the session must go.
    let script = "sh -c 'sleep 600 & sleep 601' & sleep 602";
    let error = run(&Command::shell(script).timeout(Duration::from_millis(400)));
    let Error::Failed(failure) = error else { panic!("{}", say(&error)) };
    assert_eq!(failure.status, Status::TimedOut(Duration::from_millis(400)));
    assert!(started.elapsed() < Duration::from_secs(20));
    // What is left behind ends with the command.
    workspace.run(&Command::shell("sleep 603 >/dev/null 2>&1 & exit 0"), &Silent).unwrap();
    let bomb = ":(){ : | : & }; :";
    let _ = run_any(&workspace, bomb);
    assert_eq!(sleepers(&["600", "601", "602", "603"]), Vec::<String>::new());
    let error = run(&Command::shell("head -c 100000 /dev/zero").stdout(Stdout::Capture(1000)));
    assert!(say(&error).contains("more than was allowed"), "{}", say(&error));
    let error = run(&Command::new("true").root(Root::Dir("/nonexistent/tools".into())));
    assert!(say(&error).contains("/nonexistent/tools"), "{}", say(&error));
    workspace.remove().unwrap();
}

/// A bounded number of processes for a bounded time.
fn run_any(workspace: &Workspace, script: &str) -> Result<(), Error> {
    let script = script.replace(':', "bomb");
    let script = format!("ulimit -u 200 2>/dev/null; ulimit -p 200 2>/dev/null; {script}; sleep 1");
    let command =
        Command::shell(script).user(4242, 4242).max_processes(301).timeout(Duration::from_secs(1));
    workspace.run(&command, &Silent).map(drop)
}

/// Running processes `sleep N` for these numbers.
fn sleepers(numbers: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        if words.len() > 1 && words[0].ends_with("sleep") && numbers.iter().any(|n| words[1] == *n)
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// Starts a command that does not end by itself.
fn forever() {
    let privilege = support::enter();
    let dir = support::dir();
    let number = std::env::var("NUMBER").unwrap();
    let workspace = Workspace::create(&dir.join("work"), &host_tools(), &privilege).unwrap();
    let script = format!(
        "trap '' TERM HUP; (sh -c 'trap \"\" TERM HUP; sleep {number} & sleep {number}' &); \
         sleep {number} & echo started; cat; sleep {number}"
    );
    workspace
        .run(&Command::shell(script).stdout(Stdout::Inherit).stdin(Stdin::Null), &Silent)
        .unwrap();
}

#[test]
fn killing_mkgold_leaves_no_process_and_no_mount() {
    for (i, (who, mode)) in ways().into_iter().enumerate() {
        let dir = open_dir();
        let number = format!("{}", 70000 + i as u32 + std::process::id() % 10000 * 10);
        let mut child = role_command("forever", who, mode, dir.path())
            .env("NUMBER", &number)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = [0; 8];
        child.stdout.as_mut().unwrap().read_exact(&mut started).unwrap();
        assert_eq!(&started, b"started\n");
        let deadline = Instant::now() + Duration::from_secs(20);
        while sleepers(&[&number]).len() < 4 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(sleepers(&[&number]).len(), 4, "{who:?}: all are running");
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !sleepers(&[&number]).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(sleepers(&[&number]).is_empty(), "{who:?}: processes are left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(!mounts.contains(path), "{who:?}: a mount is left");
        // What a killed run left in the directory can be removed by the next one.
        run_role("remove", who, mode, dir.path());
        assert!(!dir.path().join("work").exists());
    }
}

fn shell() {
    let privilege = support::enter();
    let dir = support::dir();
    let workspace = Workspace::create(&dir.join("work"), &host_tools(), &privilege).unwrap();
    workspace.shell(Command::new("/bin/sh").arg("-i"), &Silent).unwrap();
    workspace.remove().unwrap();
}

#[test]
fn a_shell_has_the_terminal() {
    use std::io::Write;
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::os::unix::process::CommandExt;
    for (who, mode) in ways() {
        let dir = open_dir();
        let (mut master, mut slave) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: two numbers to be filled; no name, no settings.
        let done = unsafe {
            libc::openpty(&mut master, &mut slave, none, std::ptr::null_mut(), std::ptr::null_mut())
        };
        assert_eq!(done, 0);
        // SAFETY: two descriptors that were just made.
        let (mut master, slave) =
            unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let mut command = role_command("shell", who, mode, dir.path());
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        // SAFETY: two system calls that take no lock.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            })
        };
        let mut child = command.spawn().unwrap();
        drop(command);
        master.write_all(b"test -t 0 && echo tty-$((40 + 2))-$(id -u); exit\n").unwrap();
        let mut text = Vec::new();
        // The end of a terminal is an error.
        let _ = master.read_to_end(&mut text);
        assert!(child.wait().unwrap().success(), "{}", String::from_utf8_lossy(&text));
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("tty-42-0"), "{who:?}: {text}");
    }
}

#[test]
fn tools_run_from_a_directory_of_their_own() {
    in_every_mode("tools");
}

/// Tools in a directory that stays as it is, work files bound in, the tree at a path.
fn tools() {
    let privilege = support::enter();
    let dir = support::dir();
    // A tools tree is unpacked by the same user: a workspace's directory is one.
    let tools = Workspace::create(&dir.join("tools"), &host_tools(), &privilege).unwrap();
    let work = dir.join("files");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("in"), "input").unwrap();
    fs::set_permissions(work.join("in"), fs::Permissions::from_mode(0o600)).unwrap();
    let before = names(tools.root());
    let command = Command::shell(
        "tr a-z A-Z </work/in >/work/out; (: >/bin/planted) 2>&-; (: >/planted) 2>&-; echo done",
    )
    .root(Root::Dir(tools.root().to_owned()))
    .bind_rw(&work, p("work"))
    .stdout(Stdout::Capture(100));
    let scratch = dir.join("scratch");
    fs::create_dir(&scratch).unwrap();
    let output = sandbox::run_tool(&privilege, &scratch, &command, &Silent).unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert_eq!(fs::read_to_string(work.join("out")).unwrap(), "INPUT");
    assert_eq!(names(tools.root()), before);
    assert!(!tools.root().join("bin/planted").exists());
    assert_eq!(names(&scratch), Vec::<String>::new());
    let mut tree = Tree::new();
    tree.make_dirs(&p("etc")).unwrap();
    let mut image = Workspace::create(&dir.join("image"), &tree, &privilege).unwrap();
    let script =
        "cd /buildroot && echo hello >etc/file && chown 5:6 etc/file && stat -c %u:%g etc/file";
    let command = Command::shell(script)
        .root(Root::Dir(tools.root().to_owned()))
        .tree_at(p("buildroot"))
        .stdout(Stdout::Capture(100));
    assert_eq!(image.run(&command, &Silent).unwrap().stdout, b"5:6\n");
    let back = image.read_back(&mut sink(&dir)).unwrap();
    let file = back.get(&p("etc/file")).unwrap();
    assert_eq!((file.meta.uid, file.meta.gid), (5, 6));
    assert_eq!(file.content().unwrap().read(10).unwrap(), b"hello\n");
    assert_eq!(back.len(), 3);
    image.remove().unwrap();
    tools.remove().unwrap();
}

#[test]
fn a_script_on_the_host_s_root_can_change_into_the_tree() {
    in_every_mode("host");
}

/// The host read-only, the tree at one path as it is, at another to be changed into.
fn host() {
    let privilege = support::enter();
    let dir = support::dir();
    let mut image = Workspace::create(&dir.join("image"), &host_tools(), &privilege).unwrap();
    fs::create_dir(dir.join("files")).unwrap();
    fs::write(dir.join("files/in"), "input").unwrap();
    let script = "set -e; (: >/etc/planted) 2>&- && exit 9; ls /buildroot/proc; \
        echo outside >/buildroot/srv/outside; \
        chroot /chroot /bin/sh -c 'cat /work/files/in; echo; test -e /proc/self/fd; \
        echo inside >/srv/inside; chown 5:6 /srv/inside; echo gone >/tmp/x; echo >/dev/null; \
        cat /etc/injected'; cat /buildroot/srv/inside";
    let command = Command::shell(script)
        .root(Root::Host)
        .tree_at(p("buildroot"))
        .chroot_at(p("chroot"))
        .bind_ro(dir.join("files"), p("work/files"))
        .inject(sandbox::Inject {
            path: p("etc/injected"),
            mode: 0o644,
            bytes: b"injected\n".to_vec(),
            replace: true,
        })
        .stdout(Stdout::Capture(100));
    let output = image.run(&command, &Silent);
    if privilege.mode() == Mode::RootNoMount {
        assert!(matches!(output, Err(Error::NeedsMount { .. })), "{output:?}");
        return;
    }
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(text, "input\ninjected\ninside\n");
    let back = image.read_back(&mut sink(&dir)).unwrap();
    let inside = back.get(&p("srv/inside")).unwrap();
    assert_eq!((inside.meta.uid, inside.meta.gid), (5, 6));
    assert!(back.contains(&p("srv/outside")));
    for gone in ["etc/injected", "work", "tmp/x"] {
        assert!(!back.contains(&p(gone)), "{gone}");
    }
    image.remove().unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
