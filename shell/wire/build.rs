//! Compiles `proto/` into Rust. protox parses the sources, so that nobody needs protoc.

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
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto");
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
