//! How a server is named.

use super::options::PgHost;
use super::{PgOptions, SslMode};
use crate::source::SourceError;
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

fn parse(url: &str, environment: &[(&str, &str)]) -> Result<PgOptions, SourceError> {
    let environment: HashMap<&str, &str> = environment.iter().copied().collect();
    PgOptions::parse_in(url, &|name| environment.get(name).map(|value| (*value).to_owned()))
}

fn file(path: &Path, text: &str, mode: u32) {
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true).mode(mode);
    options.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn password(options: &PgOptions) -> Option<&str> {
    options.password().map(super::Secret::reveal)
}

#[test]
fn a_url_says_it_all() {
    let options = parse("postgres://m%40e:s%2Fe%3Ac@h.example:6543/d%20b?sslmode=verify-full&connect_timeout=3", &[]);
    let options = options.unwrap();
    assert_eq!(options.host(), &PgHost::Tcp("h.example".to_owned()));
    assert_eq!((options.port(), options.user.as_str(), options.database.as_str()), (6543, "m@e", "d b"));
    assert_eq!((password(&options), options.ssl_mode), (Some("s/e:c"), SslMode::VerifyFull));
    assert_eq!(options.place(), "postgres://m@e@h.example:6543/d b");
    let socket = parse("postgresql:///db?host=/run/pg&user=u", &[]).unwrap();
    assert_eq!((socket.host(), socket.ssl_mode), (&PgHost::Socket(PathBuf::from("/run/pg")), SslMode::Prefer));
    let six = parse("postgres://u@[::1]:1/db", &[]).unwrap();
    assert_eq!((six.host(), six.place().as_str()), (&PgHost::Tcp("::1".to_owned()), "postgres://u@[::1]:1/db"));
}

#[test]
fn what_the_url_leaves_out_comes_from_service_environment_and_password_file() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    file(
        &folder.path().join(".pg_service.conf"),
        "# mine\n[other]\nhost=no\n[mine]\nhost=h1\nport=1111\nuser=su\n\n[next]\nhost=no\n",
        0o600,
    );
    file(
        &folder.path().join(".pgpass"),
        "#h1:1:d:u:no\nh2:*:*:*:no\nh1:1111:d:su:p\\:a\\\\ss:word\n*:*:*:*:last\n",
        0o600,
    );
    let environment =
        [("HOME", home), ("PGSERVICE", "mine"), ("PGPORT", "9"), ("PGDATABASE", "d"), ("PGSSLMODE", "require")];
    let options = parse("postgres://", &environment).unwrap();
    assert_eq!(options.place(), "postgres://su@h1:1111/d");
    assert_eq!((password(&options), options.ssl_mode), (Some("p:a\\ss"), SslMode::Require));
    let other = parse("postgres://u@h3/d", &environment[..1]).unwrap();
    assert_eq!(password(&other), Some("last"));
    let given = parse("postgres://u@h3/d", &[("HOME", home), ("PGPASSWORD", "env")]).unwrap();
    assert_eq!(password(&given), Some("env"));
    let missing = parse("postgres://?service=absent", &environment[..1]).unwrap_err().to_string();
    assert!(missing.contains("\"absent\"") && missing.contains(".pg_service.conf"), "{missing}");
}

#[test]
fn a_password_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    file(&folder.path().join(".pgpass"), "*:*:*:*:topsecret\n", 0o644);
    let refused = parse("postgres://u@h/d", &[("HOME", folder.path().to_str().unwrap())]).unwrap_err().to_string();
    assert!(refused.contains("chmod 600") && !refused.contains("topsecret"), "{refused}");
}

#[test]
fn nothing_shows_a_password() {
    let options = parse("postgres://u:topsecret@h/d", &[]).unwrap();
    assert!(!format!("{options:?} {}", options.place()).contains("topsecret"));
    for url in [
        "postgres://u:topsecret@h:port/d",
        "postgres://u:topsecret@h/d?sslmode=topmost",
        "postgres://u:topsecret@h/d?pasword=topsecret",
        "postgres://u:topsecret%00@h/d",
        "postgres://h?user=u&password=topsecret@h",
        "postgres://u:1/topsecret@h/d",
        "host=h password='topsecret",
        "host=h password=topsecret sslmode",
        "host=h password=topsecret pasword=topsecret",
        "mysql://u:topsecret@h/d",
    ] {
        let error = parse(url, &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("topsecret"), "{error:?}");
    }
}
