//! A branch of XA transactions: the action's local transaction, and its second phase.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Verdict, XaCall, XaDatabase, Xid};
use crate::barrier::{BarrierTable, Row, TableName};
use crate::branch::{BranchError, Done};
use crate::coordinator::Coordinator;
use crate::error::Error;

/// How long a statement waits for a lock if nothing else is said.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How often the second phase looks whether the session that prepared has gone, and the pause between.
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// A branch over a database. Cheap to clone.
///
/// Each action, and each rollback, has a connection of its own beside the pool, opened and closed for it. There are
/// as many of them at once as the pool may have: give the database room for twice that number.
#[derive(Debug)]
pub struct XaBranch<D: XaDatabase> {
    pool: Pool<D>,
    own: Arc<Semaphore>,
    coordinator: Coordinator,
    table: TableName,
    lock_wait: Duration,
}

impl<D: XaDatabase> Clone for XaBranch<D> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            own: Arc::clone(&self.own),
            coordinator: self.coordinator.clone(),
            table: self.table.clone(),
            lock_wait: self.lock_wait,
        }
    }
}

impl<D: XaDatabase> XaBranch<D> {
    /// A branch over this database, in which the barrier table must exist, registering at `coordinator`.
    #[must_use]
    pub fn new(pool: Pool<D>, coordinator: &Coordinator) -> Self {
        let coordinator = coordinator.clone();
        let own = Arc::new(Semaphore::new(pool.options().get_max_connections() as usize));
        Self { pool, own, coordinator, table: TableName::default(), lock_wait: LOCK_WAIT }
    }

    /// With another barrier table.
    #[must_use]
    pub fn table(self, table: TableName) -> Self {
        Self { table, ..self }
    }

    /// No statement of an action waits for a lock longer than this; at least 1 s, 2 s if nothing is said. It has to
    /// be shorter than the time that a call may take.
    #[must_use]
    pub fn lock_wait(self, lock_wait: Duration) -> Self {
        Self { lock_wait, ..self }
    }

    pub(super) fn pool(&self) -> &Pool<D> {
        &self.pool
    }

    pub(super) fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// Begins the action's local transaction and registers the branch; `None` if the action has been carried out
    /// before: then answer success.
    ///
    /// # Errors
    /// `Failure` if the transaction has been rolled back, or takes no more branches. `Ongoing` while the same
    /// action is at work. Nothing is changed then, nor after the other errors.
    pub async fn begin(&self, call: &XaCall) -> Result<Option<XaLocal<D>>, BranchError> {
        let xid = Xid::new(&call.step.gid, &call.step.branch_id)?;
        let (Some(url), "action") = (&call.phase2_url, call.step.op.as_str()) else {
            let why = "an action's call must carry 'phase2_url'".to_owned();
            return Err(Error::Malformed(why).into());
        };
        let (mut connection, permit) = self.open().await?;
        if !D::start(&mut connection, &xid).await? {
            return match is_prepared::<D>(&mut connection, &xid).await? {
                true => Ok(None),
                false => Err(BranchError::Ongoing(format!("{xid} is at work"))),
            };
        }
        let mut table = D::table(&mut connection, &self.table);
        if !table.claim(mark(&xid, "action")).await? {
            let reason = table.reason(mark(&xid, "action")).await?;
            return match reason.as_deref() {
                Some("action") => Ok(None),
                _ => Err(BranchError::Failure(format!("{xid} has been rolled back"))),
            };
        }
        drop(table);
        self.register(&xid, url).await?;
        Ok(Some(XaLocal { connection, xid, _permit: permit }))
    }

    async fn register(&self, xid: &Xid, url: &str) -> Result<(), BranchError> {
        let fields = [
            ("gid", xid.gid()),
            ("trans_type", "xa"),
            ("branch_id", xid.branch_id()),
            ("data", ""),
            ("url", url),
        ];
        let body = fields.map(|(name, value)| (name.to_owned(), Value::from(value)));
        match self.coordinator.register_branch(&body.into_iter().collect()).await {
            Err(Error::Refused(why)) => Err(BranchError::Failure(why)),
            result => Ok(result?),
        }
    }

    /// Carries out the second phase that the coordinator asks for.
    ///
    /// # Errors
    /// `Ongoing` while the session that prepared has not gone. `Failure` if there is nothing to be committed and
    /// never was, or if what is to be rolled back has been committed: a person must look.
    pub async fn finish(&self, call: &XaCall) -> Result<Done, BranchError> {
        let xid = Xid::new(&call.step.gid, &call.step.branch_id)?;
        match call.step.op.as_str() {
            "commit" => self.commit(&xid).await,
            "rollback" => self.roll_back(&xid).await,
            op => Err(Error::Malformed(format!("'{op}' is no operation of XA")).into()),
        }
    }

    pub(super) async fn commit(&self, xid: &Xid) -> Result<Done, BranchError> {
        let mut connection = self.pool.acquire().await?;
        if end::<D>(&mut connection, Verdict::Commit, xid).await? {
            return Ok(Done);
        }
        let reason = D::table(&mut connection, &self.table).reason(mark(xid, "action")).await?;
        match reason.as_deref() {
            Some("action") => Ok(Done),
            _ => Err(BranchError::Failure(format!("{xid} was never prepared: nothing to commit"))),
        }
    }

    pub(super) async fn roll_back(&self, xid: &Xid) -> Result<Done, BranchError> {
        let (mut connection, _permit) = self.open().await?;
        end::<D>(&mut connection, Verdict::Rollback, xid).await?;
        // What comes later must find the row. While an action holds it, this waits, and fails if that takes
        // too long: by the next call the action has been prepared or is gone.
        let mut table = D::table(&mut connection, &self.table);
        let mark = mark(xid, "rollback");
        let claimed = table.claim(mark).await?;
        let reason = if claimed { None } else { table.reason(mark).await? };
        drop(table);
        let _gone = connection.close().await;
        match reason.as_deref() {
            Some("action") => Err(BranchError::Failure(format!("{xid} has been committed"))),
            _ => Ok(Done),
        }
    }

    /// A connection of its own, which waits for no lock longer than it should; within the time that the pool has
    /// for one of its own.
    async fn open(&self) -> Result<(D::Connection, OwnedSemaphorePermit), Error> {
        let open = async {
            let permit = Arc::clone(&self.own).acquire_owned().await;
            let permit = permit.expect("nobody closes it");
            let mut connection = D::Connection::connect_with(&self.pool.connect_options()).await?;
            D::bound_waiting(&mut connection, self.lock_wait).await?;
            Ok((connection, permit))
        };
        let limit = self.pool.options().get_acquire_timeout();
        let opened = tokio::time::timeout(limit, open).await;
        opened.unwrap_or(Err(Error::Database(sqlx::Error::PoolTimedOut)))
    }
}

/// The row that an action leaves, and a rollback in its place.
fn mark<'a>(xid: &'a Xid, reason: &'a str) -> Row<'a> {
    Row {
        trans_type: "xa",
        gid: xid.gid(),
        branch_id: xid.branch_id(),
        op: "action",
        barrier_id: "01",
        reason,
    }
}

/// Ends what is prepared; false if nothing is.
async fn end<D: XaDatabase>(
    connection: &mut D::Connection,
    verdict: Verdict,
    xid: &Xid,
) -> Result<bool, BranchError> {
    for _ in 0..LOOKS {
        if D::end(connection, verdict, xid).await? {
            return Ok(true);
        }
        if !is_prepared::<D>(connection, xid).await? {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(BranchError::Ongoing(format!("{xid} still belongs to the session that prepared it")))
}

async fn is_prepared<D: XaDatabase>(
    connection: &mut D::Connection,
    xid: &Xid,
) -> Result<bool, Error> {
    let name = xid.to_string();
    Ok(D::prepared(connection).await?.iter().any(|prepared| prepared.name == name))
}

/// The local transaction of an action. Dropping it without [`Self::prepare`] rolls it back.
#[derive(Debug)]
pub struct XaLocal<D: XaDatabase> {
    connection: D::Connection,
    xid: Xid,
    _permit: OwnedSemaphorePermit,
}

impl<D: XaDatabase> XaLocal<D> {
    /// For the action's statements. Begin, commit and roll back nothing here.
    pub fn connection(&mut self) -> &mut D::Connection {
        &mut self.connection
    }

    /// Keeps the work ready for the second phase.
    ///
    /// # Errors
    /// `Database`: it may be ready or not; the transaction must be aborted, or this action called again.
    pub async fn prepare(mut self) -> Result<Done, BranchError> {
        D::prepare(&mut self.connection, &self.xid).await?;
        let _gone = self.connection.close().await;
        Ok(Done)
    }
}
