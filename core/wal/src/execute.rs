//! Carrying out a writer's operations on a synchronous [`Disk`]: recovery's own writes, the inline mode
//! of the WAL thread, and simulation. A driver with threads carries out the same operations, one at a
//! time, through [`perform`].

use quorate_consensus::Seq;

use crate::{Disk, DiskError, Halt, Input, Output, Writer};

/// Carries one operation out; returns the writer's next input, or `None` for what is no operation
/// (`Persisted`, `NoSpace`, `SpaceFound`).
#[must_use]
pub fn perform(disk: &dyn Disk, output: &Output) -> Option<Input> {
    match output {
        Output::Write { segment, offset, bytes } => {
            let result = disk.write_at(*segment, *offset, bytes);
            Some(answer(result, Input::Done, || format!("write {segment} at {offset}")))
        }
        Output::Sync { segment } => {
            Some(answer(disk.sync(*segment), Input::Done, || format!("sync {segment}")))
        }
        Output::Create { segment, bytes } => {
            let result = disk.create(*segment, *bytes).and_then(|()| disk.sync_dir());
            if let Err(DiskError::NoSpace(_)) = result {
                return Some(Input::CreateNoSpace { segment: *segment });
            }
            let created = Input::Created { segment: *segment };
            Some(answer(result, created, || format!("create {segment}")))
        }
        Output::Delete { segment } => {
            let result = disk.delete(*segment).and_then(|()| disk.sync_dir());
            let deleted = Input::Deleted { segment: *segment };
            Some(answer(result, deleted, || format!("delete {segment}")))
        }
        Output::Persisted { .. } | Output::NoSpace | Output::SpaceFound => None,
    }
}

fn answer(result: Result<(), DiskError>, done: Input, what: impl Fn() -> String) -> Input {
    match result {
        Ok(()) => done,
        Err(error) => Input::Failed { what: format!("{}: {error}", what()) },
    }
}

/// Steps the writer with `input` and carries out everything that follows from it, until it waits for
/// nothing or for space. Returns what was no operation, in order.
///
/// # Errors
/// The writer's `Halt`.
pub fn drive(disk: &dyn Disk, writer: &mut Writer, input: Input) -> Result<Vec<Output>, Halt> {
    let mut said = Vec::new();
    let mut outputs = Vec::new();
    writer.step(input, &mut outputs)?;
    while !outputs.is_empty() {
        for output in std::mem::take(&mut outputs) {
            match perform(disk, &output) {
                Some(next) => {
                    drop(output); // gives the buffer back before the next group is formed
                    writer.step(next, &mut outputs)?;
                }
                None => said.push(output),
            }
        }
    }
    Ok(said)
}

/// The highest batch among what [`drive`] returned that is durable now.
#[must_use]
pub fn persisted(said: &[Output]) -> Option<Seq> {
    said.iter().rev().find_map(|output| match output {
        Output::Persisted { seq } => Some(*seq),
        _ => None,
    })
}
