//! `freshbench man`: one page with every command, so that it names no page that is not there.

use clap::Command;
use clap_mangen::Man;
use std::io::{self, Write};

/// The page of a command and all below it.
pub(super) fn page(command: Command) -> io::Result<Vec<u8>> {
    // So that the synopsis of each says how it is called, and `help` is not described as if it were ours.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for below in command.get_subcommands() {
        section(below, command.get_name(), &mut page)?;
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// A section for a command that does something, sections for those below one that only groups them.
fn section(command: &Command, above: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let name = format!("{above} {}", command.get_name());
    if command.is_hide_set() {
        return Ok(());
    }
    let mut below = command.get_subcommands().peekable();
    if below.peek().is_some() {
        return below.try_for_each(|command| section(command, &name, page));
    }
    let man = Man::new(command.clone());
    let mut parts = Vec::new();
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    writeln!(page, ".SH \"{}\"", name.to_uppercase().replace('-', "\\-"))?;
    // Its own sections are parts of this one.
    page.extend(String::from_utf8_lossy(&parts).replace("\n.SH ", "\n.SS ").trim_start().as_bytes());
    page.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_is_described_and_no_other_page_is_named() {
        let page = String::from_utf8(page(crate::cli::Cli::command()).unwrap()).unwrap();
        assert!(!page.contains("(1)\n") && page.matches("(1)").count() == 0, "{page}");
        for name in ["FRESHBENCH RUN", "FRESHBENCH ATTACH", "FRESHBENCH WAREHOUSE DUMP", "FRESHBENCH HISTORY"] {
            assert!(page.contains(&format!(".SH \"{name}")), "{name}");
        }
        assert!(page.contains("batch\\-interval") && page.contains("until\\-lsn"));
    }
}
