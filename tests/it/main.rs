//! End-to-end tests: the real binary in network namespaces, real packets, real `kubectl`.
//!
//! One module a promise. They need root, `nft` and `ip`, and fail without them: a test that did not run has not passed.
//! They are many small worlds side by side; none sees another's namespaces or data.

mod api_kubectl;
mod case;
mod cluster_autopilot;
mod cluster_checks;
mod cluster_clocks;
mod cluster_copies;
mod cluster_disks;
mod cluster_divergence;
mod cluster_everything;
mod cluster_join;
mod cluster_joining;
mod cluster_keys;
mod cluster_kills;
mod cluster_links;
mod cluster_members;
mod cluster_names;
mod cluster_network;
mod cluster_partitions;
mod cluster_policy;
mod cluster_reads;
mod cluster_refusals;
mod cluster_renewal;
mod disaster;
mod durability;
mod failures;
mod policy_cases;
mod policy_endpoints;
mod policy_held;
mod policy_interfaces;
mod policy_routed;
mod policy_rules;
mod policy_sizes;
mod policy_survives;
mod policy_tiers;
mod refusals;
mod seeds;
mod stored_data;
mod tidy;
mod tree;
mod units;
mod world;
mod writers;
