//! Compiles `proto/` into Rust. protox parses the sources, so that nobody needs protoc.

use std::env;
use std::path::PathBuf;

/// The files that are compiled; what they import comes along.
const PROTOS: [&str; 7] = [
    "mvccpb.proto",
    "authpb.proto",
    "etcdserverpb.proto",
    "v3lockpb.proto",
    "v3electionpb.proto",
    "health.proto",
    "dtmgimp.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked for when it runs: a target directory may be shared by clones in several places.
    let own = env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo runs build scripts")?;
    let root = PathBuf::from(own).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = protox::compile(PROTOS, [&root])?;
    tonic_prost_build::configure()
        // A field of bytes is a slice of the received frame, never a copy.
        .bytes(".")
        // Unbuilt methods answer Unimplemented without a line of code.
        .generate_default_stubs(true)
        .disable_comments(["."])
        .emit_rerun_if_changed(false)
        .compile_fds(files)?;
    Ok(())
}
