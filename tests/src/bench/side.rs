//! The two sides of a comparison of clusters, behind one face: members that can be loaded, watched, killed and started.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::Response;
use hyper::body::Incoming;

use super::etcd::EtcdClients;
use super::etcd_members::Etcd;
use super::h2::Connection;
use super::load::Target;
use super::ours::ApiClients;
use super::ours_members::Ours;
use super::process;

/// Clients that can also watch.
pub trait Clients: Target {
    /// Writes record `number`; answers where to watch from to see what is written after it.
    fn mark(&self, number: u64) -> impl Future<Output = Option<u64>> + Send;

    /// Begins a watch of what is written after a mark.
    fn watch(&self, client: usize, mark: u64) -> impl Future<Output = Option<Response<Incoming>>> + Send;
}

/// A running cluster.
pub trait Side {
    /// Its clients.
    type Clients: Clients;

    /// What it is called in a table.
    const NAME: &'static str;

    /// How many members it has.
    fn size(&self) -> usize;

    /// The member that leads; waits until one does.
    fn leader(&self) -> usize;

    /// Kills a member.
    fn kill(&mut self, number: usize);

    /// Starts a member again; does not wait.
    fn start(&mut self, number: usize);

    /// Resident memory of a member, in bytes.
    fn rss(&self, number: usize) -> u64;

    /// Bytes of a member's files.
    fn disk(&self, number: usize) -> u64;

    /// Connections to these members in turn.
    fn clients(
        &self,
        at: &[usize],
        connections: usize,
        size: usize,
    ) -> impl Future<Output = Arc<Self::Clients>>;

    /// Whether a member answers clients, by itself.
    fn answers(&self, number: usize) -> impl Future<Output = bool>;
}

impl Clients for ApiClients {
    async fn mark(&self, number: u64) -> Option<u64> {
        self.write_at(number).await
    }

    async fn watch(&self, client: usize, mark: u64) -> Option<Response<Incoming>> {
        ApiClients::watch(self, client, mark).await
    }
}

impl Clients for EtcdClients {
    async fn mark(&self, number: u64) -> Option<u64> {
        self.write(0, number).await.then_some(0)
    }

    async fn watch(&self, client: usize, _mark: u64) -> Option<Response<Incoming>> {
        EtcdClients::watch(self, client).await
    }
}

impl Side for Ours {
    type Clients = ApiClients;
    const NAME: &'static str = "ours";

    fn size(&self) -> usize {
        self.nodes.len()
    }

    fn leader(&self) -> usize {
        Ours::leader(self)
    }

    fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    fn start(&mut self, number: usize) {
        self.nodes[number].spawn();
    }

    fn rss(&self, number: usize) -> u64 {
        self.nodes[number].pid().map_or(0, process::rss)
    }

    fn disk(&self, number: usize) -> u64 {
        // Space set aside for a full disk says nothing about the objects.
        let ballast = self.nodes[number].data_dir().join("store/ballast");
        let ballast = std::fs::metadata(ballast).map_or(0, |file| file.len());
        process::disk(&self.nodes[number].data_dir()).saturating_sub(ballast)
    }

    async fn clients(&self, at: &[usize], connections: usize, size: usize) -> Arc<ApiClients> {
        let addresses: Vec<SocketAddr> = at.iter().map(|number| self.address(*number)).collect();
        Arc::new(ApiClients::open_at(&self.credentials(), &addresses, connections, size).await)
    }

    async fn answers(&self, number: usize) -> bool {
        let Some(connection) =
            Connection::try_open(self.address(number), "localhost", &self.credentials()).await
        else {
            return false;
        };
        ApiClients::answers(&connection).await
    }
}

impl Side for Etcd {
    type Clients = EtcdClients;
    const NAME: &'static str = "etcd";

    fn size(&self) -> usize {
        Etcd::size(self)
    }

    fn leader(&self) -> usize {
        Etcd::leader(self)
    }

    fn kill(&mut self, number: usize) {
        Etcd::kill(self, number);
    }

    fn start(&mut self, number: usize) {
        self.run(number);
    }

    fn rss(&self, number: usize) -> u64 {
        self.pid(number).map_or(0, process::rss)
    }

    fn disk(&self, number: usize) -> u64 {
        process::disk(Path::new(&self.data_dir(number)))
    }

    async fn clients(&self, at: &[usize], connections: usize, size: usize) -> Arc<EtcdClients> {
        Arc::new(Etcd::connect(self, at, connections, size).await)
    }

    async fn answers(&self, number: usize) -> bool {
        let credentials = super::h2::Credentials::new(self.ca(), None);
        match Connection::try_open(self.address(number), "localhost", &credentials).await {
            Some(connection) => EtcdClients::answers(&connection).await,
            None => false,
        }
    }
}
