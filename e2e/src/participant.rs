//! A branch of global transactions: an HTTP service that answers as it is told and remembers what it was
//! asked, in order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET` or `POST`.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query string, as it came.
    pub query: String,
    /// Header lines, in lower case.
    pub headers: String,
    /// The body.
    pub body: String,
    /// When it had been read.
    pub at: Instant,
}

impl Asked {
    /// Values of the header fields of this name (in lower case), in order.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| *field == name).map(|(_, value)| value.trim()).collect()
    }

    /// A parameter of the query, as it came; empty if there is none.
    #[must_use]
    pub fn parameter(&self, name: &str) -> &str {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

type Answer = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

/// A service that runs until the process ends.
#[derive(Clone)]
pub struct Participant {
    base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Participant {
    /// Starts one; `answer` gives status and body of each answer.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let base = format!("http://{}", listener.local_addr()?);
        let participant = Self { base, asked: Arc::default() };
        let (asked, answer) = (Arc::clone(&participant.asked), Arc::new(answer) as Arc<Answer>);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                std::thread::spawn(move || {
                    if let Err(error) = serve(&stream, &asked, answer.as_ref()) {
                        eprintln!("participant: {error:#}");
                    }
                });
            }
        });
        Ok(participant)
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// What it was asked so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Paths of what it was asked, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }

    /// What it was asked of one transaction, in order: for services that several tests share.
    #[must_use]
    pub fn asked_of(&self, gid: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.parameter("gid") == gid).collect()
    }
}

/// Answers all requests of one connection.
fn serve(stream: &TcpStream, all: &Mutex<Vec<Asked>>, answer: &Answer) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader)? {
        all.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        let (status, body) = answer(&asked);
        let length = body.len();
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
        let mut stream = stream;
        stream.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// The next request; `None` when the connection ends.
fn read(reader: &mut BufReader<&TcpStream>) -> Result<Option<Asked>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut words = first.split(' ');
    let method = words.next().context("a method")?.to_owned();
    let target = words.next().context("a path")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        headers.push_str(&line.to_lowercase());
    }
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(Ok(0), |text| text.trim().parse())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Asked { method, path, query, headers, body, at: Instant::now() }))
}
