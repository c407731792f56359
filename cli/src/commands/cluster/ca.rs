//! `ca`: the certificate authority of the cluster, and its replacement in two steps.

use serde_json::{Value, json};

use super::args::{Ca, CaRotate};
use super::{cell, confirm, refused, render};
use crate::Verdict;
use crate::output::table::Table;
use crate::world::{Failure, World};

pub(crate) async fn run(verb: Ca, world: &mut World) -> Result<Verdict, Failure> {
    match verb {
        Ca::Status(format) => {
            let answer = world.client()?.get("/cluster/ca").await.map_err(refused)?;
            world.console.out(&render(format.output, &answer, |_| describe(&answer)));
            Ok(Verdict::Done)
        }
        Ca::Rotate(args) => rotate(&args, world).await,
    }
}

async fn rotate(args: &CaRotate, world: &mut World) -> Result<Verdict, Failure> {
    if args.force && !args.finish {
        return Err("--force goes with --finish: a rotation that begins leaves nobody behind".into());
    }
    let client = world.client()?;
    if args.finish {
        let now = client.get("/cluster/ca").await.map_err(refused)?;
        let waiting = waiting(&now);
        if !waiting.is_empty() && !args.force {
            return Err(format!(
                "{} would no longer be trusted: wait until `appliance ctl ca status` waits for nobody, or leave them \
                 behind with --force",
                waiting.join(", ")
            )
            .into());
        }
        let left = match waiting.is_empty() {
            true => String::new(),
            false => format!(" {} will have to join anew.", waiting.join(", ")),
        };
        let question = format!(
            "The old authority will not be trusted any more: kubeconfigs and certificates it signed stop working.{left}"
        );
        confirm(world, args.yes, &question)?;
    }
    let wanted = json!({"finish": args.finish, "force": args.force});
    let answer = client.create("/cluster/ca/rotate", &wanted).await.map_err(refused)?;
    world.console.out(&render(args.format.output, &answer, |_| describe(&answer)));
    Ok(Verdict::Done)
}

fn waiting(answer: &Value) -> Vec<String> {
    let names = answer["waitingFor"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(Value::as_str).map(str::to_string).collect()
}

/// The certificates, how far a rotation is, and what comes next.
fn describe(answer: &Value) -> String {
    let certificates = answer["certificates"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |certificate: &Value| {
        let sha256: String = cell(certificate, "sha256").chars().take(FINGERPRINT_CHARS).collect();
        vec![sha256, cell(certificate, "state"), cell(certificate, "notAfter")]
    };
    let table = Table {
        headings: ["SHA256", "STATE", "EXPIRES"].map(str::to_string).to_vec(),
        rows: certificates.iter().map(row).collect(),
    };
    let waiting = waiting(answer);
    let next = match (answer["phase"].as_str().unwrap_or_default(), waiting.is_empty()) {
        ("stable", _) => "No rotation is under way.".to_string(),
        (_, false) => format!("Waiting for: {}", waiting.join(", ")),
        ("issuing", true) => {
            "Everybody has a certificate of the new authority. Make new kubeconfigs, then: appliance ctl ca rotate \
             --finish"
                .to_string()
        }
        (_, true) => "Everybody trusts the new authority; certificates of it are being given out.".to_string(),
    };
    let (generation, phase) = (cell(answer, "generation"), cell(answer, "phase"));
    format!("{}Generation {generation}, {phase}. {next}\n", table.render())
}

/// Enough of a fingerprint to tell two apart by eye; `-o json` has all of it.
const FINGERPRINT_CHARS: usize = 16;
