//! Enrolment messages of both directions.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::mde::discovery::{Discover, DiscoverResult};
use muster::wire::mde::soap::{Answer, Request, Security};
use muster::wire::mde::wstep::{self, RequestToken};
use muster::wire::mde::xcep::{GetPolicies, Policy};

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::decode(data) {
        if let Ok(discover) = Discover::decode(&request.body) {
            let again = Request::decode(&discover.encode("m", "t")).and_then(|again| Discover::decode(&again.body));
            assert_eq!(again, Ok(discover));
        }
        let _ = GetPolicies::decode(&request.body);
        if let Ok(token) = RequestToken::decode(&request.body) {
            let again = Request::decode(&token.encode("m", "t", &Security::None));
            assert!(again.is_ok_and(|again| RequestToken::decode(&again.body).is_ok()));
        }
    }
    if let Ok(Answer { body: Ok(body), .. }) = Answer::decode(data) {
        let _ = DiscoverResult::decode(&body);
        let _ = Policy::decode(&body);
        let _ = wstep::decode_answer(&body);
    }
});
