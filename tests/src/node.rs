//! A real `appliance run` process on a host, with its own data and run directories, killed on drop.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::ctl::{self, Printed};
use crate::eventually::{eventually, eventually_true};
use crate::netns::{Host, Namespace};
use crate::prerequisites;

/// A node: its process (while it runs) and what outlives the process.
pub struct Node {
    name: String,
    namespace: Arc<Namespace>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    directory: TempDir,
    process: Option<Child>,
}

impl Node {
    /// Starts a node called `name` on `host` and waits until it serves.
    ///
    /// # Panics
    /// When it does not come up; its log is in the message.
    #[must_use]
    pub fn start(host: &Host, name: &str) -> Node {
        Node::start_with(host, name, &[])
    }

    /// The same with more arguments for `appliance run`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_with(host: &Host, name: &str, arguments: &[&str]) -> Node {
        let mut node = Node::prepare(host, name, arguments);
        node.run();
        node
    }

    /// Everything but the process.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    #[must_use]
    pub fn prepare(host: &Host, name: &str, arguments: &[&str]) -> Node {
        prerequisites::check();
        Node {
            name: name.to_owned(),
            namespace: Arc::clone(&host.namespace),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            directory: tempfile::Builder::new()
                .prefix("appliance-")
                .tempdir()
                .expect("a temporary directory"),
            process: None,
        }
    }

    /// Gives the process this argument and value from its next start on, in place of what it had.
    pub fn set_argument(&mut self, argument: &str, value: &str) {
        if let Some(place) = self.arguments.iter().position(|other| other == argument) {
            self.arguments.drain(place..=place + 1);
        }
        self.arguments.extend([argument.to_owned(), value.to_owned()]);
    }

    /// Runs the process under another program from its next start on.
    pub fn set_wrapper(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(ToString::to_string).collect();
    }

    /// Gives the process this variable from its next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable from the process from its next start on.
    pub fn unset_environment(&mut self, name: &str) {
        self.environment.retain(|(other, _)| other != name);
    }

    /// Starts the process, again or for the first time, and waits until it serves.
    ///
    /// # Panics
    /// When it does not come up; its log is printed.
    pub fn run(&mut self) {
        self.spawn();
        eventually(
            "the node to serve",
            || {
                self.must_run();
                self.ctl(&["get", "nodes"])
            },
            |printed| printed.code == 0,
        );
    }

    /// Starts the process without waiting for anything.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "the node runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("open the log");
        let errors = log.try_clone().expect("the same log again");
        let mut command = self.run_command();
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.process = Some(self.namespace.inside(|| command.spawn()).expect("start appliance"));
    }

    /// The command line of `appliance run` for this node, not started, without its namespace.
    #[must_use]
    pub fn run_command(&self) -> Command {
        self.run_command_in(&self.data_dir())
    }

    /// The same on another data directory.
    #[must_use]
    pub fn run_command_in(&self, data_dir: &Path) -> Command {
        let mut words = self.wrapper.iter().map(PathBuf::from).chain([prerequisites::appliance()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command.arg("run").arg("--data-dir").arg(data_dir).arg("--run-dir").arg(self.run_dir());
        command.args(["--config", "/dev/null", "--node-name", &self.name]).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Kills the process with SIGKILL: no goodbye, as a power switch would.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("a running node");
        crate::bench::process::kill_tree(&mut process);
    }

    /// Asks the process to stop with SIGTERM and waits for it.
    ///
    /// # Panics
    /// When it ends with anything but success.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let mut process = self.process.take().expect("a running node");
        let status = process.wait().expect("wait for appliance");
        assert!(status.success(), "appliance ended with {status}:\n{}", self.log());
    }

    /// Sends the process a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a running node");
        rustix::process::kill_process(Pid::from_child(process), signal).expect("signal appliance");
    }

    /// Waits for a process that ends by itself.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn wait(&mut self) -> ExitStatus {
        // Still ours while it runs, so that one which does not end is killed with the rest of a failed test.
        let process = self.process.as_mut().expect("a running node");
        let ended = || process.try_wait().expect("wait for appliance");
        let status = eventually("the node to end by itself", ended, Option::is_some);
        self.process = None;
        status.expect("an exit status")
    }

    /// Demands that the process still runs, if it was started.
    ///
    /// # Panics
    /// When it has ended by itself; its log is printed.
    pub fn must_run(&mut self) {
        let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
        assert!(ended.is_none(), "appliance run of {} ended with {ended:?}", self.name);
    }

    /// The process id of the running node.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Runs `appliance ctl` against this node.
    pub fn ctl(&self, arguments: &[&str]) -> Printed {
        self.ctl_with(arguments, "")
    }

    /// Runs `appliance ctl` with text on its standard input.
    pub fn ctl_with(&self, arguments: &[&str], input: &str) -> Printed {
        let mut command = Command::new(prerequisites::appliance());
        command.arg("ctl").arg("--socket").arg(self.socket()).args(arguments);
        ctl::run(&mut command, input)
    }

    /// Applies manifests and waits until this node enforces them.
    ///
    /// # Panics
    /// When they are refused or not enforced.
    pub fn apply(&self, manifest: &str) {
        let _ = self.ctl_with(&["apply", "-f", "-"], manifest).success();
        self.wait_enforced();
    }

    /// Deletes one object and waits until this node has carried that out.
    ///
    /// # Panics
    /// When it is not there, or the change is not enforced.
    pub fn delete(&self, kind: &str, name: &str) {
        let _ = self.ctl(&["delete", kind, name]).success();
        self.wait_enforced();
    }

    /// Waits until the node reports that it enforces every revision up to the one the API shows now.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_enforced(&self) {
        let now = self.revision();
        eventually(
            &format!("the node to enforce revision {now}"),
            || self.report(),
            |report| report["status"]["state"] == "Enforcing" && enforced(report) >= now,
        );
    }

    /// The newest revision among policy resources, which is what enforcement can be waited for.
    #[must_use]
    pub fn revision(&self) -> u64 {
        let probe = format!(
            "{{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {{name: revision-probe, \
             annotations: {{t: \"{}\"}}}}, spec: {{}}}}",
            std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos())
        );
        let _ = self.ctl_with(&["apply", "-f", "-"], &probe).success();
        let probe = self.object("globalnetworkset", "revision-probe");
        number(&probe["metadata"]["resourceVersion"])
    }

    /// One object as JSON.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn object(&self, kind: &str, name: &str) -> Value {
        let text = self.ctl(&["get", kind, name, "-o", "json"]).success();
        serde_json::from_str(&text).expect("ctl prints JSON")
    }

    /// This node's `NodeReport`; null while there is none.
    #[must_use]
    pub fn report(&self) -> Value {
        let printed = self.ctl(&["get", "nodereport", &self.name, "-o", "json"]);
        serde_json::from_str(&printed.out).unwrap_or(Value::Null)
    }

    /// Waits for a line in the log that contains `text`, and returns it.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    pub fn logged(&self, text: &str) -> String {
        eventually_true(&format!("{text:?} in the log"), || self.log().contains(text));
        self.log().lines().find(|line| line.contains(text)).unwrap_or_default().to_owned()
    }

    /// Everything the node has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("appliance.sock")
    }

    /// The admin's kubeconfig that the node writes at its first start.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    fn run_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    fn log_path(&self) -> PathBuf {
        self.path().join("log")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            crate::bench::process::kill_tree(&mut process);
        }
        if std::thread::panicking() {
            eprintln!("---- log of node {} ----\n{}", self.name, self.log());
        }
    }
}

fn enforced(report: &Value) -> u64 {
    number(&report["status"]["revision"])
}

/// A revision, which JSON carries as text in metadata and as a number in a report.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}
