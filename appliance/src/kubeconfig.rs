//! The kubeconfig of an administrator, as text. Pure; `server` writes it to `<data-dir>/admin.kubeconfig`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::authority::{COMMON_SERVER_NAME, Pem};

/// A kubeconfig that kubectl 1.20 and later take as it is. `tls-server-name` lets the server's address be changed by
/// hand, to a tunnel or a load balancer, without the certificate knowing of it.
pub(crate) fn render(server: &str, authority: &str, user: &str, client: &Pem) -> String {
    let authority = STANDARD.encode(authority);
    let certificate = STANDARD.encode(&client.certificate);
    let key = STANDARD.encode(&client.key);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters: [{{name: appliance, cluster: {{server: \"{server}\", certificate-authority-data: {authority}, \
         tls-server-name: {COMMON_SERVER_NAME}}}}}]\n\
         users: [{{name: {user}, user: {{client-certificate-data: {certificate}, client-key-data: {key}}}}}]\n\
         contexts: [{{name: appliance, context: {{cluster: appliance, user: {user}, namespace: default}}}}]\n\
         current-context: appliance\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_yaml_kubectl_expects() {
        let client = Pem { certificate: "CERT".to_owned(), key: "KEY".to_owned() };
        let text = render("https://[fd00::1]:6443", "CA", "admin", &client);
        let value: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");

        assert_eq!(
            value,
            serde_json::json!({
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "appliance", "cluster": {
                    "server": "https://[fd00::1]:6443",
                    "certificate-authority-data": "Q0E=",
                    "tls-server-name": "appliance",
                }}],
                "users": [{"name": "admin", "user": {
                    "client-certificate-data": "Q0VSVA==",
                    "client-key-data": "S0VZ",
                }}],
                "contexts": [{"name": "appliance", "context": {
                    "cluster": "appliance", "user": "admin", "namespace": "default",
                }}],
                "current-context": "appliance",
            })
        );
    }
}
