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
    let client = world.client()?;
    if args.finish || args.force {
        let now = client.get("/cluster/ca").await.map_err(refused)?;
        let question = consequences(args, &waiting(&now))?;
        confirm(world, args.yes, &question)?;
    }
    let wanted = json!({"finish": args.finish, "force": args.force});
    let answer = client.create("/cluster/ca/rotate", &wanted).await.map_err(refused)?;
    world.console.out(&render(args.format.output, &answer, |_| describe(&answer)));
    Ok(Verdict::Done)
}

/// What is lost by going on, in words to agree to; or why not to go on yet.
fn consequences(args: &CaRotate, waiting: &[String]) -> Result<String, String> {
    let names = waiting.join(", ");
    if !waiting.is_empty() && !args.force {
        return Err(format!(
            "{names} would no longer be trusted: wait until `appliance ctl ca status` waits for nobody, or leave them behind \
             with --force"
        ));
    }
    let mut question = String::new();
    if args.finish {
        question.push_str(
            "The old authority will not be trusted any more: kubeconfigs and certificates it signed stop working.",
        );
    }
    if !waiting.is_empty() {
        question.push_str(&format!(
            " {names} will have to be removed, and to join again with an empty data directory."
        ));
    }
    if question.is_empty() {
        question.push_str("The rotation goes on without waiting for anybody.");
    }
    Ok(question.trim_start().to_string())
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
    let next = match (answer["message"].as_str(), answer["phase"].as_str()) {
        _ if !waiting.is_empty() => format!("Waiting for: {}", waiting.join(", ")),
        (Some(message), _) if !message.is_empty() => message.to_string(),
        (_, Some("stable")) => "No rotation is under way.".to_string(),
        _ => "It goes on by itself; look again in a moment.".to_string(),
    };
    let unfinished = certificates.iter().any(|certificate| certificate["state"] == "previous");
    let (generation, phase) = (cell(answer, "generation"), cell(answer, "phase"));
    let phase = match (phase.as_str(), unfinished) {
        // Nothing moves by itself any more, which is not to say that it is over.
        ("stable", true) => "waiting for --finish",
        (phase, _) => phase,
    };
    format!("{}Generation {generation}, {phase}. {next}\n", table.render())
}

/// Enough of a fingerprint to tell two apart by eye; `-o json` has all of it.
const FINGERPRINT_CHARS: usize = 16;
