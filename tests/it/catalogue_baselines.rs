//! The ready profiles are profiles.

use muster::catalogue::baselines;
use muster::domain::certificate::Template;
use muster::domain::device::Platform;
use muster::domain::profile::{Document, Kind};

#[test]
fn every_baseline_has_the_shape_of_a_profile() {
    let baselines = baselines().unwrap();
    let files: Vec<&str> = baselines.iter().map(|baseline| baseline.file.as_str()).collect();
    for expected in ["scep-device-certificate", "trusted-root", "windows-compliance", "windows-hello-for-business"] {
        assert!(files.contains(&expected), "{files:?}");
    }
    for baseline in baselines {
        let kind = Kind::parse(&baseline.kind).unwrap();
        Platform::parse(&baseline.platform).unwrap();
        let document: Document = serde_json::from_value(baseline.document).unwrap_or_else(|why| panic!("{}: {why}", baseline.file));
        assert_eq!(document.compliance.is_some(), kind == Kind::Compliance, "{}", baseline.file);
        for payload in document.payloads.iter().filter(|payload| payload.kind == "scep") {
            let template: Template = serde_json::from_value(payload.body["template"].clone()).unwrap();
            assert!(!template.subject.is_empty());
        }
        assert!(!document.description.is_empty(), "{}", baseline.file);
    }
}
