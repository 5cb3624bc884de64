# For shell scripts that tine starts warm: executed once, and copied for each connection.
#
#     . /usr/share/tine/warm/tine-warm.sh
#     # Functions and whatever else is the same for each connection.
#     tine_ready
#     # From here on, for one connection: its variables, standard input and output.
#     tine_done
#
# tine_ready is the point at which the script is copied. After it these are new for each connection:
# in bash 4.4 and later its variables, and the seed of $RANDOM. dash and the sh of busybox use the
# variables where the server writes them. What other shells do, `tine warm-check` tells.
#
# These stay as they were at the point: what was read from a variable before; a variable of the
# connection that the script has set itself, in shells other than bash; $RANDOM of busybox; and $$,
# which is the process id of the first execution, for all. In bash, $BASHPID is right.
#
# No process is started. Executed for each connection, without a warm start, the script works as
# well: the variables are the same before and after tine_ready. $RANDOM is seeded there, too.

# Says that all that comes before is the same for each connection.
tine_ready() {
  case ${BASH_VERSION-} in
    '' | [1-3].* | 4.[0-3].*) [ -e /.tine/ready ] || : ;;
    *) _tine_ready_in_bash ;;
  esac
}

# Ends the script. A shell has nothing to tidy up, so this is exit; the code is 0 if none is given.
tine_done() {
  exit "${1:-0}"
}

# Shells without arrays do not parse this.
[ -z "${BASH_VERSION-}" ] || eval '
_tine_ready_in_bash() {
  local -A _tine_before=() _tine_after=()
  # Only who can renew the variables may say so.
  if _tine_read _tine_before; then
    [ -e /.tine/ready/variables ] || :
    if ! _tine_read _tine_after; then
      echo "cannot read /proc/self/environ: the variables would be those of nobody" >&2
      exit 1
    fi
    _tine_renew
  else
    [ -e /.tine/ready ] || :
  fi
  _tine_seed
}

# Reads the environment as the server has written it into an array. Fails if /proc does not show one
# of a server.
_tine_read() {
  local -n _tine_found=$1
  local -a _tine_entries=()
  local _tine_entry _tine_name
  [ -r /proc/self/environ ] && mapfile -d "" -t _tine_entries </proc/self/environ || return 1
  for _tine_entry in "${_tine_entries[@]}"; do
    _tine_name=${_tine_entry%%=*}
    # What is no name of a variable is left out. The first of a name counts, as for getenv(3).
    case $_tine_name in "" | *[!a-zA-Z0-9_]* | [0-9]*) continue ;; esac
    # The value alone: a text with the name in front is renewed in each copy, wherever it is.
    [ -n "${_tine_found[$_tine_name]+x}" ] || _tine_found[$_tine_name]=${_tine_entry#*=}
  done
  [ -n "${_tine_found[TINE_CONNECTION]+x}" ]
}

# What the script itself has changed is not touched.
_tine_renew() {
  local _tine_name
  for _tine_name in "${!_tine_after[@]}"; do
    [ -n "${_tine_before[$_tine_name]+x}" ] &&
      [ "${_tine_after[$_tine_name]}" = "${_tine_before[$_tine_name]}" ] ||
      export "$_tine_name=${_tine_after[$_tine_name]}"
  done
  for _tine_name in "${!_tine_before[@]}"; do
    [ -n "${_tine_after[$_tine_name]+x}" ] || unset -v "$_tine_name"
  done
}

# SRANDOM is there since bash 5.1.
_tine_seed() {
  if [ -n "${SRANDOM-}" ]; then
    RANDOM=$SRANDOM
    return
  fi
  local LC_ALL=C _tine_bytes= _tine_number _tine_at _tine_sum=0
  IFS= read -r -N 8 _tine_bytes </dev/urandom || :
  for ((_tine_at = 0; _tine_at < ${#_tine_bytes}; _tine_at++)); do
    printf -v _tine_number %d "\"${_tine_bytes:_tine_at:1}"
    _tine_sum=$((_tine_sum * 31 + _tine_number & 0x7fffffff))
  done
  RANDOM=$_tine_sum
}
'
