//! Bodies, in and out: a request's body read up to a limit, and the two kinds of body we answer with.

use std::convert::Infallible;
use std::pin::Pin;
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

/// As much of a stranger's body is read only to be thrown away: an answer before the end of a small body breaks the
/// request for some clients, who then never see the answer. Larger ones are cut off.
const DISCARD_BYTES_MAX: usize = 16 * 1024;

/// No stranger holds a connection longer with a body that nobody wants.
const DISCARD_PATIENCE: Duration = Duration::from_secs(1);

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
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
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
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(ReadBodyError::TooLarge);
    }
    let whole = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_PATIENCE, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ReadBodyError::TooLarge),
        Ok(Err(error)) => Err(ReadBodyError::Broken(error.to_string())),
        Err(_) => Err(ReadBodyError::TooSlow),
    }
}

/// Reads a small body and forgets it, for an answer that does not depend on it.
pub(crate) async fn discard<B>(body: B)
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = Limited::new(body, DISCARD_BYTES_MAX).collect();
    // Too long, too slow or broken: the answer is the same.
    let _ = tokio::time::timeout(DISCARD_PATIENCE, whole).await;
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_to_its_limit_and_not_beyond() {
        let fits = vec![b'x'; BODY_BYTES_MAX];
        assert_eq!(read(Full::from(fits.clone())).await.map(|bytes| bytes.len()), Ok(BODY_BYTES_MAX));
        let mut over = fits;
        over.push(b'x');
        assert_eq!(read(Full::from(over)).await, Err(ReadBodyError::TooLarge));
    }

    #[tokio::test]
    async fn a_body_of_unannounced_length_is_cut_off_too() {
        let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 1024 * 1024])));
        let endless = StreamBody::new(futures_util::stream::repeat_with(chunk));
        assert_eq!(read(endless).await, Err(ReadBodyError::TooLarge));
    }
}
