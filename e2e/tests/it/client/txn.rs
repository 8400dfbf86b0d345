//! Workflows, three-phase commit, nested TCC, and sagas that pass results on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use quorate_client::barrier::Row;
use quorate_client::{
    BarrierTable, BranchCall, BranchError, Coordinator, Ended, Error, Flow, NestedTcc, Options,
    Participant as Branch, Saga, SagaStep, StepError, StepInput, Tcc, TccBranch, ThreePhase,
    ThreePhaseBranch, Workflows,
};
use quorate_e2e::participant::{Asked, Participant};
use tokio::runtime::Handle;

use crate::dtm::Dtm;

const END: Duration = Duration::from_secs(20);

fn yes() -> (u16, String) {
    (200, "{\"dtm_result\":\"SUCCESS\"}".to_owned())
}

fn no(why: &str) -> (u16, String) {
    (409, format!("{why} FAILURE"))
}

fn call_of(asked: &Asked) -> BranchCall {
    BranchCall::from_query(&asked.query).expect("a call of a branch")
}

/// Waits until it has ended.
async fn end(coordinator: &Coordinator, gid: &str) -> Result<String> {
    let begun = Instant::now();
    loop {
        let status = coordinator.status(gid).await?.context("it was begun")?;
        if matches!(status.as_str(), "succeed" | "failed") {
            return Ok(status);
        }
        ensure!(begun.elapsed() < END, "{gid} is still {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `path op of branch`, in order.
fn steps(service: &Participant) -> Vec<String> {
    let step = |asked: &Asked| {
        let call = call_of(asked);
        format!("{} {} of {}", asked.path, call.op, call.branch_id)
    };
    service.asked().iter().map(step).collect()
}

/// Workflows that the coordinator can call back, and a service at `/take` and so on that refuses `/no`.
fn called_back(handle: Handle, workflows: Arc<OnceLock<Arc<Workflows>>>) -> Result<Participant> {
    Participant::start(move |asked| {
        if asked.path.starts_with("/no") {
            return no("none left");
        }
        if asked.path != "/workflow" {
            return (200, format!("\"{}\"", asked.path));
        }
        let workflows = workflows.get().expect("registered before anything runs");
        let data = Bytes::from(asked.body.clone());
        match handle.block_on(workflows.callback(call_of(asked), data)) {
            Ok(_) => yes(),
            Err(BranchError::Ongoing(why)) => (425, why),
            Err(error) => (500, error.to_string()),
        }
    })
}

/// Takes, then crashes as often as `crashes` says, then takes from `second`.
fn order(
    coordinator: &Coordinator,
    base: &str,
    second: &str,
    crashes: &Arc<AtomicU32>,
) -> Workflows {
    let options = Options { retry_interval: Duration::from_millis(200), ..Options::default() };
    let (base, second, crashes) = (base.to_owned(), second.to_owned(), Arc::clone(crashes));
    let workflows = Workflows::new(coordinator, &format!("{base}/workflow")).with_options(options);
    workflows.register("order", move |flow: Flow, data: Bytes| {
        let url = |path: &str| format!("{base}/{path}");
        let (take, give_back) = (url("take"), url("give-back"));
        let (second, confirm, cancel) = (url(&second), url("confirm"), url("cancel"));
        let crashes = Arc::clone(&crashes);
        async move {
            let first = flow.branch().rollback_url(&give_back, "{}");
            let taken = first.post(&take, "{}").await?;
            if crashes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                return Err(StepError::Unfinished("the application crashed".into()));
            }
            let last = flow.branch().commit_url(&confirm, "{}").rollback_url(&cancel, "{}");
            last.post(&second, "{}").await?;
            Ok(Bytes::from([data.as_ref(), taken.as_bytes()].concat()))
        }
    })
}

#[tokio::test]
async fn a_workflow_outlives_its_application() -> Result<()> {
    let Some(dtm) = Dtm::start("client")? else { return Ok(()) };
    let coordinator = Coordinator::new(&dtm.url());
    let registered = Arc::new(OnceLock::new());
    let service = called_back(Handle::current(), Arc::clone(&registered))?;
    let crashes = Arc::new(AtomicU32::new(2));
    let workflows = Arc::new(order(&coordinator, service.base(), "try", &crashes));
    registered.set(Arc::clone(&workflows)).expect("once");

    let crashed = workflows.run("w1", "order", "in:").await;
    ensure!(matches!(crashed, Err(Error::Unfinished(_))), "{crashed:?}");
    // The coordinator calls back: the second crash; and again: the end.
    assert_eq!(end(&coordinator, "w1").await?, "succeed");
    let mine = |step: &String| !step.starts_with("/workflow");
    let done: Vec<String> = steps(&service).into_iter().filter(mine).collect();
    assert_eq!(done, ["/take action of 01", "/try action of 02", "/confirm commit of 02"]);
    let ended = workflows.run("w1", "order", "in:").await?;
    assert_eq!(ended, Ended::Succeeded(Bytes::from_static(b"in:\"/take\"")));
    Ok(())
}

#[tokio::test]
async fn a_workflow_that_fails_is_undone() -> Result<()> {
    let Some(dtm) = Dtm::start("client")? else { return Ok(()) };
    let coordinator = Coordinator::new(&dtm.url());
    let registered = Arc::new(OnceLock::new());
    let service = called_back(Handle::current(), Arc::clone(&registered))?;
    let workflows = order(&coordinator, service.base(), "no", &Arc::default());
    let ended = workflows.run("w2", "order", "").await?;
    assert_eq!(ended, Ended::Failed("none left FAILURE".into()));
    let done = steps(&service);
    let wanted = [
        "/take action of 01",
        "/no action of 02",
        "/cancel rollback of 02",
        "/give-back rollback of 01",
    ];
    assert_eq!(done, wanted);
    let found = coordinator.query("w2").await?;
    assert_eq!(found["transaction"]["rollback_reason"], "none left FAILURE");
    Ok(())
}

/// The barrier table of a 3pc branch, with what was changed.
#[derive(Default)]
struct Table {
    rows: BTreeMap<(String, String, String), String>,
    done: Vec<String>,
}

impl BarrierTable for &mut Table {
    async fn claim(&mut self, row: Row<'_>) -> Result<bool, Error> {
        let key = (row.gid.to_owned(), row.branch_id.to_owned(), row.op.to_owned());
        let free = !self.rows.contains_key(&key);
        self.rows.entry(key).or_insert_with(|| row.reason.to_owned());
        Ok(free)
    }

    async fn reason(&mut self, row: Row<'_>) -> Result<Option<String>, Error> {
        let key = (row.gid.to_owned(), row.branch_id.to_owned(), row.op.to_owned());
        Ok(self.rows.get(&key).cloned())
    }
}

#[tokio::test]
async fn three_phases_are_all_or_nothing() -> Result<()> {
    let Some(dtm) = Dtm::start("client")? else { return Ok(()) };
    let coordinator = Coordinator::new(&dtm.url());
    let table = Arc::new(Mutex::new(Table::default()));
    let (handle, shared) = (Handle::current(), Arc::clone(&table));
    let service = Participant::start(move |asked| {
        let call = call_of(asked);
        if asked.path.starts_with("/full") && call.op == "can_commit" {
            return no("full");
        }
        let mut table = shared.lock().expect("nobody panicked");
        let step = format!("{} of {}", call.op, call.branch_id);
        let told = handle.block_on(Branch::new(call).enter(&mut &mut *table));
        match told.map(quorate_client::Told::is_run) {
            Ok(Ok(is_run)) => {
                if is_run {
                    table.done.push(step);
                }
                yes()
            }
            Ok(Err(error)) => no(&error.to_string()),
            Err(error) => (500, error.to_string()),
        }
    })?;
    let done = || std::mem::take(&mut table.lock().expect("nobody panicked").done);

    for (gid, second, wanted) in [("p1", "roomy", "succeed"), ("p2", "full", "failed")] {
        let mut order = ThreePhase::begin(&coordinator, gid, Options::default()).await?;
        for name in ["first", second] {
            let base = format!("{}/{name}", service.base());
            order.register(&ThreePhaseBranch::at(&base, "{}")).await?;
        }
        order.submit().await?;
        assert_eq!(end(&coordinator, gid).await?, wanted);
        let done: BTreeSet<String> = done().into_iter().collect();
        let phases = |phases: &[&str], branches: &[&str]| -> BTreeSet<String> {
            let of = |phase: &&str| {
                branches.iter().map(|id| format!("{phase} of {id}")).collect::<Vec<_>>()
            };
            phases.iter().flat_map(of).collect()
        };
        let expected = match wanted {
            "succeed" => phases(&["can_commit", "pre_commit", "do_commit"], &["01", "02"]),
            // The second one holds nothing that could be dropped.
            _ => phases(&["can_commit", "abort"], &["01"]),
        };
        assert_eq!(done, expected);
    }
    Ok(())
}

/// Trip (02) has branches of its own: hotel (0201) and, below that, breakfast (020101).
fn travel(coordinator: &Coordinator, handle: Handle, full: &'static str) -> Result<Participant> {
    let base = Arc::new(OnceLock::<String>::new());
    let (own, coordinator) = (Arc::clone(&base), coordinator.clone());
    let service = Participant::start(move |asked| {
        if asked.path == full {
            return no("full");
        }
        let below = match asked.path.as_str() {
            "/trip/try" => "hotel",
            "/hotel/try" => "breakfast",
            _ => return yes(),
        };
        let base = own.get().expect("started");
        let result = handle.block_on(async {
            let mut nested = NestedTcc::of(&coordinator, &call_of(asked))?;
            nested.call_branch(&tcc_branch(base, below)).await
        });
        match result {
            Ok(_) => yes(),
            Err(Error::Refused(why)) => no(&why),
            Err(error) => (500, error.to_string()),
        }
    })?;
    base.set(service.base().to_owned()).expect("once");
    Ok(service)
}

fn tcc_branch(base: &str, name: &str) -> TccBranch {
    TccBranch {
        try_url: format!("{base}/{name}/try"),
        confirm_url: format!("{base}/{name}/confirm"),
        cancel_url: format!("{base}/{name}/cancel"),
        body: "{}".to_owned(),
    }
}

#[tokio::test]
async fn branches_of_branches_share_the_decision() -> Result<()> {
    let Some(dtm) = Dtm::start("client")? else { return Ok(()) };
    let coordinator = Coordinator::new(&dtm.url());
    for (gid, full, wanted) in [("n1", "/nothing", "succeed"), ("n2", "/breakfast/try", "failed")] {
        let service = travel(&coordinator, Handle::current(), full)?;
        let mut tcc = Tcc::begin(&coordinator, gid, Options::default()).await?;
        tcc.call_branch(&tcc_branch(service.base(), "flight")).await?;
        match tcc.call_branch(&tcc_branch(service.base(), "trip")).await {
            Ok(_) => tcc.submit().await?,
            Err(why) => {
                ensure!(matches!(why, Error::Refused(_)), "{why}");
                tcc.abort(&why.to_string()).await?;
            }
        }
        assert_eq!(end(&coordinator, gid).await?, wanted);
        let op = if wanted == "succeed" { "confirm" } else { "cancel" };
        let tries = [
            "flight/try try of 01",
            "trip/try try of 02",
            "hotel/try try of 0201",
            "breakfast/try try of 020101",
        ];
        let ends = [("breakfast", "020101"), ("hotel", "0201"), ("trip", "02"), ("flight", "01")];
        let ends = ends.map(|(name, id)| format!("/{name}/{op} {op} of {id}"));
        let expected: Vec<String> =
            tries.map(|step| format!("/{step}")).into_iter().chain(ends).collect();
        assert_eq!(steps(&service), expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_saga_hands_results_on() -> Result<()> {
    let Some(dtm) = Dtm::start("client")? else { return Ok(()) };
    let coordinator = Coordinator::new(&dtm.url());
    let service = Participant::start(|asked| match asked.path.as_str() {
        "/book/do" => (200, "{\"booking\":4711}".to_owned()),
        "/pay/do" => no("no money"),
        _ => yes(),
    })?;
    let step = |name: &str| SagaStep {
        action_url: format!("{}/{name}/do", service.base()),
        compensate_url: format!("{}/{name}/undo", service.base()),
        body: format!("{{\"name\":\"{name}\"}}"),
    };
    let saga = Saga::new("s1", Options { strict: true, ..Options::default() });
    saga.step(step("book")).step(step("pay")).pass_results().submit(&coordinator).await?;
    assert_eq!(end(&coordinator, "s1").await?, "failed");
    let asked = service.asked();
    let input = |path: &str| -> Result<StepInput> {
        let asked = asked.iter().find(|asked| asked.path == path).context("it was called")?;
        Ok(StepInput::read(asked.body.as_bytes())?)
    };
    assert_eq!(input("/book/do")?.result_of(0), None);
    assert_eq!(input("/pay/do")?.data["name"], "pay");
    for path in ["/pay/do", "/book/undo"] {
        let input = input(path)?;
        assert_eq!(
            input.result_of(0).map(|booked| &booked["booking"]),
            Some(&4711.into()),
            "{path}"
        );
    }
    Ok(())
}
