//! Machines in network namespaces, on one bridge, whose links the test cuts.
//!
//! A cut from A to B is a permanent neighbour entry on A with a hardware address that nobody has: what
//! A sends to B is lost on the wire, silently and in that direction only, as in a real network; the
//! test itself still reaches both. Loss uses netem where the kernel has it; else one TCP segment in
//! eight (by its IPv4 identification field, which counts) is redirected into a link that ends nowhere.
//!
//! Needs root. Everything made here carries this process's id in its name and goes with the value.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::tools::run;

/// Namespaces `0..len`, each with one address on the test's own bridge.
#[derive(Debug)]
pub struct Lab {
    /// In the names of everything: this process and which lab of it.
    name: String,
    /// Third byte of the addresses.
    net: u32,
    machines: usize,
}

static LABS: AtomicU32 = AtomicU32::new(0);

/// A hardware address that no machine has (locally administered).
const NOBODY: &str = "02:00:00:00:ff:fe";

impl Lab {
    /// Builds a bridge and `machines` namespaces on it.
    ///
    /// # Errors
    /// If this process may not; then nothing is left behind.
    pub fn new(machines: usize) -> Result<Self> {
        let (process, count) = (std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        // Names of interfaces have at most 15 bytes.
        let name = format!("q{:x}x{count}", process % 0x100_0000);
        let lab = Self { name, net: (process * 16 + count) % 250, machines };
        lab.build().context("network namespaces")?; // on an error Drop removes what there is
        Ok(lab)
    }

    fn build(&self) -> Result<()> {
        let bridge = self.bridge();
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        run("ip", &["addr", "add", &format!("{}/24", self.numbered(254)), "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        for index in 0..self.machines {
            let (space, outside) = (self.space(index), self.outside(index));
            run("ip", &["netns", "add", &space])?;
            run(
                "ip",
                &["link", "add", &outside, "type", "veth", "peer", "name", "e0", "netns", &space],
            )?;
            run("ip", &["link", "set", &outside, "master", &bridge, "up"])?;
            let address = format!("{}/24", self.address(index));
            run("ip", &["-n", &space, "addr", "add", &address, "dev", "e0"])?;
            run("ip", &["-n", &space, "link", "set", "e0", "up"])?;
            run("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// How many machines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.machines
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machines == 0
    }

    /// A machine's IPv4 address.
    #[must_use]
    pub fn address(&self, index: usize) -> String {
        self.numbered(index + 1)
    }

    /// The command in front of a program that is to run on a machine.
    #[must_use]
    pub fn prefix(&self, index: usize) -> Vec<String> {
        vec!["ip".into(), "netns".into(), "exec".into(), self.space(index)]
    }

    /// Loses everything that `from` sends to `to`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        let (space, address) = (self.space(from), self.address(to));
        let entry =
            ["neigh", "replace", &address, "lladdr", NOBODY, "dev", "e0", "nud", "permanent"];
        run("ip", &[&["-n", space.as_str()], &entry[..]].concat()).map(drop)
    }

    /// Cuts one machine from all others, both ways.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn isolate(&self, index: usize) -> Result<()> {
        for other in (0..self.machines).filter(|other| *other != index) {
            self.cut(index, other)?;
            self.cut(other, index)?;
        }
        Ok(())
    }

    /// Takes all cuts back.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn heal(&self) -> Result<()> {
        for index in 0..self.machines {
            run(
                "ip",
                &["-n", &self.space(index), "neigh", "flush", "dev", "e0", "nud", "permanent"],
            )?;
        }
        Ok(())
    }

    /// Loses about one packet in eight of what each machine sends, until [`Self::repair`].
    ///
    /// # Errors
    /// If neither netem nor a filter can be installed.
    pub fn lose(&self) -> Result<()> {
        for index in 0..self.machines {
            let space = self.space(index);
            let netem = tc(&space, "qdisc add dev e0 root netem loss 12%");
            if netem.is_err() {
                lose_by_identification(&space)?;
            }
        }
        Ok(())
    }

    /// Ends [`Self::lose`].
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn repair(&self) -> Result<()> {
        for index in 0..self.machines {
            tc(&self.space(index), "qdisc del dev e0 root")?;
        }
        Ok(())
    }

    fn numbered(&self, last: usize) -> String {
        // 198.18.0.0/15 is set aside for tests of network devices (RFC 2544).
        format!("198.18.{}.{last}", self.net)
    }

    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn outside(&self, index: usize) -> String {
        format!("{}v{index}", self.name)
    }

    fn space(&self, index: usize) -> String {
        format!("{}n{index}", self.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What was never built cannot be removed: errors here mean nothing.
        for index in 0..self.machines {
            drop(run("ip", &["netns", "del", &self.space(index)]));
        }
        drop(run("ip", &["link", "del", &self.bridge()]));
    }
}

fn tc(space: &str, arguments: &str) -> Result<()> {
    let words: Vec<&str> = arguments.split(' ').collect();
    run("ip", &[&["netns", "exec", space, "tc"], &words[..]].concat()).map(drop)
}

/// A SYN-ACK's identification is always 0, so the filter takes 3 of each 0..8.
fn lose_by_identification(space: &str) -> Result<()> {
    if run("ip", &["-n", space, "link", "show", "sink"]).is_err() {
        run("ip", &["-n", space, "link", "add", "sink", "type", "veth", "peer", "name", "hole"])?;
        run("ip", &["-n", space, "link", "set", "sink", "up"])?;
    }
    tc(space, "qdisc add dev e0 root handle 1: htb default 1 r2q 10000")?;
    tc(space, "class add dev e0 parent 1: classid 1:1 htb rate 10gbit quantum 60000")?;
    let filter = "filter add dev e0 parent 1: protocol ip u32 match u16 0x0003 0x0007 at 4 \
                  action mirred egress redirect dev sink";
    tc(space, filter)
}
