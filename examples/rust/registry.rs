//! Services that register themselves with a lease, and somebody who watches them come and go. Kill and restart the server
//! meanwhile: nothing is missed, nothing comes twice.
//!
//! ```text
//! cargo run -p quorate-client --features kv --example registry [http://127.0.0.1:2379 ...]
//! ```

use std::time::Duration;

use quorate_client::kv::{Client, Error, Event, Put, Range};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut members: Vec<String> = std::env::args().skip(1).collect();
    if members.is_empty() {
        members.push("http://127.0.0.1:2379".to_owned());
    }
    let client = Client::connect(&members)?;

    // What is there, and then everything that changes it: without a gap between the two.
    let page = client.range(Range::prefix("service/")).await?;
    println!("{} services at revision {}", page.pairs.len(), page.revision);
    let mut watch = client.watch_from(Range::prefix("service/"), page.revision.next()).await?;

    let services = client.clone();
    let life = tokio::spawn(async move {
        for (name, seconds) in [("stock", 3), ("points", 6)] {
            // Renewed for as long as the value `lease` is there.
            let lease = services.lease(Duration::from_secs(2)).await?;
            let address = Put::new(format!("service/{name}"), "10.0.0.9:80").lease(lease.id());
            services.put(address).await?;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
                why = lease.lost() => println!("{name} is taken for dead: {why}"),
            }
        }
        Ok::<(), Error>(())
    });

    let mut gone = 0;
    while gone < 2 {
        for event in watch.next().await?.events {
            let key = String::from_utf8_lossy(event.key()).into_owned();
            match event {
                Event::Put { pair, .. } => {
                    println!(
                        "{:>6} {key} is at {}",
                        pair.mod_revision,
                        String::from_utf8_lossy(&pair.value)
                    );
                }
                Event::Delete { revision, .. } => {
                    gone += 1;
                    println!("{revision:>6} {key} is gone");
                }
            }
        }
    }
    life.await.expect("no panic")
}
