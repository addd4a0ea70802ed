//! Runs a [`Command`]: makes its plan, starts it, listens to it, cleans up.
//!
//! Data flow: command + site → plan (`plan`, `world` or `plain`) → child processes
//! (`child`, `reaper`) → output lines to the reporter, a [`Status`] back. The
//! supervisor's thread answers its system calls meanwhile.

mod child;
mod farm;
mod output;
mod plain;
mod plan;
mod prepare;
mod reaper;
mod scratch;
mod world;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use report::Reporter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use crate::command::{Command, Stdin, Stdout};
use crate::error::{Failure, Status};
use crate::ledger::Ledger;
use crate::privilege::Privilege;
use crate::supervisor::{CredTable, Creds, Policy, Supervisor};
use crate::{Error, sys};
use child::Report;
use output::{Lines, Partial};
use plan::{Fds, Plan};
pub(crate) use scratch::Scratch;

/// What a successful command gave back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its standard output, if it was to be captured.
    pub stdout: Vec<u8>,
}

/// Where commands run.
pub(crate) struct Site<'a> {
    pub privilege: &'a Privilege,
    pub policy: Policy,
    pub ledger: &'a Arc<Ledger>,
    pub creds: &'a Arc<CredTable>,
    /// The directory that holds the tree, if there is a workspace.
    pub tree: Option<&'a Path>,
    /// A directory for what must be on the same file system.
    pub scratch: &'a Path,
    /// Whether device nodes can be made.
    pub devices: bool,
}

impl<'a> Site<'a> {
    fn tree(&self) -> Result<&'a Path, Error> {
        self.tree.ok_or_else(|| Error::Invalid("this command needs a workspace".into()))
    }
}

/// Since Linux 6.14 the number of processes is limited per pid namespace; before, the
/// file is the whole machine's.
fn pid_limit_is_private() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 14)
}

/// Runs the command to its end. An exit status other than 0 is an error.
pub(crate) fn execute(
    site: &Site<'_>,
    command: &Command,
    reporter: &dyn Reporter,
) -> Result<Output, Error> {
    let native_ids = site.privilege.all_ids();
    let (uid, gid) = command.user;
    let creds = match native_ids || (uid, gid) == (0, 0) {
        true => 0,
        false => site.creds.number(Creds::of(uid, gid)).unwrap_or(0),
    };
    let mut policy = site.policy;
    if !site.privilege.mounts() {
        policy.watch.no_network = !command.network;
    }
    let mut plan = Plan::new(command, site.privilege, policy.watch, creds)?;
    let mut scratch = Scratch::new(site.scratch);
    let back = match site.privilege.mounts() {
        true => {
            let prepared = world::build(site, command, &mut scratch, &mut plan)?;
            plain::Back::only(prepared)
        }
        false => plain::build(site, command, &mut scratch, &mut plan, reporter)?,
    };
    let result = Run { site, command, policy, plan: &plan, reporter }.go();
    back.finish().and(result)
}

/// Where the listener comes in the list of what is waited for.
const LISTENER: usize = 3;

struct Run<'a> {
    site: &'a Site<'a>,
    command: &'a Command,
    policy: Policy,
    plan: &'a Plan,
    reporter: &'a dyn Reporter,
}

/// The parent's ends of what it shares with the child.
struct Ends {
    go: OwnedFd,
    status: OwnedFd,
    listener: OwnedFd,
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
}

impl Run<'_> {
    fn fail(&self, step: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        let (command, step) = (self.command.line(), step.to_owned());
        move |source| Error::Setup { command, step, source }
    }

    fn go(&self) -> Result<Output, Error> {
        let (ends, fds, theirs) = self.connect().map_err(self.fail("make pipes"))?;
        let (send, receive) = mpsc::channel();
        let supervisor = match self.plan.listen {
            true => Some(
                Supervisor::start(
                    self.policy,
                    self.site.ledger.clone(),
                    self.site.creds.clone(),
                    receive,
                )
                .map_err(self.fail("start the supervisor"))?,
            ),
            false => None,
        };
        let _terminal = self.plan.interactive.then(Terminal::lend);
        let pid = match child::clone_process(self.plan.clone_flags) {
            Ok(0) => child::init(self.plan, &fds),
            Ok(pid) => pid,
            Err(errno) => {
                drop(send);
                let error = io::Error::from_raw_os_error(errno);
                return Err(self.fail("make its namespaces")(error));
            }
        };
        drop(theirs);
        let mut first = First { pid, reaped: false, gently: self.plan.must_kill };
        let started = rustix::io::write(&ends.go, b"!").map_err(io::Error::from);
        started.map_err(self.fail("start its first process"))?;
        let heard = self.listen(&ends, send, &mut first);
        first.reap();
        drop(supervisor);
        self.conclude(heard?)
    }

    /// Makes the pipes. The child's ends are numbers above 2 in `Fds`, kept open by
    /// what comes with them.
    fn connect(&self) -> io::Result<(Ends, Fds, Vec<OwnedFd>)> {
        let mut theirs = Vec::new();
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let mut lend = |fd: OwnedFd| -> io::Result<RawFd> {
            let high = rustix::io::fcntl_dupfd_cloexec(&fd, 10)?;
            let number = high.as_raw_fd();
            theirs.push(high);
            Ok(number)
        };
        let (go_read, go) = pipe()?;
        let (status, status_write) = pipe()?;
        let (listener, listener_child) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let stdin = lend(self.stdin()?)?;
        let (mut out, mut err) = (None, None);
        let inherited = |fd: &dyn AsRawFd| -> io::Result<OwnedFd> {
            // SAFETY: the standard streams stay open for the whole life of the process.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd.as_raw_fd()) };
            fd.try_clone_to_owned()
        };
        let (stdout, stderr) = match self.command.stdout {
            Stdout::Inherit => (lend(inherited(&io::stdout())?)?, lend(inherited(&io::stderr())?)?),
            Stdout::Report => {
                let (read, write) = pipe()?;
                err = Some(read);
                let number = lend(write)?;
                (number, number)
            }
            Stdout::Capture(_) => {
                let ((read_out, write_out), (read_err, write_err)) = (pipe()?, pipe()?);
                (out, err) = (Some(read_out), Some(read_err));
                (lend(write_out)?, lend(write_err)?)
            }
        };
        let fds = Fds {
            stdio: [stdin, stdout, stderr],
            go: lend(go_read)?,
            status: lend(status_write)?,
            listener: lend(listener_child)?,
        };
        Ok((Ends { go, status, listener, out, err }, fds, theirs))
    }

    fn stdin(&self) -> io::Result<OwnedFd> {
        match &self.command.stdin {
            Stdin::Null => Ok(File::open("/dev/null")?.into()),
            Stdin::Inherit => io::stdin().as_fd().try_clone_to_owned(),
            Stdin::File(input) => input.0.try_clone(),
            Stdin::Bytes(bytes) => {
                let flags = rustix::fs::MemfdFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::memfd_create(c"stdin", flags)?);
                file.write_all(bytes)?;
                io::Seek::rewind(&mut file)?;
                Ok(file.into())
            }
        }
    }

    /// Reads everything until all ends are closed, which is when all processes are gone.
    fn listen(
        &self,
        ends: &Ends,
        send: mpsc::Sender<OwnedFd>,
        first: &mut First,
    ) -> Result<Heard<'_>, Error> {
        let mut heard = Heard::new(self.reporter, self.command);
        let deadline = self.command.timeout.map(|limit| Instant::now() + limit);
        let mut send = Some(send);
        let mut open = [true, ends.out.is_some(), ends.err.is_some()];
        while open != [false; 3] {
            let streams = [Some(&ends.status), ends.out.as_ref(), ends.err.as_ref()];
            let listener = send.as_ref().map(|_| &ends.listener);
            let mut indices = Vec::new();
            let mut fds = Vec::new();
            for (i, stream) in streams.into_iter().chain([listener]).enumerate() {
                if let (true, Some(stream)) = (i == LISTENER || open[i], stream) {
                    indices.push(i);
                    fds.push(PollFd::new(stream, PollFlags::IN));
                }
            }
            match wait(&mut fds, deadline.filter(|_| !heard.timed_out)) {
                Ok(true) => {}
                Ok(false) => {
                    heard.timed_out = true;
                    first.stop();
                    continue;
                }
                Err(e) => return Err(self.fail("wait for it")(e)),
            }
            let ready = fds.iter().zip(indices).filter(|(fd, _)| !fd.revents().is_empty());
            for i in ready.map(|(_, i)| i).collect::<Vec<_>>() {
                if i == LISTENER {
                    let sender = send.take();
                    let fd = receive_fd(&ends.listener);
                    drop(sender.zip(fd).map(|(sender, fd)| sender.send(fd)));
                } else if let Some(stream) = streams[i] {
                    open[i] = heard.take(i, stream).map_err(self.fail("read from it"))?;
                }
            }
            if heard.too_much {
                first.stop();
            }
        }
        Ok(heard)
    }

    fn conclude(&self, mut heard: Heard) -> Result<Output, Error> {
        heard.finish();
        let line = self.command.line();
        if heard.too_much {
            let what = format!("{line} printed more than was allowed for");
            return Err(Error::Invalid(what));
        }
        let status = match heard.report {
            _ if heard.timed_out => {
                Status::TimedOut(self.command.timeout.expect("there was a limit"))
            }
            Some(Report { kind: child::STEP_FAILED, step, code }) => {
                let step = self.plan.steps.get(step as usize).map(plan::Step::describe);
                let source = io::Error::from_raw_os_error(code);
                return Err(self.fail(&step.unwrap_or_default())(source));
            }
            Some(Report { kind: child::START_FAILED, step, code }) => {
                return Err(self.start_failed(step, code));
            }
            Some(Report { code, .. }) if libc::WIFEXITED(code) => {
                Status::Exited(libc::WEXITSTATUS(code))
            }
            Some(Report { code, .. }) => Status::Signalled(libc::WTERMSIG(code)),
            None => {
                let gone = io::Error::other("its first process was killed");
                return Err(self.fail("wait for it")(gone));
            }
        };
        if status.success() {
            return Ok(Output { stdout: heard.stdout });
        }
        Err(Box::new(Failure { command: line, status, tail: heard.lines.tail() }).into())
    }

    fn start_failed(&self, at: u32, errno: i32) -> Error {
        let source = io::Error::from_raw_os_error(errno);
        match at {
            child::AT_EXEC => {
                let command = self.command.line();
                let root = match &self.command.root {
                    crate::Root::Tree => self.site.tree.unwrap_or(Path::new("/")),
                    crate::Root::Dir(dir) => dir,
                    crate::Root::Host => Path::new("/"),
                };
                let why = crate::elf::why_not(root, self.command, &source);
                Error::Exec { command, why }
            }
            child::AT_CWD => self.fail(&format!("enter {}", self.command.cwd.display()))(source),
            child::AT_SECCOMP if errno == libc::EBUSY => self.fail(
                "install the system-call filter (another supervisor, such as LXD's, is \
                 already there)",
            )(source),
            child::AT_SECCOMP => self.fail("install the system-call filter")(source),
            child::AT_IDS => self.fail("change to its user")(source),
            child::AT_CHROOT => self.fail("change the root (CAP_SYS_CHROOT)")(source),
            child::AT_STDIO => self.fail("connect its standard streams")(source),
            _ => self.fail("start it")(source),
        }
    }
}

/// Waits for any of the descriptors; false if the time is up.
fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn receive_fd(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(socket, &mut buffers, &mut control, flags).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// What came out of a command.
struct Heard<'a> {
    lines: Lines<'a>,
    partial: [Partial; 2],
    stdout: Vec<u8>,
    limit: usize,
    report: Option<Report>,
    report_bytes: Vec<u8>,
    timed_out: bool,
    too_much: bool,
}

impl<'a> Heard<'a> {
    fn new(reporter: &'a dyn Reporter, command: &Command) -> Heard<'a> {
        let limit = match command.stdout {
            Stdout::Capture(limit) => limit,
            _ => 0,
        };
        Heard {
            lines: Lines::new(reporter, command.label()),
            partial: Default::default(),
            stdout: Vec::new(),
            limit,
            report: None,
            report_bytes: Vec::new(),
            timed_out: false,
            too_much: false,
        }
    }

    /// Reads from stream `i` (status, output, error); false at its end.
    fn take(&mut self, i: usize, stream: &OwnedFd) -> io::Result<bool> {
        let mut buffer = [0u8; 16384];
        let got = match rustix::io::read(stream, &mut buffer) {
            Ok(0) => return Ok(false),
            Ok(got) => &buffer[..got],
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(e) => return Err(e.into()),
        };
        match i {
            0 => self.status(got),
            1 if self.stdout.len() + got.len() > self.limit => self.too_much = true,
            1 => self.stdout.extend_from_slice(got),
            _ => self.partial[1].feed(got, &mut self.lines),
        }
        Ok(true)
    }

    /// The first report counts: what failed first is the reason.
    fn status(&mut self, bytes: &[u8]) {
        self.report_bytes.extend_from_slice(bytes);
        let word = |at: usize| {
            let bytes = self.report_bytes.get(at..at + 4)?;
            Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        if let (None, Some(kind), Some(step), Some(code)) = (self.report, word(0), word(4), word(8))
        {
            self.report = Some(Report { kind, step, code: code as i32 });
        }
    }

    fn finish(&mut self) {
        for partial in &mut self.partial {
            partial.finish(&mut self.lines);
        }
    }
}

/// The sandbox's first process; whatever happens, it does not outlive this value.
struct First {
    pid: i32,
    reaped: bool,
    gently: bool,
}

impl First {
    /// Ends the sandbox, in a way that ends everything in it.
    fn stop(&self) {
        let signal = if self.gently { libc::SIGTERM } else { libc::SIGKILL };
        // SAFETY: our own child, which nobody else waits for.
        unsafe { libc::kill(self.pid, signal) };
    }

    fn reap(&mut self) {
        if !self.reaped {
            // SAFETY: our own child; no status is asked for.
            while unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) } < 0
                && sys::errno(&io::Error::last_os_error()) == libc::EINTR
            {}
            self.reaped = true;
        }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if !self.reaped {
            self.stop();
            self.reap();
        }
    }
}

/// The terminal, lent to an interactive command: what is typed there is not for us.
struct Terminal {
    before: [libc::sighandler_t; 3],
}

const TERMINAL_SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTTOU];

impl Terminal {
    fn lend() -> Terminal {
        // SAFETY: ignoring a signal runs no code.
        Terminal { before: TERMINAL_SIGNALS.map(|s| unsafe { libc::signal(s, libc::SIG_IGN) }) }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let stdin = io::stdin();
        if rustix::termios::isatty(&stdin) {
            // A shell with job control made itself the foreground group.
            let _ = rustix::termios::tcsetpgrp(&stdin, rustix::process::getpgrp());
        }
        for (signal, before) in TERMINAL_SIGNALS.into_iter().zip(self.before) {
            // SAFETY: puts back what was there.
            unsafe { libc::signal(signal, before) };
        }
    }
}
