//! What job templates see, proved with real Ruby: one row per call, per field and per error text. What a
//! manifest becomes is in `render/interpolation.rs`. docs/local-director.md#templates
#![allow(missing_docs, reason = "a test target has no public items")]

#[path = "render/interpolation.rs"]
mod interpolation;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use etcd_release::local::link;
use etcd_release::local::manifest::Manifest;
use etcd_release::local::model::Identity;
use etcd_release::local::release::{Catalog, Job, LinkConsumed, LinkProvided, Property, Release, Template};
use etcd_release::local::render::{RenderErrors, RenderedInstance, render};
use serde_json::json;

const UUID: &str = "6f3e0c1a-0000-4000-8000-000000000000";

/// A deployment of group `my_ig` with job `j` on one instance, to be rendered.
struct Deployment {
    yaml: String,
    job: Job,
    /// Further jobs of the release; the manifest has to name them.
    others: Vec<Job>,
    instances: Vec<Identity>,
}

/// Properties of job `j` in the manifest; the spec declares `a` (no default), `d.x` (1), `no` (false), `empty`
/// ('') and `unset` (no default). The job consumes `peers`, which it provides, `absent`, and `manual`.
const PROPERTIES: &str = "{a: {list: [1, {z: 1, k: v}], t: true, b: 5}, unset: ~, secret: undeclared}";

fn deployment() -> Deployment {
    let yaml = format!(
        "name: my_dep\n\
         releases: [{{name: rel, version: 1}}]\n\
         update: {{canaries: 1, max_in_flight: 1, canary_watch_time: 1, update_watch_time: 1}}\n\
         instance_groups:\n\
         - name: my_ig\n  instances: 2\n  azs: [z1]\n  persistent_disk: 1024\n  networks: [{{name: default}}]\n  jobs:\n\
         \x20 - name: j\n    release: rel\n    properties: {PROPERTIES}\n\
         \x20   consumes: {{manual: {{instances: [{{address: 10.0.0.5}}], properties: {{port: 1}}, address: db.example.com}}}}\n"
    );
    let property = |name: &str, default: serde_json::Value| Property {
        name: name.into(),
        default: Some(default).filter(|value| !value.is_null()),
    };
    let consumed = |name: &str, link_type: &str, optional| LinkConsumed {
        name: name.into(),
        link_type: link_type.into(),
        optional,
    };
    let job = Job {
        name: "j".into(),
        provides: vec![LinkProvided {
            name: "peers".into(),
            link_type: "p".into(),
            properties: vec!["d.x".into()],
        }],
        consumes: vec![
            consumed("peers", "p", false),
            consumed("absent", "none", true),
            consumed("manual", "m", false),
        ],
        properties: vec![
            property("a", json!(null)),
            property("d.x", json!(1)),
            property("no", json!(false)),
            property("empty", json!("")),
            property("unset", json!(null)),
        ],
        ..Job::default()
    };
    let instance = |index: u32, id: &str| Identity {
        deployment: "my_dep".into(),
        group: "my_ig".into(),
        id: id.into(),
        index,
        az: Some("z1".into()),
        network: "default".into(),
        ip: Ipv4Addr::new(127, 0, 9, if index == 0 { 1 } else { 2 }),
        bootstrap: index == 0,
    };
    Deployment { yaml, job, others: Vec::new(), instances: vec![instance(0, UUID), instance(1, "u1")] }
}

impl Deployment {
    /// Adds a template that is rendered to `config/NAME`.
    fn template(self, name: &str, text: &str) -> Self {
        self.template_to(name, &format!("config/{name}"), text)
    }

    fn template_to(mut self, name: &str, destination: &str, text: &str) -> Self {
        let (source, destination, text) = (name.into(), destination.into(), text.into());
        self.job.templates.push(Template { source, destination, text });
        self
    }

    fn manifest_with(mut self, from: &str, to: &str) -> Self {
        assert!(self.yaml.contains(from), "{from}");
        self.yaml = self.yaml.replace(from, to);
        self
    }

    fn render(&self) -> anyhow::Result<Vec<RenderedInstance>> {
        self.render_with(&ruby())
    }

    fn render_with(&self, ruby: &Path) -> anyhow::Result<Vec<RenderedInstance>> {
        let manifest = Manifest::parse(&self.yaml)?;
        let mut release = Release::played("rel", &[]);
        for job in self.others.iter().chain([&self.job]) {
            release.jobs.insert(job.name.clone(), job.clone());
        }
        let mut catalog = Catalog::default();
        catalog.add(release);
        let links = link::resolve(&manifest, &catalog, &self.instances, &BTreeMap::new())?;
        render(ruby, &manifest, &catalog, &links, &self.instances)
    }

    fn first(&self) -> RenderedInstance {
        self.render().expect("renders").remove(0)
    }
}

fn ruby() -> PathBuf {
    which::which("ruby").expect("Ruby is on PATH (`apt-get install ruby`)")
}

/// Renders each text as a template of its own and compares.
fn assert_renders(deployment: Deployment, rows: &[(&str, &str)]) {
    let named = rows.iter().enumerate().map(|(at, (text, _))| (format!("{at}.erb"), *text));
    let filled = named.fold(deployment, |deployment, (name, text)| deployment.template(&name, text)).first();

    for ((text, expected), file) in rows.iter().zip(&filled.jobs[0].files) {
        assert_eq!(file.content, *expected, "{text}");
    }
}

#[test]
#[rustfmt::skip]
fn properties_are_found_by_dotted_name() {
    assert_renders(deployment(), &[
        ("<%= p('a.b') %>", "5"),
        // Sorted, whatever the manifest's order: another order would be another file.
        ("<%= p('a').to_json %>", r#"{"b":5,"list":[1,{"k":"v","z":1}],"t":true}"#),
        ("<%= p('unset', 'null is missing') %>", "null is missing"),
        ("<%= p('no', true) %>/<%= p(['empty', 'd.x'], 7).inspect %>", "false/\"\""),
        ("<%= p('d.x') %>", "1"),
        ("<%= p('d.x', 2) %>", "1"),
        ("<%= p('no') %>", "false"),
        ("[<%= p('empty') %>]", "[]"),
        ("<%= p('a.none', 'default') %>", "default"),
        ("<%= p('a.none', nil).inspect %>", "nil"),
        ("<%= p(['a.none', 'd.x']) %>", "1"),
        ("<%= p(['a.none', 'none.such'], 7) %>", "7"),
        ("<%= p('secret', 'an undeclared property is invisible') %>", "an undeclared property is invisible"),
        ("<%= properties.a.b %>/<%= properties.none.inspect %>/<%= properties.unset.inspect %>", "5/nil/nil"),
        ("<%= raw_properties['a']['b'] %>", "5"),
        ("<% p('a')['b'] = 6 %>", ""),
        // What one template changes, the next does not see.
        ("<%= p('a.b') %>", "5"),
    ]);
}

#[test]
#[rustfmt::skip]
fn blocks_run_when_all_their_properties_are_there() {
    assert_renders(deployment(), &[
        ("<% if_p('a.b', 'no') do |b, no| %><%= b %> <%= no %><% end %>", "5 false"),
        ("<% if_p('a.b', 'a.none') do |*| %>yes<% end %>", ""),
        ("<% if_p('a.none') do |x| %>yes<% end.else do %>no<% end %>", "no"),
        ("<% if_p('empty', 'unset') do |*| %>yes<% end.else do %>no<% end %>", "no"),
        ("<% if_p('empty') do |x| %><%= x.inspect %><% end %>", "\"\""),
        ("<% if_p('a.b') do |x| %>yes<% end.else do %>no<% end %>", "yes"),
        ("<% if_p('a.none') do |x| %>1<% end.else_if_p('d.x') do |x| %>2:<%= x %><% end.else do %>3<% end %>", "2:1"),
        ("<% if_p('a.none') do |x| %>1<% end.else_if_p('a.no') do |x| %>2<% end.else do %>3<% end %>", "3"),
        ("<% if_p('a.b') do |x| %>1<% end.else_if_p('d.x') do |x| %>2<% end.else do %>3<% end %>", "1"),
        ("<% if_p('a.none') do |x| %>1<% end.else_if_link('peers') do |l| %><%= l.instances.size %><% end %>", "2"),
        ("<% if_p('a.b') do |x| %>1<% end.else_if_link('peers') do |l| %>2<% end.else do %>3<% end %>", "1"),
    ]);
}

#[test]
#[rustfmt::skip]
fn links_have_instances_properties_and_an_address() {
    assert_renders(deployment(), &[
        ("<%= link('peers').instances.map { |i| [i.name, i.id, i.index, i.az, i.address, i.bootstrap, i.properties] }.first.to_json %>",
            r#"["my_ig","6f3e0c1a-0000-4000-8000-000000000000",0,"z1","127.0.9.1",true,null]"#),
        ("<%= link('peers').instances.map(&:index) %>", "[0, 1]"),
        ("<%= link('peers').p('d.x') %>", "1"),
        ("<%= link('peers').p('none', 3) %>", "3"),
        ("<%= link('peers').properties.to_json %>", r#"{"d":{"x":1}}"#),
        ("<% link('peers').if_p('d.x') do |x| %><%= x %><% end.else do %>no<% end %>", "1"),
        ("<% link('peers').if_p('none') do |x| %>yes<% end.else_if_p('d.x') do |x| %>else <%= x %><% end %>", "else 1"),
        ("<%= link('peers').instances[0].p('none', 'none') %>", "none"),
        ("<% link('peers').instances[0].if_p('none') do |x| %>yes<% end.else do %>no<% end %>", "no"),
        ("<%= link('peers').p(['none', 'd.x']) %>", "1"),
        ("<% if_link('manual') do |l| %><%= l.p('port') %><% end.else_if_p('a.b') do |b| %>2<% end.else do %>3<% end %>", "1"),
        ("<% if_link('absent') do |l| %>1<% end.else_if_p('unset') do |b| %>2<% end.else do %>3<% end %>", "3"),
        ("<%= link('peers').address %>", "q-s0.my-ig.default.my-dep.bosh"),
        ("<%= link('peers').address(status: 'default') %>", "q-s0.my-ig.default.my-dep.bosh"),
        ("<%= link('peers').address(status: 'all') %>", "q-s4.my-ig.default.my-dep.bosh"),
        ("<%= link('peers').address(status: 'healthy', initial_health_check: 'synchronous') %>", "q-s3y1.my-ig.default.my-dep.bosh"),
        ("<%= link('peers').address(status: 'unhealthy') %>", "q-s1.my-ig.default.my-dep.bosh"),
        ("<%= link('peers').address(uuid: 'u1') %>", "u1.my-ig.default.my-dep.bosh"),
        ("<% if_link('peers') do |l| %><%= l.p('d.x') %><% end.else do %>no<% end %>", "1"),
        ("<% if_link('absent') do |l| %>yes<% end.else do %>no<% end %>", "no"),
        ("<% if_link('absent') do |l| %>1<% end.else_if_link('peers') do |l| %>2<% end %>", "2"),
        ("<% if_link('absent') do |l| %>1<% end.else_if_p('a.b') do |b| %><%= b %><% end %>", "5"),
        ("<%= link('manual').instances.map { |i| [i.address, i.id, i.index, i.az, i.bootstrap] }.to_json %>", r#"[["10.0.0.5",null,null,null,null]]"#),
        ("<%= link('manual').address %>/<%= link('manual').p('port') %>", "db.example.com/1"),
        ("<%= link('peers').respond_to?(:group_name) || link('peers').respond_to?(:networks) %>", "false"),
    ]);
}

#[test]
#[rustfmt::skip]
fn spec_says_who_the_instance_is() {
    assert_renders(deployment(), &[
        ("<%= [name, index].to_json %>", r#"["my_ig",0]"#),
        ("<%= [spec.deployment, spec.name, spec.id, spec.index, spec.bootstrap, spec.az].to_json %>",
            r#"["my_dep","my_ig","6f3e0c1a-0000-4000-8000-000000000000",0,true,"z1"]"#),
        ("<%= [spec.address, spec.ip, spec.dns_domain_name, spec.persistent_disk].to_json %>",
            r#"["127.0.9.1","127.0.9.1","bosh",1024]"#),
        ("<%= spec.networks.methods(false) %>", "[:default]"),
        ("<%= n = spec.networks.default; [n.type, n.ip, n.default, n.dns, n.dns_record_name].to_json %>",
            r#"["manual","127.0.9.1",["dns","gateway"],[],"0.my-ig.default.my-dep.bosh"]"#),
        ("<%= spec.networks.to_h.values.first.ip %>", "127.0.9.1"),
        ("<%= n = spec.networks.default; [n.netmask, n.gateway, n.prefix, n.cloud_properties.to_h].to_json %>",
            r#"["255.0.0.0","127.0.0.1","32",{}]"#),
        ("<%= [spec.networks.other, spec.links.absent, spec.properties.none].inspect %>", "[nil, nil, nil]"),
        ("<%= [spec.release.name, spec.release.version].to_json %>", r#"["rel","0+dev.1"]"#),
        ("<%= spec.job.name %> <%= spec.job.templates.map(&:name) %>", r#"my_ig ["j"]"#),
        ("<%= spec.properties.a.b %> <%= spec.links.peers.instances.size %>", "5 2"),
        ("<%= [spec.packages, spec.stemcell, spec.update, spec.lifecycle, spec.no_such].compact.size %>", "0"),
        ("<%= spec.methods.include?(:to_h) %>", "true"),
    ]);
    assert_renders(deployment().manifest_with("instance_groups:", "features: {use_dns_addresses: true}\ninstance_groups:"), &[
        ("<%= spec.address %> <%= spec.ip %>", &format!("{UUID}.my-ig.default.my-dep.bosh 127.0.9.1")),
        ("<%= link('peers').instances.last.address %>", "u1.my-ig.default.my-dep.bosh"),
        ("<%= link('peers').address %>", "q-s0.my-ig.default.my-dep.bosh"),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_consumer_may_want_addresses_where_the_deployment_has_names_and_the_other_way_round() {
    let names = ("instance_groups:", "features: {use_dns_addresses: true}\ninstance_groups:");
    let wants = |said: &str| format!("consumes: {{peers: {{from: peers, ip_addresses: {said}}}, manual:");

    assert_renders(deployment().manifest_with(names.0, names.1).manifest_with("consumes: {manual:", &wants("true")), &[
        ("<%= link('peers').instances.map(&:address) %>", r#"["127.0.9.1", "127.0.9.2"]"#),
        // Neither the instance's own address nor the group's name are the consumer's to choose.
        ("<%= spec.address %>", &format!("{UUID}.my-ig.default.my-dep.bosh")),
        ("<%= link('peers').address %>", "q-s0.my-ig.default.my-dep.bosh"),
    ]);
    assert_renders(deployment().manifest_with("consumes: {manual:", &wants("false")), &[
        ("<%= link('peers').instances.last.address %>", "u1.my-ig.default.my-dep.bosh"),
        ("<%= spec.address %>", "127.0.9.1"),
    ]);
}

#[test]
#[rustfmt::skip]
fn an_instance_without_zone_and_disk_is_told_so_and_only_one_has_the_bootstrap_flag() {
    let mut bare = deployment().manifest_with("  azs: [z1]\n", "").manifest_with("  persistent_disk: 1024\n", "");
    bare.instances.iter_mut().for_each(|one| one.az = None);

    assert_renders(bare, &[
        ("<%= [spec.az, spec.persistent_disk].inspect %>", "[nil, 0]"),
        ("<%= link('peers').instances.first.az.inspect %>", "nil"),
    ]);
    let both = deployment().template("flag", "<%= spec.bootstrap %> <%= index %>").render().expect("renders");
    assert_eq!(both.iter().map(|one| one.jobs[0].files[0].content.as_str()).collect::<Vec<_>>(), ["true 0", "false 1"]);
}

#[test]
fn a_link_by_hand_without_an_address_has_none_for_the_group() {
    let unnamed = deployment().manifest_with(", address: db.example.com}", "}");

    assert_renders(unnamed, &[("<%= link('manual').address.inspect %>", "nil")]);
}

#[test]
#[rustfmt::skip]
fn erb_trims_and_rubys_library_is_there() {
    assert_renders(deployment(), &[
        ("a\n<% if true -%>\nb\n<% end -%>\nc\n", "a\nb\nc\n"),
        ("a\n  <%- if true -%>\nb\n  <%- end -%>\n", "a\nb\n"),
        ("<%# a comment %>x<%% y", "x<% y"),
        ("<% require 'yaml'; require 'set' %><%= Shellwords.escape('a b') %>", "a\\ b"),
        ("<%= [''.blank?, ' '.blank?, nil.blank?, [].blank?, 0.blank?, 'x'.present?, ''.presence.inspect].inspect %>",
            r#"[true, true, true, true, false, true, "nil"]"#),
        ("ünïcödé <%= \"\\u00e9\" %>", "ünïcödé é"),
        // stdout carries the answer, so a template that prints must not spoil it.
        ("<% puts 'noise'; $stdout.print 'noise'; warn 'noise' %>quiet", "quiet"),
    ]);
}

#[test]
#[rustfmt::skip]
fn what_goes_wrong_in_a_template_is_told_with_its_line() {
    let rows: &[(&str, &str)] = &[
        ("\n\n<%= p('etcd.cluster_token') %>", r#"(line 3: Can't find property '["etcd.cluster_token"]')"#),
        ("<%= p(['x', 'y']) %>", r#"(line 1: Can't find property '["x", "y"]')"#),
        ("<%= p('a.none') %>", r#"(line 1: Can't find property '["a.none"]')"#),
        ("<%= p('unset') %>", r#"(line 1: Can't find property '["unset"]')"#),
        ("<%= p('secret') %>", r#"(line 1: Can't find property '["secret"]')"#),
        ("a\n<% if_link('peers') do |l|\n  l.p('none')\nend %>", r#"(line 3: Can't find property '["none"]')"#),
        ("<%= link('absent') %>", "(line 1: Can't find link 'absent')"),
        ("<%= link('unheard') %>", "(line 1: Can't find link 'unheard')"),
        ("<%= link('peers').p('none') %>", r#"(line 1: Can't find property '["none"]')"#),
        ("<%= link('peers').instances[0].p('none') %>", r#"(line 1: Can't find property '["none"]')"#),
        ("<%= link('peers').group_name %>", "(line 1: undefined method 'group_name' for an instance of Link)"),
        ("<%= link('peers').default_network %>", "(line 1: undefined method 'default_network' for an instance of Link)"),
        ("<%= link('peers').instances[0].addresses %>", "(line 1: undefined method 'addresses' for an instance of LinkInstance)"),
        ("<%= raise 'told' %>", "(line 1: told)"),
        ("<% exit 3 %>", "(line 1: exit)"),
        ("<% if true %>", "(line (unknown): j/"),
        ("<%= unheard_of %>", "(line 1: undefined local variable or method 'unheard_of' for an instance of Context)"),
        ("<%= p('a').foo %>", "(line 1: undefined method 'foo' for an instance of Hash)"),
        ("<%= nil.foo %>", "(line 1: undefined method 'foo' for nil)"),
        ("<%= \"\\xff\" %>", "the result is not UTF-8"),
        ("<%= link('peers').address(azs: ['z1']) %>", "etcd-local has no DNS server"),
    ];
    let named = rows.iter().enumerate().map(|(at, (text, _))| (format!("{at:02}.erb"), *text));
    let failing = named.fold(deployment(), |deployment, (name, text)| deployment.template(&name, text));

    let error = failing.render().expect_err("every template fails");

    assert!(error.is::<RenderErrors>());
    let text = error.to_string();
    for (at, (template, expected)) in rows.iter().enumerate() {
        let start = format!("      - Error filling in template '{at:02}.erb' ");
        let told = text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{template}\n{text}"));
        assert!(told.contains(expected), "{template}\n{told}");
    }
    let head = "Unable to render instance groups for deployment. Errors are:\n  \
                - Unable to render jobs for instance group 'my_ig'. Errors are:\n    \
                - Unable to render templates for job 'j'. Errors are:\n      \
                - Error filling in template '00.erb' (line 3: Can't find property '[\"etcd.cluster_token\"]')\n";
    assert!(text.starts_with(head), "{text}");
}

#[test]
fn a_link_by_hand_without_instances_cannot_be_used() {
    let only_address = deployment()
        .manifest_with(
            "{instances: [{address: 10.0.0.5}], properties: {port: 1}, address: db.example.com}",
            "{address: x}",
        )
        .template("a.erb", "<%= link('manual').address %>");

    let error = only_address.render().expect_err("no instances").to_string();

    assert!(
        error.contains("Error filling in template 'a.erb' (line 1: undefined method 'map' for nil)"),
        "{error}"
    );
}

#[test]
fn monit_is_rendered_first_and_its_error_ends_the_job() {
    let mut broken = deployment().template("a.erb", "<%= p('none') %>");
    broken.job.monit = "<%= p('none') %>".into();

    let error = broken.render().expect_err("monit fails").to_string();

    let expected = "Unable to render instance groups for deployment. Errors are:\n  \
                    - Unable to render jobs for instance group 'my_ig'. Errors are:\n    \
                    Error filling in template 'monit' (line 1: Can't find property '[\"none\"]')";
    assert_eq!(error, expected);
}

/// A job that fails in `monit` is told by that alone, next to others whose templates fail, each with all of its own.
#[test]
fn faults_of_several_jobs_are_told_together() {
    let mut two = deployment()
        .template("a.erb", "<%= p('none') %>")
        .template("b.erb", "fine")
        .template("c.erb", "\n<%= link('absent') %>")
        .manifest_with("  jobs:\n", "  jobs:\n  - {name: first, release: rel}\n");
    let broken = Job { name: "first".into(), monit: "<%= p('none') %>".into(), ..Job::default() };
    two.others.push(broken);

    let error = two.render().expect_err("both fail").to_string();

    let expected = "Unable to render instance groups for deployment. Errors are:\n  \
                    - Unable to render jobs for instance group 'my_ig'. Errors are:\n    \
                    Error filling in template 'monit' (line 1: Can't find property '[\"none\"]')\n    \
                    - Unable to render templates for job 'j'. Errors are:\n      \
                    - Error filling in template 'a.erb' (line 1: Can't find property '[\"none\"]')\n      \
                    - Error filling in template 'c.erb' (line 2: Can't find link 'absent')";
    assert_eq!(error, expected);
}

#[test]
fn files_have_the_agents_modes_and_the_order_of_the_manifest() {
    let mut plain = deployment()
        .template_to("run", "bin/run", "#!/bin/sh\n")
        .template_to("healthy", "bin/dns/healthy", "")
        .template_to("binary", "config/bin", "");
    plain.job.monit = "check process <%= name %>".into();

    let instance = plain.first();

    let job = &instance.jobs[0];
    assert_eq!((job.name.as_str(), job.release.as_str()), ("j", "rel"));
    assert_eq!(job.monit, "check process my_ig");
    let modes: Vec<_> = job.files.iter().map(|file| (file.path.as_str(), file.mode)).collect();
    assert_eq!(modes, [("bin/run", 0o750), ("bin/dns/healthy", 0o750), ("config/bin", 0o640)]);
}

#[test]
fn each_instance_is_rendered_and_the_hash_tells_whether_it_changed() {
    let who = deployment().template("who.erb", "<%= spec.id %>");
    let same = deployment().template("same.erb", "x");

    let (who, same) = (who.render().expect("renders"), same.render().expect("renders"));
    let again = deployment().template("same.erb", "x").render().expect("renders");
    let moved = deployment().template_to("same.erb", "config/moved", "x").render().expect("renders");
    let mut watched = deployment().template("same.erb", "x");
    watched.job.monit = "check process j".into();
    let watched = watched.render().expect("renders");

    assert_eq!(who[1].jobs[0].files[0].content, "u1");
    assert_ne!(who[0].configuration_hash, who[1].configuration_hash);
    assert_eq!(same[0].configuration_hash, same[1].configuration_hash);
    assert_eq!(same[0].configuration_hash, again[0].configuration_hash);
    assert_ne!(same[0].configuration_hash, moved[0].configuration_hash, "a path counts too");
    assert_ne!(same[0].configuration_hash, watched[0].configuration_hash, "what monit is told counts too");
    assert_eq!(same[0].configuration_hash.len(), 40);
}

#[test]
fn a_property_that_is_no_mapping_is_told_before_anything_is_rendered() {
    let error = deployment()
        .manifest_with(PROPERTIES, "{d: 5}")
        .template("a.erb", "")
        .render()
        .expect_err("d.x needs a mapping")
        .to_string();

    assert!(
        error.starts_with(
            "Property 'd.x' expects a hash, but received 'Integer' (job 'j' of instance group 'my_ig')"
        ),
        "{error}"
    );
}

#[test]
fn a_machine_without_ruby_is_told_which_package_brings_it() {
    let error = deployment().render_with(Path::new("/nowhere/ruby")).expect_err("no Ruby").to_string();

    assert!(error.contains("Ruby (/nowhere/ruby) is not there"), "{error}");
    assert!(error.contains("apt-get install ruby"), "{error}");
}

#[test]
fn rendered_secrets_do_not_reach_debug_output() {
    let instance = deployment().template("key.pem", "PRIVATE KEY").first();

    assert!(!format!("{instance:?}").contains("PRIVATE KEY"));
}
