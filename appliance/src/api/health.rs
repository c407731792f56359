//! `/healthz`, `/livez`, `/readyz` and `/metrics`: whether this node serves, and how much.
//!
//! The probes are the one thing that is answered to anyone, so they say which check failed and not why. Alive means
//! that the process can still do its work; ready means that a write sent here now would be decided.

use std::time::Duration;

use futures_util::FutureExt;
use http::StatusCode;

use super::call::Call;
use super::request::Probe;
use super::respond::{Refusal, typed};
use super::{Answer, Api};

/// A probe that waits longer for a leader's word has its answer: there is none.
const READ_INDEX_PATIENCE: Duration = Duration::from_secs(1);

/// One thing that must be so, and whether it is.
struct Check {
    name: &'static str,
    holds: bool,
}

pub(crate) async fn probe(api: &Api, probe: Probe, call: &Call<'_>) -> Answer {
    let mut checks = vec![
        Check { name: "ping", holds: true },
        Check { name: "raft", holds: api.registry.raft().stopped().now_or_never().is_none() },
    ];
    if probe == Probe::Readyz {
        let index = tokio::time::timeout(READ_INDEX_PATIENCE, api.registry.raft().read_index()).await;
        checks.push(Check { name: "leader", holds: matches!(index, Ok(Ok(_))) });
    }
    let asked = Asked::read(call.query);
    checks.retain(|check| !asked.excluded.iter().any(|name| name == check.name));
    let (code, text) = report(name(probe), &checks, asked.verbose);
    Ok(typed(code, "text/plain; charset=utf-8", text.into_bytes()))
}

fn name(probe: Probe) -> &'static str {
    match probe {
        Probe::Healthz => "healthz",
        Probe::Livez => "livez",
        Probe::Readyz => "readyz",
    }
}

/// `?verbose` and `?exclude=`.
struct Asked {
    verbose: bool,
    excluded: Vec<String>,
}

impl Asked {
    fn read(query: &str) -> Asked {
        let mut asked = Asked { verbose: false, excluded: Vec::new() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "verbose" => asked.verbose = true,
                "exclude" => asked.excluded.push(value.into_owned()),
                _ => {}
            }
        }
        asked
    }
}

/// `ok`, or each check on a line of its own when one failed or someone wants to see them.
fn report(probe: &str, checks: &[Check], verbose: bool) -> (StatusCode, String) {
    let healthy = checks.iter().all(|check| check.holds);
    if healthy && !verbose {
        return (StatusCode::OK, "ok".to_owned());
    }
    let line = |check: &Check| match check.holds {
        true => format!("[+]{} ok\n", check.name),
        false => format!("[-]{} failed: reason withheld\n", check.name),
    };
    let lines: String = checks.iter().map(line).collect();
    match healthy {
        true => (StatusCode::OK, format!("{lines}{probe} check passed\n")),
        false => (StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{probe} check failed\n")),
    }
}

/// Everything the node counts, for whoever may read.
pub(crate) fn metrics(api: &Api) -> Answer {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = api.options.metrics.encode().map_err(|error| {
        Refusal::from(appliance_resources::Status::internal(format!("encode the metrics: {error}")))
    })?;
    Ok(typed(StatusCode::OK, OPEN_METRICS, text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::harness::Harness;

    #[test]
    fn a_report_is_short_when_all_is_well() {
        let checks = [Check { name: "ping", holds: true }];
        assert_eq!(report("livez", &checks, false), (StatusCode::OK, "ok".to_owned()));
        assert_eq!(
            report("livez", &checks, true),
            (StatusCode::OK, "[+]ping ok\nlivez check passed\n".to_owned())
        );
    }

    #[test]
    fn a_failed_check_is_named() {
        let checks = [Check { name: "ping", holds: true }, Check { name: "leader", holds: false }];
        let (code, text) = report("readyz", &checks, false);
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(text, "[+]ping ok\n[-]leader failed: reason withheld\nreadyz check failed\n");
    }

    #[tokio::test]
    async fn health_is_for_everyone_and_nothing_else_is() {
        let api = Harness::start().await;
        let nobody = api.anonymous();
        for path in ["/healthz", "/livez", "/readyz"] {
            let reply = nobody.get(path).await;
            assert_eq!((reply.code, reply.body.as_ref()), (200, &b"ok"[..]), "{path}");
        }
        assert_eq!(nobody.get("/livez").await.headers.get("appliance-node"), None);
        assert_eq!(api.get("/livez").await.headers["appliance-node"], "n1");
        let verbose = nobody.get("/readyz?verbose&exclude=raft").await;
        assert_eq!(verbose.body.as_ref(), b"[+]ping ok\n[+]leader ok\nreadyz check passed\n");
        for path in ["/metrics", "/version", "/apis", "/nowhere", "hostendpoints", "tiers/default"] {
            assert_eq!(nobody.get(path).await.summary(), "401 Unauthorized: Unauthorized", "{path}");
        }
    }

    #[tokio::test]
    async fn metrics_count_requests() {
        let api = Harness::start().await;
        api.get("tiers").await;
        let metrics = api.get("/metrics").await;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        assert!(text.contains(r#"api_requests_total{verb="list",resource="tiers",code="200"} 1"#), "{text}");
    }

    #[tokio::test]
    async fn a_stopped_member_is_neither_alive_nor_ready() {
        let api = Harness::start().await;
        api.raft.stop().await;
        assert_eq!(api.get("/livez").await.code, 500);
        assert_eq!(api.get("/readyz").await.code, 500);
        let list = api.get("tiers").await;
        assert_eq!((list.code, list.headers["retry-after"].as_bytes()), (503, &b"1"[..]));
        assert_eq!(api.get("tiers?resourceVersion=0").await.code, 200, "what is here is still here");
    }
}
