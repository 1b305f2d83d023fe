//! What has to hold after the kills: everything that was acknowledged, and nothing that nobody asked for.

use super::*;

/// Ends what killed servers hold of the outbox.
pub(super) async fn end_leases(app: &App) {
    app.store
        .write(|tx| {
            use diesel::RunQueryDsl as _;
            diesel::sql_query("UPDATE outbox_lanes SET next_at = 0").execute(tx.conn())?;
            Ok(())
        })
        .await
        .unwrap();
}

/// A row of the outbox.
#[derive(diesel::QueryableByName)]
struct Sent {
    #[diesel(sql_type = diesel::sql_types::Text)]
    order_key: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    dedup_key: String,
}

/// Every change that a device has told and was answered has reached the receiver, as has everything that the database knows of, in the
/// order of each device. What came again bore the same name. Returns how many changes were told.
pub(super) async fn prove_signals(world: &World, app: &Arc<App>) -> usize {
    let receiver = world.receiver();
    while !app.store.read(|c| outbox::list_rows(c, "queued", 0, 1)).await.unwrap().is_empty() {
        end_leases(app).await;
        Arc::new(Worker::new(Arc::clone(app)).unwrap()).drain().await.unwrap();
    }
    assert_eq!(receiver.complaints(), [""; 0], "each device's flips in order, none missing");
    let dead = app.store.read(|c| outbox::list_rows(c, "dead", 0, 10)).await.unwrap();
    assert!(dead.is_empty(), "{dead:?}");
    let sent: Vec<Sent> = app
        .store
        .read(|c| {
            use diesel::RunQueryDsl as _;
            let query = "SELECT order_key, dedup_key FROM outbox WHERE topic = 'signal.push' ORDER BY seq";
            Ok(diesel::sql_query(query).load(c)?)
        })
        .await
        .unwrap();
    let mut lanes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Sent { order_key, dedup_key } in sent {
        let subject = order_key.rsplit('/').next().unwrap().to_owned();
        lanes.entry(subject).or_default().push(dedup_key.rsplit('/').next().unwrap().to_owned());
    }
    let mut heard: BTreeMap<String, Vec<Accepted>> = BTreeMap::new();
    for event in receiver.events() {
        heard.entry(event.device.clone().unwrap_or_else(|| "stream".into())).or_default().push(event);
    }
    let names: BTreeMap<String, Vec<String>> =
        heard.iter().map(|(device, events)| (device.clone(), events.iter().map(|event| event.jti.clone()).collect())).collect();
    assert_eq!(names, lanes, "what was heard, and what was to be sent");
    let told = world.ledger().told.clone();
    let mut changes = 0;
    for (enrolled, mut told) in told {
        told.dedup();
        let own = enrolled.clone();
        let found = app.store.read(move |c| enrollments::find_identity(c, &own)).await.unwrap().unwrap().enrollment;
        if !world.ledger().known.contains(&enrolled) {
            continue;
        }
        let mut heard = heard.get(found.device_id.as_str()).into_iter().flatten().filter_map(Accepted::current_status);
        for on in told.iter().skip(1) {
            let status = if *on { "compliant" } else { "not-compliant" };
            assert!(heard.any(|heard| heard == status), "{}: {told:?}", found.device_id);
            changes += 1;
        }
    }
    changes
}

/// Every device speaks with an identity that is good, and what was replaced is revoked.
pub(super) fn prove_renewals(world: &World, devices: &[(String, Device)], all: &[Certificate]) {
    let by_sha256: BTreeMap<&str, &Certificate> = all.iter().map(|certificate| (certificate.sha256.as_str(), certificate)).collect();
    let ledger = world.ledger();
    for (enrolled, device) in devices {
        let own = by_sha256[fingerprint(&device.identity.certificate).as_str()];
        assert_eq!(own.status, CertificateStatus::Active, "the identity of {}", device.identity.device_id);
        if let Some(renewed) = ledger.identities.get(enrolled) {
            assert_eq!(*renewed, own.sha256);
            assert_eq!(by_sha256[enrolled.as_str()].status, CertificateStatus::Revoked, "the identity before {renewed}");
        }
        // A node is kept for a good certificate, or for one that is being replaced.
        let nodes = device.tree.leaves("./Device/Vendor/MSFT/ClientCertificateInstall/SCEP");
        let good = nodes
            .iter()
            .filter(|(uri, _)| uri.ends_with("/CertThumbprint"))
            .filter(|(_, thumbprint)| all.iter().any(|c| c.status == CertificateStatus::Active && c.sha1.eq_ignore_ascii_case(thumbprint)));
        assert!(good.count() <= 2, "certificates of {}", device.identity.device_id);
    }
}

/// Holds the database against the ledger.
pub(super) async fn prove(world: &World, app: &App, devices: &[(String, Device)]) {
    let report = audit::verify(app, None).await.unwrap();
    assert_eq!(report.broken, None);
    let written: BTreeSet<(String, String)> =
        app.store.read(|c| muster::store::audit::list(c, 0, 1_000_000)).await.unwrap().into_iter().map(|r| (r.action, r.target)).collect();
    let was_written = |action: &str, target: String| assert!(written.contains(&(action.to_owned(), target.clone())), "{action} {target}");
    let (enrolled, held, answered) = {
        let ledger = world.ledger();
        (ledger.enrolled.clone(), ledger.certificates.clone(), ledger.answered.clone())
    };
    for shown in held.iter().chain(enrolled.iter().map(|(sha256, _)| sha256)) {
        let sha256 = shown.clone();
        let row = app.store.read(move |c| certificates::find_certificate_by_sha256(c, &sha256)).await.unwrap();
        let row = row.unwrap_or_else(|| panic!("a device holds the certificate {shown}, which nobody knows"));
        was_written("certificate.issue", format!("certificate:{}", row.id));
    }
    // Nothing was issued to anybody that is not in the log.
    let all = app.store.read(|c| certificates::list_certificates(c, &certificates::Search::default(), 1_000_000)).await.unwrap();
    for certificate in all.iter().filter(|certificate| !certificate.grant.purpose.is_ours()) {
        was_written("certificate.issue", format!("certificate:{}", certificate.id));
    }
    prove_renewals(world, devices, &all);
    let vars = Vars { tenant: app.tenant.as_str(), provider: &app.config.windows.provider_id };
    let asked: BTreeSet<String> = catalogue().facts().filter(|row| row.is_of("windows")).map(|row| row.locuri(&vars)).collect();
    for (sha256, mdm_id) in enrolled {
        let own = sha256.clone();
        let found = app.store.read(move |c| enrollments::find_identity(c, &own)).await.unwrap();
        let enrollment = found.unwrap_or_else(|| panic!("the enrolment of {mdm_id} is gone")).enrollment;
        assert_eq!(enrollment.mdm_id, mdm_id);
        was_written("enrollment.create", format!("enrollment:{}", enrollment.id));
        let (sealer, device, id) = (app.sealer(), enrollment.device_id, enrollment.id);
        let facts = app.store.read(move |c| facts::list_for_device(c, &device)).await.unwrap();
        let orders = app.store.read(move |c| commands::list_commands(c, &sealer, std::slice::from_ref(&id), 1000)).await.unwrap();
        let sources: BTreeSet<&str> = facts.values().map(|fact| fact.source.as_str()).collect();
        let over = |uri: &str| {
            let over = |state| matches!(state, State::Done | State::Failed);
            orders.iter().filter(|o| o.operation.says().1 == uri && over(o.state) && o.result.is_some()).count()
        };
        let mut reboots: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, verb, uri) in answered.iter().filter(|(of, _, _)| *of == sha256) {
            if *verb == Verb::Get && uri.starts_with(NOWHERE) {
                assert_eq!(over(uri), 1, "the answer to {uri}");
            } else if *verb == Verb::Get && asked.contains(uri) {
                assert!(sources.contains(uri.as_str()), "the answer to {uri}");
            } else if *verb == Verb::Exec && uri.ends_with("/RebootNow") {
                *reboots.entry(uri).or_default() += 1;
            }
        }
        for (uri, count) in &reboots {
            assert!(over(uri) >= *count, "reboots of {mdm_id}");
        }
        let given = orders.iter().filter(|o| o.kind == "reboot").count();
        if let Some((_, device)) = devices.iter().find(|(of, _)| *of == sha256) {
            let ran = device.ran.get("reboot").copied().unwrap_or_default();
            assert!(ran as usize <= given, "{mdm_id} ran {ran} of {given} reboots");
            assert!(reboots.values().sum::<usize>() <= ran as usize);
        }
    }
}
