//! Groups that go by a rule: what the database works out for all at once is what the rule says of each, and profiles follow.

use std::collections::BTreeSet;

use muster::clock::Time;
use muster::domain::access::{Assignment as RoleAssignment, Principal, Reach, Role};
use muster::domain::assignment::{Assignment, Mode, Target};
use muster::domain::autopilot::Identity;
use muster::domain::device::{Device, Platform, State};
use muster::domain::group::rule::{Rule, Subject, Value};
use muster::domain::group::{Group, Member};
use muster::domain::profile::{Document, Kind};
use muster::domain::user::{Details, User};
use muster::ids::{AssignmentId, AutopilotId, GroupId, RoleAssignmentId};
use muster::service::directory::{self, By};
use muster::service::{self, role};
use muster::store::{Store, assignments, autopilot, desired_items, devices, enrollments, group_rules, groups, profiles, users};

use crate::both_backends;
use crate::desired::{device, enrollment, profile, sealer, user};
use crate::support::server::Server;

const NOW: Time = Time(1_790_000_000_000);
const DAY: i64 = 86_400_000;

fn by() -> By {
    By::local("cli:test")
}

fn code<T: std::fmt::Debug>(outcome: service::Result<T>) -> String {
    outcome.unwrap_err().to_string().split([':', ' ']).next().unwrap().to_owned()
}

fn group(rule: &str) -> Group {
    Group {
        id: GroupId::new(),
        display_name: "by rule".into(),
        description: String::new(),
        rule: Some(rule.to_owned()),
        external_id: None,
        mail_nickname: None,
    }
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |text| Value::Text(text.to_owned()))
}

fn of_user(user: &User, name: &str) -> Value {
    match name {
        "accountEnabled" => Value::Bool(user.enabled),
        "department" => text(user.details.department.as_deref()),
        "mail" => text(user.mail.as_deref()),
        "userPrincipalName" => text(Some(&user.upn)),
        _ => unreachable!("{name}"),
    }
}

fn of_device(device: &Device, name: &str) -> Value {
    match name {
        "displayName" => text(Some(&device.display_name)),
        "deviceModel" => text(device.model.as_deref()),
        "deviceOSType" => text(Some(if device.platform == Platform::Windows { "Windows" } else { "MacMDM" })),
        _ => unreachable!("{name}"),
    }
}

/// Numbers that repeat themselves from run to run.
fn roll(seed: &mut u64, sides: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap() % sides
}

const TEXTS: [&str; 8] = ["\"\"", "\"a\"", "\"A%\"", "\"a_\"", "\"ab\"", "'B\\'", "\"windows\"", "\"' OR 1=1 --\""];
const PATTERNS: [&str; 6] = ["^a", "b$", "^$", "[%_]", "^(a+)+b?$", "[0-9]b@"];
/// What is asked of several texts.
const OF_IDS: [&str; 5] = [
    "-any (_ -eq \"[OrderID]:sales\")",
    "-any (_ -startsWith \"[OrderID]:\" -and _ -notEndsWith \"a\")",
    "-any (_ -match \"^.ZTDID.:[0-9a-f-]+$\")",
    "-all (_ -startsWith \"[ZTDID]\")",
    "-all (_ -match \"sales|ztdid\")",
];
/// What objects have, `None` among it.
const HAD: [Option<&str>; 7] = [None, Some(""), Some("A"), Some("a%b"), Some("AB"), Some("b\\"), Some("' OR 1=1 --")];

fn random_rule(seed: &mut u64, subject: Subject, depth: usize) -> String {
    if depth > 0 && roll(seed, 3) > 0 {
        let (a, b) = (random_rule(seed, subject, depth - 1), random_rule(seed, subject, depth - 1));
        return match roll(seed, 3) {
            0 => format!("({a}) -and ({b})"),
            1 => format!("({a}) -or ({b})"),
            _ => format!("-not ({a})"),
        };
    }
    let names: &[&str] = match subject {
        Subject::User if roll(seed, 6) == 0 => return "user.accountEnabled -ne false".into(),
        Subject::Device if roll(seed, 4) == 0 => return format!("device.devicePhysicalIds {}", OF_IDS[roll(seed, OF_IDS.len())]),
        Subject::User => &["department", "mail", "userPrincipalName"],
        Subject::Device => &["displayName", "deviceModel", "deviceOSType"],
    };
    let (name, value) = (names[roll(seed, names.len())], TEXTS[roll(seed, TEXTS.len())]);
    match roll(seed, 12) {
        0 => format!("{subject}.{name} -ne null"),
        1 => format!("{subject}.{name} -in [{value}, null, \"x\"]"),
        2 => format!("{subject}.{name} -notIn [{value}, \"ab\"]"),
        3 => format!("{subject}.{name} -startsWith {value}"),
        4 => format!("{subject}.{name} -notStartsWith {value}"),
        5 => format!("{subject}.{name} -contains {value}"),
        6 => format!("{subject}.{name} -notContains {value}"),
        7 => format!("{subject}.{name} -endsWith {value}"),
        8 => format!("{subject}.{name} -notEndsWith {value}"),
        9 => format!("{subject}.{name} -match \"{}\"", PATTERNS[roll(seed, PATTERNS.len())]),
        10 => format!("{subject}.{name} -notMatch \"{}\"", PATTERNS[roll(seed, PATTERNS.len())]),
        _ => format!("{subject}.{name} -eq {value}"),
    }
}

async fn members(store: &Store, group: &GroupId) -> BTreeSet<Member> {
    let id = group.clone();
    store.read(move |conn| groups::list_members(conn, &id, ("", ""), 100_000)).await.unwrap().into_iter().collect()
}

both_backends! {
    async fn the_database_finds_of_whom_a_rule_is_true(store: Store) {
        let mut seed = 7;
        let people: Vec<User> = (0..60).map(|n| {
            let had = |seed: &mut u64| HAD[roll(seed, HAD.len())].map(str::to_owned);
            let details = Details { department: had(&mut seed), ..Details::default() };
            User { mail: had(&mut seed), details, enabled: roll(&mut seed, 2) == 0, ..user(&format!("a{n}b@example.org")) }
        }).collect();
        let things: Vec<Device> = (0..60).map(|n| {
            let platform = if roll(&mut seed, 2) == 0 { Platform::Windows } else { Platform::MacOs };
            let state = if roll(&mut seed, 8) == 0 { State::Retired } else { State::Managed };
            let model = HAD[roll(&mut seed, HAD.len())].map(str::to_owned);
            Device { model, state, serial_number: Some(format!("SN-{n}")), ..device(HAD[n % HAD.len()].unwrap_or("x"), platform, None) }
        }).collect();
        // Some of them are registered, with a tag or without; so are Macs, which have no such ids.
        let chosen: Vec<&Device> = things.iter().filter(|_| roll(&mut seed, 3) > 0).collect();
        let registered: Vec<Identity> = chosen.into_iter().map(|device| Identity {
            id: AutopilotId::new(), serial: device.serial_number.clone().unwrap(), product_key: String::new(), hardware_hash: Vec::new(),
            group_tag: ["", "Sales", "Data"][roll(&mut seed, 3)].into(), user_id: None, addressable_user_name: String::new(),
            display_name: String::new(), purchase_order: String::new(), created_at: NOW, updated_at: NOW,
        }).collect();
        let ids_of = |device: &Device| -> Vec<String> {
            let own = registered.iter().filter(|one| device.platform == Platform::Windows && Some(&one.serial) == device.serial_number.as_ref());
            own.flat_map(Identity::physical_ids).collect()
        };
        let listed = registered.clone();
        let (rows, more) = (people.clone(), things.clone());
        store.write(move |tx| {
            rows.iter().try_for_each(|row| users::insert_user(tx, row, NOW))?;
            more.iter().try_for_each(|row| devices::insert_device(tx, row, NOW))?;
            listed.iter().try_for_each(|row| autopilot::insert_identity(tx, row))?;
            groups::insert_group(tx, &Group { rule: None, ..group("") }, NOW)
        }).await.unwrap();

        let mut moved = group("user.mail -eq null");
        let row = Group { display_name: "moved".into(), ..moved.clone() };
        store.write(move |tx| groups::insert_group(tx, &row, NOW)).await.unwrap();
        let mut sizes = BTreeSet::new();
        for turn in 0..150 {
            let subject = if roll(&mut seed, 2) == 0 { Subject::User } else { Subject::Device };
            let rule = random_rule(&mut seed, subject, 3);
            let test = Rule::parse(&rule).unwrap().test;
            let expected: BTreeSet<Member> = match subject {
                Subject::User => people.iter().filter(|user| test.is_true(&|name| of_user(user, name)))
                    .map(|user| Member::User(user.id.clone())).collect(),
                Subject::Device => things.iter().filter(|device| device.state != State::Retired)
                    .filter(|device| test.is_true(&|name| match name {
                        "devicePhysicalIds" => Value::Texts(ids_of(device)),
                        _ => of_device(device, name),
                    }))
                    .map(|device| Member::Device(device.id.clone())).collect(),
            };
            moved.rule = Some(rule.clone());
            let row = moved.clone();
            let before = members(&store, &moved.id).await;
            let count = store.write(move |tx| group_rules::follow_all(tx, &row, NOW)).await.unwrap();
            assert_eq!(members(&store, &moved.id).await, expected, "turn {turn}: {rule}");
            assert_eq!(count, before.symmetric_difference(&expected).count(), "turn {turn}: {rule}");
            let (parsed, again) = (Rule::parse(&rule).unwrap(), moved.clone());
            let listed = store.read(move |conn| group_rules::list_fitting(conn, &parsed, 1000)).await.unwrap();
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected, "turn {turn}: {rule}");
            assert_eq!(store.write(move |tx| group_rules::follow_all(tx, &again, NOW)).await.unwrap(), 0);
            sizes.insert(expected.len());
        }
        assert!(sizes.len() > 20, "the rules tell hardly anybody apart: {sizes:?}");
    }

    async fn ten_thousand_devices_move_with_a_rule_and_their_profiles_follow(store: Store) {
        const COUNT: usize = 10_000;
        let fleet: Vec<Device> = (0..COUNT).map(|n| {
            let model = Some(if n % 4 == 0 { "Kiosk" } else { "Laptop" }.to_owned());
            Device { model, ..device(&format!("PC-{n}"), Platform::Windows, None) }
        }).collect();
        let given = profile("given", Kind::Configuration, Platform::Windows, Document::default());
        let mut kiosks = group("device.deviceModel -eq \"kiosk\"");
        let target = Target::Group(kiosks.id.clone());
        let to_group = Assignment { id: AssignmentId::new(), profile_id: given.id.clone(), mode: Mode::Include, target };
        let (rows, one, to, row) = (fleet.clone(), given.clone(), to_group.clone(), kiosks.clone());
        store.write(move |tx| {
            for row in &rows {
                devices::insert_device(tx, row, NOW)?;
                enrollments::insert_enrollment(tx, &enrollment(row, NOW))?;
            }
            groups::insert_group(tx, &row, NOW)?;
            profiles::insert_profile(tx, &sealer(), &one, NOW)?;
            assignments::insert_assignment(tx, &to, NOW)
        }).await.unwrap();

        for (rule, share) in [
            ("device.deviceModel -eq \"kiosk\"", COUNT / 4),
            ("device.deviceModel -ne \"kiosk\"", COUNT / 4 * 3),
            ("device.deviceModel -eq \"nothing\"", 0),
        ] {
            kiosks.rule = Some(rule.into());
            let (row, id) = (kiosks.clone(), given.id.clone());
            let wanted = store.write(move |tx| {
                groups::update_group(tx, &row)?;
                group_rules::follow_all(tx, &row, NOW)?;
                desired_items::recompute_group(tx, &row.id, NOW)?;
                let items = desired_items::list_for_profile(tx.conn(), &id, "", 1_000_000)?;
                Ok(items.iter().filter(|item| item.desired_version.is_some()).count())
            }).await.unwrap();
            assert_eq!((members(&store, &kiosks.id).await.len(), wanted), (share, share), "{rule}");
        }

        // One device changes, as it enrols or leaves: only it moves.
        let (changed, row) = (Device { model: Some("Nothing".into()), ..fleet[1].clone() }, kiosks.clone());
        let id = changed.id.clone();
        store.write(move |tx| {
            devices::update_device(tx, &changed, NOW)?;
            desired_items::recompute_device(tx, &changed.id, NOW)
        }).await.unwrap();
        assert_eq!(members(&store, &row.id).await, [Member::Device(id.clone())].into());
        let profile = given.id.clone();
        let wanted = id.clone();
        assert!(store.read(move |conn| desired_items::is_desired(conn, &wanted, &profile)).await.unwrap());

        // What devices say of themselves is followed by the job; what did not change since is not looked at before the next day.
        let (said, unsaid) = (Device { model: Some("nothing".into()), ..fleet[2].clone() }, Device { model: None, ..fleet[1].clone() });
        let (later, group) = (NOW.plus(DAY / 100), row.id.clone());
        let both: BTreeSet<Member> = [Member::Device(id), Member::Device(said.id.clone())].into();
        store.write(move |tx| {
            devices::update_inventory(tx, &said, later)?;
            devices::update_inventory(tx, &unsaid, NOW.plus(-DAY))?;
            assert_eq!(group_rules::follow_changed(tx, &group, later, DAY)?, 1);
            Ok(())
        }).await.unwrap();
        assert_eq!(members(&store, &row.id).await, both);
        let group = row.id.clone();
        store.write(move |tx| {
            assert_eq!(group_rules::follow_changed(tx, &group, NOW.plus(DAY), DAY)?, 1);
            Ok(())
        }).await.unwrap();
        assert_eq!(members(&store, &row.id).await.len(), 1);
    }
}

#[actix_web::test]
async fn people_join_and_leave_as_they_change_and_nobody_else_moves_them() {
    let server = Server::start().await;
    let app = &server.app;
    let of = |department: &str| Details { department: Some(department.into()), ..Details::default() };
    let ana = directory::create_user(app, User { details: of("Sales"), ..user("ana@example.org") }, &by()).await.unwrap();
    let rule = "user.department -eq \"sales\" -and user.accountEnabled -eq true";
    let sales = directory::create_group_by_rule(app, "Sales", "", Some(rule.into()), &by()).await.unwrap();
    let bob = directory::create_user(app, User { details: of("SALES"), ..user("bob@example.org") }, &by()).await.unwrap();
    let both: BTreeSet<Member> = [Member::User(ana.id.clone()), Member::User(bob.id.clone())].into();
    assert_eq!(members(&app.store, &sales.id).await, both);
    directory::enable_user(app, &bob.id, false, &by()).await.unwrap();
    assert_eq!(members(&app.store, &sales.id).await, [Member::User(ana.id.clone())].into());

    assert_eq!(code(directory::add_members(app, &sales.id, vec![Member::User(bob.id.clone())], &by()).await), "DIR0001");
    assert_eq!(code(directory::remove_members(app, &sales.id, vec![Member::User(ana.id.clone())], &by()).await), "DIR0001");
    let wrong = directory::create_group_by_rule(app, "X", "", Some("user.shoe -eq \"x\"".into()), &by()).await.unwrap_err().to_string();
    assert!(wrong.starts_with("DIR0002: at letter 1: there is no such property"), "{wrong}");
    let wrong = Group { rule: Some("user".into()), ..sales.clone() };
    assert_eq!(code(directory::update_group(app, wrong, &by()).await), "DIR0002");

    // A role by a group, and a group by a rule, do not go together, whichever comes first.
    let plain = directory::create_group(app, "Plain", "", &by()).await.unwrap();
    let give = |group: &Group| RoleAssignment {
        id: RoleAssignmentId::new(),
        role: Role::built_in("helpdesk").unwrap().id,
        display_name: "helpdesk".into(),
        description: String::new(),
        members: [Principal::Group(group.id.clone())].into(),
        reach: Reach::All,
    };
    assert_eq!(code(role::assign(app, give(&sales), None, &by()).await), "DIR0003");
    role::assign(app, give(&plain), None, &by()).await.unwrap();
    let risen = Group { rule: Some(rule.into()), ..plain };
    assert_eq!(code(directory::update_group(app, risen, &by()).await), "DIR0003");

    // Without its rule the group keeps whom it has.
    directory::update_group(app, Group { rule: None, ..sales.clone() }, &by()).await.unwrap();
    directory::add_members(app, &sales.id, vec![Member::User(bob.id.clone())], &by()).await.unwrap();
    assert_eq!(members(&app.store, &sales.id).await, both);
}
