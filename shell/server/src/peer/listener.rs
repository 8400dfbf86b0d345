//! Connections from other nodes.

use std::io;
use std::sync::Arc;

use quorate_consensus::Witness;
use quorate_consensus::codec::{decode_message, encode_membership};
use quorate_node::{Input, initial_membership};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Switchboard;
use super::frame::{self, Frames};
use super::handshake::{self, Hello, Kind, Verdict, bad};
use super::memory::Objection;
use super::papers::Papers;
use super::snapshot::Receiver;
use crate::limits::MAX_PEER_CONNECTIONS;

/// Accepts connections until the runtime ends.
pub async fn serve(listener: TcpListener, board: Arc<Switchboard>, snapshots: Arc<Receiver>) {
    let connections = Arc::new(Semaphore::new(MAX_PEER_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a peer");
                tokio::time::sleep(crate::limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (board, snapshots) = (Arc::clone(&board), Arc::clone(&snapshots));
        tokio::spawn(async move {
            if let Err(error) = connection(stream, &board, &snapshots).await {
                tracing::debug!(%error, "a connection of a peer ended");
            }
            drop(permit);
        });
    }
}

async fn connection(
    mut stream: TcpStream,
    board: &Arc<Switchboard>,
    snapshots: &Receiver,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let hello = handshake::read_hello(&mut stream).await?;
    let (verdict, papers) = judge(board, &hello);
    handshake::answer(&mut stream, board.local(), verdict, papers).await?;
    if verdict != Verdict::Welcome {
        tracing::warn!(from = format!("{:x}", hello.from.node.0), ?verdict, "refused a connection");
        if verdict == Verdict::NotAMember {
            board.ask_about(hello.from.node);
        }
        return Ok(());
    }
    if hello.kind == Kind::Question {
        return describe(stream, board).await;
    }
    board.met(hello.from.node);
    board.memory().first_round().await;
    match hello.kind {
        Kind::Snapshot => snapshots.receive(stream).await,
        _ => messages(stream, board, &hello).await,
    }
}

/// Whether to listen, and what is shown in return: to strangers nothing.
fn judge(board: &Switchboard, hello: &Hello) -> (Verdict, Papers) {
    let (local, from) = (board.local(), hello.from);
    let stranger = |verdict| (verdict, Papers::default());
    if hello.kind == Kind::Question {
        return stranger(Verdict::Welcome);
    }
    if from.cluster != local.identity.cluster {
        return stranger(Verdict::OtherCluster);
    }
    if hello.to != local.identity.node {
        return stranger(Verdict::OtherNode);
    }
    if !board.knows(from.node) {
        return stranger(Verdict::NotAMember);
    }
    let mine = board.memory().papers(from.node);
    let met = board.memory().meet(from.node, hello.kind, &mine, &hello.papers);
    (met.map_or_else(Objection::verdict, |()| Verdict::Welcome), mine)
}

async fn messages(stream: TcpStream, board: &Switchboard, hello: &Hello) -> io::Result<()> {
    let (from, to) = (hello.from.node, hello.to);
    let mut frames = Frames::new(stream);
    let mut seen = Witness::default();
    while let Some(content) = frames.next().await? {
        let bytes = content.len();
        let message = decode_message(content).map_err(|error| bad(&error.to_string()))?;
        if message.group != crate::GROUP {
            continue;
        }
        let promise = seen.and(Witness::of_message(from, to, &message));
        if promise != seen {
            seen = promise;
            board.memory().saw(from, seen);
        }
        let group = message.group;
        board.inbox.message(Input::Message { from, group, message }, bytes);
    }
    Ok(())
}

/// Tells a node that wants to join who the members are.
async fn describe(mut stream: TcpStream, board: &Switchboard) -> io::Result<()> {
    let membership = initial_membership(&board.members());
    let mut answer = Vec::new();
    frame::put(&mut answer, |out| encode_membership(&membership, out));
    stream.write_all(&answer).await?;
    stream.shutdown().await
}
