//! A serial console: wait for text, type, run commands in a shell.
//!
//! A thread reads what the guest prints into a buffer, so that a guest is never
//! blocked by us, and every wait has a time limit: nothing hangs.

use std::io::{self, Read, Write};
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How much of the console's output an error shows.
const TAIL: usize = 3000;
/// More than any boot prints; a guest that prints without end is cut.
const MAX_OUTPUT: usize = 64 << 20;

/// Why the guest did not do what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It did not come in time.
    #[error("no {wanted:?} on the console within {seconds} s; the last output was:\n{tail}")]
    TimedOut {
        /// What was waited for.
        wanted: String,
        /// For how long.
        seconds: u64,
        /// The end of what was printed.
        tail: String,
    },
    /// QEMU ended before.
    #[error("the machine ended before {wanted:?} came; the last output was:\n{tail}")]
    Ended {
        /// What was waited for.
        wanted: String,
        /// The end of what was printed.
        tail: String,
    },
    /// A command in the guest failed.
    #[error("in the guest: {command}: exit status {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: i32,
        /// What it printed.
        output: String,
    },
    /// Talking to QEMU failed.
    #[error("console: {0}")]
    Io(#[from] io::Error),
}

/// A running machine, driven through its serial port. Killed when dropped.
pub struct Console {
    child: Child,
    input: Box<dyn Write + Send>,
    chunks: Receiver<Vec<u8>>,
    output: Vec<u8>,
    /// Where the next search begins.
    at: usize,
    commands: u32,
}

impl Console {
    /// Takes over a QEMU whose standard input and output are pipes and carry the
    /// guest's serial port.
    pub fn new(mut child: Child) -> io::Result<Console> {
        let missing = || io::Error::other("QEMU was started without pipes");
        let input = Box::new(child.stdin.take().ok_or_else(missing)?);
        let mut source = child.stdout.take().ok_or_else(missing)?;
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = source.read(&mut buf) {
                if sender.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Console { child, input, chunks, output: Vec::new(), at: 0, commands: 0 })
    }

    /// Everything the guest has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Waits until `wanted` is printed after what was matched last; returns what
    /// came before it.
    pub fn expect(&mut self, wanted: &str, limit: Duration) -> Result<String, ConsoleError> {
        self.expect_any(&[wanted], limit).map(|(_, before)| before)
    }

    /// Waits for the first of several texts; returns which, and what came before.
    pub fn expect_any(
        &mut self,
        wanted: &[&str],
        limit: Duration,
    ) -> Result<(usize, String), ConsoleError> {
        let deadline = Instant::now() + limit;
        loop {
            let hit = wanted.iter().enumerate().filter_map(|(n, w)| Some((self.find(w)?, n))).min();
            if let Some((start, n)) = hit {
                let before = String::from_utf8_lossy(&self.output[self.at..start]).into_owned();
                self.at = start + wanted[n].len();
                return Ok((n, before));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.take(&chunk)?,
                Err(RecvTimeoutError::Timeout) => {
                    let (wanted, tail) = (wanted.join(" | "), self.tail());
                    return Err(ConsoleError::TimedOut { wanted, seconds: limit.as_secs(), tail });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let (wanted, tail) = (wanted.join(" | "), self.tail());
                    return Err(ConsoleError::Ended { wanted, tail });
                }
            }
        }
    }

    fn find(&self, wanted: &str) -> Option<usize> {
        let haystack = &self.output[self.at..];
        let found = haystack.windows(wanted.len()).position(|w| w == wanted.as_bytes());
        found.map(|n| self.at + n)
    }

    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        if self.output.len() + chunk.len() > MAX_OUTPUT {
            return Err(io::Error::other("the guest prints without end"));
        }
        // Carriage returns only matter to a terminal.
        self.output.extend(chunk.iter().filter(|b| **b != b'\r'));
        Ok(())
    }

    fn tail(&self) -> String {
        let start = self.output.len().saturating_sub(TAIL);
        String::from_utf8_lossy(&self.output[start..]).into_owned()
    }

    /// Types `text`.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.input.write_all(text.as_bytes())?;
        self.input.flush()
    }

    /// Waits for the login prompt and logs root in; the shell is set up so that
    /// [`Console::run`] sees plain output. An empty password is not asked for.
    pub fn login(&mut self, password: &str, limit: Duration) -> Result<(), ConsoleError> {
        self.expect("login: ", limit)?;
        self.send("root\n")?;
        if !password.is_empty() {
            self.expect("assword: ", limit)?;
            self.send(&format!("{password}\n"))?;
        }
        self.expect_any(&["# ", "$ "], limit)?;
        // Split in the middle, so that the echo of the line is not the answer.
        self.send("stty -echo cols 500 2>/dev/null; PS1= PS2= TERM=dumb; echo re''ady\n")?;
        self.expect("ready\n", limit).map(|_| ())
    }

    /// Runs a command line in the shell; its output if it succeeds.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<String, ConsoleError> {
        let (status, output) = self.status(command, limit)?;
        match status {
            0 => Ok(output),
            _ => Err(ConsoleError::Command { command: command.into(), status, output }),
        }
    }

    /// Runs a command line in the shell; its exit status and output.
    pub fn status(
        &mut self,
        command: &str,
        limit: Duration,
    ) -> Result<(i32, String), ConsoleError> {
        self.commands += 1;
        let n = self.commands;
        self.send(&format!("echo 'BEGIN'-{n}; {{ {command}\n}} 2>&1; echo \"END-{n}\":$?:\n"))?;
        self.expect(&format!("BEGIN-{n}\n"), limit)?;
        let output = self.expect(&format!("END-{n}:"), limit)?;
        let status = self.expect(":\n", limit)?;
        Ok((status.trim().parse().unwrap_or(-1), output))
    }

    /// Waits until QEMU ends (the guest powered off).
    pub fn wait_end(&mut self, limit: Duration) -> Result<(), ConsoleError> {
        match self.expect("\u{0}never\u{0}", limit) {
            Err(ConsoleError::Ended { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Ends the machine at once, as a power cut would.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn shell(script: &str) -> Console {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Console::new(command.spawn().unwrap()).unwrap()
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn logs_in_and_runs_commands() {
        let mut console = shell(
            "printf 'box login: '; read u; printf 'Password: '; read p; printf '%s:%s# ' $u $p; exec /bin/sh",
        );
        console.login("secret", LIMIT).unwrap();
        assert_eq!(console.run("echo a; echo b >&2", LIMIT).unwrap(), "a\nb\n");
        assert_eq!(console.status("exit_with() { return 3; }; exit_with", LIMIT).unwrap().0, 3);
        let error = console.run("echo no; false", LIMIT).unwrap_err();
        assert!(matches!(error, ConsoleError::Command { status: 1, .. }));
        assert!(console.output().contains("root:secret"));
    }

    #[test]
    fn waiting_ends_in_an_error_that_shows_the_output() {
        let mut console = shell("echo kernel panic; sleep 30");
        let error = console.expect("login: ", Duration::from_millis(300)).unwrap_err();
        assert!(matches!(&error, ConsoleError::TimedOut { tail, .. } if tail.contains("panic")));
        let mut console = shell("echo bye");
        let error = console.expect("login: ", LIMIT).unwrap_err();
        assert!(matches!(&error, ConsoleError::Ended { tail, .. } if tail.contains("bye")));
    }

    #[test]
    fn the_first_of_several_counts() {
        let mut console = shell("echo one two three");
        assert_eq!(console.expect_any(&["three", "two"], LIMIT).unwrap(), (1, "one ".into()));
        console.wait_end(LIMIT).unwrap();
    }
}
