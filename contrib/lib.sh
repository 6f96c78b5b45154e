# Shared by contrib/demo and contrib/test: python, system packages, the virtual environment.
# Sourced by bash. Talk goes to stderr, so that stdout stays with what was asked for.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# A step that can take long: one line before, the seconds after, its output only when it fails.
step() {
    local what=$1 started=$SECONDS log
    shift
    log=$(mktemp)
    printf '%s ... ' "$what" >&2
    if "$@" >"$log" 2>&1; then
        printf '%ss\n' "$((SECONDS - started))" >&2
        rm -f "$log"
    else
        printf 'failed\n' >&2
        tail -n 40 "$log" >&2
        rm -f "$log"
        return 1
    fi
}

# Sets `python` to an interpreter of 3.11 or newer.
find_python() {
    local each
    for each in python3 python3.13 python3.12 python3.11 python3.14; do
        if have "$each" && "$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            python=$(command -v "$each")
            return
        fi
    done
    die "no Python 3.11 or newer: install one (Debian 12 and Ubuntu 24.04 have it as python3)"
}

# A busybox that needs no library: it is all there is in the images of tests and demo.
static_busybox() {
    have busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1
}

# What apt has to install for the programs named; prints the packages that are missing.
missing_packages() {
    local each
    for each in "$@"; do
        case $each in
            venv) "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv ;;
            dockerd) have dockerd || echo docker.io ;;
            docker)
                # a package of its own since Debian 13, and only recommended by docker.io
                if ! have docker && apt-cache show docker-cli >/dev/null 2>&1; then
                    echo docker-cli
                elif ! have docker; then
                    echo docker.io
                fi ;;
            busybox) static_busybox || echo busybox-static ;;
            tsp) have tsp || echo task-spooler ;;
            nspawn) have systemd-nspawn || echo systemd-container ;;
            nbdfuse) have nbdfuse || echo libnbd-bin ;;
            fusermount3) have fusermount3 || echo fuse3 ;;
            postgresql) ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql ;;
            beanstalkd | redis-server | nq | nbdkit | gcc | docker-registry | strace | podman | catatonit | zsh | fish)
                have "$each" || echo "$each" ;;
            *) die "missing_packages: nobody knows which package has $each" ;;
        esac
    done
}

# Installs what `missing_packages` finds; nothing is touched where nothing is missing.
# A package whose service cannot be started (no init to start it, or a policy against it) counts
# as installed once its program is there: we start what we need ourselves.
need_packages() {
    local missing
    missing=$(missing_packages "$@" | sort -u | tr '\n' ' ')
    missing=${missing% }
    [ -z "$missing" ] && return
    have apt-get || die "missing: $missing (Debian's names); install what your system has for them"
    [ "$(id -u)" = 0 ] || die "missing: $missing; as root: apt-get install $missing"
    export DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2)
    step "packages: updating the lists" "${apt[@]}" update \
        || say "apt-get update failed: going on with the lists that are there"
    missing=$(missing_packages "$@" | sort -u | tr '\n' ' ') # known better with the new lists
    # shellcheck disable=SC2086  # a list of words
    step "packages: installing ${missing% }" "${apt[@]}" install --no-install-recommends $missing \
        || say "apt-get install failed: looking whether the programs are there all the same"
    hash -r
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] || die "could not install: $missing"
}

# The project in .venv, with the extras given ("" or "[dev]"). Quick when nothing changed: the
# stamp of an installation is the checksum of the file that says what to install.
need_venv() {
    local extras=$1 sum each
    sum=$("$python" - "$root/pyproject.toml" "$python" <<'PY'
import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.argv[2].encode()).hexdigest())
PY
    )
    for each in "$venv/.stamp$extras" "$venv/.stamp[dev]"; do
        if [ -x "$venv/bin/python" ] && [ "$(cat "$each" 2>/dev/null)" = "$sum$root" ]; then
            return
        fi
    done
    rm -f "$venv"/.stamp*
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        step "python: making .venv" "$python" -m venv --clear "$venv" || exit 1
    fi
    # compat: the folder's name in a .pth file. The other way, a finder, makes every start of
    # jobctl import re, pathlib and urllib.parse first
    step "python: installing jobd and what it needs into .venv" \
        "$venv/bin/python" -m pip install -q --disable-pip-version-check \
        --config-settings editable_mode=compat -e "$root$extras" || exit 1
    printf '%s' "$sum$root" >"$venv/.stamp$extras"
}
