//! Ctrl-C and its kin: the first one ends a demo early, with its table; the second one at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Fatal;
use crate::terminal::complain;

/// How often somebody has asked for the end.
pub(super) struct Stop {
    asked: watch::Receiver<u32>,
}

impl Stop {
    /// Listens to SIGINT, SIGTERM and SIGHUP from now on, until the runtime ends.
    pub(super) fn new() -> Result<Self, Fatal> {
        let failed = |error| Fatal::Runtime(format!("cannot take signals: {error}"));
        let listen = |kind| signal(kind).map_err(failed);
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let (ask, asked) = watch::channel(0);
        tokio::spawn(async move {
            while !ask.is_closed() {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
                if *ask.borrow() == 0 {
                    complain("\nending: what is under way is awaited; Ctrl-C again ends at once");
                }
                ask.send_modify(|times| *times += 1);
            }
        });
        Ok(Self { asked })
    }

    /// Whether nothing new is to be begun.
    pub(super) fn is_asked(&self) -> bool {
        *self.asked.borrow() > 0
    }

    /// Waits for the second one.
    pub(super) async fn at_once(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|times| *times > 1).await.is_err() {
            // Nobody listens any more: nobody can ask.
            std::future::pending().await
        }
    }
}
