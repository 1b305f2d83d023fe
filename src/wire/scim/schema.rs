//! What resources look like: the attributes that are kept, and those of the standard that are read over.

use serde_json::{Map, Value, json};

/// The schema of a user (RFC 7643, section 4.1).
pub const USER_URN: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
/// The schema of a group (RFC 7643, section 4.2).
pub const GROUP_URN: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
/// What enterprises say of users beside that (RFC 7643, section 4.3).
pub const ENTERPRISE_URN: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// What the values of an attribute are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A text.
    Text,
    /// True or false.
    Bool,
    /// A moment.
    Time,
    /// The address of something.
    Reference,
    /// An object with attributes of its own.
    Complex,
}

/// Who may change an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// The client.
    ReadWrite,
    /// The client, once.
    Immutable,
    /// Only the server.
    ReadOnly,
}

/// When an attribute is in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// Whatever is asked for.
    Always,
    /// Unless it is not asked for.
    Default,
    /// When it is asked for.
    Request,
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Type,
    /// Whether there may be several.
    pub multi: bool,
    /// Whether it cannot be taken away.
    pub required: bool,
    /// Whether its case matters.
    pub exact: bool,
    /// Whether no two resources have the same value.
    pub unique: bool,
    /// Who may change it.
    pub mutability: Mutability,
    /// When it is shown.
    pub returned: Returned,
    /// The values that there are.
    pub canonical: &'static [&'static str],
    /// What a reference leads to.
    pub references: &'static [&'static str],
    /// For people.
    pub description: &'static str,
    /// The attributes of its values.
    pub subs: &'static [Self],
}

impl Attribute {
    const fn text(name: &'static str, description: &'static str) -> Self {
        Self {
            name,
            kind: Type::Text,
            multi: false,
            required: false,
            exact: false,
            unique: false,
            mutability: Mutability::ReadWrite,
            returned: Returned::Default,
            canonical: &[],
            references: &[],
            description,
            subs: &[],
        }
    }

    const fn bool(name: &'static str, description: &'static str) -> Self {
        Self { kind: Type::Bool, ..Self::text(name, description) }
    }

    const fn complex(name: &'static str, description: &'static str, subs: &'static [Self]) -> Self {
        Self { kind: Type::Complex, subs, ..Self::text(name, description) }
    }

    const fn many(self) -> Self {
        Self { multi: true, ..self }
    }

    const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn exact(self) -> Self {
        Self { exact: true, ..self }
    }

    const fn unique(self) -> Self {
        Self { unique: true, ..self }
    }

    const fn immutable(self) -> Self {
        Self { mutability: Mutability::Immutable, ..self }
    }

    const fn read_only(self) -> Self {
        Self { mutability: Mutability::ReadOnly, ..self }
    }

    const fn on_request(self) -> Self {
        Self { returned: Returned::Request, ..self }
    }

    const fn always(self) -> Self {
        Self { returned: Returned::Always, ..self }
    }

    const fn one_of(self, canonical: &'static [&'static str]) -> Self {
        Self { canonical, ..self }
    }

    const fn reference(self, references: &'static [&'static str]) -> Self {
        Self { kind: Type::Reference, references, exact: true, ..self }
    }

    /// The attribute of its values with that name, in any case.
    #[must_use]
    pub fn sub(&self, name: &str) -> Option<&'static Self> {
        self.subs.iter().find(|sub| sub.name.eq_ignore_ascii_case(name))
    }

    fn json(&self) -> Value {
        let kind = match self.kind {
            Type::Text => "string",
            Type::Bool => "boolean",
            Type::Time => "dateTime",
            Type::Reference => "reference",
            Type::Complex => "complex",
        };
        let mut members = Map::from_iter([
            ("name".to_owned(), Value::from(self.name)),
            ("type".to_owned(), kind.into()),
            ("multiValued".to_owned(), self.multi.into()),
            ("description".to_owned(), self.description.into()),
            ("required".to_owned(), self.required.into()),
            ("caseExact".to_owned(), self.exact.into()),
            ("uniqueness".to_owned(), if self.unique { "server" } else { "none" }.into()),
        ]);
        let mutability = match self.mutability {
            Mutability::ReadWrite => "readWrite",
            Mutability::Immutable => "immutable",
            Mutability::ReadOnly => "readOnly",
        };
        members.insert("mutability".into(), mutability.into());
        let returned = match self.returned {
            Returned::Always => "always",
            Returned::Default => "default",
            Returned::Request => "request",
        };
        members.insert("returned".into(), returned.into());
        if !self.canonical.is_empty() {
            members.insert("canonicalValues".into(), json!(self.canonical));
        }
        if !self.references.is_empty() {
            members.insert("referenceTypes".into(), json!(self.references));
        }
        if !self.subs.is_empty() {
            members.insert("subAttributes".into(), self.subs.iter().map(Self::json).collect());
        }
        Value::Object(members)
    }
}

/// A schema.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Its name in the protocol.
    pub urn: &'static str,
    /// Its short name.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// The attributes that are kept.
    pub attributes: &'static [Attribute],
    /// Attributes of the standard that are not kept: clients send them, and they are read over.
    pub ignored: &'static [&'static str],
}

impl Schema {
    /// The attribute of that name, in any case.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
    }

    /// The schema as clients discover it.
    #[must_use]
    pub fn json(&self, base: &str) -> Value {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": self.urn,
            "name": self.name,
            "description": self.description,
            "attributes": self.attributes.iter().map(Attribute::json).collect::<Vec<_>>(),
            "meta": { "resourceType": "Schema", "location": format!("{base}/Schemas/{}", self.urn) },
        })
    }
}

/// A kind of resource.
#[derive(Debug)]
pub struct Resource {
    /// Its name.
    pub name: &'static str,
    /// Its address below the root.
    pub endpoint: &'static str,
    /// Its schema.
    pub core: &'static Schema,
    /// What adds to it.
    pub extensions: &'static [&'static Schema],
}

impl Resource {
    /// The schemas that it has.
    pub fn schemas(&self) -> impl Iterator<Item = &'static Schema> + '_ {
        std::iter::once(self.core).chain(self.extensions.iter().copied())
    }

    /// The kind of resource as clients discover it.
    #[must_use]
    pub fn json(&self, base: &str) -> Value {
        let extensions: Vec<Value> = self.extensions.iter().map(|schema| json!({ "schema": schema.urn, "required": false })).collect();
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": self.name,
            "name": self.name,
            "endpoint": self.endpoint,
            "description": self.core.description,
            "schema": self.core.urn,
            "schemaExtensions": extensions,
            "meta": { "resourceType": "ResourceType", "location": format!("{base}/ResourceTypes/{}", self.name) },
        })
    }
}

/// What every resource has (RFC 7643, section 3.1).
pub const COMMON: &[Attribute] = &[
    Attribute::text("id", "The identifier that this server gave.").exact().unique().read_only().always(),
    Attribute::text("externalId", "The identifier that the client gave.").exact(),
    Attribute::complex(
        "meta",
        "What the server says of the resource.",
        &[
            Attribute::text("resourceType", "What kind of resource it is.").exact().read_only(),
            Attribute { kind: Type::Time, ..Attribute::text("created", "When it was made.").read_only() },
            Attribute { kind: Type::Time, ..Attribute::text("lastModified", "When it was changed.").read_only() },
            Attribute::text("location", "Its address.").reference(&["uri"]).read_only(),
            Attribute::text("version", "Its version.").exact().read_only(),
        ],
    )
    .read_only(),
];

const USER_SCHEMA: Schema = Schema {
    urn: USER_URN,
    name: "User",
    description: "A person",
    attributes: &[
        Attribute::text("userName", "The user principal name, name@domain: what the person signs in with.").required().unique(),
        Attribute::complex(
            "name",
            "What the person is called.",
            &[Attribute::text("givenName", "Given name."), Attribute::text("familyName", "Family name.")],
        ),
        Attribute::text("displayName", "Name for people.").required(),
        Attribute::text("title", "What the person does."),
        Attribute::text("preferredLanguage", "Language, such as de-CH."),
        Attribute::bool("active", "Whether the person may sign in.").required(),
        Attribute::complex(
            "emails",
            "The mail address: one, of work.",
            &[
                Attribute::text("value", "The address."),
                Attribute::text("type", "What it is for.").one_of(&["work"]),
                Attribute::bool("primary", "Whether it is the first one; it always is."),
            ],
        )
        .many(),
        Attribute::complex(
            "phoneNumbers",
            "The telephone number: one, that of the mobile telephone.",
            &[Attribute::text("value", "The number."), Attribute::text("type", "Of what.").one_of(&["mobile"])],
        )
        .many(),
        Attribute::complex(
            "addresses",
            "Where the person works.",
            &[Attribute::text("formatted", "The office."), Attribute::text("type", "What is there.").one_of(&["work"])],
        )
        .many(),
        Attribute::complex(
            "groups",
            "The groups that the person belongs to.",
            &[
                Attribute::text("value", "The group's id.").read_only(),
                Attribute::text("$ref", "The group's address.").reference(&["Group"]).read_only(),
                Attribute::text("display", "The group's name.").read_only(),
            ],
        )
        .many()
        .read_only()
        .on_request(),
    ],
    ignored: &[
        "entitlements",
        "ims",
        "locale",
        "nickName",
        "password",
        "photos",
        "profileUrl",
        "roles",
        "timezone",
        "userType",
        "x509Certificates",
    ],
};

const ENTERPRISE_SCHEMA: Schema = Schema {
    urn: ENTERPRISE_URN,
    name: "EnterpriseUser",
    description: "What enterprises say of a person",
    attributes: &[
        Attribute::text("employeeNumber", "Number among the employees."),
        Attribute::text("department", "Where in the organisation."),
    ],
    ignored: &["costCenter", "division", "manager", "organization"],
};

const GROUP_SCHEMA: Schema = Schema {
    urn: GROUP_URN,
    name: "Group",
    description: "A group of people",
    attributes: &[
        Attribute::text("displayName", "Name for people.").required().unique(),
        Attribute::complex(
            "members",
            "The people who belong to it.",
            &[
                Attribute::text("value", "The user's id.").exact().immutable(),
                Attribute::text("$ref", "The user's address.").reference(&["User"]).immutable(),
                Attribute::text("type", "What the member is.").one_of(&["User"]).immutable(),
            ],
        )
        .many(),
    ],
    ignored: &[],
};

/// A user.
pub const USER: Resource = Resource { name: "User", endpoint: "/Users", core: &USER_SCHEMA, extensions: &[&ENTERPRISE_SCHEMA] };
/// A group.
pub const GROUP: Resource = Resource { name: "Group", endpoint: "/Groups", core: &GROUP_SCHEMA, extensions: &[] };
/// All kinds of resources.
pub const RESOURCES: &[&Resource] = &[&USER, &GROUP];
