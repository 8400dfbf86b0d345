//! A request's body, complete: bounded in size, and in the time that it may take to come.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;

use super::answer::Problem;
use super::lenient::Unreadable;

/// A client that takes longer is told so; nothing has been done for it.
pub(super) use crate::limits::BODY_TIME;

/// Reads all of it.
///
/// # Errors
/// `TooLarge`, `TooSlow`, or it broke off.
pub(super) async fn whole<B>(body: B, most: usize, within: Duration) -> Result<Bytes, Problem>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Ok(read) = tokio::time::timeout(within, Limited::new(body, most).collect()).await else {
        return Err(Problem::TooSlow(within));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::TooLarge(most)),
        Err(error) => Err(Unreadable(format!("the body broke off: {error}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn bodies_are_bounded_in_size_and_time() {
        let full = || Full::new(Bytes::from_static(b"12345"));
        assert_eq!(whole(full(), 5, SOON).await, Ok(Bytes::from_static(b"12345")));
        assert_eq!(whole(full(), 4, SOON).await, Err(Problem::TooLarge(4)));
        let first = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"{")));
        let stuck = StreamBody::new(stream::once(async { first }).chain(stream::pending()));
        assert_eq!(whole(stuck, 5, SOON).await, Err(Problem::TooSlow(SOON)));
        let broken = Err::<Frame<Bytes>, _>(std::io::Error::other("reset"));
        let broken = whole(StreamBody::new(stream::iter([broken])), 5, SOON).await;
        assert!(matches!(broken, Err(Problem::Unreadable(_))), "{broken:?}");
    }
}
