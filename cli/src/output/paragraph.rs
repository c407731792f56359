//! The paragraphs of the old `endpoint` commands: wrapped at 80 columns, followed by one empty line. Pure.

/// The width the old command wrapped at.
const COLUMNS: usize = 80;

/// Wraps `text` between words, keeping the blanks inside a line, and adds the empty line.
pub(crate) fn render(text: &str) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        let word_end = rest[blanks..].find(' ').map_or(rest.len(), |end| blanks + end);
        let word = &rest[blanks..word_end];
        let width = word.chars().count();
        if column > 0 && column + blanks + width > COLUMNS {
            wrapped.push('\n');
            column = 0;
        } else {
            wrapped.extend(std::iter::repeat_n(' ', blanks));
            column += blanks;
        }
        wrapped.push_str(word);
        column += width;
        rest = &rest[word_end..];
    }
    wrapped + "\n\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_wrap_at_eighty_columns_and_keep_their_inner_blanks() {
        let text = "More than 1 endpoint matches the provided criteria.  Please provide additional parameters to refine the search.";
        let expected = "More than 1 endpoint matches the provided criteria.  Please provide additional\n\
                        parameters to refine the search.\n\n";
        assert_eq!(render(text), expected);
        assert_eq!(render("Profile(s) PROF set."), "Profile(s) PROF set.\n\n");
    }
}
