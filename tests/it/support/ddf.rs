//! A reader of the system maker's device descriptions (DDF v2), and the judge that holds our commands against them.

use std::collections::BTreeSet;

use muster::wire::locuri::LocUri;
use muster::wire::syncml::{Command, Data, Operation, SyncMl, Verb};
use muster::wire::xml::{Element, Limits};
use regex::Regex;

const MSFT: &str = "http://schemas.microsoft.com/MobileDevice/DM";

/// Values that a node takes.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    pub kind: String,
    pub values: Vec<String>,
    pub list: Option<String>,
}

/// A described node.
#[derive(Clone, Debug)]
pub struct Node {
    /// `None`: any name.
    pub name: Option<String>,
    pub access: Vec<String>,
    pub format: String,
    pub default: Option<String>,
    pub since: Vec<String>,
    pub editions: Option<String>,
    pub allowed: Allowed,
    pub deprecated: bool,
    /// It, or a node above it, may be changed inside of an Atomic only.
    pub atomic: bool,
    pub children: Vec<Self>,
}

struct Root {
    file: String,
    above: Vec<String>,
    node: Node,
}

/// All descriptions.
pub struct Ddf {
    roots: Vec<Root>,
    /// Policy areas with descriptions of their own, folded.
    areas: BTreeSet<String>,
}

/// Where we knowingly send another format than described: the folded end of the address, our format, and why.
pub const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("/unenroll", "chr", "the description says null, and in its text that the data must name the provider"),
    ("/forceaadtoken", "int", "described as bool, though its values are 0, 1, 2, 4 and 8"),
];

impl Ddf {
    /// Reads all files; `None` when they are not there.
    pub fn load() -> Option<Self> {
        let mut roots = Vec::new();
        for entry in std::fs::read_dir(super::tools::shared("windows-ddf")?).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "xml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.trim_start_matches('\u{feff}');
            let start = text.find("<MgmtTree").unwrap();
            let limits = Limits { bytes: 16 << 20, depth: 128, nodes: 1_000_000, attributes: 64 };
            let tree = Element::parse(&text.as_bytes()[start..], limits).unwrap();
            for top in tree.elements().filter(|e| e.is("", "Node")) {
                let above = top.child("", "Path").map(|p| p.text().into_owned()).unwrap_or_default();
                let mut above: Vec<String> = above.trim().split('/').filter(|s| !s.is_empty() && *s != ".").map(str::to_owned).collect();
                if above.first().is_some_and(|first| first == "Vendor") {
                    above.insert(0, "Device".into());
                }
                let file = path.file_stem().unwrap().to_string_lossy().into_owned();
                roots.push(Root { file, above, node: node(top, &Above::default()) });
            }
        }
        let areas = roots.iter().filter(|root| root.file.ends_with("_AreaDDF")).filter_map(|root| root.node.name.as_ref());
        let areas = areas.map(|name| name.to_lowercase()).collect();
        Some(Self { roots, areas })
    }

    /// The node at an address: the description with the fewest "any name" parts.
    pub fn find(&self, uri: &str) -> Option<&Node> {
        let uri = LocUri::parse(uri).ok()?;
        let segments: Vec<String> = uri.key().split('/').map(str::to_owned).collect();
        // An area of policies with a description of its own has no other policies than it says.
        let area = segments.iter().skip(1).take(5).map(String::as_str).collect::<Vec<_>>();
        let own = matches!(area.as_slice(), ["vendor", "msft", "policy", "config", name] if self.areas.contains(*name));
        let matches = self.roots.iter().filter(|root| !own || root.file != "Policy").filter_map(|root| {
            let above: Vec<String> = root.above.iter().map(|s| s.to_lowercase()).collect();
            descend(&root.node, segments.strip_prefix(above.as_slice())?)
        });
        matches.min_by_key(|(_, dynamic)| *dynamic).map(|(node, _)| node)
    }

    /// The leaves of one file: address (dynamic names as `X`) and node.
    pub fn leaves(&self, file: &str) -> Vec<(String, &Node)> {
        let mut found = Vec::new();
        for root in self.roots.iter().filter(|root| root.file == file) {
            collect(&root.node, &format!("./{}", root.above.join("/")), &mut found);
        }
        found
    }

    /// Judges all that a server asked of a device in these answers: each command exists in the descriptions, what belongs into an Atomic
    /// is in one, and no Atomic holds a Get or another one. Returns how many commands there were.
    pub fn judge(&self, answers: &[Vec<u8>]) -> usize {
        let one = |operation: &Operation, in_atomic: bool| {
            for item in &operation.items {
                let (verb, uri) = (operation.verb, &item.target.as_ref().unwrap().uri);
                let format = item.meta.format.or(operation.meta.format);
                let data = item.data.as_ref().map(Data::as_str);
                if let Err(why) = self.check(verb.as_str(), uri, format.map(|f| f.as_str()), data) {
                    panic!("{} {uri}: {why}", verb.as_str());
                }
                let changes = matches!(verb, Verb::Add | Verb::Replace | Verb::Exec);
                assert!(in_atomic || !changes || !self.find(uri).unwrap().atomic, "{} {uri} outside of an Atomic", verb.as_str());
                assert!(!in_atomic || verb != Verb::Get, "Get {uri} in an Atomic");
            }
            operation.items.len()
        };
        let all = answers.iter().flat_map(|answer| SyncMl::decode(answer).unwrap().body);
        let count = all.map(|command| match &command {
            Command::Operation(operation) => one(operation, false),
            Command::Atomic(group) => group
                .commands
                .iter()
                .map(|inner| match inner {
                    Command::Operation(operation) => one(operation, true),
                    other => panic!("{} in an Atomic", other.name()),
                })
                .sum(),
            Command::Sequence(_) => panic!("a Sequence"),
            _ => 0,
        });
        count.sum()
    }

    /// Judges a command as a device would: the node exists, allows the verb, has this format and takes this value.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self, verb: &str, uri: &str, format: Option<&str>, data: Option<&str>) -> Result<(), String> {
        let node = self.find(uri).ok_or_else(|| format!("{uri}: not described"))?;
        if !node.access.iter().any(|allowed| allowed == verb) {
            return Err(format!("{uri}: allows {:?}, not {verb}", node.access));
        }
        let folded = uri.to_lowercase();
        let excepted = EXCEPTIONS.iter().any(|(end, ours, _)| folded.ends_with(end) && format == Some(*ours) && data.is_some());
        match verb {
            "Get" | "Delete" => match data {
                None => Ok(()),
                Some(_) => Err(format!("{uri}: {verb} with data")),
            },
            _ if excepted => Ok(()),
            _ => {
                let said = format.unwrap_or(if data.is_some() { "chr" } else { node.format.as_str() });
                if said != node.format && !(said == "b64" && node.format == "bin") {
                    return Err(format!("{uri}: format {said}, described as {}", node.format));
                }
                match (node.format.as_str(), data) {
                    ("null" | "node", None) => Ok(()),
                    ("null" | "node", Some("")) => Ok(()),
                    ("null" | "node", Some(_)) => Err(format!("{uri}: data in a {} node", node.format)),
                    (_, None) => Err(format!("{uri}: no data")),
                    (_, Some(data)) => node.takes(data).map_err(|problem| format!("{uri}: {problem}")),
                }
            }
        }
    }
}

impl Node {
    /// Whether the node takes the value.
    ///
    /// # Errors
    /// Says what it takes.
    pub fn takes(&self, data: &str) -> Result<(), String> {
        let fits = match self.format.as_str() {
            "int" => number(data).is_some(),
            "bool" => matches!(data, "true" | "false"),
            _ => true,
        };
        if !fits {
            return Err(format!("{data} is no {}", self.format));
        }
        let parts: Vec<&str> = match &self.allowed.list {
            Some(between) => data.split(between.as_str()).collect(),
            None => vec![data],
        };
        let fits = match self.allowed.kind.as_str() {
            "ENUM" => parts.iter().all(|part| self.allowed.values.iter().any(|value| same(part, value))),
            "Flag" => number(data).is_some_and(|bits| {
                let all = self.allowed.values.iter().filter_map(|value| number(value)).fold(0, |all, bit| all | bit);
                bits & !all == 0
            }),
            "Range" => number(data).is_some_and(|value| self.ranges().iter().any(|(least, most)| (*least..=*most).contains(&value))),
            "RegEx" => self.allowed.values.iter().any(|form| parts.iter().all(|part| regex(form).is_match(part))),
            "ADMX" => data.starts_with("<enabled/>") || data == "<disabled/>",
            _ => true,
        };
        if fits { Ok(()) } else { Err(format!("{data} is outside {} {:?}", self.allowed.kind, self.allowed.values)) }
    }

    /// The SKU numbers of the editions that have the node; `None`: all.
    pub fn skus(&self) -> Option<Vec<u32>> {
        let number = |text: &str| number(text.trim().trim_end_matches('*')).map(|n| u32::try_from(n).unwrap());
        // An empty list says nothing.
        Some(self.editions.as_ref().filter(|list| !list.is_empty())?.split(';').filter_map(number).collect())
    }

    /// The ranges, when the values are ranges.
    pub fn ranges(&self) -> Vec<(i64, i64)> {
        let ends = |text: &String| {
            let (least, most) = text.trim().trim_start_matches('[').trim_end_matches(']').split_once('-')?;
            Some((least.trim().parse().ok()?, most.trim().parse().ok()?))
        };
        self.allowed.values.iter().filter_map(ends).collect()
    }

    /// The first builds that have the node, without those that were not released.
    pub fn released(&self) -> Vec<String> {
        self.since.iter().filter(|build| !build.starts_with("99.")).cloned().collect()
    }
}

/// A number, decimal or hexadecimal.
pub fn number(text: &str) -> Option<i64> {
    text.strip_prefix("0x").map_or_else(|| text.trim().parse().ok(), |digits| i64::from_str_radix(digits, 16).ok())
}

/// Whether two spellings mean the same value.
pub fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (number(a).is_some() && number(a) == number(b))
}

/// A described form; those that hold for the whole text say so themselves. Its authors write a lone opening brace without a backslash.
fn regex(form: &str) -> Regex {
    let form = form.strip_prefix('{').map_or_else(|| form.to_owned(), |rest| format!("\\{{{rest}"));
    Regex::new(&form).unwrap_or_else(|problem| panic!("{form}: {problem}"))
}

fn descend<'n>(node: &'n Node, segments: &[String]) -> Option<(&'n Node, usize)> {
    let (first, rest) = segments.split_first()?;
    let dynamic = match &node.name {
        Some(name) if name.to_lowercase() == *first => 0,
        Some(_) => return None,
        None => 1,
    };
    if rest.is_empty() {
        return Some((node, dynamic));
    }
    let below = node.children.iter().filter_map(|child| descend(child, rest)).min_by_key(|(_, dynamic)| *dynamic);
    below.map(|(node, more)| (node, dynamic + more))
}

fn collect<'n>(node: &'n Node, above: &str, found: &mut Vec<(String, &'n Node)>) {
    let here = format!("{above}/{}", node.name.as_deref().unwrap_or("X"));
    if node.format != "node" {
        found.push((here.clone(), node));
    }
    for child in &node.children {
        collect(child, &here, found);
    }
}

/// What a node has from those above it.
#[derive(Clone, Default)]
struct Above {
    since: Vec<String>,
    editions: Option<String>,
    atomic: bool,
}

fn node(element: &Element, above: &Above) -> Node {
    let properties = element.child("", "DFProperties").unwrap();
    let text = |ns: &str, name: &str| properties.child(ns, name).map(|e| e.text().trim().to_owned());
    let first = |ns: &str, name: &str| properties.child(ns, name).and_then(|e| e.elements().next().map(|e| e.name.local.clone()));
    let applies = properties.child(MSFT, "Applicability");
    let applied = |name: &str| applies.and_then(|a| a.child(MSFT, name)).map(|e| e.text().trim().to_owned());
    let since: Vec<String> = match applied("OsBuildVersion") {
        Some(list) => list.split(',').map(|build| build.trim().to_owned()).collect(),
        None => above.since.clone(),
    };
    let editions = applied("EditionAllowList").or_else(|| above.editions.clone());
    let atomic = above.atomic || properties.child(MSFT, "AtomicRequired").is_some();
    let name = element.child("", "NodeName").map(|e| e.text().trim().to_owned()).filter(|name| !name.is_empty());
    let allowed = properties.child(MSFT, "AllowedValues").map(allowed).unwrap_or_default();
    let below = Above { since: since.clone(), editions: editions.clone(), atomic };
    let children = element.elements().filter(|e| e.is("", "Node")).map(|child| node(child, &below)).collect();
    let access = properties.child("", "AccessType").map(|a| a.elements().map(|e| e.name.local.clone()).collect()).unwrap_or_default();
    Node {
        name,
        access,
        format: first("", "DFFormat").unwrap_or_default(),
        default: text("", "DefaultValue").filter(|value| !value.is_empty()),
        since,
        editions,
        allowed,
        deprecated: properties.child(MSFT, "Deprecated").is_some(),
        atomic,
        children,
    }
}

fn allowed(element: &Element) -> Allowed {
    let kind = element.attribute_anyhow("ValueType").unwrap_or_default().to_owned();
    let value = |e: &Element| e.text().trim().to_owned();
    let values = match kind.as_str() {
        "ENUM" | "Flag" => element.all(MSFT, "Enum").filter_map(|e| e.child(MSFT, "Value").map(value)).collect(),
        _ => element.all(MSFT, "Value").map(value).collect(),
    };
    let list = element.child(MSFT, "List").and_then(|list| list.attribute_anyhow("Delimiter")).map(|between| match between {
        "0xF000" | "\\xF000" => "\u{f000}".to_owned(),
        other => other.to_owned(),
    });
    Allowed { kind, values, list }
}
