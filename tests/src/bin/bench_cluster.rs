//! `make bench`, the second half: three members against a three-member etcd, in rounds that take turns.
//!
//! Both sides on the same three hosts, TLS and authorisation, fsync on, default timers. Every figure is a ratio of this
//! run. Arguments name the sections to run; none runs all: writes reads watch failover objects slow-disk.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use appliance_tests::bench::etcd_members::Etcd;
use appliance_tests::bench::load::{self, READ, Round, Target, Work};
use appliance_tests::bench::ours_members::Ours;
use appliance_tests::bench::side::Side;
use appliance_tests::bench::watching::Heard;
use appliance_tests::bench::{disk, failover, watching};
use appliance_tests::netns::{Host, Lan, Namespace};
use appliance_tests::prerequisites;
use tempfile::TempDir;

/// Rounds of each side; the median counts.
const ROUNDS: usize = 3;

/// How long one round lasts.
const ROUND: Duration = Duration::from_secs(4);

/// Connections that clients share, on both sides.
const CONNECTIONS: usize = 9;

/// Leaders killed on each side.
const FAILOVERS: usize = 5;

/// Objects loaded when memory, disk and start are measured.
const OBJECTS: u64 = 100_000;

/// Their size in bytes.
const OBJECT: usize = 1_024;

/// After loading them, before a member is killed.
const SETTLE: Duration = Duration::from_secs(5);

/// Clients that load them.
const LOADERS: usize = 64;

/// What a process on a slow disk runs under: each sync returns so many microseconds late.
const SLOW_DISK: [&str; 9] = [
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-o/dev/null",
    "-e",
    "trace=fsync,fdatasync",
    "-e",
    "inject=fsync,fdatasync:delay_exit=5000",
];

/// Everything both sides need.
struct World {
    _lan: Lan,
    hosts: Vec<Host>,
    client: Host,
    directory: TempDir,
    numbers: Arc<AtomicU64>,
}

fn main() {
    prerequisites::check();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let runs = |section: &str| wanted.is_empty() || wanted.iter().any(|word| word == section);
    let lan = Lan::new();
    let world = World {
        hosts: (2..5).map(|number| lan.host(number)).collect(),
        client: lan.host(9),
        directory: tempfile::Builder::new().prefix("bench-").tempdir().expect("a directory"),
        numbers: Arc::new(AtomicU64::new(READ)),
        _lan: lan,
    };
    if ["writes", "reads", "watch", "failover"].into_iter().any(runs) {
        let (mut ours, mut etcd) = world.clusters(3, &[]);
        println!("three members each, TLS and authorisation, medians of {ROUNDS} rounds of {ROUND:?}");
        world.run(async |world| {
            world.first_records(&ours, &etcd).await;
            if runs("writes") {
                world.writes(&ours, &etcd, &[1, 16, 64]).await;
            }
            if runs("reads") {
                world.reads(&ours, &etcd).await;
            }
            if runs("watch") {
                world.watches(&ours, &etcd).await;
            }
            if runs("failover") {
                world.failovers(&mut ours, &mut etcd).await;
            }
        });
    }
    if runs("objects") {
        // A pair of its own: what the other sections wrote is in memory and on disk too.
        let (mut ours, mut etcd) = world.clusters(3, &[]);
        world.run(async |world| {
            // One of these is asked for when a member that was started again is to answer.
            world.first_records(&ours, &etcd).await;
            let of_ours = world.objects(&mut ours).await;
            let of_etcd = world.objects(&mut etcd).await;
            of_ours.print_ratios(&of_etcd);
        });
    }
    if runs("slow-disk") {
        for members in [1, 3] {
            let (ours, etcd) = world.clusters(members, &SLOW_DISK);
            println!("\na disk whose syncs take 5 ms longer, {members} member(s) each");
            world.run(async |world| {
                world.first_records(&ours, &etcd).await;
                world.writes(&ours, &etcd, &[1, 16, 64]).await;
            });
        }
    }
}

impl World {
    fn clusters(&self, members: usize, wrapper: &[&str]) -> (Ours, Etcd) {
        let hosts: Vec<&Host> = self.hosts.iter().take(members).collect();
        let places: Vec<(Arc<Namespace>, Ipv4Addr)> =
            hosts.iter().map(|host| (Arc::clone(&host.namespace), host.ipv4)).collect();
        // Each pair has files of its own, for a second etcd must not find the first one's.
        let directory = tempfile::Builder::new().prefix("etcd-").tempdir_in(self.directory.path());
        let directory = directory.expect("a directory").keep();
        let etcd = Etcd::start(&tool("etcd"), &places, &directory, wrapper);
        (Ours::form(&hosts, wrapper), etcd)
    }

    /// Runs the clients on a host of their own.
    fn run(&self, work: impl AsyncFnOnce(&World) + Send) {
        self.client.namespace.inside(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(work(self));
        });
    }

    /// What is read later.
    async fn first_records(&self, ours: &Ours, etcd: &Etcd) {
        let (ours, etcd) =
            (ours.clients(&[0], 1, disk::RECORD).await, etcd.clients(&[0], 1, disk::RECORD).await);
        for number in 0..READ {
            assert!(ours.write(0, number).await && etcd.write(0, number).await, "record {number}");
        }
    }

    async fn writes(&self, ours: &Ours, etcd: &Etcd, clients: &[usize]) {
        println!(
            "\nwrites of {} bytes      ours/s   etcd/s  ratio   ours p50/p99 ms   etcd p50/p99 ms  p99 ratio",
            disk::RECORD
        );
        for clients in clients {
            self.compare(Work::Write, *clients, Some((ours.leader(), etcd.leader())), ours, etcd).await;
        }
        if ours.size() > 1 {
            for clients in clients {
                self.compare(Work::Write, *clients, None, ours, etcd).await;
            }
        }
    }

    async fn reads(&self, ours: &Ours, etcd: &Etcd) {
        println!(
            "\nlinearizable reads        ours/s   etcd/s  ratio   ours p50/p99 ms   etcd p50/p99 ms  p99 ratio"
        );
        for clients in [1, 64] {
            self.compare(Work::Read, clients, Some((ours.leader(), etcd.leader())), ours, etcd).await;
            self.compare(Work::Read, clients, None, ours, etcd).await;
        }
    }

    /// One line of a table: clients at the leaders given, or spread over all members.
    async fn compare(
        &self,
        work: Work,
        clients: usize,
        at: Option<(usize, usize)>,
        ours: &Ours,
        etcd: &Etcd,
    ) {
        let all: Vec<usize> = (0..ours.size()).collect();
        let (of_ours, of_etcd) = at.map_or((all.clone(), all), |(ours, etcd)| (vec![ours], vec![etcd]));
        let connections = CONNECTIONS.min(clients);
        let of_ours = ours.clients(&of_ours, connections, disk::RECORD).await;
        let of_etcd = etcd.clients(&of_etcd, connections, disk::RECORD).await;
        let (mut our_rounds, mut etcd_rounds) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let numbers = &self.numbers;
            our_rounds.push(load::run(Arc::clone(&of_ours), work, clients, ROUND, Arc::clone(numbers)).await);
            etcd_rounds
                .push(load::run(Arc::clone(&of_etcd), work, clients, ROUND, Arc::clone(numbers)).await);
        }
        let place = if at.is_some() { "at the leader" } else { "at all" };
        print_line(clients, place, &load::median(our_rounds), &load::median(etcd_rounds));
    }

    async fn watches(&self, ours: &Ours, etcd: &Etcd) {
        println!(
            "\nfrom write to watcher: watchers   ours p50/p99 ms   etcd p50/p99 ms   p50 ratio  p99 ratio"
        );
        for watchers in [1, 200] {
            let (of_ours, of_etcd) = (self.heard(ours, watchers).await, self.heard(etcd, watchers).await);
            println!(
                "{watchers:>32} {:>17} {:>17} {:11.2} {:10.2}",
                both(of_ours.p50, of_ours.p99),
                both(of_etcd.p50, of_etcd.p99),
                ratio(of_ours.p50, of_etcd.p50),
                ratio(of_ours.p99, of_etcd.p99)
            );
            if of_ours.missed + of_etcd.missed > 0 {
                println!("events that did not come: ours {}, etcd {}", of_ours.missed, of_etcd.missed);
            }
        }
    }

    async fn heard<S: Side>(&self, side: &S, watchers: usize) -> Heard {
        let all: Vec<usize> = (0..side.size()).collect();
        let clients = side.clients(&all, CONNECTIONS, disk::RECORD).await;
        let writes = 200;
        let first = self.numbers.fetch_add(writes + 1, Ordering::Relaxed);
        watching::round(&clients, watchers, first, writes).await
    }

    async fn failovers(&self, ours: &mut Ours, etcd: &mut Etcd) {
        println!("\nfrom the leader's death to the next acknowledged write, {FAILOVERS} times, ms");
        let (mut of_ours, mut of_etcd) = (Vec::new(), Vec::new());
        for _ in 0..FAILOVERS {
            of_ours.push(failover::once(ours, &self.numbers).await);
            of_etcd.push(failover::once(etcd, &self.numbers).await);
            // The one that was killed is back before the next is.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        of_ours.sort_unstable();
        of_etcd.sort_unstable();
        let (our_median, etcd_median) = (of_ours[FAILOVERS / 2], of_etcd[FAILOVERS / 2]);
        println!(
            "ours {}, etcd {}, ratio of medians {:.2} (aim: under 2000 ms)",
            list(&of_ours),
            list(&of_etcd),
            ratio(our_median, etcd_median)
        );
    }

    /// Memory, disk and start with many objects.
    async fn objects<S: Side>(&self, side: &mut S) -> Footprint {
        let objects =
            std::env::var("BENCH_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(OBJECTS);
        let begun = Instant::now();
        self.load(side, objects).await;
        let members = 0..side.size();
        let rss: Vec<u64> = members.clone().map(|number| side.rss(number)).collect();
        let disk: Vec<u64> = members.clone().map(|number| side.disk(number)).collect();
        println!("\n{}: {objects} objects of {OBJECT} bytes loaded in {:.0?}", S::NAME, begun.elapsed());
        println!("  RSS {} MB, disk {} MB", megabytes(&rss), megabytes(&disk));
        // What a load leaves to do (exports, compaction, pages on their way to the disk) is no part of a start.
        tokio::time::sleep(SETTLE).await;
        let follower = members.clone().find(|number| *number != side.leader()).unwrap_or(0);
        side.kill(follower);
        let begun = Instant::now();
        side.start(follower);
        while !side.answers(follower).await {
            assert!(begun.elapsed() < Duration::from_secs(120), "the member does not come back");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let took = begun.elapsed();
        tokio::time::sleep(Duration::from_secs(5)).await;
        println!(
            "  a member started again answers after {} ms (aim: under 500); RSS then {:.0} MB",
            took.as_millis(),
            side.rss(follower) as f64 / 1e6
        );
        Footprint { rss: median(rss), disk: median(disk), start: took }
    }

    async fn load<S: Side>(&self, side: &S, objects: u64) {
        let clients = side.clients(&[side.leader()], CONNECTIONS, OBJECT).await;
        let left = Arc::new(AtomicU64::new(objects));
        let loaders: Vec<_> = (0..LOADERS)
            .map(|client| {
                let (clients, numbers, left) =
                    (Arc::clone(&clients), Arc::clone(&self.numbers), Arc::clone(&left));
                tokio::spawn(async move {
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                        .is_ok()
                    {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        assert!(clients.write(client, number).await, "object {number}");
                    }
                })
            })
            .collect();
        for loader in loaders {
            loader.await.expect("a loader");
        }
    }
}

/// What many objects cost one side: of memory and disk the median member's.
struct Footprint {
    rss: u64,
    disk: u64,
    start: Duration,
}

impl Footprint {
    fn print_ratios(&self, etcd: &Footprint) {
        println!(
            "\nours/etcd with as many objects: RSS {:.2}, disk {:.2}, start {:.2}",
            self.rss as f64 / etcd.rss.max(1) as f64,
            self.disk as f64 / etcd.disk.max(1) as f64,
            ratio(self.start, etcd.start)
        );
    }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn megabytes(values: &[u64]) -> String {
    let each: Vec<String> = values.iter().map(|bytes| format!("{:.0}", *bytes as f64 / 1e6)).collect();
    each.join(" ")
}

fn print_line(clients: usize, place: &str, ours: &Round, etcd: &Round) {
    println!(
        "{clients:>4} {place:<18} {:8.0} {:8.0} {:6.2} {:>17} {:>17} {:10.2}",
        ours.rate,
        etcd.rate,
        ours.rate / etcd.rate,
        both(ours.p50, ours.p99),
        both(etcd.p50, etcd.p99),
        ratio(ours.p99, etcd.p99)
    );
    if ours.failed + etcd.failed > 0 {
        println!("     failed: ours {}, etcd {}", ours.failed, etcd.failed);
    }
}

fn both(p50: Duration, p99: Duration) -> String {
    format!("{:.2}/{:.2}", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3)
}

fn ratio(ours: Duration, etcd: Duration) -> f64 {
    ours.as_secs_f64() / etcd.as_secs_f64().max(1e-9)
}

fn list(times: &[Duration]) -> String {
    let times: Vec<String> = times.iter().map(|time| time.as_millis().to_string()).collect();
    times.join("/")
}

fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/usr/bin").join(name);
    assert!(path.is_file(), "{} is not there: run `make setup-bench`", path.display());
    path
}
