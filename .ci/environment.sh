# Sourced by start-cluster and run-tests: makes .venv and installs Holdfast into it, once.
# A stamp of what was installed lets a second run skip pip, so it is quick and needs no network.

venv="${HOLDFAST_VENV:-$top/.venv}"

# A cluster is ten processes of Python and a test run starts thousands: where Python may not keep what it compiled, as many a
# container has it, each of them compiles the whole program anew (0.2 to 0.3 s of CPU apiece). git ignores __pycache__.
unset PYTHONDONTWRITEBYTECODE

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" > /dev/null 2>&1 \
      && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; then
      command -v "$candidate"
      return 0
    fi
  done
  echo "error: Holdfast needs Python 3.11 or newer; found $(python3 --version 2> /dev/null || echo 'no python3')." >&2
  echo "hint: install one, or name it: PYTHON=/path/to/python3.12 $0" >&2
  return 2
}

# Usage: prepare_environment EXTRAS, where EXTRAS is "" or e.g. "[tests]".
prepare_environment() {
  local extras="$1" stamp wanted python
  stamp="$venv/.holdfast${extras:+-tests}"
  wanted=$(cat "$top/setup.cfg" "$top/pyproject.toml" | cksum)
  if [ -x "$venv/bin/holdfast" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$wanted $top" ]; then
    return 0
  fi
  if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python) || return 2
    echo "making $venv with $("$python" --version)" >&2
    if ! "$python" -m venv "$venv"; then
      rm -rf "$venv"
      echo "error: $python cannot make a virtual environment; on Debian: apt install python3-venv" >&2
      return 2
    fi
  fi
  echo "installing Holdfast${extras:+ with what the tests need} into $venv" >&2
  if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 --editable "$top$extras" >&2; then
    echo "error: the installation failed; the lines above say why. It needs the network once." >&2
    return 2
  fi
  echo "$wanted $top" > "$stamp"
}
