//! Plain HTTP through an HTTP proxy: `GET http://host/path` to the proxy.
//!
//! `ureq` tunnels everything with CONNECT. That suits https, but proxies commonly
//! allow CONNECT to port 443 alone, and caching proxies (the point of one for package
//! archives) cannot cache a tunnel. So for http the connection goes to the proxy,
//! and the request line is rewritten to the absolute form (RFC 9112, 3.2.2).

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Resolves every host to the proxy.
#[derive(Debug)]
pub(super) struct ToProxy {
    pub proxy: Uri,
    pub inner: DefaultResolver,
}

impl Resolver for ToProxy {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        self.inner.resolve(&self.proxy, config, timeout)
    }
}

/// Rewrites request lines on the connections that come down the chain.
#[derive(Debug)]
pub(super) struct AbsoluteForm;

impl<In: Transport> Connector<In> for AbsoluteForm {
    type Out = Rewriting<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned();
        Ok(chained.map(|inner| Rewriting { inner, host }))
    }
}

/// A connection to the proxy for one host.
#[derive(Debug)]
pub(super) struct Rewriting<T> {
    inner: T,
    host: String,
}

impl<T: Transport> Transport for Rewriting<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.inner.buffers().output();
        let Some(rest) = output.get(..amount).and_then(|out| out.strip_prefix(b"GET /")) else {
            return self.inner.transmit_output(amount, timeout);
        };
        let request = [b"GET http://", self.host.as_bytes(), b"/", rest].concat();
        let room = output.len();
        for part in request.chunks(room) {
            self.inner.buffers().output()[..part.len()].copy_from_slice(part);
            self.inner.transmit_output(part.len(), timeout)?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}
