//! Changes of a whole deployment, as a Director rolls them out: renamed groups, zones, disks, stemcells, groups
//! that go, instances that are ignored, and how many are worked on at a time.

use std::fs;

use crate::lab::Lab;
use crate::machine;
use crate::{DELETE_VM, KEEP, starting, stopping, then};

const DELETE_INSTANCE: &str =
    "BOSH_DEPLOYMENT_NEXT_STATE=keep BOSH_INSTANCE_NEXT_STATE=delete BOSH_VM_NEXT_STATE=delete";

fn column(lab: &Lab, name: &str) -> Vec<String> {
    let rows = lab.rows("instances --details");
    rows.iter().map(|row| row[name].as_str().expect("a column of the table").to_owned()).collect()
}

/// Where `words` stand first in what a command said; each must be there.
#[track_caller]
fn position(said: &str, words: &str) -> usize {
    said.find(words).unwrap_or_else(|| panic!("it never said {words:?}:\n{said}"))
}

#[test]
fn a_renamed_group_keeps_ids_and_disks_and_each_instance_its_old_name_until_its_turn() {
    let lab = Lab::new().instances(2).deployed();
    lab.ssh("recorder/1", "touch /var/vcap/store/mine").succeeded();
    let (before, disks) = (column(&lab, "instance"), column(&lab, "disk_cids"));
    let ids: Vec<&str> = before.iter().map(|slug| &slug["recorder/".len()..]).collect();
    let lab = lab.ops(&[
        "{type: replace, path: \"/instance_groups/name=recorder/migrated_from?\", value: [{name: recorder}]}",
        "{type: replace, path: /instance_groups/name=recorder/name, value: keeper}",
    ]);

    // The bootstrap instance is first: it is renamed when its pre-start runs, the other one is not.
    lab.kill_when(&["deploy"], "L executing pre-start");

    for slug in ["keeper/0", "keeper/1"] {
        let resolves = |name: String| lab.ssh(slug, &format!("getent hosts {name}")).code == 0;
        let of = |id: &str, group: &str| format!("{id}.{group}.default.recorder.bosh");
        assert!(resolves(of(ids[0], "keeper")) && !resolves(of(ids[0], "recorder")), "{slug}");
        assert!(resolves(of(ids[1], "recorder")) && !resolves(of(ids[1], "keeper")), "{slug}");
    }

    lab.deploy().succeeded();

    assert_eq!(column(&lab, "instance"), ids.iter().map(|id| format!("keeper/{id}")).collect::<Vec<_>>());
    assert_eq!(column(&lab, "disk_cids"), disks);
    lab.ssh("keeper/1", "test -e /var/vcap/store/mine").succeeded();
    let hosts = lab.ssh("keeper/0", "cat /etc/hosts /var/vcap/instance/name").succeeded().stdout;
    assert!(!hosts.contains(".recorder.default") && hosts.ends_with("keeper"), "{hosts}");
}

#[test]
fn a_new_zone_means_a_new_instance_made_first_and_started_last() {
    let zones =
        |azs: &str| format!("{{type: replace, path: /instance_groups/name=recorder/azs, value: {azs}}}");
    let lab = Lab::new().instances(1).ops(&[&zones("[z1]")]).deployed();
    let old = column(&lab, "instance").remove(0);

    let lab = lab.ops(&[&zones("[z2]")]);
    let said = lab.deploy().succeeded().stdout;

    let new = column(&lab, "instance").remove(0);
    assert_ne!(new, old);
    // The old one still has index 0 when the new one is made.
    assert_eq!((column(&lab, "index"), column(&lab, "az")), (vec!["1".to_owned()], vec!["z2".to_owned()]));
    let order = [
        format!("Creating missing vms: {new}"),
        format!("Deleting unneeded instances recorder: {old}"),
        format!("Updating instance recorder: {new}"),
    ]
    .map(|words| position(&said, &words));
    assert!(order.is_sorted(), "{said}");
    let orphans = lab.orphaned_stories();
    assert_eq!(orphans.len(), 1);
    assert!(
        orphans[0].ends_with(&stopping(DELETE_INSTANCE, "job_shutdown hash_unchanged", 0)),
        "{orphans:?}"
    );
    assert_eq!(lab.story_of("recorder/1"), starting());
}

#[test]
fn a_disk_of_another_size_is_a_copy_and_the_old_one_is_kept_aside() {
    let lab = Lab::new().instances(1).deployed();
    lab.ssh(
        "recorder/0",
        "cd /var/vcap/store; install -o vcap -m 0640 /dev/null a; ln a b; truncate -s 1G sparse",
    )
    .succeeded();
    let look = "cd /var/vcap/store; stat -c '%n %U %a %h %s' a b sparse; du -m sparse | cut -f1";
    let before = lab.ssh("recorder/0", look).succeeded().stdout;
    let disk = column(&lab, "disk_cids");
    lab.story();

    let lab = lab.disk_mib(2048).deployed();

    assert_eq!(lab.story(), then(stopping(KEEP, "job_shutdown hash_unchanged", 2048), starting()));
    assert_ne!(column(&lab, "disk_cids"), disk);
    assert_eq!(lab.ssh("recorder/0", look).succeeded().stdout, before);
    assert!(lab.orphans()[0].ends_with(format!(
        "{}-{}",
        column(&lab, "instance")[0].replace('/', "-"),
        disk[0]
    )));

    let disk = column(&lab, "disk_cids");
    lab.deploy_with(&["--recreate-persistent-disks"]).succeeded();
    let same_size: Vec<String> = then(stopping(KEEP, "job_shutdown hash_unchanged", 2048), starting())
        .iter()
        .map(|line| line.replace("\"persistent_disk\":1024", "\"persistent_disk\":2048"))
        .collect();
    assert_eq!(lab.story(), same_size);
    assert_ne!(column(&lab, "disk_cids"), disk);
    assert_eq!((lab.orphans().len(), lab.ssh("recorder/0", look).succeeded().stdout), (2, before));

    let lab = lab.disk_mib(0).deployed();
    assert_eq!((column(&lab, "disk_cids"), lab.orphans().len()), (vec!["-".to_owned()], 3));
    let told = lab.orphaned_stories().concat();
    let drained = "drain [job_shutdown hash_unchanged] BOSH_JOB_NEXT_STATE={\"persistent_disk\":0} \
                   BOSH_JOB_STATE={\"persistent_disk\":2048}";
    assert!(told.iter().any(|line| line == drained), "{told:#?}");
}

#[test]
fn another_stemcell_is_another_machine_with_the_same_disk() {
    let lab = Lab::new().instances(1).deployed();
    lab.ssh("recorder/0", "touch /var/vcap/{store/kept,data/lost,sys/run/lost}").succeeded();
    lab.story();

    let lab = lab.ops(&["{type: replace, path: /stemcells/alias=default/version, value: '2'}"]).deployed();

    assert_eq!(lab.story(), then(stopping(DELETE_VM, "job_shutdown hash_unchanged", 1024), starting()));
    let left = lab.ssh("recorder/0", "ls /var/vcap/{store/kept,data/lost,sys/run/lost}").failed().stdout;
    assert_eq!(left.trim(), "/var/vcap/store/kept");
}

#[test]
fn a_boot_empties_sys_run_and_runs_no_script() {
    let lab = Lab::new().instances(1).deployed();
    lab.ssh("recorder/0", "touch /var/vcap/{store,data,sys/run}/kept").succeeded();
    lab.story();

    machine::reboot(&lab.machine("recorder/0"));

    assert_eq!(lab.recorders(), 0);
    lab.eventually("monit starts the process", || {
        lab.rows("instances")[0]["process_state"] == "running" && lab.recorders() == 1
    });
    assert_eq!(lab.story(), Vec::<String>::new());
    let left = lab.ssh("recorder/0", "ls /var/vcap/{store,data,sys/run}/kept").failed().stdout;
    assert_eq!(left.trim(), "/var/vcap/data/kept\n/var/vcap/store/kept");
}

#[test]
fn max_in_flight_instances_are_worked_on_at_the_same_time() {
    let one_zone = "{type: replace, path: /instance_groups/name=recorder/azs, value: [z1]}";
    let two_at_a_time = "{type: replace, path: /update/max_in_flight, value: 2}";
    let lab = Lab::new().instances(2).ops(&[one_zone]);
    let place = |name: &str| {
        let place = lab.scratch().join(name);
        fs::create_dir_all(&place).expect("make a directory");
        place.display().to_string()
    };
    let (starts, drains) = (place("starts"), place("drains"));

    // Each waits for another one: with one at a time, or with a canary, none would ever come.
    let lab = lab.property("meet_in", "pre-start").property("meet_at", &starts);
    lab.deploy_with(&["--canaries", "0", "--max-in-flight", "100%"]).succeeded();

    // Nobody has to meet while the drain is laid down that will.
    let lab = lab.instances(3).property("meet_in", "drain").property("meet_at", &drains);
    lab.deploy_with(&["--skip-drain"]).succeeded();
    let lab = lab.instances(1).ops(&[one_zone, two_at_a_time]).deployed();

    assert_eq!(fs::read_dir(&drains).expect("list who came").count(), 2);
    assert_eq!(lab.recorders(), 1);
}

#[test]
fn several_groups_and_instances_go_in_one_deploy() {
    let group = |name: &str| {
        format!(
            "{{type: replace, path: /instance_groups/-, value: {{name: {name}, instances: 1, azs: [z1], vm_type: default, \
             stemcell: default, persistent_disk: 1024, networks: [{{name: default}}], jobs: [{{name: bpm, release: bpm}}, \
             {{name: recorder, release: recorder}}]}}}}"
        )
    };
    let lab = Lab::new().instances(3).ops(&[&group("one"), &group("two")]).deployed();
    assert_eq!(lab.recorders(), 5);

    let lab = lab.instances(1).ops(&[]);
    let said = lab.deploy().succeeded().stdout;

    // Groups first, all together; then the instances of the group that stays.
    let last_group = position(&said, "Deleting unneeded instances: one/")
        .max(position(&said, "Deleting unneeded instances: two/"));
    assert!(last_group < position(&said, "Deleting unneeded instances recorder: "), "{said}");
    assert_eq!((lab.recorders(), column(&lab, "index")), (1, vec!["0".to_owned()]));

    let lab = lab.instances(0).deployed();

    assert_eq!((lab.recorders(), lab.rows("instances").len()), (0, 0));
    let orphans = lab.orphaned_stories();
    assert_eq!(orphans.len(), 5);
    let leaving = stopping(DELETE_INSTANCE, "job_shutdown hash_unchanged", 0);
    assert!(orphans.iter().all(|story| story.ends_with(&leaving)), "{orphans:#?}");
}

#[test]
fn a_hard_stopped_instance_that_is_no_longer_wanted_goes_without_a_script() {
    let lab = Lab::new().instances(2).deployed();
    lab.cli(&["stop", "recorder/1", "--hard"]).succeeded();
    assert_eq!(column(&lab, "vm_cid")[1], "-");

    let lab = lab.instances(1).deployed();

    let stopped = stopping(DELETE_VM, "job_shutdown hash_unchanged", 1024);
    assert!(lab.orphaned_stories()[0].ends_with(&stopped), "{:?}", lab.orphaned_stories());
    assert_eq!(lab.rows("instances").len(), 1);
}

#[test]
fn an_ignored_instance_is_left_alone_until_it_is_unignored() {
    let lab = Lab::new().instances(2).deployed();
    lab.story_of("recorder/1");
    lab.cli(&["ignore", "recorder/1"]).succeeded();
    assert_eq!(column(&lab, "ignore"), ["false", "true"]);

    let lab = lab.greeting("good morning").deployed();
    lab.cli(&["restart"]).succeeded();
    lab.cli(&["stop", "recorder"]).succeeded();

    assert_eq!(lab.story_of("recorder/1"), Vec::<String>::new());
    assert_eq!(column(&lab, "process_state"), ["stopped", "running"]);
    for arguments in [&["restart", "recorder/1"][..], &["stop", "recorder/1", "--no-converge"]] {
        let answer = lab.cli(arguments).failed();
        assert!(answer.stderr.contains("change the state of the ignored instance"), "{}", answer.text());
    }
    let answer = lab.cli(&["delete-deployment"]).failed();
    assert!(answer.stderr.contains("which contains ignored instance(s)"), "{}", answer.text());
    let lab = lab.instances(0);
    let answer = lab.deploy().failed();
    assert!(answer.stdout.contains("which is ignored"), "{}", answer.text());

    lab.cli(&["unignore", "recorder/1"]).succeeded();
    let lab = lab.instances(2).deployed();

    let updated = then(stopping(KEEP, "job_changed hash_changed", 1024), starting());
    assert_eq!(lab.story_of("recorder/1"), updated);
}

#[test]
fn without_convergence_only_the_named_instance_is_touched_and_nothing_runs_post_deploy() {
    let lab = Lab::new().instances(2).deployed();
    let stories = |lab: &Lab| [lab.story_of("recorder/0"), lab.story_of("recorder/1")];
    stories(&lab);
    let started = || starting()[..2].to_vec();
    let operations = [
        (&["stop"][..], stopping(KEEP, "job_shutdown hash_unchanged", 1024)),
        (&["start"], started()),
        (&["recreate"], then(stopping(DELETE_VM, "job_shutdown hash_unchanged", 1024), started())),
        (&["restart", "--skip-drain"], then(vec!["post-stop []".to_owned()], started())),
    ];
    for (operation, expected) in operations {
        let mut arguments = vec![operation[0], "recorder/1", "--no-converge"];
        arguments.extend(&operation[1..]);

        lab.cli(&arguments).succeeded();

        assert_eq!(stories(&lab), [Vec::new(), expected], "{arguments:?}");
    }
    lab.cli(&["stop", "recorder/1", "--hard", "--no-converge"]).succeeded();
    assert_eq!(column(&lab, "vm_cid")[1], "-");
    lab.cli(&["start", "recorder/1", "--no-converge"]).succeeded();
    let expected = then(stopping(DELETE_VM, "job_shutdown hash_unchanged", 1024), started());
    assert_eq!(stories(&lab), [Vec::new(), expected]);
}

#[test]
fn a_deploy_with_skip_drain_leaves_pre_stop_and_drain_out() {
    let lab = Lab::new().instances(1).deployed();
    lab.story();
    let lab = lab.greeting("good evening");

    lab.deploy_with(&["--skip-drain"]).succeeded();

    assert_eq!(lab.story(), then(vec!["post-stop []".to_owned()], starting()));
}
