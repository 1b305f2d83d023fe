use super::*;

const VARS: Vars<'static> = Vars { tenant: "9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77", provider: "Muster" };

fn setting(id: &str) -> &'static Setting {
    catalogue().setting(id).unwrap_or_else(|| panic!("no setting {id}"))
}

#[test]
fn every_row_loads() {
    let catalogue = Catalogue::load().unwrap();
    assert!(catalogue.settings().count() > 20);
}

#[test]
fn an_address_is_filled_in_for_each_scope() {
    let hello = setting("passport-for-work.use-passport-for-work");
    let below = "Vendor/MSFT/PassportForWork/9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77/Policies/UsePassportForWork";
    assert_eq!(hello.locuri(Scope::Device, &VARS).unwrap(), format!("./Device/{below}"));
    assert_eq!(hello.locuri(Scope::User, &VARS).unwrap(), format!("./User/{below}"));
    assert_eq!(setting("passport-for-work.dynamic-lock.dynamic-lock").locuri(Scope::User, &VARS), None);
}
