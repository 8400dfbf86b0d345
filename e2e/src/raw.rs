//! gRPC calls with hand-made bytes: what no generated client can send.

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::limits::REQUEST;

/// A connection for raw calls.
#[derive(Clone, Debug)]
pub struct Raw {
    channel: Channel,
}

impl Raw {
    /// Connects to `http://host:port`.
    ///
    /// # Errors
    /// If nobody listens.
    pub async fn connect(url: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.timeout(REQUEST);
        let channel = endpoint.connect().await.with_context(|| url.to_owned())?;
        Ok(Self { channel })
    }

    /// One unary call; `path` is `/package.Service/Method`, `body` the encoded request.
    ///
    /// # Errors
    /// What the server answered instead of a message.
    pub async fn call(
        &self,
        path: &'static str,
        body: &[u8],
        metadata: &[(&'static str, &'static str)],
    ) -> Result<Bytes, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(Bytes::copy_from_slice(body));
        for &(name, value) in metadata {
            request.metadata_mut().insert(name, MetadataValue::from_static(value));
        }
        let path = PathAndQuery::from_static(path);
        grpc.unary(request, path, Opaque).await.map(tonic::Response::into_inner)
    }
}

/// A codec that leaves bytes alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opaque;

impl Codec for Opaque {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Opaque {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Opaque {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
