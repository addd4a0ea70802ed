//! How to fetch: limits, patience, proxies. Values only: whoever calls reads the
//! environment and the configuration.

use std::path::PathBuf;
use std::time::Duration;

use crate::uri::{Scheme, Uri};

/// How to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// Use the cache alone; what is not in it is an error.
    pub offline: bool,
    /// What releases and indices the cache has is not asked for again; packages are
    /// fetched as ever.
    pub cached_metadata: bool,
    /// Downloads at the same time.
    pub threads: usize,
    /// How often a transfer that failed in transit is taken up again.
    pub retries: u32,
    /// The pause before the first retry; doubled each time.
    pub backoff: Duration,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait for the next bytes.
    pub stall_timeout: Duration,
    /// Redirections that are followed.
    pub max_redirects: u32,
    /// Proxies by scheme, and hosts that need none.
    pub proxies: Proxies,
    /// Certificates (PEM) that https servers are checked with, instead of the machine's.
    pub ca_file: Option<PathBuf>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        FetchOptions {
            offline: false,
            cached_metadata: false,
            threads: 8,
            retries: 4,
            backoff: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            max_redirects: 10,
            proxies: Proxies::default(),
            ca_file: None,
        }
    }
}

/// Which proxy to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// For `http:`, a URI.
    pub http: Option<String>,
    /// For `https:`, a URI.
    pub https: Option<String>,
    /// Hosts and domains that are reached directly; `*` is all of them.
    pub none_for: Vec<String>,
}

impl Proxies {
    /// From variables as curl(1) reads them: `http_proxy` (lower case only),
    /// `https_proxy`, `all_proxy` and `no_proxy` in either case.
    pub fn from_variables<'a>(lookup: impl Fn(&str) -> Option<&'a str>) -> Proxies {
        let get = |name: &str| {
            let value = lookup(name).or_else(|| lookup(&name.to_ascii_uppercase()));
            value.map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned)
        };
        let all = get("all_proxy");
        // HTTP_PROXY may come from a request's “Proxy:” header in a CGI program.
        let http = lookup("http_proxy").map(str::trim).filter(|v| !v.is_empty());
        let none = get("no_proxy").unwrap_or_default();
        let parts = none.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        Proxies {
            http: http.map(str::to_owned).or_else(|| all.clone()),
            https: get("https_proxy").or(all),
            none_for: parts.map(str::to_owned).collect(),
        }
    }

    /// The proxy for `uri`.
    pub(crate) fn for_uri(&self, uri: &Uri) -> Option<&str> {
        let host = host_of(uri.authority());
        if self.none_for.iter().any(|pattern| covers(pattern, host)) {
            return None;
        }
        match uri.scheme() {
            Scheme::Http => self.http.as_deref(),
            Scheme::Https => self.https.as_deref(),
            Scheme::File => None,
        }
    }
}

fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

fn covers(pattern: &str, host: &str) -> bool {
    let pattern = host_of(pattern).trim_start_matches("*.").trim_start_matches('.');
    let same = |a: &str| a.eq_ignore_ascii_case(pattern);
    let tail = host.len().checked_sub(pattern.len() + 1);
    pattern == "*"
        || same(host)
        || tail.is_some_and(|at| {
            host.is_char_boundary(at) && host[at..].starts_with('.') && same(&host[at + 1..])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &'static str)]) -> Proxies {
        let lookup = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        Proxies::from_variables(lookup)
    }

    #[test]
    fn proxies_come_from_the_usual_variables() {
        let found = proxies(&[
            ("http_proxy", "http://p:1"),
            ("HTTP_PROXY", "http://evil"),
            ("HTTPS_PROXY", "http://p:2"),
            ("no_proxy", "localhost, .example.org,192.0.2.1"),
        ]);
        let case = |uri: &str| found.for_uri(&Uri::parse(uri).unwrap()).map(str::to_owned);
        assert_eq!(case("http://deb.example.com/d").as_deref(), Some("http://p:1"));
        assert_eq!(case("https://deb.example.com/d").as_deref(), Some("http://p:2"));
        for direct in [
            "http://localhost:80/",
            "http://a.example.org/",
            "http://example.org/",
            "https://u:p@192.0.2.1:443/",
            "file:/srv",
        ] {
            assert_eq!(case(direct), None, "{direct}");
        }
        assert!(case("http://notexample.org/").is_some());
        assert_eq!(proxies(&[("HTTP_PROXY", "http://evil")]), Proxies::default());
        assert_eq!(proxies(&[("all_proxy", "http://p")]).https.as_deref(), Some("http://p"));
    }
}
