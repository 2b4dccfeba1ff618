//! A real server, started for the test alone; and what only a server can do.

use super::support::*;
use crate::model::Lsn;
use crate::sink::cache::{Cache, CacheConflict, CacheError, CacheFill, CacheOptions, CacheStore, Lookup};
use crate::sink::{Sink, SinkError};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server on a free port of this machine, without persistence, in a folder of its own. Ends with the value.
struct RedisServer {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RedisServer {
    /// `None`, said loudly, when no server is installed and none is required.
    fn start() -> Option<RedisServer> {
        // Another process may take the port between here and the server's start; then another one is tried.
        for _ in 0..5 {
            let dir = tempfile::tempdir().expect("a folder");
            let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = port.expect("a free port").port();
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
            command.args(["--daemonize", "no", "--requirepass", "hush"]).current_dir(dir.path());
            let child = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
                Ok(child) => child,
                Err(error) if std::env::var_os("FRESHBENCH_REQUIRE_SERVICES").is_none() => {
                    eprintln!("SKIPPED: redis-server can't be started ({error}); apt-get install redis-server");
                    return None;
                }
                Err(error) => panic!("redis-server is required and can't be started: {error}"),
            };
            let mut server = RedisServer { child, port, _dir: dir };
            if server.answers() {
                return Some(server);
            }
        }
        panic!("redis-server does not answer");
    }

    fn answers(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let mut answer = [0; 1];
                if stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() {
                    return true;
                }
            }
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn url(&self) -> String {
        format!("redis://:hush@127.0.0.1:{}/0", self.port)
    }

    fn options(&self, prefix: Option<&str>) -> CacheOptions {
        let store = CacheStore::Redis { url: self.url() };
        CacheOptions { store, prefix: prefix.map(str::to_owned), ..CacheOptions::default() }
    }

    fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("a connection")
    }

    fn keys(&self) -> u64 {
        redis::cmd("DBSIZE").query(&mut self.connection()).expect("a count")
    }
}

#[test]
fn on_a_redis_server() {
    let Some(server) = RedisServer::start() else { return };
    super::conformance(&Place { store: CacheStore::Redis { url: server.url() }, effort: 2 });
    assert_eq!(server.keys(), 0, "a cache without a prefix of its own leaves no key behind");
}

#[test]
fn a_cache_on_a_server_is_opened_again_at_its_watermark() {
    let Some(server) = RedisServer::start() else { return };
    // Characters of patterns, which must be taken as they are.
    let options = server.options(Some("it*s [a] \\ prefix?"));
    let other = Cache::create(&catalog(), server.options(Some("it is [a] \\ prefix"))).expect("another cache");
    let mut cache = Cache::create(&catalog(), options.clone()).expect("a cache");
    put(&mut cache, &int_set(3, &[2], &[int_row(1, 3)]), 4);
    assert_eq!(cache.durable(), Lsn(4));
    let error = Cache::create(&catalog(), options.clone()).expect_err("there is one");
    assert!(matches!(error, CacheError::Exists { .. }), "{error}");
    drop(cache);
    let mut cache = Cache::open(&catalog(), options.clone()).expect("open");
    assert_eq!((cache.visible(), cache.durable()), (Lsn(4), Lsn(4)));
    let reader = cache.reader();
    assert_eq!((lookup(&reader, 1), lookup(&reader, 2)), (hit(3, int_row(1, 3)), gone(3)));
    assert!(cache.publish(Lsn(3)).is_err());
    // Edits are replayed from the watermark, with what the crash may have left ahead of it.
    let truncate = edits(&catalog().tables[0], INTS, true, &[], &[int_row(9, 5)]);
    put(&mut cache, &edit_set(5, vec![truncate]), 5);
    assert_eq!((lookup(&reader, 1), lookup(&reader, 9)), (Lookup::Miss, hit(5, int_row(9, 5))));
    let mut fewer = catalog();
    fewer.tables.pop();
    let error = Cache::open(&fewer, options.clone()).expect_err("other tables").to_string();
    assert!(error.contains("other tables or columns"), "{error}");
    assert!(matches!(Cache::open(&catalog(), server.options(Some("none"))), Err(CacheError::Missing { .. })));
    drop((cache, other));
    assert!(server.keys() > 0, "a cache with a prefix stays");
}

#[test]
fn a_server_that_lost_the_cache_is_noticed() {
    let Some(server) = RedisServer::start() else { return };
    let mut cache = Cache::create(&catalog(), server.options(None)).expect("a cache");
    put(&mut cache, &int_set(1, &[], &[int_row(1, 1)]), 1);
    redis::cmd("FLUSHALL").exec(&mut server.connection()).expect("flush");
    cache.apply(&int_set(2, &[], &[int_row(1, 2)])).expect("apply");
    for result in [cache.publish(Lsn(2)), cache.checkpoint().map(drop)] {
        let error = result.expect_err("the cache is gone");
        assert!(matches!(error, SinkError::Cache(CacheError::Missing { .. })), "{error}");
    }
    assert_eq!(cache.visible(), Lsn(1));
    assert_eq!(lookup(&cache.reader(), 1), Lookup::Miss);
    assert_eq!(server.keys(), 0, "nothing was put where no cache is");
}

#[test]
fn a_server_that_is_not_there_is_one_clear_line_without_a_secret() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    for (url, what) in [
        (format!("redis://user:hush@127.0.0.1:{port}/0"), "could not reach Redis at 127.0.0.1:"),
        ("redis://:hush@127.0.0.1:notaport/0".to_owned(), "the URL of the Redis server is of no use"),
    ] {
        let options = CacheOptions { store: CacheStore::Redis { url }, ..CacheOptions::default() };
        let error = Cache::create(&catalog(), options).expect_err("no server").to_string();
        assert!(error.contains(what) && !error.contains("hush") && error.lines().count() == 1, "{error}");
    }
    let Some(server) = RedisServer::start() else { return };
    let url = format!("redis://:wrong-secret@127.0.0.1:{}/0", server.port);
    let options = CacheOptions { store: CacheStore::Redis { url }, ..CacheOptions::default() };
    let error = Cache::create(&catalog(), options).expect_err("a wrong password");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    let options = CacheOptions { entries_max: Some(5), ..server.options(None) };
    assert!(matches!(Cache::create(&catalog(), options), Err(CacheError::Setting { .. })));
    let bounded = server.options(None);
    let cache = Cache::create(
        &catalog(),
        CacheOptions { fill: CacheFill::Aside, conflict: CacheConflict::LastWrite, ..bounded },
    );
    assert!(!format!("{:?}", cache.expect("a cache")).contains("hush"));
}
