# What templates see under `bosh create-env`: `p`, `if_p`, `if_link` that is always false, no `link`, and a `spec` with
# few fields. Compared with the CLI's own context, of 7.0.1 and of June 2026, on every template of job etcd, with equal
# results. Reads one JSON document from stdin, renders all templates in it, and writes their results to stdout.
# docs/contract.md#create-env

require 'erb'
require 'json'
require 'ostruct'

# The object whose methods a template calls.
class CreateEnv
  attr_reader :name, :index, :spec

  def initialize(spec, properties)
    @name = spec['job']['name']
    @index = spec['index']
    @spec = fields(spec)
    @properties = properties
  end

  def p(names, *fallback)
    found = Array(names).map { |name| dig(name) }.find { |value| !value.nil? }
    return found unless found.nil?
    raise "Can't find property '#{Array(names).join("', or '")}'" if fallback.empty?

    fallback.first
  end

  def if_p(*names)
    values = names.map { |name| dig(name) }
    return Otherwise.new(self) if values.any?(&:nil?)

    yield(*values)
    Settled.new
  end

  def if_link(_name)
    false
  end

  def get_binding
    binding
  end

  private

  def dig(name)
    name.split('.').reduce(@properties) { |values, key| values.nil? ? nil : values[key] }
  end

  def fields(value)
    value.is_a?(Hash) ? OpenStruct.new(value.transform_values { |item| fields(item) }) : value
  end
end

# What `if_p` returns when its block did not run.
class Otherwise
  def initialize(context)
    @context = context
  end

  def else
    yield
  end

  def else_if_p(*names, &block)
    @context.if_p(*names, &block)
  end
end

# What `if_p` returns when its block ran.
class Settled
  def else; end

  def else_if_p(*)
    self
  end
end

request = JSON.parse($stdin.read)
filled = request['templates'].map do |text|
  ERB.new(text, trim_mode: '-').result(CreateEnv.new(request['spec'], request['properties']).get_binding)
end
$stdout.write(JSON.generate(filled))
