//! `--network namespaces`: an address of its own for each instance, and what it takes to lose and find it.

use std::fs;
use std::process::Command;

use crate::lab::{Answer, Lab};
use crate::machine::{self, Machine};

/// What a caller inside an instance hears from another one; 124 is the code of silence.
fn call(lab: &Lab, from: &str, to: &str) -> Answer {
    lab.ssh(from, &format!("timeout 1 bash -c 'exec 3<>/dev/tcp/{to}/7000 && cat <&3'"))
}

fn addresses(lab: &Lab) -> Vec<String> {
    lab.rows("instances").iter().map(|row| row["ips"].as_str().expect("an address").to_owned()).collect()
}

/// Waits until every instance is heard by every other one.
fn all_connected(lab: &Lab, addresses: &[String]) {
    for from in 0..addresses.len() {
        for to in addresses {
            lab.eventually("an answer", || {
                call(lab, &format!("recorder/{from}"), to).stdout == format!("{}\n", addresses[from])
            });
        }
    }
}

/// Namespaces and interfaces of etcd-local in the network of this address.
fn left_overs(address: &str) -> Vec<String> {
    let network: Vec<u8> = address.split('.').take(3).map(|part| part.parse().expect("a number")).collect();
    let prefix = format!("el-{:02x}{:02x}{:02x}", network[0], network[1], network[2]);
    let names = |directory: &str| -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let all = names("/run/netns").into_iter().chain(names("/sys/class/net"));
    all.filter(|name| name.starts_with(&prefix)).collect()
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("run ip");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn instances_call_from_their_own_addresses_and_a_partition_is_silence() {
    let lab = Lab::new().instances(3).in_namespaces().property("listen", "true").deployed();
    let addresses = addresses(&lab);
    let machine = |index: usize| {
        Machine::of(&lab.machine(&format!("recorder/{index}")), &addresses[index]).expect("a namespace")
    };
    all_connected(&lab, &addresses);

    machine(0).cut(&machine(1));

    for (from, to) in [(0, 1), (1, 0)] {
        let answer = call(&lab, &format!("recorder/{from}"), &addresses[to]);
        assert_eq!((answer.code, answer.stdout.as_str()), (124, ""), "{}", answer.text());
    }
    for (from, to) in [(0, 2), (2, 0), (1, 2), (2, 1), (0, 0)] {
        lab.eventually("an answer", || {
            call(&lab, &format!("recorder/{from}"), &addresses[to]).stdout.trim() == addresses[from]
        });
    }
    for address in &addresses {
        lab.eventually("an answer to this machine", || {
            std::net::TcpStream::connect((address.as_str(), 7000)).is_ok()
        });
    }

    machine(0).heal();
    machine(1).heal();

    all_connected(&lab, &addresses);
}

#[test]
fn names_resolve_to_addresses_of_the_network_also_that_of_the_group() {
    let lab = Lab::new().instances(2).in_namespaces().deployed();
    let addresses = addresses(&lab);

    let found = lab.ssh("recorder/1", "getent ahostsv4 recorder.default.recorder.bosh").succeeded().stdout;

    for address in &addresses {
        assert!(found.lines().any(|line| line.starts_with(address.as_str())), "{address} in\n{found}");
        assert!(!address.starts_with("127."), "{address}");
    }
}

#[test]
fn the_network_is_settled_by_the_first_deploy_and_goes_with_the_deployment() {
    let lab = Lab::new().instances(1).in_namespaces().deployed();
    let other = Lab::new().instances(1).in_namespaces().deployed();
    let address = addresses(&lab)[0].clone();
    assert_ne!(left_overs(&address), Vec::<String>::new());
    assert_ne!(left_overs(&address), left_overs(&addresses(&other)[0]), "each has its own network");

    let answer = lab.cli(&["--network", "loopback", "restart"]).failed();
    assert!(answer.stderr.contains("has --network namespaces, not loopback"), "{}", answer.text());
    lab.cli(&["restart"]).succeeded();
    lab.cli(&["recreate", "recorder/0"]).succeeded();
    assert_eq!(addresses(&lab), [address.as_str()]);

    lab.delete();

    assert_eq!(left_overs(&address), Vec::<String>::new());
}

#[test]
fn a_network_that_is_gone_is_made_again_by_the_next_command() {
    let lab = Lab::new().instances(2).in_namespaces().property("listen", "true").deployed();
    let addresses = addresses(&lab);
    let namespace = fs::read_link(lab.machine("recorder/1").namespace()).expect("a namespace");
    let namespace = namespace.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let (switch, _) = namespace.rsplit_once('-').expect("the network's name, then the instance");

    // As a reboot of this machine takes everything away, processes included.
    for slug in ["recorder/0", "recorder/1"] {
        machine::reboot(&lab.machine(slug));
    }
    for name in left_overs(&addresses[0]).iter().filter(|name| name.len() > switch.len()) {
        ip(&["netns", "delete", name]);
    }
    ip(&["link", "delete", switch]);
    ip(&["netns", "delete", switch]);

    // What runs is asked for first, as nobody has started the supervisors yet.
    assert_eq!(lab.rows("instances").len(), 2);
    all_connected(&lab, &addresses);

    // A part of it, under running processes: only a new machine can get into a new namespace.
    ip(&["-netns", switch, "link", "delete", &format!("to-{}", &namespace[namespace.len() - 2..])]);
    lab.cli(&["recreate", "recorder/1"]).succeeded();
    all_connected(&lab, &addresses);
}

#[test]
fn without_the_tool_one_is_told_what_to_install() {
    let lab = Lab::new().instances(1).in_namespaces();
    let tools = lab.scratch();
    for tool in ["bosh", "ruby"] {
        let found = which::which_in(tool, Some(crate::lab::path()), ".").expect("ci/setup gets it");
        std::os::unix::fs::symlink(found, tools.join(tool)).expect("link a tool");
    }

    let output = lab.deploy_command(&[]).env("PATH", &tools).output().expect("start etcd-local");

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("install iproute2"), "{said}");
    lab.forget();
}

#[test]
fn a_static_address_must_be_of_the_deployments_network() {
    let with = |address: &str| {
        format!(
            "{{type: replace, path: \"/instance_groups/name=recorder/networks/name=default/static_ips?\", \
             value: [{address}]}}"
        )
    };
    let lab = Lab::new().instances(1).in_namespaces().ops(&[&with("192.0.2.77")]);

    let answer = lab.deploy().failed();
    assert!(
        answer.stdout.contains("the static address 192.0.2.77 does not lie between"),
        "{}",
        answer.text()
    );

    let lab = lab.ops(&[]).deployed();
    let address = addresses(&lab)[0].clone();
    let (network, _) = address.rsplit_once('.').expect("four parts");
    let moved = format!("{network}.77");
    let lab = lab.ops(&[&with(&moved)]).deployed();

    assert_eq!(addresses(&lab), [moved.as_str()]);
    let own = lab.ssh("recorder/0", "ip -brief -4 address show eth0").succeeded().stdout;
    assert!(own.contains(&format!("{moved}/24")), "{own}");
}
