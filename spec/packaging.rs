//! The release as a Director gets it: made by `ci/release` with the real `bosh` in a clean clone, each package
//! installed as an agent would. What is packed are the binaries of `ci/build`, the ones without fail points.

#![expect(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "fixtures need no durability")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// Where `ci/build` leaves what ships. `ci/test` calls it first: a build while tests run would replace their binaries.
const SHIPPED: &str = ".build/packages/etcd-tools/bin";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command to its end and demands success.
#[track_caller]
fn done(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn unpack(archive: &Path, directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    done(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(directory));
}

/// A clone of the checkout, with what was changed since the last commit.
struct Clone {
    path: PathBuf,
    /// Removes it in the end; the one that tests share stays until the next run.
    _guard: Option<TempDir>,
}

impl Clone {
    fn make() -> Self {
        let guard = tempfile::Builder::new().prefix("clone-").tempdir().unwrap();
        let path = guard.path().join("etcd-release");
        Self::at(path, Some(guard))
    }

    fn at(path: PathBuf, guard: Option<TempDir>) -> Self {
        let clone = Self { path, _guard: guard };
        // A checkout may belong to somebody else, which git otherwise refuses.
        fs::write(clone.trust(), "[safe]\n\tdirectory = *\n").unwrap();
        done(clone.git(repository()).args(["clone", "--quiet", "--shared", "."]).arg(clone.path()));
        let overlay = "set -o pipefail
            git ls-files -z --cached --others --exclude-standard |
                tar --create --null --files-from=- --ignore-failed-read --warning=no-failed-read |
                tar --extract --directory \"$0\"";
        done(
            Command::new("bash")
                .args(["-euc", overlay])
                .arg(clone.path())
                .current_dir(repository())
                .env("GIT_CONFIG_GLOBAL", clone.trust()),
        );
        done(clone.git(clone.path()).args(["add", "--all"]));
        clone
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn trust(&self) -> PathBuf {
        self.path.with_extension("gitconfig")
    }

    fn git(&self, directory: &Path) -> Command {
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", self.trust()).current_dir(directory);
        git
    }

    /// `ci/release`, packing these binaries, as if typed in the clone.
    fn release(&self, binaries: &Path, arguments: &[&str]) -> Command {
        // The clone has to find its tools itself, not in the `.tools` of this checkout.
        let ours = repository().join(".tools");
        let elsewhere: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .filter(|directory| !directory.starts_with(&ours))
            .collect();
        let mut command = Command::new(self.path().join("ci/release"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("ETCD_RELEASE_BINARIES", binaries)
            .env("PATH", std::env::join_paths(elsewhere).unwrap());
        command
    }

    fn tarball(&self) -> PathBuf {
        self.path().join(".build/etcd.tgz")
    }
}

/// The binaries that ship.
fn shipped() -> PathBuf {
    let directory = repository().join(SHIPPED);
    assert!(directory.join("etcd-launcher").is_file(), "{SHIPPED} is empty: run ci/build");
    directory
}

/// The whole release, made once, and unpacked.
struct Made {
    clone: Clone,
    said: String,
    unpacked: PathBuf,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packaging");
    let _ = fs::remove_dir_all(&directory); // of the last run, if there was one
    fs::create_dir_all(&directory).unwrap();
    let clone = Clone::at(directory.join("clone"), None);
    let before = done(clone.git(clone.path()).args(["status", "--porcelain"]));

    let said = done(&mut clone.release(&shipped(), &[]));

    let after = done(clone.git(clone.path()).args(["status", "--porcelain"]));
    assert_eq!(before, after, "the checkout is as it was");
    let unpacked = directory.join("unpacked");
    unpack(&clone.tarball(), &unpacked);
    Made { clone, said, unpacked }
});

/// The names in a table of `bosh inspect-local-release --json`: `name/fingerprint` in its first column.
fn listed(tables: &Value, kind: &str) -> BTreeSet<String> {
    let rows =
        tables["Tables"].as_array().unwrap().iter().flat_map(|table| table["Rows"].as_array().unwrap());
    rows.filter_map(|row| row[kind].as_str()?.split_once('/')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn bosh_makes_a_release_with_every_job_and_package_from_a_clean_clone() {
    let made = &*MADE;

    let tables = done(
        Command::new(made.clone.path().join(".tools/bin/bosh"))
            .args(["--json", "inspect-local-release"])
            .arg(made.clone.tarball()),
    );
    let tables: Value = serde_json::from_str(&tables).unwrap();
    assert_eq!(listed(&tables, "job"), names(&made.clone.path().join("jobs")), "{tables:#}");
    assert_eq!(listed(&tables, "package"), names(&made.clone.path().join("packages")), "{tables:#}");
    assert!(made.said.contains(&sum(&made.clone.tarball())), "{}", made.said);

    let manifest = fs::read_to_string(made.unpacked.join("release.MF")).unwrap();
    let manifest: Value = serde_yaml::from_str(&manifest).unwrap();
    let commit = done(made.clone.git(made.clone.path()).args(["rev-parse", "HEAD"]));
    assert_eq!(manifest["name"], "etcd");
    assert!(commit.starts_with(manifest["commit_hash"].as_str().unwrap()), "{manifest:#}");
    for (kind, folder) in [("jobs", "jobs"), ("packages", "packages")] {
        for one in manifest[kind].as_array().unwrap() {
            let archive = format!("{folder}/{}.tgz", one["name"].as_str().unwrap());
            let digest = format!("sha256:{}", sum(&made.unpacked.join(&archive)));
            assert_eq!(one["sha1"], Value::String(digest), "{archive}");
        }
    }
    assert_eq!(
        fs::read(made.unpacked.join("LICENSE")).unwrap(),
        fs::read(repository().join("LICENSE")).unwrap()
    );
}

fn sum(file: &Path) -> String {
    let output = done(Command::new("sha256sum").arg(file));
    output.split(' ').next().unwrap().to_owned()
}

#[test]
fn the_archive_of_each_job_holds_its_spec_its_monit_file_and_its_templates() {
    for job in names(&MADE.clone.path().join("jobs")) {
        let directory = tempfile::tempdir().unwrap();
        unpack(&MADE.unpacked.join(format!("jobs/{job}.tgz")), directory.path());

        let source = MADE.clone.path().join("jobs").join(&job);
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&directory.path().join("job.MF")), read(&source.join("spec")), "{job}");
        assert_eq!(read(&directory.path().join("monit")), read(&source.join("monit")), "{job}");
        let spec: Value = serde_yaml::from_str(&read(&source.join("spec"))).unwrap();
        // A Director wants the key, also of a job that has none.
        for template in spec["templates"].as_object().unwrap().keys() {
            let below = Path::new("templates").join(template);
            assert_eq!(read(&directory.path().join(&below)), read(&source.join(&below)), "{job}: {template}");
        }
    }
}

#[test]
fn the_packages_of_etcd_differ_by_series_alone_and_the_pins_know_each() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let pins = read("ci/tools/pins");
    let script = read("packages/etcd/packaging");

    let of_etcd = |package: &&String| *package == "etcd" || package.starts_with("etcd-3.");
    for package in names(&repository().join("packages")).iter().filter(of_etcd) {
        let series = package.strip_prefix("etcd-").unwrap_or("3.6");
        assert!(
            pins.contains(&format!("\ntool etcd-{series} {series}.")),
            "ci/tools/pins lacks etcd {series}"
        );
        assert_eq!(read(&format!("packages/{package}/packaging")), script, "{package}");
        let spec: Value = serde_yaml::from_str(&read(&format!("packages/{package}/spec"))).unwrap();
        assert_eq!(spec["files"][0], format!("etcd/etcd-v{series}.*-linux-amd64.tar.gz"), "{package}");
        if package != "etcd" {
            let spec: Value = serde_yaml::from_str(&read(&format!("jobs/{package}/spec"))).unwrap();
            assert_eq!(spec["packages"][0], Value::String(package.clone()));
            assert!(read(&format!("jobs/{package}/monit")).is_empty(), "job {package} runs nothing");
        }
    }
}

/// A package as an agent compiles it: a directory with its files, and one to install into.
struct Compiled {
    work: TempDir,
}

impl Compiled {
    fn of(package: &str) -> Self {
        let work = tempfile::tempdir().unwrap();
        let compiled = Self { work };
        unpack(&MADE.unpacked.join(format!("packages/{package}.tgz")), &compiled.source());
        fs::create_dir(compiled.target()).unwrap();
        compiled
    }

    fn source(&self) -> PathBuf {
        self.work.path().join("compile")
    }

    fn target(&self) -> PathBuf {
        self.work.path().join("install")
    }

    /// Runs the script as the agent does, with nothing else in the environment.
    fn install(&self) -> Output {
        Command::new("bash")
            .args(["-x", "packaging"])
            .current_dir(self.source())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("BOSH_COMPILE_TARGET", self.source())
            .env("BOSH_INSTALL_TARGET", self.target())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// All files below the directory of work and when they were written.
    fn files(&self) -> BTreeMap<PathBuf, std::time::SystemTime> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.work.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let written = fs::metadata(&path).unwrap().modified().unwrap();
                    files.insert(path, written);
                }
            }
        }
        files
    }
}

/// What a program says when asked for its version, with nothing in the environment.
fn version(program: &Path) -> String {
    // etcdctl and etcdutl have a command for it, the others a flag; our wrapper is whatever it is called as.
    let flag = match program.file_name().unwrap().to_str().unwrap() {
        "etcdctl" | "etcdutl" => "version",
        _ => "--version",
    };
    let output = Command::new(program).arg(flag).env_clear().stdin(Stdio::null()).output().unwrap();
    text(&output)
}

#[test]
fn every_packaging_script_installs_programs_that_run_from_an_empty_environment() {
    let packages = names(&MADE.unpacked.join("packages"));
    for package in packages.iter().map(|archive| archive.strip_suffix(".tgz").unwrap()) {
        let compiled = Compiled::of(package);
        let before = compiled.files();

        let output = compiled.install();

        assert!(output.status.success(), "{package}: {}", text(&output));
        let mut after = compiled.files();
        after.retain(|path, _| !path.starts_with(compiled.target()));
        assert_eq!(before, after, "{package} writes into BOSH_INSTALL_TARGET and nowhere else");
        assert_eq!(names(&compiled.target()), BTreeSet::from(["bin".to_owned()]), "{package}");
        let bin = compiled.target().join("bin");
        let series = match package {
            "etcd" => Some("3.6"),
            "etcd-tools" => None,
            other => other.strip_prefix("etcd-"),
        };
        let expected: &[&str] = match series {
            Some("3.4") => &["etcd", "etcdctl"],
            Some(_) => &["etcd", "etcdctl", "etcdutl"],
            None => &[
                "etcd-backup",
                "etcd-datadir",
                "etcd-drain",
                "etcd-hook",
                "etcd-launcher",
                "etcd-status",
                "etcdctl-wrapper",
            ],
        };
        assert_eq!(names(&bin).iter().collect::<Vec<_>>(), expected, "{package}");
        for program in names(&bin) {
            let path = bin.join(&program);
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
                0o755,
                "{package}: {program}"
            );
            let said = version(&path);
            match (series, program.as_str()) {
                (Some(series), _) => {
                    assert!(
                        said.lines().next().unwrap().contains(&format!(" {series}.")),
                        "{program}: {said}"
                    );
                }
                (None, "etcdctl-wrapper") => assert!(said.contains("docs/etcdctl.md"), "{said}"),
                (None, _) => assert!(said.starts_with(&format!("{program} ")), "{program}: {said}"),
            }
        }
    }
}

#[test]
fn an_archive_that_is_cut_fails_the_package_instead_of_installing_a_part() {
    let compiled = Compiled::of("etcd");
    let archives = compiled.source().join("etcd");
    let archive = archives.join(names(&archives).first().unwrap());
    let bytes = fs::read(&archive).unwrap();
    fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();

    let output = compiled.install();

    assert!(!output.status.success(), "{}", text(&output));
}

/// What the sum is for: anybody can make the file again and compare.
#[test]
fn the_same_commit_makes_the_same_release_elsewhere_and_only_with_what_was_asked_for() {
    let (one, other) = (Clone::make(), Clone::make());

    done(&mut one.release(&shipped(), &["--only", "3.6"]));
    // Somebody else's umask, and another day.
    let later = other.path().join("jobs/etcd/spec");
    done(Command::new("touch").arg("--date=2001-01-01").arg(&later));
    fs::set_permissions(&later, fs::Permissions::from_mode(0o600)).unwrap();
    done(&mut other.release(&shipped(), &["--only", "3.6"]));

    assert_eq!(sum(&one.tarball()), sum(&other.tarball()));
    let unpacked = tempfile::tempdir().unwrap();
    unpack(&one.tarball(), unpacked.path());
    let packages = names(&unpacked.path().join("packages"));
    assert_eq!(packages.iter().collect::<Vec<_>>(), ["etcd-tools.tgz", "etcd.tgz"]);
    let jobs = names(&unpacked.path().join("jobs"));
    assert!(jobs.contains("etcd.tgz") && jobs.iter().all(|job| !job.starts_with("etcd-3.")), "{jobs:?}");
}

#[test]
fn binaries_that_must_not_reach_a_vm_are_refused() {
    let clone = Clone::make();
    let refused = |binaries: &Path| {
        let output = clone.release(binaries, &["--only", "3.6"]).output().unwrap();
        assert!(!output.status.success() && !clone.tarball().exists(), "{}", text(&output));
        text(&output)
    };

    // This build has them, for the other specifications.
    let tested = tempfile::tempdir().unwrap();
    fs::copy(env!("CARGO_BIN_EXE_etcd-launcher"), tested.path().join("etcd-launcher")).unwrap();
    let said = refused(tested.path());
    assert!(said.contains("error: etcd-launcher has fail points"), "{said}");

    // As if built on a newer machine than the stemcells are.
    let newer = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(shipped().join("etcd-status")).unwrap();
    let asked = b"GLIBC_2.34\0";
    let places: Vec<usize> =
        (0..bytes.len() - asked.len()).filter(|at| bytes[*at..].starts_with(asked)).collect();
    assert!(
        !places.is_empty(),
        "etcd-status asks for no function of glibc 2.34: choose another version here"
    );
    for at in places {
        bytes[at..at + asked.len()].copy_from_slice(b"GLIBC_2.99\0");
    }
    fs::write(newer.path().join("etcd-status"), bytes).unwrap();
    let said = refused(newer.path());
    assert!(said.contains("error: etcd-status needs glibc 2.99: "), "{said}");
}

#[test]
fn only_a_series_that_has_a_package_can_be_asked_for() {
    let output = Command::new(repository().join("ci/release")).args(["--only", "3.3"]).output().unwrap();

    assert!(!output.status.success());
    assert!(text(&output).contains("error: there is no package of etcd '3.3'"), "{}", text(&output));
}
