package Tine::Warm;

# For Perl programs that tine starts warm: executed once, and copied for each connection.
#
#     use lib '/usr/share/tine/warm';
#     use Tine::Warm;
#     # Modules and whatever else is the same for each connection.
#     Tine::Warm::ready();
#     # From here on, for one connection: %ENV, STDIN, STDOUT.
#     Tine::Warm::done();
#
# ready() is the point at which the program is copied. After it these are new for each connection:
# the variables of the connection in %ENV, and the seed of rand().
#
# These stay as they were at the point: what was read from a variable before, hash seeds,
# generators of modules. An assignment to $0 before the point overwrites the variables: then %ENV is
# not renewed, and `tine warm-check` refuses the program. Make it after the point.
#
# Executed for each connection, without a warm start, the program works as well: the variables are
# the same before and after ready(). The generator is seeded there, too.

use strict;
use warnings;
use POSIX ();

# The environment as the server has written it; nothing if /proc does not show one of a
# server.
sub variables {
    open(my $file, '<:raw', '/proc/self/environ') or return undef;
    local $/ = "\0";
    my %found;
    while (my $entry = <$file>) {
        chomp $entry;
        my ($name, $value) = split /=/, $entry, 2;
        # The first of a name counts, as for getenv(3).
        $found{$name} = $value if defined $value && !exists $found{$name};
    }
    return defined $found{TINE_CONNECTION} ? \%found : undef;
}

sub renew {
    my ($before) = @_;
    my $after = variables()
        or die "cannot read /proc/self/environ: the variables would be those of nobody\n";
    # What the program itself has changed is not touched.
    for my $name (keys %$after) {
        next if defined $before->{$name} && $before->{$name} eq $after->{$name};
        $ENV{$name} = $after->{$name};
    }
    delete @ENV{grep { !exists $after->{$_} } keys %$before};
}

# Says that all that comes before is the same for each connection.
sub ready {
    my $before = variables();
    # Only who can renew the variables may say so.
    my $is_there = -e ($before ? '/.tine/ready/variables' : '/.tine/ready');
    renew($before) if $before;
    srand();
    return;
}

# Ends the process without the interpreter's tidying-up, which would write to each of its pages.
# STDOUT and STDERR are flushed; if that fails, the exit code is 1, or the given one if it is not 0.
# Other files are not flushed: close them before. END blocks and destructors are not called.
sub done {
    my ($code) = (@_, 0);
    for my $stream (*STDOUT, *STDERR) {
        next if !defined fileno($stream) || close($stream);
        $code ||= 1;
    }
    POSIX::_exit($code);
}

1;
