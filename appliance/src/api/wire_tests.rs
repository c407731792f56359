//! Tests of what only a connection shows: heads that do not wait for bodies, events that do not wait for each other,
//! bodies that are cut off. Over a pipe in memory, with the same server code as the listeners, in both versions of HTTP.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::harness::{Harness, endpoint};

/// Bytes the pipe holds; small, so that nothing gets by on buffering alone.
const PIPE_BYTES: usize = 4 * 1024;

/// Opens a connection.
fn connect(api: &Harness) -> DuplexStream {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    let (api, caller) = (api.api.clone(), api.caller().clone());
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let (api, caller) = (api.clone(), caller.clone());
            async move { Ok::<_, Infallible>(api.respond(caller, request).await) }
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(server), service).await;
    });
    client
}

/// Sends one request through a connection of its own.
async fn send(api: &Harness, version: Version, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let client = TokioIo::new(connect(api));
    if version == Version::HTTP_2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), client).await.expect("a connection");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(client).await.expect("a connection");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    }
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri = format!("http://appliance/apis/projectcalico.org/v3/{path}");
    Request::builder().method(method).uri(uri).body(Full::new(body.into())).expect("a request")
}

async fn data(response: &mut Response<Incoming>) -> String {
    let frame = response.frame().await.expect("a frame").expect("is whole");
    String::from_utf8_lossy(frame.data_ref().expect("data")).into_owned()
}

#[tokio::test]
async fn a_watch_has_its_head_at_once_and_each_event_as_it_happens() {
    let api = Harness::start().await;
    for (version, name) in [(Version::HTTP_11, "one"), (Version::HTTP_2, "two")] {
        let now = api.get("hostendpoints").await.version();
        let path = format!("hostendpoints?watch=1&resourceVersion={now}");
        // Nothing has happened and nothing will until the head is here.
        let mut watch = send(&api, version, request("GET", &path, "")).await;
        assert_eq!(watch.status(), 200);
        for step in ["first", "second"] {
            let name = format!("{name}-{step}");
            api.post("hostendpoints", endpoint(&name)).await;
            let event = data(&mut watch).await;
            assert!(event.contains("ADDED") && event.contains(&name), "{event}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_a_large_list_arrives_whole() {
    let api = Harness::start().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let body = vec![b' '; super::body::BODY_BYTES_MAX + 1];
        assert_eq!(send(&api, version, request("POST", "tiers", body)).await.status(), 413);
    }
    for index in 0..50 {
        api.post("hostendpoints", endpoint(&format!("e{index}"))).await;
    }
    let list = send(&api, Version::HTTP_2, request("GET", "hostendpoints", "")).await;
    let bytes = list.into_body().collect().await.expect("is whole").to_bytes();
    assert_eq!(bytes, api.get("hostendpoints").await.body);
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_listens_is_told_why_not() {
    let api = Harness::start().await;
    for (path, length, code) in [
        ("/apis/projectcalico.org/v3/tiers", 3 * super::body::BODY_BYTES_MAX, "413"),
        ("/version", 64 * 1024, "405"),
        ("/nowhere", 64 * 1024, "404"),
    ] {
        let mut client = connect(&api);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.expect("the head is read");
        client.write_all(&vec![b' '; length]).await.expect("the body is read to its end");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_watch() {
    let api = Harness::start().await;
    let watch = send(&api, Version::HTTP_11, request("GET", "hostendpoints?watch=1", "")).await;
    assert_eq!(api.load.watches(), 1);
    drop(watch);
    let ended = async {
        while api.load.watches() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("the watch ends");
}
