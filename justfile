# What a contributor runs; `.ci/run` calls the same recipes. `just` comes with the [test] extra: `.venv/bin/just check`.

# The tools of the environment in use, else those that lie beside this just.
environment := env("VIRTUAL_ENV", parent_directory(parent_directory(just_executable())))
export PATH := environment / "bin" + ":" + env("PATH")

_list:
    @just --list --unsorted

# lint, format, types
check:
    ruff check .
    ruff format --check .
    mypy

# the tests, or some of them; `just test --cov` measures the branches that they take
test *arguments:
    pytest {{ arguments }}

# the pages in headless Chromium (Debian: apt-get install chromium), which plain `pytest` leaves out
browser *arguments:
    pytest -m browser {{ arguments }}

# the tests against a vLLM server, in an environment of its own (VLLM_VENV keeps it)
vllm *arguments:
    scripts/test-vllm {{ arguments }}

# the tests of what the pages say
docs:
    pytest tests/test_docs*.py

# the site of docs/ in build/site, opened from disk: build/site/index.html; a broken link is an error
site:
    python recipes/docs_site.py
    zensical build --strict --clean
    python recipes/docs_site.py --finish

# the whole pipeline on the embedded model
demo *arguments:
    relope demo {{ arguments }}

# the first screen of a demo's report, as docs/report.png (needs Chromium): `just picture runs/demo`
picture folder:
    python recipes/report_picture.py {{ folder }}

# the pictures of the pages, as docs/pictures/*.svg
pictures:
    python recipes/pictures.py

# every benchmark, one after another, on a quiet machine; `just bench --quick` only shows that they run
bench *arguments:
    #!/usr/bin/env bash
    missed=()
    for script in benchmarks/bench_*.py; do
        echo "== $script"
        python "$script" {{ arguments }} || missed+=("$script")
    done
    [[ ${#missed[@]} -eq 0 ]] || { echo "a goal missed: ${missed[*]}" >&2; exit 1; }

# write relope/__init__.pyi from the specifications
stub:
    python recipes/face_stub.py

# write the tree of docs/architecture.md from the folders
map:
    python recipes/house.py

# a larger assault on a store, routers, scores and grades than the gate makes: `just attack 5000 2000`
attack mutations="3000" flips="2000" start="1000":
    RELOPE_ATTACK_MUTATIONS={{ mutations }} RELOPE_ATTACK_FLIPS={{ flips }} RELOPE_ATTACK_START={{ start }} pytest tests/attack
