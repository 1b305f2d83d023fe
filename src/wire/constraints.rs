//! Name constraints of an authority's certificate (RFC 5280 4.2.1.10): which names its certificates may bear.

use std::net::IpAddr;

use super::Malformed;
use super::asn1::{self, Element, Reader, context, context_primitive};
use super::x509::{GeneralName, UPN};

/// The names that an authority may and may not certify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subtree {
    Email(String),
    Dns(String),
    Uri(String),
    /// Network and mask.
    Ip(Vec<u8>, Vec<u8>),
    Directory(Vec<Rdn>),
    Upn(String),
    /// A form of name that we never certify.
    Other,
}

/// Attributes of one relative name, as they are compared: type and folded value.
type Rdn = Vec<(Vec<u8>, Vec<u8>)>;

/// A name to be judged.
enum Name<'a> {
    General(&'a GeneralName<'a>),
    Directory(&'a [Rdn]),
}

impl Constraints {
    /// Reads the extension's value.
    ///
    /// # Errors
    /// [`Malformed`] when it is no NameConstraints.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let mut fields = asn1::only_sequence(value)?.reader();
        let permitted = subtrees(fields.optional(context(0))?)?;
        let excluded = subtrees(fields.optional(context(1))?)?;
        fields.end()?;
        Ok(Self { permitted, excluded })
    }

    /// Whether a certificate may bear that subject (a Name, DER) and those alternative names.
    ///
    /// # Errors
    /// [`Malformed`] when the subject is no Name.
    pub fn permit(&self, subject: &[u8], names: &[GeneralName<'_>]) -> Result<bool, Malformed> {
        let subject = directory(asn1::only_sequence(subject)?.value)?;
        let whole = subject.is_empty() || self.permits(&Name::Directory(&subject));
        Ok(whole && names.iter().all(|name| self.permits(&Name::General(name))))
    }

    fn permits(&self, name: &Name<'_>) -> bool {
        let mut judged = self.permitted.iter().filter_map(|subtree| subtree.holds(name)).peekable();
        let permitted = judged.peek().is_none() || judged.any(|judgement| judgement == Some(true));
        // A name that cannot be compared is not known to be outside.
        permitted && self.excluded.iter().filter_map(|subtree| subtree.holds(name)).all(|judgement| judgement == Some(false))
    }
}

impl Subtree {
    /// Whether the name is inside; `None` when the subtree is of another form of name, `Some(None)` when the name cannot be compared.
    fn holds(&self, name: &Name<'_>) -> Option<Option<bool>> {
        let judgement = match (self, name) {
            (Self::Email(base), Name::General(GeneralName::Email(text))) => Some(in_mailboxes(text, base)),
            (Self::Dns(base), Name::General(GeneralName::Dns(text))) => Some(in_domain(text, base)),
            (Self::Uri(base), Name::General(GeneralName::Uri(text))) => {
                host(text).map(|host| if base.starts_with('.') { in_domain(host, base) } else { host.eq_ignore_ascii_case(base) })
            }
            (Self::Ip(network, mask), Name::General(GeneralName::Ip(ip))) => Some(in_network(*ip, network, mask)),
            (Self::Upn(base), Name::General(GeneralName::Upn(text))) => Some(folded(text).ends_with(&folded(base))),
            (Self::Directory(base), Name::Directory(subject)) => Some(subject.starts_with(base)),
            _ => return None,
        };
        Some(judgement)
    }
}

fn subtrees(list: Option<Element<'_>>) -> Result<Vec<Subtree>, Malformed> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let mut reader = list.reader();
    let mut found = Vec::new();
    while !reader.is_empty() {
        found.push(subtree(&reader.expect(asn1::SEQUENCE, "GeneralSubtree")?.reader().element()?)?);
    }
    Ok(found)
}

fn subtree(base: &Element<'_>) -> Result<Subtree, Malformed> {
    const EMAIL: u8 = context_primitive(1);
    const DNS: u8 = context_primitive(2);
    const URI: u8 = context_primitive(6);
    const IP: u8 = context_primitive(7);
    const OTHER: u8 = context(0);
    const DIRECTORY: u8 = context(4);
    let bad = || Malformed::new("a base that cannot be read", "NameConstraints");
    let text = || std::str::from_utf8(base.value).map(str::to_owned).map_err(|_| bad());
    Ok(match base.tag {
        EMAIL => Subtree::Email(text()?),
        DNS => Subtree::Dns(text()?),
        URI => Subtree::Uri(text()?),
        IP => match base.value.split_at_checked(base.value.len() / 2) {
            Some((network, mask)) if matches!(base.value.len(), 8 | 32) => Subtree::Ip(network.to_vec(), mask.to_vec()),
            _ => return Err(bad()),
        },
        DIRECTORY => Subtree::Directory(directory(asn1::only_sequence(base.value)?.value)?),
        OTHER => {
            let mut fields = base.reader();
            if fields.element()?.oid()? != UPN {
                return Ok(Subtree::Other);
            }
            let value = fields.expect(context(0), "value")?.reader().expect(asn1::UTF8_STRING, "UTF8String")?.value;
            Subtree::Upn(std::str::from_utf8(value).map(str::to_owned).map_err(|_| bad())?)
        }
        _ => Subtree::Other,
    })
}

/// The relative names inside a Name, folded for comparison.
fn directory(contents: &[u8]) -> Result<Vec<Rdn>, Malformed> {
    let mut rdns = Vec::new();
    let mut reader = Reader::new(contents);
    while !reader.is_empty() {
        let mut attributes = reader.expect(asn1::SET, "relative name")?.reader();
        let mut rdn = Vec::new();
        while !attributes.is_empty() {
            let mut attribute = attributes.expect(asn1::SEQUENCE, "attribute")?.reader();
            let kind = attribute.expect(asn1::OID, "attribute type")?.value.to_vec();
            let value = attribute.element()?.value;
            rdn.push((kind, std::str::from_utf8(value).map_or_else(|_| value.to_vec(), |text| folded(text).into_bytes())));
        }
        rdn.sort();
        rdns.push(rdn);
    }
    Ok(rdns)
}

/// Without regard to case and to repeated spaces.
fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn in_domain(name: &str, base: &str) -> bool {
    let (name, base) = (folded(name), folded(base));
    if base.starts_with('.') {
        return name.ends_with(&base);
    }
    base.is_empty() || name == base || name.strip_suffix(&base).is_some_and(|before| before.ends_with('.'))
}

fn in_mailboxes(address: &str, base: &str) -> bool {
    let Some((_, host)) = address.rsplit_once('@') else { return false };
    match base.rsplit_once('@') {
        Some((mailbox, base)) if !mailbox.is_empty() => {
            address.rsplit_once('@').is_some_and(|(own, host)| own == mailbox && host.eq_ignore_ascii_case(base))
        }
        Some((_, base)) => host.eq_ignore_ascii_case(base),
        None if base.starts_with('.') => in_domain(host, base),
        None => host.eq_ignore_ascii_case(base),
    }
}

/// The host name of a URI; `None` when it has none.
fn host(uri: &str) -> Option<&str> {
    let authority = uri.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    (!host.is_empty() && !host.starts_with('[')).then_some(host)
}

fn in_network(ip: IpAddr, network: &[u8], mask: &[u8]) -> bool {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    octets.len() == network.len() && octets.iter().zip(network).zip(mask).all(|((own, base), mask)| own & mask == base & mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::x509;
    use proptest::prelude::*;

    fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Constraints {
        let list = |n: u8, bases: &[Vec<u8>]| {
            let subtrees: Vec<u8> = bases.iter().flat_map(|base| asn1::sequence(&[base])).collect();
            if bases.is_empty() { Vec::new() } else { asn1::tlv(context(n), &subtrees) }
        };
        Constraints::parse(&asn1::sequence(&[&list(0, permitted), &list(1, excluded)])).unwrap()
    }

    fn subject(organisation: &str) -> Vec<u8> {
        x509::name(&[vec![("2.5.4.10", organisation)], vec![("2.5.4.3", "Device 7")]]).unwrap()
    }

    fn permits(constraints: &Constraints, name: GeneralName<'_>) -> bool {
        constraints.permit(&subject("Contoso"), &[name]).unwrap()
    }

    #[test]
    fn a_name_is_inside_one_permitted_and_no_excluded_subtree() {
        let c = constraints(
            &[GeneralName::Dns("example.org").der(), GeneralName::Dns("example.net").der()],
            &[GeneralName::Dns("secret.example.org").der()],
        );
        for (name, good) in [
            ("example.org", true),
            ("PC.Example.ORG", true),
            ("a.example.net", true),
            ("example.com", false),
            ("notexample.org", false),
            ("secret.example.org", false),
            ("a.secret.example.org", false),
            ("nosecret.example.org", true),
        ] {
            assert_eq!(permits(&c, GeneralName::Dns(name)), good, "{name}");
        }
        assert!(permits(&c, GeneralName::Email("ana@example.com")), "other forms of name are not constrained");
    }

    #[test]
    fn each_form_of_name_has_its_own_rule() {
        let email = constraints(&[GeneralName::Email("example.org").der(), GeneralName::Email("ana@example.net").der()], &[]);
        for (name, good) in [("x@example.org", true), ("x@sub.example.org", false), ("ana@EXAMPLE.net", true), ("bea@example.net", false)] {
            assert_eq!(permits(&email, GeneralName::Email(name)), good, "{name}");
        }
        let uri = constraints(&[GeneralName::Uri(".example.org").der()], &[]);
        for (name, good) in [
            ("https://a.example.org:8443/x?y", true),
            ("https://u@b.example.org", true),
            ("https://example.org/", false),
            ("https://example.com/.example.org", false),
            ("urn:uuid:7", false),
        ] {
            assert_eq!(permits(&uri, GeneralName::Uri(name)), good, "{name}");
        }
        let excluded = constraints(&[], &[GeneralName::Uri("example.com").der()]);
        assert!(!permits(&excluded, GeneralName::Uri("urn:uuid:7")), "what cannot be compared is not known to be outside");
        let ip = constraints(&[asn1::tlv(context_primitive(7), &[192, 0, 2, 0, 255, 255, 255, 0])], &[]);
        assert!(permits(&ip, GeneralName::Ip("192.0.2.9".parse().unwrap())));
        for name in ["192.0.3.9", "2001:db8::1"] {
            assert!(!permits(&ip, GeneralName::Ip(name.parse().unwrap())), "{name}");
        }
        let upn = constraints(&[GeneralName::Upn("@example.org").der()], &[]);
        assert!(permits(&upn, GeneralName::Upn("Ana@Example.org")) && !permits(&upn, GeneralName::Upn("ana@example.com")));
    }

    #[test]
    fn a_subject_begins_with_the_permitted_name() {
        let base = asn1::tlv(context(4), &x509::name(&[vec![("2.5.4.10", "contoso  Ltd")]]).unwrap());
        let c = constraints(std::slice::from_ref(&base), &[]);
        assert!(c.permit(&subject("Contoso ltd"), &[]).unwrap());
        assert!(!c.permit(&subject("Fabrikam"), &[]).unwrap());
        assert!(c.permit(&x509::name(&[]).unwrap(), &[]).unwrap(), "no subject, nothing to constrain");
        assert!(!constraints(&[], &[base]).permit(&subject("Contoso Ltd"), &[]).unwrap());
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,40}") {
            if let Ok(read) = Constraints::parse(&bytes) {
                let _ = read.permit(&subject("a"), &[GeneralName::Uri(&text), GeneralName::Email(&text), GeneralName::Dns(&text)]);
            }
        }
    }
}
