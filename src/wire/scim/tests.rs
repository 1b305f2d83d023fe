use proptest::prelude::*;
use serde_json::{Value, json};

use super::patch::{Changes, Members};
use super::query::Query;
use super::schema::{ENTERPRISE_URN, GROUP, USER};
use super::{Kind, document::Document};

const AT_ENTERPRISE: &str = "/urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const AT_DEPARTMENT: &str = "/urn:ietf:params:scim:schemas:extension:enterprise:2.0:User/department";
const AT_NUMBER: &str = "/urn:ietf:params:scim:schemas:extension:enterprise:2.0:User/employeeNumber";

fn document(value: &Value) -> Document {
    value.as_object().unwrap().clone()
}

fn ann() -> Document {
    document(&json!({
        "userName": "ann@x.example", "displayName": "Ann", "active": true, "title": "Cook",
        "name": { "givenName": "Ann", "familyName": "Arbor" },
        "emails": [{ "value": "ann@x.example", "type": "work", "primary": true }],
        ENTERPRISE_URN: { "department": "Sales" },
    }))
}

fn patched(operations: &Value) -> Result<Value, Kind> {
    let mut document = ann();
    let changes = Changes::parse(&USER, &json!({ "Operations": operations })).map_err(|wrong| wrong.kind)?;
    changes.apply(&mut document).map_err(|wrong| wrong.kind)?;
    Ok(Value::Object(document))
}

#[test]
fn changes_as_identity_providers_send_them() {
    let department = format!("{ENTERPRISE_URN}:department");
    for (operations, pointer, expected) in [
        (json!([{ "op": "Replace", "path": "active", "value": "False" }]), "/active", json!(false)),
        (json!([{ "op": "replace", "value": { "active": false } }]), "/active", json!(false)),
        (
            json!([{ "op": "Add", "path": "name.givenName", "value": "Anna" }]),
            "/name",
            json!({ "givenName": "Anna", "familyName": "Arbor" }),
        ),
        (json!([{ "op": "Add", "value": { "name.givenName": "Anna" } }]), "/name/givenName", json!("Anna")),
        (
            json!([{ "op": "replace", "path": "name", "value": { "familyName": "B" } }]),
            "/name",
            json!({ "givenName": "Ann", "familyName": "B" }),
        ),
        (
            json!([{ "op": "Replace", "path": "emails[type eq \"work\"].value", "value": "a@y" }]),
            "/emails",
            json!([{ "value": "a@y", "type": "work", "primary": true }]),
        ),
        (json!([{ "op": "Add", "value": { "emails[type eq \"work\"].value": "a@y" } }]), "/emails/0/value", json!("a@y")),
        (
            json!([{ "op": "Add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "1" }]),
            "/phoneNumbers",
            json!([{ "value": "1", "type": "mobile" }]),
        ),
        (
            json!([{ "op": "replace", "path": "emails", "value": [{ "value": "b@y", "type": "work" }] }]),
            "/emails",
            json!([{ "value": "b@y", "type": "work" }]),
        ),
        (json!([{ "op": "add", "path": "emails", "value": [{ "value": "b@y" }] }]), "/emails", json!([{ "value": "b@y" }])),
        (json!([{ "op": "Remove", "path": "title" }]), "/title", Value::Null),
        (json!([{ "op": "replace", "path": "title", "value": null }]), "/title", Value::Null),
        (json!([{ "op": "Remove", "path": "emails[type eq \"work\"]" }]), "/emails", Value::Null),
        (json!([{ "op": "Remove", "path": "emails[type eq \"home\"]" }]), "/emails/0/type", json!("work")),
        (json!([{ "op": "Remove", "path": "emails[type eq \"work\"].value" }]), "/emails", Value::Null),
        (json!([{ "op": "Add", "path": department, "value": "IT" }]), AT_DEPARTMENT, json!("IT")),
        (json!([{ "op": "Add", "value": { department: "IT" } }]), AT_DEPARTMENT, json!("IT")),
        (json!([{ "op": "Add", "value": { ENTERPRISE_URN: { "employeeNumber": 7 } } }]), AT_NUMBER, json!("7")),
        (json!([{ "op": "Remove", "path": ENTERPRISE_URN }]), AT_ENTERPRISE, Value::Null),
        (json!([{ "op": "Add", "path": "nickName", "value": "x" }]), "/nickName", Value::Null),
        (json!([{ "op": "Add", "path": "addresses[type eq \"work\"].locality", "value": "x" }]), "/addresses", Value::Null),
        (json!([{ "op": "Add", "path": format!("{ENTERPRISE_URN}:manager"), "value": "x" }]), "/title", json!("Cook")),
        (json!([{ "op": "replace", "value": { "id": "x", "meta": {}, "unknown": 1, "title": "T" } }]), "/title", json!("T")),
        (json!([{ "op": "Replace", "path": "title", "value": [{ "$ref": null, "value": "T" }] }]), "/title", json!("T")),
    ] {
        let after = patched(&operations).unwrap_or_else(|kind| panic!("{operations}: {kind:?}"));
        assert_eq!(after.pointer(pointer).unwrap_or(&Value::Null), &expected, "{operations}");
    }
}

#[test]
fn changes_that_are_none_are_told_apart() {
    for (operations, kind) in [
        (json!([]), Kind::InvalidSyntax),
        (json!([1]), Kind::InvalidSyntax),
        (json!([{ "op": "move", "path": "title" }]), Kind::InvalidSyntax),
        (json!(vec![json!({ "op": "remove", "path": "title" }); 1001]), Kind::InvalidSyntax),
        (json!([{ "op": "remove" }]), Kind::NoTarget),
        (json!([{ "op": "add", "value": "x" }]), Kind::InvalidValue),
        (json!([{ "op": "add", "path": "title" }]), Kind::InvalidValue),
        (json!([{ "op": "add", "path": "nonsense", "value": "x" }]), Kind::InvalidPath),
        (json!([{ "op": "add", "path": "title[", "value": "x" }]), Kind::InvalidPath),
        (json!([{ "op": "add", "path": "emails[type eq \"work\"]value", "value": "x" }]), Kind::InvalidPath),
        (json!([{ "op": "add", "path": 1, "value": "x" }]), Kind::InvalidPath),
        (json!([{ "op": "add", "path": "emails[type eq work].value", "value": "x" }]), Kind::InvalidFilter),
        (json!([{ "op": "replace", "path": "emails[value eq \"no@x\"].value", "value": "x" }]), Kind::NoTarget),
        (json!([{ "op": "replace", "path": "id", "value": "x" }]), Kind::Mutability),
        (json!([{ "op": "add", "path": "meta.created", "value": "x" }]), Kind::Mutability),
        (json!([{ "op": "add", "path": "groups", "value": [] }]), Kind::Mutability),
        (json!([{ "op": "remove", "path": "userName" }]), Kind::Mutability),
        (json!([{ "op": "replace", "path": "userName", "value": "" }]), Kind::InvalidValue),
        (json!([{ "op": "replace", "path": "active", "value": "maybe" }]), Kind::InvalidValue),
        (json!([{ "op": "replace", "path": "title", "value": { "a": 1 } }]), Kind::InvalidValue),
        (json!([{ "op": "replace", "path": "title", "value": "a\u{0}" }]), Kind::InvalidValue),
        (json!([{ "op": "replace", "path": "title", "value": "x".repeat(2000) }]), Kind::InvalidValue),
        (json!([{ "op": "replace", "path": "name", "value": "x" }]), Kind::InvalidValue),
    ] {
        assert_eq!(patched(&operations), Err(kind), "{operations:.100}");
    }
}

#[test]
fn members_are_named_by_value_by_filter_and_by_list() {
    let of =
        |operations: Value| Changes::parse(&GROUP, &json!({ "operations": operations })).map(|changes| changes.members).map_err(|w| w.kind);
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    for (operation, expected) in [
        (json!({ "op": "Add", "path": "members", "value": [{ "value": "a" }, { "value": "b" }] }), Members::Add(ids(&["a", "b"]))),
        (json!({ "op": "add", "value": { "members": [{ "value": "a" }] } }), Members::Add(ids(&["a"]))),
        (json!({ "op": "Remove", "path": "members[value eq \"a\"]" }), Members::Remove(ids(&["a"]))),
        (json!({ "op": "Remove", "path": "members[value eq \"a\" or value eq \"b\"]" }), Members::Remove(ids(&["a", "b"]))),
        (json!({ "op": "Remove", "path": "members", "value": [{ "$ref": null, "value": "a" }] }), Members::Remove(ids(&["a"]))),
        (json!({ "op": "remove", "path": "members" }), Members::Set(Vec::new())),
        (json!({ "op": "replace", "path": "members", "value": [] }), Members::Set(Vec::new())),
        (json!({ "op": "replace", "path": "members", "value": { "value": "a" } }), Members::Set(ids(&["a"]))),
    ] {
        assert_eq!(of(json!([operation])), Ok(vec![expected]), "{operation}");
    }
    for (operation, kind) in [
        (json!({ "op": "Add", "path": "members", "value": [{}] }), Kind::InvalidValue),
        (json!({ "op": "Add", "path": "members", "value": 1 }), Kind::InvalidValue),
        (json!({ "op": "Remove", "path": "members[value sw \"a\"]" }), Kind::InvalidFilter),
        (json!({ "op": "Replace", "path": "members[value eq \"a\"]", "value": {} }), Kind::Mutability),
        (json!({ "op": "Replace", "path": "members.value", "value": "a" }), Kind::Mutability),
    ] {
        assert_eq!(of(json!([operation])), Err(kind), "{operation}");
    }
}

#[test]
fn whole_resources_are_read_whatever_the_case_and_without_what_is_not_kept() {
    let body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": "mine", "UserName": "a@x", "Active": "True", "password": "secret",
        "emails": [{ "Value": "a@x", "type": "work", "primary": "true" }], "meta": { "resourceType": "User" }, "nonsense": [[1]],
        ENTERPRISE_URN: { "Department": "Sales", "manager": { "value": "x" } },
    });
    let (read, _) = Changes::of_whole(&USER, &body).unwrap();
    let expected = json!({
        "userName": "a@x", "active": true, "emails": [{ "value": "a@x", "type": "work", "primary": true }],
        ENTERPRISE_URN: { "department": "Sales" },
    });
    assert_eq!(Value::Object(read), expected);
    assert_eq!(Changes::of_whole(&USER, &json!([])).unwrap_err().kind, Kind::InvalidSyntax);
}

#[test]
fn what_is_shown_is_what_was_asked_for() {
    let shown = |query: &str| {
        let mut whole = ann();
        whole.insert("id".into(), "1".into());
        whole.insert("schemas".into(), json!([]));
        Value::Object(Query::parse(query).unwrap().show(&USER, whole))
    };
    assert_eq!(shown("attributes=userName"), json!({ "id": "1", "schemas": [], "userName": "ann@x.example" }));
    assert_eq!(
        shown("attributes=name.givenName,emails.value,name.familyName"),
        json!({ "id": "1", "schemas": [], "name": { "givenName": "Ann", "familyName": "Arbor" }, "emails": [{ "value": "ann@x.example" }] })
    );
    let department = format!("attributes={ENTERPRISE_URN}:department");
    assert_eq!(shown(&department), json!({ "id": "1", "schemas": [], ENTERPRISE_URN: { "department": "Sales" } }));
    let rest = shown("excludedAttributes=id,name,emails.type,title,nonsense");
    assert_eq!(rest.get("id"), Some(&json!("1")));
    assert_eq!((rest.get("name"), rest.get("title")), (None, None));
    assert_eq!(rest["emails"], json!([{ "value": "ann@x.example", "primary": true }]));
    let query = Query::parse("aadOptscim062020&startIndex=0&count=100000&filter=userName%20eq%20%22a%2Bb%22").unwrap();
    assert_eq!((query.start(), query.count(), query.filter.as_deref()), (1, 200, Some("userName eq \"a+b\"")));
    let query = Query::of_search(&json!({ "startIndex": 5, "count": -1, "attributes": ["groups"] })).unwrap();
    assert_eq!((query.start(), query.count(), query.shows(&USER, "groups", false)), (5, 0, true));
    assert!(Query::parse("").unwrap().shows(&GROUP, "members", true));
    assert!(!Query::parse("excludedAttributes=members").unwrap().shows(&GROUP, "members", true));
    assert!(!Query::parse("attributes=displayName").unwrap().shows(&GROUP, "members", true));
    for wrong in ["startIndex=x", "count=1.5", "filter=%ff", &"a".repeat(20_000)] {
        assert!(Query::parse(wrong).is_err(), "{wrong:.20}");
    }
}

proptest! {
    #[test]
    fn reading_paths_never_panics(path in any::<String>(), name in any::<String>()) {
        let filtered = format!("emails[type eq \"{path}\"].{name}");
        for path in [path.clone(), format!("emails[{path}"), filtered, format!("{ENTERPRISE_URN}{path}")] {
            let body = json!({ "Operations": [{ "op": "add", "path": path, "value": name }, { "op": "add", "value": { path: name } }] });
            if let Ok(changes) = Changes::parse(&USER, &body) {
                let _ = changes.apply(&mut ann());
            }
        }
    }
}

#[test]
fn errors_have_the_form_of_the_standard() {
    let urn = super::ERROR;
    assert_eq!(
        super::error(409, Some(Kind::Uniqueness), "taken"),
        json!({ "schemas": [urn], "status": "409", "scimType": "uniqueness", "detail": "taken" })
    );
    assert_eq!(super::error(404, None, "gone").get("scimType"), None);
}
