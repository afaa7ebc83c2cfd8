#!/usr/bin/env bash
# Puts in place what the Makefile needs: setup.sh STEP ..., of
# venv, java, engine, victim, testbed, postgresql, kafka, haproxy, faketime, sdks, cores, peer,
# awx.
# Each step looks first and does nothing when its work is done, so that every make target can afford to ask for it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly venv="$PWD/.venv"
readonly docker_log=/var/log/docker.log

say() { printf '%s\n' "$*"; }

die() {
  printf 'error: %s\n' "$1" >&2
  shift
  (($# == 0)) || printf '  %s\n' "$@" >&2
  exit 1
}

can_be_root() { ((EUID == 0)) || sudo -n true 2>/dev/null || { [[ -t 0 ]] && command -v sudo >/dev/null; }; }

as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }

# Runs a long command quietly, and shows the end of what it said only when it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  ((status == 0)) || tail -n 20 "$log" >&2
  rm -f "$log"
  return "$status"
}

apt_install() {
  local install=(apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@")
  command -v apt-get >/dev/null || die "$* is missing and there is no apt-get" "install it by hand, then try again"
  can_be_root || die "$* is missing and only root can install it; run:" "sudo apt-get update && sudo ${install[*]}"
  say "installing $* (about a minute) ..."
  # A first try without `update` is quick where the package lists are fresh, and fails where they are missing or stale.
  as_root env DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1 && return
  quietly as_root apt-get update || die "apt-get update failed (see above)"
  quietly as_root env DEBIAN_FRONTEND=noninteractive "${install[@]}" || die "apt-get could not install $* (see above)"
}

# --- venv -------------------------------------------------------------------------------------------------------------

# 3.14 is the newest that ansible-core 2.21 supports, and jpy (the Java bridge of ansible-rulebook) has wheels for it.
readonly minors=(14 13 12 11)

# Prints the first Python 3 of the minor versions "$2" ... that runs and has what "$1" imports. A name on PATH proves
# nothing: pyenv shims exist for versions that are not active and only print an error.
find_python() {
  local minor candidate
  for minor in "${@:2}"; do
    for candidate in "python3.$minor" /usr/bin/python3 python3 \
      "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3; do
      "$candidate" -c "import sys, $1; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null || continue
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    done
  done
  return 1
}

venv_key() {
  "$venv/bin/python" -V && cat requirements.txt requirements/*.txt
}

setup_venv() {
  local stamp=$venv/.complete python
  if [[ -e $stamp ]] && cmp -s "$stamp" <(venv_key 2>/dev/null); then
    return
  fi

  # Without a stamp the directory is missing or was left half made by an interrupt.
  if [[ ! -e $stamp ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    if ! python=$(find_python 'venv, ensurepip' "${minors[@]}"); then
      # Debian and Ubuntu ship Python without these two modules.
      apt_install python3-venv
      python=$(find_python 'venv, ensurepip' "${minors[@]}") ||
        die "no Python 3.11 to 3.14 with the venv module found" "install one (for example with pyenv), then try again"
    fi
    say "creating .venv with $("$python" -V) ..."
    "$python" -m venv --clear "$venv"
  fi

  say "installing Python packages into .venv (one to two minutes) ..."
  rm -f "$stamp"
  quietly "$venv/bin/python" -m pip install --upgrade --disable-pip-version-check -r requirements/development.txt ||
    die "pip could not install requirements/development.txt into .venv (see above)"
  mkdir -p "$venv/collections/ansible_collections/ironpost"
  ln -sfn "$PWD" "$venv/collections/ansible_collections/ironpost/container_guard"
  venv_key >"$stamp"
}

# --- Java -------------------------------------------------------------------------------------------------------------

# Prints the home of the Java command "$1" when that is version 17 or newer, which ansible-rulebook requires, and has
# the library that jpy loads.
java_home_of() {
  local settings home version
  settings=$("$1" -XshowSettings:properties -version 2>&1) || return 1
  home=$(sed -n 's/^ *java\.home = //p' <<<"$settings")
  version=$(sed -n 's/^ *java\.specification\.version = //p' <<<"$settings")
  # Java 8 calls itself 1.8.
  ((${version%%.*} >= 17)) && [[ -e $home/lib/server/libjvm.so ]] && printf '%s\n' "$home"
}

find_java_home() {
  local candidate
  for candidate in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} java /usr/lib/jvm/*/bin/java; do
    java_home_of "$candidate" 2>/dev/null && return
  done
  return 1
}

setup_java() {
  local home package
  [[ ! -e $venv/java/lib/server/libjvm.so ]] || return 0
  if ! home=$(find_java_home); then
    # The default is 17 or newer from Debian 12 on; Ubuntu 22.04 has 11 as its default and 17 beside it.
    package=default-jre-headless
    apt-cache depends default-jre-headless 2>/dev/null | grep -qE 'openjdk-(8|11)-' && package=openjdk-17-jre-headless
    apt_install "$package"
    home=$(find_java_home) || die "$package is installed but no Java 17 or newer answers" "set JAVA_HOME and try again"
  fi
  mkdir -p "$venv"
  ln -sfn "$home" "$venv/java"
}

# --- Docker Engine ----------------------------------------------------------------------------------------------------

# Asked through the SDK, as a docker client may be missing, and with it DOCKER_HOST is honoured.
engine_answers() {
  "$venv/bin/python" -c 'import docker; docker.from_env(timeout=5).ping()' 2>/dev/null
}

start_engine() {
  say "starting the Docker Engine ..."
  if [[ -d /run/systemd/system ]]; then
    as_root systemctl start docker || die "systemctl could not start docker" "see: sudo journalctl -u docker"
    return
  fi
  # The init script raises limits first, and gives up where that needs a capability the machine does not have
  # (CAP_SYS_RESOURCE). dockerd itself does well without.
  as_root service docker start >/dev/null 2>&1 9<&- && return
  as_root env PATH="$PATH:/usr/sbin:/sbin" sh -c "exec setsid --fork dockerd >>$docker_log 2>&1 </dev/null" 9<&-
}

setup_engine() {
  local deadline
  engine_answers && return
  [[ -z ${DOCKER_HOST:-} ]] || die "the Docker Engine at DOCKER_HOST=$DOCKER_HOST does not answer" \
    "start it, or unset DOCKER_HOST to use the engine of this machine"
  if [[ ! -S /var/run/docker.sock || -w /var/run/docker.sock ]]; then
    command -v dockerd >/dev/null || [[ -x /usr/sbin/dockerd ]] || apt_install docker.io
    can_be_root || die "the Docker Engine does not run and only root can start it; run:" "sudo $PWD/tools/setup.sh engine"
    start_engine
    deadline=$((SECONDS + 60))
    until engine_answers || [[ -S /var/run/docker.sock && ! -w /var/run/docker.sock ]]; do
      if ((SECONDS > deadline)); then
        as_root tail -n 20 "$docker_log" >&2 || true
        die "the Docker Engine did not answer within 60 seconds (end of $docker_log above)"
      fi
      sleep 0.5
    done
  fi
  [[ -w /var/run/docker.sock ]] || die "user $(id -un) may not use /var/run/docker.sock; run this and log in again:" \
    "sudo usermod -aG docker $(id -un)"
}

need_busybox() {
  dpkg-query -W busybox-static >/dev/null 2>&1 || apt_install busybox-static
}

setup_victim() {
  need_busybox
  "$venv/bin/python" tools/victim_image.py
}

# --- testbed ----------------------------------------------------------------------------------------------------------

# What makes and runs the virtual machine of the testbed.
setup_emulator() {
  command -v qemu-system-x86_64 >/dev/null || apt_install qemu-system-x86
  [[ -x /usr/sbin/mke2fs || -x /sbin/mke2fs ]] || apt_install e2fsprogs
}

# Hosts with other versions of the Docker Engine, for the integration tests. It says itself what it builds and starts.
setup_testbed() {
  need_busybox
  [[ -x /usr/sbin/debootstrap && -e /usr/share/keyrings/debian-archive-keyring.gpg ]] ||
    apt_install debootstrap debian-archive-keyring
  command -v ssh >/dev/null || apt_install openssh-client
  setup_emulator
  PYTHONPATH=$venv/collections "$venv/bin/python" -m ansible_collections.ironpost.container_guard.tests.testbed up
}

# --- PostgreSQL -------------------------------------------------------------------------------------------------------

# Through which the event streams of an EDA controller arrive. Only its programs are used: each test run has a server of
# its own.
setup_postgresql() {
  command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || apt_install postgresql
}

# --- Kafka ------------------------------------------------------------------------------------------------------------

# A broker, from which alerts are taken. Only its archives are put there: each test run has a broker of its own.
setup_kafka() {
  local kafka=$venv/kafka pom=tests/integration/kafka.pom.xml
  [[ ! -e $kafka/.complete ]] || ! cmp -s "$kafka/.complete" "$pom" || return 0
  command -v mvn >/dev/null || apt_install maven
  say "downloading Kafka to test with (44 MB, half a minute) ..."
  rm -rf "$kafka"
  quietly mvn --batch-mode --quiet --file "$pom" dependency:copy-dependencies "-DoutputDirectory=$kafka/lib" ||
    die "Maven could not put Kafka into .venv/kafka (see above)"
  cp "$pom" "$kafka/.complete"
}

# --- HAProxy ----------------------------------------------------------------------------------------------------------

# For tests/extended: the list of calls of docs/socket-proxy.md, as a proxy understands it.
setup_haproxy() {
  command -v haproxy >/dev/null || [[ -x /usr/sbin/haproxy ]] || apt_install haproxy
}

# --- another time -----------------------------------------------------------------------------------------------------

# A library that tells a process another time, for tests of clocks that are set.
setup_faketime() {
  [[ -n $(faketime_library) ]] || apt_install libfaketime
}

faketime_library() {
  find /usr/lib -name libfaketimeMT.so.1 -print -quit 2>/dev/null || true
}

# --- SDKs -------------------------------------------------------------------------------------------------------------

# Pythons with other versions of the docker SDK, for the integration tests: a few seconds each, and only where missing.
setup_sdks() {
  local name minor line
  while read -r name minor line; do
    [[ -z $name || $name == '#' ]] || setup_sdk "$name" "$minor" "$line"
  done <tests/integration/sdks.txt
}

setup_sdk() {
  local home=$venv/sdk/$1 python
  local stamp=$home/.complete
  # The paths that a virtual environment holds are those of the checkout that made it.
  if [[ -e $stamp ]] && cmp -s "$stamp" <(printf '%s %s %s\n' "$home" "$2" "$3") && "$home/bin/python" -c ''; then
    return
  fi
  if [[ $2 == any ]]; then
    python=$venv/bin/python
  elif ! python=$(find_python venv "$2"); then
    say "no Python 3.$2 here: what the docker SDK does on it ($1) is not tested"
    rm -rf "$home"
    return
  fi
  say "making .venv/sdk/$1 ..."
  rm -rf "$home"
  quietly "$python" -m venv --without-pip "$home" || die "Python 3.$2 could not make .venv/sdk/$1 (see above)"
  # shellcheck disable=SC2086 # several requirements
  [[ -z $3 ]] ||
    quietly "$venv/bin/python" -m pip --python "$home/bin/python" install --disable-pip-version-check $3 ||
    die "pip could not install $3 into .venv/sdk/$1 (see above)"
  printf '%s %s %s\n' "$home" "$2" "$3" >"$stamp"
}

# --- cores ------------------------------------------------------------------------------------------------------------

# Older releases of ansible-core, which treat what a host returns in other ways than the one in .venv, each with nothing
# but its own dependencies and what reading policies needs. 2.16 is the oldest that the collection supports, here with the
# oldest Python that it runs on; 3.12 is its newest, and 3.13 that of the others.
setup_cores() {
  local version core python pythons
  for version in 2.16 2.18 2.19; do
    core=$venv/core-$version
    "$core/bin/python" -c 'import ansible, jsonschema' 2>/dev/null && continue
    pythons=(13 12 11)
    [[ $version != 2.16 ]] || pythons=(10 11 12)
    python=$(find_python 'venv, ensurepip' "${pythons[@]}") || die "no Python for ansible-core $version with the venv module" \
      "install one of 3.${pythons[0]}, 3.${pythons[1]}, 3.${pythons[2]} (for example with pyenv), then try again"
    say "installing ansible-core $version to test with (about ten seconds) ..."
    "$python" -m venv --clear "$core"
    quietly "$core/bin/python" -m pip install --disable-pip-version-check "ansible-core==$version.*" jsonschema ||
      die "pip could not install ansible-core $version into $core (see above)"
  done
}

# --- peer -------------------------------------------------------------------------------------------------------------

# The collections of the PyPI package `ansible`, for the benchmark only. Kept apart from the virtual environment's own
# packages, where every ansible command would load them and a test could come to depend on one unnoticed.
setup_peer() {
  local stamp=$venv/peer/.complete
  [[ ! -e $stamp ]] || return 0
  say "installing the community collections to measure against (about a minute) ..."
  rm -rf "$venv/peer"
  quietly "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps --target "$venv/peer" ansible ||
    die "pip could not install ansible into .venv/peer (see above)"
  touch "$stamp"
}

# --- awx --------------------------------------------------------------------------------------------------------------

# The collection awx.awx, which the example that sets AWX up is tested with. The newest `ansible` has it no more.
setup_awx() {
  local awx=$venv/awx
  [[ ! -e $awx/.complete ]] || return 0
  say "installing the collection awx.awx to test with (about half a minute) ..."
  rm -rf "$awx"
  mkdir -p "$awx"
  quietly "$venv/bin/python" -m pip download --disable-pip-version-check --no-deps --dest "$awx" 'ansible==11.*' ||
    die "pip could not download ansible 11 into .venv/awx (see above)"
  quietly "$venv/bin/python" - "$awx" <<'PYTHON'
import pathlib
import sys
import zipfile

directory = pathlib.Path(sys.argv[1])
(wheel,) = directory.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(directory, [name for name in archive.namelist() if name.startswith("ansible_collections/awx/")])
wheel.unlink()
PYTHON
  touch "$awx/.complete"
}

# ----------------------------------------------------------------------------------------------------------------------

# One setup at a time: two makes that start together must not fill one .venv or start two engines.
exec 9<tools/setup.sh
flock 9

for step in "$@"; do
  # The other steps use its Python, or put their result into it.
  [[ $step == venv || -e $venv/.complete ]] || setup_venv
  case $step in
    venv | java | engine | victim | testbed | postgresql | kafka | haproxy | faketime | sdks | cores | peer | awx)
      "setup_$step"
      ;;
    *) die "unknown step: $step" "see: head -n 4 tools/setup.sh" ;;
  esac
done
