//! The difference of two texts in unified form, as `diff -u` prints it. Pure.
//!
//! Called by `commands::diff` on two YAML documents. Common ends are cut off first; what remains is aligned by the
//! longest common subsequence, or shown as one replacement when that would cost too much.

use std::fmt::Write;

/// Unchanged lines shown around a change.
const CONTEXT_LINES: usize = 3;
/// Cells of the alignment table; about 16 MiB. A set with thousands of new members still aligns, a hundred thousand
/// changed lines do not need to.
const CELLS_MAX: usize = 4_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The difference under two file names, or nothing when the texts are equal.
pub(crate) fn render(before_name: &str, after_name: &str, before: &str, after: &str) -> Option<String> {
    if before == after {
        return None;
    }
    let lines = align(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>());
    let mut text = format!("--- {before_name}\n+++ {after_name}\n");
    for (start, end) in hunks(&lines) {
        hunk(&mut text, &lines, start, end);
    }
    Some(text)
}

fn align<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before_rest, after_rest) = (&before[head..], &after[head..]);
    let tail = before_rest.iter().rev().zip(after_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (gone, new) = (&before_rest[..before_rest.len() - tail], &after_rest[..after_rest.len() - tail]);
    let mut lines: Vec<Line> = before[..head].iter().map(|line| Line::Same(line)).collect();
    lines.extend(middle(gone, new));
    lines.extend(before[before.len() - tail..].iter().map(|line| Line::Same(line)));
    lines
}

/// Longest common subsequence by the textbook table, walked from the front.
fn middle<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let columns = after.len() + 1;
    if (before.len() + 1).saturating_mul(columns) > CELLS_MAX {
        return before.iter().map(|l| Line::Gone(l)).chain(after.iter().map(|l| Line::New(l))).collect();
    }
    let mut common = vec![0u32; (before.len() + 1) * columns];
    for i in (0..before.len()).rev() {
        for j in (0..after.len()).rev() {
            common[i * columns + j] = if before[i] == after[j] {
                common[(i + 1) * columns + j + 1] + 1
            } else {
                common[(i + 1) * columns + j].max(common[i * columns + j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            lines.push(Line::Same(before[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == after.len()
            || (i < before.len() && common[(i + 1) * columns + j] >= common[i * columns + j + 1])
        {
            lines.push(Line::Gone(before[i]));
            i += 1;
        } else {
            lines.push(Line::New(after[j]));
            j += 1;
        }
    }
    lines
}

/// Ranges of lines to show: every change with its context, neighbours joined.
fn hunks(lines: &[Line]) -> Vec<(usize, usize)> {
    let mut hunks: Vec<(usize, usize)> = Vec::new();
    for (index, _) in lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))) {
        let (start, end) =
            (index.saturating_sub(CONTEXT_LINES), (index + 1 + CONTEXT_LINES).min(lines.len()));
        match hunks.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            _ => hunks.push((start, end)),
        }
    }
    hunks
}

fn hunk(text: &mut String, lines: &[Line], start: usize, end: usize) {
    let old = |range: &[Line]| range.iter().filter(|line| !matches!(line, Line::New(_))).count();
    let new = |range: &[Line]| range.iter().filter(|line| !matches!(line, Line::Gone(_))).count();
    let position = |before: usize, count: usize| if count == 0 { before } else { before + 1 };
    let (shown, ahead) = (&lines[start..end], &lines[..start]);
    let (old_count, new_count) = (old(shown), new(shown));
    let (old_start, new_start) = (position(old(ahead), old_count), position(new(ahead), new_count));
    let _ = writeln!(text, "@@ -{old_start},{old_count} +{new_start},{new_count} @@");
    for line in shown {
        let _ = match line {
            Line::Same(line) => writeln!(text, " {line}"),
            Line::Gone(line) => writeln!(text, "-{line}"),
            Line::New(line) => writeln!(text, "+{line}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(render("a", "b", "x\ny\n", "x\ny\n"), None);
    }

    #[test]
    fn a_change_is_shown_with_three_lines_around_it() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let after = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        let expected = "--- live\n+++ wanted\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n";
        assert_eq!(render("live", "wanted", before, after).as_deref(), Some(expected));
    }

    #[test]
    fn a_new_text_is_all_additions() {
        let expected = "--- live\n+++ wanted\n@@ -0,0 +1,2 @@\n+a\n+b\n";
        assert_eq!(render("live", "wanted", "", "a\nb\n").as_deref(), Some(expected));
    }

    #[test]
    fn distant_changes_make_two_hunks() {
        let before: String = (0..30).map(|n| format!("{n}\n")).collect();
        let after = before.replace("2\n3\n", "2\nnew\n3\n").replace("28\n", "");
        let text = render("a", "b", &before, &after).unwrap();
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
    }
}
