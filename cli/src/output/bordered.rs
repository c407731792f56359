//! The boxed tables of the `endpoint` commands: `+---+` borders, every cell centred. Pure.
//!
//! Layout of PrettyTable 0.7, which the old Python calicoctl used. A cell may have several lines. Sorting is the
//! caller's (`commands::endpoint`).

/// Headings and rows; a line feed inside a cell starts a further line of that cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bordered {
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Bordered {
    /// The table, from top rule to bottom rule. Without rows the two rules below the header follow each other.
    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let rule: String = widths
            .iter()
            .map(|width| format!("+{}", "-".repeat(width + 2)))
            .chain(["+\n".to_string()])
            .collect();
        let mut text = rule.clone();
        text.push_str(&block(&self.headings, &widths));
        text.push_str(&rule);
        text.extend(self.rows.iter().map(|row| block(row, &widths)));
        text.push_str(&rule);
        text
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = std::iter::once(&self.headings).chain(&self.rows).filter_map(|row| row.get(column));
            cells.flat_map(|cell| cell.lines()).map(|line| line.chars().count()).max().unwrap_or(0)
        };
        (0..self.headings.len()).map(width).collect()
    }
}

/// One row, as many lines high as its tallest cell.
fn block(cells: &[String], widths: &[usize]) -> String {
    let height = cells.iter().map(|cell| cell.lines().count()).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for index in 0..height {
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str("| ");
            text.push_str(&centre(cell.lines().nth(index).unwrap_or(""), *width));
            text.push(' ');
        }
        text.push_str("|\n");
    }
    text
}

/// Centres; of an odd spare, a text of odd length has the larger half on its right, one of even length on its left.
fn centre(text: &str, width: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let length = text.chars().count();
    let spare = width.saturating_sub(length);
    let left = if length % 2 == 1 { spare / 2 } else { spare.div_ceil(2) };
    format!("{}{text}{}", " ".repeat(left), " ".repeat(spare - left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headings: &[&str], rows: &[&[&str]], expected: &str) {
        let owned = |cells: &[&str]| cells.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
        let table = Bordered { headings: owned(headings), rows: rows.iter().map(|row| owned(row)).collect() };
        assert_eq!(table.render(), expected.trim_start());
    }

    #[test]
    fn names_of_profiles_as_on_the_published_page() {
        check(
            &["Name"],
            &[&["PROF"], &["WEB"]],
            "
+------+
| Name |
+------+
| PROF |
| WEB  |
+------+
",
        );
    }

    #[test]
    fn an_empty_table_has_two_rules_below_its_header() {
        check(
            &["Hostname", "Orchestrator ID", "Number of Workloads", "Number of Endpoints"],
            &[],
            "
+----------+-----------------+---------------------+---------------------+
| Hostname | Orchestrator ID | Number of Workloads | Number of Endpoints |
+----------+-----------------+---------------------+---------------------+
+----------+-----------------+---------------------+---------------------+
",
        );
    }

    #[test]
    fn cells_of_several_lines_make_tall_rows() {
        check(
            &["Endpoint ID", "Addresses", "MAC"],
            &[&["ep-a1", "fd80::1/128\n192.168.1.3/32\n10.0.0.9/32", "None"], &["ep-a2", "", "None"]],
            "
+-------------+----------------+------+
| Endpoint ID |   Addresses    | MAC  |
+-------------+----------------+------+
|    ep-a1    |  fd80::1/128   | None |
|             | 192.168.1.3/32 |      |
|             |  10.0.0.9/32   |      |
|    ep-a2    |                | None |
+-------------+----------------+------+
",
        );
    }
}
