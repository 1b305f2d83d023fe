//! The `muster` program: hands over to the library.

// Answering a message is many small allocations: measured against the system's allocator, this one gives a fifth more messages per second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    muster::cli::main()
}
