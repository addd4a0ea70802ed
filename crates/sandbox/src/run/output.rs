//! A command's output: lines for the reporter, and the last of them for an error.

use std::collections::VecDeque;

use report::{Event, Reporter};

/// How many lines an error shows.
const TAIL_LINES: usize = 40;
/// A line longer than this is reported in pieces.
const LINE_MAX: usize = 8192;

pub(crate) struct Lines<'a> {
    reporter: &'a dyn Reporter,
    source: String,
    tail: VecDeque<String>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(reporter: &'a dyn Reporter, source: String) -> Self {
        Lines { reporter, source, tail: VecDeque::new() }
    }

    fn line(&mut self, bytes: &[u8]) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let line = String::from_utf8_lossy(bytes).into_owned();
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        self.reporter.event(Event::Output { source: self.source.clone(), line });
    }

    pub(crate) fn tail(self) -> Vec<String> {
        self.tail.into()
    }
}

/// Bytes of one stream that do not make a line yet.
#[derive(Default)]
pub(crate) struct Partial(Vec<u8>);

impl Partial {
    pub(crate) fn feed(&mut self, bytes: &[u8], lines: &mut Lines<'_>) {
        let mut pieces = bytes.split(|b| *b == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            self.0.extend_from_slice(piece);
            while self.0.len() > LINE_MAX {
                let rest = self.0.split_off(LINE_MAX);
                lines.line(&self.0);
                self.0 = rest;
            }
            if pieces.peek().is_some() {
                lines.line(&self.0);
                self.0.clear();
            }
        }
    }

    pub(crate) fn finish(&mut self, lines: &mut Lines<'_>) {
        if !self.0.is_empty() {
            lines.line(&self.0);
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_the_tail_is_bounded() {
        let recorder = report::Recorder::default();
        let mut lines = Lines::new(&recorder, "x".into());
        let mut partial = Partial::default();
        for piece in [&b"one\ntw"[..], b"o\r\n", b"\nfour"] {
            partial.feed(piece, &mut lines);
        }
        partial.finish(&mut lines);
        for n in 0..1000 {
            partial.feed(format!("{n}\n").as_bytes(), &mut lines);
        }
        partial.feed(&[b'z'; 20000], &mut lines);
        let seen: Vec<String> = recorder
            .events()
            .into_iter()
            .filter_map(|e| match e {
                Event::Output { line, .. } => Some(line),
                _ => None,
            })
            .collect();
        assert_eq!(seen[..4], ["one", "two", "", "four"]);
        assert_eq!(seen.last().unwrap().len(), LINE_MAX);
        assert_eq!(lines.tail().len(), TAIL_LINES);
    }
}
