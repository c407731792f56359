//! What the operator reads, as text: formats, tables, and the closing words of each command. Pure.
//!
//! Everything in here is data in, text out. Nothing is printed and no exit code is decided.

pub(crate) mod bordered;
pub(crate) mod cluster;
pub(crate) mod columns;
pub(crate) mod json;
mod number;
pub(crate) mod paragraph;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod unified;
pub(crate) mod yaml;

/// How `get` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Wide,
    Yaml,
    Json,
    Name,
    /// The headings asked for, in that order.
    CustomColumns(Vec<String>),
}

impl Format {
    /// Reads `-o`; the sentence of the error is calicoctl's.
    pub(crate) fn parse(text: &str) -> Result<Format, String> {
        match text {
            "ps" | "table" => Ok(Format::Table),
            "wide" => Ok(Format::Wide),
            "yaml" | "yml" => Ok(Format::Yaml),
            "json" => Ok(Format::Json),
            "name" => Ok(Format::Name),
            "custom-columns" => Err("need to specify at least one column".to_string()),
            other => match other.strip_prefix("custom-columns=") {
                Some("") => Err("need to specify at least one column".to_string()),
                Some(headings) => {
                    Ok(Format::CustomColumns(headings.split(',').map(str::to_string).collect()))
                }
                None => Err(format!("unrecognized output format '{other}'")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_refused_in_calicoctl_words() {
        assert_eq!(Format::parse("ps"), Ok(Format::Table));
        assert_eq!(Format::parse("yml"), Ok(Format::Yaml));
        let columns = Format::CustomColumns(vec!["NAME".to_string(), "IPS".to_string()]);
        assert_eq!(Format::parse("custom-columns=NAME,IPS"), Ok(columns));
        assert_eq!(Format::parse("custom-columns="), Err("need to specify at least one column".to_string()));
        assert_eq!(Format::parse("xml"), Err("unrecognized output format 'xml'".to_string()));
    }
}
