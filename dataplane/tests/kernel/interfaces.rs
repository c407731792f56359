//! Links and addresses as the kernel has them.

use std::net::IpAddr;

use appliance_dataplane::interfaces::{Interfaces, Monitor};

use crate::netns::{eventually, inside};

/// Waits for a change, then until the scan is as wanted: an interface may come in several steps.
async fn until(monitor: &mut Monitor, wanted: impl Fn(&Interfaces) -> bool) {
    monitor.changed().await.expect("listen");
    eventually(async || {
        let scan = monitor.scan().expect("scan");
        if wanted(&scan) { Ok(()) } else { Err(scan) }
    })
    .await;
}

#[test]
fn links_and_addresses_come_move_and_go() {
    inside(|namespace, runtime| {
        runtime.block_on(async {
            let mut monitor = Monitor::open().expect("open");
            let scan = monitor.scan().expect("scan");
            let loopback = &scan["lo"];
            assert!(loopback.up && loopback.addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{scan:?}");
            namespace.run("ip link add d0 type veth peer name d1");
            until(&mut monitor, |scan| scan.get("d0").is_some_and(|link| !link.up)).await;
            namespace.run("ip link set d1 up");
            namespace.run("ip link set d0 up");
            until(&mut monitor, |scan| scan["d0"].up).await;
            let address: IpAddr = "10.77.0.1".parse().unwrap();
            namespace.run("ip addr add 10.77.0.1/24 dev d0");
            namespace.run("ip addr add 10.77.0.2/24 dev d0");
            namespace.run("ip addr add fd77::1/64 dev d0 nodad");
            let six: IpAddr = "fd77::1".parse().unwrap();
            until(&mut monitor, |scan| scan["d0"].addresses.contains(&six)).await;
            assert!(
                monitor.scan().unwrap()["d0"].addresses.is_superset(&[address, [10, 77, 0, 2].into()].into())
            );
            namespace.run("ip addr del 10.77.0.1/24 dev d0");
            namespace.run("ip addr add 10.77.0.1 peer 10.78.0.1 dev lo");
            until(&mut monitor, |scan| scan["lo"].addresses.contains(&address)).await;
            assert!(!monitor.scan().unwrap()["d0"].addresses.contains(&address));
            namespace.run("ip link set d0 name renamed");
            until(&mut monitor, |scan| scan.contains_key("renamed") && !scan.contains_key("d0")).await;
            namespace.run("ip link del renamed");
            until(&mut monitor, |scan| scan.len() == 1).await;
        });
    });
}
