//! Directories that are missing, somebody else's, closed, or no directories.

use super::*;
use std::os::unix::fs::symlink;

#[test]
fn a_missing_directory_is_named_and_made_by_its_cure() {
    let home = Home::new();
    let path = home.beside("it's new");
    let said = found_and_mended(&home, &["--dir", &for_app(&path)], "directory_missing", &path);
    assert_eq!(said, "it does not exist");
    assert_eq!(owner(&path), APP);
}

#[test]
fn fix_makes_a_missing_directory_with_its_owner_and_leaves_nothing_in_it() {
    let home = Home::new();
    let path = home.beside("above/music");
    let mended = look(&home, &["--fix", "--dir", &for_app(&path)]);
    mended.is_well();
    let done =
        mended.said["checks"].as_array().unwrap().iter().find(|check| check["check"] == "directory").unwrap();
    assert_eq!(done["done"].as_array().unwrap().len(), 2, "{done:#}");
    assert_eq!((owner(&path), owner(&home.beside("above"))), (APP, (0, 0)));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(path.read_dir().unwrap().count(), 0, "the write test leaves nothing behind");
}

#[test]
fn a_directory_of_somebody_else_is_given_by_its_cure_and_what_is_in_it_is_not() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let inside = directory(path.join("albums"), (0, 0), 0o755);
    let said = found_and_mended(&home, &["--dir", &for_app(&path)], "wrong_owner", &path);
    assert_eq!(said, "it belongs to 0:0, not to 1000:1000");
    assert_eq!((owner(&path), owner(&inside)), (APP, (0, 0)));
}

#[test]
fn fix_gives_one_directory_and_nothing_below_it() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o500);
    let inside = directory(path.join("albums"), (0, 0), 0o755);
    look(&home, &["--fix", "--dir", &for_app(&path)]).is_well();
    assert_eq!((owner(&path), owner(&inside)), (APP, (0, 0)));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn a_directory_without_an_owner_to_be_must_only_be_writable() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let config = json!({ "name": "pre", "listen": home.address(),
        "app": { "command": ["sleep", "1"], "user": "1000:1000" },
        "preflight": { "directories": [{ "path": path }] } });
    let file = write_config(&home, &config);
    let said = found_and_mended(&home, &["--config", &file], "no_permission", &path);
    assert_eq!(said, "user 1000:1000 may not write here: it belongs to 0:0, mode 0755");
    directory(path, (0, APP.1), 0o770);
    look(&home, &["--config", &file]).is_well();
}

#[test]
fn a_directory_closed_to_its_own_owner_is_opened_by_its_cure() {
    let home = Home::new();
    let path = directory(home.beside("music"), APP, 0o000);
    found_and_mended(&home, &["--dir", &for_app(&path)], "no_permission", &path);
    directory(path.clone(), APP, 0o000);
    look(&home, &["--fix", "--dir", &for_app(&path)]).is_well();
}

#[test]
fn a_closed_directory_above_is_named_and_entered_by_its_cure() {
    let home = Home::new();
    let above = directory(home.beside("closed"), (0, 0), 0o700);
    let path = directory(above.join("music"), APP, 0o755);
    let said = found_and_mended(&home, &["--dir", &for_app(&path)], "not_searchable", &path);
    assert!(said.contains(&format!("may not enter {}", above.display())), "{said}");
    assert_eq!(above.metadata().unwrap().permissions().mode() & 0o7777, 0o701);
}

#[test]
fn a_file_in_the_place_of_a_directory_is_kept_aside_by_its_cure() {
    let home = Home::new();
    let path = home.beside("music");
    std::fs::write(&path, "precious").unwrap();
    found_and_mended(&home, &["--dir", &for_app(&path)], "not_a_directory", &path);
    assert_eq!(std::fs::read_to_string(home.beside("music.old")).unwrap(), "precious");
}

#[test]
fn a_file_above_a_directory_is_named() {
    let home = Home::new();
    let above = home.beside("above");
    std::fs::write(&above, "precious").unwrap();
    let path = above.join("music");
    let said = found_and_mended(&home, &["--dir", &for_app(&path)], "not_a_directory", &path);
    assert_eq!(said, format!("{} is no directory", above.display()));
    assert_eq!(std::fs::read_to_string(home.beside("above.old")).unwrap(), "precious");
}

#[test]
fn links_that_lead_nowhere_are_told_apart() {
    let home = Home::new();
    let (nowhere, round) = (home.beside("nowhere"), home.beside("round"));
    symlink("gone", &nowhere).unwrap();
    symlink("round", &round).unwrap();
    let said = found_and_mended(&home, &["--dir", &for_app(&nowhere)], "dangling_link", &nowhere);
    assert_eq!(said, format!("it is a link to {}, which does not exist", home.beside("gone").display()));
    found_and_mended(&home, &["--dir", &for_app(&round)], "link_loop", &round);
}

#[test]
fn fix_changes_nothing_through_a_link() {
    let home = Home::new();
    let target = directory(home.beside("target"), (0, 0), 0o755);
    let link = home.beside("link");
    symlink(&target, &link).unwrap();
    let tried = look(&home, &["--fix", "--dir", &for_app(&link)]);
    assert_eq!(tried.code, Some(71), "{:#}", tried.said);
    let fix = tried.finding("wrong_owner")["fix"].as_str().unwrap().to_owned();
    assert!(fix.contains(target.to_str().unwrap()), "{fix}");
    assert_eq!((owner(&target), owner(&link)), ((0, 0), (0, 0)));
}

#[test]
fn a_database_that_the_app_cannot_write_is_found_and_one_that_stead_makes_is_not() {
    let home = Home::new();
    let config = json!({ "name": "pre", "listen": home.address(), "app": { "command": ["sleep", "1"], "user": "1000:1000" } });
    let file = write_config(&home, &config);
    look(&home, &["--config", &file]).is_well();
    let database = home.write("data/database.sqlite", "");
    look(&home, &["--config", &file]).is_well();
    chown(&database, Some(2000), Some(2000)).unwrap();
    let found = look(&home, &["--config", &file]);
    assert_eq!(found.code, Some(71));
    let finding = found.finding("no_permission");
    assert_eq!(finding["path"], "data/database.sqlite");
    shell(finding["fix"].as_str().unwrap());
    look(&home, &["--config", &file]).is_well();
    std::fs::remove_file(&database).unwrap();
    std::fs::create_dir(&database).unwrap();
    let found = look(&home, &["--config", &file]).finding("database_is_no_file");
    shell(found["fix"].as_str().unwrap());
    look(&home, &["--config", &file]).is_well();
}

#[test]
fn a_store_that_cannot_be_used_is_only_a_warning() {
    let home = Home::new();
    let store = home.beside("store");
    let config = json!({ "name": "pre", "listen": home.address(),
        "storage": { "url": format!("file://{}", store.display()) } });
    let file = write_config(&home, &config);
    look(&home, &["--config", &file]).is_well();
    std::fs::write(&store, "a file").unwrap();
    let found = look(&home, &["--config", &file]);
    found.is_well();
    let finding = found.finding("not_a_directory");
    assert_eq!((finding["severity"].as_str(), finding["path"].as_str()), (Some("warning"), store.to_str()));
    shell(finding["fix"].as_str().unwrap());
    assert!(look(&home, &["--config", &file]).findings().is_empty());
}
