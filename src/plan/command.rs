//! Command lines as results keep them: a shell runs them again as they stand, and no secret is in them.

use super::RawPlan;
use crate::sink::cache;
use crate::source::postgres;
use std::fmt::Display;

/// The line that runs `program` with these arguments again. What the environment added to a PostgreSQL URL stands before it, and
/// behind it, as a comment, where a password that was left out has to come from.
pub fn command_line(program: &str, arguments: &[String], environment: &dyn Fn(&str) -> Option<String>) -> String {
    let has = |scheme: &str| arguments.iter().any(|argument| argument.contains(scheme));
    let of_postgres = has("postgres:") || has("postgresql:") || arguments.iter().any(|word| is_words(word));
    let mut words = Vec::new();
    for name in postgres::public_variables().filter(|_| of_postgres) {
        if let Some(value) = environment(name).filter(|value| !value.is_empty()) {
            words.push(format!("{name}={}", quoted(&value)));
        }
    }
    words.push(quoted(program));
    let mut left_out = (false, false);
    for argument in arguments {
        let shown = shareable(argument);
        if shown != *argument {
            let of_source = shown.contains("postgres:")
                || shown.contains("postgresql:")
                || shown.contains("(not a URL)")
                || is_words(argument);
            if of_source { left_out.0 = true } else { left_out.1 = true }
        }
        words.push(quoted(&shown));
    }
    let mut line = words.join(" ");
    if left_out.0 {
        line.push_str("  # the password: in PGPASSWORD or ~/.pgpass");
    }
    if left_out.1 {
        line.push_str("  # the password of Redis: in the URL");
    }
    line
}

/// As a shell has to be given it to read it as one word.
fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./,=:@%+".contains(c));
    if plain && !word.is_empty() { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Whether a server is named by words, as `host=.. password=..`, in which a secret may stand anywhere.
fn is_words(argument: &str) -> bool {
    let value = match argument.starts_with("--").then(|| argument.split_once('=')).flatten() {
        Some((_, value)) => value,
        None => argument,
    };
    postgres::PgOptions::is_url(value) && !value.starts_with("postgres")
}

/// An argument as it may be passed on: a URL in it without what may be a secret.
pub fn shareable(argument: &str) -> String {
    if is_words(argument) {
        let flag = argument.starts_with("--").then(|| argument.split_once('=')).flatten();
        return format!("{}(hidden)", flag.map_or(String::new(), |(flag, _)| format!("{flag}=")));
    }
    if let Some(at) = argument.find("postgres:").or_else(|| argument.find("postgresql:")) {
        let (flag, url) = argument.split_at(at);
        return format!("{flag}{}", postgres::without_secret(url));
    }
    let begins = |scheme: &str| argument.find(scheme).filter(|_| argument.contains("://") || scheme == "unix:");
    match ["redis", "unix:"].into_iter().filter_map(begins).min() {
        Some(at) => {
            let (flag, url) = argument.split_at(at);
            format!("{flag}{}", cache::without_secret(url))
        }
        None => argument.to_owned(),
    }
}

impl RawPlan {
    /// The arguments of `freshbench` that give these flags again.
    pub fn arguments(&self) -> Vec<String> {
        fn put<T: Display>(words: &mut Vec<String>, flag: &str, value: Option<T>) {
            words.extend(value.map(|value| format!("--{flag}={value}")));
        }
        // Every field is named, so that a new one can't be forgotten here.
        let RawPlan {
            source,
            strategies,
            workload,
            rows,
            rate,
            arrivals,
            clients,
            keys,
            duration,
            warmup,
            batch_interval,
            sinks,
            search_interval,
            cache,
            cache_fill,
            cache_entries,
            compaction_threads,
            dead_rows,
            warehouse_memory,
            think,
            crash_rate,
            seed,
            reps,
            durability,
            log_fsync,
            out,
            work,
            quick,
            no_control,
            checkpoint_interval,
            keep_versions,
            plant,
        } = self;
        let mut words = vec!["run".to_owned()];
        let texts = [
            ("source", source),
            ("strategies", strategies),
            ("workload", workload),
            ("rows", rows),
            ("rate", rate),
            ("arrivals", arrivals),
            ("keys", keys),
            ("duration", duration),
            ("warmup", warmup),
            ("batch-interval", batch_interval),
            ("sinks", sinks),
            ("search-interval", search_interval),
            ("cache", cache),
            ("cache-fill", cache_fill),
            ("cache-entries", cache_entries),
            ("warehouse-memory", warehouse_memory),
            ("think", think),
            ("durability", durability),
            ("log-fsync", log_fsync),
            ("checkpoint-interval", checkpoint_interval),
            ("plant", plant),
        ];
        for (flag, value) in texts {
            put(&mut words, flag, value.as_ref());
        }
        put(&mut words, "clients", clients.as_ref());
        put(&mut words, "compaction-threads", compaction_threads.as_ref());
        put(&mut words, "dead-rows", dead_rows.as_ref());
        put(&mut words, "crash-rate", crash_rate.as_ref());
        put(&mut words, "seed", seed.as_ref());
        put(&mut words, "reps", reps.as_ref());
        put(&mut words, "keep-versions", keep_versions.as_ref());
        put(&mut words, "out", out.as_ref().map(|path| path.display()));
        put(&mut words, "work", work.as_ref().map(|path| path.display()));
        for (flag, set) in [("quick", *quick), ("no-control", *no_control)] {
            words.extend(set.then(|| format!("--{flag}")));
        }
        words
    }

    /// The line that gives a run with these flags again.
    pub fn command(&self) -> String {
        command_line("freshbench", &self.arguments(), &|name| std::env::var(name).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_comes_into_a_result() {
        let cases = [
            ("--cache=redis://me:se@cr/et@127.0.0.1:1/0", "--cache=redis://127.0.0.1:1/0"),
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://127.0.0.1:6379/0?password=secret", "redis://127.0.0.1:6379/0"),
            ("unix:///run/redis.sock?pass=secret", "unix:///run/redis.sock"),
            ("unix:/run/redis.sock?pass=secret", "(not a URL)"),
            ("--source=postgres://me:se@cret@h:5432/db?password=x", "--source=postgres://me@h:5432/db"),
            ("postgresql://me:se/cret@h/db", "postgresql://(hidden)"),
            ("postgres://h/db?password=a@b", "postgres://(hidden)"),
            ("postgres:me:secret@h", "(not a URL)"),
            ("postgres:///db?host=/run&password=secret", "postgres:///db?host=/run"),
            ("postgres:///db?host=/run&pass%77ord=secret&port=1", "postgres:///db?host=/run&port=1"),
            ("postgres://me@h/db?sslmode=require#secret", "postgres://me@h/db?sslmode=require"),
            ("--strategies=cdc-trigger", "--strategies=cdc-trigger"),
        ];
        for (argument, shown) in cases {
            assert_eq!(shareable(argument), shown);
        }
    }

    #[test]
    fn a_shell_reads_the_line_as_it_was_given() {
        let words =
            ["attach", "--tables", "it's, \"mine\"", "--out", "a b", "", "$HOME", "~", "*", "#x", "a\nb", "-x;y"];
        let words = words.map(str::to_owned);
        let line = command_line("freshbench", &words, &|_| None);
        let read = shlex::split(&line).unwrap();
        assert_eq!(read[0], "freshbench");
        assert_eq!(read[1..], words);
    }

    #[test]
    fn role_and_environment_stay_and_the_password_is_said_to_be_missing() {
        let words = ["attach", "--source", "postgres://me:secret@h/db?sslmode=require&password=x"].map(str::to_owned);
        let environment = |name: &str| match name {
            "PGPORT" => Some("6000".to_owned()),
            "PGPASSWORD" => Some("secret".to_owned()),
            _ => None,
        };
        assert_eq!(
            command_line("freshbench", &words, &environment),
            "PGPORT=6000 freshbench attach --source 'postgres://me@h/db?sslmode=require'  \
             # the password: in PGPASSWORD or ~/.pgpass"
        );
        // A run on SQLite does not depend on them.
        assert_eq!(command_line("freshbench", &["run".to_owned()], &environment), "freshbench run");
    }
}
