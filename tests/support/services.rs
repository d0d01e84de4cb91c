//! The real services that tests use where they run; `dev/services env` says where.
#![allow(dead_code, clippy::print_stderr)]

/// Where a service is, as the variable says. Without it the test that asks says that it was
/// skipped; unless `TRIPLINE_TEST_REQUIRE` names the service: then it fails.
pub(crate) fn service(name: &str, variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|place| !place.is_empty());
    if found.is_none() {
        let required = std::env::var("TRIPLINE_TEST_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|required| required == name),
            "{name} is required, and {variable} does not say where it is"
        );
        eprintln!("skipped: {variable} does not say where a {name} is (see dev/services)");
    }
    found
}
