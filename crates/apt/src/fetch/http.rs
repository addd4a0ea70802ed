//! One request: HTTP over a pool of kept connections, or a local file.
//!
//! Redirections are followed here, by hand: their number is limited, https does
//! not fall back to http, and none leads to a file. Bodies come as the server sent
//! them (no content coding is asked for).
//!
//! TLS: rustls with `ring`. Servers are checked with the certificates of this
//! machine; where it has none (a bare container), with Mozilla's list, which is in
//! the binary (`webpki-roots`).
//!
//! Not here: retries, sums, files ([`super::object`]).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, OnceLock};

use base64::Engine;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use super::proxy::{AbsoluteForm, ToProxy};
use super::{FetchError, FetchOptions};
use crate::uri::{Scheme, Uri};

/// Connections that are kept.
const MAX_IDLE: usize = 16;

/// A body, and where in the file it starts.
pub(crate) struct Answer {
    /// The offset of its first byte in the file.
    pub start: u64,
    /// The size of the whole file, if the server says it.
    pub total: Option<u64>,
    /// The bytes.
    pub body: Box<dyn Read>,
}

/// Makes requests; shared by all threads.
pub(crate) struct Client {
    options: FetchOptions,
    plain: OnceLock<Agent>,
    proxied: OnceLock<Option<Agent>>,
    tls: OnceLock<Result<Agent, String>>,
}

impl Client {
    pub fn new(options: FetchOptions) -> Client {
        Client { options, plain: OnceLock::new(), proxied: OnceLock::new(), tls: OnceLock::new() }
    }

    pub fn options(&self) -> &FetchOptions {
        &self.options
    }

    /// Asks for `uri` from the byte `from` on. The answer may start at 0 all the same.
    pub fn get(&self, uri: &Uri, from: u64) -> Result<Answer, FetchError> {
        if let Some(path) = uri.file_path() {
            return open_file(uri, &path, from);
        }
        let mut at = uri.clone();
        for _ in 0..=self.options.max_redirects {
            let response = self.ask(uri, &at, from)?;
            let status = response.status().as_u16();
            match status {
                200 | 206 => return answer(uri, response, from),
                301 | 302 | 303 | 307 | 308 => at = redirected(uri, &at, response.headers())?,
                416 => return Err(FetchError::Range { path: uri.path().to_owned() }),
                _ => return Err(refused(uri, status)),
            }
        }
        Err(FetchError::Redirects {
            path: uri.path().to_owned(),
            limit: self.options.max_redirects,
        })
    }

    fn ask(&self, asked: &Uri, at: &Uri, from: u64) -> Result<Response<ureq::Body>, FetchError> {
        let proxy = self.options.proxies.for_uri(at);
        let agent = match (at.scheme(), proxy) {
            (Scheme::Http, Some(proxy)) => self.proxied(proxy)?,
            _ => self.agent(at)?,
        };
        let mut request = agent.get(at.as_str());
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(credentials) = credentials(at.authority()) {
            request = request.header(header::AUTHORIZATION, credentials);
        }
        match (at.scheme(), proxy) {
            (Scheme::Https, Some(proxy)) => {
                let proxy = ureq::Proxy::new(proxy).map_err(|_| FetchError::Proxy)?;
                request = request.config().proxy(Some(proxy)).build();
            }
            (_, Some(proxy)) => {
                let authority = Uri::parse(proxy).map(|proxy| proxy.authority().to_owned());
                if let Some(credentials) = credentials(&authority.unwrap_or_default()) {
                    request = request.header(header::PROXY_AUTHORIZATION, credentials);
                }
            }
            (_, None) => {}
        }
        request.call().map_err(|error| network(asked, error))
    }

    /// For plain http through a proxy; there is one such proxy.
    fn proxied(&self, proxy: &str) -> Result<&Agent, FetchError> {
        let make = || {
            let with_scheme =
                if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
            let uri: ureq::http::Uri = with_scheme.parse().ok()?;
            if uri.scheme_str() != Some("http") || uri.host().is_none() {
                return None;
            }
            let connector = TcpConnector::default().chain(AbsoluteForm);
            let resolver = ToProxy { proxy: uri, inner: DefaultResolver::default() };
            Some(Agent::with_parts(self.config(None), connector, resolver))
        };
        self.proxied.get_or_init(make).as_ref().ok_or(FetchError::Proxy)
    }

    fn agent(&self, uri: &Uri) -> Result<&Agent, FetchError> {
        if uri.scheme() != Scheme::Https {
            return Ok(self.plain.get_or_init(|| self.config(None).new_agent()));
        }
        let agent = self.tls.get_or_init(|| {
            let roots = self.roots()?;
            let tls = TlsConfig::builder().root_certs(roots).build();
            Ok(self.config(Some(tls)).new_agent())
        });
        agent.as_ref().map_err(|reason| FetchError::Certificates { reason: reason.clone() })
    }

    fn config(&self, tls: Option<TlsConfig>) -> Config {
        super::resolve::use_built_in();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("mkgold/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(MAX_IDLE)
            .max_idle_connections_per_host(MAX_IDLE)
            .timeout_connect(Some(self.options.connect_timeout))
            .timeout_resolve(Some(self.options.connect_timeout))
            .timeout_recv_response(Some(self.options.stall_timeout))
            .timeout_per_read(Some(self.options.stall_timeout));
        if let Some(tls) = tls {
            config = config.tls_config(tls);
        }
        config.build()
    }

    /// The certificates that https servers are checked with.
    fn roots(&self) -> Result<RootCerts, String> {
        let certs: Vec<Certificate<'static>> = match &self.options.ca_file {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
                let certs = parse_pem(&pem).filter_map(|item| match item {
                    Ok(PemItem::Certificate(cert)) => Some(Ok(cert)),
                    Ok(_) => None,
                    Err(e) => Some(Err(format!("{}: {e}", path.display()))),
                });
                let certs: Vec<_> = certs.collect::<Result<_, _>>()?;
                if certs.is_empty() {
                    return Err(format!("{}: no certificate in it", path.display()));
                }
                certs
            }
            None => {
                let native = rustls_native_certs::load_native_certs().certs;
                native.iter().map(|c| Certificate::from_der(c).to_owned()).collect()
            }
        };
        Ok(if certs.is_empty() { RootCerts::WebPki } else { RootCerts::Specific(Arc::new(certs)) })
    }
}

/// The header for `user:password@host`, if the authority has that.
fn credentials(authority: &str) -> Option<String> {
    let (user, _) = authority.rsplit_once('@')?;
    let user = crate::uri::percent_decode(user);
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user)))
}

fn open_file(uri: &Uri, path: &std::path::Path, from: u64) -> Result<Answer, FetchError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FetchError::NotFound { path: uri.path().to_owned() },
        _ => FetchError::File { path: path.to_owned(), source },
    };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FetchError::NotFound { path: uri.path().to_owned() });
    }
    let total = metadata.len();
    let start = from.min(total);
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    Ok(Answer { start, total: Some(total), body: Box::new(file) })
}

/// Where the answer's body belongs in the file.
fn answer(uri: &Uri, response: Response<ureq::Body>, from: u64) -> Result<Answer, FetchError> {
    let length = response.body().content_length();
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
    let (start, total) = if response.status() == 206 {
        let range = range.and_then(parse_range).filter(|(start, _)| *start == from);
        range.ok_or_else(|| FetchError::Range { path: uri.path().to_owned() })?
    } else {
        (0, length)
    };
    Ok(Answer { start, total, body: Box::new(response.into_body().into_reader()) })
}

/// `bytes 5-9/10`: the start, and the whole size unless it is `*` (RFC 9110, 14.4).
pub(crate) fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    let inside = total.is_none_or(|total| end < total);
    (start <= end && inside).then_some((start, total))
}

/// The `Location` of a redirection, absolute.
fn redirected(asked: &Uri, at: &Uri, headers: &HeaderMap) -> Result<Uri, FetchError> {
    let bad = |why| FetchError::Redirected { path: asked.path().to_owned(), why };
    let location = headers.get(header::LOCATION).and_then(|v| v.to_str().ok());
    let location = location.ok_or_else(|| bad("nowhere"))?;
    let location = location.split('#').next().unwrap_or_default();
    let scheme = if at.scheme() == Scheme::Https { "https" } else { "http" };
    let text = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", at.authority())
    } else if location.split('/').next().is_some_and(|first| first.contains(':')) {
        location.to_owned()
    } else {
        let base = at.path().rsplit_once('/').map_or("", |(base, _)| base);
        format!("{scheme}://{}{base}/{location}", at.authority())
    };
    let to = Uri::parse(&text).map_err(|_| bad("to something that is no URI"))?;
    match (at.scheme(), to.scheme()) {
        (_, Scheme::File) => Err(bad("to a local file")),
        (Scheme::Https, Scheme::Http) => Err(bad("from https to http")),
        _ => Ok(to),
    }
}

fn refused(uri: &Uri, status: u16) -> FetchError {
    let path = uri.path().to_owned();
    match status {
        404 | 410 => FetchError::NotFound { path },
        401 | 403 | 407 => FetchError::Denied { path, status },
        _ => FetchError::Status { path, status },
    }
}

fn network(uri: &Uri, error: ureq::Error) -> FetchError {
    let path = uri.path().to_owned();
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
            FetchError::Unreachable { path, reason: error.to_string() }
        }
        ureq::Error::Io(e) if unreachable(&e) => {
            FetchError::Unreachable { path, reason: e.to_string() }
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            FetchError::Tls { path, reason: error.to_string() }
        }
        ureq::Error::InvalidProxyUrl | ureq::Error::ConnectProxyFailed(_) => FetchError::Proxy,
        other => FetchError::Interrupted { path, reason: other.to_string() },
    }
}

fn unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    // std has no kind for what getaddrinfo says, only this text in front of it.
    error.to_string().starts_with("failed to lookup address information")
        || matches!(
            error.kind(),
            ConnectionRefused
                | HostUnreachable
                | NetworkUnreachable
                | NetworkDown
                | AddrNotAvailable
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 0-0/*"), Some((0, None)));
        for bad in ["", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "items 1-2/3", "bytes a-b/c"]
        {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn redirections_are_resolved_and_limited() {
        let go = |at: &str, location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, location.parse().unwrap());
            let at = Uri::parse(at).unwrap();
            redirected(&at, &at, &headers).map(|u| u.to_string()).map_err(|e| e.to_string())
        };
        let at = "http://h:8/a/b";
        assert_eq!(go(at, "c?x=1").unwrap(), "http://h:8/a/c?x=1");
        assert_eq!(go(at, "/c").unwrap(), "http://h:8/c");
        assert_eq!(go(at, "//i/c").unwrap(), "http://i/c");
        assert_eq!(go(at, "https://i/c#f").unwrap(), "https://i/c");
        assert!(go("https://h/a", "http://h/a").unwrap_err().contains("from https to http"));
        assert!(go(at, "file:///etc/passwd").unwrap_err().contains("local file"));
        assert!(go(at, "ftp://h/a").unwrap_err().contains("no URI"));
    }
}
