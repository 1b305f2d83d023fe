//! The `muster` program: hands over to the library.

fn main() -> std::process::ExitCode {
    muster::cli::main()
}
