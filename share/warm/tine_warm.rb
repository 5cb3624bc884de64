# For Ruby programs that tine starts warm: executed once, and copied for each connection.
#
#     require "/usr/share/tine/warm/tine_warm"
#     # Libraries and whatever else is the same for each connection.
#     TineWarm.ready
#     # From here on, for one connection: ENV, $stdin, $stdout.
#     TineWarm.done
#
# ready is the point at which the program is copied. After it these are new for each connection: the
# variables of the connection in ENV, and the seed of rand.
#
# These stay as they were at the point: what was read from a variable before, hash seeds, generators
# that are objects of their own, and $$ (Process.pid) of Ruby 3.3 and later.
#
# Ruby makes eventfds for its threads, and before Ruby 3.3 a timer, which interrupts those that wait.
# `--warm-allow eventfd,timer` permits them. A copy has no timers: ready makes this one again.
#
# Executed for each connection, without a warm start, the program works as well: the variables are
# the same before and after ready. The generator is seeded there, too.
module TineWarm
  class << self
    # Says that all that comes before is the same for each connection.
    def ready
      before = variables
      timers_before = timers
      # Only who can renew the variables may say so.
      File.exist?(before ? "/.tine/ready/variables" : "/.tine/ready")
      renew(before) if before
      make_again(timers_before - timers)
      Random.srand
      nil
    end

    # Ends the process without the interpreter's tidying-up, which would write to each of its pages.
    # $stdout and $stderr are flushed. Other files are not: close them before. Blocks of at_exit are
    # not called.
    def done(code = 0)
      [$stdout, $stderr].each(&:flush)
      exit!(code)
    end

    private

    # The environment as the server has written it; nil if /proc does not show one of a server.
    def variables
      entries = File.binread("/proc/self/environ").split("\0").map { |entry| entry.split("=", 2) }
      # The first of a name counts, as for getenv(3).
      found = entries.select { |name, value| value && !name.empty? }.reverse.to_h
      found.key?("TINE_CONNECTION") ? found : nil
    rescue SystemCallError
      nil
    end

    # The timers of this process, as [number, signal, clock]; none where the kernel does not list
    # them.
    def timers
      text = File.binread("/proc/self/timers")
      text.scan(/^ID: (\d+)\nsignal: (\d+).*?^ClockID: (\d+)/m).map { |timer| timer.map(&:to_i) }
    rescue SystemCallError
      []
    end

    # The numbers of timer_create(2), which Ruby has no method for.
    TIMER_CREATE = { "x86_64" => 222, "aarch64" => 107 }.freeze

    # A process counts its timers from 0 on, so that the one of Ruby gets its number again.
    def make_again(timers)
      timers.sort.each do |number, signal, clock|
        # A sigevent that sends the signal to the process; its value is not used.
        event = [0, signal, 0].pack("Qll").ljust(64, "\0")
        made = [-1].pack("l")
        # As addresses: a string with zero bytes is refused.
        addresses = [event, made].pack("PP").unpack("QQ")
        syscall(TIMER_CREATE.fetch(RUBY_PLATFORM[/\w+/]), clock, *addresses)
        raise "a timer has another number than in the first execution" if made.unpack1("l") != number
      end
    end

    def renew(before)
      after = variables
      raise "cannot read /proc/self/environ: the variables would be those of nobody" unless after

      # What the program itself has changed is not touched.
      after.each { |name, value| ENV[name] = value if before[name] != value }
      (before.keys - after.keys).each { |name| ENV.delete(name) }
    end
  end
end
