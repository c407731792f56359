//! Bodies, in and out: a request's body read up to a limit, and the two kinds of body we answer with.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, SizeHint};

/// A larger body is no resource of ours; Kubernetes draws the line here too.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A body that takes longer is not going to come whole; meanwhile it holds a connection.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// How much of a body that nobody wants is read only to be thrown away. An answer before the end of a body breaks the
/// request for many clients, who then never see the answer; what is longer than this is cut off all the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Courtesy {
    bytes: usize,
    patience: Duration,
}

impl Courtesy {
    /// Enough for the few words of a client that forgot its credentials; no stranger holds a connection longer.
    pub(crate) const STRANGER: Courtesy = Courtesy { bytes: 16 * 1024, patience: Duration::from_secs(1) };
    /// Enough for the largest document `ctl` sends, so that whoever sends it is told that it is too large.
    pub(crate) const USER: Courtesy = Courtesy { bytes: 16 * 1024 * 1024, patience: Duration::from_secs(10) };
}

/// What we answer with: something whole, or the events of a watch as they come.
pub(crate) enum ApiBody {
    Whole(Bytes),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            ApiBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            ApiBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ApiBody::Stream(events) => {
                events.as_mut().poll_next(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ApiBody::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ApiBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ApiBody::Stream(_) => SizeHint::default(),
        }
    }
}

/// Why a body was not read.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum ReadBodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body ended early: {0}")]
    Broken(String),
    #[error("the body did not arrive within {} seconds", BODY_PATIENCE.as_secs())]
    TooSlow,
}

/// Reads a whole body. A length that is announced too large is refused before a byte of it is read.
pub(crate) async fn read<B>(body: B) -> Result<Bytes, ReadBodyError>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    read_up_to(body, BODY_BYTES_MAX).await
}

/// The same with another limit.
pub(crate) async fn read_up_to<B>(body: B, limit: usize) -> Result<Bytes, ReadBodyError>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadBodyError::TooLarge { limit });
    }
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout(BODY_PATIENCE, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ReadBodyError::TooLarge { limit }),
        Ok(Err(error)) => Err(ReadBodyError::Broken(error.to_string())),
        Err(_) => Err(ReadBodyError::TooSlow),
    }
}

/// Reads what is left of a body and forgets it, for an answer that does not depend on it.
pub(crate) async fn discard<B>(body: B, courtesy: Courtesy)
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return;
    }
    let mut body = pin!(body);
    let forget = async {
        let mut left = courtesy.bytes;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Too long, too slow or broken: the answer is the same.
    let _ = tokio::time::timeout(courtesy.patience, forget).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::StreamExt;
    use http_body_util::{Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_to_its_limit_and_not_beyond() {
        let fits = vec![b'x'; BODY_BYTES_MAX];
        assert_eq!(read(Full::from(fits.clone())).await.map(|bytes| bytes.len()), Ok(BODY_BYTES_MAX));
        let mut over = fits;
        over.push(b'x');
        assert_eq!(read(Full::from(over)).await, Err(ReadBodyError::TooLarge { limit: BODY_BYTES_MAX }));
    }

    #[tokio::test]
    async fn a_body_of_unannounced_length_is_cut_off_too() {
        let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 1024 * 1024])));
        let endless = StreamBody::new(futures_util::stream::repeat_with(chunk));
        assert_eq!(read(endless).await, Err(ReadBodyError::TooLarge { limit: BODY_BYTES_MAX }));
    }

    #[tokio::test]
    async fn what_nobody_wants_is_read_as_far_as_courtesy_goes() {
        let sent = AtomicUsize::new(0);
        let chunk = || {
            sent.fetch_add(1024, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; 1024])))
        };
        let body = |chunks| StreamBody::new(futures_util::stream::repeat_with(chunk).take(chunks));
        discard(body(16), Courtesy::STRANGER).await;
        assert_eq!(sent.swap(0, Ordering::Relaxed), 16 * 1024);
        discard(body(1_000), Courtesy::STRANGER).await;
        assert_eq!(sent.swap(0, Ordering::Relaxed), 17 * 1024);
        discard(body(1_000), Courtesy::USER).await;
        assert_eq!(sent.load(Ordering::Relaxed), 1_000 * 1024);
    }
}
