//! YAML, in and out: a stream of documents as trees that know their lines, and JSON printed the way Calico's tools
//! print it.
//!
//! Reading goes through serde-saphyr under a budget, so neither nesting nor aliases can cost more than the bounds named
//! in `tree`. Words are read as YAML 1.2 reads them: only `true` and `false` are booleans, so a label `enabled: yes` is
//! a string. Nothing here knows resources; `manifest` does.

mod scalar;
mod tree;
mod write;

pub use self::{
    tree::{Node, Tree, YamlError, documents, to_value},
    write::write,
};
