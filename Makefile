# What a fresh Debian machine needs is installed by ./bootstrap; all else happens in .venv.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# The parts of the package lie in three folders; the checkers want to see one tree.
TREE := $(VENV)/tree
BUILT_FROM := pyproject.toml setup.py pynvme_user/_ring_build.py \
	$(filter-out %_cffi.c,$(wildcard $(addsuffix /_*.[ch],pynvme_user $(addprefix pynvme_user/,access testing workload))))

.PHONY: demo test test-unit test-guest guest-shell test-c lint site format bench mutants clean

demo: $(VENV)/built
	@$(BIN)/python examples/demo.py

# Everything on QEMU's NVMe and in guests, then the device tests once more on the software controller,
# in this process and over vfio-user; and on SPDK's target, if SPDK_TARGET is the socket of one (whose namespace is overwritten).
test: $(VENV)/test
	$(BIN)/python -m pytest tests
	$(BIN)/python -m pytest tests/device --device soft: -q -r fE
	$(BIN)/python -m pytest tests/device --device controller: -q -r fE
	$(if $(SPDK_TARGET),$(BIN)/python -m pytest tests/device --device vfio-user:$(SPDK_TARGET) -q -r fE)

test-unit: $(VENV)/test
	$(BIN)/python -m pytest tests/unit

# The device tests and the rest of tests/guest, over VFIO and UIO, in guests.
test-guest: $(VENV)/test
	$(BIN)/python -m pytest tests/guest

# A root shell in a guest with NVMe controllers; IOMMU=off for UIO.
guest-shell: $(VENV)/built
	$(BIN)/python -m pynvme_user.qemu.guest --shell $(if $(filter off,$(IOMMU)),--no-iommu)

# The C core alone: warnings as errors, under AddressSanitizer and UBSan, then under valgrind.
test-c:
	./bootstrap gcc valgrind
	tests/c/run

# Each mutation of the core has to make a test fail.
mutants: $(VENV)/test
	$(BIN)/python tests/mutants.py

lint: $(VENV)/lint $(TREE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(TREE) && ../bin/mypy --config-file ../../pyproject.toml -p pynvme_user
	cd $(TREE) && ../bin/lint-imports --config ../../pyproject.toml

# docs/ as pages in build/site; a link that leads nowhere is an error.
site: $(VENV)/lint
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/built
	-./bootstrap gcc valgrind
	$(BIN)/python benchmarks/run.py

$(VENV)/built: $(BUILT_FROM)
	./bootstrap python qemu
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/test: $(VENV)/built
	-./bootstrap guest bench nbd valgrind
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/lint: $(VENV)/built
	$(BIN)/python -m pip install --quiet --editable '.[lint]'
	touch $@

.PHONY: $(TREE)
$(TREE):
	rm -rf $@ && mkdir -p $@/pynvme_user
	ln -s $(CURDIR)/pynvme_user/* $@/pynvme_user/
	ln -s $(CURDIR)/cli $(CURDIR)/qemu $@/pynvme_user/

clean:
	rm -rf $(VENV) build *.egg-info pynvme_user/_ring_cffi.* \
		pynvme_user/testing/_controller_cffi.* .pytest_cache .mypy_cache \
		.ruff_cache .hypothesis
