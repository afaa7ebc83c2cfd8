#!/usr/bin/env bash
# Runs all of `ansible-test sanity`, without ignores, on what would be shipped: the built collection. With GUARD_CORE=2.16
# in the environment by that release of ansible-core, of those that tools/setup.sh cores installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/env.sh
core=$PWD/.venv${GUARD_CORE:+/core-$GUARD_CORE}
export PATH="$core/bin:$PATH"

parent=$(mktemp -d)
trap 'rm -rf "$parent"' EXIT
# ansible-test insists on a directory of this name.
copy=$parent/ansible_collections/ironpost/container_guard
mkdir -p "$copy"
ansible-galaxy collection build --output-path "$parent" >/dev/null
tar --extract --directory="$copy" --file "$parent"/*.tar.gz

# It keeps one virtual environment a test below HOME, and hides the environment from the pip that fills it: which index
# and which certificates to use must be said again in files there.
home=$PWD/.venv/ansible-test
mkdir -p "$home/.pip" "$home/.config/pip" "$home/.ansible/test/cache"
cp ~/.config/pip/pip.conf "$home/.pip/" 2>/dev/null || true
(printf '[global]\nquiet = 1\n' && env | sed -n 's/^PIP_//p') >"$home/.config/pip/pip.conf"

# It first downloads get-pip.py, which fails where only a package index can be reached. Python's own pip does as well.
pip_version=$(sed -n "s/^ *pip='\(.*\)',$/\1/p" "$core"/lib/python3.*/site-packages/ansible_test/_internal/python_requirements.py)
echo 'import subprocess, sys; subprocess.check_output([sys.executable, "-m", "ensurepip"])' \
  >"$home/.ansible/test/cache/get_pip_${pip_version//./_}.py"

cd "$copy"
# One Python: the others that ansible-test finds on PATH may be pyenv shims that do not run.
HOME=$home ansible-test sanity --python "$(python -c 'import sys; print("{}.{}".format(*sys.version_info))')" "$@"
