//! The tools of others that make a format, and how they are called.
//!
//! What it is: which tool, its exact arguments, and the tar stream that it reads the
//! Tree from. What it is not: starting processes, which only the sandbox does: it
//! implements [`ToolRunner`].

use std::io::{self, Write};
use std::path::Path;

use tree::Tree;

use crate::FsError;

/// A tool that makes a file system from a tar stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// erofs-utils, 1.7 or later (`--tar=f` from standard input).
    MkfsErofs,
    /// squashfs-tools, 4.6 or later (`-tar`, pseudo definitions of xattrs).
    Mksquashfs,
}

impl Tool {
    /// The command.
    pub fn name(self) -> &'static str {
        match self {
            Tool::MkfsErofs => "mkfs.erofs",
            Tool::Mksquashfs => "mksquashfs",
        }
    }

    /// The Debian package that has it.
    pub fn package(self) -> &'static str {
        match self {
            Tool::MkfsErofs => "erofs-utils",
            Tool::Mksquashfs => "squashfs-tools",
        }
    }
}

/// One argument of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// As it is.
    Text(String),
    /// The path of the output file, as the tool sees it.
    Output,
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Arg::Text(text.into())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Arg::Text(text)
    }
}

/// Why a tool failed, with its command line and output, as the runner tells it.
pub type ToolFailure = Box<dyn std::error::Error + Send + Sync>;

/// Writes a tool's standard input. May be called once.
pub type Feed<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// Runs tools; implemented where processes are started.
pub trait ToolRunner {
    /// Runs `tool` with `args`, its standard input written by `stdin`, so that it makes
    /// the file `output`. Nothing of this process's environment may reach the
    /// tool: `SOURCE_DATE_EPOCH`, `TZ` and `LANG` change what these tools write.
    fn run(
        &self,
        tool: Tool,
        args: &[Arg],
        stdin: Feed<'_>,
        output: &Path,
    ) -> Result<(), ToolFailure>;
}

/// Feeds the tree to a tool as a tar stream.
pub(crate) fn run(
    runner: &dyn ToolRunner,
    tool: Tool,
    args: &[Arg],
    tree: &Tree,
    output: &Path,
) -> Result<(), FsError> {
    let mut feed = |out: &mut dyn Write| tree::tar::write(tree, out);
    runner
        .run(tool, args, &mut feed, output)
        .map_err(|source| FsError::Tool { tool: tool.name(), source })
}
