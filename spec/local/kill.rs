//! Commands that are killed, at what they say and between any two steps: the next one goes on.

use std::process::Stdio;

#[cfg(feature = "fail-points")]
use etcd_release::local::milestone::Milestone;

use super::lab::Lab;

/// Where a deploy dies, of an instance that comes, changes or goes.
#[cfg(feature = "fail-points")]
const OF_A_DEPLOY: [Milestone; 8] = [
    Milestone::Placed,
    Milestone::CreatedRoot,
    Milestone::DiskRecorded,
    Milestone::Configured,
    Milestone::Started,
    Milestone::Drained,
    Milestone::Stopped,
    Milestone::Orphaned,
];
#[cfg(feature = "fail-points")]
const OF_A_DELETION: [Milestone; 4] =
    [Milestone::Drained, Milestone::DeletedVm, Milestone::Orphaned, Milestone::Forgotten];
#[cfg(feature = "fail-points")]
const OF_A_LARGER_DISK: [Milestone; 3] =
    [Milestone::DiskToCome, Milestone::DiskCopied, Milestone::DiskReplaced];
#[cfg(feature = "fail-points")]
const WITH_NAMESPACES: [Milestone; 3] = [Milestone::Placed, Milestone::CreatedRoot, Milestone::Configured];

/// A milestone that is added must be died at as well.
#[test]
#[cfg(feature = "fail-points")]
fn commands_die_at_every_milestone_somewhere_below() {
    let died: std::collections::BTreeSet<Milestone> =
        [&OF_A_DEPLOY[..], &OF_A_DELETION, &OF_A_LARGER_DISK, &WITH_NAMESPACES, &[Milestone::Renamed]]
            .concat()
            .into_iter()
            .collect();
    assert_eq!(died, Milestone::ALL.into());
}

#[test]
#[cfg(feature = "fail-points")]
fn a_death_behind_a_new_name_loses_nothing() {
    let lab = Lab::new().instances(2).deployed();
    lab.ssh("recorder/1", "touch /var/vcap/store/mine").succeeded();
    let lab = lab.ops(&[
        "{type: replace, path: \"/instance_groups/name=recorder/migrated_from?\", value: [{name: recorder}]}",
        "{type: replace, path: /instance_groups/name=recorder/name, value: keeper}",
    ]);
    assert!(lab.dies_at(&["deploy"], &Milestone::Renamed.fail_point()), "it is never reached");

    lab.deploy().succeeded();

    assert_eq!((lab.recorders(), lab.supervisors().len(), lab.disks()), (2, 2, 2));
    lab.ssh("keeper/1", "test -e /var/vcap/store/mine").succeeded();
    for slug in ["keeper/0", "keeper/1"] {
        let hosts = lab.ssh(slug, "cat /etc/hosts /var/vcap/instance/name").succeeded().stdout;
        assert!(!hosts.contains("recorder.default"), "{slug}: {hosts}");
    }
}

/// The command is killed as soon as it says that it begins a step; the next one must finish the work.
#[test]
fn a_deploy_killed_anywhere_is_finished_by_the_next_one() {
    let steps = [
        "Rendering templates",
        "Creating missing vms",
        "L installing packages",
        "L configuring jobs",
        "L executing pre-start",
        "L starting jobs",
        "L executing post-start",
    ];
    for step in steps {
        let lab = Lab::new().instances(2);
        lab.kill_when(&["deploy"], step);

        lab.deploy().succeeded();

        assert_eq!(lab.recorders(), 2, "killed at {step}");
        let running = lab.rows("instances").iter().filter(|row| row["process_state"] == "running").count();
        assert_eq!(running, 2, "killed at {step}");
    }
}

#[test]
fn an_update_killed_anywhere_is_finished_by_the_next_one() {
    let lab = Lab::new().instances(2).deployed();
    let ids = |lab: &Lab| {
        lab.rows("instances --details")
            .into_iter()
            .map(|row| (row["instance"].to_string(), row["ips"].to_string(), row["disk_cids"].to_string()))
            .collect::<Vec<_>>()
    };
    let before = ids(&lab);

    for step in [
        "L executing pre-stop",
        "L executing drain",
        "L stopping jobs",
        "L executing post-stop",
        "L recreating vm",
        "L configuring jobs",
        "L starting jobs",
    ] {
        lab.kill_when(&["deploy", "--recreate"], step);

        lab.deploy().succeeded();

        assert_eq!(lab.recorders(), 2, "killed at {step}");
        assert_eq!(lab.supervisors().len(), 2, "killed at {step}");
        assert_eq!(ids(&lab), before, "killed at {step}");
    }
}

#[test]
fn a_script_left_running_by_a_killed_command_is_ended_before_it_runs_again() {
    let lab = Lab::new().instances(1).property("hang", "pre-start");
    let mut first = lab.deploy_command(&[]).stdout(Stdio::null()).spawn().unwrap();
    // Not what is about to become one: that dies with the command.
    let is_script = |line: &&String| line.contains("bin/pre-start") && !line.contains("internal-enter");
    let scripts = |lab: &Lab| lab.processes().iter().filter(is_script).count();
    lab.eventually("a script that runs", || scripts(&lab) > 0);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(scripts(&lab) > 0, "it outlives the command");

    let lab = lab.property("hang", "none");
    lab.deploy().succeeded();

    assert_eq!(scripts(&lab), 0);
    assert_eq!(lab.recorders(), 1);
}

/// What the next command cannot find yet must not begin behind its back.
#[test]
fn a_script_whose_command_was_killed_before_it_ran_never_runs() {
    let lab = Lab::new().instances(1).deployed();
    let root = lab.vcap("recorder/0");
    let instance = root.parent().expect("the directory of an instance");
    let notes = lab.state_dir().join("notes");
    std::fs::create_dir(&notes).unwrap();
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let enter = |starter: u32| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_etcd-local"));
        command.arg("internal-enter").arg("--instance").arg(instance).arg("--note").arg(&notes);
        command.args(["--starter", &starter.to_string(), "--", "/bin/touch", "/var/vcap/store/ran"]);
        command.output().unwrap()
    };

    let answer = enter(dead.id());

    let told = String::from_utf8(answer.stderr).unwrap();
    assert!(!answer.status.success() && told.contains("has ended"), "{told}");
    lab.ssh("recorder/0", "test -e /var/vcap/store/ran").failed();
    // Its parent is this test.
    assert!(enter(std::process::id()).status.success());
    lab.ssh("recorder/0", "test -e /var/vcap/store/ran").succeeded();
}

/// Between any two steps that change something on disk.
#[test]
#[cfg(feature = "fail-points")]
fn a_death_between_any_two_steps_is_made_good_by_the_next_deploy() {
    for point in OF_A_DEPLOY.map(Milestone::fail_point) {
        let lab = Lab::new().instances(1);
        if !lab.dies_at(&["deploy"], &point) {
            // Not reached by a first deploy: by an update then, or by one that takes an instance away.
            let lab = lab.instances(2).deployed();
            let dead = lab.dies_at(&["deploy", "--recreate"], &point);
            let lab = lab.instances(1);
            assert!(dead || lab.dies_at(&["deploy"], &point), "{point} is never reached");
            lab.deploy().succeeded();
            assert_eq!((lab.recorders(), lab.supervisors().len()), (1, 1), "died at {point}");
            assert_eq!(lab.disks(), 1, "died at {point}");
            continue;
        }

        lab.deploy().succeeded();

        assert_eq!((lab.recorders(), lab.supervisors().len()), (1, 1), "died at {point}");
        assert_eq!(lab.disks(), 1, "died at {point}");
    }
}

/// Between any two steps that change something on disk.
#[test]
#[cfg(feature = "fail-points")]
fn a_death_between_any_two_steps_of_a_deletion_is_made_good_by_the_next_one() {
    for point in OF_A_DELETION.map(Milestone::fail_point) {
        let lab = Lab::new().instances(2).deployed();
        assert!(lab.dies_at(&["delete-deployment"], &point), "{point} is never reached");

        lab.delete();

        assert_eq!(lab.processes(), Vec::<String>::new(), "died at {point}");
        assert_eq!(lab.orphaned_stories().len(), 2, "died at {point}");
    }
}

#[test]
#[cfg(feature = "fail-points")]
fn a_death_while_a_disk_is_copied_loses_nothing() {
    for point in OF_A_LARGER_DISK.map(Milestone::fail_point) {
        let lab = Lab::new().instances(1).deployed();
        lab.ssh("recorder/0", "echo content > /var/vcap/store/mine").succeeded();
        let lab = lab.disk_mib(2048);
        assert!(lab.dies_at(&["deploy"], &point), "{point} is never reached");

        lab.deploy().succeeded();

        let mine = lab.ssh("recorder/0", "mountpoint -q /var/vcap/store && cat /var/vcap/store/mine");
        assert_eq!(mine.succeeded().stdout, "content\n", "died at {point}");
        assert_eq!((lab.disks(), lab.orphans().len()), (1, 1), "died at {point}");
    }
}

#[test]
#[cfg(feature = "fail-points")]
fn a_death_with_namespaces_is_made_good_too() {
    for point in WITH_NAMESPACES.map(Milestone::fail_point) {
        let lab = Lab::new().instances(2).in_namespaces();
        assert!(lab.dies_at(&["deploy"], &point), "{point} is never reached");

        lab.deploy().succeeded();

        assert_eq!((lab.recorders(), lab.supervisors().len()), (2, 2), "died at {point}");
    }
}
