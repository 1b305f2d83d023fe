//! A database per test: a SQLite file, and a database of one PostgreSQL cluster that lives as long as the test process.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use muster::domain::audit::HeadKey;
use muster::secret::Secret;
use muster::store::{Location, Store, audit};

/// Runs one async test body on both databases: `both_backends! { async fn name(store: Store) { … } }` makes the tests `name::sqlite` and
/// `name::postgres`.
#[macro_export]
macro_rules! both_backends {
    ($(async fn $name:ident($store:ident: Store) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn body($store: muster::store::Store) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let dir = tempfile::tempdir().unwrap();
                let store = $crate::support::db::sqlite(dir.path());
                body(store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let Some(store) = $crate::support::db::postgres() else { return };
                body(store).await;
            }
        }
    )+};
}

/// Begins the audit log of a store that has no organisation.
pub async fn begin_audit(store: &Store) {
    store.mark_heads(HeadKey::new(Secret::new(vec![7; 32])));
    store.write(audit::update_head_begun).await.unwrap();
}

/// A fresh SQLite store in `folder`.
pub fn sqlite(folder: &Path) -> Store {
    Store::open(&Location::Sqlite(folder.join("muster.db")), 4).unwrap()
}

/// A fresh PostgreSQL store; `None` (said aloud) without server programs.
pub fn postgres() -> Option<Store> {
    let url = postgres_url()?;
    Some(Store::open(&Location::Postgres(url), 8).unwrap())
}

/// The URL of a fresh, empty PostgreSQL database; `None` (said aloud) without server programs.
pub fn postgres_url() -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let cluster = cluster()?;
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::SeqCst));
    let mut made =
        cluster.run("psql", &["-h", cluster.folder(), "-U", "postgres", "-q", "-c", &format!("CREATE DATABASE {name}"), "postgres"]);
    assert!(made.status().unwrap().success(), "CREATE DATABASE");
    Some(format!("postgres://postgres@/{name}?host={}", cluster.folder()))
}

struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
    /// PostgreSQL refuses to run as root: then it runs as this user.
    run_as: Option<(u32, u32)>,
}

impl Cluster {
    fn folder(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    fn run(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(self.folder.path());
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
        command
    }
}

fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(start).as_ref()
}

fn start() -> Option<Cluster> {
    let mut versions: Vec<_> =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin")).collect();
    versions.sort();
    let Some(programs) = versions.pop().filter(|p| p.join("initdb").is_file()) else {
        super::tools::missing("PostgreSQL server programs (Debian package postgresql)");
        return None;
    };
    let folder = tempfile::Builder::new().prefix("muster-pg").tempdir().unwrap();
    let run_as = is_root().then(|| user_ids("postgres"));
    if let Some((uid, gid)) = run_as {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
    }
    let cluster = Cluster { folder, programs, run_as };
    let data = format!("{}/d", cluster.folder());
    let made =
        cluster.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]).status();
    assert!(made.unwrap().success(), "initdb");
    // A shell that waits for our end of the pipe to close stops the server with the test process, however that ends, and takes its files away.
    let server = cluster.programs.join("postgres");
    let script = format!(
        "{} -D {data} -k {} -h '' -F -c full_page_writes=off -c max_connections=400 & read _; kill -QUIT $!; wait $!; rm -rf {}",
        server.display(),
        cluster.folder(),
        cluster.folder()
    );
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(cluster.folder.path());
    if let Some((uid, gid)) = cluster.run_as {
        shell.uid(uid).gid(gid);
    }
    let child = shell.spawn().unwrap();
    std::mem::forget(child);
    for _ in 0..600 {
        let ready = cluster.run("pg_isready", &["-h", cluster.folder(), "-q"]).status().unwrap();
        if ready.success() {
            return Some(cluster);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    panic!("PostgreSQL did not become ready");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn user_ids(name: &str) -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|l| l.split(':').next() == Some(name)).expect("user postgres");
    let mut fields = line.split(':').skip(2);
    (fields.next().unwrap().parse().unwrap(), fields.next().unwrap().parse().unwrap())
}
