//! A node over TLS: what a kubeconfig proves, and what the operator reads when it proves nothing.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use super::*;

/// A cluster's authority, and what it signed for its node.
pub(super) struct Authority {
    pem: String,
    pub(super) server: ServerConfig,
}

pub(super) fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);

    let key = KeyPair::generate().unwrap();
    let names = vec!["appliance".to_string(), "127.0.0.1".to_string()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let chain: Vec<CertificateDer> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let builder = ServerConfig::builder_with_provider(ring::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let server = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    Authority { pem, server }
}

/// A kubeconfig for the port, trusting this authority.
pub(super) fn kubeconfig(
    folder: &tempfile::TempDir,
    name: &str,
    port: u16,
    authority: &Authority,
    extra: &str,
) -> String {
    let ca = base64::engine::general_purpose::STANDARD.encode(&authority.pem);
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: appliance\n\
         clusters: [{{name: appliance, cluster: {{server: \"https://127.0.0.1:{port}\", \
         certificate-authority-data: {ca}{extra}}}}}]\n\
         users: [{{name: admin, user: {{token: secret}}}}]\n\
         contexts: [{{name: appliance, context: {{cluster: appliance, user: admin}}}}]\n"
    );
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_kubeconfig_reaches_its_cluster_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(), authority());
    let (api, port) = FakeApi::listen_tls(ours.server.clone());

    let own = kubeconfig(&folder, "own", port, &ours, "");
    let created = seen(0, "Successfully created 1 'HostEndpoint' resource(s)\n", "");
    assert_eq!(ctl(&["calicoctl", "create", "-f", "-", "--kubeconfig", &own], HEP1), created);
    assert_eq!(api.state().authorization.as_deref(), Some("Bearer secret"));
    let by_name = kubeconfig(&folder, "name", port, &ours, ", tls-server-name: appliance");
    assert_eq!(ctl(&["calicoctl", "get", "hep", "--kubeconfig", &by_name], "").status, 0);
    let server = format!("https://127.0.0.1:1,https://127.0.0.1:{port}");
    let second = ctl(&["calicoctl", "get", "hep", "--kubeconfig", &own, "--server", &server], "");
    assert_eq!(second.status, 0, "the second address answers: {second:?}");

    let foreign = kubeconfig(&folder, "foreign", port, &other, "");
    let failed = ctl(&["calicoctl", "get", "hep", "--kubeconfig", &foreign], "");
    assert_eq!((failed.status, failed.out.as_str()), (1, ""));
    assert!(failed.err.contains("not signed by the CA in use"), "{failed:?}");
    let misnamed = kubeconfig(&folder, "misnamed", port, &ours, ", tls-server-name: elsewhere");
    let failed = ctl(&["calicoctl", "get", "hep", "--kubeconfig", &misnamed], "");
    assert!(failed.status == 1 && failed.err.contains("not for the name it was asked by"), "{failed:?}");
    let nobody =
        ctl(&["calicoctl", "get", "hep", "--kubeconfig", &own, "--server", "https://127.0.0.1:1"], "");
    assert!(nobody.status == 1 && nobody.err.contains("can not connect to 127.0.0.1:1"), "{nobody:?}");
}
