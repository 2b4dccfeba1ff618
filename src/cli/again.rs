//! What a result names as its command gives the same flags again.

use super::Cli;
use super::args::Command;
use super::run::raw;
use crate::plan::command_line;
use clap::{CommandFactory, Parser};

/// A value that the argument takes and a shell would spoil, if its parser allows one.
fn value(argument: &clap::Arg) -> String {
    let known = argument.get_possible_values();
    if let Some(known) = known.last() {
        return known.get_name().to_owned();
    }
    let id = argument.get_id().as_str();
    let typed = ["7", "0.5", "127.0.0.1", "lsn:5", "p99=100ms"];
    let awkward = format!("{id} 'a' \"b\" $HOME *");
    let parser = argument.get_value_parser();
    let candidates = std::iter::once(awkward.as_str()).chain(typed);
    let command = clap::Command::new("probe");
    for candidate in candidates {
        let probe = clap::Arg::new("value").value_parser(parser.clone());
        if command.clone().arg(probe).try_get_matches_from(["probe", candidate]).is_ok() {
            return candidate.to_owned();
        }
    }
    panic!("no value for {id}")
}

/// The words of a shell, without its comments.
fn read(line: &str) -> Vec<String> {
    let line = line.split("  # the password").next().unwrap();
    shlex::split(line).unwrap()
}

fn parsed(words: &[String]) -> String {
    match Cli::try_parse_from(words) {
        Ok(cli) => format!("{cli:?}"),
        Err(error) => panic!("{words:?}: {error}"),
    }
}

#[test]
fn every_flag_of_every_command_comes_back_as_it_was_given() {
    let mut command = Cli::command();
    command.build();
    let mut flags = 0;
    for below in command.get_subcommands().filter(|below| below.get_subcommands().next().is_none()) {
        let base: Vec<String> =
            below.get_arguments().filter(|argument| argument.is_required_set()).flat_map(words).collect();
        for argument in below.get_arguments().filter(|argument| !argument.is_required_set()) {
            if ["help", "version"].contains(&argument.get_id().as_str()) {
                continue;
            }
            let mut given = vec!["freshbench".to_owned(), below.get_name().to_owned()];
            given.extend(base.iter().cloned());
            given.extend(with_needs(below.get_name(), argument));
            // One that a rule of its command forbids alone is not what is asked here.
            let Ok(cli) = Cli::try_parse_from(&given) else { continue };
            flags += 1;
            let line = command_line("freshbench", &given[1..], &|_| None);
            assert_eq!(parsed(&read(&line)), format!("{cli:?}"), "{line}");
        }
    }
    assert!(flags > 90, "{flags} flags were tried");
}

fn words(argument: &clap::Arg) -> Vec<String> {
    let mut words: Vec<String> = argument.get_long().map(|long| format!("--{long}")).into_iter().collect();
    if argument.get_action().takes_values() {
        words.push(value(argument));
    }
    words
}

/// The argument, with what it asks for besides.
fn with_needs(command: &str, argument: &clap::Arg) -> Vec<String> {
    let mut all = words(argument);
    match (command, argument.get_id().as_str()) {
        ("attach", "cleanup") => {}
        ("attach", id) => {
            let rest = [("tables", "a.\"b c\""), ("warehouse", "w h")];
            all.extend(rest.iter().filter(|(name, _)| *name != id).map(|(name, value)| format!("--{name}={value}")));
        }
        ("run", "find_rate") => all.push("--slo=p99=1s".to_owned()),
        ("run", "slo") => all.push("--find-rate".to_owned()),
        ("sweep", "check_forecast") => all.push("--predict=rows=1,rate=1,interval=1s".to_owned()),
        (_, "live_address") => all.push("--live=7".to_owned()),
        _ => {}
    }
    all
}

#[test]
fn the_flags_of_a_run_inside_a_sweep_are_named_by_it() {
    let mut command = Cli::command();
    command.build();
    let run = command.find_subcommand("run").unwrap();
    // What a run is told besides its plan.
    let besides = ["help", "version", "quiet", "live", "live_address", "format", "find_rate", "slo"];
    let mut given = vec!["freshbench".to_owned(), "run".to_owned()];
    for argument in run.get_arguments().filter(|argument| !besides.contains(&argument.get_id().as_str())) {
        given.extend(words(argument));
    }
    let Command::Run(arguments) = Cli::try_parse_from(&given).unwrap().command else { panic!() };
    let plan = raw(&arguments);
    let again = read(&plan.command());
    let Command::Run(arguments) = Cli::try_parse_from(&again).unwrap().command else { panic!() };
    assert_eq!(format!("{:?}", raw(&arguments)), format!("{plan:?}"));
    assert!(given.len() > 50, "{given:?}");
}
