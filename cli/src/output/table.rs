//! Tables as calicoctl prints them: columns of blanks, laid out like Go's tabwriter(minwidth 5, padding 3). Pure.
//!
//! Every column, the last one too, is as wide as its longest cell plus three, so lines carry trailing blanks; scripts
//! cut them by column. It does not choose what is shown (`columns.rs`) and prints nothing (`commands::get`).

/// tabwriter's `minwidth`.
const WIDTH_MIN: usize = 5;
/// tabwriter's `padding`.
const PADDING: usize = 3;

/// Headings and rows of equal length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The whole table: header, rows, and the empty line that ends it.
    pub(crate) fn render(&self) -> String {
        let mut text = self.render_open(&self.widths());
        text.push('\n');
        text
    }

    /// Header and rows without the closing empty line: the beginning of a table that grows (`get -w`).
    pub(crate) fn render_open(&self, widths: &[usize]) -> String {
        std::iter::once(&self.headings).chain(&self.rows).map(|cells| line(cells, widths)).collect()
    }

    /// The width of each column, padding included.
    pub(crate) fn widths(&self) -> Vec<usize> {
        let mut widths = vec![WIDTH_MIN; self.headings.len()];
        std::iter::once(&self.headings).chain(&self.rows).for_each(|row| widen(&mut widths, row));
        widths
    }
}

/// Makes room for a row; a table that grows lets its columns grow with it.
pub(crate) fn widen(widths: &mut [usize], row: &[String]) {
    for (width, cell) in widths.iter_mut().zip(row) {
        *width = (*width).max(cell.chars().count() + PADDING);
    }
}

/// One row under given widths, which have room for it.
pub(crate) fn line(cells: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let length = cell.chars().count();
        text.push_str(&cell);
        text.extend(std::iter::repeat_n(' ', width.saturating_sub(length)));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` marks the end of a line, so that trailing blanks show.
    fn check(headings: &[&str], rows: &[&[&str]], expected: &str) {
        let owned = |cells: &[&str]| cells.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
        let table = Table { headings: owned(headings), rows: rows.iter().map(|row| owned(row)).collect() };
        assert_eq!(table.render().replace('\n', "|\n"), expected);
    }

    #[test]
    fn tables_have_the_layout_of_go_tabwriter() {
        check(
            &["NAME", "NODE"],
            &[&["endpoint1", "host1"], &["myhost-eth0", "myhost"]],
            "NAME          NODE     |\nendpoint1     host1    |\nmyhost-eth0   myhost   |\n|\n",
        );
        check(
            &["NAME", "NODE", "INTERFACE", "IPS", "PROFILES"],
            &[
                &["endpoint1", "host1", "eth0", "10.0.0.1,fd00::1", "prof1,prof2"],
                &["wild", "host2", "*", "", ""],
            ],
            concat!(
                "NAME        NODE    INTERFACE   IPS                PROFILES      |\n",
                "endpoint1   host1   eth0        10.0.0.1,fd00::1   prof1,prof2   |\n",
                "wild        host2   *                                            |\n|\n",
            ),
        );
        check(
            &["NAME", "TIER", "ORDER", "SELECTOR"],
            &[&["allow-ssh", "default", "100", "role == 'web'"], &["base", "default", "<nil>", ""]],
            concat!(
                "NAME        TIER      ORDER   SELECTOR        |\n",
                "allow-ssh   default   100     role == 'web'   |\n",
                "base        default   <nil>                   |\n|\n",
            ),
        );
    }

    #[test]
    fn an_empty_list_still_has_its_header() {
        check(&["NAME", "NODE"], &[], "NAME   NODE   |\n|\n");
    }

    #[test]
    fn width_counts_characters_and_control_characters_can_not_reach_the_terminal() {
        check(&["A", "B"], &[&["größe", "x\u{1b}[2J"]], "A       B       |\ngröße   x [2J   |\n|\n");
    }
}
