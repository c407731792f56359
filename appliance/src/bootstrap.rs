//! Bootstrap: the objects every cluster has from its first minute on.
//!
//! `objects` says which, pure; `ensure` creates those that are missing and touches none that is there, so it may run at
//! every start, on every member, any number of times. It writes as anybody does, through the registry, in the name of
//! the node.

use std::time::Duration;

use appliance_resources::{
    Action, AnyResource, ClusterInformation, ClusterInformationSpec, FelixConfiguration, Node, NodeAddress,
    NodeSpec, ObjectMeta, Profile, ProfileSpec, Reason, Rule, Tier, TierAction, TierSpec,
};

use crate::api::registry::Registry;
use crate::api::respond::Refusal;
use crate::author;
use crate::config::Host;
use crate::version;

/// Kept with each revision as the reason of the write.
const REASON: &str = "objects of a new cluster";

/// A leader that is being elected, or a full queue, is worth waiting for at start; a broken store is not.
const ATTEMPTS: u32 = 50;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the first objects could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the objects of the cluster could not be created: {object}: {reason}")]
pub(crate) struct BootstrapError {
    object: String,
    reason: String,
}

/// What must exist: the tiers of Calico, the profile that allows everything, the settings of the enforcer, the
/// cluster's own name, and this member.
pub(crate) fn objects(cluster_id: &str, node_name: &str, reached_on: &[Host]) -> Vec<AnyResource> {
    let allow = || vec![Rule::new(Action::Allow)];
    vec![
        tier("default", 1_000_000.0, TierAction::Deny),
        tier("kube-admin", 1_000.0, TierAction::Pass),
        tier("kube-baseline", 10_000_000.0, TierAction::Pass),
        Profile {
            metadata: ObjectMeta::named("projectcalico-default-allow"),
            spec: ProfileSpec { ingress: allow(), egress: allow(), ..ProfileSpec::default() },
        }
        .into(),
        FelixConfiguration { metadata: ObjectMeta::named("default"), ..FelixConfiguration::default() }.into(),
        ClusterInformation {
            metadata: ObjectMeta::named("default"),
            spec: ClusterInformationSpec {
                cluster_guid: cluster_id.to_owned(),
                cluster_type: "appliance".to_owned(),
                calico_version: format!("v{}", version::VERSION),
                datastore_ready: Some(true),
                ..ClusterInformationSpec::default()
            },
        }
        .into(),
        node(node_name, reached_on),
    ]
}

fn tier(name: &str, order: f64, default_action: TierAction) -> AnyResource {
    let spec = TierSpec { order: Some(order), default_action: Some(default_action) };
    Tier { metadata: ObjectMeta::named(name), spec, ..Tier::default() }.into()
}

/// A name or a loopback address tells other members nothing they could use.
fn node(name: &str, reached_on: &[Host]) -> AnyResource {
    let address = |host: &Host| match host {
        Host::Address(address) if !address.is_loopback() => {
            Some(NodeAddress { address: address.to_string(), r#type: "InternalIP".to_owned() })
        }
        Host::Address(_) | Host::Name(_) => None,
    };
    let spec = NodeSpec { addresses: reached_on.iter().filter_map(address).collect(), ..NodeSpec::default() };
    Node { metadata: ObjectMeta::named(name), spec, ..Node::default() }.into()
}

/// Creates whatever of `objects` does not exist, and says in the log which that was.
pub(crate) async fn ensure(
    registry: &Registry,
    node_name: &str,
    objects: Vec<AnyResource>,
) -> Result<(), BootstrapError> {
    for object in objects {
        let key = object.key();
        let created = until_answered(|| create_missing(registry, node_name, &object))
            .await
            .map_err(|refusal| BootstrapError { object: key.to_string(), reason: refusal.to_string() })?;
        if created {
            tracing::info!("created {key}, which every cluster has");
        }
    }
    Ok(())
}

async fn create_missing(registry: &Registry, node_name: &str, object: &AnyResource) -> Result<bool, Refusal> {
    if registry.find(&object.key()).await?.is_some() {
        return Ok(false);
    }
    match registry.create(author::node(node_name, REASON), object.clone(), false).await {
        Ok(_) => Ok(true),
        // Another member was faster.
        Err(refusal) if refusal.is_already_exists() => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Asks again while the answer is that nobody can answer yet.
async fn until_answered<T, F>(ask: impl Fn() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(refusal) if waits(&refusal) => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
    ask().await
}

fn waits(refusal: &Refusal) -> bool {
    let reason = refusal.status().reason;
    matches!(reason, Some(Reason::ServiceUnavailable | Reason::TooManyRequests | Reason::Timeout))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use appliance_resources::{Status, set_defaults, validate};

    use super::*;

    fn all() -> Vec<AnyResource> {
        let reached_on = ["10.0.0.1", "127.0.0.1", "node.example"].map(|host| host.parse().expect("host"));
        objects("c0ffee", "node-1", &reached_on)
    }

    #[test]
    fn a_new_cluster_has_what_the_product_promises() {
        let names: Vec<String> = all().iter().map(|object| object.key().to_string()).collect();
        assert_eq!(
            names,
            [
                "Tier(default)",
                "Tier(kube-admin)",
                "Tier(kube-baseline)",
                "Profile(projectcalico-default-allow)",
                "FelixConfiguration(default)",
                "ClusterInformation(default)",
                "Node(node-1)",
            ]
        );
    }

    #[test]
    fn every_object_passes_the_validation_that_clients_must_pass() {
        for mut object in all() {
            set_defaults(&mut object);
            validate(&object).unwrap_or_else(|errors| panic!("{}: {errors}", object.key()));
        }
    }

    #[test]
    fn a_node_tells_the_addresses_that_others_can_use() {
        let AnyResource::Node(node) = all().pop().expect("objects") else { panic!("the node comes last") };
        let addresses: Vec<&str> = node.spec.addresses.iter().map(|a| a.address.as_str()).collect();
        assert_eq!(addresses, ["10.0.0.1"]);
    }

    #[tokio::test]
    async fn an_election_is_waited_for_and_a_refusal_is_not() {
        let asked = Cell::new(0);
        let answer = until_answered(|| {
            asked.set(asked.get() + 1);
            let answer = match asked.get() {
                1 | 2 => Err(Refusal::from(Status::unavailable("no leader".to_owned(), 1))),
                _ => Ok(()),
            };
            async { answer }
        });
        answer.await.expect("answered at last");
        assert_eq!(asked.get(), 3);

        let refused = until_answered(|| async { Err::<(), _>(Refusal::from(Status::bad_request("no"))) });
        refused.await.expect_err("refused at once");
    }
}
