//! What is printed: tables and sentences on a terminal, JSON lines elsewhere.

use std::env;
use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use super::failure::Failure;
use crate::model::Timestamp;

/// Columns of a terminal below which breaking cells into lines helps nobody; some say 0.
const WIDTH_MIN: u16 = 60;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
    colour: bool,
}

/// How a cell stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Quiet,
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
    is_number: bool,
}

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self { text: printable(text), tone: Tone::Plain, is_number: false }
    }

    pub(super) fn number(text: &str) -> Self {
        Self { is_number: true, ..Self::text(text) }
    }

    pub(super) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// Something that is a row of a table, and a JSON object.
pub(super) trait Row: Serialize {
    /// The table's columns.
    const COLUMNS: &'static [&'static str];

    /// A cell for each column.
    fn cells(&self) -> Vec<Cell>;
}

impl Output {
    /// For standard output as it is.
    pub(super) fn new(json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { json: json || !is_terminal, colour: is_terminal && !is_set("NO_COLOR") && !is_dumb }
    }

    /// As on a terminal that knows no colours.
    #[cfg(test)]
    pub(super) const fn plain() -> Self {
        Self { json: false, colour: false }
    }

    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints rows; `none` says on a terminal that there are none.
    pub(super) fn rows<R: Row>(self, rows: &[R], none: &str) -> Result<(), Failure> {
        print(&self.render(rows, none)?)
    }

    /// Prints one thing: as an object, or as the sentence that `text` says.
    pub(super) fn say(self, object: &impl Serialize, text: &str) -> Result<(), Failure> {
        let line = if self.json { json(object)? } else { printable(text) };
        print(&format!("{line}\n"))
    }

    pub(super) fn render<R: Row>(self, rows: &[R], none: &str) -> Result<String, Failure> {
        if self.json {
            return rows.iter().map(|row| Ok(json(row)? + "\n")).collect();
        }
        if rows.is_empty() {
            return Ok(format!("{none}\n"));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(R::COLUMNS.to_vec());
        if table.width().is_some_and(|width| width >= WIDTH_MIN) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if self.colour {
            table.enforce_styling();
        }
        let rows: Vec<_> = rows.iter().map(Row::cells).collect();
        for (column, cell) in table.column_iter_mut().zip(&rows[0]) {
            column.set_padding((0, 2));
            if cell.is_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in rows {
            table.add_row(row.into_iter().map(|cell| self.cell(cell)).collect::<Vec<_>>());
        }
        Ok(table.lines().map(|line| line.trim_end().to_owned() + "\n").collect())
    }

    fn cell(self, cell: Cell) -> comfy_table::Cell {
        let Cell { text, tone, .. } = cell;
        let cell = comfy_table::Cell::new(text);
        let colour = match tone {
            _ if !self.colour => return cell,
            Tone::Plain => return cell,
            Tone::Good => Color::Green,
            Tone::Warning => Color::Yellow,
            Tone::Bad => Color::Red,
            Tone::Quiet => Color::DarkGrey,
        };
        cell.fg(colour)
    }
}

/// Prints text as it is, and at once.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Text that can do nothing to a terminal: what servers say may come from strangers.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Text that is there, or nothing: empty text stands for none.
pub(super) fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// How long ago a time is, in seconds.
pub(super) fn age_s(now: Timestamp, time: &str) -> Option<u64> {
    time.parse().ok().map(|time| now.since(time).as_secs())
}

/// A number of seconds in the largest unit that leaves it two digits or more.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn json(object: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(object).map_err(|cause| Failure::failed(cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Fruit {
        name: &'static str,
        price: Option<&'static str>,
    }

    impl Row for Fruit {
        const COLUMNS: &'static [&'static str] = &["NAME", "PRICE"];

        fn cells(&self) -> Vec<Cell> {
            let name = Cell::text(self.name).tone(Tone::Good);
            vec![name, Cell::number(self.price.unwrap_or_default())]
        }
    }

    const FRUITS: [Fruit; 2] = [
        Fruit { name: "apple", price: Some("1.50") },
        Fruit { name: "p\u{1b}[31m\n", price: None },
    ];

    fn render(json: bool, colour: bool, rows: &[Fruit]) -> String {
        Output { json, colour }.render(rows, "no fruit").unwrap()
    }

    #[test]
    fn tables_align_and_hold_no_control_characters() {
        let expected = "NAME           PRICE\napple           1.50\np\\u{1b}[31m\\n\n";
        assert_eq!(render(false, false, &FRUITS), expected);
        assert_eq!(render(false, false, &[]), "no fruit\n");
    }

    #[test]
    fn colours_come_only_when_asked_for() {
        assert!(render(false, true, &FRUITS).contains("\u{1b}[38;5;10m"));
        assert!(!render(true, true, &FRUITS).contains('\u{1b}'));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let lines = "{\"name\":\"apple\",\"price\":\"1.50\"}\n{\"name\":\"p\\u001b[31m\\n\",\"price\":null}\n";
        assert_eq!(render(true, false, &FRUITS), lines);
        assert_eq!(render(true, false, &[]), "");
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")]
        {
            assert_eq!(duration(seconds), text);
        }
        let now = "2000-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(age_s(now, "2000-01-01T00:00:00Z"), Some(60));
        assert_eq!(age_s(now, "2000-01-01T00:02:00Z"), Some(0));
        assert_eq!(age_s(now, ""), None);
    }
}
