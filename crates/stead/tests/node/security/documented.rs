//! The list of attacks in `docs/security.md` and the tests name each other.

#[test]
fn every_attack_is_documented_with_its_test() {
    let page = include_str!("../../../../../docs/security.md");
    let sources = [
        include_str!("links.rs"),
        include_str!("others.rs"),
        include_str!("pages.rs"),
        include_str!("slow.rs"),
    ];
    let tests = sources.iter().flat_map(|source| source.split("#[test]\n").skip(1)).map(|test| {
        let name = test.split("fn ").nth(1).unwrap();
        name.split('(').next().unwrap()
    });
    for test in tests {
        assert!(page.contains(&format!("`{test}`")), "docs/security.md does not name {test}");
    }
}
