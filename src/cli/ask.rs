//! Secrets that are not to stand on the command line, where every user of the machine reads them and the shell remembers them.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

/// What stands in the place of a value that is asked for.
pub(super) const ASKED: &str = "-";

/// Asks for a secret where a person is; else the next line of the standard input is it. At most `longest` bytes.
pub(super) fn secret(what: &str, longest: u64) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str(&format!("{what}: "))?;
        return Ok(terminal.read_secure_line()?);
    }
    let mut line = String::new();
    std::io::stdin().lock().take(longest).read_line(&mut line)?;
    Ok(line)
}

/// The value itself, or, where that is [`ASKED`], what is asked for, without the end of its line.
pub(super) fn value(given: String, what: &str, longest: u64) -> anyhow::Result<String> {
    if given != ASKED {
        return Ok(given);
    }
    let line = secret(what, longest)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    anyhow::ensure!(!line.is_empty(), "{what}: nothing was given on the standard input");
    Ok(line.to_owned())
}
