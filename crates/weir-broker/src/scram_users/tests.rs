use weir_log::MemDisk;

use super::*;

fn change(user: &str, mechanism: ScramMechanism, password: Option<&str>) -> ScramChange {
    let keep = |password: &str| {
        let salt = b"salt".to_vec();
        Arc::new(ScramCredential::from_password(mechanism, password.as_bytes(), salt, 4_096))
    };
    ScramChange { user: Str::copy_from(user), mechanism, credential: password.map(keep) }
}

#[test]
fn what_is_written_is_read_again() {
    let names = ["ann", "a b", "line\nbreak", "back\\slash\\n", "\r", "ünïcode", " "];
    let mut users = ScramUsers::default();
    users.give_secret([7; SECRET_BYTES]);
    for (at, name) in names.iter().enumerate() {
        let mechanism = ScramMechanism::ALL[at % 2];
        users.apply(&change(name, mechanism, Some("p")));
    }
    let more = [
        change("ann", ScramMechanism::Sha256, None),
        change("zoe", ScramMechanism::Sha512, Some("q")),
    ];
    let written = users.write(more.iter());
    assert_eq!(written.file, FILE);
    more.iter().for_each(|change| users.apply(change));
    let read = parse(&written.text).unwrap();
    assert_eq!(read.credentials, users.credentials);
    assert_eq!(read.secret, Some([7; SECRET_BYTES]));
    assert!(read.get(ScramMechanism::Sha256, "ann").is_none());
    assert!(read.get(ScramMechanism::Sha512, "zoe").is_some());
    assert!(!written.text.contains("pencil") && !written.text.contains(" p "));
}

#[test]
fn a_damaged_file_is_told_by_its_line() {
    let mut users = ScramUsers::default();
    users.give_secret([1; SECRET_BYTES]);
    let text = users.write([change("ann", ScramMechanism::Sha256, Some("p"))].iter()).text;
    assert!(parse(&text).is_ok());
    for (bad, line) in [
        (text.replacen('0', "9", 1), 1),
        (text.replacen("secret ", "secret !", 1), 2),
        (text.replacen("4096", "many", 1), 3),
        (text.replacen("SHA-256", "SHA-512", 1), 3),
        (text.replacen("ann", "ann\\x", 1), 3),
        ("0\n".to_owned(), 2),
        (String::new(), 2),
    ] {
        match parse(&bad).unwrap_err() {
            BrokerError::DamagedFile { line: found, .. } => assert_eq!(found, line, "{bad}"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn salts_of_names_are_the_same_after_a_restart() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let mut users = ScramUsers::open(&disk, Path::new("/d")).unwrap();
    users.give_secret([1; SECRET_BYTES]);
    let salt = users.salt(ScramMechanism::Sha256, "nobody");
    assert_eq!(salt.len(), SALT_BYTES);
    assert_ne!(salt, users.salt(ScramMechanism::Sha256, "somebody"));
    let written = users.write([change("ann", ScramMechanism::Sha256, Some("p"))].iter());
    let mut read = parse(&written.text).unwrap();
    read.give_secret([2; SECRET_BYTES]);
    assert_eq!(read.salt(ScramMechanism::Sha256, "nobody"), salt, "the file's secret stays");
}
