//! The same cases for the kernel and for FakeNft: what is planned is taken, lists as wanted, and then nothing is left
//! to do.

use appliance_dataplane::nft::diff::diff;
use appliance_dataplane::nft::plan::{Begin, plan};
use appliance_dataplane::nft::{
    Actual, Event, Expr, FakeNft, Kernel, Nft, NftError, Operation, Rule, Ruleset, SetKind, Transaction,
    VerdictMap,
};
use proptest::test_runner::{Config, TestRunner};

use crate::netns::{NFT, inside};
use crate::rulesets::{TABLE, VARIANTS, any_ruleset, every_expression, everything, name_every_variant, nets};

/// Runs `test` on both kernels.
fn both(test: impl AsyncFn(&mut Either) + Sync) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test(&mut Either::Fake(Box::default())));
    inside(|_, runtime| {
        runtime
            .block_on(async { test(&mut Either::Kernel(Box::new(Kernel::open(NFT.as_ref(), TABLE)))).await });
    });
    inside(|_, runtime| {
        let kernel = Kernel::without_netlink(NFT.as_ref(), TABLE);
        runtime.block_on(async { test(&mut Either::Kernel(Box::new(kernel))).await });
    });
}

/// The kernel or the fake.
pub(crate) enum Either {
    Fake(Box<FakeNft>),
    Kernel(Box<Kernel>),
}

impl Either {
    async fn list(&mut self) -> Actual {
        match self {
            Either::Fake(nft) => nft.list().await,
            Either::Kernel(nft) => nft.list().await,
        }
        .expect("list")
    }

    async fn run(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        match self {
            Either::Fake(nft) => nft.run(transaction).await,
            Either::Kernel(nft) => nft.run(transaction).await,
        }
        .map(drop)
    }

    async fn check(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        match self {
            Either::Fake(nft) => nft.check(transaction).await,
            Either::Kernel(nft) => nft.check(transaction).await,
        }
    }

    /// Plans from a listing, runs the plan, and finds what was wanted, by listing and by the planner's own book.
    async fn becomes(&mut self, wanted: &Ruleset) {
        let mut shadow = self.list().await;
        for transaction in plan(&shadow.clone(), wanted, Begin::Whole) {
            self.run(&transaction).await.unwrap_or_else(|error| panic!("{error}: {transaction:#?}"));
            shadow.replay(&transaction);
        }
        let listed = self.list().await;
        let left = diff(&listed, wanted);
        assert!(left.is_empty(), "by listing: {left:#?}");
        assert!(diff(&shadow, wanted).is_empty(), "by the book: {:#?}", diff(&shadow, wanted));
        assert_eq!(shadow.drift(&listed), []);
    }
}

#[test]
fn no_expression_is_forgotten() {
    let rules = every_expression();
    let mut names: Vec<&str> = rules.iter().flatten().map(name_every_variant).collect();
    names.push(name_every_variant(&Expr::Notrack));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), VARIANTS, "{names:?}");
}

#[test]
fn every_expression_loads_and_is_found_again() {
    both(async |nft| nft.becomes(&everything()).await);
}

#[test]
fn members_change_in_every_kind_of_set() {
    both(async |nft| {
        let full = everything();
        nft.becomes(&full).await;
        let mut emptied = full.clone();
        emptied.sets.values_mut().for_each(|set| set.elements = Default::default());
        nft.becomes(&emptied).await;
        nft.becomes(&full).await;
        let mut moved = full.clone();
        let narrowed = ["10.0.0.0/26", "10.0.0.64/26", "192.0.2.0/24", "0.0.0.0/5", "255.255.255.255/32"];
        moved.sets.insert("nets4".into(), nets(appliance_dataplane::nft::Family::V4, &narrowed));
        nft.becomes(&moved).await;
        nft.becomes(&full).await;
    });
}

#[test]
fn chains_maps_and_hooks_come_and_go() {
    both(async |nft| {
        let full = everything();
        nft.becomes(&full).await;
        let mut less = full.clone();
        for chain in ["all", "raw_in", "bare", "reroute"] {
            less.chains.remove(chain);
        }
        less.sets.retain(|_, set| matches!(set.kind, SetKind::ProtocolPorts));
        less.maps.insert("in".into(), VerdictMap::default());
        nft.becomes(&less).await;
        nft.becomes(&Ruleset::new(TABLE)).await;
        nft.becomes(&full).await;
    });
}

#[test]
fn a_refused_transaction_changes_nothing() {
    both(async |nft| {
        nft.becomes(&everything()).await;
        let mut transaction = Transaction::new(TABLE);
        transaction.operations.push(Operation::FlushChain { name: "all".into() });
        let rule = Rule::new("", vec![Expr::jump("no-such-chain")]);
        transaction.operations.push(Operation::AddRule { chain: "all".into(), rule });
        assert!(matches!(nft.check(&transaction).await, Err(NftError::Stale(_))));
        assert!(matches!(nft.run(&transaction).await, Err(NftError::Stale(_))));
        assert!(diff(&nft.list().await, &everything()).is_empty());
    });
}

#[test]
fn asking_changes_nothing() {
    both(async |nft| {
        let mut transaction = Transaction::new(TABLE);
        transaction.operations.push(Operation::AddTable);
        nft.check(&transaction).await.expect("it would be taken");
        assert_eq!(nft.list().await, Actual::default());
    });
}

/// Any ruleset can become any other, on one kernel, one after the other.
#[test]
fn any_ruleset_becomes_any_other() {
    let walk = |nft: &mut Either, runtime: &tokio::runtime::Runtime, cases: u32| {
        let nft = std::cell::RefCell::new(nft);
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let walked = runner.run(&any_ruleset(), |wanted| {
            let mut nft = nft.borrow_mut();
            runtime.block_on(nft.becomes(&wanted));
            Ok(())
        });
        walked.unwrap_or_else(|failed| panic!("{failed}"));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    walk(&mut Either::Fake(Box::default()), &runtime, 200);
    inside(|_, runtime| {
        let kernel = runtime.block_on(async { Kernel::open(NFT.as_ref(), TABLE) });
        walk(&mut Either::Kernel(Box::new(kernel)), runtime, 40);
    });
}

#[test]
fn commits_are_announced_with_who_made_them() {
    inside(|namespace, runtime| {
        runtime.block_on(async {
            let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
            let mut transaction = Transaction::new(TABLE);
            transaction.operations.push(Operation::AddTable);
            let committed = kernel.run(&transaction).await.unwrap();
            assert_eq!(committed.after, committed.before.map(|before| before + 1));
            namespace.nft(&format!("add chain inet {TABLE} intruder"));
            namespace.nft("add table ip other");
            let mut events = Vec::new();
            while events.len() < 3 {
                events.extend(kernel.events().await);
            }
            let commits: Vec<_> = events
                .iter()
                .map(|event| match event {
                    Event::Commit(commit) => (commit.generation, &commit.ours[..], &commit.process[..3]),
                    Event::Overrun => panic!("nothing was missed"),
                })
                .collect();
            let ours = committed.after.unwrap();
            assert_eq!(
                commits,
                [
                    (ours, "added the table", "nft"),
                    (ours + 1, "added chain intruder", "nft"),
                    (ours + 2, "", "nft")
                ]
            );
        });
    });
}
