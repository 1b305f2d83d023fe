use proptest::prelude::*;

use super::writer::escape;
use super::*;

fn parse(text: &str) -> Result<Element, Malformed> {
    Element::parse(text.as_bytes(), Limits::SOAP)
}

fn what(text: &str) -> String {
    parse(text).unwrap_err().what.into_owned()
}

#[test]
fn prefixes_do_not_matter_and_namespaces_do() {
    let a = parse("<s:e xmlns:s='urn:a' s:k='1' k='2'><s:c>x<!-- c -->y</s:c></s:e>").unwrap();
    let b = parse("<e xmlns='urn:a' xmlns:q='urn:a' q:k='1' k='2'><c>xy</c></e>").unwrap();
    assert_eq!(a, b);
    assert_eq!(a.path(&[("urn:a", "c")]).unwrap().text(), "xy");
    assert_eq!(a.attribute("urn:a", "k"), Some("1"));
    assert_eq!(a.attribute("", "k"), Some("2"));
    assert!(parse("<e xmlns='urn:b'/>").unwrap().child("urn:a", "c").is_none());
}

#[test]
fn a_prefix_is_bound_only_inside_its_element() {
    assert!(what("<e><a xmlns:p='urn:p'/><p:b/></e>").contains("prefix"));
    assert!(what("<e p:k='1'/>").contains("prefix"));
    let e = parse("<e xmlns='urn:a'><i xmlns=''/><j/></e>").unwrap();
    assert!(e.child("", "i").is_some() && e.child("urn:a", "j").is_some());
}

#[test]
fn text_comes_out_of_cdata_and_references() {
    assert_eq!(parse("<e>a &lt;&#x41;&amp; <![CDATA[<b>&amp;]]>&#233;\r\n</e>").unwrap().text(), "a <A& <b>&amp;é\n");
    for number in ["1", "0", "xD83D", "xFFFE", "x110000"] {
        assert_eq!(parse(&format!("<e>a&#{number};b</e>")).unwrap().text(), "a\u{fffd}b", "{number}");
    }
}

#[test]
fn document_types_and_foreign_entities_are_refused() {
    assert!(what("<!DOCTYPE e [<!ENTITY a 'aaaa'>]><e>&a;</e>").contains("document type"));
    assert!(what("<e>&nbsp;</e>").contains("entity"));
    assert!(what("<e k='&nbsp;'/>").contains("attribute"));
}

#[test]
fn a_document_type_passes_only_on_request_once_and_without_declarations() {
    let read = |text: &str| {
        let mut reader = Reader::new(text.as_bytes(), Limits::SOAP).unwrap().with_document_type();
        while !matches!(reader.next()?, Token::End) {}
        Ok::<_, Malformed>(())
    };
    assert!(read("<!DOCTYPE e PUBLIC '-//A//B' 'http://h/e.dtd'><e/>").is_ok());
    for text in [
        "<!DOCTYPE e><!DOCTYPE e><e/>",
        "<e><!DOCTYPE e></e>",
        "<!DOCTYPE e SYSTEM 'f' []><e/>",
        "<!DOCTYPE e [<!ENTITY a 'b'>]><e>&a;</e>",
        "<!DOCTYPE e><e>&a;</e>",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn broken_documents_are_refused() {
    for text in [
        "",
        " ",
        "x",
        "<e>",
        "<e></f>",
        "</e>",
        "<e/><e/>",
        "<e/>x",
        "x<e/>",
        "<e",
        "<e k=1/>",
        "<e k='1' k='2'/>",
        "<e xmlns='v' xmlns='v'/>",
        "<e xmlns:p='v' xmlns:p='v'/>",
        "<e>&#99999999999;</e>",
        "<e>&x</e>",
        "<e>\u{1}</e>",
        "<?xml version='1.0' encoding='utf-16'?><e/>",
        "<a xmlns:p='u' xmlns:q='u' p:k='' q:k=''/>",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
    assert!(Element::parse(b"<e>\xff</e>", Limits::SOAP).is_err());
}

#[test]
fn limits_hold() {
    let deep = |n: usize| format!("{}{}", "<e>".repeat(n), "</e>".repeat(n));
    assert!(parse(&deep(32)).is_ok());
    assert_eq!(what(&deep(33)), "nested too deeply");
    assert_eq!(what(&format!("<e>{}</e>", "<e/>".repeat(10_000))), "too many nodes");
    assert_eq!(what(&format!("<e>{}</e>", "x".repeat(300_000))), "document is too long");
    let many: String = (0..33).map(|i| format!(" a{i}='1'")).collect();
    assert_eq!(what(&format!("<e{many}/>")), "too many attributes");
}

#[test]
fn namespaces_in_one_place_have_an_end() {
    let nested = (0..65).map(|n| format!("<a xmlns:p{n}='u'>")).collect::<String>() + &"</a>".repeat(65);
    let limits = Limits { depth: 100, ..Limits::SOAP };
    assert_eq!(Element::parse(nested.as_bytes(), limits).unwrap_err().what, "too many namespaces");
}

#[test]
fn the_byte_order_mark_is_no_text() {
    assert!(parse("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?><e/>").is_ok());
}

#[test]
fn a_reader_skips_whole_elements() {
    let mut reader = Reader::new(b"<e><a><b/>x</a><c>y</c></e>", Limits::SOAP).unwrap();
    assert!(matches!(reader.next(), Ok(Token::Open(o)) if o.local() == "e"));
    assert!(matches!(reader.next(), Ok(Token::Open(o)) if o.local() == "a"));
    reader.skip().unwrap();
    assert!(matches!(reader.next(), Ok(Token::Open(o)) if o.local() == "c"));
    assert_eq!(reader.text().unwrap(), "y");
    assert!(matches!(reader.next(), Ok(Token::Close)));
    assert!(matches!(reader.next(), Ok(Token::End)));
}

#[test]
fn the_writer_closes_what_it_opened() {
    let mut w = Writer::new();
    w.declaration().open("a").attribute("k", "\"<\n").open("b").close().leaf("c", "1<2").raw("<d/>");
    assert_eq!(
        String::from_utf8(w.finish()).unwrap(),
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><a k=\"&quot;&lt;&#10;\"><b/><c>1&lt;2</c><d/></a>"
    );
}

#[test]
fn what_a_document_cannot_hold_is_replaced_when_it_is_written() {
    let mut w = Writer::new();
    w.open("e").attribute("k", "a\u{ffff}").text("\u{0}b\u{fffe}\u{1F600}");
    let bytes = w.finish();
    assert_eq!(String::from_utf8(bytes).unwrap(), "<e k=\"a\u{fffd}\">\u{fffd}b\u{fffd}\u{1F600}</e>");
    assert_eq!(escaped_len("b\u{fffe}"), escaped("b\u{fffe}").len());
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Element::parse(&bytes, Limits::SOAP);
    }

    #[test]
    fn markup_never_panics(text in "(<|>|/|a|b|:|xmlns|=|'|\"|&|;|#|!|\\[|\\]|CDATA|-|\\?| ){0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn text_and_attributes_survive(text in "[\t\n\r -\u{d7ff}\u{e000}-\u{fffd}]{0,60}", value in "[\t\n\r -\u{d7ff}\u{e000}-\u{fffd}]{0,60}") {
        let mut w = Writer::new();
        w.open("e").attribute("k", &value).text(&text);
        let bytes = w.finish();
        prop_assert_eq!(bytes.len(), escaped_len(&text) + escaped_attribute(&value) + if text.is_empty() { 9 } else { 12 });
        let e = Element::parse(&bytes, Limits::SOAP).unwrap();
        prop_assert_eq!(e.text(), text);
        prop_assert_eq!(e.attribute("", "k"), Some(value.as_str()));
    }
}

fn escaped_attribute(value: &str) -> usize {
    let mut out = Vec::new();
    escape(&mut out, value, true);
    out.len()
}

/// The document as a reader that others wrote sees it; text in one piece.
fn judged(text: &str) -> Option<Element> {
    fn element(node: roxmltree::Node<'_, '_>) -> Element {
        let name = |namespace: Option<&str>, local: &str| Name { namespace: namespace.unwrap_or_default().into(), local: local.into() };
        let attributes = node.attributes().map(|a| Attribute { name: name(a.namespace(), a.name()), value: a.value().into() });
        let mut children: Vec<Node> = Vec::new();
        for child in node.children() {
            match (child.text().filter(|_| child.is_text()), children.last_mut()) {
                (Some(text), Some(Node::Text(before))) => before.push_str(text),
                (Some(text), _) => children.push(Node::Text(text.into())),
                (None, _) if child.is_element() => children.push(Node::Element(element(child))),
                (None, _) => {}
            }
        }
        Element { name: name(node.tag_name().namespace(), node.tag_name().name()), attributes: attributes.collect(), children }
    }
    Some(element(roxmltree::Document::parse(text).ok()?.root_element()))
}

/// As [`Element::parse`], without empty texts.
fn read(text: &str) -> Option<Element> {
    fn plain(mut element: Element) -> Element {
        element.children.retain(|node| !matches!(node, Node::Text(text) if text.is_empty()));
        element.children = element
            .children
            .into_iter()
            .map(|node| match node {
                Node::Element(inner) => Node::Element(plain(inner)),
                text @ Node::Text(_) => text,
            })
            .collect();
        element
    }
    parse(text).ok().map(plain)
}

fn scraps() -> impl Strategy<Value = String> {
    let scraps = [
        "<",
        ">",
        "/",
        "/>",
        "</",
        "a",
        "b",
        ":",
        "xmlns",
        "=",
        "'",
        "\"",
        "&",
        ";",
        "#",
        "!",
        "[",
        "]",
        "--",
        "?",
        " ",
        "1",
        ".",
        "<a>",
        "</a>",
        "<b k='1'/>",
        "<b>",
        "</b >",
        "<![CDATA[",
        "<!--",
        "-->",
        "<?a b?>",
        "&amp;",
        "&#65;",
        "&#x41;",
        "&#+5;",
        "&quot",
        " k='&lt;'",
        " k=\"\r\n\t'\"",
        "\r\n",
        "\t",
        "é",
        " xmlns:b='u'",
        " xmlns:a='u'",
        " xmlns='v'",
        " xmlns=''",
        " a:k='1'",
        " b:k=''",
        "<a:b",
        "<b:a",
        " xml:k=''",
        "xml",
    ];
    let piece = prop::sample::select(scraps.to_vec()).prop_map(str::to_owned).boxed();
    let inside = proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat());
    prop_oneof![
        inside.clone(),
        inside.clone().prop_map(|inside| format!("<a>{inside}</a>")),
        inside.prop_map(|inside| format!("<a{inside}</a>"))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_reader_of_others_agrees(text in scraps()) {
        // The other reader takes a default namespace that is declared twice, which XML forbids (3.1, unique attributes).
        let twice = parse(&text).is_err_and(|why| why.to_string().contains("occurs twice"));
        prop_assume!(!(twice && text.matches("xmlns=").count() > 1));
        prop_assert_eq!(read(&text), judged(&text), "{}", text);
    }
}
