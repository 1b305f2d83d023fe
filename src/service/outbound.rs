//! Requests to addresses that somebody else chose: which are allowed, and a client that cannot be led elsewhere.
//!
//! A receiver's URL or a device's push channel must not turn the server into a door to its own network (SSRF). So: HTTPS only, no
//! redirects, no proxy from the environment, no credentials in the URL, and the *resolved* address must be public; the check sits in
//! the client's resolver, where a name that changes its address between check and use cannot pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Url};

use super::{Error, Result};
use crate::clock::{SECOND, Time};
use crate::config::Config;
use crate::domain::Refusal;

/// Longest URL that is taken.
const MAX_URL: usize = 2048;

/// A client for addresses that somebody else chose.
///
/// # Errors
/// When it cannot be built.
pub fn client(config: &Config) -> reqwest::Result<Client> {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(u64::from(config.signals.timeout_seconds.max(1))))
        .dns_resolver(Arc::new(Guarded { allow_private: config.signals.allow_private_receivers }))
        .user_agent("muster")
        .build()
}

/// A client for a service whose address is in the configuration; with a root, for what chains to that alone.
///
/// # Errors
/// When the root's file cannot be read.
pub fn fixed(config: &Config, root_file: Option<&Path>) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .https_only(true)
        .timeout(Duration::from_secs(u64::from(config.signals.timeout_seconds.max(1))))
        .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = root_file {
        let unreadable = |why: &dyn std::fmt::Display| Error::Unavailable(format!("{}: {why}", file.display()));
        let pem = std::fs::read(file).map_err(|e| unreadable(&e))?;
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(|e| unreadable(&e))?);
    }
    builder.build().map_err(Error::internal)
}

/// Checks a URL that a request may go to. Plain HTTP is taken on loopback only, and only where private addresses are allowed.
///
/// # Errors
/// [`Refusal::OutboundUrlNotAllowed`] or [`Refusal::OutboundAddressPrivate`].
pub fn check_url(config: &Config, text: &str) -> Result<Url, Refusal> {
    let url = (text.len() <= MAX_URL).then(|| Url::parse(text).ok()).flatten().ok_or(Refusal::OutboundUrlNotAllowed)?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(Refusal::OutboundUrlNotAllowed);
    }
    let allow_private = config.signals.allow_private_receivers;
    let host = url.host_str().ok_or(Refusal::OutboundUrlNotAllowed)?;
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let name = host.trim_end_matches('.');
    let loopback = name == "localhost" || name.ends_with(".localhost") || address.is_some_and(|a| a.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if allow_private && loopback => {}
        _ => return Err(Refusal::OutboundUrlNotAllowed),
    }
    if !allow_private && (loopback || address.is_some_and(|a| !is_public(a))) {
        return Err(Refusal::OutboundAddressPrivate);
    }
    Ok(url)
}

/// The same, and the name's present addresses too, so that a mistake shows when it is made. A name that does not resolve now is taken:
/// the client looks again at every request.
///
/// # Errors
/// As [`check_url`].
pub async fn check_url_and_addresses(config: &Config, text: &str) -> Result<Url, Refusal> {
    let url = check_url(config, text)?;
    if !config.signals.allow_private_receivers
        && let Some(host) = url.host_str()
        && let Ok(mut addresses) = tokio::net::lookup_host((host.trim_matches(['[', ']']), 443)).await
        && addresses.any(|a| !is_public(a.ip()))
    {
        return Err(Refusal::OutboundAddressPrivate);
    }
    Ok(url)
}

struct Guarded {
    allow_private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if !allow_private && found.iter().any(|a| !is_public(a.ip())) {
                return Err(format!("{} resolves to an address that is not public", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public Internet, also when it is wrapped in an IPv6 address that leads to an IPv4 one.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        // Mapped and compatible IPv4, the unspecified address, loopback.
        (0, 0) if [c, d, e] == [0, 0, 0] && (f == 0xffff || f == 0) => f == 0xffff && is_public_v4(v4(g, h)),
        // NAT64 and 6to4 lead to an IPv4 address.
        (0x64, 0xff9b) => [c, d, e, f] == [0, 0, 0, 0] && is_public_v4(v4(g, h)),
        (0x2002, _) => is_public_v4(v4(b, c)),
        // Teredo, benchmarking, ORCHID; documentation.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff) => false,
        // Global unicast is 2000::/3; everything else is local, multicast or reserved.
        _ => a & 0xe000 == 0x2000,
    }
}

/// Why there was no answer: the host and all causes, without the rest of the address, which may hold a secret.
#[must_use]
pub fn unanswered(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time" } else { "no answer" }.to_owned();
    if let Some(host) = error.url().and_then(Url::host_str) {
        text.push_str(&format!(" from {host}"));
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// The first `limit` bytes of an answer; what cannot be read is left out.
pub async fn read_bounded(response: &mut reqwest::Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < limit {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(chunk.get(..chunk.len().min(limit - body.len())).unwrap_or_default()),
            _ => break,
        }
    }
    body
}

/// Milliseconds that an answer asks us to wait: `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3).
#[must_use]
pub fn retry_after(headers: &reqwest::header::HeaderMap, now: Time) -> Option<i64> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(i64::from(seconds).saturating_mul(SECOND));
    }
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc2822).ok()?;
    Some(Time::from_seconds(at.unix_timestamp()).since(now).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_our_own_networks_are_not_public() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn only_https_to_public_addresses_is_taken() {
        let mut config = Config::default();
        assert!(check_url(&config, "https://receiver.example/events?x=1").is_ok());
        for (url, refusal) in [
            ("http://receiver.example/", Refusal::OutboundUrlNotAllowed),
            ("file:///etc/passwd", Refusal::OutboundUrlNotAllowed),
            ("https://user:secret@receiver.example/", Refusal::OutboundUrlNotAllowed),
            ("receiver.example", Refusal::OutboundUrlNotAllowed),
            ("https://127.0.0.1/", Refusal::OutboundAddressPrivate),
            ("https://2130706433/", Refusal::OutboundAddressPrivate),
            ("https://0x7f.1/", Refusal::OutboundAddressPrivate),
            ("https://[::1]/", Refusal::OutboundAddressPrivate),
            ("https://localhost/", Refusal::OutboundAddressPrivate),
            ("https://localhost./", Refusal::OutboundAddressPrivate),
            ("https://169.254.169.254/latest", Refusal::OutboundAddressPrivate),
        ] {
            assert_eq!(check_url(&config, url).unwrap_err().code(), refusal.code(), "{url}");
        }
        config.signals.allow_private_receivers = true;
        assert!(check_url(&config, "http://127.0.0.1:9/").is_ok());
        assert!(check_url(&config, "https://10.0.0.1/").is_ok());
        assert!(check_url(&config, "http://10.0.0.1/").is_err());
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = Time::parse("2015-10-21T07:27:00Z").unwrap();
        for (text, wait) in [("120", Some(120_000)), ("Wed, 21 Oct 2015 07:28:00 GMT", Some(60_000)), ("soon", None), ("-1", None)] {
            let headers = [(reqwest::header::RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            assert_eq!(retry_after(&headers, now), wait, "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_when_the_request_is_made() {
        let inside = |allow_private| Guarded { allow_private }.resolve("localhost".parse().unwrap());
        let refused = inside(false).await.err().unwrap().to_string();
        assert!(refused.contains("not public"), "{refused}");
        assert!(inside(true).await.is_ok());
    }
}
