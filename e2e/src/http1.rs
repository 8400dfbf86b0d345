//! The smallest HTTP/1.1 client: one request, one answer, the connection closed.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result};

use crate::limits::COMMAND;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines as sent, without the status line.
    pub headers: String,
    /// Body; chunks are not joined.
    pub body: String,
}

/// Sends `METHOD path` with no body to `host:port`.
///
/// # Errors
/// If the server does not answer in HTTP.
pub fn request(endpoint: &str, method: &str, path: &str) -> Result<Answer> {
    send(endpoint, method, path, "")
}

/// As [`request`], with a body of JSON (or of something that is not).
///
/// # Errors
/// If the server does not answer in HTTP.
pub fn send(endpoint: &str, method: &str, path: &str, body: &str) -> Result<Answer> {
    let headers = format!("Host: {endpoint}\r\nContent-Type: application/json\r\n");
    send_as(endpoint, method, path, &headers, body)
}

/// As [`send`], with these header lines, each with its line end, instead of those for host and type.
///
/// # Errors
/// If the server does not answer in HTTP.
pub fn send_as(
    endpoint: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<Answer> {
    let mut stream = TcpStream::connect(endpoint)?;
    stream.set_read_timeout(Some(COMMAND))?;
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the headers")?;
    let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer { status, headers: headers.to_owned(), body: body.to_owned() })
}
