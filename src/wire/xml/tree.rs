//! A whole document as a tree.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::token::{attributes, qualified};
use super::{Limits, Reader, Step, declared_prefix, decoded};
use crate::wire::Malformed;

/// A name with its namespace; an empty namespace means none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The namespace URI.
    pub namespace: Arc<str>,
    /// The name without its prefix.
    pub local: String,
}

impl Name {
    /// Whether this is that name.
    #[must_use]
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        &*self.namespace == namespace && self.local == local
    }
}

/// One attribute; namespace declarations are not among an element's attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name; an attribute without prefix has no namespace.
    pub name: Name,
    /// Its value, decoded and normalised.
    pub value: String,
}

/// What an element holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text, decoded and in one piece.
    Text(String),
}

/// An element with everything inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: Name,
    /// Its attributes, in document order.
    pub attributes: Vec<Attribute>,
    /// Its content, in document order.
    pub children: Vec<Node>,
}

impl Element {
    /// Reads a whole document.
    ///
    /// # Errors
    /// When it is not well-formed or exceeds a limit.
    pub fn parse(document: &[u8], limits: Limits) -> Result<Self, Malformed> {
        let mut reader = Reader::new(document, limits)?;
        let mut namespaces = HashSet::new();
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        loop {
            match reader.step()? {
                Step::Open { prefix, local, attributes } => {
                    let namespace = intern(&mut namespaces, reader.namespace(prefix).unwrap_or_default());
                    let attributes = resolved(&reader, attributes, &mut namespaces).map_err(|what| reader.malformed(what))?;
                    open.push(Self { name: Name { namespace, local: local.to_owned() }, attributes, children: Vec::new() });
                }
                Step::Text(piece) => {
                    if let Some(element) = open.last_mut() {
                        match element.children.last_mut() {
                            Some(Node::Text(text)) => text.push_str(&piece),
                            _ => element.children.push(Node::Text(piece.into_owned())),
                        }
                    }
                }
                Step::Close => {
                    if let Some(element) = open.pop() {
                        match open.last_mut() {
                            Some(parent) => parent.children.push(Node::Element(element)),
                            None => root = Some(element),
                        }
                    }
                }
                Step::End => return root.ok_or_else(|| Malformed::new("no root element", "byte 0")),
            }
        }
    }

    /// Whether the element has that name.
    #[must_use]
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.name.is(namespace, local)
    }

    /// The elements inside, in order.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The elements inside that have that name.
    pub fn all<'e>(&'e self, namespace: &'e str, local: &'e str) -> impl Iterator<Item = &'e Self> {
        self.elements().filter(move |element| element.is(namespace, local))
    }

    /// The first element inside that has that name.
    #[must_use]
    pub fn child(&self, namespace: &str, local: &str) -> Option<&Self> {
        self.elements().find(|element| element.is(namespace, local))
    }

    /// The first element along a path of names below this one.
    #[must_use]
    pub fn path(&self, path: &[(&str, &str)]) -> Option<&Self> {
        path.iter().try_fold(self, |element, (namespace, local)| element.child(namespace, local))
    }

    /// The text directly inside, without that of inner elements.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.children.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        match (texts.next(), texts.next()) {
            (None, _) => Cow::Borrowed(""),
            (Some(only), None) => Cow::Borrowed(only),
            (Some(first), Some(second)) => Cow::Owned([first, second].into_iter().chain(texts).collect()),
        }
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, namespace: &str, local: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.name.is(namespace, local)).map(|attribute| attribute.value.as_str())
    }

    /// The value of an attribute, whether it is written plain or with a prefix: clients do both.
    #[must_use]
    pub fn attribute_anyhow(&self, local: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.name.local == local).map(|attribute| attribute.value.as_str())
    }
}

/// One copy of a namespace, however often it is named. A document may name another one for each element, so it is not searched for.
fn intern(known: &mut HashSet<Arc<str>>, namespace: &str) -> Arc<str> {
    if let Some(found) = known.get(namespace) {
        return Arc::clone(found);
    }
    let new: Arc<str> = namespace.into();
    known.insert(Arc::clone(&new));
    new
}

fn resolved(reader: &Reader<'_>, tag: &str, namespaces: &mut HashSet<Arc<str>>) -> Result<Vec<Attribute>, &'static str> {
    let mut out: Vec<Attribute> = Vec::new();
    for (name, value) in attributes(tag).filter(|(name, _)| declared_prefix(name).is_none()) {
        let (prefix, local) = qualified(name).ok_or("bad attribute name")?;
        let namespace = match prefix {
            "" => intern(namespaces, ""),
            prefix => intern(namespaces, reader.namespace(prefix).ok_or("undeclared namespace prefix")?),
        };
        let name = Name { namespace, local: local.to_owned() };
        // Two prefixes of one namespace do not make two names (Namespaces in XML 1.0, section 6.3).
        if out.iter().any(|other| other.name == name) {
            return Err("attribute occurs twice");
        }
        out.push(Attribute { name, value: decoded(value, true).map_err(|_| "bad attribute value")?.into_owned() });
    }
    Ok(out)
}
