//! Opening a data directory: the lock, the log, the engine, and every reason to refuse.
//!
//! The log decides: it says whose the data is, which generation of the engine is in force and whether
//! the engine may be empty. Nothing is changed before the lock is held and nothing is guessed after.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_consensus::{Entry, LogIndex, Payload, Recovered, Seq, first_entries};
use quorate_engine::EngineError;
use quorate_kv::Kv;
use quorate_node::{MemberInfo, infos, initial_membership};
use quorate_storage::{
    DirectoryLock, DiskEngine, EngineOptions, FileDisk, LockError, engine_dir,
    remove_other_generations,
};
use quorate_wal::{Identity, Record, RecoveryError, Writer};

use crate::GROUP;
use crate::config::{ClusterState, Config};
use crate::exit::Fatal;
use crate::identity;

/// Directory of the log within the data directory.
pub const WAL_DIR: &str = "wal";

/// File with the number of the directory, in hexadecimal.
pub const NUMBER_FILE: &str = "directory-id";

/// A data directory that this process alone uses.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    disk: Arc<FileDisk>,
    _lock: DirectoryLock,
}

/// Everything that a node starts from.
pub struct Opened {
    /// Whose data it is.
    pub identity: Identity,
    /// The log's machine's start.
    pub recovered: Recovered,
    /// Generation of the engine in force.
    pub generation: u64,
    /// The state machine.
    pub kv: Kv,
    /// The engine.
    pub engine: DiskEngine,
    /// How further generations are opened.
    pub engine_options: EngineOptions,
    /// The log's writer; what was recovered is durable.
    pub writer: Writer,
    /// The members, as the end of the log has them.
    pub members: Vec<MemberInfo>,
}

impl DataDir {
    /// Creates the directory if need be, and takes its lock.
    ///
    /// # Errors
    /// `Runtime`: it cannot be created or written, or another process has it.
    pub fn take(root: &Path) -> Result<Self, Fatal> {
        std::fs::create_dir_all(root)
            .map_err(|error| runtime(root, &format!("cannot be created: {error}")))?;
        let lock = DirectoryLock::acquire(root).map_err(|error| match error {
            LockError::Held(_) => runtime(root, "is in use by another process"),
            LockError::Io { source, .. } => runtime(root, &format!("cannot be written: {source}")),
        })?;
        let disk = FileDisk::open(&root.join(WAL_DIR))
            .map_err(|error| runtime(root, &format!("cannot be written: {error}")))?;
        Ok(Self { root: root.to_path_buf(), disk: Arc::new(disk), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The disk of the log.
    #[must_use]
    pub fn disk(&self) -> Arc<FileDisk> {
        Arc::clone(&self.disk)
    }

    /// A random number that this directory has had since it was made, never 0: its peers know the member by
    /// it, and refuse another (contract 8).
    ///
    /// # Errors
    /// `Runtime` if it can be neither read nor made; `Refused` if it is damaged.
    pub fn number(&self) -> Result<u64, Fatal> {
        let path = self.root.join(NUMBER_FILE);
        let failed = |error: std::io::Error| runtime(&path, &error.to_string());
        match std::fs::read_to_string(&path) {
            Ok(text) => u64::from_str_radix(text.trim(), 16)
                .ok()
                .filter(|number| *number != 0)
                .ok_or_else(|| Fatal::Refused(format!("{} is damaged", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let number = crate::run::random().max(1);
                write_durably(&self.root, &path, &format!("{number:016x}\n")).map_err(failed)?;
                Ok(number)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// What the log says about its owner, if there is a log.
    ///
    /// # Errors
    /// `Runtime` if it cannot be read.
    pub fn owner(&self) -> Result<Option<Identity>, Fatal> {
        let report = quorate_wal::inspect(&*self.disk)
            .map_err(|error| runtime(&self.root, &error.to_string()))?;
        Ok(report.identity)
    }

    /// Opens log and engine, or founds them for `newcomer`.
    ///
    /// # Errors
    /// `Refused` for data of another node or cluster, of a newer format, or damaged; `Runtime` for a
    /// disk that fails.
    pub fn open(&self, config: &Config, boot: u64, newcomer: &Newcomer) -> Result<Opened, Fatal> {
        let (mut writer, mut found) = self.open_log(config, boot, newcomer)?;
        if found.recovered.entries.is_empty() && found.recovered.start.index == LogIndex(0) {
            self.found(&mut writer, &mut found, newcomer)?;
        }
        let engine_options = EngineOptions::default();
        let may_create = found.generation == 0 && found.recovered.start.index == LogIndex(0);
        let engine =
            DiskEngine::open(&self.root, GROUP, found.generation, may_create, &engine_options)
                .map_err(|error| engine_error(&error))?;
        // What the log does not name was never installed, or has been left.
        remove_other_generations(&self.root, GROUP, found.generation)
            .map_err(|error| engine_error(&error))?;
        let kv = Kv::open(&engine).map_err(|halt| Fatal::Refused(halt.to_string()))?;
        let members = latest_members(&found.recovered, newcomer);
        let Found { identity, recovered, generation } = found;
        Ok(Opened { identity, recovered, generation, kv, engine, engine_options, writer, members })
    }

    fn open_log(
        &self,
        config: &Config,
        boot: u64,
        newcomer: &Newcomer,
    ) -> Result<(Writer, Found), Fatal> {
        // If the user describes the founding of a cluster, the data must be of that cluster and
        // member; recovery looks before it writes.
        let described = config.cluster_asked && config.cluster_state == ClusterState::New;
        let expected = described.then(|| Newcomer::founder(config).identity);
        let config = quorate_wal::Config::default();
        match quorate_wal::recover(&*self.disk, expected, boot, config) {
            Ok(mut recovery) => {
                if let Some(cut) = &recovery.cut {
                    tracing::warn!(?cut, "cut the torn end of the log; it was never acknowledged");
                }
                let group = recovery.groups.remove(&GROUP).unwrap_or_default();
                let identity = recovery.identity;
                let generation = group.generation.0;
                let found = Found { identity, recovered: group.recovered, generation };
                Ok((recovery.writer, found))
            }
            Err(RecoveryError::Nothing) => {
                self.check_no_engine()?;
                let identity = newcomer.identity;
                let writer = quorate_wal::create(&*self.disk, identity, boot, config)
                    .map_err(|error| self.log_error(&error))?;
                Ok((writer, Found { identity, recovered: Recovered::default(), generation: 0 }))
            }
            Err(error) => Err(self.log_error(&error)),
        }
    }

    /// An engine without a log has lost everything that the log had beyond its last checkpoint.
    fn check_no_engine(&self) -> Result<(), Fatal> {
        if engine_dir(&self.root, GROUP, 0).exists() || self.root.join("engine").exists() {
            return Err(Fatal::Refused(format!(
                "{} has data but no log: acknowledged writes are missing; restore the directory {}, or \
                 remove this member from the cluster and add it again as a new one",
                self.root.display(),
                self.root.join(WAL_DIR).display()
            )));
        }
        Ok(())
    }

    /// The first entry of a new group, durable before anything is promised. Who joins a cluster gets
    /// all entries from its members.
    fn found(
        &self,
        writer: &mut Writer,
        found: &mut Found,
        newcomer: &Newcomer,
    ) -> Result<(), Fatal> {
        if newcomer.joins {
            return Ok(());
        }
        let entries = first_entries(initial_membership(&newcomer.members));
        let record = |entry: &Entry| Record::Entry { group: GROUP, entry: entry.clone() };
        let records = entries.iter().map(record).collect();
        let append = quorate_wal::Input::Append { seq: Seq(0), records };
        quorate_wal::drive(&*self.disk, writer, append)
            .map_err(|halt| runtime(&self.root, &halt.to_string()))?;
        if !writer.is_idle() {
            return Err(self.log_error(&RecoveryError::NoSpace));
        }
        found.recovered.entries = entries;
        Ok(())
    }

    fn log_error(&self, error: &RecoveryError) -> Fatal {
        let sentence = format!("{}: {error}", self.root.join(WAL_DIR).display());
        match error {
            RecoveryError::Disk(_) | RecoveryError::NoSpace => Fatal::Runtime(sentence),
            _ => Fatal::Refused(sentence),
        }
    }
}

/// Who a node is if its directory is empty.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Its identity.
    pub identity: Identity,
    /// The members of its cluster.
    pub members: Vec<MemberInfo>,
    /// Whether they existed before it.
    pub joins: bool,
}

impl Newcomer {
    /// One of the founders of the cluster that the configuration describes.
    #[must_use]
    pub fn founder(config: &Config) -> Self {
        let members = identity::first_members(config);
        let cluster = identity::cluster(&members, &config.cluster_token);
        let node = identity::first_member(&config.advertise_peer, &config.cluster_token);
        Self { identity: Identity { cluster, node }, members, joins: false }
    }
}

struct Found {
    identity: Identity,
    recovered: Recovered,
    generation: u64,
}

/// The newest membership in the log, or what the newcomer was told.
fn latest_members(recovered: &Recovered, newcomer: &Newcomer) -> Vec<MemberInfo> {
    let newest = recovered.entries.iter().rev().find_map(|entry| match &entry.payload {
        Payload::Membership { membership, .. } => Some(membership),
        _ => None,
    });
    let members = infos(newest.unwrap_or(&recovered.membership));
    if members.is_empty() { newcomer.members.clone() } else { members }
}

fn engine_error(error: &EngineError) -> Fatal {
    match error {
        EngineError::Io(_) => Fatal::Runtime(error.to_string()),
        EngineError::Corrupt(_) => Fatal::Refused(format!(
            "{error}; nothing was changed: remove this member from the cluster and add it again as a \
             new one, or restore a backup"
        )),
    }
}

/// Writes a small file so that a crash leaves all of it or nothing.
pub(crate) fn write_durably(root: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text)?;
    std::fs::File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(root)?.sync_all()
}

fn runtime(root: &Path, what: &str) -> Fatal {
    Fatal::Runtime(format!("data directory {}: {what}", root.display()))
}
