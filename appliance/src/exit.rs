//! Exit codes, in one place. clap exits with `USAGE` by itself; `appliance ctl` has its own table in `cli`.

/// Something asked for could not be done; the one line on standard error says what.
pub(crate) const GENERAL: u8 = 1;

/// The command line could not be understood. Kept here for the reader: it is clap's, and the tests hold it to it.
#[cfg(test)]
pub(crate) const USAGE: u8 = 2;
