//! Passes, throttles, tokens, devices and enrolments on both databases.

use muster::clock::{DAY, HOUR, MINUTE, Time};
use muster::domain::command::{Command, NodeOperation, Operation, State as OrderState, UNENROLL, Verb};
use muster::domain::device::{Platform, State as DeviceState};
use muster::domain::enrollment::{Enrollment, State};
use muster::domain::profile::Scope;
use muster::domain::tap::Tap;
use muster::domain::throttle::PAIR;
use muster::ids::{CommandId, DeviceId, EnrollmentId, TapId, UserId};
use muster::store::devices::Filter;
use muster::store::enrollment_tokens::{self, EnrollmentToken};
use muster::store::{Error, Store, commands, devices, enrollments, message_signatures, taps, throttles, users};
use muster::wire::apple::enroll::Mode;

use crate::both_backends;
use crate::desired::{device, enrollment, user};

const NOW: Time = Time(1_790_000_000_000);

async fn person(store: &Store) -> UserId {
    let ana = user("ana@example.org");
    let id = ana.id.clone();
    store.write(move |tx| users::insert_user(tx, &ana, NOW)).await.unwrap();
    id
}

fn pass(user: &UserId, one_time: bool, starts_at: Time) -> Tap {
    Tap { id: TapId::new(), user_id: user.clone(), mac: vec![7; 32], one_time, starts_at, expires_at: starts_at.plus(HOUR), used_at: None }
}

async fn enrolled(store: &Store, name: &str, change: impl FnOnce(&mut Enrollment)) -> (DeviceId, EnrollmentId) {
    let pc = device(name, Platform::Windows, None);
    let mut row = enrollment(&pc, NOW);
    change(&mut row);
    let ids = (pc.id.clone(), row.id.clone());
    store
        .write(move |tx| {
            devices::insert_device(tx, &pc, NOW)?;
            enrollments::insert_enrollment(tx, &row)
        })
        .await
        .unwrap();
    ids
}

both_backends! {
    async fn a_one_time_pass_is_claimed_once_and_only_in_its_time(store: Store) {
        let ana = person(&store).await;
        let (once, often, later) = (pass(&ana, true, NOW), pass(&ana, false, NOW), pass(&ana, true, NOW.plus(MINUTE)));
        let all = [once.clone(), often.clone(), later.clone()];
        store.write(move |tx| all.iter().try_for_each(|tap| taps::insert_tap(tx, tap, NOW))).await.unwrap();
        let ids = (once.id.clone(), often.id.clone(), later.id.clone());
        let claimed = store.write(move |tx| Ok([
            taps::claim_tap(tx, &ids.0, NOW)?, taps::claim_tap(tx, &ids.0, NOW)?, taps::claim_tap(tx, &ids.1, NOW)?,
            taps::claim_tap(tx, &ids.1, NOW)?, taps::claim_tap(tx, &ids.2, NOW)?, taps::claim_tap(tx, &ids.2, NOW.plus(MINUTE))?,
            taps::claim_tap(tx, &TapId::new(), NOW)?,
        ])).await.unwrap();
        assert_eq!(claimed, [true, false, true, true, false, true, false]);
        let id = ana.clone();
        let open = store.read(move |c| taps::list_taps(c, &id, NOW, 10)).await.unwrap();
        let mut found: Vec<_> = open.iter().map(|tap| (tap.id.clone(), tap.used_at.is_some())).collect();
        found.sort();
        assert_eq!(found, [(often.id, true)], "a used one-time pass is not looked at");
        let gone = store.write(|tx| taps::purge_taps(tx, NOW.plus(HOUR + 1), 100)).await.unwrap();
        assert_eq!(gone, 2);
        let id = later.id;
        assert!(store.write(move |tx| taps::insert_tap(tx, &Tap { id: id.clone(), ..pass(&ana, true, NOW) }, NOW)).await.is_err(), "it is still there");
    }

    async fn failures_are_counted_until_they_block_and_forgotten_when_they_are_over(store: Store) {
        assert_eq!(store.read(|c| throttles::find_throttle(c, "k")).await.unwrap(), None);
        let mut blocked = 0;
        for _ in 0..20 {
            let state = store.write(|tx| throttles::update_after_failure(tx, "k", &PAIR, NOW)).await.unwrap();
            blocked += usize::from(state.wait(NOW).is_some());
        }
        assert!(blocked > 0 && blocked < 20, "{blocked}");
        let found = store.read(|c| throttles::find_throttle(c, "k")).await.unwrap().unwrap();
        assert_eq!(store.write(|tx| throttles::claim_throttle(tx, "k", NOW)).await.unwrap(), found);
        assert_eq!(store.write(|tx| throttles::purge_throttles(tx, NOW, 100)).await.unwrap(), 0);
        let over = found.blocked_until.plus(DAY);
        store.write(|tx| throttles::claim_throttle(tx, "young", NOW.plus(365 * DAY))).await.unwrap();
        assert_eq!(store.write(move |tx| throttles::purge_throttles(tx, over, 100)).await.unwrap(), 1);
        store.write(|tx| throttles::delete_throttle(tx, "young")).await.unwrap();
        assert_eq!(store.read(|c| throttles::find_throttle(c, "young")).await.unwrap(), None);
    }

    async fn tries_at_the_same_moment_are_all_counted(store: Store) {
        let tries = (0..20).map(|_| store.write(|tx| throttles::update_after_failure(tx, "k", &PAIR, NOW)));
        for result in futures_util::future::join_all(tries).await {
            result.unwrap();
        }
        let one_by_one = (0..20).fold(muster::domain::throttle::Throttle::default(), |state, _| state.after_failure(NOW, &PAIR));
        let found = store.read(|c| throttles::find_throttle(c, "k")).await.unwrap().unwrap();
        assert_eq!((found.failures, found.blocked_until), (one_by_one.failures, one_by_one.blocked_until));
    }

    async fn a_token_is_used_up_by_the_first_who_claims_it(store: Store) {
        let ana = person(&store).await;
        let token = EnrollmentToken {
            hash: "ab".repeat(32), user_id: ana, platform: Platform::Windows, mode: Some(Mode::User), method: "tap".into(), tap_id: None,
            expires_at: NOW.plus(MINUTE), used_at: None,
        };
        let late = EnrollmentToken { hash: "cd".repeat(32), ..token.clone() };
        let rows = [token.clone(), late.clone()];
        store.write(move |tx| rows.iter().try_for_each(|row| enrollment_tokens::insert_token(tx, row, NOW))).await.unwrap();
        let hash = token.hash.clone();
        assert_eq!(store.read(move |c| enrollment_tokens::find_token(c, &hash)).await.unwrap(), Some(token.clone()));
        let claims = (0..10).map(|_| {
            let hash = token.hash.clone();
            store.write(move |tx| enrollment_tokens::claim_token(tx, &hash, NOW))
        });
        let won = futures_util::future::join_all(claims).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
        assert_eq!(won, 1);
        let hash = late.hash.clone();
        assert!(!store.write(move |tx| enrollment_tokens::claim_token(tx, &hash, NOW.plus(MINUTE))).await.unwrap(), "expired");
        assert!(!store.write(|tx| enrollment_tokens::claim_token(tx, "unknown", NOW)).await.unwrap());
        for gone in [1, 1, 0] {
            assert_eq!(store.write(|tx| enrollment_tokens::purge_tokens(tx, NOW.plus(MINUTE + 1), 1)).await.unwrap(), gone);
        }
    }

    async fn devices_are_found_by_what_they_are_and_counted_for_their_user(store: Store) {
        let ana = person(&store).await;
        let mut first = device("PC 1", Platform::Windows, Some(&ana));
        first.hardware_id = Some("hw1".into());
        first.serial_number = Some("S1".into());
        let second = device("PC 2", Platform::Windows, Some(&ana));
        let mut third = device("PC 3", Platform::Ios, None);
        third.state = DeviceState::Retired;
        let all = [first.clone(), second.clone(), third];
        store.write(move |tx| all.iter().try_for_each(|device| devices::insert_device(tx, device, NOW))).await.unwrap();
        let mut twin = device("twin", Platform::Windows, Some(&ana));
        twin.hardware_id = Some("hw1".into());
        let refused = store.write(move |tx| devices::insert_device(tx, &twin, NOW)).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
        assert_eq!(store.read(|c| devices::list_same_hardware(c, Platform::Windows, Some("hw1"), None, 9)).await.unwrap(), [first.clone()]);
        assert_eq!(store.read(|c| devices::list_same_hardware(c, Platform::Ios, Some("hw1"), None, 9)).await.unwrap(), [], "another family");
        assert_eq!(store.read(|c| devices::list_same_hardware(c, Platform::Windows, None, None, 9)).await.unwrap(), [], "no id is not the same id");
        assert_eq!(store.read(|c| devices::list_contested_hardware(c, 9)).await.unwrap(), []);
        let ben = user("ben@example.org");
        let (mut other, mut known) = (device("other", Platform::Windows, Some(&ben.id)), device("known", Platform::Windows, Some(&ben.id)));
        (other.hardware_id, known.entra_device_id) = (Some("hw1".into()), Some("e1".into()));
        let rows = [other.clone(), known.clone()];
        store.write(move |tx| {
            users::insert_user(tx, &ben, NOW)?;
            rows.iter().try_for_each(|device| devices::insert_device(tx, device, NOW))
        }).await.unwrap();
        let same = store.read(|c| devices::list_same_hardware(c, Platform::Windows, Some("hw1"), Some("e1"), 9)).await.unwrap();
        assert_eq!(same, [first.clone(), other.clone(), known.clone()]);
        assert_eq!(store.read(|c| devices::list_contested_hardware(c, 9)).await.unwrap(), [(Platform::Windows, "hw1".to_owned())]);
        (other.state, other.hardware_id, known.state) = (DeviceState::Retired, Some("hw1".into()), DeviceState::Retired);
        let rows = [other, known];
        store.write(move |tx| rows.iter().try_for_each(|device| devices::update_device(tx, device, NOW))).await.unwrap();
        assert_eq!(store.read(|c| devices::list_contested_hardware(c, 9)).await.unwrap(), [], "who is retired claims nothing");
        let list = async |filter: Filter| {
            let found = store.read(move |c| devices::list_devices(c, &filter, "", 10)).await.unwrap();
            found.into_iter().map(|device| device.display_name).collect::<Vec<_>>()
        };
        assert_eq!(list(Filter { user_id: Some(ana.clone()), ..Filter::default() }).await, ["PC 1", "PC 2"]);
        assert_eq!(list(Filter { state: Some(DeviceState::Retired), ..Filter::default() }).await, ["PC 3", "other", "known"]);
        let macs = Filter { platform: Some(Platform::MacOs), ..Filter::default() };
        assert_eq!(list(macs).await, [""; 0]);
        let windows = Filter { platform: Some(Platform::Windows), ..Filter::default() };
        assert_eq!(list(windows).await, ["PC 1", "PC 2", "other", "known"]);
        assert_eq!(list(Filter { display_name: Some("PC 2".into()), ..Filter::default() }).await, ["PC 2"]);
        assert_eq!(list(Filter { serial_number: Some("S1".into()), ..Filter::default() }).await, ["PC 1"]);
        let after = first.id.to_string();
        assert_eq!(store.read(move |c| devices::list_devices(c, &Filter::default(), &after, 1)).await.unwrap(), [second]);
        let (id, except) = (ana.clone(), first.id.clone());
        let counts = store.read(move |c| Ok((devices::count_devices_of_user(c, &id, None)?, devices::count_devices_of_user(c, &id, Some(&except))?)));
        assert_eq!(counts.await.unwrap(), (2, 1));
        let mut bare = first.clone();
        (bare.hardware_id, bare.serial_number, bare.state) = (None, None, DeviceState::Retired);
        let row = bare.clone();
        store.write(move |tx| devices::update_device(tx, &row, NOW)).await.unwrap();
        let id = first.id.clone();
        assert_eq!(store.read(move |c| devices::load_device(c, &id)).await.unwrap(), bare, "values can be taken away");
        let stranger = device("stranger", Platform::Windows, None);
        assert!(matches!(store.write(move |tx| devices::update_device(tx, &stranger, NOW)).await, Err(Error::NotFound)));
        assert_eq!(store.read(move |c| devices::count_devices_of_user(c, &ana, None)).await.unwrap(), 1);
    }

    async fn a_device_has_one_enrolment_at_a_time_and_changes_are_compared(store: Store) {
        let (device, id) = enrolled(&store, "PC", |_| ()).await;
        let second = {
            let id = device.clone();
            store.write(move |tx| {
                let pc = devices::load_device(tx.conn(), &id)?;
                enrollments::insert_enrollment(tx, &enrollment(&pc, NOW))
            }).await
        };
        assert!(matches!(second, Err(Error::Conflict(_))), "{second:?}");
        let load = async || {
            let id = id.clone();
            store.read(move |c| enrollments::load_enrollment(c, &id)).await.unwrap()
        };
        let read = load().await;
        let changed = Enrollment { channel_uri: Some("https://channel".into()), ..read.clone() };
        let row = changed.clone();
        store.write(move |tx| enrollments::claim_update(tx, &row)).await.unwrap();
        let stale = store.write(move |tx| enrollments::claim_update(tx, &changed)).await;
        assert!(matches!(stale, Err(Error::Busy | Error::Unavailable(_))), "{stale:?}");
        assert_eq!(load().await.version, read.version + 1);
        let seen = [(id.clone(), NOW.plus(MINUTE)), (id.clone(), NOW)];
        let held = store.write(move |tx| enrollments::update_last_seen(tx, &seen)).await.unwrap();
        assert!(held.is_empty(), "{held:?}");
        assert_eq!(load().await.last_seen_at, Some(NOW.plus(MINUTE)), "a later moment is never put back");
        let key = id.clone();
        assert_eq!(store.read(move |c| enrollments::find_channel(c, &key)).await.unwrap().as_deref(), Some("https://channel"));
        let key = id.clone();
        let dropped = store.write(move |tx| Ok([
            enrollments::update_channel_dropped(tx, &key, "https://other")?, enrollments::update_channel_dropped(tx, &key, "https://channel")?,
        ])).await.unwrap();
        assert_eq!(dropped, [false, true]);
        let ended = Enrollment { state: State::Ended, ended_at: Some(NOW), ..load().await };
        store.write(move |tx| enrollments::claim_update(tx, &ended)).await.unwrap();
        let key = device.clone();
        assert_eq!(store.read(move |c| enrollments::find_current_enrollment(c, &key)).await.unwrap(), None);
        let key = device.clone();
        store.write(move |tx| {
            let pc = devices::load_device(tx.conn(), &key)?;
            enrollments::insert_enrollment(tx, &enrollment(&pc, NOW))
        }).await.unwrap();
        assert_eq!(store.read(move |c| enrollments::list_enrollments(c, &device, 10)).await.unwrap().len(), 2);
    }

    async fn each_nonce_is_good_once(store: Store) {
        let (_, id) = enrolled(&store, "PC", |_| ()).await;
        let key = id.clone();
        store.write(move |tx| enrollments::update_digest(tx, &key, b"sealed")).await.unwrap();
        let claim = async |used: Option<&'static [u8]>, next: &'static [u8]| {
            let id = id.clone();
            store.write(move |tx| enrollments::claim_nonce(tx, &id, used, next, NOW)).await.unwrap()
        };
        assert!(claim(None, b"n1").await);
        assert!(claim(Some(b"n1"), b"n2").await);
        assert!(!claim(Some(b"n1"), b"n3").await);
        let key = id.clone();
        let digest = store.read(move |c| enrollments::find_digest(c, &key)).await.unwrap().unwrap();
        assert_eq!((digest.sealed.as_slice(), digest.nonce), (b"sealed".as_slice(), Some((b"n2".to_vec(), NOW))));
    }

    async fn those_with_a_channel_and_new_work_are_woken(store: Store) {
        let channel = |work_at: Option<Time>, seen: Option<Time>| move |row: &mut Enrollment| {
            (row.work_at, row.last_seen_at, row.channel_uri) = (work_at, seen, Some("https://channel".into()));
        };
        let (_, wanted) = enrolled(&store, "1", channel(Some(NOW), None)).await;
        let (_, heard_before) = enrolled(&store, "2", channel(Some(NOW), Some(NOW.plus(-HOUR)))).await;
        enrolled(&store, "heard of since", channel(Some(NOW), Some(NOW.plus(1)))).await;
        enrolled(&store, "nothing to do", channel(None, None)).await;
        enrolled(&store, "later", channel(Some(NOW.plus(HOUR)), None)).await;
        enrolled(&store, "long ago", channel(Some(NOW.plus(-DAY)), None)).await;
        enrolled(&store, "no channel", |row| row.work_at = Some(NOW)).await;
        let page = |after: String| {
            store.read(move |c| Ok(enrollments::list_to_wake(c, NOW.plus(-MINUTE), NOW, &after, 1)?.into_iter().map(|found| found.id).collect::<Vec<_>>()))
        };
        let (first, second) = (wanted.to_string(), heard_before.to_string());
        assert_eq!(page(String::new()).await.unwrap(), [wanted]);
        assert_eq!(page(first).await.unwrap(), [heard_before]);
        assert_eq!(page(second).await.unwrap(), []);
    }

    async fn those_who_were_told_to_leave_and_are_silent_are_found(store: Store) {
        // When it was told, what became of the order, when that was, and when it was heard of last.
        let leaver = async |name: &'static str, state: State, told: Time, order: OrderState, moved: Time, seen: Option<Time>| {
            let (_, id) = enrolled(&store, name, |row| (row.state, row.last_seen_at) = (state, seen)).await;
            let order = Command {
                id: CommandId::new(),
                enrollment_id: id.clone(),
                kind: UNENROLL.into(),
                scope: Scope::Device,
                operation: Operation::Node(NodeOperation { verb: Verb::Exec, uri: "./x".into(), format: None, data: None }),
                state: order,
                attempts: 0,
                result: None,
                not_before: told,
                created_by: "cli:test".into(),
                version: 1,
            };
            store.write(move |tx| {
                commands::insert_command(tx, &order, &b"sealed".to_vec().into(), told)?;
                commands::update_command(tx, &order, None, moved)
            }).await.unwrap();
            id
        };
        let (long_ago, ago, just_now) = (NOW.plus(-31 * DAY), NOW.plus(-DAY), NOW.plus(-MINUTE));
        let heard = leaver("heard it", State::Unenrolling, ago, OrderState::Sent, ago, Some(ago)).await;
        let lost = leaver("lost", State::Unenrolling, ago, OrderState::Uncertain, ago, None).await;
        let drawer = leaver("in a drawer", State::Unenrolling, long_ago, OrderState::Queued, long_ago, None).await;
        let stubborn = leaver("stubborn", State::Unenrolling, long_ago, OrderState::Sent, just_now, Some(just_now)).await;
        leaver("told yesterday", State::Unenrolling, ago, OrderState::Queued, ago, None).await;
        leaver("told just now", State::Unenrolling, ago, OrderState::Sent, just_now, Some(just_now)).await;
        leaver("speaks", State::Unenrolling, ago, OrderState::Sent, ago, Some(just_now)).await;
        leaver("not leaving", State::Active, long_ago, OrderState::Sent, long_ago, None).await;
        let moments = (NOW.plus(-16 * HOUR), NOW.plus(-30 * DAY));
        let found = async |platform| store.read(move |c| enrollments::list_silent_leavers(c, platform, moments, "", 9)).await.unwrap();
        assert_eq!(found(Platform::Windows).await, [heard, lost, drawer, stubborn]);
        assert_eq!(found(Platform::MacOs).await, []);
    }

    async fn a_signature_is_good_once_until_it_is_forgotten(store: Store) {
        let claim = async |hash: &'static [u8]| store.write(move |tx| message_signatures::claim_signature(tx, hash, NOW)).await.unwrap();
        assert_eq!((claim(b"a").await, claim(b"a").await, claim(b"b").await), (true, false, true));
        assert_eq!(store.write(|tx| message_signatures::purge_signatures(tx, NOW, 100)).await.unwrap(), 0);
        assert_eq!(store.write(|tx| message_signatures::purge_signatures(tx, NOW.plus(1), 100)).await.unwrap(), 2);
    }
}
