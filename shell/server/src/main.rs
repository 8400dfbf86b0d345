//! The binary `quorate`.

use std::process::ExitCode;

/// Node, log, engine and runtime pass buffers among them: each is freed by another thread than the one
/// that made it, which costs glibc's allocator dearly (decision 0001).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quorate_server::cli::main()
}
