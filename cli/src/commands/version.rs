//! `version`: of this command, and of the cluster it reaches.

use std::time::Duration;

use appliance_resources::Kind;
use serde_json::Value;

use crate::Verdict;
use crate::args::Version;
use crate::client::Client;
use crate::error::cause;
use crate::target::Target;
use crate::world::{Failure, World};

pub(super) async fn run(args: &Version, world: &mut World) -> Result<Verdict, Failure> {
    let poll = args.poll.as_deref().map(duration).transpose()?;
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

/// `10s`, `1m`, `1h30m`, `500ms`: Go's durations, as far as anybody polls with them.
fn duration(text: &str) -> Result<Duration, Failure> {
    let bad = || Failure(format!("invalid poll duration specified: {text}"));
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u32 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = [("ms", Duration::from_millis(1)), ("s", Duration::from_secs(1))]
            .into_iter()
            .chain([("m", Duration::from_secs(60)), ("h", Duration::from_secs(3_600))])
            .find(|(unit, _)| rest.starts_with(unit))
            .ok_or_else(bad)?;
        total += unit.1 * number;
        rest = &rest[unit.0.len()..];
    }
    if total.is_zero() { Err(bad()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_durations_are_go_durations() {
        let cases = [("10s", 10_000), ("1m", 60_000), ("1h30m", 5_400_000), ("500ms", 500)];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(milliseconds));
        }
        for text in ["", "10", "s", "-1s", "0s", "1x", "99999999999s"] {
            assert_eq!(duration(text).unwrap_err().0, format!("invalid poll duration specified: {text}"));
        }
    }
}
