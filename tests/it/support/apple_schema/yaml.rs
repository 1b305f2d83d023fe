//! YAML as a tree. Aliases are followed; one inside what it names becomes [`Node::Again`], so that no tree is endless.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser};

/// A node; scalars stay text.
#[derive(Clone, Debug)]
pub enum Node {
    Scalar(String),
    List(Vec<Arc<Self>>),
    Map(Vec<(String, Arc<Self>)>),
    /// A node inside itself.
    Again,
}

impl Node {
    pub fn read(text: &str) -> Result<Arc<Self>, String> {
        let mut parser = Parser::new_from_str(text);
        let mut reader = Reader { parser: &mut parser, anchors: HashMap::new() };
        loop {
            match reader.next()? {
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                event => return reader.node(event),
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| &**node),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            _ => None,
        }
    }

    pub fn list(&self) -> &[Arc<Self>] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

struct Reader<'p, 't, I: saphyr_parser::Input> {
    parser: &'p mut Parser<'t, I>,
    anchors: HashMap<usize, Arc<Node>>,
}

impl<'t, I: saphyr_parser::Input> Reader<'_, 't, I> {
    fn next(&mut self) -> Result<Event<'t>, String> {
        match self.parser.next() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("ends early".into()),
        }
    }

    fn keep(&mut self, anchor: usize, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        node
    }

    fn node(&mut self, event: Event<'t>) -> Result<Arc<Node>, String> {
        Ok(match event {
            Event::Alias(anchor) => self.anchors.get(&anchor).cloned().unwrap_or_else(|| Arc::new(Node::Again)),
            Event::Scalar(text, _, anchor, _) => self.keep(anchor, Node::Scalar(text.into_owned())),
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event)?),
                    }
                }
                self.keep(anchor, Node::List(items))
            }
            Event::MappingStart(anchor, _) => {
                let mut entries = Vec::new();
                loop {
                    let key = match self.next()? {
                        Event::MappingEnd => break,
                        event => self.node(event)?,
                    };
                    let key = key.text().ok_or("a key that is no text")?.to_owned();
                    let event = self.next()?;
                    entries.push((key, self.node(event)?));
                }
                self.keep(anchor, Node::Map(entries))
            }
            other => return Err(format!("{other:?} where a node should be")),
        })
    }
}
