//! What happens at once, on both databases.

use super::*;
use crate::both_backends;

both_backends! {
    async fn one_token_in_two_requests_at_once_makes_one_device(store: Store) {
        let house = House::over(store, |_| ()).await;
        let pass = house.pass().await;
        let text = enroll::federated(&mut house.client(), &house.url("/EnrollmentServer/Authenticate"), UPN, &pass).await.unwrap();
        let security = Security::Token(text);
        let request = |id: &str| {
            let mut request = issue(enroll::certificate_request(id, &key()).unwrap());
            request.context[0].1 = id.into();
            request
        };
        let (first, second) = (request("D1"), request("D2"));
        let both = tokio::join!(house.request_token(&first, &security), house.request_token(&second, &security));
        let refused = match both {
            (Ok(()), refused @ Err(_)) | (refused @ Err(_), Ok(())) => refused,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(refused).0, Code::Authentication);
        assert_eq!(house.devices().await, 1);
    }

    async fn the_same_hardware_twice_at_once_is_one_device(store: Store) {
        let house = House::over(store, |_| ()).await;
        let machine = Machine::windows_11(3);
        let results: (Result<Identity, Failure>, Result<Identity, Failure>) = tokio::join!(house.join(&machine), house.join(&machine));
        let (first, second) = (results.0.unwrap(), results.1.unwrap());
        assert_eq!(first.management.entity_id, second.management.entity_id);
        assert_eq!(house.devices().await, 1);
    }

    async fn the_cap_holds_for_two_devices_at_once(store: Store) {
        let house = House::over(store, |config| config.windows.devices_per_user = 1).await;
        let (one, two) = (Machine::windows_11(1), Machine::windows_11(2));
        let both = tokio::join!(house.join(&one), house.join(&two));
        let refused = match both {
            (Ok(_), refused @ Err(_)) | (refused @ Err(_), Ok(_)) => refused,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(refused).1, Some(ErrorType::DeviceCapReached));
        assert_eq!(house.devices().await, 1);
    }

    async fn the_same_hardware_and_another_at_once_hold_the_cap_and_supersede(store: Store) {
        let house = House::over(store, |config| config.windows.devices_per_user = 2).await;
        house.join(&Machine::windows_11(1)).await.unwrap();
        // One more may come; the PC that is there may come again and again.
        for round in 0..3 {
            let (again, more, third) = (Machine::windows_11(1), Machine::windows_11(2), Machine::windows_11(3 + round));
            let results = tokio::join!(house.join(&again), house.join(&more), house.join(&third));
            results.0.expect("the same PC");
            assert_eq!(usize::from(results.1.is_ok()) + usize::from(results.2.is_ok()), 1, "{:?} {:?}", results.1.err(), results.2.err());
            let all = house.device_ids().await;
            assert_eq!(all.len(), 2);
            for id in all {
                let enrolments = house.server.app.store.read(move |c| enrollments::list_enrollments(c, &id, 10)).await.unwrap();
                assert_eq!(enrolments.iter().filter(|enrollment| enrollment.ended_at.is_none()).count(), 1);
            }
            if results.1.is_err() {
                return;
            }
        }
    }
}
