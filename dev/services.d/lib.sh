# What all services share: processes, ports, waiting, Debian's packages. Sourced by dev/services.
#
# A service's file NAME.sh defines, each called with the unit (one process) as $1:
#   NAME_get      puts the program in place; says why not, and fails, where it can't be had
#   NAME_port     the port that it listens on
#   NAME_start    prepares its folder $state/UNIT and calls `launch`
#   NAME_ready    succeeds once it serves
#   NAME_version  its name and version
#   NAME_env      the exports for the tests
# shellcheck shell=bash disable=SC2154

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 2; }

# One change at a time; released when this process ends.
lock() {
    exec 9>"$state/lock"
    flock -w 300 9 || die "another dev/services holds $state/lock for 5 minutes already"
}

# Starts a unit in the background: `launch UNIT COMMAND...`. The command line must name the unit's
# folder: it is how the process is told from a later one with the same number.
launch() {
    local unit=$1
    shift
    setsid nohup "$@" >>"$state/$unit/log" 2>&1 </dev/null 9>&- &
    echo $! >"$state/$unit/pid"
}

# The process of a unit, if it runs.
pid_of() {
    local pid
    pid=$(cat "$state/$1/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") == *"$state/$1/"* ]] || return 1
    echo "$pid"
}
running() { pid_of "$1" >/dev/null 2>&1; }
paused() {
    local pid
    pid=$(pid_of "$1") && grep -q '^State:.T' "/proc/$pid/status"
} 2>/dev/null

signal() {
    local pid
    pid=$(pid_of "$1") || { say "$1 does not run"; return 1; }
    kill -s "$2" "$pid"
}

# Waits until a unit's process has ended: `gone UNIT SECONDS`.
gone() {
    local deadline=$((SECONDS + $2))
    while running "$1"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
    rm -f "$state/$1/pid"
}

stop() {
    running "$1" || return 0
    say "stopping $1"
    signal "$1" TERM
    ! paused "$1" || signal "$1" CONT
    gone "$1" 20 || { signal "$1" KILL && gone "$1" 10; }
}

wait_ready() {
    local deadline=$((SECONDS + 180))
    until of "$1" ready; do
        if ! running "$1" || [ $SECONDS -ge $deadline ]; then
            say "$1 is not ready; its log ends with:"
            tail -n 20 "$state/$1/log" >&2
            return 1
        fi
        sleep 0.2
    done
    say "$1 is ready on port $(of "$1" port)"
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Succeeds if GET of a loopback URL's path answers 200: `http_ok PORT PATH`.
http_ok() {
    local line
    {
        exec 3<>"/dev/tcp/127.0.0.1/$1" &&
            printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3 &&
            read -r -t 2 line <&3
    } 2>/dev/null || return 1
    exec 3>&-
    [[ $line == *" 200 "* ]]
}

# Sees to a program of a Debian package: `debian PROGRAM PACKAGE...`.
debian() {
    local program=$1
    shift
    ! command -v "$program" >/dev/null 2>&1 || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        say "$program was not found: install what Debian calls $*"
        return 1
    elif [ "$(id -u)" -ne 0 ]; then
        say "$program was not found: install it with: sudo apt-get install --no-install-recommends $*"
        return 1
    fi
    say "installing Debian's $*"
    apt_install "$@" || { apt-get -qq update >&2 && apt_install "$@"; } ||
        { say "apt-get could not install $*"; return 1; }
}
# RUNLEVEL: a package's own service stays off, ours is another.
apt_install() {
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -y --no-install-recommends install "$@" >&2 9>&-
}

# Builds a Go program: `go_install FILE PACKAGE VERSION`.
go_install() {
    local folder
    [ ! -x "$1" ] || return 0
    debian go golang-go || return 1
    say "building $2 $3 (once)"
    folder=$(mktemp -d "$tools/build.XXXXXX")
    if GOBIN=$folder go install "$2@$3" >&2 9>&-; then
        mv "$folder"/* "$1"
        rmdir "$folder"
    else
        rmdir "$folder"
        say "go could not build $2 $3"
        return 1
    fi
}
