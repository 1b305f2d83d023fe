//! What the demo shows while it runs: on a terminal, progress and a table of the devices that is drawn anew as they change, with
//! everything else above it; elsewhere, a line for each change.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terminal_size::{Height, Width, terminal_size};
use tokio::task::JoinHandle;

use crate::app::App;
use crate::cli::output::spoken;
use crate::ids::DeviceId;
use crate::service::device;
use crate::sim::receiver::Receiver;

/// How often the devices are looked at.
const LOOK: Duration = Duration::from_millis(400);
/// Most rows where nobody says how many fit.
const ROWS: usize = 30;
/// Lines of a terminal that are left to what is said above the table, and to the table's own head and foot.
const RESERVED: usize = 6;
/// Letters of a progress bar.
const BAR: usize = 24;

/// A device as the table shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    name: String,
    platform: String,
    state: String,
    profiles: String,
    certificate: String,
    verdict: String,
    signal: String,
}

#[derive(Default)]
struct State {
    /// What is being done, how much of it, and how much there is.
    progress: Option<(&'static str, u64, u64)>,
    ids: BTreeMap<u32, DeviceId>,
    rows: BTreeMap<u32, Row>,
    /// What was shown of each device last, where changes are shown line by line.
    told: HashMap<u32, Row>,
    /// Lines of the table that are on the terminal.
    drawn: usize,
    headed: bool,
}

struct Shared {
    app: Arc<App>,
    receiver: Arc<Receiver>,
    state: Mutex<State>,
    /// Whether standard output is a terminal that can be drawn on.
    live: bool,
    colour: bool,
}

/// The table, kept up to date until it is dropped.
pub(super) struct Board {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Board {
    /// Begins to look at the devices.
    pub(super) fn start(app: &Arc<App>, receiver: &Arc<Receiver>) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = std::io::stdout().is_terminal() && !dumb;
        let colour = live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { app: Arc::clone(app), receiver: Arc::clone(receiver), state, live, colour });
        if live {
            // No cursor that flickers over the table.
            put("\x1b[?25l");
        }
        let looking = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                looking.look().await;
                looking.show();
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { shared, task }
    }

    /// From now on `total` of something are done.
    pub(super) fn begin(&self, what: &'static str, total: u64) {
        self.shared.state().progress = Some((what, 0, total));
        self.shared.show();
    }

    /// One of them is done.
    pub(super) fn step(&self) {
        if let Some((_, done, _)) = &mut self.shared.state().progress {
            *done += 1;
        }
    }

    /// All of them are.
    pub(super) fn end(&self) {
        self.shared.state().progress = None;
    }

    /// A device has enrolled.
    pub(super) fn enrolled(&self, number: u32, name: &str, platform: &str, id: &DeviceId) {
        let mut state = self.shared.state();
        state.ids.insert(number, id.clone());
        let row = Row {
            name: name.to_owned(),
            platform: platform.to_owned(),
            state: "managed".into(),
            verdict: "unknown".into(),
            ..Row::default()
        };
        state.rows.insert(number, row);
    }

    /// A device holds a certificate with that serial number.
    pub(super) fn holds(&self, number: u32, serial: &str) {
        if let Some(row) = self.shared.state().rows.get_mut(&number) {
            row.certificate = format!("{}…", serial.chars().take(9).collect::<String>());
        }
    }

    /// Says something, above the table where there is one.
    pub(super) fn say(&self, text: &str) {
        let mut state = self.shared.state();
        if self.shared.live {
            put(&format!("{}\x1b[J{text}\n", up(state.drawn)));
            state.drawn = 0;
            self.shared.draw(&mut state);
        } else {
            put(&format!("{text}\n"));
        }
    }

    /// Looks at once, so that what is shown is what was just done.
    pub(super) async fn refresh(&self) {
        self.shared.look().await;
        self.shared.show();
    }

    /// Looks a last time, and leaves the table as it then is.
    pub(super) async fn finish(mut self) {
        let Self { shared, task } = &mut self;
        task.abort();
        // Until it has ended, it could put what it saw before over what is seen now.
        drop(task.await);
        shared.look().await;
        let mut state = self.shared.state();
        state.progress = None;
        if self.shared.live {
            self.shared.draw(&mut state);
            state.drawn = 0;
        } else {
            put(&format!("\n{}\n", render(&state, ROWS, false).join("\n")));
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.task.abort();
        if self.shared.live {
            put("\x1b[?25h");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the server and the receiver say of the devices that are shown.
    async fn look(&self) {
        let heard: HashMap<String, String> = self
            .receiver
            .events()
            .into_iter()
            .filter_map(|event| Some((event.device.clone()?, event.current_status()?.to_owned())))
            .collect();
        let shown: Vec<(u32, DeviceId)> = {
            let state = self.state();
            let all: Vec<_> = state.ids.iter().map(|(number, id)| (*number, id.clone())).collect();
            chosen(all, self.room())
        };
        for (number, id) in shown {
            let Ok(known) = device::show(&self.app, &id).await else { continue };
            let done = known.profiles.iter().filter(|p| matches!(p.state.as_str(), "verified" | "assigned")).count();
            if let Some(row) = self.state().rows.get_mut(&number) {
                known.overview.standing().clone_into(&mut row.state);
                known.overview.compliance.as_str().clone_into(&mut row.verdict);
                row.profiles = if known.profiles.is_empty() { String::new() } else { format!("{done}/{}", known.profiles.len()) };
                row.signal = heard.get(id.as_str()).cloned().unwrap_or_default();
            }
        }
    }

    /// How many rows fit.
    fn room(&self) -> usize {
        match terminal_size() {
            Some((_, Height(height))) if self.live => usize::from(height).saturating_sub(RESERVED).max(3),
            _ => ROWS,
        }
    }

    fn show(&self) {
        let mut state = self.state();
        if self.live {
            self.draw(&mut state);
        } else {
            self.tell(&mut state);
        }
    }

    fn draw(&self, state: &mut State) {
        let mut lines = render(state, self.room(), self.colour);
        lines.extend(state.progress.map(|progress| bar(progress, terminal_size().map_or(80, |(Width(width), _)| usize::from(width)))));
        // Lines that are too long are cut instead of wrapped, so that going up finds the first one again.
        let mut text = format!("{}\x1b[?7l", up(state.drawn));
        for line in &lines {
            let _ = writeln!(text, "{line}\x1b[K");
        }
        put(&format!("{text}\x1b[J\x1b[?7h"));
        state.drawn = lines.len();
    }

    /// A line for each device that changed.
    fn tell(&self, state: &mut State) {
        let changed: Vec<(u32, Row)> =
            state.rows.iter().filter(|(n, row)| state.told.get(n) != Some(row)).map(|(n, r)| (*n, r.clone())).collect();
        for (number, row) in chosen(changed, ROWS) {
            if !state.headed {
                put(&format!("{}\n", head()));
                state.headed = true;
            }
            put(&format!("{}\n", line(&row, false)));
            state.told.insert(number, row);
        }
    }
}

/// The first ones and the last, when not all fit.
fn chosen<T>(mut all: Vec<T>, room: usize) -> Vec<T> {
    if all.len() > room
        && let Some(last) = all.pop()
    {
        all.truncate(room.saturating_sub(1));
        all.push(last);
    }
    all
}

fn render(state: &State, room: usize, colour: bool) -> Vec<String> {
    if state.rows.is_empty() {
        return Vec::new();
    }
    let rows = chosen(state.rows.values().collect(), room);
    let mut lines = vec![head()];
    lines.extend(rows.iter().map(|row| line(row, colour)));
    if rows.len() < state.rows.len() {
        lines.insert(lines.len() - 1, format!("  … {} more", state.rows.len() - rows.len()));
    }
    lines
}

fn head() -> String {
    format!("  {:<10} {:<7} {:<9} {:<8} {:<10} {:<14} {}", "device", "system", "state", "profiles", "certificate", "verdict", "last signal")
}

/// A device on one line of 79 letters at most.
fn line(row: &Row, colour: bool) -> String {
    let cell = |text: &str, width: usize| {
        let text = if text.is_empty() { "-" } else { text };
        let padded = format!("{:<width$}", text.chars().take(width).collect::<String>());
        match paint(text) {
            Some(code) if colour => format!("\x1b[{code}m{padded}\x1b[0m"),
            _ => padded,
        }
    };
    let cells = [
        cell(&row.name, 10),
        cell(&row.platform, 7),
        cell(&row.state, 9),
        cell(&row.profiles, 8),
        cell(&row.certificate, 10),
        cell(spoken(&row.verdict), 14),
        cell(spoken(&row.signal), 13),
    ];
    format!("  {}", cells.join(" ")).trim_end().to_owned()
}

/// The colour of a word (ECMA-48): never the only thing that tells two words apart.
fn paint(word: &str) -> Option<u8> {
    match word {
        "compliant" => Some(32),
        "not compliant" | "error" | "conflict" => Some(31),
        "in grace" | "retiring" => Some(33),
        "retired" | "unknown" | "-" => Some(2),
        _ => None,
    }
}

fn bar((what, done, total): (&'static str, u64, u64), width: usize) -> String {
    let bar = BAR.min(width.saturating_sub(40));
    let full = usize::try_from(done.min(total) * bar as u64 / total.max(1)).unwrap_or(bar);
    format!("  {what:<20} {}{} {done}/{total}", "█".repeat(full), "░".repeat(bar - full))
}

/// Back to the first of `lines` lines.
fn up(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\r") }
}

/// Writes to standard output. A reader that has gone away is not an error.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        Row {
            name: name.into(),
            platform: "windows".into(),
            state: "managed".into(),
            profiles: "4/4".into(),
            certificate: "A1B2C3D4E…".into(),
            verdict: "inGracePeriod".into(),
            signal: "not-compliant".into(),
        }
    }

    #[test]
    fn the_table_fits_eighty_columns_and_the_height_that_there_is() {
        let mut state = State::default();
        assert!(render(&state, 5, false).is_empty());
        state.rows = (0..25).map(|n| (n, row(&format!("PC-{n:05}")))).collect();
        let lines = render(&state, 5, false);
        assert!(lines.iter().all(|line| line.chars().count() <= 79), "{lines:#?}");
        assert_eq!(lines.len(), 1 + 5 + 1);
        assert!(lines[4].contains("PC-00003") && lines[5].contains("20 more") && lines[6].contains("PC-00024"), "{lines:#?}");
        assert_eq!(render(&state, 25, false).len(), 26);
        assert!(bar(("management sessions", 3, 25), 80).chars().count() < 80);
        assert!(bar(("management sessions", 30, 25), 40).chars().count() < 40);
    }

    #[test]
    fn colours_are_there_only_when_wanted() {
        assert!(!line(&row("PC"), false).contains('\x1b'));
        let painted = line(&row("PC"), true);
        assert!(painted.contains("\x1b[33min grace      \x1b[0m") && painted.contains("\x1b[31mnot compliant\x1b[0m"), "{painted:?}");
    }
}
