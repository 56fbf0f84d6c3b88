//! Network namespaces of instances (`--network namespaces`). docs/local-director.md#network
//!
//! A deployment has one switch: a bridge in a namespace of its own, with this machine on one port and an
//! instance on each other one. It is not in the machine's own namespace, where firewall rules (Docker's,
//! for example) would also hold for what instances send each other, and other tools would see its ports.
//!
//! Every name follows from the address, so whatever a killed command left is found again and nothing has
//! to be written down: `el-0ac800` is the switch of 10.200.0.0/24 and this machine's interface to it,
//! `el-0ac800-03` the namespace of the instance at 10.200.0.3, `to-03` its port. Names of interfaces have 15
//! characters at most.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, setns};
use serde::Deserialize;

use super::address::{MACHINE, Registry};
use super::layout::InstanceDir;
use super::model::NetworkMode;
use super::package::link;
use crate::report::Complaint;

/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// The bridge inside a switch.
const BRIDGE: &str = "br0";
/// The port of a switch that leads to this machine.
const TO_MACHINE: &str = "to-machine";

/// Where an instance, or this machine, is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plug {
    network: [u8; 3],
    host: u8,
}

impl Plug {
    fn of(address: Ipv4Addr) -> Self {
        let [first, second, third, host] = address.octets();
        Self { network: [first, second, third], host }
    }

    /// The inverse of [`Plug::name`].
    fn parse(name: &str) -> Option<Self> {
        let (network, host) = name.strip_prefix("el-")?.split_once('-')?;
        let host = u8::from_str_radix(host, 16).ok()?;
        let [_, first, second, third] = u32::from_str_radix(network, 16).ok()?.to_be_bytes();
        Some(Self { network: [first, second, third], host }).filter(|plug| plug.name() == name)
    }

    /// Name of the instance's namespace.
    fn name(self) -> String {
        format!("{}-{:02x}", self.switch(), self.host)
    }

    /// Name of the switch, both of its namespace and of this machine's interface to it.
    fn switch(self) -> String {
        let [first, second, third] = self.network;
        format!("el-{first:02x}{second:02x}{third:02x}")
    }

    fn port(self) -> String {
        format!("to-{:02x}", self.host)
    }

    /// Follows from the address: a machine that is made anew keeps it, and its peers need not find out that
    /// what they remember is no longer true.
    fn hardware(self) -> String {
        let [first, second, third] = self.network;
        format!("02:65:{first:02x}:{second:02x}:{third:02x}:{:02x}", self.host)
    }
}

impl fmt::Display for Plug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third] = self.network;
        write!(f, "{first}.{second}.{third}.{}", self.host)
    }
}

/// Gives an instance a network namespace of its own with this address.
pub fn connect(instance: &InstanceDir, address: Ipv4Addr) -> Result<()> {
    // Noted first: what nobody knows of could never be removed.
    link(&namespace(&Plug::of(address).name()), &instance.namespace())?;
    ensure(instance)
}

/// Makes what is missing of an instance's network: all after a reboot, a part after a killed command, mostly
/// nothing. An instance without a namespace of its own needs nothing.
pub fn ensure(instance: &InstanceDir) -> Result<()> {
    let Some(plug) = plug(instance)? else { return Ok(()) };
    let registry = Registry::default();
    registry.reserve(&instance.deployment(), NetworkMode::Namespaces, &[plug.network], 1)?;
    // Instances are made at the same time, and the first of them makes the switch.
    let _lock = registry.lock("wiring")?;
    if !is_switched_on(plug)? {
        make_switch(plug).with_context(|| format!("make the switch {}", plug.switch()))?;
    }
    if !is_plugged_in(plug)? {
        plug_in(plug).with_context(|| format!("make the network namespace {}", plug.name()))?;
    }
    Ok(())
}

/// Takes an instance's namespace away. Processes in it have ended.
pub fn disconnect(instance: &InstanceDir) -> Result<()> {
    let Some(plug) = plug(instance)? else { return Ok(()) };
    unplug(plug)?;
    fs::remove_file(instance.namespace()).context("forget the network namespace")
}

/// Removes the switch of a network and every namespace on it.
pub fn clear(network: [u8; 3]) -> Result<()> {
    let switch = Plug { network, host: MACHINE }.switch();
    for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        if let Some(plug) = entry.file_name().to_str().and_then(Plug::parse)
            && plug.network == network
        {
            unplug(plug)?;
        }
    }
    remove_link(None, &switch)?;
    remove_namespace(&switch)
}

/// Moves the calling thread into the instance's namespace, if it has one.
pub fn enter(instance: &InstanceDir) -> Result<()> {
    let Some(plug) = plug(instance)? else { return Ok(()) };
    let path = namespace(&plug.name());
    let file = fs::File::open(&path).map_err(|error| {
        Complaint::failed(
            format!("the network namespace of the instance cannot be entered: {}: {error}", path.display()),
            "it was removed by somebody else, or a command was killed while it made it",
            "run `etcd-local deploy` again",
        )
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", path.display()))
}

/// A route of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    destination: u32,
    bits: u32,
    device: String,
}

impl Route {
    /// Whether it reaches an address of `network`, unless it is the one that leads there by our own switch.
    pub fn overlaps(&self, network: [u8; 3]) -> bool {
        let own = Plug { network, host: MACHINE }.switch();
        let [first, second, third] = network;
        let network = u32::from(Ipv4Addr::new(first, second, third, 0));
        let shift = 32 - self.bits.min(24);
        self.device != own && (self.destination ^ network) >> shift == 0
    }

    fn parse(destination: &str, device: &str) -> Option<Self> {
        let (address, bits) = destination.split_once('/').unwrap_or((destination, "32"));
        let bits = bits.parse().ok().filter(|bits| (1..=32).contains(bits))?;
        let destination = u32::from(address.parse::<Ipv4Addr>().ok()?);
        Some(Self { destination, bits, device: device.to_owned() })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a route to {}/{} by {}", Ipv4Addr::from(self.destination), self.bits, self.device)
    }
}

/// All routes of this machine but the default ones, those to its own addresses among them.
pub fn routes() -> Result<Vec<Route>> {
    #[derive(Deserialize)]
    struct Listed {
        dst: String,
        #[serde(default)]
        dev: String,
    }
    let text = ip(None, &["-4", "-json", "route", "show", "table", "all"])?;
    // Nothing at all where there are none.
    let text = if text.trim().is_empty() { "[]" } else { &text };
    let listed: Vec<Listed> = serde_json::from_str(text).context("read the routes of this machine")?;
    Ok(listed.iter().filter_map(|listed| Route::parse(&listed.dst, &listed.dev)).collect())
}

/// Where the instance is plugged in; `None` without a namespace of its own.
fn plug(instance: &InstanceDir) -> Result<Option<Plug>> {
    let target = match fs::read_link(instance.namespace()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        target => target.context("read which network namespace the instance has")?,
    };
    let plug = target.file_name().and_then(|name| name.to_str()).and_then(Plug::parse);
    plug.map(Some).ok_or_else(|| anyhow!("{} is no network namespace of etcd-local", target.display()))
}

fn namespace(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

/// A file of that name alone may be what a killed `ip netns add` left: it becomes a namespace by a mount.
fn is_namespace(name: &str) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let found = device(&namespace(name));
    found.is_some() && found != device(Path::new(NAMESPACES))
}

/// This machine's address is the last that is given, so with it everything is there.
fn is_switched_on(plug: Plug) -> Result<bool> {
    let (switch, [first, second, third]) = (plug.switch(), plug.network);
    let address = Ipv4Addr::new(first, second, third, MACHINE);
    let is_up = getifaddrs().context("list the interfaces of this machine")?.any(|interface| {
        let ip = interface.address.as_ref().and_then(|address| Some(address.as_sockaddr_in()?.ip()));
        interface.interface_name == switch
            && interface.flags.contains(InterfaceFlags::IFF_UP)
            && ip == Some(address)
    });
    Ok(is_up && is_namespace(&switch))
}

fn make_switch(plug: Plug) -> Result<()> {
    let switch = plug.switch();
    let machine = Plug { host: MACHINE, ..plug };
    remove_link(None, &switch)?;
    remove_namespace(&switch)?;
    ip(None, &["netns", "add", &switch])?;
    batch(
        None,
        &format!(
            "link add {switch} address {} type veth peer name {TO_MACHINE} netns {switch}\n",
            machine.hardware()
        ),
    )?;
    batch(
        Some(&switch),
        &format!(
            "link add {BRIDGE} type bridge\n\
             link set {BRIDGE} up\n\
             link set {TO_MACHINE} master {BRIDGE}\n\
             link set {TO_MACHINE} up\n"
        ),
    )?;
    batch(None, &format!("link set {switch} up\naddress add {machine}/24 dev {switch}\n"))
}

/// Being a port of the bridge that is up is what is done last.
fn is_plugged_in(plug: Plug) -> Result<bool> {
    #[derive(Deserialize)]
    struct Listed {
        ifname: Option<String>,
        master: Option<String>,
        #[serde(default)]
        flags: Vec<String>,
    }
    if !is_namespace(&plug.name()) {
        return Ok(false);
    }
    let text = ip(Some(&plug.switch()), &["-json", "link", "show"])?;
    let listed: Vec<Listed> = serde_json::from_str(&text).context("read the ports of the switch")?;
    Ok(listed.iter().any(|port| {
        port.ifname.as_ref() == Some(&plug.port())
            && port.master.as_deref() == Some(BRIDGE)
            && port.flags.iter().any(|flag| flag == "UP")
    }))
}

fn plug_in(plug: Plug) -> Result<()> {
    let (name, switch, port) = (plug.name(), plug.switch(), plug.port());
    unplug(plug)?;
    ip(None, &["netns", "add", &name])?;
    batch(
        Some(&name),
        &format!(
            "link set lo up\n\
             link add eth0 address {} type veth peer name {port} netns {switch}\n\
             address add {plug}/24 dev eth0\n\
             link set eth0 up\n",
            plug.hardware()
        ),
    )?;
    batch(Some(&switch), &format!("link set {port} master {BRIDGE}\nlink set {port} up\n"))
}

/// The port goes by itself with its namespace, but only some time later.
fn unplug(plug: Plug) -> Result<()> {
    if is_namespace(&plug.switch()) {
        remove_link(Some(&plug.switch()), &plug.port())?;
    }
    remove_namespace(&plug.name())
}

fn remove_namespace(name: &str) -> Result<()> {
    if namespace(name).exists() {
        ip(None, &["netns", "delete", name])?;
    }
    Ok(())
}

fn remove_link(namespace: Option<&str>, name: &str) -> Result<()> {
    let is_there = run(namespace, &["link", "show", "dev", name], "")?.status.success();
    if is_there {
        ip(namespace, &["link", "delete", "dev", name])?;
    }
    Ok(())
}

/// Several changes with one start of `ip`.
fn batch(namespace: Option<&str>, lines: &str) -> Result<()> {
    judge(&run(namespace, &["-batch", "-"], lines)?).map(drop)
}

fn ip(namespace: Option<&str>, arguments: &[&str]) -> Result<String> {
    judge(&run(namespace, arguments, "")?)
}

fn judge(output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("ip: {}", String::from_utf8_lossy(&output.stderr).trim())
}

fn run(namespace: Option<&str>, arguments: &[&str], stdin: &str) -> Result<Output> {
    let mut command = Command::new("ip");
    command.args(namespace.iter().flat_map(|name| ["-netns", *name])).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_run)?;
    if let Some(mut pipe) = child.stdin.take() {
        // Ignored: it says itself why it read no more.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    child.wait_with_output().context("wait for ip")
}

fn not_run(error: std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        return Complaint::failed(
            "there is no `ip` on this machine",
            "--network namespaces connects instances with it",
            "install iproute2 (`apt-get install iproute2`), or leave --network out",
        )
        .into();
    }
    anyhow::Error::new(error).context("run ip")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_address_and_the_address_from_the_name() {
        for address in ["10.200.0.3", "10.254.255.253", "198.18.7.16"] {
            let plug = Plug::of(address.parse().unwrap());

            assert_eq!(Plug::parse(&plug.name()), Some(plug));
            assert_eq!(plug.to_string(), address);
            assert!(plug.switch().len() <= 15 && plug.port().len() <= 15);
        }
        assert_eq!(Plug::of(Ipv4Addr::new(10, 200, 0, 3)).name(), "el-0ac800-03");
        for foreign in ["", "el-0ac800", "el-0ac800-3", "el-0AC800-03", "el-10ac800-03", "blue", "el-x-y"] {
            assert_eq!(Plug::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_route_overlaps_a_network_in_either_direction() {
        let cases = [
            ("10.200.0.0/24", "eth0", true),
            ("10.0.0.0/8", "tun0", true),
            ("10.200.0.7", "eth0", true),
            ("10.200.1.0/24", "eth0", false),
            ("10.200.1.7", "eth0", false),
            ("192.168.0.0/16", "eth0", false),
            ("10.200.0.0/24", "el-0ac800", false),
            ("10.200.0.0/24", "el-0ac801", true),
        ];
        for (destination, device, expected) in cases {
            let route = Route::parse(destination, device).unwrap();

            assert_eq!(route.overlaps([10, 200, 0]), expected, "{route}");
        }
        assert_eq!(Route::parse("default", "eth0"), None);
    }

    #[test]
    fn without_the_tool_one_is_told_what_to_install() {
        let error = not_run(ErrorKind::NotFound.into());

        assert!(crate::report::chain(&error).contains("install iproute2"), "{error:#}");
    }
}
