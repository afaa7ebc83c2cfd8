# The environment of every recipe in the Makefile. By hand, in bash or zsh: . tools/env.sh
# shellcheck shell=bash
_guard_venv="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)/.venv"

export PATH="$_guard_venv/bin:$PATH"
# The symlink in there is what makes this checkout the collection ironpost.container_guard, for Ansible and for Python.
export ANSIBLE_COLLECTIONS_PATH="$_guard_venv/collections"
export PYTHONPATH="$_guard_venv/collections"
# Keeps ansible.cfg-less caches and temporary files of the controller out of ~/.ansible.
export ANSIBLE_HOME="$_guard_venv/ansible"
# Ansible refuses to start when the locale is not UTF-8, as on a minimal machine with LC_ALL=C.
export LC_ALL=C.UTF-8
# Put there by `tools/setup.sh java`. ansible-rulebook starts faster when it need not ask java where it lives.
if [ -e "$_guard_venv/java" ]; then
  export JAVA_HOME="$_guard_venv/java"
fi
unset _guard_venv
