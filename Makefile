# Trilby's build: no configure step, everything made lands in build/.
# `make help` lists what a person runs; the rules for each folder are in its own Makefile.

BUILD := build
CC := gcc
LD := ld
DEBUG ?= 1

.DEFAULT_GOAL := all
.PHONY: all help run test test-full fuzz unit guests bench bench-counts clean
all: $(BUILD)/trilby $(BUILD)/trilby.gz ## build the hypervisor

include hypervisor/Makefile
include tests/unit/Makefile
include tests/sim/Makefile

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

run: ## start the emulated machine: domain 0 and two guests
	@system/packages
	@$(MAKE) -s all
	@system/run

test: ## all quick tests; ends with "N passed, N failed"
	@system/packages
	@$(MAKE) -s all
	@tests/run

test-full: ## the long tests, too
	@system/packages
	@$(MAKE) -s all
	@tests/run full

fuzz: ## fuzz targets on the host, a minute each
	@system/packages
	@tests/fuzz/run 60

guests: all ## the tiny PV kernels alone
	@tests/guests/run

bench: ## everything that docs/benchmarks.md has, and write it
	@system/packages
	@bench/report

bench-counts: ## instructions per operation, beside stock Xen's
	@system/packages
	@bench/counts

clean: ## remove what was built (downloads stay)
	rm -rf $(BUILD)/hypervisor $(BUILD)/trilby* $(BUILD)/unit $(BUILD)/guests
