//! What the codec reads, refuses and writes.

use proptest::prelude::*;

use super::*;

fn wrap(body: &str) -> String {
    format!(
        "<SyncML xmlns=\"SYNCML:SYNCML1.2\"><SyncHdr><VerDTD>1.2</VerDTD><VerProto>DM/1.2</VerProto><SessionID>1</SessionID><MsgID>1</MsgID>\
         <Target><LocURI>https://m</LocURI></Target><Source><LocURI>d</LocURI></Source></SyncHdr><SyncBody>{body}</SyncBody></SyncML>"
    )
}

fn decode(body: &str) -> SyncMl {
    SyncMl::decode(wrap(body).as_bytes()).unwrap()
}

fn what(text: &str) -> String {
    SyncMl::decode(text.as_bytes()).unwrap_err().what.into_owned()
}

#[test]
fn the_order_of_mixed_commands_is_kept() {
    let message = decode(
        "<Alert><CmdID>1</CmdID><Data>1201</Data></Alert><Get/><Status><CmdID>3</CmdID></Status><Put><CmdID>4</CmdID></Put><Final/>",
    );
    assert_eq!(message.body.iter().map(Command::name).collect::<Vec<_>>(), ["Alert", "Get", "Status", "Put"]);
    assert_eq!(message.body.iter().map(|c| c.id().is_some()).collect::<Vec<_>>(), [true, false, true, true]);
    assert!(message.last);
}

#[test]
fn a_type_beside_an_empty_meta_is_the_items_type() {
    let message = decode(
        "<Alert><CmdID>1</CmdID><Data>1224</Data><Item><Meta/><Type xmlns='syncml:metinf'>com.microsoft.mdm.synctype</Type><Data>user</Data></Item></Alert>",
    );
    let Some(Command::Alert(alert)) = message.body.first() else { panic!("alert") };
    assert_eq!(alert.items[0].meta.kind.as_deref(), Some("com.microsoft.mdm.synctype"));
}

#[test]
fn markup_in_data_is_kept_as_written_whether_embedded_or_escaped() {
    let message = decode(
        "<Get><Item><Data><a x='1'>&lt;</a> <b/></Data></Item><Item><Data>&lt;a/&gt;</Data></Item><Item><Data><![CDATA[<a/>]]></Data></Item><Item><Data/></Item></Get>",
    );
    let Some(Command::Operation(get)) = message.body.first() else { panic!("get") };
    let data: Vec<_> = get.items.iter().map(|item| item.data.as_ref().unwrap().as_str()).collect();
    assert_eq!(data, ["<a x='1'>&lt;</a> <b/>", "<a/>", "<a/>", ""]);
    assert!(matches!(get.items[0].data, Some(Data::Markup(_))));
    assert!(matches!(get.items[1].data, Some(Data::Text(_))));
    assert_eq!(SyncMl::decode(&message.encode()).unwrap(), message);
}

#[test]
fn original_errors_are_read_under_any_prefix() {
    let text = wrap(
        "<Status xmlns:q='http://schemas.microsoft.com/MobileDevice/MDM'><CmdID>1</CmdID><MsgRef>1</MsgRef><CmdRef>2</CmdRef><Cmd>Add</Cmd><Data q:originalerror='0x86000002'>404</Data></Status>",
    );
    let message = SyncMl::decode(text.as_bytes()).unwrap();
    let Some(Command::Status(status)) = message.body.first() else { panic!("status") };
    assert_eq!((status.code, status.original_error.as_deref()), (404, Some("0x86000002")));
    let long = text.replace("0x86000002", &"ä".repeat(100_000));
    let cut = SyncMl::decode(long.as_bytes()).unwrap();
    let Some(Command::Status(status)) = cut.body.first() else { panic!("status") };
    assert_eq!(status.original_error.as_ref().map(|error| error.chars().count()), Some(64));
    // Even under one that means something else: writing it makes it ours.
    let message = SyncMl::decode(text.replace("MobileDevice", "Other").as_bytes()).unwrap();
    assert_eq!(SyncMl::decode(&message.encode()).unwrap(), message);
}

#[test]
fn statuses_are_written_in_the_order_of_the_document_type() {
    let status = Status {
        id: Some("1".into()),
        msg_ref: 1,
        cmd_ref: "0".into(),
        cmd: "SyncHdr".into(),
        target_refs: vec!["t".into()],
        source_refs: vec!["s".into()],
        chal: Some(Meta {
            format: Some(Format::B64),
            kind: Some("syncml:auth-md5".into()),
            next_nonce: Some("bm9uY2U=".into()),
            ..Meta::default()
        }),
        code: 407,
        ..Status::default()
    };
    let text = String::from_utf8(SyncMl { body: vec![Command::Status(status)], ..SyncMl::default() }.encode()).unwrap();
    let places: Vec<_> = ["<CmdID>", "<MsgRef>", "<CmdRef>", "<Cmd>", "<TargetRef>", "<SourceRef>", "<Chal>", "<Data>407"]
        .iter()
        .map(|n| text.find(n).unwrap())
        .collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn what_an_answer_needs_must_be_there() {
    let good = wrap("");
    assert!(SyncMl::decode(good.as_bytes()).is_ok());
    for (from, to) in [
        ("<MsgID>1</MsgID>", ""),
        ("<MsgID>1</MsgID>", "<MsgID>0</MsgID>"),
        ("<MsgID>1</MsgID>", "<MsgID>x</MsgID>"),
        ("<SessionID>1</SessionID>", "<SessionID/>"),
        ("<Source><LocURI>d</LocURI></Source>", ""),
        ("SYNCML:SYNCML1.2", "SYNCML:SYNCML2.0"),
        ("<SyncBody></SyncBody>", ""),
        ("<SyncBody></SyncBody>", "<SyncBody></SyncBody><SyncBody/>"),
        ("<SyncBody></SyncBody>", "<SyncBody>"),
        ("</SyncML>", "</SyncML>x"),
    ] {
        assert!(SyncMl::decode(good.replace(from, to).as_bytes()).is_err(), "{from} -> {to}");
    }
}

#[test]
fn the_older_document_type_is_accepted() {
    let message = SyncMl::decode(wrap("<Final/>").replace("SYNCML1.2", "SYNCML1.1").as_bytes()).unwrap();
    assert_eq!(message.dtd, Dtd::V11);
    assert_eq!(SyncMl::decode(&message.encode()).unwrap(), message);
}

#[test]
fn ten_thousand_commands_depth_five_hundred_and_doctype_are_refused() {
    assert_eq!(what(&wrap(&"<Get><CmdID>1</CmdID></Get>".repeat(10_000))), "too many commands");
    assert_eq!(what(&wrap(&format!("{}{}", "<Atomic>".repeat(500), "</Atomic>".repeat(500)))), "nested too deeply");
    assert_eq!(
        what(&wrap(&format!("<Get><Item><Data>{}{}</Data></Item></Get>", "<a>".repeat(500), "</a>".repeat(500)))),
        "nested too deeply"
    );
    assert_eq!(what(&wrap(&format!("<Get>{}</Get>", "<Item/>".repeat(30_000)))), "too many items");
    assert_eq!(what(&wrap(&format!("<Get><CmdID>{}</CmdID></Get>", "x".repeat(9_000)))), "text is too long");
    assert!(what(&format!("<!DOCTYPE x>{}", wrap(""))).contains("document type"));
    assert!(SyncMl::decode(&vec![b' '; MAX_BYTES + 1]).is_err());
    assert!(SyncMl::decode(b"\xff\xfe").is_err());
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9./<>&\"' \u{e9}\u{f000}]{1,12}".prop_map(|s| s.trim().to_owned())
}

fn id() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[a-f0-9-]{1,36}")
}

fn meta() -> impl Strategy<Value = Meta> {
    (proptest::option::of(proptest::sample::select(Format::ALL)), proptest::option::of(text()), proptest::option::of(any::<u64>()))
        .prop_map(|(format, kind, size)| Meta {
            format,
            kind: kind.clone(),
            mark: kind.clone(),
            size,
            next_nonce: kind,
            max_msg_size: size,
            max_obj_size: None,
        })
}

fn address() -> impl Strategy<Value = Address> {
    (text(), proptest::option::of(text())).prop_map(|(uri, name)| Address { uri, name })
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        "[\t\n\r -~\u{e9}\u{f000}]{0,30}".prop_map(Data::Text),
        "[ -;=?-~]{0,10}".prop_map(|t| Data::Markup(Markup::parse(&format!("<x a='1'><![CDATA[{}]]></x>", t.replace("]]", ""))).unwrap())),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    (proptest::option::of(address()), proptest::option::of(address()), meta(), proptest::option::of(data()), any::<bool>())
        .prop_map(|(target, source, meta, data, more)| Item { target, source, meta, data, more })
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    proptest::collection::vec(item(), 0..3)
}

fn command() -> impl Strategy<Value = Command> {
    let leaf = prop_oneof![
        (id(), any::<u16>(), proptest::option::of(text()), items()).prop_map(|(id, code, correlator, items)| Command::Alert(Alert {
            id,
            code,
            correlator,
            items
        })),
        (id(), proptest::sample::select(Verb::ALL), meta(), proptest::option::of(text()), items())
            .prop_map(|(id, verb, meta, correlator, items)| Command::Operation(Operation { id, verb, meta, correlator, items })),
        (id(), any::<u32>(), text(), meta(), proptest::option::of(text()), items()).prop_map(
            |(id, msg_ref, cmd_ref, meta, target_ref, items)| {
                Command::Results(Results { id, msg_ref, cmd_ref, meta, source_ref: target_ref.clone(), target_ref, items })
            }
        ),
        (
            id(),
            any::<u32>(),
            text(),
            proptest::collection::vec(text(), 0..3),
            proptest::option::of(meta()),
            any::<u16>(),
            proptest::option::of(text()),
            items()
        )
            .prop_map(|(id, msg_ref, cmd_ref, refs, chal, code, original_error, items)| Command::Status(Status {
                id,
                msg_ref,
                cmd: cmd_ref.clone().into(),
                cmd_ref,
                target_refs: refs.clone(),
                source_refs: refs,
                chal,
                code,
                original_error,
                items
            })),
        (proptest::sample::select(Unsupported::ALL), id()).prop_map(|(what, id)| Command::Unsupported(what, id)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        (any::<bool>(), id(), meta(), proptest::collection::vec(inner, 0..4)).prop_map(|(atomic, id, meta, commands)| {
            let group = Group { id, meta, commands };
            if atomic { Command::Atomic(group) } else { Command::Sequence(group) }
        })
    })
}

prop_compose! {
    fn message()(
        v11 in any::<bool>(), session_id in "[0-9A-F]{1,4}", msg_id in 1..u32::MAX, target in address(), source in address(), meta in meta(),
        cred in proptest::option::of((meta(), "[a-zA-Z0-9=]{0,24}")), body in proptest::collection::vec(command(), 0..6), last in any::<bool>(),
    ) -> SyncMl {
        let source = Address { uri: format!("d{}", source.uri), ..source };
        SyncMl {
            dtd: if v11 { Dtd::V11 } else { Dtd::V12 },
            header: Header {
                ver_dtd: "1.2".into(), ver_proto: "DM/1.2".into(), session_id, msg_id, target, source, meta,
                cred: cred.map(|(meta, data)| Cred { meta, data }),
            },
            body, last, microsoft: true,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(message in message()) {
        let bytes = message.encode();
        prop_assert_eq!(SyncMl::decode(&bytes).unwrap(), message);
    }

    #[test]
    fn the_length_of_a_command_is_what_it_adds(command in command()) {
        let with = |body| SyncMl { body, last: true, microsoft: true, ..SyncMl::default() }.encode().len();
        prop_assert_eq!(with(vec![command.clone(), command.clone()]) - with(vec![command.clone()]), command.encoded_len());
    }

    #[test]
    fn damaged_messages_never_panic(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = message.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = SyncMl::decode(&bytes) {
            prop_assert_eq!(SyncMl::decode(&read.encode()).unwrap(), read);
        }
        bytes.truncate(cut.index(bytes.len()));
        let _ = SyncMl::decode(&bytes);
    }
}
