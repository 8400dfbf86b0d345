//! An order as a workflow: a function whose steps the coordinator writes down. The program "crashes" in the middle of the
//! first order; the coordinator calls it back, and the order goes on behind the step that was done.
//!
//! ```text
//! cargo run -p quorate-client --example workflow [http://127.0.0.1:36789/api/dtmsvr]
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
use quorate_client::{
    BranchCall, BranchError, Coordinator, Done, Ended, Flow, Options, StepError, Workflows,
};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let dtm = std::env::args().nth(1);
    let dtm = dtm.unwrap_or_else(|| "http://127.0.0.1:36789/api/dtmsvr".to_owned());
    let coordinator = Coordinator::new(&dtm);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = format!("http://{}", listener.local_addr()?);

    let workflows = Arc::new(workflows(&coordinator, &base));
    let router = Router::new()
        .route("/workflow", post(called_back))
        .with_state(Arc::clone(&workflows))
        .route("/{service}/{step}", post(step));
    tokio::spawn(async move { axum::serve(listener, router).await });

    for pieces in ["2", "9"] {
        let gid = coordinator.new_gid().await?;
        println!("{pieces} pieces");
        let ended = match workflows.run(&gid, "order", pieces).await {
            Ok(ended) => ended,
            Err(why) => {
                println!("  {why}");
                while coordinator.status(&gid).await?.as_deref() == Some("prepared") {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                // It has ended: this only reads how.
                workflows.run(&gid, "order", pieces).await?
            }
        };
        match ended {
            Ended::Succeeded(receipt) => {
                println!("  ordered: {}", String::from_utf8_lossy(&receipt))
            }
            Ended::Failed(why) => println!("  not ordered: {why}"),
        }
    }
    Ok(())
}

/// What this program can run, and run on.
fn workflows(coordinator: &Coordinator, base: &str) -> Workflows {
    let options = Options { retry_interval: Duration::from_secs(1), ..Options::default() };
    let (base, has_crashed) = (base.to_owned(), Arc::new(AtomicBool::new(false)));
    let workflows = Workflows::new(coordinator, &format!("{base}/workflow")).with_options(options);
    workflows.register("order", move |flow: Flow, pieces: Bytes| {
        let (base, has_crashed) = (base.clone(), Arc::clone(&has_crashed));
        async move {
            let pieces = String::from_utf8_lossy(&pieces).into_owned();
            let url = |path: &str| format!("{base}/{path}");

            let points = flow.branch().rollback_url(&url("points/take-back"), &pieces);
            points.post(&url("points/give"), &pieces).await?;
            if !has_crashed.swap(true, Ordering::Relaxed) {
                return Err(StepError::Unfinished("a crash, played".to_owned()));
            }
            let stock = flow.branch().rollback_url(&url("stock/put-back"), &pieces);
            let receipt = stock.post(&url("stock/take"), &pieces).await?;
            Ok(Bytes::from(receipt))
        }
    })
}

async fn called_back(
    State(workflows): State<Arc<Workflows>>,
    call: BranchCall,
    data: Bytes,
) -> Result<Done, BranchError> {
    println!("  the coordinator calls back");
    workflows.callback(call, data).await
}

/// The services: they only say what they are asked. (A real one has a database, and the branch barrier in it.)
async fn step(
    Path((service, step)): Path<(String, String)>,
    call: BranchCall,
    pieces: String,
) -> Result<String, BranchError> {
    println!("  {service}: {step} {pieces} ({} of branch {})", call.op, call.branch_id);
    match (step.as_str(), pieces.as_str()) {
        ("take", "9") => Err(BranchError::Failure("there are no 9".to_owned())),
        _ => Ok(format!("\"{step} {pieces}\"")),
    }
}
