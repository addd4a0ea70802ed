//! A small HTTP/1.1 server on the loopback interface, with bad manners on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a path misbehaves.
#[derive(Debug, Clone)]
pub enum Trick {
    /// Announces all, sends this many bytes of the body, closes.
    Truncate(usize),
    /// Sends this many bytes and then nothing, for a while.
    Stall(usize),
    /// This status.
    Status(u16),
    /// Redirects there.
    Redirect(String),
    /// Answers 200 with everything to any Range.
    IgnoreRange,
    /// Answers 206 with another range than asked for.
    WrongRange,
    /// Sends this many bytes and then nothing, for as long as nobody hangs up.
    Hang(usize),
    /// A small piece every few milliseconds.
    Slow,
    /// Without a length, one byte too many and far more.
    Endless,
    /// A length that is larger, with that many bytes.
    Larger,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Per path: the trick and for how many requests.
    tricks: BTreeMap<String, (Trick, usize)>,
    /// Path and Range of each request.
    requests: Vec<(String, Option<String>)>,
    /// The targets as they stood in the request lines.
    targets: Vec<String>,
    /// Headers that carry credentials.
    credentials: Vec<String>,
}

struct Request {
    target: String,
    path: String,
    range: Option<String>,
    credentials: Vec<String>,
}

/// The server; ends when dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Starts it on a free port.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            connections: Arc::default(),
            stop: Arc::default(),
        };
        let (state, stop) = (server.state.clone(), server.stop.clone());
        let connections = server.connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                connections.fetch_add(1, Ordering::SeqCst);
                let state = state.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        server
    }

    /// `http://ADDRESS:PORT`.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves `bytes` at `path`.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.state.lock().unwrap().files.insert(path.to_owned(), bytes);
    }

    /// What is served at `path`.
    pub fn get(&self, path: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[path].clone()
    }

    /// Serves `path` no longer.
    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path);
    }

    /// Serves nothing that begins with `dir` any longer.
    pub fn remove_below(&self, dir: &str) {
        self.state.lock().unwrap().files.retain(|path, _| !path.starts_with(dir));
    }

    /// Misbehaves for the next `times` requests of `path`.
    pub fn trick(&self, path: &str, trick: Trick, times: usize) {
        self.state.lock().unwrap().tricks.insert(path.to_owned(), (trick, times));
    }

    /// No more tricks.
    pub fn behave(&self) {
        self.state.lock().unwrap().tricks.clear();
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// The targets of the request lines since the last call.
    pub fn targets(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().targets)
    }

    /// The headers with credentials since the last call.
    pub fn credentials(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().credentials)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut out = stream;
    while let Some(request) = request(&mut reader) {
        let Request { path, range, .. } = request;
        let (file, trick) = {
            let mut state = state.lock().unwrap();
            state.targets.push(request.target);
            state.credentials.extend(request.credentials);
            state.requests.push((path.clone(), range.clone()));
            let trick = match state.tricks.get_mut(&path) {
                Some((trick, left)) if *left > 0 => {
                    *left -= 1;
                    Some(trick.clone())
                }
                _ => None,
            };
            (state.files.get(&path).cloned(), trick)
        };
        if answer(&mut out, range.as_deref(), file, trick).is_none() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    // What a proxy is asked: the path is what counts here.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest[rest.find('/')?..].to_owned(),
        None => target.clone(),
    };
    let (mut range, mut credentials) = (None, Vec::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim();
        if header.is_empty() {
            return Some(Request { target, path, range, credentials });
        }
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.trim().to_owned()),
            name @ ("authorization" | "proxy-authorization") => {
                credentials.push(format!("{name}:{value}"));
            }
            _ => {}
        }
    }
}

/// How many bytes [`Trick::Larger`] adds.
const MORE: usize = 10;

/// Sends the head of an answer.
fn head(out: &mut TcpStream, status: u16, headers: &str) -> Option<()> {
    out.write_all(format!("HTTP/1.1 {status} X\r\n{headers}\r\n").as_bytes()).ok()
}

/// Answers; `None` closes the connection.
fn answer(
    out: &mut TcpStream,
    range: Option<&str>,
    file: Option<Vec<u8>>,
    trick: Option<Trick>,
) -> Option<()> {
    match &trick {
        Some(Trick::Status(status)) => return head(out, *status, "Content-Length: 0\r\n"),
        Some(Trick::Redirect(to)) => {
            return head(out, 302, &format!("Location: {to}\r\nContent-Length: 0\r\n"));
        }
        _ => {}
    }
    let Some(file) = file else { return head(out, 404, "Content-Length: 0\r\n") };
    let asked = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = match (&trick, asked) {
        (Some(Trick::IgnoreRange), _) | (_, None) => 0,
        (Some(Trick::WrongRange), Some(from)) => from + 1,
        (_, Some(from)) => from,
    };
    if from > 0 && from >= file.len() {
        let headers = format!("Content-Range: bytes */{}\r\nContent-Length: 0\r\n", file.len());
        return head(out, 416, &headers);
    }
    let extra = if matches!(trick, Some(Trick::Larger)) { MORE } else { 0 };
    let length = file.len() - from + extra;
    if matches!(trick, Some(Trick::Endless)) {
        head(out, 200, "Connection: close\r\n")?;
    } else if from > 0 {
        let (last, total) = (file.len() - 1, file.len());
        let range = format!("Content-Range: bytes {from}-{last}/{total}\r\n");
        head(out, 206, &format!("{range}Content-Length: {length}\r\n"))?;
    } else {
        head(out, 200, &format!("Content-Length: {length}\r\n"))?;
    }
    send(out, &file[from..], trick)
}

/// Sends the body of an answer, or what a trick makes of it.
fn send(out: &mut TcpStream, body: &[u8], trick: Option<Trick>) -> Option<()> {
    let first = |n: usize| &body[..n.min(body.len())];
    match trick {
        Some(Trick::Endless) => {
            out.write_all(body).ok()?;
            (0..1000).try_for_each(|_| out.write_all(&[0; 65536]).ok())?;
            None
        }
        Some(Trick::Truncate(n)) => {
            out.write_all(first(n)).ok()?;
            None
        }
        Some(Trick::Stall(n)) => {
            out.write_all(first(n)).ok()?;
            std::thread::sleep(Duration::from_secs(2));
            None
        }
        Some(Trick::Hang(n)) => {
            out.write_all(first(n)).ok()?;
            // Whoever waits on the other side gives up some time, and says so.
            let mut byte = [0];
            let _ = out.set_read_timeout(Some(Duration::from_secs(600)));
            let _ = std::io::Read::read(out, &mut byte);
            None
        }
        Some(Trick::Slow) => body.chunks(body.len().div_ceil(20).max(1)).try_for_each(|chunk| {
            std::thread::sleep(Duration::from_millis(20));
            out.write_all(chunk).ok()
        }),
        Some(Trick::Larger) => {
            out.write_all(body).ok()?;
            out.write_all(&[0; MORE]).ok()
        }
        _ => out.write_all(body).ok(),
    }
}
