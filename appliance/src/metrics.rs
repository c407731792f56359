//! Metrics: the registry and its names. `api::health` serves it in Prometheus's text format at `/metrics`.
//!
//! What others count is counted as it happens (requests, connections); what can be asked is asked when somebody looks
//! (raft, store, enforcement, the process), so that nobody keeps a second copy of the truth.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::version;

/// Seconds; from a cached read to a write that waited for a slow disk.
const DURATIONS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// One number that is asked for when somebody looks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// Its name without the `appliance_` in front.
    pub(crate) name: &'static str,
    /// The other member it is about, if it is about one. Readings of one name stand together.
    pub(crate) peer: Option<String>,
    /// What it says, for the `# HELP` line.
    pub(crate) help: &'static str,
    /// Whether it only ever grows.
    pub(crate) kind: ReadingKind,
    /// The number now.
    pub(crate) value: f64,
}

/// How Prometheus is to understand a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadingKind {
    /// Goes up and down.
    Gauge,
    /// Only grows while the process lives.
    Counter,
}

/// Asks every part of the node for its numbers.
pub(crate) type Readings = Box<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// Everything this node counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<VerbLabels, Histogram, fn() -> Histogram>,
    connections: Family<ListenerLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

/// One open connection; the gauge falls when this is dropped, however the connection ended.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Metrics {
    /// A registry that asks `readings` whenever it is read.
    pub(crate) fn new(readings: Readings) -> Arc<Metrics> {
        let histogram: fn() -> Histogram = || Histogram::new(DURATIONS);
        let (requests, connections) = (Family::default(), Family::default());
        let durations = Family::new_with_constructor(histogram);
        let mut registry = Registry::with_prefix("appliance");
        let build = Info::new([("version", version::VERSION), ("commit", version::COMMIT)]);
        registry.register("build", "What this binary was built from", build);
        registry.register("api_requests", "Answered API requests", requests.clone());
        registry.register_with_unit(
            "api_request_duration",
            "From a request's head to its answer's head; a watch counts until it begins",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("api_connections", "Open connections of clients", connections.clone());
        registry.register_collector(Box::new(Asked(readings)));
        Arc::new(Metrics { registry, requests, durations, connections })
    }

    /// Counts an answered request. `resource` is a plural, or empty for a path that is none.
    pub(crate) fn request(&self, verb: &'static str, resource: &'static str, code: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { verb, resource, code }).inc();
        self.durations.get_or_create(&VerbLabels { verb }).observe(took.as_secs_f64());
    }

    /// Counts a connection for as long as the answer lives.
    pub(crate) fn connection(&self, listener: &'static str) -> OpenConnection {
        let gauge = self.connections.get_or_create(&ListenerLabels { listener }).clone();
        gauge.inc();
        OpenConnection(gauge)
    }

    /// Everything in Prometheus's text format.
    pub(crate) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Asked(Readings);

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

impl Collector for Asked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let readings = (self.0)();
        for family in readings.chunk_by(|one, other| one.name == other.name) {
            let gauges = family.iter().map(|reading| ConstGauge::new(reading.value));
            let counters = family.iter().map(|reading| ConstCounter::new(reading.value));
            match family[0].kind {
                ReadingKind::Gauge => encode_family(&mut encoder, family, gauges)?,
                ReadingKind::Counter => encode_family(&mut encoder, family, counters)?,
            }
        }
        Ok(())
    }
}

/// One description, and each of the numbers under it; a number about nobody in particular stands alone.
fn encode_family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    family: &[Reading],
    metrics: impl Iterator<Item = M>,
) -> fmt::Result {
    let mut metrics = metrics.peekable();
    let (Some(first), Some(head)) = (metrics.peek(), family.first()) else { return Ok(()) };
    let mut described = encoder.encode_descriptor(head.name, head.help, None, first.metric_type())?;
    if head.peer.is_none() {
        return first.encode(described);
    }
    for (reading, metric) in family.iter().zip(metrics) {
        let peer = reading.peer.as_deref().unwrap_or_default();
        metric.encode(described.encode_family(&[("peer", peer)])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(name: &'static str, kind: ReadingKind, value: f64, peer: Option<&str>) -> Reading {
        Reading { name, peer: peer.map(str::to_owned), help: "Help", kind, value }
    }

    fn metrics() -> Arc<Metrics> {
        Metrics::new(Box::new(|| {
            vec![
                reading("store_revision", ReadingKind::Gauge, 7.0, None),
                reading("drift_repairs", ReadingKind::Counter, 2.0, None),
                reading("raft_peer_lag", ReadingKind::Gauge, 3.0, Some("a")),
                reading("raft_peer_lag", ReadingKind::Gauge, 4.0, Some("b")),
            ]
        }))
    }

    #[test]
    fn what_is_counted_and_what_is_asked_stand_in_the_text() {
        let metrics = metrics();
        metrics.request("list", "tiers", 200, Duration::from_millis(3));
        let text = metrics.encode().expect("encodes");

        for line in [
            "appliance_api_requests_total{verb=\"list\",resource=\"tiers\",code=\"200\"} 1",
            "appliance_api_request_duration_seconds_bucket{le=\"0.005\",verb=\"list\"} 1",
            "appliance_store_revision 7.0",
            "# TYPE appliance_drift_repairs counter",
            "appliance_drift_repairs_total 2.0",
            "# TYPE appliance_raft_peer_lag gauge\nappliance_raft_peer_lag{peer=\"a\"} 3.0\nappliance_raft_peer_lag{peer=\"b\"} 4.0",
        ] {
            assert!(text.contains(line), "{line} in:\n{text}");
        }
    }

    #[test]
    fn a_connection_is_counted_while_it_lives() {
        let metrics = metrics();
        let open = metrics.connection("tls");
        let line = |count: u32| format!("appliance_api_connections{{listener=\"tls\"}} {count}\n");
        assert!(metrics.encode().expect("encodes").contains(&line(1)));
        drop(open);
        assert!(metrics.encode().expect("encodes").contains(&line(0)));
    }
}
