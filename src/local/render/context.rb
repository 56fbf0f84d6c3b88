# What ERB templates of BOSH jobs see: `p`, `if_p`, `link`, `if_link`, `spec`, `name`, `index`,
# `properties`. Reads one JSON document from stdin, renders everything in it, and writes one JSON document
# to stdout; etcd-local starts it (src/local/render). docs/local-director.md#templates
#
# Why not the bosh-template gem: it would have to be installed, and it cannot answer `link.address`.

require 'erb'
require 'json'
require 'ostruct'
require 'shellwords'

# Templates were written against a Director, which has these of active_support's.
class Object
  def blank?
    respond_to?(:empty?) ? !!empty? : !self
  end

  def present?
    !blank?
  end

  def presence
    self if present?
  end
end

class String
  def blank?
    match?(/\A[[:space:]]*\z/)
  end
end

class Numeric
  def blank?
    false
  end
end

class UnknownProperty < StandardError
  def initialize(names)
    super("Can't find property '#{names}'")
  end
end

class UnknownLink < StandardError
  def initialize(name)
    super("Can't find link '#{name}'")
  end
end

# `spec`: an unknown field is nil, and `methods(false)` lists the fields that are there.
class Fields < OpenStruct
  def methods(regular = true)
    regular ? super : to_h.keys
  end
end

# Looks values up by dotted name: nil counts as missing, false and '' do not.
module Lookup
  def p(*arguments)
    names = Array(arguments[0])
    names.each do |name|
      value = dig_dotted(properties_by_name, name)
      return value unless value.nil?
    end
    raise UnknownProperty, names unless arguments.length == 2

    arguments[1]
  end

  def if_p(*names)
    values = names.map { |name| dig_dotted(properties_by_name, name) }
    return Otherwise.new(self) if values.any?(&:nil?)

    yield(*values)
    Settled.new
  end

  private

  def dig_dotted(values, name)
    name.split('.').each do |key|
      return nil if values.nil?

      values = values[key]
    end
    values
  end
end

# What an `if_` returns when its block did not run: the next branch may.
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

  def else_if_link(name, &block)
    @context.if_link(name, &block)
  end
end

# What an `if_` returns when its block ran: no later branch does.
class Settled
  def else; end

  def else_if_p(*)
    self
  end

  def else_if_link(*)
    self
  end
end

# An instance of a link; only these fields exist.
class LinkInstance
  include Lookup

  FIELDS = %w[name index id az address properties bootstrap].freeze
  attr_reader(*FIELDS)

  def initialize(fields)
    FIELDS.each { |field| instance_variable_set("@#{field}", fields[field]) }
  end

  private

  def properties_by_name
    @properties
  end
end

# A link, as `link('name')` returns it.
class Link
  include Lookup

  HEALTH = { 'default' => 0, 'unhealthy' => 1, 'healthy' => 3, 'all' => 4 }.freeze
  CHECKS = { 'asynchronous' => 'y0', 'synchronous' => 'y1' }.freeze

  attr_reader :instances, :properties

  def initialize(content)
    @content = content
    @properties = content['properties']
    @instances = content['instances'].map { |instance| LinkInstance.new(instance) }
  end

  # The DNS name of the whole group; for a link written out by hand, the address it says.
  def address(criteria = {})
    return @content['address'] if @content.key?('address')
    raise ArgumentError, "etcd-local has no DNS server that could answer link.address(azs: …)" if criteria[:azs]

    group, network, deployment =
      @content.values_at('instance_group', 'default_network', 'deployment_name').map { |part| canonical(part) }
    [criteria[:uuid] || query(criteria), group, network, deployment, @content['domain']].join('.')
  end

  private

  def properties_by_name
    @properties
  end

  def query(criteria)
    parts = ["s#{HEALTH.fetch(criteria[:status], 0)}", CHECKS[criteria[:initial_health_check]]]
    "q-#{parts.compact.sort.join}"
  end

  def canonical(name)
    name.downcase.tr('_', '-').gsub(/[^a-z0-9-]/, '')
  end
end

# The object whose methods a template calls.
class Context
  include Lookup

  attr_reader :name, :index, :raw_properties

  def initialize(spec)
    @name = spec['name']
    @index = spec['index']
    @raw_properties = spec['properties']
    @links = spec['links']
    @all = spec
  end

  # These two are made when they are asked for: most templates do not, and an OpenStruct takes longer to make than a
  # template to fill in.
  def properties
    @properties ||= fields(@raw_properties, OpenStruct)
  end

  def spec
    @spec ||= fields(@all, Fields)
  end

  def link(name)
    content = dig_dotted(@links, name)
    raise UnknownLink, name unless content&.key?('instances')

    Link.new(content)
  end

  def if_link(name)
    content = dig_dotted(@links, name)
    return Otherwise.new(self) unless content&.key?('instances')

    yield Link.new(content)
    Settled.new
  end

  def get_binding
    binding
  end

  private

  def properties_by_name
    @raw_properties
  end

  def fields(value, shape)
    case value
    when Hash then shape.new(value.transform_values { |item| fields(item, shape) })
    when Array then value.map { |item| fields(item, shape) }
    else value
    end
  end
end

# Instances of a group have the same templates: each is read once.
TEMPLATES = Hash.new do |known, (path, text)|
  known[[path, text]] = ERB.new(text, trim_mode: '-').tap { |erb| erb.filename = path }
end

# Renders one template; what goes wrong comes back as text with the line.
def fill(job, source, text, spec)
  erb = TEMPLATES[[File.join(job, source), text]]
  # A fresh copy each time: what one template changes, the next does not see.
  content = erb.result(Context.new(Marshal.load(spec)).get_binding)
  raise EncodingError, 'the result is not UTF-8' unless content.force_encoding(Encoding::UTF_8).valid_encoding?

  { 'content' => content }
rescue Exception => error # rubocop:disable Lint/RescueException -- a SyntaxError of the template is one
  frame = (error.backtrace || []).find { |line| line.include?(File.join(job, source)) }
  line = frame ? frame.split(':')[1] : '(unknown)'
  { 'error' => "Error filling in template '#{source}' (line #{line}: #{told(error)})" }
end

# Ruby's text for an unknown name would show the whole receiver, which may hold private keys, and in words
# that change from version to version.
def told(error)
  unknown = error.is_a?(NameError) && error.message[/\A(undefined .*?) for /m, 1]
  return error.to_s unless unknown

  receiver = error.receiver
  shown = receiver.nil? ? 'nil' : "an instance of #{receiver.class}"
  "#{unknown.tr('`', "'")} for #{shown}"
end

def render(job, common)
  own = { 'properties' => job['properties'], 'links' => job['links'], 'release' => job['release'] }
  spec = Marshal.dump(common.merge(own))
  monit = fill(job['name'], 'monit', job['monit'], spec)
  return { 'monit' => monit, 'files' => [] } if monit.key?('error')

  { 'monit' => monit, 'files' => job['templates'].map { |one| fill(job['name'], one['source'], one['text'], spec) } }
end

# A template may print; stdout belongs to the answer.
answer = $stdout.dup
$stdout.reopen($stderr)
request = JSON.parse($stdin.read)
answer.write(JSON.generate(request.map { |instance| instance['jobs'].map { |job| render(job, instance['spec']) } }))
answer.close
