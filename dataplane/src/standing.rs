//! Standing: what a table of ours polices, read from the labels of its rules.
//!
//! For whoever must know it before anything else is known: whether a table that exists still polices what the last
//! ruleset does, and whether a host is policed at all. It reads nft's own text, terse, so that a large set costs
//! nothing, and asks for no JSON: this comes before anybody has found out whether nft speaks it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::nft::command::{CommandError, NftCommand, is_dormant};
use crate::nft::fingerprint::Fingerprint;

/// Before an endpoint's name in the label of each of its rules.
const ENDPOINT: &str = "hep/";

/// The host endpoints that `inet table` in the kernel polices; none where there is no table, or one that is switched off.
pub async fn endpoints(nft: &Path, table: &str) -> Result<BTreeSet<String>, CommandError> {
    let listing = NftCommand::new(nft).terse(table).await?;
    Ok(listing.map(|listing| policed(&listing)).unwrap_or_default())
}

/// The host endpoints that a listing or a script polices.
pub(crate) fn policed(text: &str) -> BTreeSet<String> {
    if is_dormant(text) {
        return BTreeSet::new();
    }
    text.lines().filter_map(endpoint).map(str::to_owned).collect()
}

/// The endpoint that a rule belongs to, if it is a rule of ours and belongs to one.
fn endpoint(line: &str) -> Option<&str> {
    let (_, comment) = line.rsplit_once(" comment \"")?;
    let fingerprint = comment.get(..comment.find(' ')?)?;
    let label = comment.strip_prefix(fingerprint)?.trim_start().strip_prefix(ENDPOINT)?;
    Fingerprint::parse(fingerprint)?;
    label.split([' ', '"']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "table inet appliance {
\tchain ep_h1-eth0_in {
\t\tct state established,related accept comment \"1111111111111111 hep/h1-eth0 ingress: known connections\"
\t\tcounter packets 0 bytes 0 drop comment \"2222222222222222 hep/h1-eth0 ingress: nothing allowed it\"
\t\tdrop comment \"hep/somebody's own\"
\t}
\tchain input {
\t\ttype filter hook input priority -5; policy accept;
\t\tiifname vmap @ep_in comment \"3333333333333333 to the endpoint of the interface\"
\t}
}
";

    #[test]
    fn endpoints_are_known_by_their_rules() {
        assert_eq!(policed(LISTING), ["h1-eth0".to_owned()].into());
        assert_eq!(policed(""), BTreeSet::new());
        assert_eq!(policed(&LISTING.replace("hep/h1", "gns/h1")), BTreeSet::new());
    }

    #[test]
    fn a_table_that_is_switched_off_polices_nothing() {
        assert_eq!(policed(&LISTING.replacen("{\n", "{\n\tflags dormant\n", 1)), BTreeSet::new());
    }
}
