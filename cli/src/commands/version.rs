//! `version`: of this command, and of the cluster it reaches.

use std::time::Duration;

use appliance_resources::Kind;
use serde_json::Value;

use crate::Verdict;
use crate::args::Version;
use crate::client::Client;
use crate::duration;
use crate::error::cause;
use crate::target::Target;
use crate::world::{Failure, World};

pub(super) async fn run(args: &Version, world: &mut World) -> Result<Verdict, Failure> {
    let poll = args.poll.as_deref().map(poll_interval).transpose()?;
    world.console.out(&format!("Client Version:    v{}\n", env!("CARGO_PKG_VERSION")));
    let commit = world.commit;
    world.console.out(&format!("Git commit:        {commit}\n"));
    if args.client {
        return Ok(Verdict::Done);
    }
    let client = world.client()?;
    let Some(pause) = poll else {
        let text = cluster(&client).await.map_err(Failure)?;
        world.console.out(&text);
        return Ok(Verdict::Done);
    };
    let mut last = String::new();
    while !world.console.is_closed() {
        match cluster(&client).await {
            Ok(text) if text != last => {
                world.console.out(&text);
                last = text;
            }
            Ok(_) => {}
            Err(error) => world.console.err(&format!("{error}\n")),
        }
        tokio::time::sleep(pause).await;
    }
    Ok(Verdict::Done)
}

/// What ClusterInformation says, or why it could not be read.
async fn cluster(client: &Client) -> Result<String, String> {
    let target = Target { kind: Kind::ClusterInformation, namespace: None, name: "default".to_string() };
    let object = client.get(&target.path()).await.map_err(|error| {
        format!("unable to retrieve Cluster Version or Type: {}", cause("get", &target, &error))
    })?;
    let field = |pointer| match object.pointer(pointer).and_then(Value::as_str) {
        None | Some("") => "unknown".to_string(),
        Some(text) => text.to_string(),
    };
    let (version, kind) = (field("/spec/calicoVersion"), field("/spec/clusterType"));
    Ok(format!("Cluster Version:   {version}\nCluster Type:      {kind}\n"))
}

fn poll_interval(text: &str) -> Result<Duration, Failure> {
    duration::parse(text).ok_or_else(|| Failure(format!("invalid poll duration specified: {text}")))
}
